"""A desktop that can be looked at and acted on, with a guard between: nothing is pressed that it has not allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.bridge import DesktopBridge, Helpers
from optr.connectors.desktop.browser import Browsers, is_browser
from optr.connectors.desktop.finder import Finder
from optr.connectors.desktop.hand import StoppedError
from optr.connectors.desktop.ocr import Ocr
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.selectors import AbsentError
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError, OptrError
from optr.sentinel.codes import Code, GuardState
from optr.sentinel.desk_guard import DeskGuard, DeskVerdict
from optr.sentinel.desk_rules import ProgramsRule
from optr.sentinel.rule import Finding

if TYPE_CHECKING:
    from optr.connectors.desktop.tree import Tree

_LOOKS = 3
"""How often it is looked anew if a look took longer than what was seen stays fresh."""

_POINTED = (a.Click, a.Press, a.Release, a.Drag, a.Type)
_KEYED = (a.Type, a.Key, a.KeyDown, a.Hotkey)
_RELEASED = ("FAIL_SAFE", "CANCELLED")

Ask = Callable[[str, float], str]


class Watcher(Protocol):
    """Is told of every action of a desk, in the thread that carries it out. It raises nothing, and is quick.

    Times are of the steady clock [ns].
    """

    def proposed(self, action: Any, stamp_ns: int) -> None:
        """Somebody asks for an action, or for what is none."""

    def judged(self, verdict: DeskVerdict, view: DeskView, stamp_ns: int) -> None:
        """The guard has judged it, on this view; not told where what it names is not there."""

    def done(self, result: a.ActionResult, stamp_ns: int) -> None:
        """It is over, or was refused."""


class Desk:
    """Owns one desktop: what shows it, what acts on it, and the guard that every action passes.

    `execute` is called by one thread at a time; `stop` by any, at any time.

    Attributes:
        session: The desktop; it ends with the desk.
        guard: Judges every action.
        bridge: Carries out what the guard allows; whoever calls it directly goes past the guard.
        tree: Accessibility; None: the desktop has none.
        finder: Finds what selectors mean.
        browsers: Chromiums that were started here.
        watchers: Told of every action.
    """

    def __init__(self, session: DesktopSession, guard: DeskGuard, ask: Ask | None = None) -> None:
        """Take a desktop over.

        Args:
            session: The desktop.
            guard: Without one nothing is done.
            ask: Asks a person: the question, and the time [s].

        Raises:
            DesktopError: If it is no guard, or the desktop cannot be seen or acted on.
        """
        if not isinstance(guard, DeskGuard):
            raise DesktopError(f"a desk without a guard does nothing; got {type(guard).__name__}, expected a DeskGuard")
        self.session = session
        self.guard = guard
        self.watchers: list[Watcher] = []
        self._view = DeskView(a.Rect(0, 0, 1, 1))
        self._verdict: DeskVerdict | None = None
        self._judging = threading.Lock()
        helpers = Helpers(
            resolve=self._resolve,
            absent=AbsentError,
            focused=self._focused_rect,
            invoke=self._invoke,
            set_value=self._set_value,
            start=self._start,
            ask=ask,
            ready=self._as_judged,
        )
        self.bridge = DesktopBridge(session.display, helpers)
        self.tree = self._open_tree()
        self.browsers = Browsers(session.home, self.bridge.windows.all)
        grab = self.bridge.screen.grab
        self.finder = Finder(self.bridge.windows.all, self.tree, self.browsers, _ocr(), grab)

    def execute(self, action: Any) -> a.ActionResult:
        """Carry an action out if the guard allows it, and say what came of it.

        `refused` names the rule that did not let it through; the details of the result hold `class`, how far it
        reaches, and `request`, by which a person can `confirm` it, where one has to.
        """
        for watcher in self.watchers:
            watcher.proposed(action, time.monotonic_ns())
        result = self._executed(action)
        for watcher in self.watchers:
            watcher.done(result, time.monotonic_ns())
        return result

    def _executed(self, action: Any) -> a.ActionResult:
        self._notice_corner()
        try:
            view = self._seen(time.monotonic_ns(), {}) if self._stopped() else self.look(action)
        except OptrError as err:
            return a.ActionResult(False, refused=str(Code.NO_SUCH_PLACE), text=str(err))
        with self._judging:
            verdict = self.guard.judge(action, view, time.monotonic_ns())
        for watcher in self.watchers:
            watcher.judged(verdict, view, time.monotonic_ns())
        if not verdict.allowed:
            return a.ActionResult(False, refused=verdict.code, text=verdict.text, details=_details(verdict))
        self._view, self._verdict = view, verdict
        try:
            result = self.bridge.execute(action)
        except DesktopError as err:
            result = a.ActionResult(False, text=str(err))
        finally:
            self._verdict = None
        return self._over(verdict, result)

    def look(self, action: Any = None) -> DeskView:
        """The desktop as it is now, with what lies where an action acts.

        Raises:
            DesktopError: If what a selector of it means is not there, or not only once.
        """
        for _ in range(_LOOKS):
            stamp = time.monotonic_ns()
            found: dict[a.Target, Element] = {t: self.finder.reach(t) for t in _selectors(action)}
            view = self._seen(stamp, found)
            view = replace(view, found={**found, **self._pointed_at(action, view)}, focus=self._focus(action, view))
            if (time.monotonic_ns() - stamp) * 1e-9 < self.guard.config.freshness.oldest:
                break
        return view

    def confirm(self, request: str) -> None:
        """A person allows what was refused with this id, once, for a while."""
        with self._judging:
            self.guard.confirm(request, time.monotonic_ns())

    def stop(self, why: str = "somebody stopped it") -> None:
        """Stop at once, release everything, and refuse whatever comes until `rearm`."""
        self.guard.stop(why)
        self.bridge.cancel()
        self.guard.let_go()

    def rearm(self) -> None:
        """Go on after a stop.

        Raises:
            OptrError: If nothing is stopped, or the pointer is still in a corner of the screen.
        """
        if self.bridge.stopped:
            self.bridge.rearm()
        with self._judging:
            self.guard.rearm()

    def close(self) -> None:
        """Release everything, and end the desktop and all that runs on it."""
        for part in ("bridge", "browsers", "tree", "session"):
            if getattr(self, part, None) is not None:
                getattr(self, part).close()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the guard is shown

    def _seen(self, stamp_ns: int, found: dict[a.Target, Element]) -> DeskView:
        screen = self.bridge.screen
        return DeskView(
            screen.rect,
            self.bridge.windows.all(),
            screen.monitors(),
            self.bridge.hand.position(),
            found=found,
            stamp_ns=stamp_ns,
        )

    def _pointed_at(self, action: Any, view: DeskView) -> dict[a.Target, Element]:
        """What is at the places that an action names by numbers: a button that deletes is one there, too."""
        found: dict[a.Target, Element] = {}
        for target in _targets(action) if isinstance(action, _POINTED) else ():
            if isinstance(target, a.Point):
                with suppress(DesktopError):  # the guard says where it is not
                    pixel = view.pixel(target)
                    window = view.top(pixel)
                    element = self.tree.at(pixel, window) if self.tree and window else None
                    if element is not None:
                        found[target] = element
        return found

    def _focus(self, action: Any, view: DeskView) -> Element | None:
        if isinstance(action, a.Type) and action.into is not None:  # it will have the keyboard
            return None
        if not isinstance(action, _KEYED) or self.tree is None or view.focused is None:
            return None
        return self.tree.focused(view.focused)

    # What the bridge asks for

    def _resolve(self, selector: a.Selector) -> a.Rect:
        """Where an element was when the guard looked; what is only waited for, where it is now."""
        known = self._view.found.get(selector) if self._verdict is not None else None
        return known.rect if known is not None and known.rect is not None else self.finder.resolve(selector)

    def _focused_rect(self) -> a.Rect | None:
        window = self.bridge.windows.focused()
        element = self.tree.focused(window) if self.tree is not None and window is not None else None
        return None if element is None else element.rect

    def _invoke(self, selector: a.Selector, action: str) -> str:
        return self._known_tree().invoke(self._view.found[selector], action)

    def _set_value(self, selector: a.Selector, value: str) -> Element:
        return self._known_tree().set_value(self._view.found[selector], value)

    def _start(self, name: str, arguments: Sequence[str]) -> Any:
        program = self.guard.config.rule(ProgramsRule).named(name)
        if program is None:
            raise DesktopError(f"no program {name!r} in the settings of this desk")
        words = list(program.command)
        added = self.browsers.options() if is_browser(words[0]) else []
        return self.session.launch([*words, *added, *arguments])

    def _as_judged(self) -> None:
        """Called right before each input: that nobody has stopped, and that the guard has judged what is there now.

        Raises:
            StoppedError: Otherwise.
        """
        verdict = self._verdict
        if verdict is None:
            raise StoppedError(str(Code.UNKNOWN_ACTION), "no guard has judged it")
        if reason := self._stopped():
            raise StoppedError(str(reason.code), reason.text)
        if said := verdict.outdated(self._seen(time.monotonic_ns(), {})):
            raise StoppedError(str(Code.OBSERVATION_STALE), said)

    # Afterwards

    def _over(self, verdict: DeskVerdict, result: a.ActionResult) -> a.ActionResult:
        details = _details(verdict)
        with self._judging:
            said = self.guard.over(verdict, result, self._seen(time.monotonic_ns(), {}))
            if result.refused in _RELEASED:
                self.guard.let_go()
        self._notice_corner()
        if said:
            details["afterwards"] = said
        text = "; ".join(t for t in (result.text, said) if t)
        return replace(result, text=text, details=MappingProxyType({**result.details, **details}))

    def _notice_corner(self) -> None:
        """A person who puts the pointer into a corner stops the guard too, also between two actions."""
        if self.bridge.stopped and self._stopped() is None:
            with self._judging:
                self.guard.let_go()
                self.guard.stop("the pointer was put into a corner of the screen")

    def _stopped(self) -> Finding | None:
        return self.guard.reason if self.guard.state is GuardState.STOPPED else None

    def _open_tree(self) -> Tree | None:
        from optr.connectors.desktop.tree import Tree

        bus = self.session.environment.get("DBUS_SESSION_BUS_ADDRESS", "")
        with suppress(DesktopError):
            return Tree(bus, self.bridge.windows.all) if bus else None
        return None

    def _known_tree(self) -> Tree:
        if self.tree is None:
            raise DesktopError("this desktop has no accessibility: elements cannot be invoked or given a value")
        return self.tree


def _ocr() -> Ocr | None:
    with suppress(DesktopError):  # no tesseract: only what is looked for by its letters is not found
        return Ocr()
    return None


def _targets(action: Any) -> tuple[a.Target, ...]:
    """Every place that an action names."""
    values = (getattr(action, name, None) for name in ("to", "at", "into", "element"))
    path = getattr(action, "path", ())
    return tuple(
        v for v in (*values, *(path if isinstance(path, tuple) else ())) if isinstance(v, a.Point | a.Selector)
    )


def _selectors(action: Any) -> tuple[a.Selector, ...]:
    return tuple(t for t in _targets(action) if isinstance(t, a.Selector))


def _details(verdict: DeskVerdict) -> dict[str, Any]:
    made = {"class": verdict.reach.value if verdict.reach else "", "request": verdict.request}
    return {name: value for name, value in made.items() if value}


def window_row(window: Window) -> dict[str, Any]:
    """A window as plain data."""
    rect = window.rect
    return {
        "id": window.id,
        "title": window.title,
        "class": window.wm_class[0],
        "pid": window.pid,
        "place": [rect.x, rect.y, rect.width, rect.height],
        "focused": window.focused,
        "visible": window.visible,
    }


def element_row(element: Element) -> dict[str, Any]:
    """An element as plain data."""
    rect = element.rect
    return {
        "role": element.role,
        "name": element.name,
        "value": element.value,
        "place": [rect.x, rect.y, rect.width, rect.height] if rect else None,
        "states": list(element.states),
        "window": element.window,
    }
