"""MuJoCo scenes as an environment."""

from optr.connectors.contract import Pose, StepState
from optr.connectors.sim.simulation import Simulation
from optr.connectors.sim.world import World

__all__ = ["Pose", "Simulation", "StepState", "World"]
