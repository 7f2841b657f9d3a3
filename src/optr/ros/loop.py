"""From nothing to a trained policy that works: record, convert, train, deploy, report.

Everything is kept in one folder. A stage that is done is not done again; one that was cut off goes on where it can:
episodes that are in the folder are not played again, training goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optr.episodes.convert.dataset import LeRobotFolder
from optr.errors import TrainingError
from optr.evaluation.entrants import OPERATOR, entrants_of, kind_of
from optr.evaluation.results import Evaluation
from optr.experiments.manifest import write_whole
from optr.experiments.plan import ANY_AGENT, Entrant
from optr.policies.card import has_card, read_card
from optr.ros.graph_evaluation import evaluate_in_graph
from optr.training.curve import draw_curve, read_curve
from optr.training.data import find_data
from optr.training.finish import add_score
from optr.training.folder import RUN
from optr.training.imitation import LAST, Run, begin, train
from optr.training.lerobot_config import STEPS, check_settings, policy_config
from optr.training.recipe import Recipe, load_recipe

STAGES = ("record", "convert", "train", "deploy", "report")
REPORT, CURVE, POLICY = "report.md", "curve.png", "policy"

_STATE = "loop.json"
_START = "start"
"""What is spent before the first stage: libraries are loaded."""

_OF_TRAINING = ("train_config.json",)
"""What LeRobot puts beside the weights to go on training; it names folders of this machine."""

Told = Callable[[str], None]


@dataclass(frozen=True)
class LoopPlan:
    """What is to be done.

    Attributes:
        recipe: A name or a file; its `task` is what is learned.
        episodes: Scripted ones to learn from; their seeds begin with 0.
        seeds: Unseen ones to try the policy on.
        first_seed: The first of those.
        steps: Of training; 0: as in the recipe.
        seed: Of the training.
    """

    recipe: str = "pick_place_act"
    episodes: int = 100
    seeds: int = 100
    first_seed: int = 10_000
    steps: int = 0
    seed: int = 1000


@dataclass(frozen=True)
class Spent:
    """What a stage took.

    Attributes:
        minutes: On the clock [min].
        cpu_minutes: Of all processes together [min].
    """

    minutes: float = 0.0
    cpu_minutes: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.minutes + other.minutes, self.cpu_minutes + other.cpu_minutes)


@dataclass(frozen=True)
class LoopResult:
    """What came of it.

    Attributes:
        folder: Where everything is.
        recorded: Scripted episodes that succeeded, and were learned from.
        episodes: Unseen seeds that the policy was tried on.
        successes: Those on which it succeeded.
        low: Lower end of Wilson's interval of the share of successes.
        high: Its upper end.
        failed_seeds: Those on which it did not.
        seconds: Mean time in the simulation of those that succeeded [s]; NaN without one.
        verdicts: Proposals that the sentinel allowed, limited and refused.
        spent: By stage.
    """

    folder: Path
    recorded: int
    episodes: int
    successes: int
    low: float
    high: float
    failed_seeds: tuple[int, ...]
    seconds: float
    verdicts: tuple[int, int, int]
    spent: Mapping[str, Spent]

    @property
    def total(self) -> Spent:
        """Of all stages."""
        return sum(self.spent.values(), Spent())

    def reaches(self, share: float) -> bool:
        """Whether at least that share of the unseen seeds succeeded."""
        return self.successes >= share * self.episodes - 1e-9

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for one line of JSON."""
        total = self.total
        return {
            "episodes": self.episodes,
            "successes": self.successes,
            "minutes": round(total.minutes, 2),
            "cpu_minutes": round(total.cpu_minutes, 2),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "recorded": self.recorded,
            "failed_seeds": list(self.failed_seeds),
            "stages": {name: round(spent.minutes, 2) for name, spent in self.spent.items()},
            "policy": str(self.folder / POLICY),
            "report": str(self.folder / REPORT),
        }


def run_loop(out: Path, plan: LoopPlan, told: Told = print, began: float | None = None) -> LoopResult:
    """Do what is left to do in a folder.

    Args:
        out: The folder; new, empty, or that of the same plan.
        plan: What is to be done.
        told: Told what happens.
        began: When whoever calls began, by `time.monotonic` [s]: what it has taken since counts; None: now.

    Raises:
        OptrError: If the folder holds something else, or a stage cannot be done; it can be called again.
    """
    began = time.monotonic() if began is None else began
    return _Loop(out, plan, told, began).run()


class _Loop:
    """A folder, what it shall become, and what is done of it (`loop.json`)."""

    def __init__(self, out: Path, plan: LoopPlan, told: Told, began: float) -> None:
        self._out, self._plan, self._told, self._began = out, plan, told, began
        self._recipe = _recipe(plan)
        out.mkdir(parents=True, exist_ok=True)
        self._state = self._read()
        self._write()

    def run(self) -> LoopResult:
        """Do the stages that are not done."""
        if any(stage not in self._state["done"] for stage in STAGES):
            self._spend(_START, (time.monotonic() - self._began) / 60, _cpu_s() / 60)
        for number, stage in enumerate(STAGES, 1):
            if stage in self._state["done"]:
                self._told(f"{number}/{len(STAGES)} {stage}: done before")
                continue
            self._told(f"{number}/{len(STAGES)} {stage}")
            with self._timed(stage):
                facts = getattr(self, f"_{stage}")()
            self._state["done"][stage] = facts
            self._write()
            spent = self._spent()[stage]
            self._told(f"    {spent.minutes:.1f} min, {spent.cpu_minutes:.1f} min of CPU")
        return self._result()

    # -- stages --------------------------------------------------------------------------------------------------

    def _record(self) -> dict[str, Any]:
        wanted = range(self._plan.episodes)
        entrant = entrants_of([f"{OPERATOR}scripted_{self._recipe.task}"])[0]
        result = self._play(entrant, wanted, self._out / "record").results[0]
        if result.played < len(wanted):
            raise TrainingError(f"{result.played} of {len(wanted)} episodes were recorded: {result.why}")
        return {"recorded": result.played, "failed_seeds": list(result.failed_seeds)}

    def _convert(self) -> dict[str, Any]:
        bags = sorted((self._out / "record").glob("*/bags/*"))
        root = find_data(bags, self._out / "dataset", self._recipe, report=self._say, outcomes=("success",))
        return {"episodes": int(LeRobotFolder(root).info["total_episodes"])}

    def _train(self) -> dict[str, Any]:
        folder = self._out / "train"
        policy = folder / LAST / "pretrained_model"
        if not (folder / RUN).exists():
            run = Run(str((self._out / "dataset").resolve()), device="cpu", seed=self._plan.seed)
            begin(folder, self._recipe, run)
        wanted = self._recipe.get("steps", STEPS)
        trained = has_card(policy) and read_card(policy).training["steps"] >= wanted  # and was cut off right after it
        if not trained and train(folder, self._say).interrupted:
            raise KeyboardInterrupt
        shutil.rmtree(self._out / POLICY, ignore_errors=True)
        shutil.copytree(policy, self._out / POLICY, ignore=shutil.ignore_patterns(*_OF_TRAINING))
        found = {key: read_card(policy).training[key] for key in ("steps", "loss", "parameters")}
        self._say("{steps} steps, loss {loss:.3f}, {parameters} parameters".format(**found))
        return found

    def _deploy(self) -> dict[str, Any]:
        seeds = range(self._plan.first_seed, self._plan.first_seed + self._plan.seeds)
        kind = kind_of(str(self._out / POLICY), {"device": "cpu"})
        entrant = Entrant(self._recipe.name, self._recipe.name, {ANY_AGENT: kind})
        result = self._play(entrant, seeds, self._out / "deploy").results[0]
        if result.played < len(seeds):
            raise TrainingError(f"{result.played} of {len(seeds)} seeds were played: {result.why}")
        how = {"seeds": f"{seeds.start} to {seeds.stop - 1}", "how": "ROS graph in lock-step, sentinel, simulation"}
        add_score(self._out / POLICY, result.score | how, read_curve(self._out / "train"))
        took = result.seconds_to_success.value
        return {
            **result.score,
            "failed_seeds": list(result.failed_seeds),
            "seconds": took if math.isfinite(took) else None,
            "verdicts": [result.allowed, result.limited, result.refused],
        }

    def _report(self) -> dict[str, Any]:
        curve = read_curve(self._out / "train")
        draw_curve(curve, self._out / CURVE, self._recipe.name)
        text = _report_text(self._result(), self._recipe, self._state["done"]["train"])
        (self._out / REPORT).write_text(text, encoding="utf-8")
        return {}

    # -- pieces --------------------------------------------------------------------------------------------------

    def _play(self, entrant: Entrant, seeds: range, folder: Path) -> Evaluation:
        """Play episodes through the graph, those that are not in the folder yet."""
        count = 0

        def tell(line: Mapping[str, Any]) -> None:
            nonlocal count
            count += 1
            ended = "success" if line["success"] else "FAILED"
            if not line["success"] or count % 10 == 0:
                self._say(f"seed {line['seed']}: {ended} after {line['steps']} steps")

        return evaluate_in_graph([entrant], [self._recipe.task], list(seeds), folder, resume=True, told=tell)

    def _say(self, text: str) -> None:
        self._told(f"    {text}")

    def _result(self) -> LoopResult:
        done = self._state["done"]
        found = dict(done["deploy"])
        return LoopResult(
            folder=self._out,
            recorded=done["convert"]["episodes"],
            failed_seeds=tuple(found.pop("failed_seeds")),
            seconds=math.nan if found["seconds"] is None else found["seconds"],
            verdicts=tuple(found.pop("verdicts")),
            spent=self._spent(),
            **{key: found[key] for key in ("episodes", "successes", "low", "high")},
        )

    def _spent(self) -> dict[str, Spent]:
        return {stage: Spent(**values) for stage, values in self._state["spent"].items()}

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """What a stage takes is kept however it ends."""
        clock, cpu = time.monotonic(), _cpu_s()
        try:
            yield
        finally:
            self._spend(stage, (time.monotonic() - clock) / 60, (_cpu_s() - cpu) / 60)

    def _spend(self, stage: str, minutes: float, cpu_minutes: float) -> None:
        before = self._spent().get(stage, Spent())
        self._state["spent"][stage] = asdict(before + Spent(minutes, cpu_minutes))
        self._write()

    def _read(self) -> dict[str, Any]:
        path, plan = self._out / _STATE, asdict(self._plan)
        if path.is_file():
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            differ = [key for key in plan if state["plan"].get(key) != plan[key]]
            if differ:
                raise TrainingError(f"{self._out} holds another loop: {', '.join(differ)} differ; name another folder")
            return state
        if any(self._out.iterdir()):
            raise TrainingError(f"{self._out} is not empty, and holds no loop; name another folder")
        return {"plan": plan, "done": {}, "spent": {}}

    def _write(self) -> None:
        write_whole(self._out / _STATE, json.dumps(self._state, indent=1) + "\n")


def _recipe(plan: LoopPlan) -> Recipe:
    """The recipe, seen to be one that this can be done by."""
    recipe = load_recipe(plan.recipe, {"steps": plan.steps} if plan.steps else {})
    check_settings(recipe)
    policy_config(recipe, "cpu")
    if not recipe.task:
        raise TrainingError(f"recipe {recipe.name} is for no task: nothing can be recorded, and nothing tried")
    if plan.episodes < 2 or plan.seeds < 1:
        raise TrainingError(f"{plan.episodes} episodes, {plan.seeds} seeds: at least 2 to learn from and 1 to try")
    if plan.first_seed < plan.episodes:
        raise TrainingError(f"seed {plan.first_seed} is one of those recorded, 0 to {plan.episodes - 1}")
    return recipe


def _cpu_s() -> float:
    """CPU time of this process and of those that it has waited for [s]."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _report_text(result: LoopResult, recipe: Recipe, training: Mapping[str, Any]) -> str:
    """The result for people, Markdown."""
    share = 100 * result.successes / result.episodes
    each = "" if math.isnan(result.seconds) else f", {result.seconds:.1f} s each in the simulation"
    lines = [
        f"# {recipe.name}: {result.successes} of {result.episodes} unseen seeds",
        "",
        f"{share:.0f} % (95 % Wilson interval {100 * result.low:.1f} to {100 * result.high:.1f} %){each}.",
        f"Learned from {result.recorded} scripted episodes, in {training['steps']} steps; "
        f"{training['parameters']:,} parameters.",
        "",
        "| stage | minutes | minutes of CPU |",
        "|---|---:|---:|",
        *(f"| {name} | {spent.minutes:.1f} | {spent.cpu_minutes:.1f} |" for name, spent in result.spent.items()),
        f"| all | {result.total.minutes:.1f} | {result.total.cpu_minutes:.1f} |",
        "",
        "Verdicts of the sentinel: {} allowed, {} limited, {} refused.".format(*result.verdicts),
        f"Failed seeds: {', '.join(map(str, result.failed_seeds)) or 'none'}.",
        f"![Training curve]({CURVE})",
    ]
    return "\n".join(lines) + "\n"
