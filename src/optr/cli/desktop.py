"""`optr desktop`: look at a desktop, act on it under its guard, and the demonstration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from optr.cli import desktop_demo, desktop_record

if TYPE_CHECKING:
    from optr.connectors.desktop.desk import Desk

_display = click.option("--display", help="X display, such as :1; default: that of the environment.")
_desk = click.option("--desk", "settings", default="", help="What its guard allows: a file, or a name in config/desks.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@click.group()
def desktop() -> None:
    """See a desktop and act on it by real input, under a guard."""


@desktop.command()
@_display
@click.option("--window", help="Elements of this window only: its id, or a part of its title or class.")
@click.option("--elements/--no-elements", default=True, show_default=True, help="Tell elements, not only windows.")
@_json
def look(display: str | None, window: str | None, elements: bool, as_json: bool) -> int:
    """Tell which windows there are, and by accessibility which elements they have."""
    from optr.connectors.desktop.desk import element_row, window_row

    with opened(display, "") as desk:
        only = desk.bridge.windows.find(window) if window else None
        seen = desk.tree.read(only) if elements and desk.tree is not None else None
        windows = [window_row(w) for w in desk.bridge.windows.all() if only is None or w.id == only.id]
    rows = [element_row(e) for e in seen.items] if seen is not None else []
    if as_json:
        missing = seen.truncated if seen is not None else "not asked for" if not elements else "no accessibility"
        click.echo(json.dumps({"windows": windows, "elements": rows, "truncated": missing}))
        return 0
    console = Console(emoji=False)
    console.print(_table("windows", windows))
    if rows:
        console.print(_table("elements", rows))
    if seen is not None and seen.truncated:
        console.print(f"not all was read: {seen.truncated}", highlight=False)
    if elements and seen is None:
        console.print("no accessibility on this desktop: elements are not known", highlight=False)
    return 0


@desktop.command()
@click.argument("actions", nargs=-1, required=True)
@_display
@_desk
@_json
def do(actions: tuple[str, ...], display: str | None, settings: str, as_json: bool) -> int:
    """Carry ACTIONS out, each as JSON, and say what came of each; ends at the first one that is not carried out.

    For example: optr desktop do '{"kind": "click", "at": {"selector": "text=OK"}}'
    """
    from optr.connectors.desktop.codec import from_text, result_to_json

    read = [from_text(text) for text in actions]  # nothing is done if one of them cannot be read
    rows: list[dict[str, Any]] = []
    good = True
    with opened(display, settings) as desk:
        for action in read:
            result = desk.execute(action)
            good = result.executed
            rows.append({"kind": action.kind, **result_to_json(result), "seconds": round(result.latency_s, 3)})
            if as_json:
                click.echo(json.dumps(rows[-1], ensure_ascii=False))
            if not good:
                break
    if not as_json:
        columns = ("kind", "executed", "effect", "refused", "text", "answer", "seconds")
        Console(emoji=False).print(_table("", [{c: row.get(c, "") for c in columns} for row in rows]))
    return 0 if good else 1


@contextmanager
def opened(display: str | None, settings: str) -> Iterator[Desk]:
    """A desktop that is there, under a guard."""
    from optr.connectors.desktop.desk import Desk
    from optr.connectors.desktop.session import DesktopSession
    from optr.sentinel.desk_config import load_desk
    from optr.sentinel.desk_guard import DeskGuard

    guard = DeskGuard(load_desk(settings))
    session = DesktopSession.attach(display)
    try:
        desk = Desk(session, guard)
    except BaseException:
        session.close()
        raise
    with desk:
        yield desk


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
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


for _command in (desktop_demo.demo, *desktop_record.COMMANDS):
    desktop.add_command(_command)
