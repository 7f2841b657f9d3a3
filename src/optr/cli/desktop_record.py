"""`optr desktop record`, `replay`, `script` and `run`: what was done on a desktop, and doing it again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from optr.cli.desktop_common import desk_option, display_option, tell_how_to_stop
from optr.end_signal import EndSignal
from optr.errors import DesktopError, EpisodeError

if TYPE_CHECKING:
    from optr.desk_episodes.episode import DeskEpisode
    from optr.desk_episodes.replay import Course, Row

_json = click.option("--json", "as_json", is_flag=True, help="Print the line of JSON alone.")
_set = click.option("--set", "values", multiple=True, metavar="NAME=TEXT", help="A hidden text, or a parameter.")
_secret = click.option(
    "--secret", "secrets", multiple=True, metavar="NAME=VARIABLE", help="The same, out of an environment variable."
)
_patience = click.option(
    "--patience", default=20.0, show_default=True, type=click.FloatRange(0, 3600), help="For windows and elements [s]."
)
_retries = click.option(
    "--retries", default=0, show_default=True, type=click.IntRange(0, 20),
    help="How often an action is done again if what was waited for after it does not come.",
)  # fmt: skip
_BAG = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@display_option
@desk_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The bag to be.")
@click.option("--task", default="", help="What it is about; goes into the facts.")
@click.option("--rate", default=4.0, show_default=True, type=click.FloatRange(0, 60), help="Pictures per second, most.")
@click.option("--seconds", type=click.FloatRange(0.1), help="End after this time; default: at Ctrl-C.")
@click.option("--unknown-keys", is_flag=True, help="Store keys although nobody knows what gets them: in terminals.")
@_json
def record(
    display: str | None,
    settings: str,
    output: Path,
    task: str,
    rate: float,
    seconds: float | None,
    unknown_keys: bool,
    as_json: bool,
) -> int:
    """Record what is done on a desktop, by people and programs, until Ctrl-C.

    What is typed into password fields is not stored, nor are keys of which nobody knows where they go.
    """
    from optr.connectors.desktop.opening import open_desk
    from optr.desk_episodes.episode import DeskEpisode
    from optr.desk_episodes.recorder import DeskRecorder

    with open_desk(display, settings) as desk, _interrupted() as ended:
        facts = {"task": task} if task else {}
        with DeskRecorder(desk, output, facts, pictures_hz=rate, unknown_keys=unknown_keys):
            if not as_json:
                click.echo(f"recording {desk.session.display} to {output}; Ctrl-C ends it", err=True)
            ended.wait(seconds)
    episode = DeskEpisode(output)
    rows = [{"kind": s.action.kind, "by": s.by} for s in episode.steps]
    click.echo(json.dumps({"bag": str(output), "actions": len(rows), "hidden": list(episode.secrets), "rows": rows}))
    return 0


@click.command()
@click.argument("bag", type=_BAG)
@display_option
@desk_option
@_set
@_secret
@click.option("--swap", "swaps", multiple=True, metavar="OLD=NEW", help="Another text for parts of texts.")
@_patience
@_retries
@click.option("--pixels", is_flag=True, help="Use recorded pixels of the screen where nothing else is known.")
@_json
def replay(
    bag: Path,
    display: str | None,
    settings: str,
    values: tuple[str, ...],
    secrets: tuple[str, ...],
    swaps: tuple[str, ...],
    patience: float,
    retries: int,
    pixels: bool,
    as_json: bool,
) -> int:
    """Do again what was done in BAG: by selectors, elements, looks and windows, and never by times.

    Exit code 0 only if every action was carried out.
    """
    from optr.connectors.desktop.opening import open_desk
    from optr.desk_episodes.replay import DeskReplay

    _, course = _recorded(bag)
    given, swapped = _values(values, secrets), _pairs(swaps, "--swap", "OLD=NEW")
    with open_desk(display, settings) as desk:
        tell_how_to_stop(desk)
        again = DeskReplay(
            desk, course, values=given, swaps=swapped, patience_s=patience, retries=retries, pixels=pixels
        )
        rows = again.run()
    return _report(course, rows, as_json)


@click.command()
@click.argument("bag", type=_BAG)
@click.option("-o", "--output", required=True, type=_FILE, help="YAML file to write.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=TEXT", help="A name for a text that is typed.")
def script(bag: Path, output: Path, parameters: tuple[str, ...]) -> int:
    """Save what was done in BAG as a script with parameters; `optr desktop run` repeats it without any model."""
    from optr.desk_episodes.script import script_of

    if output.exists():
        raise DesktopError(f"{output} exists already; choose another name")
    episode, course = _recorded(bag)
    named = _pairs(parameters, "--parameter", "NAME=TEXT")
    text = script_of(course, named, str(episode.facts.get("task") or ""))
    beside = output.with_name(output.name + ".new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as err:
        raise DesktopError(f"cannot write {output}: {err.strerror or err}") from err
    click.echo(str(output))
    return 0


@click.command()
@click.argument("file", type=_FILE)
@display_option
@desk_option
@_set
@_secret
@_patience
@_retries
@_json
def run(
    file: Path,
    display: str | None,
    settings: str,
    values: tuple[str, ...],
    secrets: tuple[str, ...],
    patience: float,
    retries: int,
    as_json: bool,
) -> int:
    """Repeat a script FILE with its parameters.

    Exit code 0 only if every action was carried out.
    """
    from optr.connectors.desktop.opening import open_desk
    from optr.desk_episodes.replay import DeskReplay
    from optr.desk_episodes.script import load_script

    course = load_script(file, _values(values, secrets))  # nothing is done if it cannot be read
    with open_desk(display, settings) as desk:
        tell_how_to_stop(desk)
        rows = DeskReplay(desk, course, patience_s=patience, retries=retries).run()
    return _report(course, rows, as_json)


@contextmanager
def _interrupted() -> Iterator[EndSignal]:
    """Set by Ctrl-C or the end of a service, which then do nothing else."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]
    try:
        yield EndSignal(*signals)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _recorded(bag: Path) -> tuple[DeskEpisode, Course]:
    """An episode, and what was done in it.

    Raises:
        OptrError: If it is none, or nothing was done in it.
    """
    from optr.desk_episodes.episode import DeskEpisode
    from optr.desk_episodes.replay import course_of
    from optr.episodes.bags.bag import PARTIAL

    partial = bag if bag.name.endswith(PARTIAL) else bag.with_name(bag.name + PARTIAL) if bag.name else bag
    if partial.is_dir() and (partial is bag or not bag.exists()):
        raise EpisodeError(
            f"{bag} is no whole bag: {partial} is a recording that was not finished; "
            f"`optr episodes recover {partial}` mends it"
        )
    if not bag.exists():
        raise EpisodeError(f"there is no bag {bag}")
    if bag.is_file() and bag.suffix not in (".mcap", ".db3") and bag.name != "metadata.yaml":
        raise EpisodeError(f"{bag} is a file, and no bag: a bag is a folder with metadata.yaml and .mcap files")
    episode = DeskEpisode(bag.parent if bag.is_file() else bag)
    course = course_of(episode)
    if not course.steps:
        raise DesktopError(f"nothing was done in {bag}")
    return episode, course


def _values(values: Sequence[str], secrets: Sequence[str]) -> dict[str, str]:
    found = _pairs(values, "--set", "NAME=TEXT")
    for name, variable in _pairs(secrets, "--secret", "NAME=VARIABLE").items():
        if variable not in os.environ:
            raise DesktopError(f"--secret {name}={variable}: there is no environment variable {variable!r}")
        found[name] = os.environ[variable]
    return found


def _pairs(given: Sequence[str], option: str, form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"expected {form}", param_hint=option)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", param_hint=option)
        found[name] = text
    return found


def _report(course: Course, rows: Sequence[Row], as_json: bool) -> int:
    done = sum(r.executed for r in rows)
    good = done == len(course.steps)
    if not as_json:
        table = Table("", "action", "found by", "done", "effect", "then", "seconds", "what went wrong")
        table.title = f"{done} of {len(course.steps)} actions done"
        for row in rows:
            mark = "[green]yes[/]" if row.executed else "[red]no[/]"
            texts = (escape(t) for t in (row.effect, row.recorded))
            why = escape(" ".join(t for t in (row.refused, row.text) if t))
            table.add_row(str(row.number), row.kind, escape(row.how), mark, *texts, f"{row.seconds:.2f}", why)
        Console(emoji=False).print(table)
    whole = {"actions": len(course.steps), "done": done, "success": good, "rows": [vars(r) for r in rows]}
    click.echo(json.dumps(whole, ensure_ascii=False))
    return 0 if good else 1


COMMANDS = (record, replay, script, run)
"""Of the group `optr desktop`."""
