"""The operator of the mission: one object that acts on desktops and robots by words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from optr.errors import ActionError, UnknownNameError
from optr.facade.connector import Connector, check_arguments

_T = TypeVar("_T")

_AGAIN_S = 0.05
"""How often a connector that is cancelled is told so [s]."""


class Operator:
    """Acts through connectors, each in a thread of its own: several act at once, each does one thing after the other.

    A connector comes up when it is first used. Not to be confused with `optr.operators.Operator`, the contract of those
    who decide: this one is told what to do.

        async with Operator({"desktop": DesktopConnector(desk="demo")}) as op:
            await op.execute_action("click", selector="#username")
    """

    def __init__(self, connectors: Mapping[str, Connector]) -> None:
        """Take connectors over, by name.

        Raises:
            ActionError: If there are none, or one is no connector.
        """
        if not connectors:
            raise ActionError("an operator needs a connector at least, by name")
        for name, connector in connectors.items():
            if not isinstance(connector, Connector):
                raise ActionError(f"connector {name!r} is a {type(connector).__name__}, expected a Connector")
        self._seats = {name: _Seat(connector) for name, connector in connectors.items()}

    @property
    def verbs(self) -> Mapping[str, tuple[str, ...]]:
        """What can be done, by connector."""
        return {name: tuple(seat.connector.verbs) for name, seat in self._seats.items()}

    async def execute_action(self, verb: str, *, on: str = "", **arguments: Any) -> Any:
        """Do something, and answer what came of it.

        Cancelled, it ends what is being done and lets everything go before it returns.

        Args:
            verb: What; one of `verbs`.
            on: Name of the connector; empty: the one that knows the verb.
            arguments: Of the verb.

        Raises:
            UnknownNameError: If no connector knows the verb; the message lists what there is.
            ActionError: If several know it, or the arguments make no action; nothing is done then.
            NotDoneError: If it was refused or could not be carried out whole: `code` names the rule.
        """
        seat = self._seat(on) if on else self._knowing(verb)
        known = seat.connector.verbs
        if verb not in known:
            raise UnknownNameError(f"action of {on}", verb, known)
        check_arguments(verb, arguments, known[verb])
        return await seat.do(lambda: seat.connector.execute(verb, arguments))

    async def observe(self, on: str, *keys: str) -> Mapping[str, Any]:
        """What is seen through a connector now: these keys, or everything.

        Raises:
            UnknownNameError: If there is no such connector.
            OptrError: If there is no such key, or it cannot be seen.
        """
        seat = self._seat(on)
        return await seat.do(lambda: seat.connector.observe(*keys))

    async def close(self) -> None:
        """Let go of everything."""
        await asyncio.gather(*(seat.close() for seat in self._seats.values()))

    async def __aenter__(self) -> Operator:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _seat(self, name: str) -> _Seat:
        if name not in self._seats:
            raise UnknownNameError("connector", name, self._seats)
        return self._seats[name]

    def _knowing(self, verb: str) -> _Seat:
        found = [name for name, verbs in self.verbs.items() if verb in verbs]
        if not found:
            raise UnknownNameError("action", verb, {v for verbs in self.verbs.values() for v in verbs})
        if len(found) > 1:
            raise ActionError(f"{verb} can be done on {' and '.join(found)}; say which by on=")
        return self._seats[found[0]]


class _Seat:
    """A connector, and the one thread that calls it."""

    def __init__(self, connector: Connector) -> None:
        self.connector = connector
        self._thread = ThreadPoolExecutor(1, "connector")
        self._open = False

    async def do(self, job: Callable[[], _T]) -> _T:
        """Have something done by the thread; if that is cancelled, the connector is."""
        submitted = self._thread.submit(self._opened, job)
        doing = asyncio.wrap_future(submitted)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            submitted.cancel()
            while not doing.done():
                self.connector.cancel()
                await asyncio.wait([doing], timeout=_AGAIN_S)  # again: it may have looked at that just before
            raise

    async def close(self) -> None:
        """Close the connector, and end its thread."""
        if self._open:
            await asyncio.get_running_loop().run_in_executor(self._thread, self.connector.close)
            self._open = False
        self._thread.shutdown(wait=False)

    def _opened(self, job: Callable[[], _T]) -> _T:
        if not self._open:
            self.connector.open()
            self._open = True
        return job()
