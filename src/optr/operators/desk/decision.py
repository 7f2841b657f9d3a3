"""One decision of an operator of a desktop: asked, checked, and put down to its operator where it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optr.connectors.desktop.actions import DesktopAction
from optr.connectors.desktop.codec import check_action
from optr.errors import DesktopError, InvalidDecisionError
from optr.operators.decision import failure_of
from optr.operators.desk.contract import DeskOperator


def decide(operator: DeskOperator, observation: Mapping[str, Any], info: Mapping[str, Any]) -> DesktopAction | None:
    """Ask for one action, and check it; None: it abstains.

    Raises:
        DecisionTimeoutError: If it was late.
        InvalidDecisionError: If its answer is no action of a desktop.
        OperatorError: If it failed otherwise, whatever it raised.
    """
    try:
        action = operator.select_action(observation, info)
    except (Exception, SystemExit) as err:  # an operator is anybody's code; its failure is reported as its own
        raise failure_of(operator, err) from err
    if action is None:
        return None
    try:
        check_action(action)
    except DesktopError as err:
        raise InvalidDecisionError(f"operator {operator.id!r} answered no action: {err}") from err
    return action
