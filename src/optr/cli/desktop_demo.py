"""`optr desktop demo`: three tasks on a desktop in memory, recorded, and done again on another."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from optr.connectors.desktop.demo import DeskRun


@click.command()
@click.option("--size", type=(int, int), default=(1280, 800), show_default=True, help="Of the screen [px].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bags and video; default: demo-desktop/<date>.")
@click.option("--json", "as_json", is_flag=True, help="Print the line of JSON alone.")
def demo(size: tuple[int, int], out: Path | None, as_json: bool) -> int:
    """On a desktop in memory: sign in to a page, add 15 and 27 in a calculator, save a note in an editor.

    All is recorded, and done again on a fresh desktop, where windows lie elsewhere and the page is slow. Exit code 0
    only if every task is done both times, as seen by another way than the screen.
    """
    from optr.desk_episodes.demo import show, summary

    folder = (out or Path("demo-desktop") / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise click.ClickException(f"cannot write to {folder}: {err.strerror or err}") from err
    if any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty; name another folder")
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    began = time.monotonic()
    try:
        with console.status("bringing a desktop up") as status:
            shown = show(folder, size, _told(status.update))
    finally:
        if not any(folder.iterdir()):  # it was ended before there was anything to keep
            folder.rmdir()
    whole = summary(shown, folder, time.monotonic() - began)
    (folder / "summary.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not as_json:
        tables = Console(emoji=False)
        tables.print(_runs_table("recorded: {} of {} tasks done", [s.run for s in shown]))
        tables.print(_runs_table("replayed with windows moved and a slow page: {} of {}", [s.again for s in shown]))
        tables.print(f"video: {whole['video']}", highlight=False, soft_wrap=True)
    click.echo(json.dumps(whole, ensure_ascii=False))
    return 0 if whole["successes"] == whole["replayed"] == whole["tasks"] else 1


def _told(update: Callable[[str], object]) -> Callable[[str], object]:
    return lambda task: update(f"{escape(task)} ...")


def _runs_table(title: str, runs: Sequence[DeskRun]) -> Table:
    names = ("task", "done", "steps", "seconds", "effects", "read", "what is missing")
    table = Table(*(Column(name, overflow="fold", no_wrap=name == "effects") for name in names))
    table.title = title.format(sum(r.success for r in runs), len(runs))
    for run in runs:
        effects = "\n".join(f"{count} {name}" for name, count in run.effects.items())
        mark = "[green]yes[/]" if run.success else "[red]no[/]"
        texts = (escape(t) for t in (effects, run.answer, run.text))
        table.add_row(run.task, mark, str(run.steps), f"{run.seconds:.2f}", *texts)
    return table
