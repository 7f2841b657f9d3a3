"""What goes wrong around the proposals of a hostile run: one method per kind."""

from __future__ import annotations

from optr.errors import GuardError
from optr.sentinel.codes import GuardState
from optr.sentinel.hostile.proposals import Proposals
from optr.sentinel.hostile.rig import CODES, HOUR, MS, OPERATORS

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


class Faults(Proposals):
    """Kinds of faults; the run draws from them."""

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
        code = self.pick(CODES)
        self.call("inhibit", code, "drawn")
        self.later(1, 20, lambda: self.call("release", code))

    def _fault_takeover(self) -> None:
        self.authority = self.pick(OPERATORS)
        self.call("set_authority", self.authority)

    def _fault_nobody(self) -> None:
        self.authority = ""
        self.call("set_authority", "")
        self.later(1, 10, self._fault_takeover)

    def _fault_reset(self) -> None:
        """Announced, and carried out soon: time goes back, and the arm is somewhere else."""
        newest = self.guard.newest_ns
        if self.fault_left or self.guard.reset_announced or newest is None or not self.track.stamps:
            return
        self.call("announce_reset")
        # An older measurement would be taken for the reset already.
        for _ in range(0 if self._behind() else self.count(0, 3)):
            self.wait(self.pick((0, 5 * MS, self.period)))
            self._near()
        back = self.pick((1, MS, self.period, 1_000 * MS, HOUR))
        self.now_ns = min(self.now_ns, self.guard.newest_ns or 0) - back - 1
        self.next_tick = self.now_ns + self.tick_ns
        self.begin(self._place())
        if self.draw() < 0.2:
            self.fault, self.fault_left = self.pick(("state_odd", "state_far")), self.count(1, 5)
        # At once: when time has gone on past the last measurement, nothing has gone back.
        calls = self.calls
        if self.draw() < 0.5:
            self.propose("near", self.chunk(self._some_rows()))
        if self.calls == calls:  # also where the run has no proposal left
            self.step()

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
            off = self.pick((-HOUR, HOUR, -5_000 * MS, 5_000 * MS))
            self._reset_later()
        return off

    def _may_go_back(self) -> bool:
        """Whether an older measurement would not be taken for a reset."""
        return not self.guard.reset_announced

    def _behind(self) -> bool:
        """Whether the next measurement would be older than one before."""
        newest = self.guard.newest_ns
        return newest is not None and self.now_ns - self.delay < newest

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
