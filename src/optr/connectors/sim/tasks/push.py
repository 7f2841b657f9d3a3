"""Push a cube over the table."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from optr.connectors.sim.tasks.task import Evaluation, Task
from optr.connectors.sim.world import World

_PARKED = np.array([0.0, 0.0, -0.5])


class Push(Task):
    """Push the cube onto the goal disc: within 2.5 cm of its centre, on the table, at rest for 0.2 s."""

    name: ClassVar[str] = "push"
    instruction: ClassVar[str] = "Push the cube onto the disc."
    time_limit_s: ClassVar[float] = 12.0
    bodies: ClassVar[tuple[str, ...]] = ("cube", "goal")

    tolerance_m = 0.025
    dwell_steps = 10

    def __init__(self) -> None:
        self._inside = 0

    def reset(self, world: World, rng: np.random.Generator) -> None:
        self._inside = 0
        height = world.pose("cube").position[2]
        angle, radius = rng.uniform(-0.35, 0.35), rng.uniform(0.225, 0.245)
        cube = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
        away = rng.uniform(0.06, 0.08)
        heading = angle + rng.uniform(-0.4, 0.4)
        world.place("bin", _PARKED)  # the table is for pushing
        world.place("cube", cube, quat_of_yaw(heading))
        goal = world.pose("goal").position
        world.place("goal", np.array([cube[0] + away * np.cos(heading), cube[1] + away * np.sin(heading), goal[2]]))

    def evaluate(self, world: World) -> Evaluation:
        cube, goal = world.pose("cube").position, world.pose("goal").position
        away = float(np.linalg.norm(cube[:2] - goal[:2]))
        fallen = cube[2] < -0.05
        there = away < self.tolerance_m and world.speed("cube") < 0.02
        self._inside = self._inside + 1 if there else 0
        return Evaluation(reward=-away, success=self._inside >= self.dwell_steps, failed=bool(fallen))


def quat_of_yaw(angle: float) -> np.ndarray:
    """Quaternion x, y, z, w of a turn about the vertical [rad]."""
    return np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])
