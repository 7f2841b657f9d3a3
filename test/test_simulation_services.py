"""The standard services of `simulation_interfaces`, asked for in a running sim node by a client in another process."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from std_srvs.srv import SetBool

from graph import Graph, Watcher, fresh_domain
from optr.ros.qos import STATE_QOS
from optr.spec import stamp_ns
from optr_interfaces.srv import Advance, Reset

if INSTALLED := importlib.util.find_spec("simulation_interfaces") is not None:
    from simulation_interfaces.msg import Bounds, EntityCategory, Result, SimulationState, SimulatorFeatures
    from simulation_interfaces.srv import (
        GetEntities,
        GetEntitiesStates,
        GetEntityState,
        GetSimulationState,
        GetSimulatorFeatures,
        ResetSimulation,
        SetEntityState,
        SetSimulationState,
        StepSimulation,
    )

    STOPPED, PLAYING, PAUSED = 0, 1, 2
    OK, UNSUPPORTED, FAILED = Result.RESULT_OK, Result.RESULT_FEATURE_UNSUPPORTED, Result.RESULT_OPERATION_FAILED

needs_the_standard = pytest.mark.skipif(
    not INSTALLED, reason="the package simulation_interfaces is not installed (ros-jazzy-simulation-interfaces)"
)
NAMES = {
    "get_simulator_features": "GetSimulatorFeatures",
    "get_simulation_state": "GetSimulationState",
    "set_simulation_state": "SetSimulationState",
    "reset_simulation": "ResetSimulation",
    "step_simulation": "StepSimulation",
    "get_entities": "GetEntities",
    "get_entities_states": "GetEntitiesStates",
    "get_entity_state": "GetEntityState",
    "set_entity_state": "SetEntityState",
}


@contextmanager
def sim_node(tmp_path: Path, *words: str, start: tuple[str, ...] = ("-m", "optr.nodes.sim")) -> Iterator[Watcher]:
    """A sim node by itself; what it prints goes to `sim.log`."""
    fresh_domain()
    with (tmp_path / "sim.log").open("wb") as log:
        command = [sys.executable, *start, "--ros-args", "-p", "cameras:=false", *words]
        sim = subprocess.Popen(command, stdout=log, stderr=log)
        watch = Watcher()
        try:
            watch.until(lambda: watch.joints, 30, "joint states")
            yield watch
        finally:
            watch.close()
            sim.send_signal(signal.SIGINT)
            assert sim.wait(timeout=15) == 0, (tmp_path / "sim.log").read_text()
    assert "Traceback" not in (tmp_path / "sim.log").read_text()


@pytest.fixture
def sim(tmp_path):
    with sim_node(tmp_path, "-p", "task:=pick_place", "-p", "seed:=7") as watch:
        yield watch


def offered(watch: Watcher) -> dict[str, str]:
    """Types of all services that are known by now."""
    return {name: kinds[0] for name, kinds in watch.node.get_service_names_and_types()}


def state(watch: Watcher) -> int:
    answer = watch.call(GetSimulationState, "get_simulation_state", GetSimulationState.Request())
    assert answer.result.result == OK
    return answer.state.state


def change(watch: Watcher, wanted: int) -> Result:
    request = SetSimulationState.Request(state=SimulationState(state=wanted))
    return watch.call(SetSimulationState, "set_simulation_state", request).result


def step(watch: Watcher, steps: int) -> Result:
    return watch.call(StepSimulation, "step_simulation", StepSimulation.Request(steps=steps)).result


def reset(watch: Watcher, scope: int) -> Result:
    return watch.call(ResetSimulation, "reset_simulation", ResetSimulation.Request(scope=scope)).result


def entity(watch: Watcher, name: str):
    answer = watch.call(GetEntityState, "get_entity_state", GetEntityState.Request(entity=name))
    assert (answer.result.result, answer.result.error_message) == (OK, "")
    return answer.state


def put(watch: Watcher, name: str, what, pose: bool = True, twist: bool = True) -> Result:
    request = SetEntityState.Request(entity=name, state=what)
    if hasattr(request, "set_pose"):  # from version 2 on
        request.set_pose, request.set_twist = pose, twist
    return watch.call(SetEntityState, "set_entity_state", request).result


def six(motion) -> np.ndarray:
    linear, angular = motion.linear, motion.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def position(what) -> np.ndarray:
    return np.array([what.pose.position.x, what.pose.position.y, what.pose.position.z])


def test_without_the_package_nothing_happens_and_only_debug_output_says_so(tmp_path):
    hidden = (
        "import sys; sys.modules['simulation_interfaces'] = None; from optr.nodes.sim import main; sys.exit(main())"
    )
    with sim_node(tmp_path, "--log-level", "sim:=debug", start=("-c", hidden)) as watch:
        assert watch.call(SetBool, "pause", SetBool.Request(data=True)).message == "paused"
        watch.until(lambda: "/advance" in offered(watch), 5, "the node's own services")
        watch.spin(0.5)  # others would have been found by now
        assert not [kind for kind in offered(watch).values() if "simulation_interfaces" in kind]
    said = [x for x in (tmp_path / "sim.log").read_text().splitlines() if "simulation" in x]
    assert len(said) == 1
    assert "[DEBUG]" in said[0]
    assert "no standard simulation services: No module named 'simulation_interfaces" in said[0]


@needs_the_standard
class TestSimulation:
    def test_the_services_have_their_standard_names_and_the_features_tell_of_them(self, sim):
        answer = sim.call(GetSimulatorFeatures, "get_simulator_features", GetSimulatorFeatures.Request())
        found, known = set(answer.features.features), SimulatorFeatures
        assert {known.SIMULATION_RESET, known.SIMULATION_STATE_PAUSE, known.STEP_SIMULATION_MULTIPLE} <= found
        assert not {known.SPAWNING, known.SIMULATION_RESET_TIME, known.ENTITY_CATEGORIES} & found
        assert "MuJoCo" in answer.features.custom_info
        expected = {f"/{name}": f"simulation_interfaces/srv/{kind}" for name, kind in NAMES.items()}
        sim.until(lambda: expected.items() <= offered(sim).items(), 5, "every service by its name and type")

    def test_pausing_stops_the_clock_and_playing_moves_it(self, sim):
        assert state(sim) == PLAYING
        assert change(sim, PAUSED).result == OK
        assert state(sim) == PAUSED
        sim.spin(0.3)
        still = sim.joints[-1][1].header.stamp
        sim.spin(0.3)
        assert sim.joints[-1][1].header.stamp == still
        again = change(sim, PAUSED)
        assert again.result == SetSimulationState.Response.ALREADY_IN_TARGET_STATE
        assert again.error_message == "already paused"
        assert change(sim, PLAYING).result == OK
        sim.until(lambda: stamp_ns(sim.joints[-1][1].header.stamp) > stamp_ns(still) + 100_000_000, 5, "time goes on")

    def test_stopping_goes_back_to_the_start(self, sim):
        sim.until(lambda: sim.steps and sim.steps[-1].step > 5, 10, "an episode is under way")
        episode, start = sim.steps[-1].episode, position(entity(sim, "cube"))
        assert change(sim, STOPPED).result == OK
        assert state(sim) == STOPPED
        sim.spin(0.3)
        assert stamp_ns(sim.joints[-1][1].header.stamp) == 1_000_000_000
        assert (sim.steps[-1].episode, sim.steps[-1].step, sim.steps[-1].seed) == (episode + 1, 0, 7)
        assert position(entity(sim, "cube"))[:2] == pytest.approx(start[:2], abs=1e-3)
        refused = step(sim, 1)
        assert (refused.result, "the simulation is stopped, expected paused" in refused.error_message) == (FAILED, True)
        assert reset(sim, ResetSimulation.Request.SCOPE_ALL).result == OK
        assert state(sim) == STOPPED
        assert change(sim, PAUSED).result == OK
        assert stamp_ns(entity(sim, "cube").header.stamp) == 1_000_000_000
        assert state(sim) == PAUSED
        assert change(sim, STOPPED).result == OK
        assert change(sim, PLAYING).result == OK
        sim.until(lambda: sim.steps[-1].step > 5, 5, "the next episode runs")

    @pytest.mark.parametrize("wanted", [3, 4, 99])
    def test_other_states_are_refused(self, sim, wanted):
        answer = change(sim, wanted)
        assert answer.result == UNSUPPORTED
        assert f"state is {wanted}, expected one of: 0 (stopped), 1 (playing), 2 (paused)" in answer.error_message
        assert state(sim) == PLAYING

    def test_steps_are_physics_steps_and_need_a_pause(self, sim):
        refused = step(sim, 1)
        assert (refused.result, "the simulation is playing, expected paused" in refused.error_message) == (FAILED, True)
        change(sim, PAUSED)
        before = stamp_ns(entity(sim, "cube").header.stamp)
        assert step(sim, 1).result == OK
        assert step(sim, 50).result == OK
        assert stamp_ns(entity(sim, "cube").header.stamp) - before == 102_000_000
        assert state(sim) == PAUSED
        for count in (0, 2**60):
            wrong = step(sim, count)
            assert (wrong.result, wrong.error_message) == (FAILED, f"steps is {count}, expected 1 to 1000000")

    @pytest.mark.parametrize("scope", [0, 3, 7, 255])
    def test_time_and_state_are_reset_together(self, sim, scope):
        sim.until(lambda: sim.steps and sim.steps[-1].step > 5, 10, "an episode is under way")
        episode = sim.steps[-1].episode
        change(sim, PAUSED)
        assert reset(sim, scope).result == OK
        sim.until(lambda: sim.steps[-1].episode == episode + 1, 5, "a new episode")
        assert (sim.steps[-1].seed, sim.steps[-1].step) == (7, 0)
        assert stamp_ns(entity(sim, "cube").header.stamp) == 1_000_000_000
        assert state(sim) == PAUSED

    @pytest.mark.parametrize("scope", [1, 2, 4, 5, 6])
    def test_other_scopes_are_refused_and_change_nothing(self, sim, scope):
        sim.until(lambda: sim.steps, 10, "an episode is under way")
        episode = sim.steps[-1].episode
        answer = reset(sim, scope)
        assert answer.result == UNSUPPORTED
        assert f"scope is {scope}, expected 0 (default), 3 (time and state) or 255 (all)" in answer.error_message
        sim.spin(0.2)
        assert sim.steps[-1].episode == episode

    def test_both_ways_see_what_the_other_did(self, sim):
        assert sim.call(SetBool, "pause", SetBool.Request(data=True)).success
        assert state(sim) == PAUSED
        assert change(sim, STOPPED).result == OK
        assert sim.call(Advance, "advance", Advance.Request(steps=5)).success
        assert state(sim) == PAUSED, "stopped means at the start"
        assert change(sim, STOPPED).result == OK
        assert sim.call(Reset, "reset", Reset.Request(seed=3)).success
        assert state(sim) == PAUSED, "another start than the one it was stopped at"
        assert sim.call(SetBool, "pause", SetBool.Request(data=False)).success
        assert state(sim) == PLAYING
        assert change(sim, PAUSED).result == OK
        assert sim.call(Advance, "advance", Advance.Request(steps=5)).success


@needs_the_standard
class TestEntities:
    def find(self, watch: Watcher, **filters):
        request = GetEntities.Request()
        for name, value in filters.items():
            setattr(request.filters, name, value)
        return watch.call(GetEntities, "get_entities", request)

    def test_objects_are_found_by_name(self, sim):
        everything = self.find(sim)
        assert everything.result.result == OK
        assert "cube" in everything.entities
        assert len(everything.entities) > 1
        assert list(self.find(sim, filter="^c(ube|ow)$").entities) == ["cube"]
        nothing = self.find(sim, filter="zebra")
        assert (nothing.result.result, list(nothing.entities)) == (OK, [])

    def test_filters_that_are_not_understood_are_refused(self, sim):
        broken = self.find(sim, filter="(")
        assert broken.result.result == FAILED
        assert "filter '(' is no regular expression" in broken.result.error_message
        request = GetEntities.Request()
        request.filters.tags.tags = ["red"]
        answers = [
            self.find(sim, filter="[[:alpha:]]"),
            self.find(sim, categories=[EntityCategory(category=EntityCategory.CATEGORY_ROBOT)]),
            self.find(sim, bounds=Bounds(type=Bounds.TYPE_SPHERE)),
            sim.call(GetEntities, "get_entities", request),
        ]
        for answer in answers:
            assert (answer.result.result, list(answer.entities)) == (UNSUPPORTED, [])
            assert "expected" in answer.result.error_message

    def test_the_state_is_that_of_the_pose_topic(self, sim):
        seen: list[PoseStamped] = []
        sim.node.create_subscription(PoseStamped, "object/cube/pose", seen.append, STATE_QOS)
        sim.until(lambda: seen, 5, "poses")
        change(sim, PAUSED)
        sim.spin(0.3)
        got = entity(sim, "cube")
        assert (got.header, got.pose) == (seen[-1].header, seen[-1].pose)
        both = sim.call(GetEntitiesStates, "get_entities_states", GetEntitiesStates.Request())
        assert both.states[list(both.entities).index("cube")] == got

    def test_an_unknown_entity_is_not_found(self, sim):
        answer = sim.call(GetEntityState, "get_entity_state", GetEntityState.Request(entity="cow"))
        assert answer.result.result == Result.RESULT_NOT_FOUND
        assert "no object 'cow' in the scene; it has: cube" in answer.result.error_message
        assert put(sim, "cow", answer.state).result == Result.RESULT_NOT_FOUND

    def test_a_thrown_cube_flies_as_newton_says(self, sim):
        change(sim, PAUSED)
        thrown = entity(sim, "cube")
        thrown.header.frame_id = ""
        p, q, v, w = thrown.pose.position, thrown.pose.orientation, thrown.twist.linear, thrown.twist.angular
        p.x, p.y, p.z = 0.3, -0.2, 2.0
        q.x, q.y, q.z, q.w = 0.5, 0.5, 0.5, 0.5  # axes x y z of the cube lie along y z x of the world
        v.x, v.y, v.z = 0.3, -0.1, 1.0
        w.x, w.y, w.z = 0.0, 0.0, 2.0
        assert put(sim, "cube", thrown).result == OK
        got = entity(sim, "cube")
        assert got.pose == thrown.pose
        assert six(got.twist) == pytest.approx(six(thrown.twist), abs=1e-12)
        assert six(got.acceleration) == pytest.approx([0, 0, -9.81, 0, 0, 0], abs=1e-6)
        assert step(sim, 100).result == OK
        got, t = entity(sim, "cube"), 0.2
        expected = [0.3 + 0.3 * t, -0.2 - 0.1 * t, 2.0 + t - 9.81 * t * t / 2]
        assert position(got) == pytest.approx(expected, abs=3e-3)
        assert six(got.twist) == pytest.approx([0.3, -0.1, 1.0 - 9.81 * t, 0, 0, 2.0], abs=1e-3)
        # Turned by 0.4 rad about the world's z.
        turn = np.array([np.cos(0.2), 0, 0, np.sin(0.2)])
        q = got.pose.orientation
        w0, z0 = turn[0], turn[3]
        expected = 0.5 * np.array([w0 - z0, w0 - z0, w0 + z0, w0 + z0])  # (turn) times (0.5, 0.5, 0.5, 0.5): w, x, y, z
        assert np.array([q.w, q.x, q.y, q.z]) == pytest.approx(expected, abs=2e-3)

    def test_flags_choose_what_is_set(self, sim):
        if not hasattr(SetEntityState.Request(), "set_pose"):
            pytest.skip("version 1 of simulation_interfaces has no flags: pose and twist are set")
        change(sim, PAUSED)
        before = entity(sim, "cube")
        other = entity(sim, "cube")
        other.pose.position.z, other.twist.linear.x = 1.0, 0.7
        assert put(sim, "cube", other, pose=False).result == OK
        assert position(entity(sim, "cube")) == pytest.approx(position(before))
        assert entity(sim, "cube").twist.linear.x == pytest.approx(0.7)
        other.twist.linear.x = 0.0
        assert put(sim, "cube", other, twist=False).result == OK
        assert position(entity(sim, "cube"))[2] == pytest.approx(1.0)
        assert entity(sim, "cube").twist.linear.x == pytest.approx(0.7)
        none = put(sim, "cube", other, pose=False, twist=False)
        assert (none.result, "nothing to set" in none.error_message) == (FAILED, True)

    def test_wrong_states_are_refused_and_change_nothing(self, sim):
        change(sim, PAUSED)
        before = entity(sim, "cube")

        def refused(change_it, name="cube") -> tuple[int, str]:
            what = entity(sim, name)
            change_it(what)
            answer = put(sim, name, what)
            return answer.result, answer.error_message

        invalid = SetEntityState.Response.INVALID_POSE
        placed = next(n for n in self.find(sim).entities if n != "cube")
        nan, far = float("nan"), 1e11
        for code, text, attempt in [
            (invalid, "expected finite values", lambda s: setattr(s.pose.position, "x", nan)),
            (invalid, "expected finite values", lambda s: setattr(s.pose.position, "x", far)),
            (invalid, "quaternion of length 1", lambda s: setattr(s.pose.orientation, "w", 3.0)),
            (FAILED, "expected finite values", lambda s: setattr(s.twist.linear, "x", nan)),
            (FAILED, "frame is 'moon', expected 'base_link' or none", lambda s: setattr(s.header, "frame_id", "moon")),
        ]:
            came, said = refused(attempt)
            assert came == code, said
            assert text in said
        came, said = refused(lambda s: setattr(s.twist.linear, "x", 1.0), placed)
        assert (came, "moves only by being placed" in said) == (FAILED, True)
        assert entity(sim, "cube") == before

    def test_what_is_placed_stays_there(self, sim):
        change(sim, PAUSED)
        placed = next(n for n in self.find(sim).entities if n != "cube")
        what = entity(sim, placed)
        assert not six(what.twist).any()
        what.pose.position.x += 0.1
        assert put(sim, placed, what).result == OK
        step(sim, 100)
        assert position(entity(sim, placed)) == pytest.approx(position(what))


@needs_the_standard
class TestInTheGraph:
    def test_the_guard_follows_a_stop_and_the_arm_works_again(self, tmp_path):
        with Graph(tmp_path) as graph:
            watch = graph.watch
            graph.wait_moving()
            assert change(watch, STOPPED).result == OK
            watch.until(lambda: watch.sentinel.code == "OBSERVATION_LOST", 5, "the sentinel notices")
            assert change(watch, PLAYING).result == OK
            graph.wait_moving()
            assert "Traceback" not in graph.said()

    def test_lock_step_goes_on_where_it_was_paused_or_stopped(self, tmp_path):
        with Graph(tmp_path, mode="lockstep", record="false") as graph:
            watch = graph.watch
            watch.until(
                lambda: watch.sentinel is not None and watch.node.count_publishers("action"), 30, "the stack is up"
            )
            assert reset(watch, 0).result == OK
            watch.until(lambda: watch.steps and watch.steps[-1].step > 5, 20, "steps")
            for wanted in (PAUSED, STOPPED):
                assert change(watch, wanted).result == OK
                watch.spin(0.3)
                seen = watch.steps[-1]
                watch.spin(0.3)
                assert (watch.steps[-1].episode, watch.steps[-1].step) == (seen.episode, seen.step)
                assert change(watch, PLAYING).result == OK
                watch.until(lambda s=seen.step: watch.steps[-1].step > s, 5, "steps again")
            assert "Traceback" not in graph.said()
