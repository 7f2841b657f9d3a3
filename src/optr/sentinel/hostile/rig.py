"""What a hostile run works with: one guard, a clock, an arm, and a record of all that was commanded."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optr.sentinel.codes import Code, Outcome
from optr.sentinel.guard import Guard
from optr.spec import ActionChunk, JointSample, Source, Spec
from optr.spec.values import Vector

MS = 1_000_000
MINUTE = 60_000 * MS
HOUR = 60 * MINUTE

CODES = (Code.RECORDER_LOST, Code.SECOND_SENTINEL, Code.OBSERVATION_STALE, Code.SECOND_STATE_SOURCE)
OPERATORS = ("me", "you", "her")
ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1.8e308, 5e-324, -1e-310, -0.0, 1e16)
BLOCK = 4096
NEVER = -(2**62)


@dataclass
class Track:
    """Commands since a start from rest.

    Attributes:
        start_ns: One period before the measurement that it starts from [ns].
        start: Measured position [rad or m], shape (n,).
        stamps: When each command is due [ns].
        positions: Commands [rad or m], shape (n,) each.
        clocks: Latest time of a call when each was given [ns].
        steps: Number of the call that gave each.
    """

    start_ns: int = 0
    start: Vector | None = None
    stamps: list[int] = field(default_factory=list)
    positions: list[Vector] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Lapse:
    """Something that a guard must never do, whatever the motion.

    Attributes:
        kind: `let_through`: sent what it had to refuse; `unjudged`: no judgement; `raised`: an exception.
        step: Number of the call.
        text: What it was.
    """

    kind: str
    step: int
    text: str


class Rig:
    """Calls one guard, lets time pass, measures, and keeps what is commanded.

    Args:
        spec: The robot.
        guard: Fresh guard; the run gives the authority itself.
        seed: Seed of this run.
        journal: Whether to keep every call.

    Attributes:
        now_ns: Time of the last call [ns].
        authority: Operator whose proposals may pass.
        tracks: What was commanded, one entry per start.
        kinds: Proposals and faults by kind.
        journal: Every call of the guard in order, for replays; None unless asked for.
    """

    def __init__(
        self,
        spec: Spec,
        guard: Guard,
        seed: np.random.SeedSequence,
        journal: bool = False,
    ) -> None:
        self.spec, self.guard = spec, guard
        self.rng = np.random.default_rng(seed)
        self.limits, self.names, self.period = spec.limits, spec.action.names, spec.period_ns
        self.draw = _uniforms(self.rng).__next__
        self.kinds: Counter[str] = Counter()
        self.outcomes: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.lapses: list[Lapse] = []
        self.tracks: list[Track] = []
        self.journal: list[tuple[Any, ...]] | None = [] if journal else None
        self.proposals = self.calls = self._ties = self._until = 0
        self.authority = self.pick(OPERATORS)
        self.sequence = dict.fromkeys((*OPERATORS, ""), 0)
        self.recent: deque[ActionChunk] = deque(maxlen=32)
        self.pending: list[tuple[int, int, Callable[[], None]]] = []
        self.now_ns = int(self.pick((0, 1_000 * MS, -10_000 * MS, 1_760_000_000_000 * MS, HOUR)))
        self._draw_character()
        self._draw_tables()
        self.begin(self._place())
        self.call("set_authority", self.authority)

    def _draw_character(self) -> None:
        """What stays the same for the run: pace, ticks, how the arm follows."""
        pick = self.pick
        self.tick_ns = pick((10 * MS, 10 * MS, 10 * MS, 5 * MS, 0, 7 * MS + 1))
        self.next_tick = self.now_ns + self.tick_ns
        self.pace = pick(("even", "even", "even", "jitter", "uneven", "uneven", "tiny", "fast"))
        self.tracking = pick(("exact", "noisy", "lags", "random", "stuck"))
        self.delay: int = pick((0, 0, 1 * MS, 5 * MS, 15 * MS))
        self.lead = pick((0, 0, 0, 5 * MS, -10 * MS, 20 * MS, self.period))
        self.scale = 10.0 ** (-5.0 + 4.5 * self.draw())

    def _draw_tables(self) -> None:
        """Random rows for a block of proposals."""
        rng, limits, n = self.rng, self.limits, len(self.names)
        span = limits.high - limits.low
        self._far_rows = rng.uniform(limits.low - span, limits.high + span, (BLOCK, n))
        self._noise = rng.uniform(-1.0, 1.0, (BLOCK + 5000, n))
        self._walk = np.cumsum(self._noise, axis=0)
        period = self.period * 1e-9
        most = rng.uniform(0.1, 0.8, n)
        turn = rng.uniform(0.3, 0.6 * limits.acceleration / limits.velocity)
        whole = 2 * np.pi / (BLOCK * period)
        turn = np.maximum(np.floor(turn / whole), 1.0) * whole  # the table ends where it began
        swing = np.minimum(most * limits.velocity / turn, 0.45 * span)
        t = np.arange(BLOCK)[:, None] * period
        self._smooth_rows = (limits.low + limits.high) / 2 + swing * np.sin(turn * t + rng.uniform(0, 6.28, n))
        p = self.period
        self._gaps = {
            "even": np.full(BLOCK, p),
            "jitter": rng.integers(p * 8 // 10, p * 12 // 10, BLOCK),
            "uneven": rng.choice([1 * MS, 2 * MS, 5 * MS, 10 * MS, 15 * MS, p, p, 25 * MS, 40 * MS, 60 * MS], BLOCK),
            "tiny": np.power(10.0, rng.uniform(0.0, 6.5, BLOCK)).astype(np.int64),
            "fast": np.full(BLOCK, p // 2),
        }[self.pace].tolist()
        self._flip_sign = np.where(rng.random(n) < 0.5, -1.0, 1.0)
        self._flip_every = int(self.pick((1, 1, 2, 3, 7)))
        self._end_rows = rng.random((64, n)) < 0.5
        self._bank = rng.uniform(-4.0, 4.0, (5000, n)) if self.draw() < 0.5 else self._smooth_rows

    # -- small things --------------------------------------------------------------------------------------------

    def pick(self, choices: tuple[Any, ...]) -> Any:
        """One of `choices`, all equally likely."""
        return choices[int(self.draw() * len(choices))]

    def count(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.draw() * (high - low + 1))

    def later(self, low: int, high: int, what: Callable[[], None]) -> None:
        """Do `what` after so many proposals."""
        self._ties += 1
        heapq.heappush(self.pending, (self.proposals + self.count(low, high), self._ties, what))

    def call(self, name: str, *args: Any) -> None:
        """Call a method of the guard."""
        if self.journal is not None:
            self.journal.append((name, *args))
        getattr(self.guard, name)(*args)

    def _place(self) -> Vector:
        where, limits = self.draw(), self.limits
        if where < 0.7:
            return np.asarray(limits.low + (limits.high - limits.low) * self._noise[self.count(0, 999)] ** 2)
        if where < 0.85:
            return np.where(self._end_rows[self.count(0, 63)], limits.low, limits.high)
        return np.where(self._end_rows[self.count(0, 63)], limits.low - 0.04, limits.high + 0.04)

    # -- time and measurements -----------------------------------------------------------------------------------

    def begin(self, place: Vector) -> None:
        """A new track: the arm stands at `place`, and stays there until the first command."""
        self.track = Track()
        self.tracks.append(self.track)
        self.clock = self.now_ns
        self.top_ns = NEVER
        self.sample: JointSample | None = None
        self.place = self.measured = self.last = place
        self.before = place
        self.fault = ""
        self.fault_left = self.fault_ns = 0

    def _state(self) -> JointSample | None:
        """What is measured now; in a fault something else."""
        stamp, position, odd = self.now_ns - self.delay, self._position(), False
        if self.fault_left:
            self.fault_left -= 1
            fault = self.fault
            if fault == "state_none":
                return None
            if fault == "state_frozen":
                return self.sample
            if fault == "state_odd":
                position, odd = self._odd_position(position), True
            elif fault == "state_far":
                position, odd = position + (3.0 * self._noise[self.calls % BLOCK] if self.track.stamps else 10.0), True
            else:
                stamp += self.fault_ns
        self.top_ns = max(self.top_ns, stamp)
        self.sample = JointSample(stamp, position)
        newest = self.guard.newest_ns
        timely = stamp <= self.now_ns + 100 * MS and (newest is None or stamp >= newest or self.guard.reset_announced)
        if self.track.start is None and not odd and timely:
            self.track.start, self.track.start_ns = position, stamp - self.period
        return self.sample

    def _odd_position(self, position: Vector) -> Vector:
        """Before the first command surely no place to start from, so that it is known where the track starts."""
        value = self.pick(ODD) if self.track.stamps else np.nan
        which = self._end_rows[self.calls % 64]
        return np.where(which if which.any() else True, value, position)

    def _position(self) -> Vector:
        if not self.track.stamps:
            return self.place
        tracking = self.tracking
        if tracking == "exact":
            return self.last
        if tracking == "noisy":
            return np.asarray(self.last + 1e-4 * self._noise[self.calls % BLOCK])
        if tracking == "lags":
            self.measured = self.measured + 0.3 * (self.last - self.measured)
            return self.measured
        return self._far_rows[self.calls % BLOCK] if tracking == "random" else self.place

    def step(self, chunk: ActionChunk | None = None) -> Any:
        """One call of the guard; answers its judgement."""
        state = self._state()
        self.calls += 1
        self.clock = max(self.clock, self.now_ns)
        if self.journal is not None:
            self.journal.append(("step", self.now_ns, state, chunk))
        try:
            command, judgement = self.guard.step(self.now_ns, state, chunk)
        except Exception as err:  # a guard must never raise, whatever comes
            self.lapses.append(Lapse("raised", self.calls, f"{type(err).__name__}: {err}"))
            return None
        if command is not None:
            track = self.track
            track.stamps.append(command.stamp_ns)
            track.positions.append(command.position)
            track.clocks.append(self.clock)
            track.steps.append(self.calls)
            self.before, self.last = self.last, command.position
        return judgement

    def wait(self, gap_ns: int) -> None:
        """Let time pass, with ticks between if this run has them [ns]."""
        until = self.now_ns + gap_ns
        if self.tick_ns:
            while self.next_tick < until:
                self.now_ns = max(self.next_tick, self.now_ns)
                self.next_tick += self.tick_ns
                self.step()
        self.now_ns = until

    # -- bookkeeping -----------------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """End every fault and hold; a stop stays until somebody re-arms."""
        self.fault_left, self.pending = 0, []
        for code in CODES:
            self.call("release", code)

    def propose(self, kind: str, chunk: ActionChunk, bad: bool = False) -> None:
        """Give one proposal to the guard; `bad`: it must not pass."""
        if self.proposals >= self._until:
            return
        self.proposals += 1
        self.kinds[kind] += 1
        lapses = len(self.lapses)
        judgement = self.step(chunk)
        if judgement is None:
            if len(self.lapses) == lapses:
                self.lapses.append(Lapse("unjudged", self.calls, kind))
            return
        self.outcomes[judgement.outcome] += 1
        if judgement.codes:
            self.codes.update(map(str, judgement.codes))
        if judgement.outcome <= Outcome.LIMITED:
            self.recent.append(chunk)
            if bad:
                self.lapses.append(Lapse("let_through", self.calls, kind))

    def chunk(
        self,
        values: Vector,
        *,
        who: str | None = None,
        names: tuple[str, ...] | None = None,
        start: int | None = None,
        period: int | None = None,
        observed: int | None = None,
        decided: int | None = None,
        source: Source = Source.POLICY,
    ) -> ActionChunk:
        """A proposal that is good but for what is given."""
        now = self.now_ns
        who = self.authority if who is None else who
        self.sequence[who] = sequence = self.sequence[who] + 1
        return ActionChunk(
            who,
            sequence,
            self.names if names is None else names,
            values,
            now - self.delay if observed is None else observed,
            now + self.lead if start is None else start,
            self.period if period is None else period,
            now if decided is None else decided,
            source,
        )


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(8192).tolist()
