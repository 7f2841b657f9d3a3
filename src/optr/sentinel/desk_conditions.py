"""What must be so on a desktop before and after a task or a kind of action, and what to do where it is not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from optr.connectors.desktop.actions import ACTIONS, ActionResult, DesktopAction
from optr.connectors.desktop.codec import from_json
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError
from optr.sentinel.decode import decode_settings
from optr.sentinel.desk_rules import WindowPattern
from optr.sentinel.rule import setting
from optr.spec.yaml_lines import Marked


class DeskCondition(ABC):
    """A named check of the desktop. A dataclass whose fields, made by `setting`, the configuration may set."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, view: DeskView, result: ActionResult | None) -> str | None:
        """What is not as it should be; None if all is well. `result` is that of the action, where one is over."""


@dataclass(frozen=True)
class _OfWindow(DeskCondition):
    wm_class: str = setting("*", "class or instance of the window")
    title: str = setting("*", "title of the window")

    @property
    def pattern(self) -> WindowPattern:
        """The windows that it is about."""
        return WindowPattern(self.wm_class, self.title)

    def __str__(self) -> str:
        return f"a window of class {self.wm_class!r} with the title {self.title!r}"


@dataclass(frozen=True)
class WindowThere(_OfWindow):
    """A window can be seen."""

    name: ClassVar[str] = "window"

    def check(self, view: DeskView, result: ActionResult | None) -> str | None:
        """Whether there is none."""
        return None if any(w.visible and self.pattern.fits(w) for w in view.windows) else f"there is not {self}"


@dataclass(frozen=True)
class WindowGone(_OfWindow):
    """A window cannot be seen."""

    name: ClassVar[str] = "no_window"

    def check(self, view: DeskView, result: ActionResult | None) -> str | None:
        """Whether there is one."""
        return f"there is {self}" if any(w.visible and self.pattern.fits(w) for w in view.windows) else None


@dataclass(frozen=True)
class WindowFocused(_OfWindow):
    """A window has the keyboard."""

    name: ClassVar[str] = "focused"

    def check(self, view: DeskView, result: ActionResult | None) -> str | None:
        """Whether another one has it, or none."""
        window = view.focused
        return None if window is not None and self.pattern.fits(window) else f"the keyboard is not with {self}"


@dataclass(frozen=True)
class Effect(DeskCondition):
    """An action had one of some effects; holds before any."""

    name: ClassVar[str] = "effect"
    of: tuple[str, ...] = setting(("confirmed", "unverifiable"), "effects that are well")

    def check(self, view: DeskView, result: ActionResult | None) -> str | None:
        """Whether it had another one."""
        if result is None or result.effect.value in self.of:
            return None
        return f"its effect is {result.effect.value}, expected {' or '.join(self.of)}"


CONDITIONS: dict[str, type[DeskCondition]] = {c.name: c for c in (WindowThere, WindowGone, WindowFocused, Effect)}
"""Every condition by its name."""


@dataclass(frozen=True)
class DeskDuty:
    """What one task or kind of action owes.

    Attributes:
        name: Of the task, or the kind of action.
        before: Must hold for it to begin.
        after: Must hold when it is over.
        recover: Actions that may lead out of where it does not.
        retries: How often these may be tried.
    """

    name: str
    before: tuple[DeskCondition, ...] = ()
    after: tuple[DeskCondition, ...] = ()
    recover: tuple[DesktopAction, ...] = ()
    retries: int = 1


def failing(conditions: tuple[DeskCondition, ...], view: DeskView, result: ActionResult | None = None) -> str:
    """What does not hold, in words; empty: everything does."""
    return "; ".join(f"{c.name}: {said}" for c in conditions if (said := c.check(view, result)) is not None)


def read_duty(name: str, node: Marked) -> DeskDuty:
    """A duty out of YAML.

    Raises:
        SpecError: If something in it is wrong; the message points at the line.
    """
    given = node.fields(("before", "after", "recover", "retries"))
    return DeskDuty(
        name,
        _each(given.get("before"), _condition),
        _each(given.get("after"), _condition),
        _each(given.get("recover"), _action),
        given["retries"].integer(low=0) if "retries" in given else 1,
    )


def read_duties(node: Marked, of_actions: bool) -> dict[str, DeskDuty]:
    """Duties by name; `of_actions`: names are kinds of actions.

    Raises:
        SpecError: If something in them is wrong.
    """
    out = {}
    for name, inner in node.items():
        if of_actions and name not in ACTIONS:
            inner.fail(f"no action {name!r}; there are: {', '.join(ACTIONS)}")
        out[name] = read_duty(name, inner)
    return out


def _each(node: Marked | None, read: Callable[[Marked], Any]) -> tuple[Any, ...]:
    return () if node is None else tuple(read(e) for e in node.elements())


def _condition(node: Marked) -> DeskCondition:
    entries = list(node.items())
    if len(entries) != 1 or entries[0][0] not in CONDITIONS:
        node.fail(f"expected one condition, one of: {', '.join(CONDITIONS)}")
    name, inner = entries[0]
    return CONDITIONS[name](**decode_settings(CONDITIONS[name], inner))


def _action(node: Marked) -> DesktopAction:
    try:
        return from_json(node.plain())
    except DesktopError as err:
        node.fail(str(err))
