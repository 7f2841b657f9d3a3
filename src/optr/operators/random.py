"""An operator without a plan: the baseline, and the sentinel's hardest customer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optr.operators.contract import Action, Array, Operator
from optr.spec import Source


class Random(Operator):
    """Draws every action uniformly between the limits of the spec; same seed, same actions."""

    category = "random"
    source = Source.SCRIPT

    def select_action(self, observation: Mapping[str, Array], info: Mapping[str, Any]) -> Action | None:
        limits = self.spec.limits
        return np.asarray(self.rng.uniform(limits.low, limits.high), dtype=np.float64)
