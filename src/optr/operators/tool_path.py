"""Straight ways of the tool as joint positions, leg by leg, for who is told where to go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from optr.operators.contract import Action
from optr.operators.scripted import Arc, Move, ScriptedArm
from optr.spec.values import Vector

_LOW_M, _HIGH_M = 0.12, 0.25
_STEEP_RAD, _FLAT_RAD = 0.35, 1.0
"""Tilt of the approach at low and high places [rad]: straight down, the wrist would stop short of the high ones."""

_ITERATIONS = 200


class ToolPath(ScriptedArm):
    """Goes where it is told, with smooth tool paths, from wherever the joints are."""

    def script(self) -> Iterator[Move | Arc]:
        yield self._leg

    def leg(self, goal: Vector, yaw: float | None, gripper: float, speed: float, clearance: float = 0.0) -> Move:
        """A way to a place.

        Args:
            goal: Position of the tool at its end, base frame [m], shape (3,).
            yaw: How what is to be gripped is turned about the vertical [rad]; None: the jaws close across the way out.
            gripper: Of the jaws, meanwhile [rad].
            speed: Mean speed of the tool [m/s].
            clearance: How far the tool is kept aside, along the way that the jaws close [m].
        """
        tilt = float(np.interp(goal[2], [_LOW_M, _HIGH_M], [_STEEP_RAD, _FLAT_RAD]))
        turned = self.grasp_rotation(goal, yaw, tilt)
        return Move(goal + clearance * turned[:, 0], turned, gripper, speed=speed)

    def out_of_reach_m(self, joints: Vector, leg: Move) -> float:
        """How near the tool comes to the end of a leg, from these joint positions [m]; nothing moves."""
        end = self._ik.solve(joints, leg.position, leg.rotation, _ITERATIONS)
        return float(np.linalg.norm(self._ik.forward(end)[0] - leg.position))

    def follow(self, joints: Vector, leg: Move) -> Iterator[Action]:
        """Joint positions along a leg, one for each action period, from `joints` on, shape (n,)."""
        self._leg = leg
        return self._follow(joints)
