"""One hostile run: a guard, and everything that may be thrown at it, drawn from a seed.

The kinds of proposals are the methods named in `PROPOSALS`, the kinds of faults around them those in `FAULTS`; a run has
a mood, that is how often each comes. Random numbers are drawn in blocks, for a run has thousands of steps.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.errors import GuardError
from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.guard import Guard
from optr.spec import ActionChunk, JointSample, Source, Spec
from optr.spec.values import Vector

MS = 1_000_000
_MINUTE = 60_000 * MS
_HOUR = 60 * _MINUTE

_CODES = (Code.RECORDER_LOST, Code.SECOND_SENTINEL, Code.OBSERVATION_STALE, Code.SECOND_STATE_SOURCE)
_OPERATORS = ("me", "you", "her")
_ODD = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1.8e308, 5e-324, -1e-310, -0.0, 1e16)
_BLOCK = 4096
_NEVER = -(2**62)

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
FAULTS = (
    "stall",
    "stop",
    "inhibit",
    "takeover",
    "nobody",
    "reset",
    "reset_unused",
    "clock_glitch",
    "clock_back",
    "clock_ahead",
    "state_frozen",
    "state_older",
    "state_ahead",
    "state_odd",
    "state_far",
    "state_none",
)
CLOCK_FAULTS = ("reset", "reset_unused", "clock_glitch", "clock_back", "clock_ahead", "state_older", "state_ahead")
"""Faults of time. After some of them a guard may rightly wait for hours, or for a reset."""


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


class HostileRun:
    """Plays proposals and faults against one guard and keeps what it commands.

    Args:
        spec: The robot.
        guard: Fresh guard; the run gives the authority itself.
        seed: Seed of this run.
        faults: Kinds of faults that may come.
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
        faults: tuple[str, ...] = FAULTS,
        journal: bool = False,
    ) -> None:
        self.spec, self.guard, self.faults = spec, guard, faults
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
        self.authority = self.pick(_OPERATORS)
        self.sequence = dict.fromkeys((*_OPERATORS, ""), 0)
        self.recent: deque[ActionChunk] = deque(maxlen=32)
        self.pending: list[tuple[int, int, Callable[[], None]]] = []
        self.now_ns = int(self.pick((0, 1_000 * MS, -10_000 * MS, 1_760_000_000_000 * MS, _HOUR)))
        self._draw_character()
        self._draw_tables()
        self._begin(self._place())
        self.call("set_authority", self.authority)

    def _draw_character(self) -> None:
        """What stays the same for the run: pace, ticks, how the arm follows, how often there are faults."""
        pick = self.pick
        self.mood = pick(tuple(MOODS))
        self.fault_share = pick(_FAULT_SHARES)
        self.tick_ns = pick((10 * MS, 10 * MS, 10 * MS, 5 * MS, 0, 7 * MS + 1))
        self.next_tick = self.now_ns + self.tick_ns
        self.pace = pick(("even", "even", "even", "jitter", "uneven", "uneven", "tiny", "fast"))
        self.tracking = pick(("exact", "noisy", "lags", "random", "stuck"))
        self.delay = pick((0, 0, 1 * MS, 5 * MS, 15 * MS))
        self.lead = pick((0, 0, 0, 5 * MS, -10 * MS, 20 * MS, self.period))
        self.scale = 10.0 ** (-5.0 + 4.5 * self.draw())

    def _draw_tables(self) -> None:
        """Random rows for a block of proposals."""
        rng, limits, n = self.rng, self.limits, len(self.names)
        self._methods = [getattr(self, f"_{k}") for k in PROPOSALS]
        self._kind = self._draw_kinds()
        span = limits.high - limits.low
        self._far_rows = rng.uniform(limits.low - span, limits.high + span, (_BLOCK, n))
        self._noise = rng.uniform(-1.0, 1.0, (_BLOCK + 5000, n))
        self._walk = np.cumsum(self._noise, axis=0)
        period = self.period * 1e-9
        most = rng.uniform(0.1, 0.8, n)
        turn = rng.uniform(0.3, 0.6 * limits.acceleration / limits.velocity)
        swing = np.minimum(most * limits.velocity / turn, 0.45 * span)
        t = np.arange(_BLOCK)[:, None] * period
        self._smooth_rows = (limits.low + limits.high) / 2 + swing * np.sin(turn * t + rng.uniform(0, 6.28, n))
        p = self.period
        self._gaps = {
            "even": np.full(_BLOCK, p),
            "jitter": rng.integers(p * 8 // 10, p * 12 // 10, _BLOCK),
            "uneven": rng.choice([1 * MS, 2 * MS, 5 * MS, 10 * MS, 15 * MS, p, p, 25 * MS, 40 * MS, 60 * MS], _BLOCK),
            "tiny": np.power(10.0, rng.uniform(0.0, 6.5, _BLOCK)).astype(np.int64),
            "fast": np.full(_BLOCK, p // 2),
        }[self.pace].tolist()
        self._flip_sign = np.where(rng.random(n) < 0.5, -1.0, 1.0)
        self._flip_every = int(self.pick((1, 1, 2, 3, 7)))
        self._end_rows = rng.random((64, n)) < 0.5
        self._bank = rng.uniform(-4.0, 4.0, (5000, n)) if self.draw() < 0.5 else self._smooth_rows

    def _draw_kinds(self) -> list[int]:
        """Indices into `PROPOSALS`: stretches of one kind, single ones of others between."""
        rng, (driven, singles) = self.rng, MOODS[self.mood]
        hard = rng.random(_BLOCK) < driven
        kinds = np.where(hard, _drawn(rng, _DRIVEN), _drawn(rng, _FINE))
        lengths = np.exp(rng.uniform(0.0, np.where(hard, 4.0, 6.0))).astype(np.int64)
        kinds = np.repeat(kinds, lengths)[:_BLOCK]
        for weights, share in zip(_SINGLE, singles, strict=True):
            kinds = np.where(rng.random(_BLOCK) < share, _drawn(rng, weights), kinds)
        return list(kinds.tolist())

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

    def _begin(self, place: Vector) -> None:
        """A new track: the arm stands at `place`, and stays there until the first command."""
        self.track = Track()
        self.tracks.append(self.track)
        self.clock = self.now_ns
        self.top_ns = _NEVER
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
                position, odd = position + (3.0 * self._noise[self.calls % _BLOCK] if self.track.stamps else 10.0), True
            else:
                stamp += self.fault_ns
        self.top_ns = max(self.top_ns, stamp)
        self.sample = JointSample(stamp, position)
        if self.track.start is None and not odd:
            self.track.start, self.track.start_ns = position, stamp - self.period
        return self.sample

    def _odd_position(self, position: Vector) -> Vector:
        """Before the first command surely no place to start from, so that it is known where the track starts."""
        value = self.pick(_ODD) if self.track.stamps else np.nan
        which = self._end_rows[self.calls % 64]
        return np.where(which if which.any() else True, value, position)

    def _position(self) -> Vector:
        if not self.track.stamps:
            return self.place
        tracking = self.tracking
        if tracking == "exact":
            return self.last
        if tracking == "noisy":
            return np.asarray(self.last + 1e-4 * self._noise[self.calls % _BLOCK])
        if tracking == "lags":
            self.measured = self.measured + 0.3 * (self.last - self.measured)
            return self.measured
        return self._far_rows[self.calls % _BLOCK] if tracking == "random" else self.place

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

    # -- the run -------------------------------------------------------------------------------------------------

    def play(self, proposals: int) -> None:
        """Throw so many proposals, at most `_BLOCK`, and what comes with them."""
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

    def calm_down(self) -> None:
        """End every fault, stop and hold."""
        self.fault_left, self.fault_share, self.pending = 0, 0.0, []
        for code in _CODES:
            self.call("release", code)
        if self.guard.state is GuardState.STOPPED:
            self.call("rearm")

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

    # -- proposals within reason ---------------------------------------------------------------------------------

    def _row(self, table: Vector) -> Vector:
        return table[self.proposals : self.proposals + 1]

    def _smooth(self) -> None:
        self.propose("smooth", self.chunk(self.smooth_at(self.now_ns)[None]))

    def _near(self) -> None:
        self.propose("near", self.chunk(self.last + self.scale * self._row(self._noise)))

    def _rest(self) -> None:
        self.propose("rest", self.chunk(self.last[None]))

    def _exact(self) -> None:
        self.propose("exact", self.chunk(self.measured[None].copy()))

    def _permuted(self) -> None:
        order = self.rng.permutation(len(self.names))
        rows = self.last + self.scale * self._row(self._noise)
        self.propose("permuted", self.chunk(rows[:, order], names=tuple(self.names[k] for k in order)))

    def _rows(self) -> None:
        size, at = self.count(2, 32), self.proposals
        rows = self.last + self.scale * (self._walk[at : at + size] - self._walk[at])
        period = self.pick((self.period, self.period, self.period // 2, 5 * MS, 1, 3 * self.period, 500 * MS))
        self.propose("rows", self.chunk(rows, period=period))

    def smooth_at(self, time_ns: int) -> Vector:
        """A motion well inside the limits, by time [ns]; shape (n,)."""
        k, past = divmod(time_ns, self.period)
        row = self._smooth_rows[k % _BLOCK]
        return np.asarray(row + past / self.period * (self._smooth_rows[(k + 1) % _BLOCK] - row))

    # -- proposals that drive the arm as hard as can be -----------------------------------------------------------

    def _far(self) -> None:
        rows = self._row(self._far_rows)
        self.propose("far", self.chunk(rows * 1e6 if self.draw() < 0.05 else rows))

    def _ends(self) -> None:
        limits = self.limits
        over = self.pick((0.0, 1e-9, 0.01, 1.0, 100.0))
        pick = self._end_rows[self.proposals // 24 % 64]
        self.propose("ends", self.chunk(np.where(pick, limits.low - over, limits.high + over)[None]))

    def _flip(self) -> None:
        sign = self._flip_sign * (1.0 if self.proposals // self._flip_every % 2 else -1.0)
        self.propose("flip", self.chunk((self.last + sign * (0.01 + self.draw()))[None]))

    def _brink(self) -> None:
        """Full speed at an end of the range; the other way just where braking has to begin."""
        limits, period = self.limits, self.period * 1e-9
        speed = (self.last - self.before) / period
        up = speed >= 0
        room = np.where(up, limits.high - self.last, self.last - limits.low)
        turn = room < (0.8 + 0.6 * self.draw()) * (speed**2 / (2 * limits.acceleration)) + np.abs(speed) * period
        self.propose("brink", self.chunk(np.where(up ^ turn, limits.high, limits.low)[None]))

    def _edge(self) -> None:
        """Exactly what one limit allows, or a rounding more."""
        limits, period = self.limits, self.period * 1e-9
        way = self.pick((limits.velocity * period, limits.step, limits.acceleration * period**2))
        way = way * self.pick((1.0, 1.0 + 1e-9, 1.0 - 1e-9, 1.0 + 1e-15))
        go_on = (self.last - self.before) if self.draw() < 0.5 else 0.0
        rows = (self.last + go_on + self._flip_sign * way)[None]
        if self.draw() < 0.2:
            rows = np.where(rows > 0, np.nextafter(limits.high, 9.0), np.nextafter(limits.low, -9.0))
        self.propose("edge", self.chunk(rows))

    # -- proposals that cannot be read ---------------------------------------------------------------------------

    def _odd(self) -> None:
        rows = np.repeat(self.last[None], self.count(1, 3), axis=0)
        value = self.pick(_ODD)
        rows[self.count(1, len(rows)) - 1, self.count(1, len(self.names)) - 1] = value
        self.propose("odd", self.chunk(rows), bad=not np.isfinite(value))

    def _names(self) -> None:
        names = self.names
        wrong = (names[:-1], (*names, "extra"), ("a", *names[1:]), (names[0],) * len(names), (), names[:-1] + names[:1])
        given = self.pick(wrong)
        wide = len(given) if self.draw() < 0.7 else len(names)
        self.propose("names", self.chunk(np.zeros((1, wide)), names=given), bad=True)

    def _size(self) -> None:
        n = len(self.names)
        shape = self.pick(((1, n + 1), (1, n - 1), (n,), (1, 1, n), (n, 1), ()))
        self.propose("size", self.chunk(np.full(shape, 0.1)), bad=True)

    def _empty(self) -> None:
        n = len(self.names)
        self.propose("empty", self.chunk(np.empty(self.pick(((0, n), (0, 0), (0,), (1, 0))))), bad=True)

    def _abstain(self) -> None:
        self.propose("abstain", self.chunk(np.empty((0, len(self.names))), source=Source.FALLBACK), bad=True)

    def _period(self) -> None:
        period = self.pick((0, -1, -self.period, -(2**62), 1, 1000, _HOUR, 2**62))
        rows = self._walk[: self.count(1, 5)] * self.scale + self.last
        self.propose("period", self.chunk(rows, period=period), bad=period <= 0)

    def _long(self) -> None:
        rows = self._bank[: self.count(200, 5000)]
        self.propose("long", self.chunk(rows, period=self.pick((self.period, MS, 1))))

    # -- proposals at the wrong time -----------------------------------------------------------------------------

    def _some_rows(self) -> Vector:
        return self._row(self._far_rows) if self.draw() < 0.4 else self.last + self.scale * self._row(self._noise)

    def _past(self) -> None:
        back = int(300 * MS * self.draw())
        self.propose("past", self.chunk(self._some_rows(), start=self.now_ns - back), bad=back > 101 * MS)

    def _future(self) -> None:
        ahead = int(self.pick((25 * MS, 200 * MS, 2_000 * MS)) * self.draw())
        self.propose("future", self.chunk(self._some_rows(), start=self.now_ns + ahead), bad=ahead > 1_001 * MS)

    def _observed(self) -> None:
        off = self.pick((-99 * MS, -101 * MS, -_HOUR, 19 * MS, 21 * MS, _MINUTE))
        bad = abs(off) >= _MINUTE
        self.propose("observed", self.chunk(self._some_rows(), observed=self.now_ns + off), bad=bad)

    def _extreme(self) -> None:
        stamps = {key: self.now_ns for key in ("start", "observed", "decided")}
        key = self.pick(("start", "observed", "decided"))
        stamps[key] = self.pick((-(2**62), 2**62, -1, 0, self.now_ns - _HOUR))
        bad = key != "decided" and abs(stamps[key] - self.now_ns) > 2_000 * MS
        chunk = self.chunk(
            self._some_rows(), start=stamps["start"], observed=stamps["observed"], decided=stamps["decided"]
        )
        self.propose("extreme", chunk, bad=bad)

    def _gap(self) -> None:
        self.sequence[self.authority] += self.count(1, 1000)
        self.propose("gap", self.chunk(self._some_rows()))

    def _decided(self) -> None:
        off = self.pick((-_MINUTE, -200 * MS, 50 * MS, _MINUTE))
        self.propose("decided", self.chunk(self._some_rows(), decided=self.now_ns + off))

    # -- proposals that come in a strange way --------------------------------------------------------------------

    def _stranger(self) -> None:
        who = self.pick(tuple(o for o in (*_OPERATORS, "") if o != self.authority) or ("me",))
        self.propose("stranger", self.chunk(self._some_rows(), who=who), bad=True)

    def _replay(self) -> None:
        if not self.recent:
            return self._near()
        old = self.recent[-1] if self.draw() < 0.5 else self.recent[self.count(1, len(self.recent)) - 1]
        return self.propose("replay", old)

    def _burst(self) -> None:
        """Many at the same time, for now, for later and later, or for times before."""
        spread = self.pick((0, 0, self.period, -self.period, MS, 1))
        for k in range(self.count(2, 20)):
            self.propose("burst", self.chunk(self._some_rows(), start=self.now_ns + k * spread))

    def _late(self) -> None:
        """Silence, and then, all at once, what should have come meanwhile."""
        size = self.count(1, 8)
        ticks, self.tick_ns = self.tick_ns, self.tick_ns if self.draw() < 0.3 else 0
        self.wait(size * self.period + int(20 * MS * self.draw()))
        self.tick_ns, self.next_tick = ticks, max(self.next_tick, self.now_ns)
        ends = np.where(self._end_rows[self.count(0, 63)], self.limits.low, self.limits.high)[None]
        for k in range(size):
            rows = ends if self.draw() < 0.7 else self._some_rows()
            self.propose("late", self.chunk(rows, start=self.now_ns - (size - k) * self.period))

    def _reorder(self) -> None:
        chunks = []
        for _ in range(self.count(2, 4)):
            chunks.append(self.chunk(self._some_rows()))
            self.wait(self.pick((0, MS, 5 * MS)))
        for chunk in reversed(chunks):
            self.propose("reorder", chunk)

    # -- faults --------------------------------------------------------------------------------------------------

    def _fault_stall(self) -> None:
        ticks = self.tick_ns
        if self.draw() < 0.5:
            self.tick_ns = 0
        self.wait(int(self.pick((100, 100, 400, 2000)) * MS * self.draw()) + MS)
        self.tick_ns, self.next_tick = ticks, max(self.next_tick, self.now_ns)

    def _fault_stop(self) -> None:
        self.call("stop", "drawn")
        self.later(1, 30, self._rearm)

    def _rearm(self) -> None:
        try:
            self.call("rearm")
        except GuardError:
            if self.guard.state is GuardState.STOPPED:  # another cause persists
                self.later(1, 10, self._rearm)

    def _fault_inhibit(self) -> None:
        code = self.pick(_CODES)
        self.call("inhibit", code, "drawn")
        self.later(1, 20, lambda: self.call("release", code))

    def _fault_takeover(self) -> None:
        self.authority = self.pick(_OPERATORS)
        self.call("set_authority", self.authority)

    def _fault_nobody(self) -> None:
        self.authority = ""
        self.call("set_authority", "")
        self.later(1, 10, self._fault_takeover)

    def _fault_reset(self) -> None:
        """Announced, and carried out soon: time goes back, and the arm is somewhere else."""
        if self.fault_left or self.guard.reset_announced or self.top_ns == _NEVER:
            return
        self.call("announce_reset")
        # An older measurement would be taken for the reset already.
        for _ in range(0 if self._behind() else self.count(0, 3)):
            self.wait(self.pick((0, 5 * MS, self.period)))
            self._near()
        self.now_ns = min(self.now_ns, self.top_ns) - self.pick((1, MS, self.period, 1_000 * MS, _HOUR)) - 1
        self.next_tick = self.now_ns + self.tick_ns
        self._begin(self._place())
        if self.draw() < 0.2:
            self.fault, self.fault_left = self.pick(("state_odd", "state_far")), self.count(1, 5)
        # At once: when time has gone on past the last measurement, nothing has gone back.
        if self.draw() < 0.5:
            self.step()
        else:
            self.propose("near", self.chunk(self._some_rows()))

    def _fault_reset_unused(self) -> None:
        if not self.fault_left and not self._behind():
            self.call("announce_reset")

    def _reset_later(self) -> None:
        self.later(1, 25, self._fault_reset_now)

    def _fault_reset_now(self) -> None:
        self.fault_left = 0
        self.kinds["reset"] += 1
        self._fault_reset()

    def _fault_clock_glitch(self) -> None:
        """One call at another time."""
        now, off = self.now_ns, self._jump()
        self.now_ns, delay = now + off, self.delay
        self.delay += 0 if self.draw() < 0.5 and self._may_go_back() else off  # or the measurement's clock is right
        self.propose("near", self.chunk(self._some_rows()))
        self.now_ns, self.delay = now, delay

    def _fault_clock_back(self) -> None:
        if self._may_go_back():
            self.now_ns -= abs(self._jump())
            self.next_tick = self.now_ns + self.tick_ns

    def _fault_clock_ahead(self) -> None:
        self.now_ns += abs(self._jump())
        self.next_tick = self.now_ns + self.tick_ns

    def _jump(self) -> int:
        """A step of a clock [ns]; if it is a long one, there is a reset soon after."""
        off = int((self.draw() - 0.5) * self.pick((2 * MS, 50 * MS, 400 * MS, 400 * MS)))
        if self.draw() < 0.2:
            off = self.pick((-_HOUR, _HOUR, -5_000 * MS, 5_000 * MS))
            self._reset_later()
        return off

    def _may_go_back(self) -> bool:
        """Whether an older measurement would not be taken for a reset."""
        return bool(not self.guard.reset_announced)

    def _behind(self) -> bool:
        """Whether the next measurement would be older than one before."""
        return self.now_ns - self.delay < self.top_ns

    def _strike(self, fault: str, off_ns: int, longest: int) -> None:
        if not self.fault_left and self.sample is not None:
            self.fault, self.fault_ns, self.fault_left = fault, off_ns, self.count(1, longest)

    def _fault_state_frozen(self) -> None:
        self._strike("state_frozen", 0, 30)

    def _fault_state_older(self) -> None:
        if self._may_go_back():
            self._strike("state_older", -abs(self._jump()), 20)

    def _fault_state_ahead(self) -> None:
        if self._may_go_back():
            self._strike("state_ahead", abs(self._jump()), 5)

    def _fault_state_odd(self) -> None:
        self._strike("state_odd", 0, 20)

    def _fault_state_far(self) -> None:
        self._strike("state_far", 0, 20)

    def _fault_state_none(self) -> None:
        self._strike("state_none", 0, 5)


def _drawn(rng: np.random.Generator, weights: dict[str, float]) -> npt.NDArray[np.int64]:
    share = np.array(list(weights.values()))
    return rng.choice([PROPOSALS.index(k) for k in weights], _BLOCK, p=share / share.sum())


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(8192).tolist()
