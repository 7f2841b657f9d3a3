"""The contract of an operator as tests: inherit, give your operator, and every check runs under pytest.

class TestWave(OperatorContract):
def make(self, spec):
return Wave(spec)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from optr.operators.contract import Array, Operator
from optr.operators.host import OperatorHost
from optr.spec import Observation, Spec, load_spec

_STEPS = 20


class OperatorContract(ABC):
    """Checks that any operator must pass. Override `spec` to test with another robot."""

    @abstractmethod
    def make(self, spec: Spec) -> Operator:
        """A new operator."""

    def spec(self) -> Spec:
        """The spec to test with."""
        return load_spec("so101_tabletop")

    def observation(self, spec: Spec, step: int) -> dict[str, Array]:
        """A plausible observation: the arm at home, everything else at rest on the table."""
        values: dict[str, Array] = {}
        home = dict(zip(spec.action.names, spec.home_vector(), strict=True))
        for feature in spec.observations:
            if feature.is_image:
                values[feature.key] = np.full(feature.shape, 127, dtype=feature.dtype)
            elif feature is spec.state:
                values[feature.key] = np.array([home.get(n, 0.0) for n in feature.names], dtype=feature.dtype)
            else:
                rest = {"x": 0.22, "y": 0.05, "z": 0.0135, "qw": 1.0}
                values[feature.key] = np.array([rest.get(n, 0.0) for n in feature.names], dtype=feature.dtype)
        return values

    def run(self, operator: Operator, seed: int) -> list[Array | None]:
        """Actions of the first steps of an episode."""
        spec = operator.spec
        operator.reset(seed)
        out: list[Array | None] = []
        for step in range(_STEPS):
            seen = self.observation(spec, step)
            action = operator.select_action(
                _only(seen, operator), {"stamp": step * spec.period_ns * 1e-9, "step": step}
            )
            out.append(None if action is None else np.array(action, dtype=np.float64))
        return out

    def test_has_an_id_and_a_name(self) -> None:
        descriptor = self.make(self.spec()).descriptor
        assert descriptor.id, "an operator needs an id"
        assert descriptor.display_name, "an operator needs a name"

    def test_asks_only_for_features_of_the_spec(self) -> None:
        spec = self.spec()
        unknown = [k for k in self.make(spec).observation_keys if k not in spec.features]
        assert not unknown, f"asks for {unknown}; the spec has {list(spec.features)}"

    def test_actions_fit_the_spec(self) -> None:
        spec = self.spec()
        width = len(spec.action.names)
        for action in self.run(self.make(spec), seed=1):
            if action is None:
                continue
            rows = action[None, :] if action.ndim == 1 else action
            assert rows.ndim == 2, f"shape {action.shape}; expected ({width},) or (rows, {width})"
            assert rows.shape[1] == width, f"shape {action.shape}; expected ({width},) or (rows, {width})"
            assert np.isfinite(rows).all(), "holds a value that is not finite"

    def test_same_seed_same_actions(self) -> None:
        one, other = self.make(self.spec()), self.make(self.spec())
        _assert_equal(self.run(one, seed=7), self.run(other, seed=7))

    def test_reset_forgets_the_episode(self) -> None:
        operator = self.make(self.spec())
        first = self.run(operator, seed=7)
        self.run(operator, seed=8)
        _assert_equal(first, self.run(operator, seed=7))

    def test_leaves_the_observation_alone(self) -> None:
        operator = self.make(self.spec())
        operator.reset(3)
        seen = _only(self.observation(operator.spec, 0), operator)
        before = {k: v.copy() for k, v in seen.items()}
        operator.select_action(seen, {"stamp": 0.0, "step": 0})
        for key, value in before.items():
            assert np.array_equal(value, seen[key]), f"changed {key}"

    def test_listens_to_results(self) -> None:
        operator = self.make(self.spec())
        self.run(operator, seed=1)
        seen = _only(self.observation(operator.spec, 1), operator)
        operator.on_step_result(seen, 0.5, True, False, {"step": _STEPS})
        operator.reset(2)
        assert operator.id, "still there"

    def test_runs_in_a_host(self) -> None:
        operator = self.make(self.spec())
        host = OperatorHost(operator)
        host.reset(1)
        seen = _only(self.observation(operator.spec, 0), operator)
        chunk = host.decide(Observation(10**9, seen, {k: 10**9 for k in seen}))
        assert (chunk.operator_id, chunk.sequence) == (operator.id, 1)


def _only(seen: Mapping[str, Array], operator: Operator) -> dict[str, Any]:
    wanted = {operator.spec.state.key, *operator.observation_keys}
    return {k: v for k, v in seen.items() if k in wanted}


def _assert_equal(one: list[Array | None], other: list[Array | None]) -> None:
    assert len(one) == len(other)
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        assert (a is None) == (b is None), f"step {step}: abstains only once"
        if a is not None and b is not None:
            assert np.array_equal(a, b), f"step {step}: {a} and {b}"
