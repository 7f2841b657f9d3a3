"""A desktop that can be looked at and acted on, with a guard between: nothing is pressed that it has not allowed."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import check_action
from optr.connectors.desktop.desk_hands import Ask, DeskHands
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.stop_keys import StopKeys
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError, OptrError
from optr.sentinel.codes import Code, GuardState
from optr.sentinel.desk_guard import DeskGuard, DeskVerdict
from optr.sentinel.rule import Finding

_RELEASED = ("FAIL_SAFE", "CANCELLED")


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
        hands: Carry out what the guard allows.
        sight: What is seen.
        bridge: Of the hands; whoever calls it directly is refused.
        tree: Accessibility; None: the desktop has none.
        finder: Finds what selectors mean.
        browsers: Chromiums that were started here.
        watchers: Told of every action.
        recovering: Whether what is done now leads out of where something that must hold does not.
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
        self.recovering = False
        self._judging = threading.Lock()
        self.hands = DeskHands(session, guard.config, self._stopped, ask)
        self.bridge, self.sight = self.hands.bridge, self.hands.sight
        self.tree, self.browsers, self.finder = self.sight.tree, self.sight.browsers, self.sight.finder
        try:
            self._stop_keys = StopKeys(session.display, guard.config.stop_chord, self.stop)
        except BaseException:
            self.hands.close()
            raise

    def execute(self, action: Any) -> a.ActionResult:
        """Carry an action out if the guard allows it, and say what came of it.

        `refused` names the rule that did not let it through; the details of the result hold `class`, how far it
        reaches, and `request`, by which a person can `confirm` it, where one has to; `afterwards`, what had to hold
        after it and did not, and whether that was `recovered`.
        """
        result = self._watched(action)
        if "afterwards" not in result.details:
            return result
        with suppress(OptrError):  # the display is gone: the next action says so
            return replace(result, details={**result.details, "recovered": not self._recover()})
        return result

    def begin_task(self, name: str) -> str:
        """A task begins; where what must hold before it does not, what the settings name to mend it is tried.

        Returns:
            What still does not hold; empty: everything does.

        Raises:
            DesktopError: If the desktop cannot be seen.
        """
        view = self.look()
        with self._judging:
            said = self.guard.begin_task(name, view, time.monotonic_ns())
        return said and self._recover()

    def end_task(self) -> str:
        """The task is over; as `begin_task`, about what must hold after it.

        Raises:
            DesktopError: If the desktop cannot be seen.
        """
        view = self.look()
        with self._judging:
            said = self.guard.end_task(view)
        return said and self._recover()

    def _recover(self) -> str:
        """Try what may lead out of where something does not hold; what still does not."""
        self.recovering = True
        try:
            while said := self._still():
                action = self.guard.take_recovery()
                if action is None:
                    return said
                self._watched(action)
            return ""
        finally:
            self.recovering = False

    def _still(self) -> str:
        view = self.look()
        with self._judging:
            return self.guard.still(view)

    def _watched(self, action: Any) -> a.ActionResult:
        for watcher in self.watchers:
            watcher.proposed(action, time.monotonic_ns())
        result = self._executed(action)
        for watcher in self.watchers:
            watcher.done(result, time.monotonic_ns())
        return result

    def _executed(self, action: Any) -> a.ActionResult:
        self._notice_corner()
        try:
            view = self.look(None if self._stopped() or not _is_sound(action) else action)
        except OptrError as err:
            return a.ActionResult(False, refused=str(Code.NO_SUCH_PLACE), text=str(err))
        with self._judging:
            verdict = self.guard.judge(action, view, time.monotonic_ns(), self.recovering)
        for watcher in self.watchers:
            watcher.judged(verdict, view, time.monotonic_ns())
        if not verdict.allowed:
            return a.ActionResult(False, refused=verdict.code, text=verdict.text, details=_details(verdict))
        return self._over(verdict, self.hands.carry_out(_by_id(verdict, view), view.found, view.windows), view)

    def look(self, action: Any = None) -> DeskView:
        """The desktop as it is now, with what lies where an action acts.

        Raises:
            DesktopError: If what a selector of it means is not there, or not only once.
        """
        return self.sight.look(action, self.guard)

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
        """Go on after a stop; or, where nothing is stopped, although something that must hold does not.

        Raises:
            OptrError: If neither is so, or the pointer is still in a corner of the screen.
        """
        if self.bridge.stopped:
            self.bridge.rearm()
        with self._judging:
            self.guard.rearm()

    def close(self) -> None:
        """Release everything, and end the desktop and all that runs on it."""
        for part in ("_stop_keys", "hands", "session"):
            if getattr(self, part, None) is not None:
                getattr(self, part).close()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Afterwards

    def _over(self, verdict: DeskVerdict, result: a.ActionResult, view: DeskView) -> a.ActionResult:
        details = _details(verdict)
        with self._judging:
            now = self.sight.seen() if self.guard.looks_after(verdict.action) else view
            said = self.guard.over(verdict, result, now)
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


def _by_id(verdict: DeskVerdict, view: DeskView) -> DeskVerdict:
    """The same for the window that was judged, whatever it or another one is called by now."""
    action = verdict.action
    if not isinstance(action, a.Focus):
        return verdict
    return replace(verdict, action=replace(action, window=str(view.named(action.window)[0].id)))


def _is_sound(action: Any) -> bool:
    with suppress(DesktopError):
        check_action(action)
        return True
    return False


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
