"""Whose actions on a desktop may pass now, one at a time, before the guard looks at what they are. Pure."""

from __future__ import annotations

from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.desk_guard import DeskGuard, DeskVerdict
from optr.sentinel.rule import Finding

Key = tuple[str, int]
"""Of an action: who decided, and its number."""


class DeskWatch:
    """What holds the actions of a desktop besides the guard: authority, what is seen from outside, one at a time.

    Attributes:
        guard: Judges what passes here.
        authority: Operator whose actions pass; empty: nobody's.
        doing: The action that is being carried out; None: none is.
    """

    def __init__(self, guard: DeskGuard, authority: str = "") -> None:
        self.guard = guard
        self.authority = authority
        self.doing: Key | None = None
        self._inhibited: dict[str, Finding] = {}

    @property
    def state(self) -> GuardState:
        """READY, HOLDING or STOPPED."""
        if self.guard.state is GuardState.STOPPED:
            return GuardState.STOPPED
        return GuardState.HOLDING if self.reason is not None else GuardState.READY

    @property
    def reason(self) -> Finding | None:
        """Why it is not READY."""
        if self.blocked is not None:
            return self.blocked
        return self.guard.holding or (None if self.authority else Finding(Code.NO_ACTION, "nobody has the authority"))

    @property
    def blocked(self) -> Finding | None:
        """Why no action at all can pass now."""
        return self.guard.reason or next(iter(self._inhibited.values()), None)

    @property
    def stops(self) -> int:
        """How often it was stopped."""
        return self.guard.stops

    def inhibit(self, code: str, text: str) -> None:
        """Let nothing pass, for a reason seen from outside (a lost heartbeat, a stranger), until `release`."""
        self._inhibited[code] = Finding(code, text)

    def inhibited(self, code: str) -> bool:
        """Whether nothing passes for this reason."""
        return code in self._inhibited

    def release(self, code: str) -> None:
        """The outside reason is gone."""
        self._inhibited.pop(code, None)

    def stop(self, why: str, code: str = Code.STOP_REQUESTED) -> None:
        """Refuse everything until the guard is re-armed."""
        self.guard.stop(why, Code(code))

    def set_authority(self, operator_id: str) -> str:
        """Let another operator's actions through, or nobody's if empty; answers the previous one."""
        previous, self.authority = self.authority, operator_id
        return previous

    def against(self, operator_id: str) -> Finding | None:
        """What speaks against an action of somebody, whatever it is; None: nothing does."""
        if self.blocked is not None:
            return self.blocked
        if not self.authority or operator_id != self.authority:
            holder = f"it is with {self.authority}" if self.authority else "nobody has it"
            return Finding(Code.WRONG_AUTHORITY, f"{operator_id!r} has no authority; {holder}", operator_id)
        return None

    def busy(self) -> Finding:
        """That another action is to be over before."""
        if self.doing is None:
            return Finding(Code.BUSY, "the action before is still being judged")
        who, number = self.doing
        return Finding(Code.BUSY, f"action {number} of {who} is still being carried out", who)

    def refused(self, action: object, finding: Finding) -> DeskVerdict:
        """A verdict that is not the guard's, counted with its own."""
        outcome = Outcome.STOPPED if self.state is GuardState.STOPPED else Outcome.REFUSED
        self.guard.counts[outcome] += 1
        return DeskVerdict(action, outcome, finding)
