"""`optr desktop miniwob`: tasks on web pages by real input, and how others have done on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from optr.desk_bench.miniwob.runs import Episode


@click.command()
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many of each task.")
@click.option("--first-seed", default=0, show_default=True, help="The first of them.")
@click.option("--list", "listed", is_flag=True, help="Print the names of the tasks, and do none.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of tables.")
def miniwob(tasks: tuple[str, ...], seeds: int, first_seed: int, listed: bool, as_json: bool) -> int:
    """Do tasks of MiniWoB++ on a desktop in memory, by an operator made of rules; all of them if none is named.

    Every action is given by pointer and keys and passes the guard (config/desks/miniwob.yaml). A task is done if the
    page ends it with a reward above zero, within 10 actions and 30 s. The pages are not part of optr:
    pip install --no-deps miniwob
    """
    from optr.desk_bench.miniwob.environment import MiniWob
    from optr.desk_bench.miniwob.operator import ScriptedOperator
    from optr.desk_bench.miniwob.pages import known_tasks
    from optr.desk_bench.miniwob.runs import run_tasks, summary

    names = known_tasks(tasks)
    if listed:
        click.echo("\n".join(names))
        return 0
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    with console.status("bringing a desktop up") as status, MiniWob() as env:
        numbers = range(first_seed, first_seed + seeds)
        episodes = run_tasks(env, ScriptedOperator(), names, numbers, _told(status.update, len(names) * seeds))
    whole = summary(episodes)
    if as_json:
        click.echo(json.dumps(whole, ensure_ascii=False))
        return 0
    _print(whole, all_tasks=not tasks)
    return 0


def _told(update: Callable[[str], object], count: int) -> Callable[[Episode], object]:
    done: list[bool] = []

    def told(episode: Episode) -> None:
        done.append(episode.success)
        update(f"{len(done)} of {count}: {sum(done)} done, {episode.task} ...")

    return told


def _print(whole: Mapping[str, Any], all_tasks: bool) -> None:
    """Tasks by how often they were done, and beside what others have published if it was all of them."""
    from optr.desk_bench.miniwob.published import PUBLISHED

    console = Console(emoji=False, highlight=False)
    table = Table("done", "tasks", title=_line(whole))
    for rate, names in _by_rate(whole["by_task"]):
        table.add_row(f"{rate:.0%}", escape(", ".join(names)))
    console.print(table)
    if all_tasks:
        others = Table("published", "tasks", "success", "source")
        for row in PUBLISHED:
            others.add_row(row.who, str(row.tasks), f"{row.success:.1%}", row.source)
        others.add_row(
            "[bold]optr, rules for these tasks[/]", str(whole["tasks"]), f"{whole['success']:.1%}", "this run"
        )
        console.print(others)


def _line(whole: Mapping[str, Any]) -> str:
    return (
        f"{whole['success']:.1%} of {whole['tasks']} tasks x {whole['episodes'] // whole['tasks']} seeds "
        f"in {whole['seconds']:.0f} s; with full reward {whole['full_reward']:.1%}"
    )


def _by_rate(tasks: Mapping[str, float]) -> Sequence[tuple[float, list[str]]]:
    rates = sorted(set(tasks.values()), reverse=True)
    return [(rate, [name for name, one in tasks.items() if one == rate]) for rate in rates]
