"""A person at the desktop's own mouse and keyboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from optr.connectors.desktop.actions import DesktopAction
from optr.operators.desk.contract import DeskOperator
from optr.spec import Source


class Human(DeskOperator):
    """Decides on nothing: the person who does uses mouse and keyboard themselves, past the guard."""

    category = "human"
    source = Source.HUMAN
    observation_keys: ClassVar[tuple[str, ...]] = ()

    def select_action(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> DesktopAction | None:
        return None
