"""`optr train`: a policy from a recipe, by imitation of episodes or by trial."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optr.errors import TrainingError

if TYPE_CHECKING:
    from optr.training.imitation import Trained
    from optr.training.recipe import Recipe

_SEED = 1000
_ON_RESUME = ("steps", "save_freq", "log_freq", "num_workers", "batch_size")
"""Settings that a training that goes on can have others of; the rest is in its checkpoint."""


@click.command()
@click.argument("recipe", required=False)
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the training [runs/RECIPE].")
@click.option("--resume", is_flag=True, help="Go on with the training in --out, by its own RECIPE and DATA.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Another setting; again for more.")
@click.option("--steps", type=click.IntRange(1), help="How long to train, in all [as in the recipe].")
@click.option("--batch-size", type=click.IntRange(1), help="Rows per step [as in the recipe].")
@click.option("--device", help="cpu, cuda, cuda:1, mps; auto is the quickest there is [auto].")
@click.option("--seed", type=click.IntRange(0), help="Of everything that is drawn [1000].")
@click.option("--processes", type=click.IntRange(1), default=1, help="Processes, a GPU each [1].")
@click.option("--spec", default="", help="Spec of the robot [the one in the data].")
@click.option("--outcome", multiple=True, help="Only bags of this outcome; again for more [all but known failures].")
@click.option("--eval/--no-eval", "evaluate", default=True, help="Try it in the simulation, if it is for a task there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end instead of text.")
def train(recipe: str | None, data: tuple[Path, ...], as_json: bool, **options: Any) -> int:
    """Train a policy by RECIPE, a file or one of those that ship with optr; on DATA, a LeRobotDataset or bags.

    Ctrl-C ends it with a checkpoint that --resume goes on from. Exit code 0 if it was trained to the end, 1 if it was
    interrupted, 2 if it cannot be done.
    """
    report = _nothing if as_json else click.echo
    chosen, out = _recipe(recipe, options)
    _check_options(chosen, recipe, data, options)
    if chosen.kind == "rl":
        return _by_trial(chosen, out, data, options, report, as_json)
    if options["resume"]:
        _go_on(chosen, out)
    else:
        _begin(chosen, out, data, options, report)
    result = _train(out, options["processes"], report, as_json)
    how = f"{result.samples_per_s:.0f} samples/s; loss {result.loss_first:.4f} -> {result.loss_last:.4f}"
    return _end(chosen, result, how, options["evaluate"], report, as_json)


def _recipe(name: str | None, options: Mapping[str, Any]) -> tuple[Recipe, Path]:
    from optr.training.recipe import load_recipe, override, parse_overrides

    values = parse_overrides(options["sets"])
    values |= {key: options[key] for key in ("steps", "batch_size") if options[key] is not None}
    out: Path | None = options["out"]
    if options["resume"]:
        if out is None:
            raise click.UsageError("--resume goes on with a training: name its folder by --out")
        stay = [key for key in values if key not in _ON_RESUME]
        if stay:
            raise click.UsageError(
                f"--resume cannot change {', '.join(stay)}: a checkpoint has it; there are: {', '.join(_ON_RESUME)}"
            )
        if not (out / "recipe.yaml").is_file():
            raise TrainingError(f"{out} holds no training: there is no recipe.yaml")
        return override(load_recipe(out / "recipe.yaml"), values), out
    if name is None:
        raise click.UsageError("name a recipe: optr train RECIPE DATA")
    chosen = load_recipe(name, values)
    return chosen, out or Path("runs") / chosen.name


def _check_options(recipe: Recipe, name: str | None, data: tuple[Path, ...], options: Mapping[str, Any]) -> None:
    """Refuse what would have no effect."""
    rl = recipe.kind == "rl"
    given = {key for key in ("device", "seed", "spec", "outcome") if options[key] not in (None, "", ())}
    if rl and options["processes"] > 1:
        raise click.UsageError("--processes is for imitation; how many worlds there are is a setting of the recipe")
    if rl and options["spec"]:
        raise click.UsageError(
            "--spec is for imitation; the robot of a training by trial is a setting: --set spec=NAME"
        )
    if options["processes"] > 1 and ":" in (options["device"] or ""):
        raise click.UsageError(f"--device {options['device']} is one alone, and each of --processes takes its own")
    if not options["resume"]:
        if options["outcome"] and not data:
            raise click.UsageError("--outcome chooses among bags: name some")
        return
    out = options["out"]
    stays = sorted(f"--{key}" for key in given - ({"device"} if rl else set()))
    if stays:
        raise click.UsageError(f"--resume cannot change {', '.join(stays)}: {out} goes on with what it has")
    if data or name is not None:
        raise click.UsageError(f"--resume goes on with the recipe and the data of {out}: name neither")


def _begin(
    recipe: Recipe, out: Path, data: tuple[Path, ...], options: Mapping[str, Any], report: Callable[[str], None]
) -> None:
    from optr.training import data as source
    from optr.training.folder import check_free
    from optr.training.imitation import Run, begin
    from optr.training.lerobot_config import check_recipe, device_named

    if not data:
        raise click.UsageError(f"name what to train on: optr train {recipe.name} DATASET, or bags")
    check_free(out)
    device = device_named(options["device"] or "auto")
    check_recipe(recipe, device)
    given, spec = [str(path) for path in data], options["spec"]
    found = source.find_data(given, out / "dataset", recipe, spec, report, options["outcome"])
    begin(out, recipe, Run(str(found.resolve()), spec, device, _seed(options)))


def _seed(options: Mapping[str, Any]) -> int:
    return _SEED if options["seed"] is None else int(options["seed"])


def _go_on(recipe: Recipe, out: Path) -> None:
    from optr.training.imitation import stored

    stored(out)
    (out / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")


def _train(out: Path, processes: int, report: Callable[[str], None], as_json: bool) -> Trained:
    from optr.training.imitation import train as run
    from optr.training.imitation import train_in_processes

    if processes > 1:
        return train_in_processes(out, processes, report)
    return run(out, report, show=not as_json)


def _end(
    recipe: Recipe, result: Any, how: str, evaluate: bool, report: Callable[[str], None], as_json: bool
) -> int:  # fmt: skip
    score = None
    try:
        if evaluate and recipe.task and not result.interrupted:
            report(f"trying it: {recipe.task}")
            score = _score(recipe, result)
    finally:  # it is trained, whatever becomes of the trial
        _tell(result, how, score, as_json)
    return 1 if result.interrupted else 0


def _score(recipe: Recipe, result: Any) -> dict[str, Any]:
    """Try what was trained, and write into its card how good it is."""
    from optr.training.curve import read_curve
    from optr.training.finish import add_score
    from optr.training.trial import try_policy

    out, policy = Path(result.out), Path(result.policy)
    score = try_policy(policy, recipe, out / "evaluation" / str(result.steps))
    curve: list[tuple[int, float]] = []
    with suppress(TrainingError):  # shorter than the way to its first entry
        curve = read_curve(out, "success" if recipe.kind == "rl" else "loss")
    add_score(policy, score, curve)
    return score


def _by_trial(
    recipe: Recipe, out: Path, data: tuple[Path, ...], options: Mapping[str, Any], report: Callable[[str], None],
    as_json: bool,
) -> int:  # fmt: skip
    train_rl = importlib.import_module("optr.training.rl").train_rl
    device, seed = options["device"] or "auto", _seed(options)
    result = train_rl(recipe, out, device, seed, report, options["resume"], data, options["outcome"])
    how = f"success {result.success:.2f} in the best of the trials on the way"
    return _end(recipe, result, how, options["evaluate"], report, as_json)


def _tell(result: Any, how: str, score: Mapping[str, Any] | None, as_json: bool) -> None:
    if as_json:
        told = {**result.__dict__, "interrupted": result.interrupted}
        click.echo(json.dumps({**told, "evaluation": score}))
        return
    times = f"{result.seconds:.0f} s ({result.steps_per_s:.1f} steps/s)"
    click.echo(f"trained {result.steps} of {result.wanted} steps in {times}; {how}")
    if score:
        click.echo(f"evaluation: {json.dumps(score)}")
    click.echo(f"policy: {result.policy}")
    if result.interrupted:
        click.echo(f"interrupted; go on with: optr train --resume --out {result.out}")


def _nothing(text: str) -> None:
    """Say nothing."""
