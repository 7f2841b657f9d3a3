"""Evaluate policies in process: an experiment, played side by side, and what its telemetry tells."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optr.cores import cores
from optr.errors import ExperimentError, UnknownNameError
from optr.evaluation.entrants import entrants_of, sees_pictures
from optr.evaluation.failures import film_failures
from optr.evaluation.played import played_of_line
from optr.evaluation.results import Evaluation, Key, make_evaluation
from optr.experiments import Arena, Entrant, Fallback, Plan, load_plan, run_experiment
from optr.experiments.manifest import PLAN_FILE, manifest_file, read_manifest
from optr.experiments.plan import pairing_id
from optr.experiments.results import lines_of
from optr.experiments.telemetry import read_lines, steps_file
from optr.plugins import plugin_names

NAME = "evaluation"


def evaluate(
    policies: Sequence[str | os.PathLike[str]],
    tasks: Sequence[str] = ("pick_place",),
    seeds: Sequence[int] = tuple(range(1000, 1100)),
    out: Path | None = None,
    *,
    processes: int = 0,
    resume: bool = False,
    videos: int = 0,
    cameras: bool | None = None,
    spec: str = "",
    options: Mapping[str, Any] | None = None,
    told: Callable[[Mapping[str, Any]], None] = lambda line: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Let every policy play the same seeds of the same tasks, and count what comes of it.

    Args:
        policies: Each a folder, a name of the zoo, `ws://host:port`, or `operator:NAME`.
        tasks: Names of `optr tasks`, or environments by their whole name (`family:id`).
        seeds: Of the environment, all different.
        out: Folder for telemetry and videos; None: nothing is kept.
        processes: Processes that play; 1: this one alone; 0: one for each core.
        resume: Go on with what is in the folder.
        videos: Failures of each policy in each task to make a video of; the first ones.
        cameras: Whether policies are shown pictures; None: if the card of one of them asks for it.
        spec: Robot and scene; empty: those of the task.
        options: Of the operator `policy`: `device`, `seam`, ...
        told: Called with the line of every episode that has ended.
        cancelled: Asked in every step whether to end.

    Raises:
        OptrError: If a policy or task is unknown, or the folder holds something else.
    """
    check_tasks(tasks)
    if out is None:
        with tempfile.TemporaryDirectory(prefix="optr-evaluation-") as folder:
            return evaluate(
                policies, tasks, seeds, Path(folder), processes=processes, cameras=cameras, spec=spec, options=options,
                told=told, cancelled=cancelled,
            )  # fmt: skip
    shown = any(sees_pictures(os.fspath(p)) for p in policies) if cameras is None else cameras
    plan = plan_of(entrants_of(policies, options), tasks, seeds, processes or cores(), shown, spec)
    if resume:
        plan = _same_parts(plan, out)
    progress = run_experiment(plan, out, resume, plan.processes, told, cancelled)
    found = read_evaluation(out, progress.failed)
    return film_failures(found, plan, out, videos) if videos else found


def check_tasks(tasks: Sequence[str]) -> None:
    """See that what is called by its name alone is a task of the simulation.

    Raises:
        UnknownNameError: If it is none.
    """
    for task in tasks:
        if ":" not in task and task not in plugin_names("task"):
            raise UnknownNameError("task", task, plugin_names("task"))


def plan_of(
    entrants: Sequence[Entrant], tasks: Sequence[str], seeds: Sequence[int], processes: int, cameras: bool, spec: str
) -> Plan:
    """An evaluation as an experiment; its seeds are dealt so that every process has something to do.

    Raises:
        ExperimentError: If there is nothing to play, or a seed or task comes twice.
    """
    for what, items in (("task", tasks), ("seed", seeds)):
        twice = sorted({str(i) for i in items if list(items).count(i) > 1}) if len(set(items)) < len(items) else []
        if twice or not items:
            raise ExperimentError(f"{what} {', '.join(twice)} is named twice" if twice else f"name at least one {what}")
    given = {**({"spec": spec} if spec else {}), **({"render": True} if cameras else {})}
    arenas = tuple(_arena(task, given) for task in tasks)
    pairings = len(entrants) * len(arenas)
    parts = min(len(seeds), processes // math.gcd(processes, pairings))
    return Plan(
        NAME, tuple(entrants), arenas, tuple(seeds), fallback=Fallback.NOOP, processes=processes, bags=False,
        parts=parts,
    )  # fmt: skip


def read_evaluation(folder: Path, failed: Mapping[str, str] | None = None) -> Evaluation:
    """What the telemetry in the folder of an evaluation tells so far.

    Args:
        folder: Its `out`.
        failed: Why runs could not be played, by run; None: as its manifest says.

    Raises:
        OptrError: If there is none, or its telemetry is broken.
    """
    plan = load_plan(folder / PLAN_FILE)
    if failed is None:
        failed = {id: run["failed"] for id, run in read_manifest(folder)["runs"].items() if run["failed"]}
    lines = lines_of(plan, folder)
    keys = [(entrant.id, arena.id) for entrant, arena in plan.pairings]
    episodes = [played_of_line(line) for pairing in plan.pairings for line in lines[pairing_id(*pairing)]]
    why: dict[Key, str] = {}
    for run in plan.runs:
        if run.id in failed:
            why.setdefault((run.entrant.id, run.arena.id), failed[run.id])
    return make_evaluation(folder, keys, plan.episodes_each, episodes, _decisions(plan, folder), why)


def _decisions(plan: Plan, folder: Path) -> dict[Key, list[float]]:
    """How long every decision took [s]."""
    out: dict[Key, list[float]] = {}
    for run in plan.runs:
        seconds = out.setdefault((run.entrant.id, run.arena.id), [])
        seconds += [float(line["wall_decide_s"]) for line in read_lines(steps_file(folder, run.id))]
    return out


def _arena(task: str, given: Mapping[str, Any]) -> Arena:
    family, colon, id = task.partition(":")
    return Arena(id, task) if colon and family != "sim" else Arena(id or family, f"sim:{id or family}", given)


def _same_parts(plan: Plan, folder: Path) -> Plan:
    """The plan with seeds dealt as they were: how many processes play may differ when it is gone on with."""
    if not manifest_file(folder).is_file():
        return plan
    return replace(plan, parts=load_plan(folder / PLAN_FILE).parts)
