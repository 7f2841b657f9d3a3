"""A desktop that can be looked at and acted on, with a guard between: nothing is pressed that it has not allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.bridge import DesktopBridge, Helpers
from optr.connectors.desktop.browser import Browsers, is_browser
from optr.connectors.desktop.chords import where_keys_act
from optr.connectors.desktop.codec import check_action
from optr.connectors.desktop.finder import Finder
from optr.connectors.desktop.footing import Footing
from optr.connectors.desktop.hand import StoppedError
from optr.connectors.desktop.ocr import Ocr
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.selectors import AbsentError
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.view import DeskView, Pixel
from optr.errors import DesktopError, OptrError
from optr.sentinel.codes import Code, GuardState
from optr.sentinel.desk_guard import DeskGuard, DeskVerdict
from optr.sentinel.desk_rules import ProgramsRule, WindowsRule
from optr.sentinel.rule import Finding

if TYPE_CHECKING:
    from optr.connectors.desktop.tree import Tree

_LOOKS = 3
"""How often it is looked anew if a look took longer than what was seen stays fresh."""

_POINTED = (a.Click, a.Press, a.Release, a.Drag, a.Type)
_KEYED = (a.Type, a.Key, a.KeyDown, a.Hotkey)
_RELEASED = ("FAIL_SAFE", "CANCELLED")

Ask = Callable[[str, float], str]


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
        self.finder = Finder(self.bridge.windows.all, self.tree, self.browsers, _ocr(), grab, may_scroll=self._may_ask)

    def execute(self, action: Any) -> a.ActionResult:
        """Carry an action out if the guard allows it, and say what came of it.

        `refused` names the rule that did not let it through; the details of the result hold `class`, how far it
        reaches, and `request`, by which a person can `confirm` it, where one has to.
        """
        self._notice_corner()
        try:
            view = self.look(None if self._stopped() or not _is_sound(action) else action)
        except OptrError as err:
            return a.ActionResult(False, refused=str(Code.NO_SUCH_PLACE), text=str(err))
        with self._judging:
            verdict = self.guard.judge(action, view, time.monotonic_ns())
        if not verdict.allowed:
            return a.ActionResult(False, refused=verdict.code, text=verdict.text, details=_details(verdict))
        self._view, self._verdict = view, verdict
        try:
            result = self.bridge.execute(_by_id(action, view))
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
            found |= self._pointed_at(action, view)
            view = replace(
                view,
                found=found,
                under=self._under(action, view),
                focus=self._focus(action, view),
                reachable=self._reachable(action, view),
            )
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
                    if (element := self._element_at(view.pixel(target), view)) is not None:
                        found[target] = element
        return found

    def _under(self, action: Any, view: DeskView) -> Element | None:
        """The same, for an action that names no place and so acts where the pointer is."""
        where_it_is = isinstance(action, a.Click | a.Press | a.Release) and action.at is None
        return self._element_at(view.pointer, view) if where_it_is and view.pointer is not None else None

    def _element_at(self, pixel: Pixel, view: DeskView) -> Element | None:
        window = view.top(pixel)
        if self.tree is None or not self._may_ask(window):
            return None
        return self.tree.at(pixel, window, view.windows)

    def _focus(self, action: Any, view: DeskView) -> Element | None:
        if isinstance(action, a.Type) and action.into is not None:  # it will have the keyboard
            return None
        if not isinstance(action, _KEYED) or self.tree is None or not self._may_ask(view.focused):
            return None
        return self.tree.focused(view.focused, view.windows)

    def _reachable(self, action: Any, view: DeskView) -> tuple[Element, ...]:
        how = where_keys_act(_keys(action), self.guard.held.keys)
        into = action.into if isinstance(action, a.Type) else None
        window = view.focused
        if into is not None:
            with suppress(DesktopError):  # the guard says where it is not
                window = view.top(view.pixel(into))
        if not how or self.tree is None or not self._may_ask(window):
            return ()
        wanted = lambda _, name: self.guard.is_irreversible(name)  # noqa: E731
        found = self.tree.search("", wanted, window, view.windows).items
        return tuple(e for e in found if how == "any" or "default" in e.states)

    def _may_ask(self, window: Window | None) -> TypeGuard[Window]:
        """Whether a window is one that may be reached; others are refused, whatever is in them."""
        return window is not None and self.guard.config.rule(WindowsRule).about(window) is None

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

    def _as_judged(self) -> Footing:
        """Called before each input: that the guard has allowed it, and that nobody has stopped. Tells what it rests on.

        Raises:
            StoppedError: Otherwise.
        """
        verdict = self._verdict
        if verdict is None:
            raise StoppedError(str(Code.UNKNOWN_ACTION), "no guard has judged it")
        if reason := self._stopped():
            raise StoppedError(str(reason.code), reason.text)
        return Footing(dict(verdict.pixels), verdict.keyboard, {w.id: w for w in self._view.windows})

    # Afterwards

    def _over(self, verdict: DeskVerdict, result: a.ActionResult) -> a.ActionResult:
        details = _details(verdict)
        with self._judging:
            looks = self.guard.looks_after(verdict.action)
            view = self._seen(time.monotonic_ns(), {}) if looks else self._view
            said = self.guard.over(verdict, result, view)
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


def _keys(action: Any) -> Sequence[str]:
    """The keys that an action presses, one after the other."""
    if isinstance(action, a.Type):
        return tuple(action.text)
    if isinstance(action, a.Key | a.KeyDown):
        return (action.key,)
    return action.keys if isinstance(action, a.Hotkey) else ()


def _by_id(action: a.DesktopAction, view: DeskView) -> a.DesktopAction:
    """The action on the window that was judged, whatever it or another one is called by now."""
    return replace(action, window=str(view.named(action.window)[0].id)) if isinstance(action, a.Focus) else action


def _is_sound(action: Any) -> bool:
    with suppress(DesktopError):
        check_action(action)
        return True
    return False


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
