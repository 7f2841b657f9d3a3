"""Hostile runs: what the fuzz throws at a guard. No part of the guard."""

from optr.sentinel.hostile.faults import CLOCK_FAULTS, FAULTS
from optr.sentinel.hostile.rig import Lapse, Track
from optr.sentinel.hostile.run import MOODS, PROPOSALS, HostileRun

__all__ = ["CLOCK_FAULTS", "FAULTS", "MOODS", "PROPOSALS", "HostileRun", "Lapse", "Track"]
