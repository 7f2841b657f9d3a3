"""Does a good operator notice the guard, and is every fault caught?

Clean: scripted episodes in the simulated cell; nothing may be stopped or refused, and what is commanded must be what
was proposed wherever no limit is near. Faults: the same with one fault each while the arm moves; each must be caught
with its code, no limit be broken, and the arm come to rest. Time is simulated: joint states at 100 Hz, decisions at the
action rate, 3 ms on their way. How long real processes take to notice that one of them is dead: test/test_graph.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import spread

from optr.connectors.sim import Simulation, World
from optr.connectors.sim.tasks import make_task
from optr.operators import OperatorHost, make_operator
from optr.sentinel import Code, Guard, Outcome, load_config
from optr.sentinel.oracle import Oracle
from optr.spec import ActionChunk, Channel, Feature, JointSample, Observation, Source, Spec, load_spec
from optr.spec.spec import STATE

MS = 1_000_000
TICK_NS = 10 * MS
DELAY_NS = 3 * MS
HOLD_NS = 100 * MS
"""A connector that hears no command for so long stays where it is [ns]."""

AFTER_S = 2.0
"""How long a fault lasts before its episode is over [s]."""

STILL = 0.05
"""A joint slower than this is at rest [rad/s]."""

TASKS = ("pick_place", "push", "reach")
HEALTH = {"current": ("A", 2.0), "temperature": ("degC", 60.0), "effort": ("N*m", 5.0)}
RULES = """
rules:
  interventions: {do: stop, most: 20, window: 1.0}
  keep_out: {zones: [{name: tower, points: [gripper_frame], low: [-1, -1, 0.27], high: [1, 1, 1]}]}
"""


def cell_spec() -> Spec:
    """The tabletop with drivers that report currents, temperatures and efforts."""
    spec = load_spec("so101_tabletop")
    features = dict(spec.features)
    for name, (unit, high) in HEALTH.items():
        channels = tuple(Channel(n, unit, None, high) for n in spec.action.names)
        key = f"observation.{name}"
        shape = (len(channels),)
        features[key] = Feature(key, f"health/{name}", "std_msgs/msg/Float64MultiArray", shape, "float64", 10.0, 0.5,
                                channels=channels)  # fmt: skip
    return replace(spec, features=features)


@dataclass
class Cell:
    """One simulated cell with operator and guard, in simulated time.

    Attributes:
        fault: What changes a sample, a chunk or the clock once the fault is on; see `Fault`.
        since: When the fault came [ns], or None.
    """

    spec: Spec
    task: str
    seed: int
    rules: Path
    fault: Fault | None = None
    at_step: int = 60
    since: int | None = None
    said: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    caught: set[str] = field(default_factory=set)
    worst: float = 0.0
    near: int = 0
    fast: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sim = Simulation(_world(self.spec), make_task(self.task))
        operator = make_operator(f"scripted_{self.task}", self.spec)
        self.host = OperatorHost(operator)
        self.guard = Guard(self.spec, load_config(self.spec, self.rules), operator.id)
        self.sim.reset(self.seed)
        self.host.reset(self.seed)
        self.sent = self.decided = 0
        self.clock_ns = 0
        self.sample: JointSample | None = None
        self.chunk: ActionChunk | None = None
        self.stamps: list[int] = []
        self.track: list[np.ndarray] = []
        self.start = self.sim.world.joints().position
        self.start_ns = self.sim.world.time_ns

    @property
    def world(self) -> World:
        return self.sim.world

    def run(self) -> None:
        """Until the task is over, or for a while after the fault."""
        ticks = self.sim.steps_per_action * self.world.timestep_ns // TICK_NS
        while not self.sim.now.over or self.since is not None:
            self._sense()
            self._decide()
            for _ in range(ticks):
                self.world.advance(TICK_NS // self.world.timestep_ns)
                speed = self.world.joints().velocity
                assert speed is not None
                self.fast.append((self.world.time_ns, float(np.abs(speed).max())))
                if _ + 1 < ticks:
                    self._sense()
                    self._tick()
            self.sim.judge()
            if self.since is not None and self.world.time_ns - self.since > AFTER_S * 1e9:
                return

    def _sense(self) -> None:
        sample: JointSample | None = self.world.joints()
        assert sample is not None
        for name in HEALTH:
            self.guard.see(f"observation.{name}", sample.stamp_ns, np.full(len(self.spec.action.names), 0.5))
        picture = (np.arange(240 * 320 * 3) * 31 + sample.stamp_ns // TICK_NS * 57) % 251
        for feature in self.spec.images.values():
            self.guard.see(feature.key, sample.stamp_ns, picture.astype(np.uint8).reshape(feature.shape))
        if self.since is not None and self.fault is not None:
            sample = self.fault.sense(self, sample)
        self.sample = sample if sample is not None else self.sample

    def _decide(self) -> None:
        world = self.world
        if (
            self.fault is not None
            and self.since is None
            and self.sim.now.step >= self.at_step
            and self.fast
            and self.fast[-1][1] > 0.4
        ):
            self.since = world.time_ns
            self.fault.begin(self)
        joints = world.joints()
        values = {STATE: joints.position.astype(np.float32)}
        for name, feature in self.spec.environment.items():
            pose = world.pose(name)
            values[feature.key] = np.concatenate((pose.position, pose.quat_xyzw)).astype(np.float32)
            self.guard.see(feature.key, joints.stamp_ns, values[feature.key])
        seen = Observation(joints.stamp_ns, values, dict.fromkeys(values, 0))
        chunk: ActionChunk | None = self.host.decide(seen)
        assert chunk is not None
        if self.since is not None and self.fault is not None:
            chunk = self.fault.propose(self, chunk)
        if chunk is None:
            self._tick()
            return
        self.chunk = chunk
        before = self.guard.position
        now = self._now(DELAY_NS)
        command, judgement = self.guard.step(now, self.sample, chunk)
        assert judgement is not None
        self.said[judgement.outcome.name] += 1
        self.codes.update(map(str, judgement.codes))
        if self.since is not None:
            self.caught |= set(map(str, judgement.codes))
        elif before is not None and command is not None and judgement.proposed is not None:
            self._compare(before, judgement.proposed, command.position)
        self._send(command)

    def _compare(self, before: np.ndarray, proposed: np.ndarray, commanded: np.ndarray) -> None:
        """Where no limit is near, what is commanded is what was proposed."""
        limits = self.spec.limits
        dt = self.spec.period_ns * 1e-9
        speed, last = (proposed - before) / dt, getattr(self, "last_speed", np.zeros_like(before))
        brake = speed * np.abs(speed) / (2 * limits.acceleration) * 1.5
        ends = proposed + brake
        far = (
            (np.abs(speed) < 0.9 * np.minimum(limits.velocity, limits.step / dt)).all()
            and (np.abs(speed - last) < 0.8 * limits.acceleration * dt).all()
            and (ends > limits.low + 0.02).all()
            and (ends < limits.high - 0.02).all()
        )
        self.last_speed = (commanded - before) / dt
        if far:
            self.worst = max(self.worst, float(np.abs(commanded - proposed).max()))
        else:
            self.near += 1

    def _tick(self) -> None:
        command, _ = self.guard.step(self._now(0), self.sample)
        self._send(command)

    def _send(self, command: Any) -> None:
        if self.since is not None and self.guard.reason is not None:
            self.caught.add(str(self.guard.reason.code))
            self.caught |= {str(f.code) for f in self.guard.notices.values()}
        if command is not None:
            self.stamps.append(command.stamp_ns)
            self.track.append(command.position)
            self.world.command(command.position)
            self.sent = self.world.time_ns
        elif self.world.time_ns - self.sent > HOLD_NS:
            self.world.hold()

    def _now(self, delay: int) -> int:
        return int(self.world.time_ns + delay + self.clock_ns)

    def rest_s(self) -> float:
        """Time from the fault to the last moment that a joint moved [s]."""
        assert self.since is not None
        return max((at - self.since for at, speed in self.fast if at > self.since and speed > STILL), default=0) * 1e-9

    def commanded_rest_s(self) -> float:
        """Time from the fault to the last command that moved [s]."""
        assert self.since is not None
        moved = [
            at - self.since
            for at, a, b in zip(self.stamps[1:], self.track, self.track[1:], strict=False)
            if at > self.since and (a != b).any()
        ]
        return max(moved, default=0) * 1e-9

    def violations(self) -> int:
        """Commands outside the limits, by code that shares nothing with the guard."""
        spec = self.spec
        silence = round((self.guard.config.timing.late_periods + 1) * spec.period_ns)
        # The cell was reset to rest at its start; the guard may take that for its first command.
        report = Oracle(spec.limits, silence, HOLD_NS * 100).check(
            self.start_ns - spec.period_ns,
            np.clip(self.start, spec.limits.low, spec.limits.high),
            self.stamps,
            self.track,
        )
        return len(report.violations)


_worlds: dict[str, World] = {}


def _world(spec: Spec) -> World:
    if spec.name not in _worlds:
        _worlds[spec.name] = World(spec)
    return _worlds[spec.name]


# -- the faults --------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """One thing that goes wrong, from some moment on."""

    name: str
    code: tuple[str, ...]
    on_begin: Callable[[Cell], None] = lambda cell: None
    on_sense: Callable[[Cell, JointSample], JointSample | None] = lambda cell, sample: sample
    on_propose: Callable[[Cell, ActionChunk], ActionChunk | None] = lambda cell, chunk: chunk
    kept: Any = None

    def begin(self, cell: Cell) -> None:
        self.kept = cell.sample
        self.on_begin(cell)

    def sense(self, cell: Cell, sample: JointSample) -> JointSample | None:
        return self.on_sense(cell, sample)

    def propose(self, cell: Cell, chunk: ActionChunk) -> ActionChunk | None:
        return self.on_propose(cell, chunk)


def chunks(change: Callable[[Cell, ActionChunk], dict[str, Any]]) -> Callable[[Cell, ActionChunk], ActionChunk]:
    return lambda cell, chunk: replace(chunk, **change(cell, chunk))


def samples(change: Callable[[Cell, JointSample], dict[str, Any]]) -> Callable[[Cell, JointSample], JointSample]:
    return lambda cell, sample: replace(sample, **change(cell, sample))


def shifted(what: str, by_ms: int) -> Callable[[Cell, ActionChunk], ActionChunk]:
    return chunks(lambda cell, chunk: {what: getattr(chunk, what) + by_ms * MS})


def stamped(by_ms: int) -> Callable[[Cell, JointSample], JointSample]:
    return samples(lambda cell, sample: {"stamp_ns": sample.stamp_ns + by_ms * MS})


def clock(by_ms: int) -> Callable[[Cell], None]:
    def jump(cell: Cell) -> None:
        cell.clock_ns = by_ms * MS

    return jump


def failed(cell: Cell, chunk: ActionChunk) -> dict[str, Any]:
    return {"values": chunk.values[:0], "source": Source.FALLBACK}


def broken(cell: Cell, sample: JointSample) -> dict[str, Any]:
    return {"position": sample.position * np.nan}


def frozen(cell: Cell, sample: JointSample) -> dict[str, Any]:
    assert cell.fault is not None
    return {"position": cell.fault.kept.position}


def wild(cell: Cell, chunk: ActionChunk) -> dict[str, Any]:
    rng = np.random.default_rng(chunk.sequence + 1000 * cell.seed)
    return {"values": rng.uniform(-4, 4, chunk.values.shape)}


def unhealthy(name: str, value: float) -> Callable[[Cell, JointSample], JointSample]:
    def sense(cell: Cell, sample: JointSample) -> JointSample:
        cell.guard.see(f"observation.{name}", sample.stamp_ns, np.full(len(cell.spec.action.names), value))
        return sample

    return sense


def blank(cell: Cell, sample: JointSample) -> JointSample:
    for feature in cell.spec.images.values():
        cell.guard.see(feature.key, sample.stamp_ns, np.zeros(feature.shape, dtype=np.uint8))
    return sample


def toward(cell: Cell, pose: dict[str, float]) -> np.ndarray:
    """Rows at half speed all the way to a pose, shape (m, n)."""
    names, at = cell.spec.action.names, cell.guard.position
    assert at is not None
    goal = np.array([pose.get(n, at[i]) for i, n in enumerate(names)])
    way = goal - at
    rows = max(2, int(np.ceil(float(np.abs(way).max()) / 0.028)))
    return np.array([at + way * (k + 1) / rows for k in range(rows)])


def dive(cell: Cell, chunk: ActionChunk) -> dict[str, Any]:
    return {"values": toward(cell, {"shoulder_lift": 1.0, "elbow_flex": 0.6, "wrist_flex": 0.3})}


def rise(cell: Cell, chunk: ActionChunk) -> dict[str, Any]:
    return {"values": toward(cell, {"shoulder_lift": 0.2, "elbow_flex": -0.6, "wrist_flex": -0.3})}


def faults() -> Iterator[Callable[[], Fault]]:
    """Every kind of fault, as something that makes a new one."""
    n, p, s = None, chunks, samples
    kinds: list[tuple[Any, ...]] = [
        ("operator falls silent", (Code.NO_ACTION,), n, n, lambda c, k: None),
        ("operator abstains", (Code.ABSTAINED,), n, n, p(lambda c, k: {"values": k.values[:0]})),
        ("operator fails", (Code.ABSTAINED,), n, n, p(failed)),
        ("not a number", (Code.NOT_A_NUMBER,), n, n, p(lambda c, k: {"values": k.values * np.nan})),
        ("wrong names", (Code.WRONG_NAMES,), n, n, p(lambda c, k: {"names": ("x", *k.names[1:])})),
        ("wrong size", (Code.WRONG_SIZE,), n, n, p(lambda c, k: {"values": np.hstack([k.values, k.values])})),
        ("stale observation", (Code.OBSERVATION_STALE,), n, n, shifted("observation_ns", -300)),
        ("observation of the future", (Code.OBSERVATION_AHEAD,), n, n, shifted("observation_ns", 300)),
        ("late actions", (Code.ACTION_STALE,), n, n, shifted("start_ns", -300)),
        ("actions far ahead", (Code.ACTION_AHEAD,), n, n, shifted("start_ns", 3000)),
        ("the same proposal again", (Code.SEQUENCE_REPLAYED,), n, n, p(lambda c, k: {"sequence": 1})),
        ("a stranger proposes", (Code.WRONG_AUTHORITY,), n, n, p(lambda c, k: {"operator_id": "stranger"})),
        ("wild targets", (Code.TOO_MANY_INTERVENTIONS,), n, n, p(wild)),
        ("dive into the table", (Code.WORLD_COLLISION, Code.SELF_COLLISION), n, n, p(dive)),
        ("into a forbidden zone", (Code.KEEP_OUT,), n, n, p(rise)),
        ("no joint states", (Code.OBSERVATION_STALE,), n, lambda c, m: None, n),
        ("joint states from before", (Code.CLOCK_BACKWARDS,), n, stamped(-500), n),
        ("joint states from ahead", (Code.CLOCK_BACKWARDS,), n, stamped(500), n),
        ("frozen joint states", (Code.FROZEN_SENSOR,), n, s(frozen), n),
        ("joint states are not numbers", (Code.STATE_NOT_A_NUMBER,), n, s(broken), n),
        ("blank camera", (Code.CONSTANT_IMAGE,), n, blank, n),
        ("motor current", (Code.CURRENT_LIMIT,), n, unhealthy("current", 3.0), n),
        ("motor temperature", (Code.TEMPERATURE_LIMIT,), n, unhealthy("temperature", 75.0), n),
        ("effort", (Code.EFFORT_LIMIT,), n, unhealthy("effort", 6.0), n),
        ("clock jumps ahead", (Code.OBSERVATION_STALE, Code.SENSOR_SILENT), clock(10_000), n, n),
        ("clock jumps back", (Code.CLOCK_BACKWARDS, Code.OBSERVATION_AHEAD), clock(-10_000), n, n),
        ("authority is taken away", (Code.WRONG_AUTHORITY,), lambda c: c.guard.set_authority(""), n, n),
        ("stop is pressed", (Code.STOP_REQUESTED,), lambda c: c.guard.stop("pressed"), n, n),
        ("recorder is lost", (Code.RECORDER_LOST,), lambda c: c.guard.inhibit(Code.RECORDER_LOST, "gone"), n, n),
    ]  # fmt: skip
    for name, codes, begin, sense, propose in kinds:
        given = {"on_begin": begin, "on_sense": sense, "on_propose": propose}
        given = {k: v for k, v in given.items() if v is not None}

        def make(name: str = name, codes: tuple[str, ...] = codes, given: dict[str, Any] = given) -> Fault:
            return Fault(name, tuple(str(c) for c in codes), **given)

        yield make


# -- runs --------------------------------------------------------------------------------------------------------


def run_clean(count: int, rules: Path, first: int = 0) -> dict[str, Any]:
    """Scripted episodes without a fault."""
    spec, said, codes = cell_spec(), Counter(), Counter()
    worst, near, success, violations = 0.0, 0, 0, 0
    for seed in range(first, first + count):
        cell = Cell(spec, TASKS[seed % len(TASKS)], seed, rules)
        cell.run()
        said, codes = said + cell.said, codes + cell.codes
        worst, near = max(worst, cell.worst), near + cell.near
        success += cell.sim.now.success
        violations += cell.violations()
    return {
        "episodes": count,
        "successes": success,
        "outcomes": {o.name: said[o.name] for o in Outcome},
        "codes": dict(codes),
        "violations": violations,
        "worst_difference_where_no_limit_is_near": worst,
        "proposals_near_a_limit": near,
    }


def run_faults(count: int, rules: Path, first: int = 0) -> dict[str, Any]:
    """Episodes with one fault each, all kinds in turn."""
    spec, makers = cell_spec(), list(faults())
    by_kind: dict[str, list[float]] = {}
    missed, violations, moving, commanded = [], 0, [], []
    for i in range(first, first + count):
        rng = np.random.default_rng(i)
        cell = Cell(spec, "pick_place", i, rules, makers[i % len(makers)](), int(rng.integers(20, 110)))
        assert cell.fault is not None
        cell.run()
        name = cell.fault.name
        if cell.since is None:
            missed.append(f"{name}, seed {i}: the arm never moved fast enough for it to begin")
            continue
        if not set(cell.fault.code) & cell.caught:
            missed.append(f"{name}, seed {i}: saw {sorted(cell.caught)}, expected {' or '.join(cell.fault.code)}")
        rest = cell.rest_s()
        by_kind.setdefault(name, []).append(rest)
        commanded.append(cell.commanded_rest_s())
        if rest > AFTER_S - 0.2:
            moving.append(f"{name}, seed {i}")
        violations += cell.violations()
    every = [r for some in by_kind.values() for r in some]
    return {
        "episodes": count,
        "kinds": len(by_kind),
        "missed": missed,
        "never_at_rest": moving,
        "violations": violations,
        "commands_at_rest_s": spread(commanded),
        "rest_s": spread(every),
        "rest_s_by_kind": {
            name: {"n": len(v), "p50": float(np.median(v)), "worst": max(v)} for name, v in by_kind.items()
        },
    }


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", type=int, default=200)
    parser.add_argument("--faults", type=int, default=203)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.yaml"
        rules.write_text(RULES, encoding="utf-8")
        shipped = Path(folder) / "shipped.yaml"
        shipped.write_text("sentinel: 1\n", encoding="utf-8")
        clean, broken = run_clean(given.clean, shipped), run_faults(given.faults, rules)
    result = {"clean": clean, "faults": broken, "seconds": round(time.perf_counter() - began, 1)}
    print(json.dumps(result, indent=None if given.json else 1))
    fine = not (clean["outcomes"]["REFUSED"] or clean["outcomes"]["STOPPED"] or clean["violations"])
    fine = fine and clean["worst_difference_where_no_limit_is_near"] <= 1e-9
    return 0 if fine and not (broken["missed"] or broken["violations"] or broken["never_at_rest"]) else 1


if __name__ == "__main__":
    sys.exit(main())
