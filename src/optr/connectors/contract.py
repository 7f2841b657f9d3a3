"""Values that every connector speaks in."""

from __future__ import annotations

from dataclasses import dataclass

from optr.spec.values import Vector


@dataclass(frozen=True)
class Pose:
    """Pose of a body in the world frame: position [m], shape (3,); quaternion x, y, z, w, shape (4,)."""

    position: Vector
    quat_xyzw: Vector


@dataclass(frozen=True)
class StepState:
    """State of the task after a control step; fields as in `optr_interfaces/StepResult`."""

    stamp_ns: int
    task: str
    seed: int
    episode: int
    step: int
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    success: bool = False

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.terminated or self.truncated
