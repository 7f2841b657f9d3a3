"""The built-in operators of desktops keep their contract."""

from __future__ import annotations

import pytest

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import to_json
from optr.operators.desk import make_desk_operator
from optr.operators.desk.contract import DeskOperator
from optr.operators.desk.testing import DeskOperatorContract


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
