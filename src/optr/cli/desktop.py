"""`optr desktop`: look at a desktop, act on it under its guard, and the demonstration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console

from optr.cli import desktop_act, desktop_demo, desktop_miniwob, desktop_record, desktop_serve, desktop_tasks
from optr.cli.desktop_common import desk_option, display_option, json_option, print_done, table

if TYPE_CHECKING:
    from optr.connectors.desktop.actions import ActionResult, DesktopAction

_HEADERS = {"place": "place [px]:\nx y width height"}


@click.group()
def desktop() -> None:
    """See a desktop and act on it by real input, under a guard."""


@desktop.command()
@display_option
@click.option("--window", help="Elements of this window only: its id, or a part of its title or class.")
@click.option("--elements/--no-elements", default=True, show_default=True, help="Tell elements, not only windows.")
@json_option
def look(display: str | None, window: str | None, elements: bool, as_json: bool) -> int:
    """Tell which windows there are, and by accessibility which elements they have."""
    from optr.connectors.desktop.desk import element_row, window_row
    from optr.connectors.desktop.opening import open_desk

    with open_desk(display) as desk:
        only = desk.bridge.windows.find(window) if window else None
        seen = desk.tree.read(only) if elements and desk.tree is not None else None
        windows = [window_row(w) for w in desk.bridge.windows.all() if only is None or w.id == only.id]
    rows = [element_row(e) for e in seen.items] if seen is not None else []
    if as_json:
        missing = seen.truncated if seen is not None else "not asked for" if not elements else "no accessibility"
        click.echo(json.dumps({"windows": windows, "elements": rows, "truncated": missing}))
        return 0
    console = Console(emoji=False)
    console.print(table("windows", windows, _HEADERS))
    if rows:
        console.print(table("elements", rows, _HEADERS))
    if seen is not None and seen.truncated:
        console.print(f"not all was read: {seen.truncated}", highlight=False)
    if elements and seen is None:
        console.print("no accessibility on this desktop: elements are not known", highlight=False)
    return 0


@desktop.command()
@click.argument("actions", nargs=-1, required=True)
@display_option
@desk_option
@json_option
def do(actions: tuple[str, ...], display: str | None, settings: str, as_json: bool) -> int:
    """Carry ACTIONS out, each as JSON, and say what came of each; ends at the first one that is not carried out.

    For example: optr desktop do '{"kind": "click", "at": {"selector": "text=OK"}}'
    """
    from optr.connectors.desktop.codec import from_text, result_to_json
    from optr.connectors.desktop.opening import open_desk

    read = [from_text(text) for text in actions]  # nothing is done if one of them cannot be read
    done: list[tuple[DesktopAction, ActionResult, str]] = []
    with open_desk(display, settings) as desk:
        for action in read:
            result = desk.execute(action)
            done.append((action, result, result.text))
            if as_json:
                row = {"kind": action.kind, **result_to_json(result), "seconds": round(result.latency_s, 3)}
                click.echo(json.dumps(row, ensure_ascii=False))
            if not result.executed:
                break
    if not as_json:
        print_done(done)
    return 0 if done[-1][1].executed else 1


for _command in (
    desktop_tasks.tasks, desktop_tasks.bench, desktop_act.act, desktop_serve.serve, desktop_miniwob.miniwob,
    desktop_demo.demo, *desktop_record.COMMANDS,
):  # fmt: skip
    desktop.add_command(_command)
