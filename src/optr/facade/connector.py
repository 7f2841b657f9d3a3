"""What stands between the operator of the mission and a desktop or a robot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optr.errors import ActionError


class Connector(ABC):
    """Something that verbs are carried out on. All but `cancel` is called by one thread."""

    @property
    @abstractmethod
    def verbs(self) -> Mapping[str, Sequence[str]]:
        """What it can be told to do, and the arguments of each."""

    @abstractmethod
    def open(self) -> None:
        """Bring it up; once.

        Raises:
            OptrError: If it does not come up.
        """

    @abstractmethod
    def execute(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Carry out one of `verbs`, with arguments that it has, and answer what came of it.

        Raises:
            ActionError: If the arguments make no action; nothing is done then.
            NotDoneError: If it was refused, or could not be carried out whole.
        """

    @abstractmethod
    def observe(self, *keys: str) -> Mapping[str, Any]:
        """What is seen now: these, or everything."""

    @abstractmethod
    def cancel(self) -> None:
        """End what is being carried out, and let everything go; from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; closing twice does nothing."""


def check_arguments(verb: str, given: Iterable[str], known: Sequence[str]) -> None:
    """See that a verb has these arguments.

    Raises:
        ActionError: If it has not; the message lists those that it has.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ActionError(f"{verb} has no argument {', '.join(unknown)}; it has: {', '.join(known) or 'none'}")
