"""Gate rules: each looks at one proposal and says nothing, or why it must not be sent.

A rule is small and keeps no state. Limits that change a proposal instead of refusing it are in `motion.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from optr.errors import ActionError
from optr.sentinel.codes import Code
from optr.spec import ActionChunk, ColumnOrder, JointSample
from optr.spec.values import all_finite


@dataclass(frozen=True)
class Finding:
    """One reason against a proposal."""

    code: Code
    text: str


@dataclass(frozen=True)
class Situation:
    """What a rule may look at.

    Attributes:
        now_ns: Time of judgement on the node clock [ns].
        state: Newest measured joints.
        chunk: The proposal.
        authority: Id of the operator whose proposals pass; empty: nobody's.
    """

    now_ns: int
    state: JointSample
    chunk: ActionChunk
    authority: str


class Rule(Protocol):
    """A named check of one proposal."""

    @property
    def name(self) -> str:
        """Name in configuration."""

    def check(self, at: Situation) -> Finding | None:
        """The reason not to send it, or None."""


class Authority:
    """Only the operator that holds the authority moves the arm."""

    name = "authority"

    def check(self, at: Situation) -> Finding | None:
        if at.chunk.operator_id == at.authority and at.authority:
            return None
        holder = repr(at.authority) if at.authority else "nobody"
        return Finding(Code.WRONG_AUTHORITY, f"{at.chunk.operator_id!r} proposed, {holder} holds the authority")


class Shape:
    """Names are exactly those of the spec, sizes fit, every value is a finite number, the period is positive."""

    name = "shape"

    def __init__(self, order: ColumnOrder) -> None:
        self._order = order

    def check(self, at: Situation) -> Finding | None:
        chunk = at.chunk
        try:
            self._order.index(chunk.names)
        except ActionError as err:
            return Finding(Code.WRONG_NAMES, str(err))
        if chunk.values.ndim != 2 or chunk.values.shape[1] != len(chunk.names):
            shape = "x".join(str(n) for n in chunk.values.shape)
            return Finding(Code.WRONG_SIZE, f"values are {shape}, expected rows of {len(chunk.names)}")
        if not all_finite(chunk.values.ravel()):
            row, column = np.argwhere(~np.isfinite(chunk.values))[0]
            value = chunk.values[row, column]
            return Finding(Code.NOT_A_NUMBER, f"{chunk.names[column]} is {value} in row {row}")
        if chunk.period_ns <= 0:
            return Finding(Code.WRONG_PERIOD, f"period is {chunk.period_ns * 1e-9} s, expected above zero")
        return None


@dataclass(frozen=True)
class ObservationAge:
    """The decision rests on a fresh observation, and the guard itself sees a fresh one.

    Attributes:
        max_age_ns: Oldest accepted [ns].
        ahead_ns: How far a stamp may lie ahead of the clock [ns].
    """

    max_age_ns: int
    ahead_ns: int
    name: str = "observation_age"

    def check(self, at: Situation) -> Finding | None:
        for what, stamp in (("the decision rests on", at.chunk.observation_ns), ("measured", at.state.stamp_ns)):
            age = at.now_ns - stamp
            if age > self.max_age_ns:
                text = f"{what} an observation {age * 1e-9:.3f} s old, {self.max_age_ns * 1e-9:.3f} s allowed"
                return Finding(Code.OBSERVATION_STALE, text)
            if age < -self.ahead_ns:
                return Finding(Code.OBSERVATION_AHEAD, f"{what} an observation {-age * 1e-9:.3f} s in the future")
        return None


@dataclass(frozen=True)
class ActionAge:
    """The first row is due about now: not long past, not far in the future.

    Attributes:
        max_age_ns: Longest past [ns].
        ahead_ns: Farthest future [ns].
    """

    max_age_ns: int
    ahead_ns: int
    name: str = "action_age"

    def check(self, at: Situation) -> Finding | None:
        age = at.now_ns - at.chunk.start_ns
        if age > self.max_age_ns:
            text = f"was due {age * 1e-9:.3f} s ago, {self.max_age_ns * 1e-9:.3f} s allowed"
            return Finding(Code.ACTION_STALE, text)
        if age < -self.ahead_ns:
            text = f"is due in {-age * 1e-9:.3f} s, {self.ahead_ns * 1e-9:.3f} s allowed"
            return Finding(Code.ACTION_AHEAD, text)
        return None


def first_finding(rules: Sequence[Rule], at: Situation) -> Finding | None:
    """The first reason against a proposal, in the order of the rules."""
    for rule in rules:
        finding = rule.check(at)
        if finding is not None:
            return finding
    return None
