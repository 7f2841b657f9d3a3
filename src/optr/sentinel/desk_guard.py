"""The guard of a desktop: one action, one verdict; whatever is not allowed is refused. Pure: it never reads a clock.

Whoever carries actions out asks `judge` before each, does what is allowed and nothing else, sees in the moment of each
input that what the verdict expects under the pointer and at the keyboard is still there, where it was, and tells `over`
what came of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.actions import ActionClass
from optr.connectors.desktop.chords import chord
from optr.connectors.desktop.codec import check_action, to_text
from optr.connectors.desktop.view import DeskView, Pixel
from optr.errors import DesktopError, GuardError
from optr.secret import Secret
from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.desk_conditions import DeskDuty, failing
from optr.sentinel.desk_config import DeskConfig
from optr.sentinel.desk_doing import Doing, Held, NotThereError, doing_of
from optr.sentinel.desk_rules import Asked, ProgramsRule, SecretsRule, WindowPattern, like
from optr.sentinel.rule import Finding

_REMEMBERED = 4096
"""Characters typed before that are looked at together with what is typed: a key in parts is a key."""

_MOST_REQUESTS = 32

_LETS_GO = (a.KeyUp, a.Release, a.Done, a.Fail)
"""Never refused for a budget: who has used it up can still let go and end."""

_READ_ONLY = (a.Wait, a.Done, a.Fail, a.Ask)


RECOVERY = "recovery"
"""Who proposes what may lead out of where something that must hold does not."""


@dataclass(frozen=True)
class DeskVerdict:
    """What the guard made of one action.

    Attributes:
        action: That was proposed.
        outcome: ALLOWED, REFUSED or STOPPED.
        finding: Why it is not allowed; None: it is.
        reach: How far it reaches; None where that was not looked at.
        request: Id by which a person can confirm it; empty: nobody needs to.
        pixels: Where the pointer acts, in order, each with the id of the window that has to lie there (0: none).
        keyboard: Id of the window that has to have the keyboard when keys are given; 0: none are.
        before: What was held before it.
    """

    action: Any
    outcome: Outcome
    finding: Finding | None = None
    reach: ActionClass | None = None
    request: str = ""
    pixels: tuple[tuple[Pixel, int], ...] = ()
    keyboard: int = 0
    before: Held = field(default_factory=Held)

    @property
    def allowed(self) -> bool:
        """Whether it may be carried out."""
        return self.outcome is Outcome.ALLOWED

    @property
    def code(self) -> str:
        """Code of the rule that refused it; empty: none did."""
        return "" if self.finding is None else str(self.finding.code)

    @property
    def text(self) -> str:
        """The same for people."""
        return "" if self.finding is None else self.finding.text


@dataclass
class _Hold:
    """Why nothing is done although nobody proposed anything wrong."""

    code: Code
    duty: DeskDuty
    left: tuple[a.DesktopAction, ...]
    trying: a.DesktopAction | None = None
    result: a.ActionResult | None = None

    def failing(self, view: DeskView) -> str:
        conditions = self.duty.before if self.code is Code.PRECONDITION else self.duty.after
        return failing(conditions, view, self.result)


class DeskGuard:
    """Judges the actions of one desktop.

    Attributes:
        config: What is allowed.
        held: Keys and buttons that actions have pressed and not released.
        counts: Verdicts since it was made, by outcome.
        stops: Stops since it was made.
    """

    def __init__(self, config: DeskConfig, secrets: Sequence[Secret] = ()) -> None:
        self.config = config
        self.held = Held()
        self.counts: Counter[Outcome] = Counter()
        self.stops = 0
        self._secrets = tuple(secrets)
        self._programs = config.rule(ProgramsRule)
        self._chords = [chord(text) for text in config.classes.chords]
        self._times: deque[int] = deque()
        self._steps = 0
        self._began_ns: int | None = None
        self._last_ns: int | None = None
        self._typed = ""
        self._serial = 0
        self._requests: dict[str, str] = {}
        self._confirmed: dict[str, int] = {}
        self._stop: Finding | None = None
        self._task = ""
        self._hold: _Hold | None = None

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def state(self) -> GuardState:
        """READY, HOLDING or STOPPED."""
        if self._stop is not None:
            return GuardState.STOPPED
        return GuardState.HOLDING if self._hold is not None else GuardState.READY

    @property
    def reason(self) -> Finding | None:
        """Why it is stopped, if it is."""
        return self._stop

    @property
    def holding(self) -> Finding | None:
        """What must hold and did not when it was looked at last, if that holds everything."""
        hold = self._hold
        return None if hold is None else Finding(hold.code, f"{hold.duty.name}: not met", hold.duty.name)

    @property
    def requests(self) -> tuple[str, ...]:
        """Ids that wait for a person, oldest first."""
        return tuple(self._requests)

    @property
    def recovery(self) -> tuple[a.DesktopAction, ...]:
        """What is left to be tried while it is held."""
        return () if self._hold is None else self._hold.left

    def take_recovery(self) -> a.DesktopAction | None:
        """The next of it, which `judge` with `recovering` then lets through once; None: nothing is left."""
        hold = self._hold
        if hold is None or not hold.left:
            return None
        hold.trying, *left = hold.left
        hold.left = tuple(left)
        return hold.trying

    def still(self, view: DeskView) -> str:
        """Look again at what must hold.

        Returns:
            What does not; empty: everything does, and nothing is held any more.
        """
        said = "" if self._hold is None else self._hold.failing(view)
        if not said:
            self._hold = None
        return said

    def keeps(self, text: str) -> bool:
        """Whether a text holds a secret that was given, or what looks like one."""
        given = any(secret.redact(text) != text for secret in self._secrets)
        return given or self.config.rule(SecretsRule).looks(text)

    def stop(self, why: str, code: Code = Code.STOP_REQUESTED) -> None:
        """Refuse everything until `rearm`. Whoever holds keys and buttons releases them."""
        if self._stop is None:
            self._stop = Finding(code, why)
            self.stops += 1
        self._requests.clear()
        self._confirmed.clear()

    def rearm(self) -> None:
        """A person ends a stop, when everything has been released; or, without one, takes it that something fails.

        Raises:
            GuardError: If no stop is latched and nothing that must hold fails.
        """
        if self._stop is None and self._hold is None:
            raise GuardError("no stop is latched, and nothing is held")
        if self._stop is None:
            self._hold = None
            return
        self._stop = None
        self.let_go()

    def let_go(self) -> None:
        """Every key and button has been released."""
        self.held = Held()

    def confirm(self, request: str, now_ns: int) -> None:
        """A person allows one irreversible action, once, for a while. Never called by who proposes.

        Raises:
            GuardError: If nothing of that id waits for it.
        """
        if self._stop is not None:
            raise GuardError(f"nothing is confirmed while it is stopped: {self._stop.text}")
        if request not in self._requests:
            raise GuardError(f"no request {request!r}; there are: {', '.join(self._requests) or 'none'}")
        self._confirmed[self._requests.pop(request)] = now_ns + round(self.config.classes.valid * 1e9)

    def deny(self, request: str) -> None:
        """A person does not allow it.

        Raises:
            GuardError: If nothing of that id waits for it.
        """
        if self._requests.pop(request, None) is None:
            raise GuardError(f"no request {request!r}; there are: {', '.join(self._requests) or 'none'}")

    def begin_task(self, name: str, view: DeskView, now_ns: int) -> str:
        """A task begins: budgets begin anew, and what must hold before it is looked at until it does.

        Returns:
            What does not hold; empty: everything does.
        """
        self._task, self._hold = name, None
        self._steps, self._began_ns = 0, now_ns
        self._times.clear()
        self._typed = ""
        return self._look(Code.PRECONDITION, self.config.tasks.get(name), view)

    def end_task(self, view: DeskView) -> str:
        """The task is over; what must hold after it is looked at.

        Returns:
            What does not hold; empty: everything does.
        """
        self._hold = None
        return self._look(Code.POSTCONDITION, self.config.tasks.get(self._task), view)

    # -- actions -------------------------------------------------------------------------------------------------

    def judge(self, action: Any, view: DeskView, now_ns: int, recovering: bool = False) -> DeskVerdict:
        """Whether an action may be carried out now.

        Args:
            action: Anything; what is no action of a desktop is refused.
            view: The desktop, with everything that the action's selectors were resolved to.
            now_ns: Time of the clock that stamps the view [ns].
            recovering: Whether it is what `take_recovery` gave, which may be tried while the guard is held.
        """
        if self._stop is not None:
            return self._given(DeskVerdict(action, Outcome.STOPPED, self._stop))
        try:
            verdict = self._judge(action, view, now_ns, recovering)
        except Exception as err:  # whatever goes wrong here must not let anything through
            found = Finding(Code.RULE_FAILED, f"{type(err).__name__}: {err}")
            verdict = DeskVerdict(action, Outcome.REFUSED, found)
        return self._given(verdict)

    def is_irreversible(self, name: str) -> bool:
        """Whether to act on an element of this name is."""
        return any(like(name, known) for known in self.config.classes.elements)

    def looks_after(self, action: a.DesktopAction) -> bool:
        """Whether `over` looks at the desktop once an action is over."""
        return self._hold is not None or action.kind in self.config.actions

    def over(self, verdict: DeskVerdict, result: a.ActionResult, view: DeskView) -> str:
        """An allowed action is over; what must hold after its kind is looked at.

        Args:
            verdict: Its verdict.
            result: What came of it.
            view: The desktop afterwards.

        Returns:
            What does not hold; empty: everything does.
        """
        if result.refused == Code.OBSERVATION_STALE:  # what it pressed was released again
            self.held = verdict.before
        elif not result.executed:  # nobody knows how far it came
            before, now = verdict.before, self.held
            self.held = Held(now.down | before.down, now.buttons | before.buttons)
        if self._hold is not None:
            self._hold.result = result
            return self._hold.failing(view)
        return self._look(Code.POSTCONDITION, self.config.actions.get(verdict.action.kind), view, result)

    def _given(self, verdict: DeskVerdict) -> DeskVerdict:
        self.counts[verdict.outcome] += 1
        return verdict

    def _judge(self, action: Any, view: DeskView, now_ns: int, recovering: bool) -> DeskVerdict:
        found = self._about_time(view, now_ns) or _about_form(action) or self._about_hold(action, view, recovering)
        if found is not None:
            return DeskVerdict(action, Outcome.REFUSED, found)
        try:
            doing = doing_of(action, view, self.held)
        except NotThereError as err:
            return DeskVerdict(action, Outcome.REFUSED, Finding(err.code, str(err)))
        found = self._about_rules(doing, view) or self._about_budget(action, now_ns) or self._about_duty(action, view)
        reach = self._reach(doing, view)
        if found is not None:
            return DeskVerdict(action, Outcome.REFUSED, found, reach)
        found, request = self._about_class(doing, reach, now_ns)
        if found is not None:
            return DeskVerdict(action, Outcome.REFUSED, found, reach, request)
        before = self.held
        self._let_through(doing, now_ns)
        return DeskVerdict(action, Outcome.ALLOWED, None, reach, "", _pixels(doing), _keyboard(doing), before)

    def _let_through(self, doing: Doing, now_ns: int) -> None:
        self.held = doing.after
        self._times.append(now_ns)
        self._steps += 1
        typed = (self._typed + doing.typed)[-_REMEMBERED:]
        kept = any(secret.redact(typed) != typed for secret in self._secrets)  # it was typed where it may be
        self._typed = "" if kept else typed

    # -- reasons -------------------------------------------------------------------------------------------------

    def _about_time(self, view: DeskView, now_ns: int) -> Finding | None:
        if self._last_ns is not None and now_ns < self._last_ns:
            return Finding(Code.CLOCK_BACKWARDS, f"it is {(self._last_ns - now_ns) * 1e-9:.3f} s earlier than before")
        self._last_ns = now_ns
        if self._began_ns is None:
            self._began_ns = now_ns
        age = (now_ns - view.stamp_ns) * 1e-9
        fresh = self.config.freshness
        if age > fresh.oldest:
            return Finding(
                Code.OBSERVATION_STALE, f"the desktop was seen {age:.3f} s ago", value=age, limit=fresh.oldest
            )
        if -age > fresh.ahead:
            return Finding(Code.OBSERVATION_AHEAD, f"the desktop was seen {-age:.3f} s from now", value=-age)
        wrong = view.wrong()
        return Finding(Code.BAD_VIEW, wrong) if wrong else None

    def _about_hold(self, action: Any, view: DeskView, recovering: bool) -> Finding | None:
        hold = self._hold
        if hold is None:
            return None
        said = self.still(view)
        if not said:
            return None
        if recovering and action == hold.trying:
            hold.trying = None
            return None
        return Finding(hold.code, f"{hold.duty.name}: {said}", hold.duty.name)

    def _about_rules(self, doing: Doing, view: DeskView) -> Finding | None:
        if doing.needs_keyboard and doing.keyboard is None:
            return Finding(Code.NO_FOCUS, "no window has the keyboard")
        asked = Asked(doing, view, self._secrets, self._typed)
        return next((found for rule in self.config.rules if (found := rule.check(asked)) is not None), None)

    def _about_budget(self, action: Any, now_ns: int) -> Finding | None:
        budget = self.config.budget
        while self._times and now_ns - self._times[0] >= budget.window * 1e9:
            self._times.popleft()
        if isinstance(action, _LETS_GO):
            return None
        if len(self._times) >= budget.actions:
            return Finding(Code.RATE_LIMIT, f"{len(self._times)} actions within {budget.window:g} s")
        if self._steps >= budget.steps:
            return Finding(Code.STEP_BUDGET, f"{self._steps} actions in this task")
        if self._began_ns is not None and now_ns - self._began_ns > budget.time * 1e9:
            return Finding(Code.TIME_BUDGET, f"the task is older than {budget.time:g} s")
        return None

    def _about_duty(self, action: Any, view: DeskView) -> Finding | None:
        duty = self.config.actions.get(action.kind)
        said = "" if duty is None else failing(duty.before, view)
        return Finding(Code.PRECONDITION, f"{action.kind}: {said}", action.kind) if said else None

    def _about_class(self, doing: Doing, reach: ActionClass, now_ns: int) -> tuple[Finding | None, str]:
        response = self.config.classes.response(reach)
        if response == "allow":
            return None, ""
        if response == "refuse":
            return Finding(Code.CLASS_FORBIDDEN, f"it is {_words(reach)}, which is refused here"), ""
        key = _fingerprint(doing)
        until_ns = self._confirmed.pop(key, None)
        if until_ns is not None and now_ns <= until_ns:
            return None, ""
        return Finding(Code.CONFIRMATION_NEEDED, f"it is {_words(reach)}: a person has to confirm it"), self._ask(key)

    def _ask(self, key: str) -> str:
        """The id by which a person can confirm what has this fingerprint."""
        waiting = next((request for request, known in self._requests.items() if known == key), "")
        if waiting:
            return waiting
        self._serial += 1
        request = hashlib.sha256(f"{self._serial}:{key}".encode()).hexdigest()[:12]
        self._requests[request] = key
        while len(self._requests) > _MOST_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return request

    def _look(self, code: Code, duty: DeskDuty | None, view: DeskView, result: a.ActionResult | None = None) -> str:
        if duty is None:
            return ""
        hold = _Hold(code, duty, duty.recover * duty.retries, result=result)
        said = hold.failing(view)
        if said:
            self._hold = hold
        return said

    # -- classes -------------------------------------------------------------------------------------------------

    def _reach(self, doing: Doing, view: DeskView) -> ActionClass:
        action = doing.action
        if self._irreversible(doing, view):
            return ActionClass.IRREVERSIBLE
        if isinstance(action, a.Launch) and (program := self._programs.named(action.program)) is not None:
            return ActionClass(program.reach)
        hovers = isinstance(action, a.Move) and not self.held.buttons
        return ActionClass.READ_ONLY if hovers or isinstance(action, _READ_ONLY) else ActionClass.REVERSIBLE

    def _irreversible(self, doing: Doing, view: DeskView) -> bool:
        classes, action = self.config.classes, doing.action
        if action.kind in classes.kinds:
            return True
        if isinstance(action, a.Focus | a.KeyUp) or (isinstance(action, a.Move) and not self.held.buttons):
            return False
        elements = [t.element for t in doing.touches]
        elements += [view.focus, *view.reachable] if doing.needs_keyboard else []
        if any(self.is_irreversible(e.name) for e in elements if e is not None):
            return True
        if any(_fits_any(w, classes.windows) for w in doing.reached):
            return True
        return any(known <= down for known in self._chords for down in doing.chords)


# -- helpers -----------------------------------------------------------------------------------------------------


def _about_form(action: Any) -> Finding | None:
    kind = getattr(type(action), "kind", None)
    if not isinstance(kind, str) or a.ACTIONS.get(kind) is not type(action):
        return Finding(Code.UNKNOWN_ACTION, f"{type(action).__name__} is no action; there are: {', '.join(a.ACTIONS)}")
    try:
        check_action(action)
    except DesktopError as err:
        return Finding(Code.BAD_ACTION, str(err), kind)
    return None


def _fits_any(window: Any, patterns: Sequence[WindowPattern]) -> bool:
    return window is not None and any(p.fits(window) for p in patterns)


def _pixels(doing: Doing) -> tuple[tuple[Pixel, int], ...]:
    return tuple((t.pixel, t.window.id if t.window else 0) for t in doing.touches if t.pixel is not None)


def _keyboard(doing: Doing) -> int:
    if doing.keyboard is None or isinstance(doing.action, a.SetValue):  # the latter needs no keyboard
        return 0
    return doing.keyboard.id


def _words(reach: ActionClass) -> str:
    return reach.value.replace("_", "-")


def _fingerprint(doing: Doing) -> str:
    """What a person confirms: the action, where it acts and on what; with anything else there it is another one."""
    windows = [(w.id, w.title) for w in doing.reached if w is not None]
    elements = [(t.element.role, t.element.name) for t in doing.touches if t.element is not None]
    pixels = [t.pixel for t in doing.touches]
    whole = [to_text(doing.action), windows, elements, pixels, [sorted(c) for c in doing.chords]]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()
