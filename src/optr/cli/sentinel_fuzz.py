"""`optr sentinel fuzz`: hostile proposals, judged by code that the guard does not share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from optr.sentinel.fuzz import FuzzReport, FuzzSettings


@click.command("fuzz")
@click.option("--n", "proposals", type=click.IntRange(1), default=100_000, show_default=True, help="Proposals.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all random numbers.")
@click.option("--spec", default="so101_tabletop", show_default=True, help="Robot: a file, or a name that ships.")
@click.option("--rules", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Rules of the guard.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes that share the work."
)
@click.option("--run", "only", type=click.IntRange(0), help="Repeat this one run, as told with a violation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fuzz_guard(
    proposals: int, seed: int, spec: str, rules: Path | None, jobs: int, only: int | None, as_json: bool
) -> int:
    """Throw hostile proposals at the guard and have every command judged by code that it does not share.

    The result depends on --n and --seed alone, not on --jobs. Exit code 1 if a command broke a limit.
    """
    from optr.sentinel.fuzz import FuzzSettings

    settings = FuzzSettings(proposals, seed, spec, rules, jobs, only)
    report = _fuzz(settings, quiet=as_json)
    if as_json:
        click.echo(json.dumps({"spec": spec, "seed": seed, **report.as_dict()}))
    else:
        _show_fuzz(report)
    return 1 if report.violations.total() else 0


def _fuzz(settings: FuzzSettings, quiet: bool) -> FuzzReport:
    from optr.sentinel.fuzz import RUN, fuzz

    if quiet:
        return fuzz(settings)
    columns = (TextColumn("proposals"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=settings.proposals if settings.only is None else RUN)
        return fuzz(settings, lambda n: progress.advance(task, n))


def _show_fuzz(report: FuzzReport) -> None:
    total = report.violations.total()
    rate = report.proposals / max(report.seconds, 1e-9)
    table = Table("", "", show_header=False)
    table.add_row("violations", f"[red]{total}[/]" if total else "[green]0[/]")
    table.add_row("proposals", f"{report.proposals} in {report.seconds:.1f} s ({rate:.0f}/s)")
    table.add_row("calls, commands, starts", f"{report.calls}, {report.commands}, {report.tracks}")
    table.add_row("outcomes", ", ".join(f"{n} {k.lower()}" for k, n in report.outcomes.most_common()))
    table.add_row("codes", ", ".join(f"{k} {n}" for k, n in report.codes.most_common()))
    table.add_row("thrown", ", ".join(f"{k} {n}" for k, n in report.kinds.most_common()))
    table.add_row("fastest", f"{report.speed_ratio:.6f} of the limit")
    table.add_row("steepest", f"{report.acceleration_ratio:.6f} of the limit")
    console = Console(emoji=False)
    console.print(table)
    for found in report.first:
        console.print(f"run {found.run}, call {found.step}: {found.kind}: {found.text}", markup=False, highlight=False)
