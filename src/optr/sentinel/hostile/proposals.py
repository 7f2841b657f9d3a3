"""The proposals that a hostile run throws: one method per kind."""

from __future__ import annotations

import numpy as np

from optr.sentinel.hostile.rig import BLOCK, HOUR, MINUTE, MS, ODD, OPERATORS, Rig
from optr.spec import Source
from optr.spec.values import Vector


class Proposals(Rig):
    """Kinds of proposals; the run draws from them."""

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
        row = self._smooth_rows[k % BLOCK]
        return np.asarray(row + past / self.period * (self._smooth_rows[(k + 1) % BLOCK] - row))

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
        value = self.pick(ODD)
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
        period = self.pick((0, -1, -self.period, -(2**62), 1, 1000, HOUR, 2**62))
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
        off = self.pick((-99 * MS, -101 * MS, -HOUR, 19 * MS, 21 * MS, MINUTE))
        bad = abs(off) >= MINUTE
        self.propose("observed", self.chunk(self._some_rows(), observed=self.now_ns + off), bad=bad)

    def _extreme(self) -> None:
        stamps = {key: self.now_ns for key in ("start", "observed", "decided")}
        key = self.pick(("start", "observed", "decided"))
        stamps[key] = self.pick((-(2**62), 2**62, -1, 0, self.now_ns - HOUR))
        bad = key != "decided" and abs(stamps[key] - self.now_ns) > 2_000 * MS
        chunk = self.chunk(
            self._some_rows(), start=stamps["start"], observed=stamps["observed"], decided=stamps["decided"]
        )
        self.propose("extreme", chunk, bad=bad)

    def _gap(self) -> None:
        self.sequence[self.authority] += self.count(1, 1000)
        self.propose("gap", self.chunk(self._some_rows()))

    def _decided(self) -> None:
        off = self.pick((-MINUTE, -200 * MS, 50 * MS, MINUTE))
        self.propose("decided", self.chunk(self._some_rows(), decided=self.now_ns + off))

    # -- proposals that come in a strange way --------------------------------------------------------------------

    def _stranger(self) -> None:
        who = self.pick(tuple(o for o in (*OPERATORS, "") if o != self.authority) or ("me",))
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
