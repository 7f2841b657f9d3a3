"""The look-ahead: judged against distances, overlaps and contacts that MuJoCo computes another way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from optr.connectors.sim.describe import describe_model
from optr.errors import SpecError
from optr.model import compile_model
from optr.sentinel.body import BodyModel
from optr.sentinel.codes import Code
from optr.sentinel.lookahead import Box, Collision, KeepOut, Way, Workspace, Zone
from optr.sentinel.rule import Seen, Situation
from optr.spec import JointSample, load_spec
from test_sim import URDF, foreign
from truth import score

BIN = "observation.environment.bin"


def bound(rule, spec):
    rule.bind(spec)
    return rule


def at(spec, **seen):
    home = spec.home_vector()
    found = {f"observation.environment.{k}": Seen(0, np.array([*v, 0, 0, 0, 1])) for k, v in seen.items()}
    return Situation(0, JointSample(0, home), "", None, home, np.zeros_like(home), found)


def line(spec, rows=16, **changes):
    """From home, some joints by so much."""
    home = spec.home_vector()
    goal = home + [changes.get(n, 0.0) for n in spec.action.names]
    return home + np.linspace(0, 1, rows)[:, None] * (goal - home)


class TestBodyModel:
    def test_distances_are_exact(self, spec):
        body, plain = BodyModel(spec), compile_model(spec)
        data, rng = mujoco.MjData(plain), np.random.default_rng(0)
        counting = {p.bodies for p in body.pairs}
        seen = 0
        for _ in range(25):
            data.qpos[:6] = rng.uniform(spec.limits.low, spec.limits.high)
            mujoco.mj_kinematics(plain, data)
            body.set_joints(data.qpos[:6])
            near = {(a, b): d for d, _, a, b in body.near(0.02)}
            for a, b in itertools.combinations(np.flatnonzero(plain.geom_contype), 2):
                if (int(plain.geom_bodyid[a]), int(plain.geom_bodyid[b])) in counting:
                    distance = mujoco.mj_geomDistance(plain, data, a, b, 0.1, None)
                    if 0 < distance < 0.0199:
                        seen += 1
                        assert near[a, b] == pytest.approx(distance, abs=1e-6)
                    elif distance > 0.0201:
                        assert (a, b) not in near
        assert seen > 150

    def test_no_point_moves_farther_than_its_reach(self, spec):
        body, rng = BodyModel(spec), np.random.default_rng(1)
        for _ in range(200):
            q = rng.uniform(spec.limits.low, spec.limits.high)
            change = rng.normal(0, 0.02, 6)
            for pair in body.pairs:
                a, b = pair.bodies
                geoms = [np.flatnonzero(body.model.geom_bodyid == x) for x in (a, b)]
                ends = []
                for position in (q, q + change):
                    body.set_joints(position)
                    # The outer body's geoms as the inner one sees them.
                    R, p = body.data.xmat[a].reshape(3, 3), body.data.xpos[a]
                    ends.append((body.data.geom_xpos[geoms[1]] - p) @ R)
                # A body that hangs on the other can be seen from it; elsewhere both move.
                if set(body._upstream[a]) <= set(body._upstream[b]):
                    moved = np.linalg.norm(ends[1] - ends[0], axis=1).max()
                    assert moved <= np.abs(change) @ pair.reach + 1e-9

    def test_only_the_robot_and_what_stands_count(self, spec):
        body = BodyModel(spec)
        names = [{body.model.body(i).name for i in p.bodies} for p in body.pairs]
        assert not any("cube" in n or "target" in n for n in names)
        assert {"gripper_link", "bin"} in names and {"base_link", "wrist_link"} in names
        assert {"shoulder_link", "lower_arm_link"} not in names  # excluded in the model
        assert {"wrist_link", "gripper_link"} not in names  # joint between
        assert body.allowed == ()
        assert tuple(body.placed) == (BIN,)

    def test_sag_is_that_of_the_simulated_arm(self, spec):
        from optr.connectors.sim import World

        world, body = World(spec), BodyModel(spec)
        low = spec.home_vector() + np.array([0, 0.6, 0, -0.3, 0, 0])
        world.data.qpos[:6] = low
        world.command(low)
        world.advance(2000)
        expected = body.sagged(np.stack([low, low]))[0] - low
        measured = world.joints().position - low
        assert np.abs(expected).max() > 0.01
        assert np.abs(expected - measured).max() < 0.052 / 25 + 1e-3  # friction holds a little

    def test_a_urdf_alone(self, tmp_path):
        (tmp_path / "two.urdf").write_text(URDF)
        (tmp_path / "made.yaml").write_text(describe_model(tmp_path / "two.urdf"))
        spec = load_spec(tmp_path / "made.yaml")
        assert bound(Collision(), spec).check(at(spec), line(spec, swing=0.5)) is None

    @pytest.mark.filterwarnings("ignore:compiler attribute")
    @pytest.mark.parametrize(
        ("package", "file"),
        [("dm_control", "suite/humanoid.xml"), ("dm_control", "suite/manipulator.xml")]
        + [("gymnasium_robotics", f"envs/assets/{f}.xml") for f in ("fetch/pick_and_place", "hand/reach")],
    )
    def test_models_of_others(self, package, file, tmp_path):
        model = foreign(package, file)
        (tmp_path / "made.yaml").write_text(describe_model(model))
        spec = load_spec(tmp_path / "made.yaml")
        rule = bound(Collision(), spec)
        home = spec.home_vector()
        rule.check(at(spec), np.stack([home, np.clip(home + 0.1, spec.limits.low, spec.limits.high)]))
        assert rule._body.pairs or rule.idle == "nothing in the model can collide"


class TestCollision:
    def test_finds_the_table(self, spec):
        finding = bound(Collision(), spec).check(at(spec), line(spec, shoulder_lift=0.9))
        assert finding.code == Code.WORLD_COLLISION
        assert finding.subject == "gripper_link"
        assert finding.value < finding.limit == 0.003
        assert "table" in finding.text and "% along the way" in finding.text

    def test_finds_itself(self, spec):
        finding = bound(Collision(), spec).check(at(spec), line(spec, shoulder_lift=-1.0, elbow_flex=1.3))
        assert finding.code == Code.SELF_COLLISION

    def test_lets_a_free_way_through(self, spec):
        assert bound(Collision(), spec).check(at(spec), line(spec, shoulder_pan=1.0, gripper=-0.4)) is None

    def test_two_rows_far_apart_hide_nothing(self, spec):
        """Start and end are free; the bin stands in between, no row does."""
        rule = bound(Collision(), spec)
        low, turn = spec.home_vector() + np.array([0, 0.33, 0.3, 0, 0, 0]), np.array([0.9, 0, 0, 0, 0, 0])
        path = np.stack([low - turn, low + turn])
        rule._body.set_joints(low)
        tool = rule._body.point("gripper_frame")[1]
        assert rule.check(at(spec, bin=(tool[0], tool[1], 0.0)), path).text.count("bin")
        assert rule.check(at(spec, bin=(-0.3, 0.3, 0.0)), path) is None

    def test_the_cube_may_be_touched(self, spec):
        rule = bound(Collision(), spec)
        body = rule._body
        cube = body.model.geom("cube").id
        assert body.model.geom_contype[cube] == body.model.geom_conaffinity[cube] == 0

    def test_gets_out_and_not_deeper(self, spec):
        rule = bound(Collision(sag=False), spec)
        path = line(spec, rows=200, shoulder_lift=0.9)
        inside = next(i for i in range(200) if rule.check(at(spec), path[: i + 2]) is not None) + 3
        assert rule.check(at(spec), path[[inside, inside - 30]]) is None
        deeper = rule.check(at(spec), path[[inside, inside + 5]])
        assert deeper is not None and deeper.code == Code.WORLD_COLLISION

    def test_standing_still_is_never_refused(self, spec):
        rule = bound(Collision(), spec)
        path = line(spec, shoulder_lift=0.9)
        assert rule.check(at(spec), path[[15, 15]]) is None

    def test_settings_that_could_jump_over_the_margin(self, spec):
        with pytest.raises(SpecError, match="could jump over a margin of 0.001 m; at most 0.002 m"):
            bound(Collision(margin=0.001), spec)

    def test_no_model(self, spec):
        rule = bound(Collision(), replace(spec, urdf=None, mjcf=None, scene=None))
        assert rule.idle == "the spec names no model"
        assert rule.check(at(spec), line(spec)) is None

    def test_random_plans_against_both_truths(self):
        got = score(80, seed=11)
        assert got.let_through["either"] == 0, str(got)
        assert got.refused_falsely["either"] <= 2, str(got)
        assert 0.1 * got.plans < got.hit["either"] < 0.6 * got.plans

    def test_the_truths_find_what_a_blind_rule_lets_through(self):
        blind = Collision(margin=0.0005, resolution=0.001, sag=False)
        blind.check = lambda at, path: None
        got = score(40, seed=11, rule=blind)
        assert got.let_through["kinematic"] and got.let_through["dynamic"]


class TestRegions:
    def test_workspace(self, spec):
        rule = bound(Workspace(boxes=(Box("gripper_frame", (0.0, -0.1, 0.0), (0.4, 0.1, 0.4)),)), spec)
        assert rule.check(at(spec), line(spec, shoulder_pan=0.3)) is None
        finding = rule.check(at(spec), line(spec, shoulder_pan=1.5))
        assert (finding.code, finding.subject) == (Code.WORKSPACE, "gripper_frame")
        back = line(spec, shoulder_pan=1.5)[::-1]
        assert rule.check(at(spec), back) is None

    @pytest.mark.parametrize("ball", [False, True])
    def test_a_thin_zone_between_two_rows(self, spec, ball):
        body = BodyModel(spec)
        tool = tuple(body.in_base(body.point("gripper_frame")[1]))
        corners = {"low": tuple(np.subtract(tool, 0.001)), "high": tuple(np.add(tool, 0.001))}
        shape = {"centre": tool, "size": 0.002} if ball else corners
        rule = bound(KeepOut(zones=(Zone("lens", ("gripper_frame",), **shape),)), spec)
        home, turn = spec.home_vector(), np.array([0.8, 0, 0, 0, 0, 0])
        path = np.stack([home - turn, home + turn])
        finding = rule.check(at(spec), path)
        assert finding.code == Code.KEEP_OUT and "zone 'lens'" in finding.text
        assert rule.check(at(spec), path - np.array([0, 0.2, 0, 0, 0, 0])) is None

    def test_what_is_wrong_is_told(self, spec):
        assert bound(Workspace(), spec).idle == "no box is configured"
        with pytest.raises(SpecError, match="no site or body 'tip' in the model; it has: gripper_frame, .*base_link"):
            bound(Workspace(boxes=(Box("tip", (0, 0, 0), (1, 1, 1)),)), spec)
        with pytest.raises(SpecError, match="high at least 1 mm above low"):
            bound(KeepOut(zones=(Zone("z", ("gripper_frame",), (0, 0, 0), (1, 1, 0)),)), spec)
        with pytest.raises(SpecError, match="names no point"):
            bound(KeepOut(zones=(Zone("z", (), (0, 0, 0), (1, 1, 1)),)), spec)


def test_way_counts_what_was_gone():
    way = Way(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, -2.0], [1.0, -2.0]]), np.array([[0.5, 0.25]]))
    assert way.gone(0, 1.5) == pytest.approx(0.75)
    assert way.after(0, 0.0, 0.75) == pytest.approx(1.5)
    assert way.after(0, 0.5, 0.25) == pytest.approx(1.0)
    assert way.after(0, 0.0, 2.0) == way.end == 3.0
    assert way.at(1.5) == pytest.approx([1.0, -1.0])
