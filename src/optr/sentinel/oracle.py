"""The oracle: did a track of commands keep the limits? Shares no code with the guard, its rules or its limiter.

What counts is what a connector is told: positions q_k [rad or m] with the times t_k [ns] they are due. Between two
commands the arm goes straight, so with dt_k = t_k - t_(k-1) the speed of interval k is v_k = (q_k - q_(k-1)) / dt_k.
With limits V (speed), A (acceleration), S (step), [lo, hi] (position), a track keeps them if for every k and joint

    lo <= q_k <= hi,    dt_k > 0,    |v_k| <= V,    |q_k - q_(k-1)| <= S,    |v_k - v_(k-1)| <= A dt_k.

The last line is the backward difference: the speed changes with the command that is due at t_k, and dt_k is the time
that this command has. Where intervals are uneven this is not the only honest definition. Over the time between the
middles of the two intervals, (dt_(k-1) + dt_k) / 2, the same change is up to twice as steep after a short interval
followed by a long one. `TrackReport.middle_ratio` tells that figure; it is no violation.

A track begins at rest where the arm was measured. After a silence, an interval longer than `silence_ns`, the arm has
long reached the last position and stands: the speed before is zero, and the interval counts for `silence_ns` only, so
that a long silence gives no right to a long way.

An actuator obeys a command when it comes, not when it is due. So no command may be due later than `ahead_ns` after
the latest time at which the guard was called: else a flood of proposals for later and later would buy a long way.

Positions are exact to `ROUNDING`; that makes differences over very short times inexact, and is allowed for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from optr.spec import JointLimits
from optr.spec.values import Vector

ROUNDING = 1e-9
"""Error allowed in a commanded position [rad or m]."""

RELATIVE = 1e-6
"""Error allowed in a speed or acceleration, as a share of its limit."""

KINDS = ("position", "stamp", "ahead", "velocity", "step", "acceleration")
"""What can be violated."""

_Table = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Violation:
    """One limit that one command broke.

    Attributes:
        kind: One of `KINDS`.
        row: Index of the command in the track.
        joint: Name of the joint; empty if it is about the stamp.
        value: What was found [rad, rad/s, rad/s^2, m ...; s for stamps].
        limit: What was allowed, same unit.
    """

    kind: str
    row: int
    joint: str
    value: float
    limit: float


@dataclass
class TrackReport:
    """What the oracle found in one track.

    Attributes:
        violations: One entry per kind and command; its joint is the worst one.
        speed_ratio: Largest speed over its limit.
        acceleration_ratio: Largest acceleration over its limit, by the backward difference.
        middle_ratio: The same over the time between the middles of the intervals; told, not judged.
    """

    violations: list[Violation] = field(default_factory=list)
    speed_ratio: float = 0.0
    acceleration_ratio: float = 0.0
    middle_ratio: float = 0.0


class Oracle:
    """Checks tracks of one robot.

    Args:
        limits: Limits of the commands.
        silence_ns: A longer interval counts for this long, from rest [ns].
        ahead_ns: How far a command may be due ahead of the clock [ns].
    """

    def __init__(self, limits: JointLimits, silence_ns: int, ahead_ns: int) -> None:
        self.limits = limits
        self.silence_ns = silence_ns
        self.ahead_ns = ahead_ns

    def check(
        self,
        start_ns: int,
        start: Vector,
        stamps_ns: npt.ArrayLike,
        positions: npt.ArrayLike,
        clock_ns: npt.ArrayLike | None = None,
    ) -> TrackReport:
        """Check one track.

        Args:
            start_ns: One action period before the measurement that the track starts from [ns].
            start: Measured position [rad or m], shape (n,), finite; just outside its range counts as its end.
            stamps_ns: When each command is due [ns], shape (m,).
            positions: Commands [rad or m], shape (m, n).
            clock_ns: Latest time at which the guard had been called when it gave each command [ns], shape (m,).

        Returns:
            What was found; rows count from the first command.
        """
        report = TrackReport()
        stamps = np.asarray(stamps_ns, dtype=np.int64).reshape(-1)
        if not len(stamps):
            return report
        q = np.asarray(positions, dtype=np.float64).reshape(len(stamps), -1)
        limits = self.limits
        outside = ~((q >= limits.low - ROUNDING) & (q <= limits.high + ROUNDING))
        self._note(report, "position", outside, q, np.where(q > limits.high, limits.high, limits.low))
        if clock_ns is not None:
            self._check_clock(report, stamps, np.asarray(clock_ns, dtype=np.int64))
        self._check_motion(
            report,
            np.diff(stamps, prepend=np.int64(start_ns)),
            np.diff(q, axis=0, prepend=np.clip(start, limits.low, limits.high)[None]),
        )
        return report

    def _check_clock(self, report: TrackReport, stamps: npt.NDArray[np.int64], clock: npt.NDArray[np.int64]) -> None:
        ahead = stamps - clock
        for row in np.flatnonzero(ahead > self.ahead_ns).tolist():
            report.violations.append(Violation("ahead", row, "", float(ahead[row]) * 1e-9, self.ahead_ns * 1e-9))

    def _check_motion(self, report: TrackReport, since_ns: npt.NDArray[np.int64], way: Vector) -> None:
        """Check speed, step and acceleration, from intervals [ns], shape (m,), and ways [rad or m], shape (m, n)."""
        limits = self.limits
        for row in np.flatnonzero(since_ns <= 0).tolist():
            report.violations.append(Violation("stamp", row, "", float(since_ns[row]) * 1e-9, 0.0))
        # Where the stamp does not grow there is no speed; that row counts as the shortest interval.
        dt = np.clip(since_ns, 1, self.silence_ns)[:, None] * 1e-9
        with np.errstate(invalid="ignore", over="ignore"):
            speed = way / dt
            before = np.roll(speed, 1, axis=0)
        rested = since_ns > self.silence_ns
        rested[0] = True
        before[rested] = 0.0
        blur = 2 * ROUNDING / dt
        blur_before = np.where(rested[:, None], 0.0, np.roll(blur, 1, axis=0))
        change = np.maximum(np.abs(speed - before) - blur - blur_before, 0.0)
        fastness = np.maximum(np.abs(speed) - blur, 0.0)
        self._note(report, "velocity", ~(fastness <= limits.velocity * (1 + RELATIVE)), speed, limits.velocity)
        self._note(
            report, "step", ~(np.abs(way) <= limits.step * (1 + RELATIVE) + 2 * ROUNDING), np.abs(way), limits.step
        )
        steep = change / dt
        self._note(report, "acceleration", ~(steep <= limits.acceleration * (1 + RELATIVE)), steep, limits.acceleration)
        middle = np.where(rested[:, None], dt, (np.roll(dt, 1, axis=0) + dt) / 2)
        report.speed_ratio = float((fastness / limits.velocity).max())
        report.acceleration_ratio = float((steep / limits.acceleration).max())
        report.middle_ratio = float((change / middle / limits.acceleration).max())

    def _note(self, report: TrackReport, kind: str, wrong: _Table, value: Vector, limit: Vector) -> None:
        if not wrong.any():
            return
        limit = np.broadcast_to(limit, value.shape)
        for row in np.flatnonzero(wrong.any(axis=1)).tolist():
            excess = np.where(wrong[row], np.nan_to_num(np.abs(value[row]) / np.abs(limit[row]), nan=np.inf), -1.0)
            k = int(np.argmax(excess))
            found = Violation(kind, row, self.limits.names[k], float(value[row, k]), float(limit[row, k]))
            report.violations.append(found)
