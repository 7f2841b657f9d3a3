"""One desktop on which tasks are set up, done and checked, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.seen import Element
from optr.connectors.desktop.session import DesktopSession
from optr.desk_bench.checkers import DeskState, score
from optr.desk_bench.setting_up import SetUp
from optr.desk_bench.site import Site
from optr.desk_bench.task import DeskTask, SeededTask
from optr.errors import DesktopError, OptrError
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

_LANDS_S = 1.5
"""How long what was done last may take to arrive where it is checked, as in a file [s]."""

_POLL_S = 0.05

Choose = Callable[[Mapping[str, Any], Mapping[str, Any]], a.DesktopAction | None]
"""As `select_action` of a desktop operator: observation and info; None: nothing is done in this step."""


@dataclass
class DeskEpisode:
    """One attempt at a task.

    Attributes:
        task: With its parameters.
        state: Where its checkers look.
        reset_s: How long it took to set it up [s].
        steps: Decisions so far.
        refused: Those that the guard, or the desktop, did not let through.
        acted: Whether anything was carried out.
        over: Whether the operator, or its last step, has ended it.
        last: What came of the last action; None: there was none.
    """

    task: SeededTask
    state: DeskState
    reset_s: float = 0.0
    steps: int = 0
    refused: int = 0
    acted: bool = False
    over: bool = False
    last: a.ActionResult | None = None


@dataclass(frozen=True)
class TaskRun:
    """One attempt as it went.

    Attributes:
        task: Its id.
        seed: Of its parameters.
        level: Of the task.
        score: 1.0 or 0.0; None: there is none, because of the error.
        error: What failed that was not the operator's to do; empty: nothing.
        steps: Decisions.
        refused: Those that were not carried out.
        reset_s: How long it took to set it up [s].
        seconds: From there to the score [s].
        said: What came of the last action that was not carried out; empty: all were.
    """

    task: str
    seed: int
    level: int
    score: float | None
    error: str = ""
    steps: int = 0
    refused: int = 0
    reset_s: float = 0.0
    seconds: float = 0.0
    said: str = ""


class DeskSuite:
    """Owns a desktop of its own, under the guard of the benchmark, and the pages; a context manager.

    Attributes:
        desk: The desktop.
        site: The pages.
    """

    def __init__(self, width: int = 1280, height: int = 800, settings: str = "bench") -> None:
        """Bring the desktop up, with a browser that waits without a window.

        Args:
            width: Of the screen [px].
            height: Of the screen [px].
            settings: What the guard allows: a file, or a name in `config/desks`.

        Raises:
            DesktopError: If something that it needs is not installed or does not come up.
        """
        guard = DeskGuard(load_desk(settings))
        session = DesktopSession(width, height, environment={"GSETTINGS_BACKEND": "memory"})
        try:
            self.desk = Desk(session, guard)
        except BaseException:
            session.close()
            raise
        self.site = Site()
        self._episode: DeskEpisode | None = None
        self._stamp_ns = 0
        try:
            self._set_up = SetUp(self.desk, self.site)
        except BaseException:
            self.desk.close()
            self.site.close()
            raise

    @property
    def episode(self) -> DeskEpisode:
        """The attempt of now.

        Raises:
            DesktopError: If there is none.
        """
        if self._episode is None:
            raise DesktopError("no task has been set up: reset comes first")
        return self._episode

    def reset(self, task: DeskTask, seed: int = 0) -> dict[str, Any]:
        """End what there was, and set a task up.

        Returns:
            What is seen of it; see `observe`.

        Raises:
            DesktopError: If it cannot be set up.
        """
        self._episode = None
        began = time.monotonic()
        made = task.seeded(seed)
        self._set_up.clear()
        state = DeskState(self.desk, self.site, self._set_up.work)
        self._set_up.run(made, state)
        if said := self.desk.begin_task(task.id):
            raise DesktopError(f"the guard does not let task {task.id!r} begin: {said}")
        self._episode = DeskEpisode(made, state, time.monotonic() - began)
        return self.observe()

    def observe(self) -> dict[str, Any]:
        """What is seen now.

        Returns:
            `observation.images.screen` (RGB, uint8, shape (height, width, 3)), `observation.windows`, and
            `observation.elements`, a function that asks for them.
        """
        picture = self.desk.bridge.screen.grab(None)
        self._stamp_ns = picture.stamp_ns
        return {
            "observation.images.screen": picture.pixels,
            "observation.windows": self.desk.bridge.windows.all(),
            "observation.elements": self._elements,
        }

    @property
    def info(self) -> dict[str, Any]:
        """What an operator is told beside.

        Returns:
            `task` (the instruction), `step`, `stamp` of the picture [ns], and what came of the `last` action.
        """
        episode = self.episode
        task = episode.task.instruction
        return {"task": task, "step": episode.steps, "stamp": self._stamp_ns, "last": episode.last}

    def step(self, action: a.DesktopAction | None) -> a.ActionResult | None:
        """Carry an action out, if the guard allows it; None lets the step pass.

        Raises:
            DesktopError: If the task is over.
        """
        episode = self.episode
        if episode.over:
            raise DesktopError("the task is over: nothing more is done in it")
        result = None if action is None else self.desk.execute(action)
        episode.steps += 1
        episode.last = result
        if result is not None:
            episode.refused += not result.executed
            ends = isinstance(action, a.Done | a.Fail) and result.executed
            episode.acted |= result.executed and not ends
            if isinstance(action, a.Done) and ends:
                episode.state.answer = action.answer
            episode.over = ends
        episode.over |= episode.steps >= episode.task.task.max_steps
        return result

    def evaluate(self) -> float:
        """1.0 if the task is done, else 0.0.

        Raises:
            CheckError: If nobody can tell.
        """
        episode = self.episode
        end = time.monotonic() + (_LANDS_S if episode.acted else 0.0)
        while not (found := score(episode.task, episode.state)) and time.monotonic() < end:
            time.sleep(_POLL_S)
        return found

    def close(self) -> None:
        """End the desktop and the pages."""
        self._set_up.close()
        self.desk.close()
        self.site.close()

    def __enter__(self) -> DeskSuite:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _elements(self) -> tuple[Element, ...]:
        return self.desk.tree.read().items if self.desk.tree is not None else ()


def run_task(suite: DeskSuite, task: DeskTask, seed: int, choose: Choose) -> TaskRun:
    """One attempt of an operator at a task; what fails beside it is told, and is no score.

    Args:
        suite: The desktop.
        task: To be done.
        seed: Of its parameters.
        choose: Decides; called with an observation and its info.
    """
    began = time.monotonic()
    found, error, said = None, "", ""
    try:
        observation = suite.reset(task, seed)
        began = time.monotonic()
        while not suite.episode.over:
            result = suite.step(choose(observation, suite.info))
            said = said if result is None or result.executed else f"{result.refused} {result.text}".strip()
            observation = suite.observe()
        found = suite.evaluate()
    except OptrError as err:
        error = f"{type(err).__name__}: {err}"
    seconds = round(time.monotonic() - began, 3)
    with suppress(DesktopError):
        episode = suite.episode
        done = (episode.steps, episode.refused, round(episode.reset_s, 3))
        return TaskRun(task.id, seed, task.level, found, error, *done, seconds, said)
    return TaskRun(task.id, seed, task.level, found, error, seconds=seconds)
