"""`optr eval`: policies x tasks x seeds, and what came of it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from optr.cli.convert import ended_like_interrupted
from optr.cli.episodes_common import console, show_json, table
from optr.cli.numbers import number_text, share_text

if TYPE_CHECKING:
    from optr.evaluation import Evaluation, PolicyResult


class _Options(click.ParamType):  # type: ignore[type-arg]
    """A JSON object."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except ValueError as err:
            self.fail(f"{value!r} is no JSON: {err}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f'{value!r} is no JSON object, such as {{"device": "cpu"}}', param, ctx)
        return found


@click.command("eval")
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option("--task", "tasks", multiple=True, default=("pick_place",), help="Task; again for more [pick_place].")
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many seeds.")
@click.option("--first-seed", type=click.IntRange(0), default=1000, show_default=True, help="The first of them.")
@click.option("--processes", type=click.IntRange(0), default=0, help="Processes that play [one per core].")
@click.option("--graph", is_flag=True, help="Through the real ROS graph, with a bag for every episode.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for everything [evaluations/<date>].")
@click.option("--resume", is_flag=True, help="Go on with what is in the folder; done episodes are not played again.")
@click.option("--videos", type=click.IntRange(0), help="Failures of each policy to film [3; with --graph 0].")
@click.option("--cameras/--no-cameras", default=None, help="Show policies the cameras [if one of them wants them].")
@click.option("--spec", default="", help="Robot and scene [those of the task].")
@click.option("--options", type=_Options(), default={}, help="Options of the operator `policy`, a JSON object.")
@click.option("--require", type=click.FloatRange(0, 1), default=0.0, help="Share of successes that each must reach.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
def evaluate_(
    policies: tuple[str, ...], seeds: int, first_seed: int, out: Path | None, require: float, as_json: bool,
    **how: Any,
) -> int:  # fmt: skip
    """Let each POLICY play the same seeds, and tell how often it succeeds.

    POLICY is the folder of a checkpoint, a name of the zoo (`optr policy list`), the address of a server
    (ws://host:port), or an installed operator (operator:scripted_pick_place).

    Exit code 0 if every episode was played to its end, 1 if some could not be or a policy stays below --require, 2 if
    it cannot be done as asked, 130 after Ctrl-C; then --resume goes on.
    """
    if how["graph"] and how["processes"] > 1:
        raise click.UsageError("--graph plays in one graph after the other; leave out --processes")
    if how["graph"] and how["videos"] and how["cameras"] is False:
        raise click.UsageError("--videos are made of what the cameras saw: leave out --no-cameras")
    folder = (out or Path("evaluations") / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}").resolve()
    chosen = range(first_seed, first_seed + seeds)
    with ended_like_interrupted(), _progress(chosen, len(policies) * len(how["tasks"]), as_json) as told:
        try:
            found = (
                _in_graph(policies, chosen, folder, told, **how)
                if how.pop("graph")
                else _in_process(policies, chosen, folder, told, **how)
            )
        except KeyboardInterrupt:
            click.echo(f"optr: go on with the same command, --out {folder} and --resume", err=True)
            raise
    _save(found)
    if as_json:
        show_json({**found.to_dict(), "required": require, "reached": found.reaches(require)})
    else:
        print_evaluation(found)
        if not found.reaches(require):
            click.echo(f"below the required {100 * require:g} %", err=True)
    return 0 if found.complete and found.reaches(require) else 1


def _in_process(
    policies: tuple[str, ...], seeds: range, folder: Path, told: Callable[[Mapping[str, Any]], None],
    tasks: tuple[str, ...], videos: int | None, **how: Any,
) -> Evaluation:  # fmt: skip
    from optr.evaluation import evaluate

    return evaluate(policies, tasks, seeds, folder, videos=3 if videos is None else videos, told=told, **how)


def _in_graph(
    policies: tuple[str, ...], seeds: range, folder: Path, told: Callable[[Mapping[str, Any]], None],
    tasks: tuple[str, ...], videos: int | None, cameras: bool | None, options: dict[str, Any], resume: bool, spec: str,
    **_: Any,
) -> Evaluation:  # fmt: skip
    from optr.evaluation.entrants import entrants_of, sees_pictures
    from optr.evaluation.evaluate import check_tasks
    from optr.ros.graph_evaluation import evaluate_in_graph

    check_tasks(tasks)
    shown = bool(videos) or any(sees_pictures(p) for p in policies) if cameras is None else cameras
    return evaluate_in_graph(
        entrants_of(policies, options), tasks, seeds, folder, resume=resume, videos=videos or 0, cameras=shown,
        spec=spec, told=told,
    )  # fmt: skip


def _save(found: Evaluation) -> None:
    from optr.experiments.manifest import write_whole
    from optr.experiments.telemetry import dump

    write_whole(found.folder / "summary.json", dump(json.loads(json.dumps(found.to_dict()))) + "\n")


@contextmanager
def _progress(seeds: range, runs: int, as_json: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A bar on a terminal's standard error; nothing elsewhere."""
    if as_json or sys.stderr is None or not sys.stderr.isatty():
        yield lambda line: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluation", total=len(seeds) * runs)
        yield lambda line: bar.update(task, advance=1, description=f"{line['run']}, seed {line['seed']}")


# -- the terminal ------------------------------------------------------------------------------------------------------


def print_evaluation(found: Evaluation) -> None:
    """An evaluation for people: every policy, every two on the same seeds, and where failures can be seen."""
    out = console()
    shown = table("policy", "task", "episodes", "success", "time [s]", "steps", "verdicts", "failed", "ms",
                  right=("episodes", "success", "time [s]", "steps", "verdicts", "failed", "ms"))  # fmt: skip
    for r in found.results:
        shown.add_row(*(escape(cell) for cell in _cells(r)))
    out.print(shown)
    if found.pairs:
        pairs = table("task", "first", "second", "both", "only first", "only second", "neither", "p", "p (Holm)",
                      right=("both", "only first", "only second", "neither", "p", "p (Holm)"))  # fmt: skip
        for p in found.pairs:
            counts = (p.both, p.only_first, p.only_second, p.neither)
            names = (escape(p.task), escape(p.first), escape(p.second))
            pairs.add_row(*names, *map(str, counts), f"{p.p:.3f}", f"{p.p_holm:.3f}")
        out.print(pairs)
    for text in _notes(found):
        out.print(escape(text), highlight=False, soft_wrap=True)


def _cells(r: PolicyResult) -> tuple[str, ...]:
    return (
        r.policy,
        r.task,
        str(r.played) if r.played == r.planned else f"{r.played}/{r.planned}",
        share_text(r.success),
        number_text(r.seconds_to_success.value),
        number_text(r.steps.value),
        f"{r.allowed}/{r.limited}/{r.refused}",
        str(r.failed),
        "–" if math.isnan(r.latency.p50) else f"{r.latency.p50:.3g}/{r.latency.p99:.3g}/{r.latency.worst:.3g}",
    )


def _notes(found: Evaluation) -> Iterator[str]:
    yield (
        "success with 95 % interval (Wilson); time: simulated, of successes; verdicts: allowed/limited/refused; ms: "
        "a decision, half of them/99 %/worst"
    )
    for r in found.results:
        if r.why:
            yield f"{r.policy}, {r.task}: {r.why}"
        if r.failed_seeds:
            some = ", ".join(map(str, r.failed_seeds[:20])) + (", …" if len(r.failed_seeds) > 20 else "")
            yield f"{r.policy}, {r.task}: no success with seed {some}"
    for v in found.videos:
        yield f"seed {v.seed} of {v.policy}: {v.path or 'no video'}" + (f" ({v.text})" if v.text else "")
    yield f"everything is in {found.folder}"
