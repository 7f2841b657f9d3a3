"""The fuzz: millions of hostile proposals against the guard, judged by an oracle that shares no code with it.

Proposals are split into runs of `RUN`, each with a guard and a seed of its own, so that the result depends on seed and
number alone, not on how many processes share the work; any run can be repeated by its number.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optr.sentinel.codes import Outcome
from optr.sentinel.config import load_config
from optr.sentinel.guard import Guard
from optr.sentinel.hostile import FAULTS, HostileRun, Track
from optr.sentinel.oracle import Oracle
from optr.spec import Spec, load_spec

RUN = 2000
"""Proposals per run."""

_AHEAD_NS = 20_000_000
"""So far ahead of the clock a command may be due [ns]."""

_KEPT = 20
"""Violations that are told one by one."""


@dataclass(frozen=True)
class FuzzSettings:
    """What to do.

    Attributes:
        proposals: How many.
        seed: Seed of all random numbers.
        spec: Robot: a file, or the name of a spec that ships with optr.
        rules: Configuration of the guard; None: what ships.
        jobs: Processes that share the work.
        only: Number of the one run to do, as told with a violation; None: all.
    """

    proposals: int
    seed: int = 0
    spec: str = "so101_tabletop"
    rules: Path | None = None
    jobs: int = 1
    only: int | None = None


@dataclass(frozen=True)
class Found:
    """One violation, and where it is found again.

    Attributes:
        run: Number of the run; `FuzzSettings.only` repeats it.
        step: Number of the call of the guard within the run.
        kind: One of `oracle.KINDS`, or the kind of a `Lapse`.
        text: For people.
    """

    run: int
    step: int
    kind: str
    text: str


@dataclass
class FuzzReport:
    """What happened, summed over runs.

    Attributes:
        proposals: Proposals judged.
        calls: Calls of the guard, ticks included.
        commands: Commands that were sent.
        tracks: Starts from rest.
        violations: Violations by kind.
        outcomes: Proposals by outcome.
        codes: Codes given with them.
        kinds: Proposals and faults by kind.
        moods: Runs by mood.
        float_warnings: Overflows and the like in the guard's arithmetic.
        speed_ratio: Largest commanded speed over its limit.
        acceleration_ratio: Largest commanded acceleration over its limit.
        middle_ratio: The same between the middles of uneven intervals (see `oracle`); no violation.
        first: The first violations.
        seconds: Time it took [s].
    """

    proposals: int = 0
    calls: int = 0
    commands: int = 0
    tracks: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    moods: Counter[str] = field(default_factory=Counter)
    float_warnings: int = 0
    speed_ratio: float = 0.0
    acceleration_ratio: float = 0.0
    middle_ratio: float = 0.0
    first: list[Found] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: FuzzReport) -> None:
        """Add what another run found; time is not added."""
        for name in ("proposals", "calls", "commands", "tracks", "float_warnings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("violations", "outcomes", "codes", "kinds", "moods"):
            getattr(self, name).update(getattr(other, name))
        for name in ("speed_ratio", "acceleration_ratio", "middle_ratio"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.first = (self.first + other.first)[:_KEPT]

    def note(self, found: Found) -> None:
        """Add one violation."""
        self.violations[found.kind] += 1
        if len(self.first) < _KEPT:
            self.first.append(found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers, and counts sorted by name."""
        out: dict[str, Any] = {"proposals": self.proposals, "violations": sum(self.violations.values())}
        out["violations_by_kind"] = dict(sorted(self.violations.items()))
        for key in ("calls", "commands", "tracks", "seconds", "float_warnings"):
            out[key] = getattr(self, key)
        for key in ("outcomes", "codes", "kinds", "moods"):
            out[key] = dict(sorted(getattr(self, key).items()))
        out["worst"] = {
            "speed_ratio": self.speed_ratio,
            "acceleration_ratio": self.acceleration_ratio,
            "acceleration_ratio_between_middles": self.middle_ratio,
        }
        out["first_violations"] = [asdict(v) for v in self.first]
        return out


def make_guard(spec: Spec, rules: Path | None) -> Guard:
    """A fresh guard, as the sentinel makes it."""
    # Looking ahead costs ten times the rest; what it lets through is measured against simulation (test/truth.py).
    return Guard(spec, load_config(spec, rules or "").without("collision"))


def make_oracle(spec: Spec, rules: Path | None = None) -> Oracle:
    """The oracle for commands of the sentinel: its silence, and how far a stamp may lie ahead of the clock."""
    silence_ns = round((load_config(spec, rules or "").timing.late_periods + 1) * spec.period_ns)
    return Oracle(spec.limits, silence_ns, _AHEAD_NS)


def hostile_run(
    spec: Spec,
    seed: int,
    number: int,
    rules: Path | None = None,
    faults: tuple[str, ...] = FAULTS,
    journal: bool = False,
) -> HostileRun:
    """The run with this number, not yet played."""
    return HostileRun(spec, make_guard(spec, rules), np.random.SeedSequence(seed, spawn_key=(number,)), faults, journal)


def play(run: HostileRun, oracle: Oracle, number: int = 0, proposals: int = RUN) -> FuzzReport:
    """Play a run to its end and judge it."""
    report = FuzzReport()

    def note_warning(what: str, flag: int) -> None:
        report.float_warnings += 1

    with np.errstate(over="call", invalid="call", divide="call", under="ignore", call=note_warning):
        run.play(proposals)
    report.proposals, report.calls, report.tracks = run.proposals, run.calls, len(run.tracks)
    report.outcomes.update({Outcome(k).name: n for k, n in run.outcomes.items()})
    report.codes, report.kinds, report.moods = run.codes, run.kinds, Counter({run.mood: 1})
    for lapse in run.lapses:
        report.note(Found(number, lapse.step, lapse.kind, lapse.text))
    for track in run.tracks:
        _judge(report, oracle, track, number)
    report.first.sort(key=lambda v: v.step)
    return report


def _judge(report: FuzzReport, oracle: Oracle, track: Track, number: int) -> None:
    if not track.stamps:
        return
    if track.start is None:
        report.note(Found(number, track.steps[0], "unfounded", "a command before any measurement to start from"))
        return
    report.commands += len(track.stamps)
    judged = oracle.check(track.start_ns, track.start, track.stamps, track.positions, track.clocks)
    report.speed_ratio = max(report.speed_ratio, judged.speed_ratio)
    report.acceleration_ratio = max(report.acceleration_ratio, judged.acceleration_ratio)
    report.middle_ratio = max(report.middle_ratio, judged.middle_ratio)
    for v in judged.violations:
        text = f"{v.joint or 'stamp'}: {v.value:.9g}, allowed {v.limit:.9g}"
        report.note(Found(number, track.steps[v.row], v.kind, text))


def fuzz(settings: FuzzSettings, progress: Callable[[int], None] | None = None) -> FuzzReport:
    """Throw proposals at fresh guards.

    Args:
        settings: How many, which robot, which seed.
        progress: Called with the number of proposals done since the last call.

    Returns:
        What was found.

    Raises:
        OptrError: If spec or rules cannot be used.
    """
    begin, report = time.perf_counter(), FuzzReport()
    make_guard(load_spec(settings.spec), settings.rules)  # what cannot be used is told at once
    numbers = range(-(-settings.proposals // RUN)) if settings.only is None else [settings.only]
    work = [(n, RUN if settings.only is not None else min(RUN, settings.proposals - n * RUN)) for n in numbers]
    for done in _results(settings, work):
        report.add(done)
        if progress is not None:
            progress(done.proposals)
    report.seconds = time.perf_counter() - begin
    return report


def _results(settings: FuzzSettings, work: list[tuple[int, int]]) -> Iterator[FuzzReport]:
    one = partial(_numbered, settings)
    if settings.jobs <= 1 or len(work) <= 1:
        yield from map(one, work)
        return
    # Not forked: threads of a progress bar would not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(settings.jobs, len(work)), mp_context=context) as pool:
        yield from pool.map(one, work)


_specs: dict[str, Spec] = {}


def _numbered(settings: FuzzSettings, work: tuple[int, int]) -> FuzzReport:
    number, proposals = work
    if settings.spec not in _specs:
        _specs[settings.spec] = load_spec(settings.spec)
    spec = _specs[settings.spec]
    run = hostile_run(spec, settings.seed, number, settings.rules)
    return play(run, make_oracle(spec, settings.rules), number, proposals)
