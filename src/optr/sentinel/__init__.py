"""The guard between every operator and every actuator."""

from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.guard import Guard, GuardSettings, Judgement
from optr.sentinel.motion import Motion, MotionLimiter
from optr.sentinel.rules import Finding, Rule, Situation

__all__ = [
    "Code",
    "Finding",
    "Guard",
    "GuardSettings",
    "GuardState",
    "Judgement",
    "Motion",
    "MotionLimiter",
    "Outcome",
    "Rule",
    "Situation",
]
