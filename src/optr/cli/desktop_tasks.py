"""`optr desktop tasks` and `optr desktop bench`: the tasks of optr-desk, and how an operator does at them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from optr.desk_bench.suite import Choose, TaskRun
    from optr.desk_bench.task import DeskTask, SeededTask

_WANTED = {"oracle": 1.0, "nothing": 0.0}
_HEADED = {"oracle": "runs done", "nothing": "scored 0.0, as doing nothing must"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def tasks(as_json: bool) -> int:
    """List the tasks of optr-desk, as seed 0 makes them."""
    from optr.desk_bench.task import load_tasks

    seeded = [t.seeded(0) for t in load_tasks()]
    if as_json:
        click.echo(json.dumps([_row(s) for s in seeded], ensure_ascii=False))
        return 0
    table = Table("task", "level", "instruction", title=f"{len(seeded)} tasks")
    for made in seeded:
        task = made.task
        table.add_row(f"{task.id}\n[dim]{', '.join(task.apps)}[/]", str(task.level), escape(made.instruction))
    Console(emoji=False).print(table)
    return 0


@click.command()
@click.argument("names", metavar="[TASK]...", nargs=-1)
@click.option("--operator", type=click.Choice(list(_WANTED)), default="oracle", show_default=True)
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many, from 0.")
@click.option("--json", "as_json", is_flag=True, help="Print the line of JSON alone.")
def bench(names: tuple[str, ...], operator: str, seeds: int, as_json: bool) -> int:
    """Run tasks of optr-desk, all if none is named, on a desktop in memory.

    Exit code 0 only if each is scored as it should be: 1.0 for the oracle, 0.0 for doing nothing.
    """
    from optr.desk_bench.suite import DeskSuite
    from optr.desk_bench.task import load_tasks

    chosen = load_tasks(names)
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    with console.status("bringing a desktop up") as status, DeskSuite() as suite:
        runs = list(_runs(suite, chosen, seeds, operator, status.update))
    whole = _summary(operator, runs)
    if not as_json:
        Console(emoji=False).print(_table(operator, runs))
    click.echo(json.dumps(whole, ensure_ascii=False))
    return 0 if all(run.score == _WANTED[operator] for run in runs) else 1


def _row(made: SeededTask) -> dict[str, Any]:
    task = made.task
    return {"id": task.id, "level": task.level, "apps": list(task.apps), "instruction": made.instruction}


def _runs(
    suite: Any, chosen: Sequence[DeskTask], seeds: int, operator: str, update: Callable[[str], object]
) -> Iterator[TaskRun]:
    from optr.desk_bench.suite import run_task

    for task in chosen:
        for seed in range(seeds):
            update(f"{task.id}, seed {seed} ...")
            yield run_task(suite, task, seed, _chooser(operator, task.seeded(seed)))


def _chooser(operator: str, task: SeededTask) -> Choose:
    from optr.desk_bench.oracle import Oracle

    return Oracle(task) if operator == "oracle" else lambda observation, info: None


def _summary(operator: str, runs: Sequence[TaskRun]) -> dict[str, Any]:
    resets = [run.reset_s for run in runs if run.reset_s]
    scores = [run.score for run in runs if run.score is not None]
    return {
        "operator": operator,
        "tasks": len({run.task for run in runs}),
        "runs": len(runs),
        "score": round(sum(scores) / len(scores), 4) if scores else None,
        "errors": sum(run.score is None for run in runs),
        "reset_s": {"p50": round(median(resets), 3), "max": max(resets)} if resets else None,
        "seconds": round(sum(run.seconds + run.reset_s for run in runs), 3),
        "rows": [vars(run) for run in runs],
    }


def _table(operator: str, runs: Sequence[TaskRun]) -> Table:
    table = Table(Column("task", no_wrap=True), "level", "seed", "score", "steps", "reset", "time", "what is missing")
    table.title = f"{sum(run.score == _WANTED[operator] for run in runs)} of {len(runs)} {_HEADED[operator]}"
    for run in runs:
        mark = "error" if run.score is None else f"{run.score:.1f}"
        numbers = (str(run.level), str(run.seed), mark, str(run.steps), f"{run.reset_s:.2f}", f"{run.seconds:.1f}")
        table.add_row(run.task, *numbers, escape(run.error or ("" if run.score else run.said)))
    return table
