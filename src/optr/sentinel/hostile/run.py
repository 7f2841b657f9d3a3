"""One hostile run: a guard, and everything that may be thrown at it, drawn from a seed.

The mood of a run says how often each kind of proposal comes.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from optr.sentinel.guard import Guard
from optr.sentinel.hostile.faults import FAULTS, Faults
from optr.sentinel.hostile.rig import BLOCK
from optr.spec import Spec

_FINE = {"smooth": 6.0, "near": 3.0, "rest": 0.5, "rows": 1.0, "permuted": 0.3, "exact": 0.3}
_DRIVEN = {"ends": 3.0, "flip": 2.0, "brink": 3.0, "edge": 2.0, "far": 1.0, "near": 1.0, "rows": 1.0, "smooth": 1.0}
_MALFORMED = {"odd": 2.0, "names": 1.0, "size": 1.0, "empty": 0.5, "period": 1.0, "long": 0.1, "abstain": 0.2}
_MISTIMED = {"past": 1.0, "future": 1.0, "observed": 1.0, "extreme": 0.5, "gap": 0.5, "decided": 0.3}
_ODDLY_SENT = {"replay": 1.0, "burst": 0.1, "late": 0.15, "reorder": 0.2, "stranger": 1.0}
_SINGLE = (_MALFORMED, _MISTIMED, _ODDLY_SENT)

MOODS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "calm": (0.0, (0.002, 0.002, 0.002)),
    "coarse": (0.2, (0.01, 0.01, 0.02)),
    "driven": (0.95, (0.0, 0.0, 0.02)),
    "rushed": (0.7, (0.0, 0.1, 0.2)),
    "mixed": (0.5, (0.1, 0.1, 0.1)),
    "garbage": (0.3, (0.4, 0.2, 0.1)),
}
"""How a run behaves: the share of stretches that drive the arm hard, the others being fine; and the shares of single
proposals between them that cannot be read, come at the wrong time, or come in a strange way."""
_FAULT_SHARES = (0.0, 0.002, 0.01, 0.05)
"""Faults per proposal; a run has one of these shares."""

PROPOSALS = tuple(sorted({k for weights in (_FINE, _DRIVEN, *_SINGLE) for k in weights}))


class HostileRun(Faults):
    """Plays proposals and faults against one guard and keeps what it commands.

    Args:
        spec: The robot.
        guard: Fresh guard; the run gives the authority itself.
        seed: Seed of this run.
        faults: Kinds of faults that may come.
        journal: Whether to keep every call.

    Attributes:
        mood: One of `MOODS`.
        fault_share: Faults per proposal.
    """

    def __init__(
        self,
        spec: Spec,
        guard: Guard,
        seed: np.random.SeedSequence,
        faults: tuple[str, ...] = FAULTS,
        journal: bool = False,
    ) -> None:
        super().__init__(spec, guard, seed, journal)
        self.faults = faults
        self.mood = self.pick(tuple(MOODS))
        self.fault_share = self.pick(_FAULT_SHARES)
        self._methods = [getattr(self, f"_{k}") for k in PROPOSALS]
        self._kind = self._draw_kinds()

    def _draw_kinds(self) -> list[int]:
        """Indices into `PROPOSALS`: stretches of one kind, single ones of others between."""
        rng, (driven, singles) = self.rng, MOODS[self.mood]
        hard = rng.random(BLOCK) < driven
        kinds = np.where(hard, _drawn(rng, _DRIVEN), _drawn(rng, _FINE))
        lengths = np.exp(rng.uniform(0.0, np.where(hard, 4.0, 6.0))).astype(np.int64)
        kinds = np.repeat(kinds, lengths)[:BLOCK]
        for weights, share in zip(_SINGLE, singles, strict=True):
            kinds = np.where(rng.random(BLOCK) < share, _drawn(rng, weights), kinds)
        return list(kinds.tolist())

    def play(self, proposals: int) -> None:
        """Throw so many proposals, at most `BLOCK`, and what comes with them."""
        self._until = proposals
        while self.proposals < proposals:
            at = self.proposals
            while self.pending and self.pending[0][0] <= at:
                heapq.heappop(self.pending)[2]()
            if self.draw() < self.fault_share and self.faults:
                fault = self.pick(self.faults)
                self.kinds[fault] += 1
                getattr(self, f"_fault_{fault}")()
            self.wait(self._gaps[at])
            self._methods[self._kind[at]]()


def _drawn(rng: np.random.Generator, weights: dict[str, float]) -> npt.NDArray[np.int64]:
    share = np.array(list(weights.values()))
    return rng.choice([PROPOSALS.index(k) for k in weights], BLOCK, p=share / share.sum())
