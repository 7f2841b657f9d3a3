"""`optr operators` and `optr tasks`: what is installed."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def operators(as_json: bool) -> int:
    """List the installed operators."""
    return _list("operator", as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def tasks(as_json: bool) -> int:
    """List the installed tasks."""
    return _list("task", as_json)


def _list(kind: str, as_json: bool) -> int:
    from optr.errors import PluginError
    from optr.plugins import load_plugin, plugin_names

    rows, broken = [], 0
    for name in plugin_names(kind):
        try:
            plugin = load_plugin(kind, name)
            about = (plugin.__doc__ or "").strip().partition("\n")[0]
            rows.append({"name": name, "class": f"{plugin.__module__}.{plugin.__qualname__}", "about": about})
        except PluginError as err:
            broken += 1
            rows.append({"name": name, "class": "", "about": f"broken: {err}"})
    if as_json:
        click.echo(json.dumps({f"{kind}s": rows}))
    else:
        table = Table("name", "class", "about")
        for row in rows:
            table.add_row(*(escape(v) for v in row.values()))
        Console(emoji=False).print(table)
    return 1 if broken else 0
