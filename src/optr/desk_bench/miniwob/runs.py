"""Episodes of MiniWoB++ by an operator: how each went, and what comes of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.environment import TIME_LIMIT_S, MiniWob
from optr.desk_bench.miniwob.seen import Observation

MOST_STEPS = 10
"""Actions in one episode; a text that is typed, a drag, or clicks on one place are one each."""

_MOMENT_S = 0.05
"""Between two looks when the operator does nothing [s]."""


class DesktopOperator(Protocol):
    """Whoever decides, action by action."""

    def reset(self) -> None: ...

    def select_action(self, observation: Observation, info: Mapping[str, Any]) -> a.DesktopAction | None: ...


@dataclass
class Episode:
    """One episode as it went.

    Attributes:
        task: Its name.
        seed: Of the page's random numbers.
        success: Whether it was over with a reward above zero, without the discount for time.
        raw: That reward, -1 to 1; 0 if it was not over.
        steps: Actions that were sent, refused ones too.
        seconds: From the reset to the end, without loading the page [s].
        load_s: For loading the page [s].
        why: Why it ended, or what was not carried out; empty: the page says that it is over.
    """

    task: str
    seed: int
    success: bool = False
    raw: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    load_s: float = 0.0
    why: str = ""


def run_episode(env: MiniWob, operator: DesktopOperator, task: str, seed: int, most: int = MOST_STEPS) -> Episode:
    """One episode, until the page says that it is over, the operator gives up, or steps or time are used up."""
    episode = Episode(task, seed)
    begun = time.monotonic()
    page = env.reset(task, seed)
    operator.reset()
    started = time.monotonic()
    episode.load_s = round(started - begun, 3)
    while not env.outcome().done:
        if time.monotonic() - started > TIME_LIMIT_S:
            episode.why = "the time was over"
            break
        action = operator.select_action(page, {"step": episode.steps})
        if isinstance(action, a.Done | a.Fail):
            episode.why = action.reason if isinstance(action, a.Fail) else episode.why or "it was given up as done"
            break
        if action is None:
            time.sleep(_MOMENT_S)
        elif episode.steps == most:
            episode.why = f"{most} steps were used up"
            break
        else:
            episode.steps += 1
            result = env.act(action)
            if not result.executed:
                episode.why = f"{action.kind}: {result.refused} {result.text}".replace(":  ", ": ")
        page = env.look()
    outcome = env.outcome()
    episode.raw = outcome.raw if outcome.done else 0.0
    episode.success = outcome.done and outcome.raw > 0
    episode.seconds = round(time.monotonic() - started, 3)
    return episode


def run_tasks(
    env: MiniWob,
    operator: DesktopOperator,
    tasks: Sequence[str],
    seeds: Sequence[int],
    told: Callable[[Episode], object] = lambda _: None,
) -> list[Episode]:
    """Every task on every seed.

    Args:
        env: Open.
        operator: Decides.
        tasks: Their names.
        seeds: Of each.
        told: Told each episode as soon as it is over.
    """
    episodes = []
    for task in tasks:
        for seed in seeds:
            episodes.append(run_episode(env, operator, task, seed))
            told(episodes[-1])
    return episodes


def by_task(episodes: Sequence[Episode]) -> dict[str, list[Episode]]:
    """Episodes of each task."""
    return {task: [e for e in episodes if e.task == task] for task in dict.fromkeys(e.task for e in episodes)}


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """The whole in one JSON object; success is the mean over tasks, as papers have it."""
    tasks = by_task(episodes)
    rates = {task: sum(e.success for e in rows) / len(rows) for task, rows in tasks.items()}
    full = {task: sum(e.raw >= 1 for e in rows) / len(rows) for task, rows in tasks.items()}
    count = len(tasks) or 1
    return {
        "tasks": len(tasks),
        "episodes": len(episodes),
        "success": round(sum(rates.values()) / count, 4),
        "full_reward": round(sum(full.values()) / count, 4),
        "most_steps": MOST_STEPS,
        "time_limit_s": TIME_LIMIT_S,
        "seconds": round(sum(e.seconds + e.load_s for e in episodes), 1),
        "steps": sum(e.steps for e in episodes),
        "by_task": {task: round(rate, 3) for task, rate in rates.items()},
        "rows": [asdict(e) for e in episodes],
    }
