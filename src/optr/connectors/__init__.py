"""Environments: what is around the operators."""

from optr.connectors.contract import Pose, StepState

__all__ = ["Pose", "StepState"]
