"""The one question on a desktop: given what is seen, what action? The twin of `optr.operators.contract`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from optr.connectors.desktop.actions import ActionResult, DesktopAction
from optr.operators.contract import Decider

PICTURE = "observation.images.screen"
"""The whole screen: RGB, uint8, shape (height, width, 3), not to be changed."""

WINDOWS = "observation.windows"
"""A tuple of `seen.Window`, the lowest first."""

ELEMENTS = "observation.elements"
"""A tuple of `seen.Element`: what accessibility tells of all windows. The dearest of all: tens of milliseconds."""

POINTER = "observation.pointer"
"""The pixel at which the pointer is: (x, y)."""

KEYS = (PICTURE, WINDOWS, ELEMENTS, POINTER)
"""Everything that can be seen of a desktop."""


class DeskOperator(Decider, ABC):
    """A decision maker on a desktop: a person, a script, a policy, a language model.

    Subclasses write `select_action`. All arguments of a constructor have defaults.
    """

    observation_keys: ClassVar[tuple[str, ...]] = (WINDOWS, POINTER)
    """What it must see to decide, of `KEYS`; nothing else is read for it."""

    @abstractmethod
    def select_action(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> DesktopAction | None:
        """Decide.

        Args:
            observation: What it asks for by `observation_keys`.
            info: `task` (what is to be done, in words), `step` (actions since the reset), `stamp` (when this was seen
                [s of a steady clock]), `size` (width and height of the screen [px]), and `last_result`: what came of
                its last action, an `ActionResult`; None: there was none.

        Returns:
            One action, or None to abstain: it is asked again.

        Raises:
            DecisionTimeoutError: If it was not there in time.
            InvalidDecisionError: If what it thought of is no action.
            OperatorError: If it cannot decide for another reason.
        """

    def on_step_result(self, action: DesktopAction, result: ActionResult, info: Mapping[str, Any]) -> None:
        """Told what came of an action of its own; for operators that learn. Does nothing here."""
        return
