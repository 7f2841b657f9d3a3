"""The contract of a rule as tests: inherit, give your rule and what it must catch, and every check runs under pytest.

class TestTilt(RuleContract):
def make(self):
return Tilt(most=0.5)

def bad(self):
yield self.situation(1, position=self.home() + 0.6), None
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import is_dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from optr.sentinel.codes import Response
from optr.sentinel.decode import settings_of
from optr.sentinel.rule import Finding, PathRule, ProposalRule, Rule, Seen, Situation, WatchRule
from optr.sentinel.rules.limits import LimitRule
from optr.spec import ActionChunk, JointSample, Spec, load_spec
from optr.spec.values import Vector

_BEGIN_NS = 1_000_000_000
_STEPS = 100


@lru_cache(maxsize=1)
def _shipped_spec() -> Spec:
    return load_spec("so101_tabletop")


Case = tuple[Situation, Vector | None]
"""What a rule is asked about: the situation and, for a `PathRule`, the way, shape (m, n)."""


class RuleContract(ABC):
    """Checks that any rule must pass. Override `spec` to test with another robot."""

    @abstractmethod
    def make(self) -> Rule:
        """A new rule, not yet bound."""

    @abstractmethod
    def bad(self) -> Iterable[Case]:
        """Situations, in order, of which the rule must find something in at least one."""

    pictures = False
    """Whether situations hold pictures; set it for a rule that looks at them."""

    def spec(self) -> Spec:
        """The robot to test with."""
        return _shipped_spec()

    def home(self) -> Vector:
        """Its ready pose [rad or m], shape (n,)."""
        return self.spec().home_vector()

    def good(self) -> Iterable[Case]:
        """Situations that must not disturb the rule: an arm that moves a little, watched and commanded well."""
        for k in range(_STEPS):
            yield self.situation(k), self.way(k)

    def situation(self, step: int, position: Vector | None = None, **changes: Any) -> Situation:
        """A plausible situation; `position` is where the arm is measured, `changes` replace fields."""
        spec, now = self.spec(), _BEGIN_NS + step * self.spec().period_ns
        at = self._wave(step) if position is None else position
        chunk = ActionChunk("tester", step + 1, spec.action.names, at[None, :], now, now, spec.period_ns, now)
        seen = {}
        for f in spec.observations:
            if f.is_image and self.pictures:
                ramp = np.arange(np.prod(f.shape), dtype=np.int64) * 31 + step * 57
                seen[f.key] = Seen(now, (ramp % 251).astype(f.dtype).reshape(f.shape))
            elif not f.is_image and f is not spec.state:
                seen[f.key] = Seen(now, np.zeros(f.shape, dtype=f.dtype))
        made = Situation(now, JointSample(now, at, np.zeros_like(at)), "tester", chunk, at, np.zeros_like(at), seen)
        return replace(made, **changes)

    def way(self, step: int) -> Vector:
        """A short way near the ready pose, shape (2, n)."""
        return np.array([self._wave(step), self._wave(step + 1)])

    def _wave(self, step: int) -> Vector:
        return np.asarray(self.home() + 0.01 * math.sin(0.1 * step))

    def ask(self, rule: Rule, case: Case) -> Finding | None:
        """What a rule says."""
        at, way = case
        if isinstance(rule, PathRule):
            return rule.check(at, way if way is not None else self.way(0))
        if isinstance(rule, ProposalRule):
            return rule.check(at)
        if isinstance(rule, WatchRule):
            return rule.check(replace(at, chunk=None))
        raise AssertionError(f"{rule!r} is no ProposalRule, WatchRule or PathRule")

    def bound(self) -> Rule:
        """A new rule, bound to the robot."""
        rule = self.make()
        rule.bind(self.spec())
        return rule

    # -- the checks ----------------------------------------------------------------------------------------------

    def test_says_what_it_is(self) -> None:
        rule = self.make()
        assert rule.name, "a rule needs a name"
        assert rule.name == rule.name.lower(), "names in configuration are lower case"
        assert rule.__doc__, "a rule needs a docstring: it is what users read"
        assert rule.codes, "a rule needs a code"
        assert all(c == c.upper() for c in map(str, rule.codes)), "codes are upper case"

    def test_says_what_may_be_done_about_it(self) -> None:
        rule = self.make()
        assert rule.responses, "say what may be done about it; the first is the default"
        assert all(isinstance(r, Response) for r in rule.responses)
        if not isinstance(rule, LimitRule):
            assert Response.LIMIT not in rule.responses, "only the motion limits can limit"

    def test_settings_have_a_meaning_and_a_range_that_holds_the_default(self) -> None:
        rule = self.make()
        if not is_dataclass(rule):
            return
        for name, known in settings_of(type(rule)).items():
            assert known.text, f"setting {name} needs a meaning"
            value = getattr(type(rule)(), name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert known.low is not None, f"setting {name} needs a range"
                assert known.high is not None, f"setting {name} needs a range"
                assert known.low <= value <= known.high, f"the default of {name} is out of its range"

    def test_is_quiet_when_all_is_well(self) -> None:
        rule = self.bound()
        for k, case in enumerate(self.good()):
            assert self.ask(rule, case) is None, f"step {k}"

    def test_finds_what_is_bad(self) -> None:
        rule = self.bound()
        assert not rule.idle, f"idle with {self.spec().name}: {rule.idle}"
        found = [f for case in self.bad() if (f := self.ask(rule, case)) is not None]
        assert found, "nothing was found in what is bad"
        for finding in found:
            assert finding.code in rule.codes, f"gives {finding.code}, which is not among its codes"
            assert finding.text, "a finding needs a text"

    def test_reset_forgets(self) -> None:
        rule = self.bound()
        for case in self.bad():
            self.ask(rule, case)
        rule.reset()
        for k, case in enumerate(self.good()):
            assert self.ask(rule, case) is None, f"step {k} after a reset"

    def test_same_situations_same_findings(self) -> None:
        one, other = self.bound(), self.bound()
        cases = [*self.good(), *self.bad()]
        assert [str(self.ask(one, c)) for c in cases] == [str(self.ask(other, c)) for c in cases]

    def test_leaves_the_situation_alone(self) -> None:
        rule = self.bound()
        for case in [*self.good(), *self.bad()]:
            at, way = case
            before = (at.state.position.copy(), at.position.copy(), None if way is None else way.copy())
            self.ask(rule, case)
            assert np.array_equal(at.state.position, before[0], equal_nan=True)
            assert np.array_equal(at.position, before[1], equal_nan=True)
            assert way is None or np.array_equal(way, before[2], equal_nan=True)  # type: ignore[arg-type]
