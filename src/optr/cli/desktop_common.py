"""What the commands of `optr desktop` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from optr.connectors.desktop.actions import ActionResult, DesktopAction
    from optr.connectors.desktop.desk import Desk

display_option = click.option("--display", help="X display, such as :1; default: that of the environment.")
desk_option = click.option(
    "--desk", "settings", default="", help="What its guard allows: a file, or a name in config/desks."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
own_option = click.option("--own", type=(int, int), help="On a desktop of its own in memory, so large [px].")


def table(title: str, rows: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None) -> Table:
    """A table of rows of one form, without columns that hold nothing; what is too long is folded, never cut.

    Args:
        title: Above it; empty: none.
        rows: The first names the columns.
        headers: What stands above a column in place of its name; others are folded before such a one.
    """
    headers = headers or {}
    names = [name for name in (rows[0] if rows else ()) if any(_said(row[name]) for row in rows)]
    heads = [Column(escape(headers.get(name, name)), overflow="fold", no_wrap=name in headers) for name in names]
    table = Table(*(heads or ("nothing",)), title=title or None)
    for row in rows:
        table.add_row(*(escape(_said(row[name])) for name in names))
    return table


def print_done(done: Sequence[tuple[DesktopAction | None, ActionResult | str, str]]) -> None:
    """Print what was done: a table, and below it, each on a line of its own, what was said of it.

    Args:
        done: Of each step the action, what came of it (a word where there is no action), and a text.
    """
    from optr.connectors.desktop.in_short import in_short

    console = Console(emoji=False, highlight=False)
    rows = [
        {
            "step": number,
            "action": in_short(action) if action is not None else "",
            "outcome": result if isinstance(result, str) else outcome(result),
            "seconds": "" if isinstance(result, str) else f"{result.latency_s:.2f}",
        }
        for number, (action, result, _) in enumerate(done, 1)
    ]
    console.print(table("", rows))
    for number, (_, result, text) in enumerate(done, 1):
        answer = "" if isinstance(result, str) else result.answer
        for line in (text, f"answer: {answer}" if answer else ""):
            if line:
                console.print(f"{number}: {line}", markup=False, soft_wrap=True)


def outcome(result: ActionResult) -> str:
    """What came of an action, in a word: the code that refused it, or its effect."""
    return result.refused or (result.effect.value if result.executed else "not done")


def tell_how_to_stop(desk: Desk) -> None:
    """Say on stderr how a person stops what acts on a desktop."""
    chord = "+".join(key.capitalize() for key in desk.guard.config.stop_chord.split("+"))
    click.echo(f"{chord}, or the pointer in a corner of the screen, stops it", err=True)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
