"""`optr desktop act`: let an operator act on a desktop, under its guard."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from optr.cli.desktop_common import desk_option, display_option, json_option, own_option, print_done, tell_how_to_stop
from optr.errors import OperatorError

if TYPE_CHECKING:
    from optr.connectors.desktop.actions import ActionResult
    from optr.operators.desk.host import DeskRow

_ENDED = {
    "done": "done",
    "fail": "gave up",
    "steps": "used up its {steps} steps",
    "abstained": "decided on nothing for {patience:g} s",
    "failed": "failed to decide, several times in a row",
    "stopped": "stopped",
}
"""How it ended, in words."""


@click.command()
@click.option("--operator", required=True, help="Who decides: human, llm, numeric, random, script, or another's.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="Of the operator; JSON, or text.")
@click.option("--task", default="", help="What is to be done, in words.")
@click.option("--steps", default=50, show_default=True, type=click.IntRange(1), help="Actions that it may decide on.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--patience", default=10.0, show_default=True, help="How long it may abstain in a row [s].")
@own_option
@display_option
@desk_option
@json_option
def act(
    operator: str,
    options: tuple[str, ...],
    task: str,
    steps: int,
    seed: int,
    patience: float,
    own: tuple[int, int] | None,
    display: str | None,
    settings: str,
    as_json: bool,
) -> int:
    """Let an operator act until it says that it is done, or cannot do it, or has used up its steps.

    Exit code 0 only if it says that it is done.

    For example: optr desktop act --operator script -o file=actions.json --desk demo
    """
    from optr.connectors.desktop.in_short import in_short
    from optr.connectors.desktop.opening import open_desk
    from optr.operators.desk.host import DeskEnding, run_desk
    from optr.operators.desk.registry import make_desk_operator

    decides = make_desk_operator(operator, **dict(map(_option, options)))
    console = Console(stderr=True, quiet=as_json or not sys.stderr.isatty())
    try:
        with console.status(operator) as status, open_desk(display, settings, own) as desk:
            if own is None:
                tell_how_to_stop(desk)

            def told(row: DeskRow) -> None:
                status.update(escape(f"{operator}: {row.step + 1} {in_short(row.action) if row.action else row.text}"))
                if as_json:
                    click.echo(json.dumps(_plain(row), ensure_ascii=False))

            episode = run_desk(desk, decides, task, steps, seed, patience, told)
    finally:
        decides.close()
    if as_json:
        click.echo(json.dumps({"ended": episode.ended.value, "actions": len(episode.rows), "text": episode.text}))
    else:
        ended = _ENDED[episode.ended.value].format(steps=steps, patience=patience)
        _print(episode.rows, f"{ended}{f': {episode.text}' if episode.text else ''}")
    return 0 if episode.ended is DeskEnding.DONE else 1


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise OperatorError(f"option {text!r} is no NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:  # a text without its quotes
        return name, value


def _plain(row: DeskRow) -> dict[str, Any]:
    from optr.connectors.desktop.codec import result_to_json, to_json

    return {
        "step": row.step,
        "source": row.source.name.lower(),
        "action": to_json(row.action) if row.action is not None else None,
        "result": result_to_json(row.result) if row.result is not None else None,
        "text": row.text,
        "decide_s": round(row.decide_s, 4),
    }


def _print(rows: tuple[DeskRow, ...], ended: str) -> None:
    done = [
        (row.action, row.result, row.text or row.result.text)
        if row.result is not None
        else (None, row.source.name.lower(), row.text)
        for row in rows
    ]
    print_done(done)
    for code, count in Counter(_missed(result) for _, result, _ in done if _missed(result)).most_common():
        click.echo(f"{count} x {code}")
    click.echo(ended)


def _missed(result: ActionResult | str) -> str:
    return result if isinstance(result, str) else result.refused
