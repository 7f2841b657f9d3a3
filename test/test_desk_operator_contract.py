"""The built-in operators of desktops keep their contract."""

from __future__ import annotations

import numpy as np
import pytest

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import to_json
from optr.errors import InvalidDecisionError, OperatorError, UnknownNameError
from optr.operators import Operator
from optr.operators.desk import PICTURE, POINTER, WINDOWS, make_desk_operator
from optr.operators.desk.contract import DeskOperator
from optr.operators.desk.numeric import KEYS, KINDS, action_of, desk_spec
from optr.operators.desk.testing import DeskOperatorContract
from optr.spec import STATE, Source


class TestScript(DeskOperatorContract):
    def make(self):
        return make_desk_operator("script", actions=[to_json(a.Key("enter")), to_json(a.Type("x"))])


class TestRandom(DeskOperatorContract):
    steps = 100

    def make(self):
        return make_desk_operator("random", kinds=tuple(a.ACTIONS), programs=["calculator"])

    def test_it_does_everything_there_is(self):
        done = {action.kind for seed in range(3) for action in self.play(self.make(), seed)}
        assert done == set(a.ACTIONS)


class TestHuman(DeskOperatorContract):
    def make(self):
        return make_desk_operator("human")


class TestNumeric(DeskOperatorContract):
    steps = 60

    def make(self):
        return make_desk_operator("numeric", operator="random")


class Pointing(Operator):
    """Clicks where the pointer is; sees the screen."""

    source = Source.POLICY

    @property
    def observation_keys(self):
        return (STATE, PICTURE)

    def select_action(self, observation, info):
        assert observation[PICTURE].shape == (20, 32, 3)
        x, y = observation[STATE][:2]
        return np.array([KINDS.index("click"), x, y, 0, 0, 0, 0, 0])


class TestNumericThatSees(DeskOperatorContract):
    @pytest.fixture(autouse=True)
    def _known(self, monkeypatch):
        monkeypatch.setattr("optr.operators.registry.load_plugin", lambda kind, name: Pointing)

    def make(self):
        return make_desk_operator("numeric", operator="pointing", width=32, height=20)

    def test_it_is_told_the_desktop_in_numbers(self):
        operator = self.make()
        assert operator.observation_keys == (WINDOWS, POINTER, PICTURE) and operator.source is Source.POLICY
        action = self.play(operator, 1)[0]
        assert action.kind == "click" and (action.at.x, action.at.y) == pytest.approx((15 / 320, 15 / 200))


@pytest.mark.parametrize(
    ("kind", "numbers", "wanted"),
    [
        ("nothing", {}, None),
        ("move", {"x": 0.25, "y": 1.0}, a.Move(a.Point(0.25, 1.0))),
        ("double_click", {"x": 0.25}, a.Click(a.Point(0.25, 0.0), count=2)),
        ("right_click", {}, a.Click(a.Point(0.0, 0.0), "right")),
        ("drag", {"to_x": 0.5, "to_y": 0.75}, a.Drag((a.Point(0.0, 0.0), a.Point(0.5, 0.75)))),
        ("scroll", {"dy": -2.6}, a.Scroll(a.Point(0.0, 0.0), 0, -3)),
        ("scroll", {"dy": 0.2}, None),
        ("key", {"key": KEYS.index("q")}, a.Key("q")),
        ("done", {}, a.Done()),
    ],
)
def test_a_vector_stands_for_an_action(kind, numbers, wanted):
    spec = desk_spec()
    given = {"kind": KINDS.index(kind), **numbers}
    assert action_of(spec, np.array([given.get(name, 0.0) for name in spec.action.names], dtype=float)) == wanted


def test_a_vector_beyond_its_limits_stands_for_nothing_else():
    with pytest.raises(InvalidDecisionError, match="x is 1.01, expected 0 to 1"):
        action_of(desk_spec(), np.array([1, 1.01, 0, 0, 0, 0, 0, 0]))
    with pytest.raises(UnknownNameError, match="no operator named 'clack'"):
        make_desk_operator("numeric", operator="clack")
    with pytest.raises(OperatorError, match="scripted_reach moves an arm"):
        make_desk_operator("numeric", operator="scripted_reach")


class Careless(DeskOperator):
    """Decides by the clock of its process, and on nothing."""

    count = 0

    def select_action(self, observation, info):
        Careless.count += 1
        return a.Key("a", 1 + Careless.count % 100)


class TestTheKit:
    """It finds what is wrong."""

    @pytest.mark.parametrize(
        "check",
        ["same_seed_same_actions", "reset_forgets_the_episode", "without_what_it_asks_for_it_does_nothing_or_says_so"],
    )
    def test_who_is_careless_is_found_out(self, check):
        kit = type("Kit", (DeskOperatorContract,), {"make": lambda self: Careless()})()
        with pytest.raises(AssertionError):
            getattr(kit, f"test_{check}")()
