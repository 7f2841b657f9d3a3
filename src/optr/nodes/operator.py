"""The operator node: hosts any operators, of which one decides, streaming or in lock-step."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from optr.operators.roster import Roster
from optr.ros.node import run_node
from optr.ros.operator_node import SPEC, HostNode
from optr.ros.params import json_param, param


@dataclass(frozen=True)
class OperatorParams:
    """Settings of the operator node."""

    spec: str = param("so101_tabletop", SPEC)
    operator: str = param("hold", "Name of the operator that decides at first.")
    options: str = param("{}", "Options of that operator, as a JSON object.")
    operators: str = param(
        "{}",
        "Operators that are registered beside it, as a JSON object: by id, the name of each as `operator` (by default "
        "the id) and its `options`.",
    )
    take_authority: bool = param(
        False, "Ask the sentinel for the authority of an operator that is made to decide by service."
    )
    lockstep: bool = param(False, "Decide once on each complete observation (lock-step) instead of at the action rate.")
    seed: int = param(0, "Seed until the first reset.", low=0, high=2**53)


class OperatorNode(HostNode[OperatorParams]):
    """ROS face of any operators, by name; topics and services as in `HostNode`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("operator", OperatorParams, **kwargs)

    def fill(self, roster: Roster) -> None:
        roster.add(self.params.operator, json_param("options", self.params.options))
        roster.add_all(json_param("operators", self.params.operators))


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(OperatorNode, args)


if __name__ == "__main__":
    sys.exit(main())
