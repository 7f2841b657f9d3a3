"""A desktop for the operator of the mission: through its desk, and so under its guard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import from_json
from optr.errors import ActionError, DesktopError, NotDoneError
from optr.facade.connector import Connector
from optr.operators.desk.contract import KEYS
from optr.operators.desk.host import observe

if TYPE_CHECKING:
    from optr.connectors.desktop.desk import Desk

_PLACES = ("to", "at", "into", "element")
_OF_PLACE = ("selector", "within", "x", "y", "frame")


class DesktopConnector(Connector):
    """A desktop that is there, or one of its own in memory. Its verbs are the kinds of actions of a desktop.

    A place is `selector=` (`#username`, `role=button[name="Save"]`, `text=Login`; and `within=`, a window), or `x=` and
    `y=`, 0 to 1 (and `frame=`). What a selector means is waited for. What comes of an action is an `ActionResult`.

    Attributes:
        desk: The desk, as soon as it is up.
    """

    def __init__(
        self,
        display: str | None = None,
        desk: str = "",
        size: tuple[int, int] = (1280, 800),
        patience_s: float = 10.0,
        ask: Callable[[str, float], str] | None = None,
    ) -> None:
        """Nothing comes up yet.

        Args:
            display: X display, as `:1`; None: a desktop of its own in memory.
            desk: What its guard allows: a file, or a name in config/desks; empty: what ships, which starts no programs.
            size: Of a desktop of its own [px].
            patience_s: How long it is waited for what a selector means [s].
            ask: Asks a person.
        """
        self.desk: Desk | None = None
        self._display, self._settings, self._size, self._ask = display, desk, size, ask
        self._patience_s = patience_s
        self._cancelled = threading.Event()

    @property
    def verbs(self) -> Mapping[str, Sequence[str]]:
        return {kind: _arguments(action) for kind, action in a.ACTIONS.items()}

    def open(self) -> None:
        from optr.connectors.desktop.opening import open_desk

        self.desk = open_desk(self._display, self._settings, None if self._display else self._size, self._ask)

    def execute(self, verb: str, arguments: Mapping[str, Any]) -> a.ActionResult:
        desk = self._up()
        self._cancelled.clear()
        action = action_of(verb, arguments)
        for selector in _selectors(action):
            self._wait_for(desk, selector)
        if self._cancelled.is_set():
            raise NotDoneError(f"{verb}: it was cancelled", "CANCELLED")
        result = desk.execute(action)
        if not result.executed:
            raise NotDoneError(f"{verb}: {result.text}", result.refused, result)
        return result

    def observe(self, *keys: str) -> Mapping[str, Any]:
        return observe(self._up(), keys or KEYS)[0]

    def cancel(self) -> None:
        self._cancelled.set()
        if self.desk is not None:
            self.desk.bridge.cancel()

    def close(self) -> None:
        if self.desk is not None:
            self.desk.close()
            self.desk = None

    def _up(self) -> Desk:
        if self.desk is None:
            raise DesktopError("the desktop is not up")
        return self.desk

    def _wait_for(self, desk: Desk, selector: a.Selector) -> None:
        """Until something fits; if nothing comes, the action itself says what there is instead."""
        from optr.connectors.desktop.selectors import AbsentError

        try:
            desk.finder.reach(selector)
        except AbsentError:
            desk.execute(a.Wait("element", selector.text, self._patience_s))
        except DesktopError:  # several fit, or it is none: said by the action
            return


def action_of(verb: str, arguments: Mapping[str, Any]) -> a.DesktopAction:
    """The action of a desktop for a verb and its arguments.

    Raises:
        ActionError: If they make none.
    """
    kind = a.ACTIONS[verb]
    field = _place_of(kind)
    plain = {name: value for name, value in arguments.items() if name not in _OF_PLACE or field is None}
    place = {name: value for name, value in arguments.items() if name not in plain}
    if field is not None and place:
        plain[field] = place
    try:
        return from_json({"kind": verb, **{k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}})
    except DesktopError as err:
        raise ActionError(f"{err}; {verb} takes: {', '.join(_arguments(kind)) or 'nothing'}") from err


def _arguments(kind: type[Any]) -> tuple[str, ...]:
    field = _place_of(kind)
    others = tuple(f.name for f in fields(kind) if f.name != field)
    return others if field is None else (*_OF_PLACE, *others)


def _place_of(kind: type[Any]) -> str | None:
    return next((f.name for f in fields(kind) if f.name in _PLACES), None)


def _selectors(action: Any) -> tuple[a.Selector, ...]:
    places = (getattr(action, name, None) for name in _PLACES)
    return tuple(p for p in places if isinstance(p, a.Selector))
