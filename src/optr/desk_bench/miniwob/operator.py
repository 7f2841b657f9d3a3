"""An operator for MiniWoB++ that has learnt nothing: it knows the task by its wording and does what its rule says.

Its rules were written by people who knew the tasks; only the seeds are new to it. What it gets done is a measure of the
hands and eyes that it is lent, and none of how well it would do on tasks that nobody has written a rule for.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules import clicks, controls, figures, games, services, texts
from optr.desk_bench.miniwob.rules.doing import LostError, Plan, Rule
from optr.desk_bench.miniwob.seen import Observation

RULES: tuple[Rule, ...] = (
    *controls.RULES, *texts.RULES, *services.RULES, *games.RULES, *clicks.RULES, *figures.RULES,
)  # fmt: skip
"""In the order in which they are asked; the first that knows a task does it."""


class ScriptedOperator:
    """Decides one episode after the other; `reset` before each."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._begun = False

    def reset(self) -> None:
        """Forget the episode before."""
        self._plan, self._begun = None, False

    def select_action(self, observation: Observation, info: Mapping[str, Any]) -> a.DesktopAction | None:
        """What to do next; None: nothing for now; `Fail`: no rule knows how to go on."""
        try:
            if self._plan is None:
                self._plan = _plan_for(observation)
            if self._begun:
                return self._plan.send(observation)
            self._begun = True
            return next(self._plan)
        except StopIteration:
            return a.Done()
        except (LostError, LookupError, ValueError) as err:  # the page is not as the rule expects it
            return a.Fail(f"{type(err).__name__}: {err}")


def _plan_for(observation: Observation) -> Plan:
    for known, plan in RULES:
        with suppress(LookupError):
            if found := known(observation):
                return plan(observation, found)
    raise LostError(f"no rule knows {observation.utterance!r}")
