"""Hands of a desktop that do what a guard has allowed, as it was judged, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.bridge import DesktopBridge, Helpers
from optr.connectors.desktop.browser import is_browser
from optr.connectors.desktop.footing import Footing
from optr.connectors.desktop.hand import StoppedError
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.selectors import AbsentError
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.sight import DeskSight
from optr.errors import DesktopError
from optr.sentinel.codes import Code
from optr.sentinel.desk_config import DeskConfig
from optr.sentinel.desk_guard import DeskVerdict
from optr.sentinel.desk_rules import ProgramsRule
from optr.sentinel.rule import Finding

if TYPE_CHECKING:
    from optr.connectors.desktop.tree import Tree
    from optr.connectors.desktop.tree_reader import Limits

Ask = Callable[[str, float], str]


class DeskHands:
    """Owns what acts on a desktop, and eyes to see that everything still is as it was judged.

    `carry_out` is called by one thread at a time; `bridge.cancel` by any, at any time.

    Attributes:
        bridge: Carries out; whoever calls it directly is refused.
        sight: What is seen of the same display.
    """

    def __init__(
        self,
        session: DesktopSession,
        config: DeskConfig,
        stopped: Callable[[], Finding | None],
        ask: Ask | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Take hold of a desktop.

        Args:
            session: The desktop.
            config: Which windows may be reached on it, and which programs started.
            stopped: Why nothing may be done now; asked right before each input.
            ask: Asks a person: the question, and the time [s].
            limits: How much of accessibility is read.

        Raises:
            DesktopError: If it cannot be seen or acted on.
        """
        self._session = session
        self._programs = config.rule(ProgramsRule)
        self._stopped = stopped
        self._verdict: DeskVerdict | None = None
        self._found: Mapping[a.Target, Element] = {}
        self._windows: Mapping[int, Window] = {}
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
        bus = session.environment.get("DBUS_SESSION_BUS_ADDRESS", "")
        try:
            self.sight = DeskSight(self.bridge.screen, self.bridge.windows, bus, session.home, config.may_reach, limits)
        except BaseException:
            self.bridge.close()
            raise

    def carry_out(
        self, verdict: DeskVerdict, found: Mapping[a.Target, Element], windows: Sequence[Window]
    ) -> a.ActionResult:
        """Carry out what was allowed, as long as it still is as it was judged.

        Args:
            verdict: Of the action.
            found: What each of its selectors meant when it was judged.
            windows: As they were then.
        """
        self._verdict, self._found, self._windows = verdict, found, {w.id: w for w in windows}
        try:
            return self.bridge.execute(verdict.action)
        except DesktopError as err:
            return a.ActionResult(False, text=str(err))
        finally:
            self._verdict, self._found, self._windows = None, {}, {}

    def close(self) -> None:
        """Release everything."""
        self.bridge.close()
        self.sight.close()

    # What the bridge asks for

    def _resolve(self, selector: a.Selector) -> a.Rect:
        """Where an element was when the guard looked; what is only waited for, where it is now."""
        known = self._found.get(selector)
        return known.rect if known is not None and known.rect is not None else self.sight.finder.resolve(selector)

    def _focused_rect(self) -> a.Rect | None:
        window, tree = self.bridge.windows.focused(), self.sight.tree
        element = tree.focused(window) if tree is not None and window is not None else None
        return None if element is None else element.rect

    def _invoke(self, selector: a.Selector, action: str) -> str:
        return self._known_tree().invoke(self._judged(selector), action)

    def _set_value(self, selector: a.Selector, value: str) -> Element:
        return self._known_tree().set_value(self._judged(selector), value)

    def _judged(self, selector: a.Selector) -> Element:
        if selector not in self._found:
            raise DesktopError(f"no guard has seen what {selector.text!r} means")
        return self._found[selector]

    def _start(self, name: str, arguments: Sequence[str]) -> Any:
        program = self._programs.named(name)
        if program is None:
            raise DesktopError(f"no program {name!r} in the settings of this desk")
        words = list(program.command)
        added = self.sight.browsers.options() if is_browser(words[0]) else []
        return self._session.launch([*words, *added, *arguments])

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
        return Footing(dict(verdict.pixels), verdict.keyboard, self._windows)

    def _known_tree(self) -> Tree:
        if self.sight.tree is None:
            raise DesktopError("this desktop has no accessibility: elements cannot be invoked or given a value")
        return self.sight.tree
