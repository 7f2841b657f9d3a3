"""Worlds and tasks: physics behind the interface of an arm."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from optr.connectors.sim import Simulation, World
from optr.connectors.sim.describe import describe_model
from optr.connectors.sim.tasks import make_task, task_names
from optr.connectors.sim.world import START_NS
from optr.errors import ModelError, SpecError, UnknownNameError
from optr.model import compile_model
from optr.operators import OperatorHost, make_operator
from optr.sentinel import Guard
from optr.spec import Observation, load_spec
from optr.spec.spec import STATE

URDF = """<robot name="two">
  <link name="base"/>
  <link name="arm"><inertial><mass value="0.3"/><inertia ixx="1e-3" iyy="1e-3" izz="1e-3" ixy="0" ixz="0" iyz="0"/>
    <origin xyz="0 0 0.1"/></inertial><collision><geometry><sphere radius="0.02"/></geometry></collision></link>
  <link name="tip"><inertial><mass value="0.1"/><inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/>
    </inertial><collision><origin xyz="0 0 0.3"/><geometry><sphere radius="0.02"/></geometry></collision></link>
  <joint name="swing" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="5" velocity="2"/></joint>
  <joint name="slide" type="prismatic"><parent link="arm"/><child link="tip"/><origin xyz="0 0 0.2"/><axis xyz="0 0 1"/>
    <limit lower="0" upper="0.1" effort="5" velocity="1"/></joint>
</robot>"""


@pytest.fixture
def world(spec):
    return World(spec)


def play(sim: Simulation, operator: str, seed: int) -> Counter[str]:
    """One lock-step episode without ROS; answers what the guard said."""
    spec, world, said = sim.world.spec, sim.world, Counter()
    host, guard = OperatorHost(make_operator(operator, spec)), Guard(spec, authority=operator)
    sim.reset(seed)
    host.reset(seed)
    while not sim.now.over:
        joints = world.joints()
        values = {STATE: joints.position.astype(np.float32)}
        for name, feature in spec.environment.items():
            pose = world.pose(name)
            values[feature.key] = np.concatenate((pose.position, pose.quat_xyzw)).astype(np.float32)
            guard.see(feature.key, joints.stamp_ns, values[feature.key])
        command, judgement = guard.step(
            joints.stamp_ns, joints, host.decide(Observation(joints.stamp_ns, values, {k: 0 for k in values}))
        )
        said[judgement.outcome.name] += 1
        world.command(command.position)
        sim.control_step()
    return said


class TestWorld:
    def test_time_starts_at_one_second_and_is_exact(self, world):
        assert world.time_ns == START_NS
        world.advance(7)
        assert world.time_ns == START_NS + 7 * 2_000_000

    def test_goes_where_it_is_told(self, world, spec):
        target = spec.home_vector()
        target[0] = 0.4
        world.command(target)
        world.advance(1000)
        assert world.joints().position[0] == pytest.approx(0.4, abs=0.01)

    def test_keeps_its_own_limits_whatever_the_command(self, world, spec):
        limits = spec.limits
        assert not world.command(limits.high + 5.0)
        assert world.limited == 1
        before = world.data.ctrl.copy()
        world.advance(5)
        reach = limits.velocity * 1.1 * 0.01
        assert (np.abs(world.data.ctrl - before) <= reach + 1e-12).all()
        for _ in range(500):
            world.advance(5)
        assert (world.data.ctrl <= limits.high + 1e-12).all()

    def test_holds_where_it_is(self, world, spec):
        target = spec.home_vector()
        target[0] = 1.5
        world.command(target)
        world.advance(20)
        world.hold()
        at = world.data.ctrl.copy()
        world.advance(100)
        assert np.array_equal(world.data.ctrl, at)

    def test_places_and_finds_objects(self, world):
        world.place("cube", np.array([0.2, 0.1, 0.05]), np.array([0, 0, np.sin(0.3), np.cos(0.3)]))
        world.place("bin", np.array([0.1, 0.2, 0.0]))
        assert world.pose("cube").position.tolist() == [0.2, 0.1, 0.05]
        assert world.pose("cube").quat_xyzw[2] == pytest.approx(np.sin(0.3))
        assert world.pose("bin").position.tolist() == [0.1, 0.2, 0.0]
        with pytest.raises(ModelError, match="no object 'cup' in the scene; it has: cube, bin"):
            world.pose("cup")

    def test_keyframes_by_name(self, world):
        world.reset_pose("rest")
        assert not np.allclose(world.joints().position, world.spec.home_vector(), atol=0.1)
        with pytest.raises(ModelError, match="no keyframe 'nap' in the model; it has: home, rest"):
            world.reset_pose("nap")


class TestWhatDoesNotFit:
    def test_missing_model(self, spec, tmp_path):
        with pytest.raises(ModelError, match="no model file .*none.xml"):
            World(spec, tmp_path / "none.xml")

    def test_broken_model(self, spec, tmp_path):
        broken = tmp_path / "broken.xml"
        broken.write_text("<mujoco><worldbody><body></worldbody></mujoco>")
        with pytest.raises(ModelError, match="broken.xml: "):
            World(spec, broken)

    def test_unknown_joint(self, spec):
        channels = (replace(spec.action.channels[0], name="elbw"), *spec.action.channels[1:])
        wrong = replace(spec, features={**spec.features, "action": replace(spec.action, channels=channels)})
        with pytest.raises(SpecError, match="no joint 'elbw' in .*; it has: shoulder_pan, shoulder_lift"):
            World(wrong)

    def test_wrong_unit(self, spec):
        channels = (replace(spec.action.channels[0], unit="m"), *spec.action.channels[1:])
        wrong = replace(spec, features={**spec.features, "action": replace(spec.action, channels=channels)})
        with pytest.raises(SpecError, match="unit 'm' does not fit joint 'shoulder_pan' .*expected 'rad'"):
            World(wrong)

    def test_unknown_camera(self, spec):
        features = {**spec.features, "observation.images.back": spec.images["front"]}
        with pytest.raises(SpecError, match="no camera 'back' in .*; it has: .*front"):
            World(replace(spec, features=features))

    def test_task_without_its_objects(self, spec):
        world = World(replace(spec, scene=None))
        with pytest.raises(ModelError, match="task 'pick_place' needs the objects cube, bin, which the scene lacks"):
            Simulation(world, make_task("pick_place"))

    def test_action_rate_that_is_no_whole_number_of_steps(self, spec):
        features = {**spec.features, "action": replace(spec.action, rate=30.0)}
        with pytest.raises(ModelError, match="no whole number of physics steps of 2.0 ms"):
            Simulation(World(replace(spec, features=features)), None)

    def test_unknown_task(self):
        with pytest.raises(UnknownNameError, match="no task named 'fly'; there are: pick_place, push, reach"):
            make_task("fly")


class TestTasks:
    @pytest.mark.parametrize("name", ["reach", "push", "pick_place"])
    def test_the_same_seed_gives_the_same_start(self, world, name):
        sim = Simulation(world, make_task(name))
        sim.reset(5)
        first = world.data.qpos.copy(), world.data.mocap_pos.copy()
        sim.reset(6)
        assert not np.array_equal(first[0], world.data.qpos) or not np.array_equal(first[1], world.data.mocap_pos)
        sim.reset(5)
        assert np.array_equal(first[0], world.data.qpos)
        assert np.array_equal(first[1], world.data.mocap_pos)

    @pytest.mark.parametrize("name", ["reach", "push", "pick_place"])
    def test_doing_nothing_does_not_succeed(self, world, name):
        sim = Simulation(world, make_task(name))
        for seed in range(3):
            sim.reset(seed)
            while not sim.now.over:
                sim.control_step()
            assert sim.now.truncated
            assert not sim.now.success
            assert sim.now.step == round(sim.task.time_limit_s * 50)

    @pytest.mark.parametrize("name", ["reach", "push", "pick_place"])
    def test_the_script_succeeds_and_the_guard_lets_it(self, world, name):
        sim = Simulation(world, make_task(name))
        said: Counter[str] = Counter()
        for seed in range(12):
            said += play(sim, f"scripted_{name}", seed)
            assert sim.now.success, f"seed {seed}"
        assert said["REFUSED"] == 0
        assert said["LIMITED"] <= 0.005 * said.total()

    def test_a_random_operator_breaks_nothing(self, world, spec):
        sim = Simulation(world, make_task("reach"))
        play(sim, "random", 1)
        low, high = spec.limits.low, spec.limits.high
        joints = world.joints().position
        assert ((joints > low - 0.1) & (joints < high + 0.1)).all()

    def test_lockstep_is_bitwise_repeatable(self, spec):
        ends = []
        for _ in range(2):
            sim = Simulation(World(spec), make_task("pick_place"))
            play(sim, "scripted_pick_place", 4)
            ends.append((sim.now.step, sim.world.data.qpos.tobytes(), sim.world.data.qvel.tobytes()))
        assert ends[0] == ends[1]

    def test_all_tasks_are_installed(self):
        assert {"reach", "push", "pick_place"} <= set(task_names())


class TestForeignModels:
    """Models that this project did not write."""

    def drive(self, model: Path, tmp_path: Path) -> World:
        path = tmp_path / "made.yaml"
        path.write_text(describe_model(model), encoding="utf-8")
        spec = load_spec(path)
        sim = Simulation(World(spec), None)
        rng = np.random.default_rng(0)
        limits = spec.limits
        for _ in range(20):
            sim.world.command(rng.uniform(limits.low, limits.high))
            sim.control_step()
        assert np.isfinite(sim.world.data.qpos).all()
        return sim.world

    def test_a_urdf_without_actuators_is_driven(self, tmp_path):
        urdf = tmp_path / "two.urdf"
        urdf.write_text(URDF)
        path = tmp_path / "made.yaml"
        path.write_text(describe_model(urdf), encoding="utf-8")
        spec = load_spec(path)
        assert [(c.name, c.unit) for c in spec.action.channels] == [("swing", "rad"), ("slide", "m")]
        world = World(spec)
        world.command(np.array([0.5, 0.05]))
        world.advance(2000)
        # The servo made for it is soft enough to sag a little under gravity, and holds.
        assert world.joints().position == pytest.approx([0.5, 0.05], abs=0.06)
        assert np.abs(world.joints().velocity).max() < 1e-3

    def test_torque_motors_become_position_servos_no_stronger_than_they_were(self, tmp_path):
        model = tmp_path / "motor.xml"
        model.write_text(
            "<mujoco><worldbody><body><joint name='j' axis='0 1 0' range='-60 60'/><geom size='.1' pos='.2 0 0'/>"
            "</body></worldbody><actuator><motor joint='j' gear='3' ctrlrange='-2 2'/></actuator></mujoco>"
        )
        path = tmp_path / "made.yaml"
        path.write_text(describe_model(model), encoding="utf-8")
        compiled = compile_model(load_spec(path))
        assert compiled.nu == 1
        assert compiled.actuator_forcerange[0].tolist() == [-6.0, 6.0]

    def test_a_model_without_joints_is_refused(self, tmp_path):
        model = tmp_path / "rock.xml"
        model.write_text("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
        with pytest.raises(ModelError, match="no named hinge or slide joint"):
            describe_model(model)

    @pytest.mark.filterwarnings("ignore:compiler attribute")  # cheetah's own, about its own file
    @pytest.mark.parametrize("name", ["cartpole", "reacher", "manipulator", "walker", "cheetah", "finger", "humanoid"])
    def test_dm_control_models_run(self, name, tmp_path):
        self.drive(foreign("dm_control", "suite") / f"{name}.xml", tmp_path)

    @pytest.mark.parametrize("name", ["fetch/reach.xml", "fetch/pick_and_place.xml", "hand/reach.xml"])
    def test_gymnasium_robotics_models_run(self, name, tmp_path):
        world = self.drive(foreign("gymnasium_robotics", "envs/assets") / name, tmp_path)
        assert world.model.njnt > 0


def foreign(package: str, folder: str) -> Path:
    """A folder of an installed package, found without importing it."""
    import importlib.util

    found = importlib.util.find_spec(package)
    assert found is not None, f"{package} is not installed; it is part of the test requirements"
    return Path(found.submodule_search_locations[0]) / folder


def test_mujoco_is_the_version_that_the_lock_names():
    lock = (Path(__file__).parents[1] / "requirements" / "lock.txt").read_text()
    assert f"mujoco=={mujoco.__version__}" in lock
