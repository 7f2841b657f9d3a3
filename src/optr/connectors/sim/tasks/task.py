"""The contract of a task, and tasks by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optr.errors import PluginError
from optr.plugins import load_plugin, plugin_names

if TYPE_CHECKING:
    from optr.connectors.sim.world import World


@dataclass(frozen=True)
class Evaluation:
    """State of the task after a control step.

    Attributes:
        reward: Of this step.
        success: The goal is reached; ends the episode.
        failed: It cannot be reached any more; ends the episode.
    """

    reward: float
    success: bool = False
    failed: bool = False


class Task(ABC):
    """What is to be done in a world.

    Attributes:
        name: As registered.
        instruction: What an operator is told, in words.
        time_limit_s: Simulated time after which the episode is truncated [s].
        bodies: Bodies that the scene must have.
    """

    name: ClassVar[str]
    instruction: ClassVar[str]
    time_limit_s: ClassVar[float]
    bodies: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def reset(self, world: World, rng: np.random.Generator) -> None:
        """Put the world into a start state; every choice is drawn from `rng`."""

    @abstractmethod
    def evaluate(self, world: World) -> Evaluation:
        """Judge the present state. Called once per control step, first right after `reset`."""


def task_names() -> tuple[str, ...]:
    """Names of all installed tasks."""
    return plugin_names("task")


def make_task(name: str) -> Task:
    """Build the task of that name.

    Raises:
        UnknownNameError: If none is installed under that name.
        PluginError: If it cannot be imported or is no `Task`.
    """
    cls = load_plugin("task", name)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise PluginError(f"task {name!r} is {cls!r}, which is no subclass of Task")
    return cls()
