"""The guard: between any decision maker and any actuator. Pure: it is given the time and never reads a clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from optr.errors import GuardError
from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.motion import Motion, MotionLimiter
from optr.sentinel.rules import ActionAge, Authority, Finding, ObservationAge, Rule, Shape, Situation, first_finding
from optr.spec import ActionChunk, ColumnOrder, Command, JointSample, Source, Spec
from optr.spec.values import Vector

_ANNOUNCED_STATES = 50
"""Measurements for which the announcement of a reset holds: some of the time before may still be on their way."""

_START_TOLERANCE = 0.05
"""How far outside its range [rad or m] a joint may stand for the guard to take over there."""


@dataclass(frozen=True)
class GuardSettings:
    """Times of the guard [s].

    Attributes:
        max_observation_age: Decisions on older observations are refused.
        max_action_age: Actions that were due longer ago are refused.
        max_action_ahead: Actions that are due later than this are refused.
        clock_tolerance: A stamp may lie this far ahead of the clock.
        late_periods: Periods after the last row without a successor before the arm is ramped to rest.
    """

    max_observation_age: float = 0.1
    max_action_age: float = 0.1
    max_action_ahead: float = 1.0
    clock_tolerance: float = 0.02
    late_periods: float = 3.0


@dataclass(frozen=True)
class Judgement:
    """What the guard made of one proposal.

    Attributes:
        chunk: The proposal.
        outcome: What became of it.
        codes: Every rule that had something to say.
        text: The same for people.
        proposed: First row in the order of the action vector, shape (n,), or None if it could not be read.
        commanded: What is sent instead, shape (n,), or None if nothing can be.
    """

    chunk: ActionChunk
    outcome: Outcome
    codes: tuple[Code, ...]
    text: str
    proposed: Vector | None
    commanded: Vector | None


class Guard:
    """Judges proposals and makes commands that keep the limits of a spec.

    Call `step` for every proposal that arrives, and at the command rate in between. Holds by ramping to rest inside
    the acceleration limits; a stop latches until `rearm`.
    """

    def __init__(self, spec: Spec, settings: GuardSettings | None = None, authority: str = "") -> None:
        settings = settings or GuardSettings()
        self.spec = spec
        self.settings = settings
        self.authority = authority
        self.order = ColumnOrder(spec.action.names)
        self.counts: Counter[Outcome] = Counter()
        self.rules: list[Rule] = [
            Authority(),
            Shape(self.order),
            ObservationAge(_ns(settings.max_observation_age), _ns(settings.clock_tolerance)),
            ActionAge(_ns(settings.max_action_age), _ns(settings.max_action_ahead)),
        ]
        self._limiter = MotionLimiter(spec.limits)
        self._silence_ns = round((settings.late_periods + 1) * spec.period_ns)
        self._now_ns = self._credit_ns = 0
        self._motion: Motion | None = None
        self._due_ns = 0
        self._state_ns: int | None = None
        self._announced = 0
        self._rows: ActionChunk | None = None
        self._inhibited: dict[Code, str] = {}
        self._stop: str | None = None
        self._holding: Finding | None = Finding(Code.NO_OBSERVATION, "no joint state yet")

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> GuardState:
        """READY, HOLDING or STOPPED."""
        if self._stop is not None:
            return GuardState.STOPPED
        return GuardState.HOLDING if self._inhibited or self._holding else GuardState.READY

    @property
    def reason(self) -> Finding | None:
        """Why it is not READY."""
        if self._stop is not None:
            return Finding(Code.STOP_REQUESTED, self._stop)
        for code, text in self._inhibited.items():
            return Finding(code, text)
        return self._holding

    @property
    def at_rest(self) -> bool:
        """Whether the last command stood still."""
        return self._motion is None or not self._motion.velocity.any()

    @property
    def reset_announced(self) -> bool:
        """Whether the next step back in time is a reset that was announced."""
        return self._announced > 0

    # -- requests ------------------------------------------------------------------------------------------------

    def stop(self, why: str) -> None:
        """Ramp to rest and stay there until `rearm`."""
        self._stop = why
        self._rows = None

    def rearm(self) -> None:
        """End a stop.

        Raises:
            GuardError: While a cause persists, or if no stop is latched.
        """
        if self._stop is None:
            raise GuardError("no stop is latched")
        if self._inhibited:
            code, text = next(iter(self._inhibited.items()))
            raise GuardError(f"{code} persists: {text}")
        self._stop = None
        self._holding = Finding(Code.NO_ACTION, "re-armed; waiting for an action")

    def inhibit(self, code: Code, text: str) -> None:
        """Hold for a reason seen from outside (a lost heartbeat, a dead sensor) until `release`."""
        self._inhibited[code] = text

    def release(self, code: Code) -> None:
        """The outside reason is gone."""
        self._inhibited.pop(code, None)

    def set_authority(self, operator_id: str) -> str:
        """Let another operator's proposals through, or nobody's if empty; answers the previous one."""
        previous, self.authority = self.authority, operator_id
        if previous != operator_id:
            self._rows = None
            self._holding = Finding(Code.NO_ACTION, f"authority went to {operator_id or 'nobody'}")
        return previous

    def announce_reset(self) -> None:
        """The environment has said that it was reset: its time goes back, and the arm is where it is measured next."""
        self._announced = _ANNOUNCED_STATES

    # -- the step ------------------------------------------------------------------------------------------------

    def step(
        self, now_ns: int, state: JointSample | None, chunk: ActionChunk | None = None
    ) -> tuple[Command | None, Judgement | None]:
        """Judge a proposal, or, without one, carry on with the last.

        Args:
            now_ns: Time on the node clock [ns].
            state: Newest measured joints; None if there never were any.
            chunk: A proposal that has just come, or None.

        Returns:
            The command to send, or None if nothing is due; and the judgement of the proposal, None without one.
        """
        if not self._follow(state):
            return None, self._refuse(chunk, self.reason) if chunk is not None else None
        assert state is not None
        assert self._motion is not None
        self._credit_ns = min(self._credit_ns + max(0, now_ns - self._now_ns), self._silence_ns)
        self._now_ns = max(self._now_ns, now_ns)
        if chunk is None:
            return self._carry_on(now_ns), None
        finding = self.reason if self._stop is not None or self._inhibited else None
        finding = finding or first_finding(self.rules, Situation(now_ns, state, chunk, self.authority))
        if finding is None and chunk.abstains:
            failed = chunk.source is Source.FALLBACK
            finding = Finding(Code.ABSTAINED, "the operator failed to decide" if failed else "the operator abstained")
        if finding is not None and finding.code is Code.WRONG_AUTHORITY:
            # Somebody else's proposal must not disturb the arm that the holder of the authority is moving.
            return None, self._refuse(chunk, finding)
        due_ns = self._due(now_ns, chunk)
        if finding is not None:
            self._rows = None
            self._holding = finding
            command = self._hold(due_ns)
            return command, self._refuse(chunk, finding)
        return self._accept(now_ns, due_ns, chunk)

    def _accept(self, now_ns: int, due_ns: int, chunk: ActionChunk) -> tuple[Command | None, Judgement]:
        index = self.order.index(chunk.names)
        values = chunk.values if index is None else chunk.values[:, index]
        self._rows = chunk if index is None else _reordered(chunk, self.order.names, values)
        self._holding = None
        if due_ns < chunk.start_ns:
            return self._hold(now_ns), self._judge(chunk, Outcome.ALLOWED, (), "due later", values[0])
        before = self._due_ns
        codes = self._move(due_ns, values[0])
        outcome = Outcome.LIMITED if codes else Outcome.ALLOWED
        text = self._explain(codes, values[0]) if codes else ""
        return self._command() if self._due_ns > before else None, self._judge(
            chunk, outcome, tuple(codes), text, values[0]
        )

    def _carry_on(self, now_ns: int) -> Command | None:
        if self._rows is None or self._stop is not None or self._inhibited:
            return self._hold(now_ns) if now_ns > self._due_ns else None
        rows = self._rows
        at = (now_ns - rows.start_ns) / rows.period_ns
        if at < 0:
            return self._hold(now_ns) if now_ns > self._due_ns else None
        last = len(rows.values) - 1
        if at <= last:
            if now_ns <= self._due_ns:
                return None
            k = min(int(at), last - 1) if last else 0
            row = rows.values[k] if not last else rows.values[k] + (at - k) * (rows.values[k + 1] - rows.values[k])
            before = self._due_ns
            self._move(now_ns, row)
            return self._command() if self._due_ns > before else None
        if at - last < self.settings.late_periods:
            return None
        self._rows = None
        late = (now_ns - rows.start_ns) * 1e-9
        self._holding = Finding(Code.NO_ACTION, f"no action from {rows.operator_id!r} for {late:.3f} s")
        return self._hold(now_ns)

    # -- pieces --------------------------------------------------------------------------------------------------

    def _follow(self, state: JointSample | None) -> bool:
        """Take note of the measured state; False while there is nothing to start from."""
        if state is None:
            return False
        if self._state_ns is not None and state.stamp_ns < self._state_ns:
            if not self.reset_announced:
                # Nobody said that the environment was reset: an old measurement, another source, a clock set back.
                # The commanded motion stays what it is, and ramps to rest.
                back = (self._state_ns - state.stamp_ns) * 1e-9
                self.inhibit(Code.CLOCK_BACKWARDS, f"a joint state is {back:.3f} s older than the one before it")
                return self._motion is not None
            self._motion = None
            self._rows = None
            self._holding = Finding(Code.NO_ACTION, "the environment was reset; waiting for an action")
            self._announced = 0
        elif self._state_ns != state.stamp_ns:
            self._announced = max(0, self._announced - 1)
        self.release(Code.CLOCK_BACKWARDS)
        self._state_ns = state.stamp_ns
        if self._motion is not None:
            return True
        limits = self._limiter.limits
        inside = np.clip(state.position, limits.low, limits.high)
        off = np.abs(inside - state.position)
        if not np.isfinite(state.position).all() or off.max() > _START_TOLERANCE:
            k = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
            self._holding = Finding(
                Code.STATE_OUT_OF_LIMITS,
                f"{limits.names[k]} stands at {state.position[k]:.3f}, outside [{limits.low[k]:.3f}, "
                f"{limits.high[k]:.3f}]; bring it back by hand or mend the calibration",
            )
            return False
        self._motion = Motion.at_rest(inside)
        self._due_ns = state.stamp_ns - self.spec.period_ns
        self._now_ns, self._credit_ns = state.stamp_ns, self.spec.period_ns
        if self._holding is None or self._holding.code in (Code.NO_OBSERVATION, Code.STATE_OUT_OF_LIMITS):
            self._holding = Finding(Code.NO_ACTION, "waiting for an action")
        return True

    def _due(self, now_ns: int, chunk: ActionChunk) -> int:
        """When the command that answers `chunk` is due: its own start, unless commands went out since."""
        start = chunk.start_ns
        if start > now_ns + _ns(self.settings.clock_tolerance):
            return now_ns
        return start if start > self._due_ns else max(now_ns, self._due_ns)

    def _spend(self, due_ns: int) -> float:
        """Step the time of commands to `due_ns`; answers the time in which the next one may move [s], maybe zero.

        Commands are spaced by the times they were due, so that jitter on the way changes nothing. But no more time is
        given than has passed on the clock: a burst of late actions makes up for the silence before it, and a flood
        for nothing. After a long silence the arm stands, and has no right to a longer way.
        """
        assert self._motion is not None
        since = due_ns - self._due_ns
        if since > self._silence_ns:
            self._motion = Motion.at_rest(self._motion.position)
            since = self._silence_ns
            self._due_ns = due_ns - since
        given = min(since, self._credit_ns)
        self._credit_ns -= given
        self._due_ns += given
        return given * 1e-9

    def _move(self, due_ns: int, target: Vector) -> list[Code]:
        assert self._motion is not None
        dt = self._spend(due_ns)
        if dt <= 0.0:
            return [Code.VELOCITY_LIMIT]
        self._motion, codes = self._limiter.toward(self._motion, target, dt)
        return codes

    def _hold(self, due_ns: int) -> Command | None:
        assert self._motion is not None
        dt = self._spend(max(due_ns, self._due_ns))
        if dt <= 0.0:
            return None
        self._motion = self._limiter.rest(self._motion, dt)
        return self._command()

    def _command(self) -> Command:
        assert self._motion is not None
        return Command(self._due_ns, self._motion.position)

    def _refuse(self, chunk: ActionChunk, finding: Finding | None) -> Judgement:
        finding = finding or Finding(Code.NO_OBSERVATION, "no joint state yet")
        outcome = Outcome.STOPPED if self._stop is not None else Outcome.REFUSED
        first = None
        if chunk.values.ndim == 2 and chunk.values.size and set(chunk.names) == set(self.order.names):
            row = dict(zip(chunk.names, chunk.values[0], strict=False))
            first = np.array([row.get(n, np.nan) for n in self.order.names])
        return self._judge(chunk, outcome, (finding.code,), finding.text, first)

    def _judge(
        self, chunk: ActionChunk, outcome: Outcome, codes: tuple[Code, ...], text: str, first: Vector | None
    ) -> Judgement:
        self.counts[outcome] += 1
        return Judgement(chunk, outcome, codes, text, first, self._motion.position if self._motion else None)

    def _explain(self, codes: list[Code], proposed: Vector) -> str:
        assert self._motion is not None
        k = int(np.argmax(np.abs(proposed - self._motion.position)))
        name = self.order.names[k]
        listed = ", ".join(codes)
        return f"{listed}: {name} proposed {proposed[k]:.4f}, commanded {self._motion.position[k]:.4f}"


def _reordered(chunk: ActionChunk, names: tuple[str, ...], values: Vector) -> ActionChunk:
    return replace(chunk, names=names, values=values)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
