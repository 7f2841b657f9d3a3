"""Runs one operator on one desktop, in this process: every action passes the guard, every result is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

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


def observe(desk: Desk, keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is seen of a desktop now, as far as it is asked for; and `stamp` and `size` of what an operator is told.

    Raises:
        OperatorError: If something is asked for that nobody sees.
        DesktopError: If it cannot be seen.
    """
    unknown = [k for k in keys if k not in KEYS]
    if unknown:
        raise OperatorError(f"nothing {', '.join(unknown)} can be seen of a desktop; there are: {', '.join(KEYS)}")
    about = {
        "stamp": time.monotonic_ns() * 1e-9,
        "size": (desk.bridge.screen.rect.width, desk.bridge.screen.rect.height),
    }
    look: Mapping[str, Callable[[], Any]] = {
        PICTURE: lambda: desk.bridge.screen.grab().pixels,
        WINDOWS: desk.bridge.windows.all,
        ELEMENTS: lambda: desk.tree.read().items if desk.tree is not None else (),
        POINTER: desk.bridge.hand.position,
    }
    return {key: look[key]() for key in keys}, about


def run_desk(
    desk: Desk,
    operator: DeskOperator,
    task: str = "",
    most_steps: int = 50,
    seed: int = 0,
    patience_s: float = 10.0,
    told: Callable[[DeskRow], object] = lambda _: None,
) -> DeskEpisode:
    """Let an operator act until it says that it is done, or cannot do it, or the budget is used up.

    Args:
        desk: Where; the guard's budgets begin anew.
        operator: Who decides.
        task: What is to be done, in words; the guard looks at conditions of a task of that name.
        most_steps: Actions that it may decide on.
        seed: Of its chances.
        patience_s: How long it may abstain in a row [s].
        told: Told each row as soon as it is known.

    Raises:
        OperatorError: If it fails to begin, or wants to see what nobody sees.
        DesktopError: If the desktop is gone.
    """
    run = _Run(desk, operator, task, seed)
    while (ended := run.over(most_steps, patience_s)) is None:
        if (row := run.step()) is not None:
            told(row)
    said = "; ".join(t for t in (run.text, desk.guard.end_task(desk.look())) if t)
    return DeskEpisode(tuple(run.rows), ended, said)


class _Run:
    """An episode under way."""

    def __init__(self, desk: Desk, operator: DeskOperator, task: str, seed: int) -> None:
        self.rows: list[DeskRow] = []
        self.text = ""
        self._desk, self._operator, self._task = desk, operator, task
        self._last: ActionResult | None = None
        self._ended: DeskEnding | None = None
        self._failures = 0
        self._decided_s = time.monotonic()
        try:
            operator.reset(seed)
        except Exception as err:  # an operator is anybody's code; its failure is reported as its own
            raise failure_of(operator, err, "to reset") from err
        desk.guard.begin_task(task, desk.look(), time.monotonic_ns())

    def over(self, most_steps: int, patience_s: float) -> DeskEnding | None:
        """How it has ended; None: it goes on."""
        if self._ended is not None:
            return self._ended
        if self._desk.guard.state is GuardState.STOPPED:
            self.text = self._desk.guard.reason.text if self._desk.guard.reason else ""
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
        observation, about = observe(self._desk, self._operator.observation_keys)
        info = {**about, "task": self._task, "step": number, "last_result": self._last}
        began_ns = time.monotonic_ns()
        try:
            action = decide(self._operator, observation, info)
        except OperatorError as err:
            self._failures += 1
            return self._kept(DeskRow(number, failure_source(err), None, None, str(err), _since(began_ns)))
        if action is None:
            self._desk.bridge.screen.damage.wait(bool, began_ns, _ASKED_AGAIN_S)
            return None
        row = DeskRow(number, source, action, None, "", _since(began_ns))
        self._failures = 0
        self._last = result = self._desk.execute(action)
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


def _since(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) * 1e-9
