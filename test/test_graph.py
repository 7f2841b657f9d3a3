"""The stack as it runs: real processes, real DDS, real time; and what happens when one of them dies."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from graph import Graph, Watcher, fresh_domain, sim_alone, time_to_rest
from optr.ros.convert import JointStateWriter, chunk_to_msg
from optr.ros.qos import COMMAND_QOS, EVENT_QOS
from optr.spec import ActionChunk, Command, JointSample, load_spec, stamp_ns
from optr_interfaces.msg import ActionChunk as ActionChunkMsg
from optr_interfaces.msg import EpisodeStatus, SentinelStatus, Verdict
from optr_interfaces.srv import (
    Advance,
    ListOperators,
    Reset,
    SelectAction,
    SetActiveOperator,
    SetAuthority,
    StartEpisode,
    StopEpisode,
)

SPEC = load_spec("so101_tabletop")
OTHERS = {"sim", "operator", "sentinel", "recorder"}


@pytest.fixture
def graph(tmp_path):
    with Graph(tmp_path) as running:
        yield running


def health(graph: Graph, name: str) -> DiagnosticStatus:
    return graph.watch.health.get(f"/{name}", DiagnosticStatus())


class TestKilled:
    """SIGKILL of any one node: the arm comes to rest, the others live on and say why."""

    REST_S = 0.3

    @pytest.fixture
    def graph(self, tmp_path):
        # A reset puts the arm elsewhere, and it sags there at first: that is no motion that anybody commanded.
        with Graph(tmp_path, auto_reset="false") as running:
            yield running

    def rest_after(self, graph: Graph, name: str) -> float:
        graph.wait_moving()
        killed = graph.kill(name)
        graph.watch.spin(1.0)
        rest = time_to_rest(graph.watch.joints, killed)
        last = {n: round(v, 3) for n, v in zip(graph.watch.joints[-1][1].name, graph.watch.joints[-1][1].velocity)}  # noqa: B905
        print(f"rest {rest:.3f} s after the end of {name}; at last: {last}")
        assert graph.alive() == OTHERS - {name}
        assert "Traceback" not in graph.said()
        return rest

    def test_operator(self, graph):
        assert self.rest_after(graph, "operator") <= self.REST_S
        graph.watch.until(lambda: graph.watch.sentinel.code == "NO_ACTION", 3, "the status says why")
        status = graph.watch.sentinel
        assert status.state == SentinelStatus.HOLDING
        assert "no action from 'scripted_pick_place'" in status.text
        graph.watch.until(lambda: "NO_ACTION" in health(graph, "sentinel").message, 3, "the reason in the diagnostics")

    def test_sentinel(self, graph):
        assert self.rest_after(graph, "sentinel") <= self.REST_S
        graph.watch.until(lambda: "holding: no " in health(graph, "sim").message, 3, "the sim says why")
        assert health(graph, "sim").level == b"\x01"

    def test_recorder(self, graph):
        assert self.rest_after(graph, "recorder") <= self.REST_S
        graph.watch.until(lambda: graph.watch.sentinel.code == "RECORDER_LOST", 3, "the status says why")
        assert graph.watch.sentinel.state == SentinelStatus.HOLDING
        graph.watch.until(lambda: "RECORDER_LOST" in health(graph, "sentinel").message, 3, "the diagnostics")

    def test_sim(self, graph):
        graph.wait_moving()
        graph.kill("sim")
        graph.watch.until(lambda: graph.watch.sentinel.code == "OBSERVATION_LOST", 3, "the sentinel notices")
        assert graph.alive() == OTHERS - {"sim"}
        assert "Traceback" not in graph.said()

    def test_all_nodes_end_when_asked(self, graph):
        graph.wait_moving()
        for number in (signal.SIGINT, signal.SIGTERM):
            name = "operator" if number == signal.SIGINT else "recorder"
            graph.kill(name, number)
            child = next(c for c in graph.stack.children if c.name == name)
            assert child.process.wait(timeout=10) == 0, graph.said()


class TestStreaming:
    def test_the_arm_works_in_real_time_and_a_ros_user_finds_what_is_expected(self, graph):
        watch = graph.watch
        watch.until(lambda: any(s.success for s in watch.steps), 60, "an episode succeeds")
        names = dict(watch.node.get_topic_names_and_types())
        for topic, kind in {
            "/clock": "rosgraph_msgs/msg/Clock",
            "/joint_states": "sensor_msgs/msg/JointState",
            "/joint_command": "sensor_msgs/msg/JointState",
            "/object/cube/pose": "geometry_msgs/msg/PoseStamped",
            "/robot_description": "std_msgs/msg/String",
            "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
            "/step": "optr_interfaces/msg/StepResult",
        }.items():
            assert names[topic] == [kind]
        assert {n for n in watch.node.get_node_names() if n != "watcher"} == OTHERS
        refused = [v for v in watch.verdicts if v.outcome in (Verdict.REFUSED, Verdict.STOPPED)]
        refused = [v for v in refused if v.text != "no recorder yet"]
        told = [(v.codes, v.text) for v in refused]
        # A machine that takes away a fifth of a second makes all decisions late that were made meanwhile.
        assert {tuple(v.codes) for v in refused} <= {("OBSERVATION_STALE",)}, told
        assert len(refused) <= 0.05 * len(watch.verdicts), told
        stamps = np.array([stamp_ns(m.header.stamp) for _, m in watch.joints])
        assert np.median(np.diff(stamps)) == 10_000_000
        factor = float(next(v.value for v in health(graph, "sim").values if v.key == "real_time_factor"))
        assert 0.5 < factor < 1.1, "never ahead of time; behind it where the machine has no time"

    def test_stop_latches_and_rearm_goes_on(self, graph):
        watch = graph.watch
        graph.wait_moving()
        asked = time.monotonic()
        assert watch.call(Trigger, "sentinel/stop", Trigger.Request()).success
        watch.spin(0.8)
        assert time_to_rest(watch.joints, asked) <= 0.4
        assert watch.sentinel.state == SentinelStatus.STOPPED
        assert watch.sentinel.code == "STOP_REQUESTED"
        assert any(v.outcome == Verdict.STOPPED for v in watch.verdicts)
        assert watch.call(Trigger, "sentinel/rearm", Trigger.Request()).success
        again = watch.call(Trigger, "sentinel/rearm", Trigger.Request())
        assert (again.success, again.message) == (False, "no stop is latched")
        graph.wait_moving(0.2)

    def test_pause_stops_the_clock_and_advance_moves_it(self, graph):
        watch = graph.watch
        graph.wait_moving()
        refused = watch.call(Advance, "advance", Advance.Request(steps=5))
        assert (refused.success, refused.message) == (False, "runs by itself; pause it first")
        assert watch.call(SetBool, "pause", SetBool.Request(data=True)).success
        before = watch.call(Advance, "advance", Advance.Request(steps=5)).stamp
        after = watch.call(Advance, "advance", Advance.Request(steps=50)).stamp
        assert stamp_ns(after) - stamp_ns(before) == 100_000_000
        wrong = watch.call(Advance, "advance", Advance.Request(steps=0))
        assert (wrong.success, "expected 1 to" in wrong.message) == (False, True)
        assert watch.call(SetBool, "pause", SetBool.Request(data=False)).success
        graph.wait_moving(0.2)

    def test_reset_starts_an_episode_with_its_seed(self, graph):
        watch = graph.watch
        graph.wait_moving()
        episode = watch.steps[-1].episode
        answer = watch.call(Reset, "reset", Reset.Request(seed=42))
        assert answer.success
        assert answer.episode == episode + 1
        watch.until(lambda: watch.steps[-1].seed == 42, 5, "the step says so")
        wrong = watch.call(Reset, "reset", Reset.Request(seed=1, keyframe="nap"))
        assert (wrong.success, wrong.message) == (False, "no keyframe 'nap' in the model; it has: home, rest")
        watch.until(lambda: watch.sentinel.state == SentinelStatus.READY, 5, "the guard follows")

    def test_operators_are_listed_asked_and_changed(self, graph):
        watch = graph.watch
        graph.wait_moving()
        listed = watch.call(ListOperators, "operator/list_operators", ListOperators.Request())
        assert listed.active == "scripted_pick_place"
        assert {"hold", "random", "scripted_reach"} <= {o.id for o in listed.operators}
        answer = watch.call(SelectAction, "operator/select_action", SelectAction.Request())
        assert answer.success
        assert list(answer.action.names) == list(SPEC.action.names)
        wrong = watch.call(
            SetActiveOperator, "operator/set_active_operator", SetActiveOperator.Request(operator_id="x")
        )
        assert not wrong.success
        assert "no operator named 'x'; there are: hold" in wrong.message
        change = SetActiveOperator.Request(operator_id="hold")
        assert watch.call(SetActiveOperator, "operator/set_active_operator", change).success
        watch.until(lambda: watch.sentinel.state == SentinelStatus.HOLDING, 5, "another operator has no authority")
        given = watch.call(SetAuthority, "sentinel/set_authority", SetAuthority.Request(operator_id="hold"))
        assert given.previous == "scripted_pick_place"
        watch.until(lambda: watch.sentinel.state == SentinelStatus.READY, 5, "now it has")


class TestBadActions:
    """Proposals and commands that must not move the arm."""

    @pytest.fixture
    def still(self, tmp_path):
        with Graph(tmp_path, operator="hold", task="", proposers="*") as graph:
            graph.watch.until(lambda: graph.watch.sentinel is not None and graph.watch.sentinel.state == 0, 30, "ready")
            graph.watch.spin(0.5)
            yield graph

    def test_wrong_proposals_are_refused_with_a_code_and_nothing_moves(self, still):
        watch = still.watch
        out = watch.node.create_publisher(ActionChunkMsg, "action", EVENT_QOS)
        watch.until(lambda: out.get_subscription_count() >= 1, 5, "the sentinel listens")
        names, width = SPEC.action.names, len(SPEC.action.names)
        far = SPEC.home_vector() + 0.5
        bad = {
            "WRONG_NAMES": (("a",) * width, far),
            "WRONG_SIZE": (names, np.append(far, 0.0)),
            "NOT_A_NUMBER": (names, np.full(width, np.nan)),
            "WRONG_AUTHORITY": (names, far),
        }
        before = np.array(watch.joints[-1][1].position)
        for code, (columns, values) in bad.items():
            watch.verdicts.clear()
            now = stamp_ns(watch.joints[-1][1].header.stamp)
            who = "stranger" if code == "WRONG_AUTHORITY" else "hold"
            rows = np.atleast_2d(values)
            out.publish(chunk_to_msg(ActionChunk(who, 1, columns, rows, now, now, SPEC.period_ns)))
            watch.until(lambda code=code: any(code in v.codes for v in watch.verdicts), 3, code)
            said = next(v for v in watch.verdicts if code in v.codes)
            assert said.outcome == Verdict.REFUSED
            assert said.text
        watch.spin(0.3)
        assert np.abs(np.array(watch.joints[-1][1].position) - before).max() < 0.01

    def test_a_stranger_on_the_command_topic_stops_everything(self, still):
        watch = still.watch
        out = watch.node.create_publisher(JointState, "joint_command", COMMAND_QOS)
        watch.until(lambda: watch.sentinel.code == "SECOND_SENTINEL", 5, "the sentinel sees the rival")
        watch.until(lambda: "2 publishers on joint_command" in health(still, "sim").message, 5, "so does the sim")
        before = np.array(watch.joints[-1][1].position)
        writer = JointStateWriter(SPEC.action.names, fields=1)
        for _ in range(20):
            now = stamp_ns(watch.joints[-1][1].header.stamp)
            out.publish(writer.command(Command(now, SPEC.home_vector() + 0.4)))
            watch.spin(0.02)
        assert np.abs(np.array(watch.joints[-1][1].position) - before).max() < 0.01
        watch.node.destroy_publisher(out)
        watch.until(lambda: watch.sentinel.state == SentinelStatus.READY, 5, "it goes on without the rival")

    def test_a_second_source_of_joint_states_moves_nothing(self, still):
        watch = still.watch
        before = np.array(watch.joints[-1][1].position)
        out = watch.node.create_publisher(JointState, "joint_states", EVENT_QOS)
        writer = JointStateWriter(SPEC.action.names)
        zero = np.zeros(len(SPEC.action.names))
        for k in range(100):
            real = watch.joints[-1][1]
            fake = JointSample(stamp_ns(real.header.stamp) - (k % 3) * 10_000_000, before + 0.8, zero, zero)
            out.publish(writer.sample(fake))
            watch.spin(0.01)
        assert watch.sentinel.code in ("SECOND_STATE_SOURCE", "CLOCK_BACKWARDS")
        commands = np.array([c.position for c in watch.commands])
        assert np.abs(np.diff(commands, axis=0)).max() < 0.06, "no jump"
        assert np.abs(commands - commands[0]).max() < 0.05, "hold stays about where it was"
        watch.node.destroy_publisher(out)

    def test_a_broken_command_is_refused_by_the_sim_itself(self):
        with sim_alone("sentinel_timeout_s:=0.0") as (watch, out):
            for names, values in [
                (["x"], [1.0]),
                (list(SPEC.action.names), [1.0]),
                (list(SPEC.action.names), [float("nan")] * 6),
            ]:
                msg = JointState(name=names, position=values)
                msg.header.stamp = watch.joints[-1][1].header.stamp
                out.publish(msg)
                watch.spin(0.1)
            watch.until(lambda: "/sim" in watch.health, 3, "diagnostics")
            refused = lambda: next(v.value for v in watch.health["/sim"].values if v.key == "commands_refused")  # noqa: E731
            watch.until(lambda: refused() == "3", 3, "three refusals counted")


def test_a_start_that_was_advanced_but_not_answered_is_not_mistaken_for_the_next(tmp_path):
    """Who judges commands has seen but its first stamp: the next start must lie before it, or it is none for them."""
    with Graph(tmp_path, mode="lockstep", record="false", operate="false") as graph:
        watch = graph.watch
        watch.until(lambda: watch.sentinel is not None, 30, "the stack is up")
        starts = []
        for seed in (1, 2, 3):
            episode = watch.call(Reset, "reset", Reset.Request(seed=seed)).episode
            watch.until(lambda e=episode: watch.steps and watch.steps[-1].episode == e, 5, "the start")
            starts.append(stamp_ns(watch.steps[-1].header.stamp))
            assert watch.call(SetBool, "pause", SetBool.Request(data=True)).success
            assert watch.call(Advance, "advance", Advance.Request(steps=1)).success
            assert watch.call(SetBool, "pause", SetBool.Request(data=False)).success
    assert starts[0] > starts[1] > starts[2]


def run_node(name: str, *parameters: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    words = [w for p in parameters for w in ("-p", p)]
    command = [sys.executable, "-m", f"optr.nodes.{name}", "--ros-args", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


class TestRefusesToStart:
    """Each with a clear message on stderr and exit code 2."""

    @pytest.fixture(autouse=True)
    def domain(self):
        return fresh_domain()

    @pytest.fixture
    def broken(self, tmp_path):
        def broken(old: str, new: str, count: int = 1):
            text = SPEC.to_yaml()
            assert old in text
            path = tmp_path / "broken.yaml"
            path.write_text(text.replace(old, new, count))
            return path

        return broken

    def test_missing_model(self):
        done = run_node("sim", "scene:=/nowhere/robot.xml")
        assert (done.returncode, "error: no model file /nowhere/robot.xml" in done.stderr) == (2, True), done.stderr

    def test_a_stack_with_such_a_node_says_at_its_end_why(self):
        command = [sys.executable, "-m", "optr.cli", "up", "sim", "operator:=nobody", "cameras:=false"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        last = " ".join(done.stderr.split())
        assert done.returncode == 2, done.stderr
        assert last.endswith("up: ended, for operator could not start as asked: its own message above says why"), last

    def test_broken_model(self, tmp_path):
        model = tmp_path / "b.xml"
        model.write_text("<mujoco><worldbody>")
        done = run_node("sim", f"scene:={model}")
        assert (done.returncode, f"error: {model}: XML" in done.stderr) == (2, True), done.stderr

    def test_unknown_joint(self, broken):
        done = run_node("sim", f"spec:={broken('shoulder_pan', 'sholder_pan', -1)}")
        assert done.returncode == 2
        assert "no joint 'sholder_pan'" in done.stderr
        assert "it has: shoulder_pan, shoulder_lift" in done.stderr

    @pytest.mark.parametrize("node", ["sim", "sentinel", "operator"])
    def test_wrong_unit(self, broken, node):
        done = run_node(node, f"spec:={broken('unit: rad', 'unit: degrees')}")
        assert done.returncode == 2
        assert "broken.yaml:" in done.stderr
        assert "'degrees' is not one of: rad" in done.stderr

    def test_missing_limit(self, broken):
        done = run_node("sentinel", f"spec:={broken('velocity: 2.8, ', '')}")
        assert done.returncode == 2
        assert "'shoulder_pan' lacks velocity; a guard needs" in done.stderr

    def test_unknown_operator(self):
        done = run_node("operator", "operator:=nobody")
        assert done.returncode == 2
        assert "error: no operator named 'nobody'; there are: hold, human, llm, passive, policy, random" in done.stderr

    def test_unknown_task(self):
        done = run_node("sim", "task:=fly")
        assert done.returncode == 2
        assert "no task named 'fly'; there are: pick_place, push, reach" in done.stderr

    def test_unwritable_folder_for_bags(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("")
        done = run_node("recorder", f"folder:={file / 'bags'}")
        assert done.returncode == 2
        assert "cannot write to the folder for bags" in done.stderr

    @pytest.mark.parametrize(
        ("node", "parameter", "says"),
        [
            ("sentinel", "rate_hz:=fast", "parameter rate_hz is 'fast'; expected float from 10.0 to 1000.0"),
            ("sentinel", "rate_hz:=5.0", "parameter rate_hz is 5.0; expected float from 10.0 to 1000.0"),
            ("sentinel", "autority:=me", "unknown parameter autority; node 'sentinel' has: spec, authority"),
            ("sim", "mode:=slow", "parameter mode is 'slow'; it can be: realtime, fast, lockstep"),
            ("operator", "options:=\"'{'\"", "which is no JSON"),
        ],
    )
    def test_wrong_parameters(self, node, parameter, says):
        done = run_node(node, parameter)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr

    def test_two_of_one_name(self, domain):
        first = subprocess.Popen([sys.executable, "-m", "optr.nodes.sentinel"])
        watch = Watcher()
        try:
            watch.until(lambda: watch.sentinel is not None, 20, "the first sentinel is up")
            second = run_node("sentinel")
            assert second.returncode == 2
            assert f"/sentinel is taken in ROS domain {domain} by process {first.pid}" in second.stderr
            renamed = subprocess.run(
                [sys.executable, "-m", "optr.nodes.sentinel", "--ros-args", "-r", "__node:=other"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert renamed.returncode == 2
            assert f"/joint_command is taken in ROS domain {domain} by process {first.pid}" in renamed.stderr
            assert first.poll() is None
        finally:
            watch.close()
            first.send_signal(signal.SIGINT)
            assert first.wait(timeout=10) == 0


class TestRecorder:
    def test_refuses_what_it_cannot_record_and_loses_nothing(self, graph, tmp_path):
        watch = graph.watch
        graph.wait_moving()
        start = StartEpisode.Request(episode_id="one", task="pick_place", seed=3)

        def call(**changes):
            request = StartEpisode.Request(episode_id="two", timeout=0.3)
            for key, value in changes.items():
                setattr(request, key, value)
            return watch.call(StartEpisode, "recorder/start_episode", request)

        nothing = watch.call(StopEpisode, "recorder/stop_episode", StopEpisode.Request())
        assert (nothing.success, nothing.message) == (False, "no episode is being recorded")
        assert "nothing is heard on /smell; there are: /action" in call(wait_for=["smell"]).message
        assert "'a/b' is no name" in call(episode_id="a/b").message
        assert watch.call(StartEpisode, "recorder/start_episode", start).success
        watch.until(lambda: watch.recorder.state == EpisodeStatus.RECORDING, 5, "it says so")
        assert "'one' is being recorded" in call().message
        before = len(watch.joints)
        watch.spin(1.0)
        heard = len(watch.joints) - before
        stopped = watch.call(StopEpisode, "recorder/stop_episode", StopEpisode.Request(outcome=1))
        assert stopped.success
        assert stopped.dropped == 0
        recorded = dict(zip(stopped.topics, stopped.counts, strict=True))["/joint_states"]
        assert recorded >= 0.9 * heard > 0, "what somebody else has heard meanwhile is in it"
        assert "exists already" in watch.call(StartEpisode, "recorder/start_episode", start).message
        assert call().success
        assert watch.call(Trigger, "recorder/discard_episode", Trigger.Request()).success
        assert sorted(p.name for p in (tmp_path / "bags").iterdir()) == ["one"]

    @pytest.fixture
    def small_disk(self, tmp_path):
        """A file system of 3 MB."""
        folder = tmp_path / "small"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode != 0:
            pytest.skip("needs the right to mount a small file system (root)")
        yield folder
        subprocess.run(["umount", str(folder)], check=True)

    def test_a_disk_with_too_little_room_is_refused(self, small_disk, tmp_path):
        with Graph(tmp_path, bags=str(small_disk)) as graph:
            answer = graph.watch.call(
                StartEpisode, "recorder/start_episode", StartEpisode.Request(episode_id="big"), 30
            )
        assert not answer.success
        assert "500 MB are asked for" in answer.message

    def test_a_disk_that_fills_up_ends_the_recording_and_holds_the_arm(self, small_disk, tmp_path):
        with Graph(tmp_path, bags=str(small_disk), cameras="true") as graph:
            graph.restart("recorder", folder=str(small_disk), min_free_mb=0)
            watch = graph.watch
            graph.wait_moving(0.2)
            ask = StartEpisode.Request(episode_id="big", wait_for=["camera/front/image_raw"], timeout=10.0)
            assert watch.call(StartEpisode, "recorder/start_episode", ask, 30).success
            watch.until(lambda: watch.recorder.state == EpisodeStatus.ERROR, 60, "the disk is full")
            assert "No space left on device" in watch.recorder.text
            watch.until(lambda: watch.sentinel.code == "RECORDER_LOST", 3, "the sentinel holds")
            assert "No space left on device" in watch.sentinel.text
            stopped = watch.call(StopEpisode, "recorder/stop_episode", StopEpisode.Request(outcome=1))
            assert not stopped.success
            assert "No space left on device" in stopped.message
            assert not (small_disk / "big").exists(), "a half episode is never taken for a whole one"
            assert graph.alive() == OTHERS


class TestForeignModels:
    """Models that this project did not write, in the real node, with a spec made from them."""

    @pytest.mark.parametrize(
        ("package", "file"),
        [
            ("dm_control", "suite/reacher.xml"),
            ("dm_control", "suite/humanoid.xml"),
            ("gymnasium_robotics", "envs/assets/fetch/pick_and_place.xml"),
        ],
    )
    def test_load_run_and_obey(self, package, file, tmp_path):
        made = tmp_path / "made.yaml"
        model = Path(importlib.util.find_spec(package).submodule_search_locations[0]) / file
        words = [sys.executable, "-m", "optr.cli", "spec", "from-model", str(model), "-o", str(made)]
        subprocess.run(words, check=True, capture_output=True)
        with Graph(tmp_path, spec=str(made), task="", operator="random") as graph:
            watch = graph.watch
            watch.until(lambda: len(watch.commands) > 50, 40, "commands flow")
            assert {v.outcome for v in watch.verdicts[-20:]} <= {Verdict.ALLOWED, Verdict.LIMITED}
            assert np.isfinite(watch.joints[-1][1].position).all()
            assert graph.alive() == OTHERS
