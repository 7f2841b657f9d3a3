"""An operator that has its actions written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from optr.connectors.desktop.actions import DesktopAction, Done, Fail
from optr.connectors.desktop.codec import from_json
from optr.errors import DesktopError, OperatorError, SpecError
from optr.operators.desk.contract import DeskOperator
from optr.spec import Source
from optr.spec.yaml_lines import read_marked


class Script(DeskOperator):
    """Does a list of actions, one after the other, and says Done; Fail, as soon as one is not carried out."""

    category = "scripted"
    source = Source.SCRIPT
    observation_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, actions: Sequence[Mapping[str, Any]] = (), file: str = "", id: str = "", name: str = "") -> None:
        """Read the actions.

        Args:
            actions: As objects of JSON; see `optr.connectors.desktop.codec`.
            file: JSON or YAML that holds such a list, in place of `actions`.
            id: As in `Decider`.
            name: As in `Decider`.

        Raises:
            OperatorError: If there are none, or one is no action; nothing is done then.
        """
        super().__init__(id, name)
        if bool(actions) == bool(file):
            raise OperatorError("a script needs either the option actions, a list, or file, which holds one")
        self._actions = tuple(_read(i, one) for i, one in enumerate(_listed(file) if file else actions))
        self._next = 0

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._next = 0

    def select_action(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> DesktopAction | None:
        last = info.get("last_result")
        if self._next and last is not None and not last.executed:
            done = self._actions[self._next - 1]
            return Fail(f"action {self._next}, {done.kind}, was not carried out: {last.refused} {last.text}"[:1000])
        self._next += 1
        return self._actions[self._next - 1] if self._next <= len(self._actions) else Done()


def _listed(file: str) -> Sequence[Any]:
    try:
        found = read_marked(Path(file).expanduser()).plain()
    except (SpecError, ValueError) as err:
        raise OperatorError(f"cannot read the script {err}") from err
    if not isinstance(found, list) or not found:
        raise OperatorError(f"{file} holds no list of actions")
    return found


def _read(number: int, one: Any) -> DesktopAction:
    try:
        return from_json(one)
    except DesktopError as err:
        raise OperatorError(f"action {number + 1} of the script: {err}") from err
