"""Put a cube into a bin."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from optr.connectors.sim.tasks.push import quat_of_yaw
from optr.connectors.sim.tasks.task import Evaluation, Task
from optr.connectors.sim.world import World

_FINGERS = ("gripper_link", "moving_jaw_link")


class PickPlace(Task):
    """Put the cube into the bin: inside its walls, let go of, at rest for 0.2 s."""

    name: ClassVar[str] = "pick_place"
    instruction: ClassVar[str] = "Put the red cube into the bin."
    time_limit_s: ClassVar[float] = 15.0
    bodies: ClassVar[tuple[str, ...]] = ("cube", "bin")

    half_width_m = 0.045
    rim_m = 0.035
    dwell_steps = 10

    def __init__(self) -> None:
        self._inside = 0

    def reset(self, world: World, rng: np.random.Generator) -> None:
        self._inside = 0
        cube, bin_ = world.pose("cube").position, world.pose("bin").position
        place = np.array([rng.uniform(0.18, 0.26), rng.uniform(-0.10, 0.06), cube[2]])
        world.place("cube", place, quat_of_yaw(rng.uniform(-np.pi / 4, np.pi / 4)))
        world.place("bin", np.array([rng.uniform(0.16, 0.20), rng.uniform(0.17, 0.20), bin_[2]]))

    def evaluate(self, world: World) -> Evaluation:
        cube, bin_ = world.pose("cube").position, world.pose("bin").position
        x, y, z = (cube - bin_).tolist()
        inside = abs(x) < self.half_width_m and abs(y) < self.half_width_m and z < self.rim_m
        placed = inside and world.speed("cube") < 0.02 and not world.touching("cube", _FINGERS)
        self._inside = self._inside + 1 if placed else 0
        reward = -math.hypot(x, y) + (1.0 if inside else 0.0)
        return Evaluation(reward, success=self._inside >= self.dwell_steps, failed=bool(cube[2] < -0.05))
