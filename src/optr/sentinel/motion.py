"""The motion limiter: how far a commanded position may go in one command.

For every joint, with commanded position q, commanded velocity v (both of the last command), time step dt and
limits V (speed), A (acceleration), S (step), [lo, hi] (position), the next velocity v' keeps

    |v'| <= V,   |v'| dt <= S,   |v' - v| <= A dt,
    v' dt + v'^2 / (2 A) <= hi - q    and the same towards lo.

The last line leaves room to brake: a velocity that falls by at most A dt each step covers no more than
v'^2 / (2 A) from here on (the sum over the steps is a right Riemann sum of a falling ramp, so it is below the
integral), so a joint that brakes at full deceleration always stops inside its range. Braking at A meets all lines
at once, so there is always a way on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optr.sentinel.codes import Code
from optr.spec import JointLimits
from optr.spec.values import Vector

_SLACK = 1e-9
"""A change below this [rad or m] is rounding, not a limit."""


@dataclass(frozen=True)
class Motion:
    """A commanded position and the velocity it was reached with, shape (n,) each."""

    position: Vector
    velocity: Vector

    @staticmethod
    def at_rest(position: Vector) -> Motion:
        """Standing still at `position`."""
        return Motion(position, np.zeros_like(position))


class MotionLimiter:
    """Moves a `Motion` toward a target inside the limits; keeps joints in step with one another."""

    def __init__(self, limits: JointLimits) -> None:
        self.limits = limits
        self._bounds: tuple[float, Vector, Vector] | None = None
        self._aim: Vector | None = None
        columns = (limits.low, limits.high, limits.velocity, limits.acceleration, limits.step)
        self._joints = list(zip(*(c.tolist() for c in columns), strict=True))

    def toward(self, now: Motion, target: Vector, dt: float) -> tuple[Motion, list[Code]]:
        """One step toward `target`.

        Args:
            now: Last commanded motion.
            target: Wanted joint positions [rad or m], shape (n,), finite.
            dt: Time since the last command [s], positive.

        Returns:
            The next motion, its position equal to `target` where no limit is near; and the limits that acted.
        """
        free = self._unlimited(now, target, dt)
        if free is not None:
            self._aim = target
            return Motion(target.copy(), free), []
        limits = self.limits
        codes: list[Code] = []
        inside = np.minimum(np.maximum(target, limits.low), limits.high)
        if np.abs(inside - target).max() > _SLACK:
            codes.append(Code.POSITION_LIMIT)
        wanted = self._approach(now, inside, dt)
        largest = self._largest(dt)
        share = (np.abs(wanted) / largest).max()
        velocity = wanted
        if share > 1.0 + _SLACK:
            velocity = wanted / share
            by_step = limits.step / dt < limits.velocity
            worst = int(np.argmax(np.abs(wanted) / largest))
            codes.append(Code.STEP_LIMIT if by_step[worst] else Code.VELOCITY_LIMIT)
        velocity, more = self._accelerate(now, velocity, dt)
        codes += more
        self._aim = inside
        if not codes or codes == [Code.POSITION_LIMIT]:
            return Motion(now.position + wanted * dt, wanted), codes
        return self._advance(now, velocity, dt), codes

    def _unlimited(self, now: Motion, target: Vector, dt: float) -> Vector | None:
        """Velocity of a step to `target` if no limit acts, else None.

        Most steps are such. Plain numbers, for numpy takes four times as long for so few joints.
        """
        velocity = []
        moves = zip(now.position.tolist(), now.velocity.tolist(), target.tolist(), self._joints, strict=True)
        for at, before, to, (low, high, fastest, acceleration, step) in moves:
            way = to - at
            wanted = way / dt
            speed, most = abs(wanted), acceleration * dt
            brake = speed * (speed + 2 * most) / (2 * acceleration)
            end = at + brake if way > 0 else at - brake
            if not (
                low <= to <= high
                and low <= end <= high
                and speed <= fastest
                and abs(way) <= step
                and abs(wanted - before) <= most
            ):
                return None
            velocity.append(wanted)
        return np.array(velocity)

    def _approach(self, now: Motion, target: Vector, dt: float) -> Vector:
        """Velocity that catches up with a target without running past it.

        It is the target's own velocity, and on top what can be braked within the distance to where the target was:
        without that, joints that catch up would swing about the target for ever.
        """
        limits = self.limits
        aim = self._aim if self._aim is not None else target
        own = np.minimum(np.maximum((target - aim) / dt, -limits.velocity), limits.velocity)
        behind = aim - now.position
        half = limits.acceleration * dt / 2
        most = np.sqrt(half**2 + 2 * limits.acceleration * np.abs(behind)) - half
        rate = np.abs(behind) / dt
        share = np.divide(rate, most, out=np.zeros_like(rate), where=most > 0.0).max()
        return np.asarray(own + behind / dt / max(1.0, float(share)))

    def rest(self, now: Motion, dt: float) -> Motion:
        """One step on the shortest ramp to standing still, joints in step with one another."""
        self._aim = None
        if not now.velocity.any():
            return now
        velocity, _ = self._accelerate(now, np.zeros_like(now.velocity), dt)
        velocity = np.where(np.abs(velocity) < _SLACK, 0.0, velocity)
        return self._advance(now, velocity, dt)

    def _advance(self, now: Motion, velocity: Vector, dt: float) -> Motion:
        position = now.position + velocity * dt
        return Motion(np.minimum(np.maximum(position, self.limits.low), self.limits.high), velocity)

    def _largest(self, dt: float) -> Vector:
        if self._bounds is None or self._bounds[0] != dt:
            limits = self.limits
            self._bounds = (dt, np.minimum(limits.velocity, limits.step / dt), limits.acceleration * dt)
        return self._bounds[1]

    def _accelerate(self, now: Motion, velocity: Vector, dt: float) -> tuple[Vector, list[Code]]:
        limits = self.limits
        codes: list[Code] = []
        self._largest(dt)
        assert self._bounds is not None
        most = self._bounds[2]
        change = velocity - now.velocity
        share = (np.abs(change) / most).max()
        if share > 1.0 + _SLACK:
            velocity = now.velocity + change / share
            codes.append(Code.ACCELERATION_LIMIT)
        up = np.sqrt(most**2 + 2 * limits.acceleration * np.maximum(limits.high - now.position, 0.0)) - most
        down = np.sqrt(most**2 + 2 * limits.acceleration * np.maximum(now.position - limits.low, 0.0)) - most
        braked = np.minimum(np.maximum(velocity, -down), up)
        if (np.abs(braked - velocity) * dt).max() > _SLACK:
            velocity = np.minimum(np.maximum(braked, now.velocity - most), now.velocity + most)
            codes.append(Code.BRAKING_DISTANCE)
        return velocity, codes
