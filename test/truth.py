"""Random plans and what becomes of them, computed without the look-ahead: the measure of its verdicts.

Two truths. The kinematic one moves the model that is simulated along the commanded path in steps of at most 1 mm and
looks for overlap. The dynamic one lets the simulated arm follow the commands, with its sag and lag, and looks for
contact after every physics step. `python test/truth.py 500` runs the acceptance.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import mujoco
import numpy as np

from optr.connectors.sim import World
from optr.sentinel.lookahead import Collision
from optr.sentinel.motion import Motion, MotionLimiter
from optr.sentinel.rule import Seen, Situation
from optr.spec import JointSample, Spec, load_spec

STEP_M = 1e-3
LONGEST_LEVER_M = 0.55
"""No point of the SO-101 is farther from any joint's axis [m]: all links end to end."""

ROBOT = range(1, 8)
AFTER_S = 0.5


@dataclass
class Plan:
    """One plan: where the bin stands, and the commands, shape (m, 6), the first the start, 20 ms apart."""

    bin: np.ndarray
    rows: np.ndarray


@dataclass
class Score:
    """How the look-ahead did against both truths."""

    plans: int = 0
    refused: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    let_through: Counter[str] = field(default_factory=Counter)
    refused_falsely: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, refused: bool, hit: dict[str, bool]) -> None:
        self.plans += 1
        self.refused += refused
        hit = {**hit, "either": any(hit.values())}
        for truth, touched in hit.items():
            self.hit[truth] += touched
            self.let_through[truth] += touched and not refused
            self.refused_falsely[truth] += refused and not touched

    def __str__(self) -> str:
        lines = [f"{self.plans} plans, {self.refused} refused"]
        for truth in self.hit:
            share = 100 * self.refused_falsely[truth] / self.plans
            lines.append(
                f"  {truth}: {self.hit[truth]} touch, {self.let_through[truth]} of them let through; "
                f"{self.refused_falsely[truth]} refused though they do not touch ({share:.1f} % of all)"
            )
        return "\n".join([*lines, *self.notes])


class Truth:
    """The simulated scene with the cube out of the way."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.world = World(spec)
        self.limiter = MotionLimiter(spec.limits)

    def touches(self) -> bool:
        """Whether the robot overlaps itself or its surroundings now."""
        contact = self.world.data.contact
        bodies = self.world.model.geom_bodyid[contact.geom]
        for (a, b), distance in zip(bodies.tolist(), contact.dist.tolist(), strict=True):
            if distance < 0 and (a in ROBOT or b in ROBOT) and "cube" not in (self._name(a), self._name(b)):
                return True
        return False

    def _name(self, body: int) -> str:
        return str(self.world.model.body(body).name)

    def stand(self, plan: Plan) -> None:
        """Put everything where the plan begins."""
        world = self.world
        world.reset_pose()
        world.place("cube", np.array([0.58, -0.42, 0.0135]))
        world.place("bin", plan.bin)
        world.data.qpos[:6] = plan.rows[0]
        world.data.ctrl[:6] = plan.rows[0]
        world.command(plan.rows[0])
        mujoco.mj_forward(world.model, world.data)

    def kinematic(self, plan: Plan) -> bool:
        """Whether the commanded path touches anything."""
        self.stand(plan)
        model, data = self.world.model, self.world.data
        for a, b in zip(plan.rows[:-1], plan.rows[1:], strict=True):
            count = int(np.ceil(np.abs(b - a).sum() * LONGEST_LEVER_M / STEP_M))
            for i in range(1, count + 1):
                data.qpos[:6] = a + i / count * (b - a)
                mujoco.mj_kinematics(model, data)
                mujoco.mj_collision(model, data)
                if self.touches():
                    return True
        return False

    def dynamic(self, plan: Plan) -> bool:
        """Whether the simulated arm touches anything while it follows the commands, and after."""
        self.settle(plan)
        world = self.world
        rows = [*plan.rows[1:], *[plan.rows[-1]] * round(AFTER_S / 0.02)]
        for row in rows:
            world.command(row)
            for _ in range(10):
                world.advance(1)
                if self.touches():
                    return True
        return False

    def settle(self, plan: Plan) -> None:
        """Stand at the start until the sag is there."""
        self.stand(plan)
        self.world.advance(200)

    def free_at_start(self, plan: Plan) -> bool:
        """Whether the arm stands at the start without touching anything, commanded and sagged, 4 mm to spare."""
        self.stand(plan)
        model, data = self.world.model, self.world.data
        for position in (plan.rows[0], None):
            if position is None:
                self.settle(plan)
                mujoco.mj_kinematics(model, data)
            for g in range(model.ngeom):
                if model.geom_bodyid[g] not in ROBOT[1:] or not model.geom_contype[g]:
                    continue
                for w in self._surroundings():
                    if mujoco.mj_geomDistance(model, data, g, w, 0.1, None) < 0.004:
                        return False
            mujoco.mj_collision(model, data)
            if self.touches():
                return False
        return True

    def goal(self, rng: np.random.Generator) -> np.ndarray:
        """A random pose; every second time one in which the arm would touch something."""
        limits, wanted = self.spec.limits, bool(rng.integers(2))
        while True:
            position = rng.uniform(limits.low, limits.high)
            self.world.data.qpos[:6] = position
            mujoco.mj_kinematics(self.world.model, self.world.data)
            mujoco.mj_collision(self.world.model, self.world.data)
            if not wanted or self.touches():
                return position

    def _surroundings(self) -> list[int]:
        model = self.world.model
        names = ("table", "bin_floor", "bin_wall_front", "bin_wall_back", "bin_wall_left", "bin_wall_right")
        return [model.geom(n).id for n in names]


def plans(truth: Truth, seed: int) -> Iterator[Plan]:
    """Random plans without end: straight, by way of a point, and restless ones; from free poses, within the limits."""
    rng = np.random.default_rng(seed)
    limits = truth.spec.limits
    while True:
        angle = rng.uniform(-1.2, 1.2)
        place = np.array([np.cos(angle), np.sin(angle), 0.0]) * rng.uniform(0.17, 0.32)
        start = rng.uniform(limits.low, limits.high)
        if not truth.free_at_start(Plan(place, start[None])):
            continue
        count, size = int(rng.integers(16, 61)), float(rng.choice([0.15, 0.5, 1.0]))
        goals = [start + size * (truth.goal(rng) - start) for _ in range(rng.choice([1, 2, 4]))]
        knots = np.vstack([start, *goals])
        at = np.linspace(0, len(knots) - 1, count + 1)[1:]
        wanted = np.column_stack([np.interp(at, range(len(knots)), column) for column in knots.T])
        motion, rows = Motion.at_rest(start), [start]
        for row in wanted:
            motion, _ = truth.limiter.toward(motion, row, 0.02)
            rows.append(motion.position)
        while motion.velocity.any():
            motion = truth.limiter.rest(motion, 0.02)
            rows.append(motion.position)
        yield Plan(place, np.array(rows))


def situation(spec: Spec, plan: Plan, measured: np.ndarray | None = None) -> Situation:
    """What the rule sees before the plan begins; `measured` are the joints of the arm at rest."""
    start = plan.rows[0]
    pose = np.array([*plan.bin, 0.0, 0.0, 0.0, 1.0])
    state = JointSample(0, start if measured is None else measured, np.zeros_like(start))
    return Situation(0, state, "", None, start, np.zeros_like(start), {spec.environment["bin"].key: Seen(0, pose)})


def score(count: int, seed: int, rule: Collision | None = None) -> Score:
    """Judge `count` random plans by the rule, and by both truths."""
    spec = load_spec("so101_tabletop")
    rule = rule or Collision()
    rule.bind(spec)
    truth, out = Truth(spec), Score()
    for i, plan in zip(range(count), plans(truth, seed), strict=False):
        truth.settle(plan)
        measured = truth.world.joints().position
        finding = rule.check(situation(spec, plan, measured), plan.rows)
        hit = {"kinematic": truth.kinematic(plan), "dynamic": truth.dynamic(plan)}
        out.add(finding is not None, hit)
        if finding is None and any(hit.values()):
            out.notes.append(f"  plan {i} of seed {seed}, {len(plan.rows)} rows, let through: {hit}")
        elif finding is not None and not any(hit.values()):
            out.notes.append(f"  plan {i} of seed {seed}, {len(plan.rows)} rows, refused: {finding.text}")
    return out


if __name__ == "__main__":
    print(score(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
