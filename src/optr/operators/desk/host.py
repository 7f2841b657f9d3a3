"""Runs one operator on one desktop: every action passes a guard, every result is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from optr.connectors.desktop.actions import ActionResult, DesktopAction, Done, Fail
from optr.errors import OperatorError
from optr.operators.decision import failure_of, failure_source
from optr.operators.desk.contract import ELEMENTS, KEYS, PICTURE, POINTER, WINDOWS, DeskOperator
from optr.operators.desk.decision import decide
from optr.sentinel.codes import GuardState
from optr.spec import Source

if TYPE_CHECKING:
    from optr.connectors.desktop.desk import Desk

MOST_FAILURES = 3
"""Decisions that may fail one after the other."""

_ASKED_AGAIN_S = 0.25
"""How long it takes at most until who has abstained is asked again [s]; at once if something has been drawn."""


class DeskEnding(str, Enum):
    """How it ended. The value is what travels in files."""

    DONE = "done"
    """The operator says that the task is done."""

    FAIL = "fail"
    """The operator says that it cannot be done."""

    STEPS = "steps"
    """So many actions were allowed."""

    ABSTAINED = "abstained"
    """It has not decided on anything for too long."""

    FAILED = "failed"
    """It failed to decide, several times in a row."""

    STOPPED = "stopped"
    """Somebody has stopped the desktop."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class DeskRow:
    """One decision.

    Attributes:
        step: Its number, from 0.
        source: What kind of decision it was; TIMEOUT, INVALID or FALLBACK where there was none.
        action: What was decided; None: it failed.
        result: What came of it; None: it failed.
        text: Why it failed; empty: it did not.
        decide_s: How long it took to decide [s].
    """

    step: int
    source: Source
    action: DesktopAction | None
    result: ActionResult | None
    text: str = ""
    decide_s: float = 0.0


@dataclass(frozen=True)
class DeskEpisode:
    """A task as it went.

    Attributes:
        rows: Decisions, in order; abstentions are none.
        ended: How.
        text: What was answered, why it failed, or what must hold after the task and does not.
    """

    rows: tuple[DeskRow, ...]
    ended: DeskEnding
    text: str = ""


class Seat(Protocol):
    """A desktop as an operator has it: what is seen, and who carries out what it decides, under a guard."""

    def begin(self, task: str) -> None:
        """A task begins."""

    def observe(self, keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is seen now, as far as it is asked for; and `stamp` and `size` of what an operator is told."""

    def execute(self, action: DesktopAction, source: Source) -> ActionResult:
        """Have an action carried out, and wait for what comes of it."""

    def missed(self, source: Source) -> None:
        """No action was decided on, for this reason."""

    def wait(self, since_s: float) -> None:
        """Wait a moment, until something has changed since [s of the steady clock]."""

    @property
    def stopped(self) -> str:
        """Why nothing is done any more; empty: it is."""

    def end(self) -> str:
        """The task is over; answers what must hold now and does not."""


def observe(desk: Desk, keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is seen of a desktop now, as far as it is asked for; and `stamp` and `size` of what an operator is told.

    Raises:
        OperatorError: If something is asked for that nobody sees.
        DesktopError: If it cannot be seen.
    """
    check_keys(keys)
    screen = desk.bridge.screen.rect
    about = {"stamp": time.monotonic(), "size": (screen.width, screen.height)}
    look: Mapping[str, Callable[[], Any]] = {
        PICTURE: lambda: desk.bridge.screen.grab().pixels,
        WINDOWS: desk.bridge.windows.all,
        ELEMENTS: lambda: desk.tree.read().items if desk.tree is not None else (),
        POINTER: desk.bridge.hand.position,
    }
    return {key: look[key]() for key in keys}, about


def check_keys(keys: Sequence[str]) -> None:
    """See that everything that is asked for can be seen.

    Raises:
        OperatorError: If not; the message lists what can.
    """
    unknown = [k for k in keys if k not in KEYS]
    if unknown:
        raise OperatorError(f"nothing {', '.join(unknown)} can be seen of a desktop; there are: {', '.join(KEYS)}")


class DeskSeat:
    """The seat at a desk in this process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def begin(self, task: str) -> None:
        """The guard's budgets begin anew, and it looks at conditions of a task of that name."""
        self._desk.begin_task(task)

    def observe(self, keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `observe`."""
        return observe(self._desk, keys)

    def execute(self, action: DesktopAction, source: Source) -> ActionResult:
        """Through the desk, and so through its guard."""
        return self._desk.execute(action)

    def missed(self, source: Source) -> None:
        """Nobody has to be told."""

    def wait(self, since_s: float) -> None:
        """Until something is drawn."""
        self._desk.bridge.screen.damage.wait(bool, round(since_s * 1e9), _ASKED_AGAIN_S)

    @property
    def stopped(self) -> str:
        """Why the guard is."""
        guard = self._desk.guard
        return guard.reason.text if guard.state is GuardState.STOPPED and guard.reason is not None else ""

    def end(self) -> str:
        """The guard looks at what must hold after the task, and what the settings name to mend it is tried."""
        return self._desk.end_task()


def run_desk(
    desk: Desk,
    operator: DeskOperator,
    task: str = "",
    most_steps: int = 50,
    seed: int = 0,
    patience_s: float = 10.0,
    told: Callable[[DeskRow], object] = lambda _: None,
) -> DeskEpisode:
    """Let an operator act on a desk in this process; as `run_seat`."""
    return run_seat(DeskSeat(desk), operator, task, most_steps, seed, patience_s, told)


def run_seat(
    seat: Seat,
    operator: DeskOperator,
    task: str = "",
    most_steps: int = 50,
    seed: int = 0,
    patience_s: float = 10.0,
    told: Callable[[DeskRow], object] = lambda _: None,
) -> DeskEpisode:
    """Let an operator act until it says that it is done, or cannot do it, or the budget is used up.

    Args:
        seat: Where.
        operator: Who decides.
        task: What is to be done, in words.
        most_steps: Actions that it may decide on.
        seed: Of its chances.
        patience_s: How long it may abstain in a row [s].
        told: Told each row as soon as it is known.

    Raises:
        OperatorError: If it fails to begin, or wants to see what nobody sees.
        DesktopError: If the desktop is gone.
    """
    run = _Run(seat, operator, task, seed)
    while (ended := run.over(most_steps, patience_s)) is None:
        if (row := run.step()) is not None:
            told(row)
    said = "; ".join(t for t in (run.text, seat.end()) if t)
    return DeskEpisode(tuple(run.rows), ended, said)


class _Run:
    """An episode under way."""

    def __init__(self, seat: Seat, operator: DeskOperator, task: str, seed: int) -> None:
        self.rows: list[DeskRow] = []
        self.text = ""
        self._seat, self._operator, self._task = seat, operator, task
        self._last: ActionResult | None = None
        self._ended: DeskEnding | None = None
        self._failures = 0
        check_keys(operator.observation_keys)
        try:
            operator.reset(seed)
        except Exception as err:  # an operator is anybody's code; its failure is reported as its own
            raise failure_of(operator, err, "to reset") from err
        seat.begin(task)
        self._decided_s = time.monotonic()

    def over(self, most_steps: int, patience_s: float) -> DeskEnding | None:
        """How it has ended; None: it goes on."""
        if self._ended is not None:
            return self._ended
        if stopped := self._seat.stopped:
            self.text = stopped
            return DeskEnding.STOPPED
        if self._failures >= MOST_FAILURES:
            self.text = self.rows[-1].text
            return DeskEnding.FAILED
        if len(self.rows) >= most_steps:
            return DeskEnding.STEPS
        return DeskEnding.ABSTAINED if time.monotonic() - self._decided_s >= patience_s else None

    def step(self) -> DeskRow | None:
        """One decision, carried out; None: it abstained."""
        number, source = len(self.rows), self._operator.source
        observation, about = self._seat.observe(self._operator.observation_keys)
        info = {**about, "task": self._task, "step": number, "last_result": self._last}
        began_s = time.monotonic()
        try:
            action = decide(self._operator, observation, info)
        except OperatorError as err:
            self._failures += 1
            self._seat.missed(failure_source(err))
            return self._kept(DeskRow(number, failure_source(err), None, None, str(err), time.monotonic() - began_s))
        if action is None:
            self._seat.wait(began_s)
            return None
        row = DeskRow(number, source, action, None, "", time.monotonic() - began_s)
        self._failures = 0
        self._last = result = self._seat.execute(action, source)
        if isinstance(action, Done | Fail) and result.executed:
            self._ended = DeskEnding.DONE if isinstance(action, Done) else DeskEnding.FAIL
            self.text = result.answer or result.text
        text = ""
        try:
            self._operator.on_step_result(action, result, info)
        except Exception as err:  # as above
            text = str(failure_of(self._operator, err, "in on_step_result"))
        return self._kept(replace(row, result=result, text=text))

    def _kept(self, row: DeskRow) -> DeskRow:
        self._decided_s = time.monotonic()
        self.rows.append(row)
        return row
