"""The contract of an operator of desktops as tests: inherit, give your operator, and every check runs under pytest.

class TestMine(DeskOperatorContract):
    def make(self):
        return Mine()
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np

from optr.connectors.desktop.actions import ActionResult, DesktopAction, Effect, Rect
from optr.connectors.desktop.codec import check_action, to_text
from optr.connectors.desktop.seen import Element, Window
from optr.errors import OperatorError
from optr.operators.desk.contract import ELEMENTS, KEYS, PICTURE, POINTER, WINDOWS, DeskOperator

_SIZE = (320, 200)
_DONE = ActionResult(True, Effect.CONFIRMED, Rect(10, 10, 20, 20), 1, 2, 2, (15, 15))
_REFUSED = ActionResult(False, refused="WINDOW_FORBIDDEN", text="it may not be reached")


class DeskOperatorContract:
    """The checks; no desktop is needed for them."""

    steps = 12
    """Decisions of an episode."""

    @abstractmethod
    def make(self) -> DeskOperator:
        """A new operator; two that are made are alike."""

    def observation(self, step: int) -> dict[str, Any]:
        """What is seen at a step: a window with a button in it, on a picture that changes."""
        picture = np.full((_SIZE[1], _SIZE[0], 3), 10 * step % 256, dtype=np.uint8)
        picture.setflags(write=False)
        rect = Rect(20, 30, 200, 100)
        window = Window(77, "A calculator", ("Galculator", "galculator"), 4711, rect, rect, True, 0, True)
        button = Element("button", "=", rect=Rect(40, 50, 30, 20), states=("enabled", "visible"), window=77)
        return {PICTURE: picture, WINDOWS: (window,), ELEMENTS: (button,), POINTER: (15, 15)}

    # -- checks --------------------------------------------------------------------------------------------------

    def test_has_an_id_and_a_name(self) -> None:
        with closing(self.make()) as operator:
            assert operator.descriptor.id, "an operator needs an id"
            assert operator.descriptor.display_name, "an operator needs a name"

    def test_asks_only_for_what_can_be_seen(self) -> None:
        with closing(self.make()) as operator:
            unknown = [k for k in operator.observation_keys if k not in KEYS]
            assert not unknown, f"asks for {unknown}; there are {KEYS}"

    def test_answers_sound_actions_or_none(self) -> None:
        with closing(self.make()) as operator:
            for action in self.play(operator, seed=1):
                if action is not None:
                    check_action(action)

    def test_same_seed_same_actions(self) -> None:
        with closing(self.make()) as one, closing(self.make()) as other:
            _assert_equal(self.play(one, seed=7), self.play(other, seed=7))

    def test_reset_forgets_the_episode(self) -> None:
        with closing(self.make()) as operator:
            first = self.play(operator, seed=7)
            self.play(operator, seed=8)
            _assert_equal(first, self.play(operator, seed=7))

    def test_takes_a_refusal(self) -> None:
        with closing(self.make()) as operator:
            for action in self.play(operator, seed=1, result=_REFUSED):
                if action is not None:
                    check_action(action)

    def test_without_what_it_asks_for_it_does_nothing_or_says_so(self) -> None:
        with closing(self.make()) as operator:
            operator.reset(1)
            if not operator.observation_keys:
                return
            try:
                action = operator.select_action({}, self.info(0, None))
            except OperatorError:
                return
            assert action is None, f"decided on {action}, and has seen nothing"

    def test_leaves_the_observation_alone(self) -> None:
        with closing(self.make()) as operator:
            operator.reset(3)
            seen = self._seen(operator, 0)
            before = dict(seen)
            picture = np.array(seen[PICTURE]) if PICTURE in seen else None
            self._asked(operator, seen, self.info(0, None))
            assert seen.keys() == before.keys(), "changed what it was shown"
            assert all(seen[k] is before[k] for k in seen), "changed what it was shown"
            assert picture is None or np.array_equal(picture, seen[PICTURE]), "changed the picture"

    def test_can_be_closed_twice(self) -> None:
        operator = self.make()
        operator.close()
        operator.close()

    # -- playing -------------------------------------------------------------------------------------------------

    def play(self, operator: DeskOperator, seed: int, result: ActionResult = _DONE) -> list[DesktopAction | None]:
        """The decisions of an episode in which the same comes of every action; a failure to decide is None."""
        operator.reset(seed)
        out: list[DesktopAction | None] = []
        last: ActionResult | None = None
        for step in range(self.steps):
            action = self._asked(operator, self._seen(operator, step), self.info(step, last))
            out.append(action)
            if action is not None:
                last = result
                operator.on_step_result(action, result, self.info(step, last))
        return out

    def info(self, step: int, last: ActionResult | None) -> Mapping[str, Any]:
        """What it is told beside what it sees."""
        return {"task": "add 15 and 27", "step": step, "stamp": 1.0 + step, "size": _SIZE, "last_result": last}

    def _seen(self, operator: DeskOperator, step: int) -> dict[str, Any]:
        whole = self.observation(step)
        return {k: whole[k] for k in operator.observation_keys}

    def _asked(self, operator: DeskOperator, seen: Mapping[str, Any], info: Mapping[str, Any]) -> DesktopAction | None:
        try:
            return operator.select_action(seen, info)
        except OperatorError:  # nothing else may be raised
            return None


def _assert_equal(one: list[DesktopAction | None], other: list[DesktopAction | None]) -> None:
    told = [[None if a is None else to_text(a) for a in actions] for actions in (one, other)]
    assert told[0] == told[1], f"not the same: {told[0]} and {told[1]}"
