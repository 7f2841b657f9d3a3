"""What the commands of `optr desktop` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

display_option = click.option("--display", help="X display, such as :1; default: that of the environment.")
desk_option = click.option(
    "--desk", "settings", default="", help="What its guard allows: a file, or a name in config/desks."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
own_option = click.option("--own", type=(int, int), help="On a desktop of its own in memory, so large [px].")


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows of one form; its columns are named by the first."""
    table = Table(*(rows[0] if rows else ("nothing",)), title=title or None)
    for row in rows:
        table.add_row(*(escape(_said(value)) for value in row.values()))
    return table


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
