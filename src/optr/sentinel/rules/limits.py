"""Rules that change a proposal instead of refusing it: how much of each limit of the spec may be used.

The limiting itself is in `sentinel/motion.py`; here is what the configuration may set about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optr.errors import SpecError
from optr.sentinel.codes import Code, Response
from optr.sentinel.rule import Rule, setting
from optr.spec import JointLimits, Spec


class LimitRule(Rule):
    """A limit that the motion limiter keeps."""

    responses = (Response.LIMIT, Response.REFUSE, Response.HOLD, Response.STOP)

    def narrow(self, limits: JointLimits) -> JointLimits:
        """The limits with this rule's settings applied; never wider than those of the spec.

        Raises:
            SpecError: If nothing is left of them.
        """
        raise NotImplementedError


@dataclass
class Position(LimitRule):
    """Joints stay inside their range, and can always brake before its end."""

    name = "position"
    codes = (Code.POSITION_LIMIT, Code.BRAKING_DISTANCE)

    margin: float = setting(0.0, "Distance kept from both ends of the range.", unit="rad or m", low=0.0, high=3.0)

    def narrow(self, limits: JointLimits) -> JointLimits:
        low, high = limits.low + self.margin, limits.high - self.margin
        if (low >= high).any():
            joint = limits.names[int(np.argmax(low >= high))]
            raise SpecError(f"rule position: a margin of {self.margin} leaves nothing of the range of {joint}")
        return replace(limits, low=low, high=high)


@dataclass
class Velocity(LimitRule):
    """Joints are not faster than the spec allows."""

    name = "velocity"
    codes = (Code.VELOCITY_LIMIT,)

    share: float = setting(1.0, "Part of the spec's limit that may be used.", low=0.01, high=1.0)

    def narrow(self, limits: JointLimits) -> JointLimits:
        return replace(limits, velocity=limits.velocity * self.share)


@dataclass
class Acceleration(LimitRule):
    """Joints do not speed up or slow down harder than the spec allows."""

    name = "acceleration"
    codes = (Code.ACCELERATION_LIMIT,)

    share: float = setting(1.0, "Part of the spec's limit that may be used.", low=0.01, high=1.0)

    def narrow(self, limits: JointLimits) -> JointLimits:
        return replace(limits, acceleration=limits.acceleration * self.share)


@dataclass
class Jerk(LimitRule):
    """Accelerations change gently, where the spec gives a jerk limit. The limits above go before this one."""

    name = "jerk"
    codes = (Code.JERK_LIMIT,)

    share: float = setting(1.0, "Part of the spec's limit that may be used.", low=0.01, high=1.0)

    def bind(self, spec: Spec) -> None:
        if not np.isfinite(spec.limits.jerk).any():
            self.idle = "the spec gives no jerk limits"

    def narrow(self, limits: JointLimits) -> JointLimits:
        return replace(limits, jerk=limits.jerk * self.share)


@dataclass
class Step(LimitRule):
    """One command does not lie farther from the one before than the spec allows."""

    name = "step"
    codes = (Code.STEP_LIMIT,)

    share: float = setting(1.0, "Part of the spec's limit that may be used.", low=0.01, high=1.0)

    def narrow(self, limits: JointLimits) -> JointLimits:
        return replace(limits, step=limits.step * self.share)
