"""The worker's side: the development guide's own test, the runtime, frames, the check of strangers, the template."""

from __future__ import annotations

import gc
import inspect
import json
import os
import re
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from optr.errors import InvalidDecisionError, OperatorError, WorkerError
from optr.operators import Operator
from optr.operators.testing import OperatorContract
from optr.operators.worker import Worker
from optr.spec import ACTION, ACTION_MASK, STATE, Channel, Feature, load_spec
from optr.workers import WorkerClient, WorkerCommand, WorkerProcess, worker_command
from optr.workers.answer import read_action
from optr.workers.check import WorkerCheck
from optr.workers.frames import FrameReader, FrameRef, FrameWriter, frame_bytes
from optr.workers.lines import LineSplitter, LineTooLongError
from optr.workers.protocol import COMMANDS, REPLIES, NotAMessageError, encode, read_command, read_reply
from optr.workers.spec_message import spec_from_message, spec_to_message
from test_workers import EVIL, game

PYTHON = sys.executable
IMAGE = "observation.images.front"


def serving(code: str, **options) -> Worker:
    return Worker(options.pop("spec", game()), command=[PYTHON, "-c", f"from optr.workers import *\n{code}"], **options)


class HalfWay(Operator):
    """Half of what it observes; no part of optr, but a worker's own."""

    def select_action(self, observation, info):
        return np.asarray(observation["observation.state"], dtype=np.float64) / 2 + self.rng.uniform(0, 0.01, 6)


def test_the_test_of_the_development_guide():
    """As MOSAIC's guide has it: reset, step, stop, on a worker that has the environment."""
    proc = subprocess.Popen(
        [PYTHON, "-m", "optr.workers.template", "--run-id", "test-001", "--env-id", "CartPole-v1", "--interactive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with proc:
        proc.stdin.write('{"cmd": "reset", "seed": 42}\n')
        proc.stdin.flush()
        response = json.loads(proc.stdout.readline())
        assert response["type"] == "ready"
        assert response["seed"] == 42

        proc.stdin.write('{"cmd": "step"}\n')
        proc.stdin.flush()
        response = json.loads(proc.stdout.readline())
        assert response["type"] == "step"
        assert "action" in response

        proc.stdin.write('{"cmd": "stop"}\n')
        proc.stdin.flush()
        response = json.loads(proc.stdout.readline())
        assert response["type"] == "stopped"
        assert proc.wait(timeout=5) == 0


@pytest.fixture(scope="module")
def client():
    """A worker that has a CartPole."""
    command = [PYTHON, "-m", "optr.workers.template", "--interactive", "--env-id", "CartPole-v1"]
    client = WorkerClient(WorkerProcess(WorkerCommand(command)))
    yield client
    assert client.stop() == 0


class TestEnvironmentWorker:
    def episode(self, client, seed, **reset):
        client.reset(seed, 60.0, **reset)
        steps, end = [], None
        while end is None:
            step, end = client.step(20.0)
            steps.append((step["action"], step["reward"], step["step_index"]))
        return steps, end

    def test_an_episode_ends_with_its_sums_and_the_same_seed_gives_the_same(self, client):
        steps, end = self.episode(client, 42)
        assert (end["episode_length"], end["total_reward"]) == (len(steps), sum(s[1] for s in steps))
        assert end["terminated"] is True
        assert [s[2] for s in steps] == list(range(len(steps)))
        self.episode(client, 43)
        assert self.episode(client, 42)[0] == steps

    def test_no_episode_follows_by_itself(self, client):
        self.episode(client, 1)
        with pytest.raises(OperatorError, match="no episode is under way: reset first"):
            client.step(20.0)

    def test_an_episode_can_be_cut(self, client):
        _, end = self.episode(client, 42, max_steps=3)
        assert (end["episode_length"], end["terminated"], end["truncated"]) == (3, False, True)

    def test_it_does_what_it_is_told(self, client):
        client.reset(5, 20.0)
        assert [client.step(20.0, action=a).step["action"] for a in (1, 0, 1)] == [1, 0, 1]

    def test_a_seed_that_is_none_is_refused(self, client):
        with pytest.raises(OperatorError, match="seed is -1; expected a whole number"):
            client.reset(-1, 20.0)


class TestAgentWorker:
    def test_the_seed_decides_its_random_numbers(self):
        with closing(serving("serve(lambda seen, info: int(info['rng'].integers(1000)))")) as worker:
            drawn = []
            for seed in (1, 2, 1):
                worker.reset(seed)
                drawn.append([worker.select_action({}, {})[0] for _ in range(5)])
            assert drawn[0] == drawn[2] != drawn[1]

    def test_what_it_prints_is_no_message(self):
        code = "import os\ndef f(seen, info):\n print('hello'); os.system('echo from C'); return 3\nserve(f)"
        with closing(serving(code)) as worker:
            assert worker.select_action({}, {})[0] == 3
            assert worker.worker.client.noise == 0

    def test_its_error_is_told_and_it_goes_on(self):
        code = "serve(lambda seen, info: 1 // info['step'])"
        with closing(serving(code)) as worker:
            with pytest.raises(OperatorError, match="ZeroDivisionError"):
                worker.select_action({}, {"step": 0})
            assert worker.select_action({}, {"step": 1})[0] == 1
            assert worker.worker.starts == 1

    def test_none_abstains(self):
        with closing(serving("serve(lambda seen, info: None)")) as worker:
            assert worker.select_action({}, {}) is None

    def test_arrays_arrive_as_they_are(self):
        """Small ones in the message, large ones and those that JSON lacks by shared memory, texts as texts."""
        seen = {
            STATE: np.array([0.1, np.nan, -np.inf, 1e-40], dtype=np.float32),
            IMAGE: np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8),
            "observation.mission": np.array("go to the red ball"),
            "observation.grid": np.arange(12, dtype=np.int64).reshape(3, 4),
            ACTION_MASK: np.array([1, 0], dtype=np.int8),
        }
        kinds = {k: ("str" if a.dtype.kind == "U" else a.dtype.name, a.shape) for k, a in seen.items()}
        features = {k: Feature(k, k, "optr_interfaces/msg/Tensor", s, d, 10.0, 1.0) for k, (d, s) in kinds.items()}
        spec = game()
        spec = type(spec)(spec.name, spec.path, {**features, ACTION: spec.action})
        code = (
            "import hashlib, numpy as np\n"
            "def f(seen, info):\n"
            " h = hashlib.sha256()\n"
            " for k, a in seen.items(): h.update(f'{k} {a.dtype} {a.shape}'.encode() + a.tobytes())\n"
            " return int(h.hexdigest()[:8], 16)\n"
        )
        scope: dict = {}
        exec(code, scope)
        with closing(serving(code + "serve(f)", spec=spec)) as worker:
            for _ in range(10):
                seen[IMAGE] += 1
                assert worker.select_action(seen, {})[0] == scope["f"](seen, {})

    def test_where_an_environment_has_several_agents_each_is_asked_by_name(self):
        with closing(serving("serve(lambda seen, info: 1)")) as worker:
            assert worker.select_action({}, {"agent_id": "player_1"})[0] == 1

    def test_an_unknown_command_and_version_are_told(self):
        with closing(serving("serve(lambda seen, info: 1)")) as worker:
            worker.reset(0)
            client = worker.worker.client
            with pytest.raises(OperatorError, match="Unknown command: fly; there are: ping, init_agent, reset"):
                client.ask("fly", "flown", 20.0)
            with pytest.raises(OperatorError, match="this worker speaks protocol 1, came 2"):
                client.ask("ping", "pong", 20.0, v=2)


class TestWorkerIsAnOperator(OperatorContract):
    """The kit of every operator, with one whose decisions come from another process."""

    def make(self, spec):
        code = "import sys\nsys.path.insert(0, 'test')\nfrom test_worker_runtime import HalfWay\nserve(HalfWay)"
        code = code.replace("'test'", repr(os.path.dirname(__file__)))
        return serving(code, spec=spec)


class TestDialects:
    def test_a_worker_of_mosaic(self):
        """No id, no seed in reset, `type` for the command, `agent_initialized`, a label for an action."""
        code = (
            "import json, sys\n"
            "for line in sys.stdin:\n"
            " m = json.loads(line)\n"
            " if m['type'] == 'init_agent':\n"
            "  seed = m['seed']; print(json.dumps({'type': 'agent_initialized'}), flush=True)\n"
            " elif m['type'] == 'select_action':\n"
            "  moves = m['info']['legal_moves']\n"
            "  print(json.dumps({'type': 'step', 'action': 0}), flush=True)\n"
            "  print(json.dumps({'type': 'action_selected', 'action': moves[seed % len(moves)]}), flush=True)\n"
            "  assert len(m['observation']) == 4\n"
        )
        with closing(Worker(game(), command=[PYTHON, "-c", code], dialect="mosaic", stop_timeout_s=1.0)) as worker:
            seen = {STATE: np.zeros(4, dtype=np.float32), ACTION_MASK: np.array([1, 1], dtype=np.int8)}
            for seed, action in ((4, 0.0), (5, 1.0)):
                worker.reset(seed)
                assert [worker.select_action(seen, {})[0] for _ in range(3)] == [action] * 3

    @pytest.mark.parametrize(
        ("line", "kind", "has"),
        [
            (b'{"type": "agent_initialized", "player_id": "p"}', "agent_ready", {"player_id": "p"}),
            (b'{"type": "reset_ack", "episode_index": 1}', "ready", {"episode_index": 1}),
            (b'{"type": "action", "action": "e2e4"}', "action_selected", {"action": "e2e4"}),
            (b'{"type": "episode_done", "total_reward": 1, "num_steps": 7}', "episode_end", {"episode_length": 7}),
            (
                b'{"type": "episode_end", "episode_return": 2.5, "episode_steps": 3}',
                "episode_end",
                {"total_reward": 2.5},
            ),
            (b'{"type": "waiting_for_human"}', "waiting_for_human", {}),
        ],
    )
    def test_what_other_systems_say_is_understood(self, line, kind, has):
        reply = read_reply(line)
        assert reply.kind == kind
        assert has.items() <= reply.fields.items()

    def test_the_command_may_stand_in_type(self):
        assert read_command(b'{"type": "RESET", "seed": 1}')[0] == "reset"


class TestLines:
    def test_pieces_make_lines_wherever_they_are_cut(self):
        text = b'{"a": 1}\n\n  \r\n{"b": 2}\r\nhalf'
        for size in range(1, len(text) + 1):
            splitter = LineSplitter()
            for start in range(0, len(text), size):
                splitter.feed(text[start : start + size])
            assert list(splitter.lines) == [b'{"a": 1}', b'{"b": 2}']
            assert splitter.half == b"half"

    @pytest.mark.parametrize("pieces", [[b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 6], [b"x" * 6, b"x" * 6 + b"\nok\n"]])
    def test_a_line_that_is_too_long_is_an_error(self, pieces):
        splitter = LineSplitter(limit=10)
        for piece in pieces[:-1]:
            splitter.feed(piece)
        with pytest.raises(LineTooLongError, match="more than 10 bytes"):
            splitter.feed(pieces[-1])

    @pytest.mark.parametrize(
        "line", [b"\xff", b"{", b"[" * 10**5, b"[1]", b"9" * 6000, b'{"type": 1}', b'{"id": "x"}', b"{}x"]
    )
    def test_what_is_no_message_is_said_to_be_none(self, line):
        with pytest.raises(NotAMessageError):
            read_reply(line)

    def test_what_json_lacks_is_not_sent(self):
        with pytest.raises(WorkerError, match="cannot be said in JSON"):
            encode({"x": float("nan")})


def opened():
    """What this process holds open; the memory of frames has no other name."""
    held = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that by which it is read
            held.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    return held


class TestFrames:
    def test_a_frame_is_read_as_written_and_gone_after_as_many_as_there_are_slots(self):
        arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(True), np.array([7], dtype=np.int64)]
        writer = FrameWriter(frame_bytes([(a.shape, a.dtype.name) for a in arrays]), slots=3)
        reader = FrameReader(writer.fd)
        with closing(writer), closing(reader):
            refs = []
            for k in range(4):
                writer.begin()
                refs.append([writer.put(a + k if a.dtype.kind != "b" else a) for a in arrays])
                writer.finish()
            for k in (1, 2, 3):
                assert np.array_equal(reader.read(refs[k][0]), arrays[0] + k)
                assert reader.read(refs[k][2])[0] == 7 + k
            with pytest.raises(WorkerError, match="frame 1 is gone; its slot holds frame 4"):
                reader.read(refs[0][0])
            with pytest.raises(WorkerError, match="outside of a frame"):
                reader.read(FrameRef(4, 10**9, "uint8", (1,)))
            with pytest.raises(WorkerError, match="does not fit"):
                writer.put(np.zeros(10**4))

    def test_nothing_is_left_behind(self):
        """Of these workers; tests before may have left files, and close them meanwhile."""
        gc.collect()
        before = opened()
        for _ in range(3):
            worker = serving("serve(lambda seen, info: 1)")
            worker.reset(0)
            assert opened() - before
            worker.close()
            del worker
        assert opened() - before == set()

    def test_what_holds_no_frames_is_said_to_hold_none(self, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100)
        with path.open() as file, pytest.raises(WorkerError, match="holds no frames"):
            FrameReader(file.fileno())


class TestAnswers:
    @pytest.mark.parametrize(
        ("fields", "action"),
        [
            ({"action": 1}, [1.0]),
            ({"action": [2]}, [2.0]),
            ({"action": "right"}, [1.0]),
            ({"action": "7"}, [7.0]),
            ({"action": "e2e4", "action_index": 5}, [5.0]),
            ({"action": None}, None),
        ],
    )
    def test_forms_of_an_action(self, fields, action):
        found = read_action(fields, game().action)
        assert (None if found is None else found.tolist()) == action

    @pytest.mark.parametrize(
        "value", [True, [1, 2], [], {}, "up", "1" * 50, float("nan"), [[[1]]], 10**400, ["a"], [None], [[1], [1, 2]]]
    )
    def test_what_is_none(self, value):
        with pytest.raises(InvalidDecisionError):
            read_action({"action": value}, game().action)

    def test_several_numbers_and_rows(self):
        action = load_spec("so101").action
        assert read_action({"action": [0.5] * 6}, action).shape == (6,)
        assert read_action({"action": [[0.5] * 6] * 3}, action).shape == (3, 6)

    def test_one_that_says_nothing(self):
        with pytest.raises(InvalidDecisionError, match="did not say which"):
            read_action({}, game().action)


def test_a_spec_goes_there_and_back():
    spec = load_spec("so101_tabletop")
    for one in (spec, game()):
        again = spec_from_message(json.loads(json.dumps(spec_to_message(one))))
        assert again.features == one.features
        assert (again.name, again.path, again.noop, again.scene) == (one.name, one.path, one.noop, one.scene)


def test_the_worker_of_the_document_passes_the_check(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "workers.md").read_text(encoding="utf-8")
    code = re.search(r"`my_worker.py`.*?```python\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "my_worker.py").write_text(code, encoding="utf-8")
    done = optr("worker", "check", "{python}", str(tmp_path / "my_worker.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in done.stdout


def test_the_document_names_every_option_command_and_reply():
    text = (Path(__file__).parents[1] / "docs" / "workers.md").read_text(encoding="utf-8")
    options = list(inspect.signature(Worker.__init__).parameters)[2:]
    for word in (*options, *COMMANDS, *REPLIES):
        assert f"`{word}`" in text, word


class TestCheck:
    def findings(self, *command, environment=False, **options):
        check = WorkerCheck(WorkerCommand(list(command)), **options)
        return {f.name: f for f in (check.environment() if environment else check.agent())}

    def test_a_good_one_passes(self, tmp_path):
        done = optr("worker", "new", str(tmp_path / "wavey"))
        assert done.returncode == 0, done.stderr
        done = optr("worker", "check", "--json", "{python}", str(tmp_path / "wavey" / "wavey.py"))
        report = json.loads(done.stdout)
        assert [f for f in report["findings"] if not f["ok"]] == []
        assert (done.returncode, report["good"]) == (0, True)
        again = optr("worker", "new", str(tmp_path / "wavey"))
        assert again.returncode == 2
        assert "there already" in again.stderr

    def test_a_bad_one_is_told_why(self):
        done = optr("worker", "check", "{python}", "-I", "-S", str(EVIL), "crash")
        assert done.returncode == 1
        assert "FAIL  init_agent, reset, select_action\n        worker ended: exit code 3" in done.stdout
        assert "ok    stop: stopped, and exit code 0 in 5 s" in done.stdout
        assert done.stdout.endswith("not usable: see FAIL\n")

    @pytest.mark.parametrize(
        ("answer", "said"),
        [({"action": 1, "player_id": "other"}, "answers for 'other'"), ({"action": 0.5}, "selected 0.5")],
    )
    def test_one_whose_answers_no_operator_takes_is_not_usable(self, tmp_path, answer, said):
        path = tmp_path / "worker.py"
        answers = {"init_agent": {"type": "agent_ready"}, "select_action": answer | {"type": "action_selected"}}
        path.write_text(
            "import json, sys\n"
            f"answers = {answers}\n"
            "for line in sys.stdin:\n"
            "    told = json.loads(line)\n"
            "    reply = answers.get(told['cmd'], {'type': 'ready', 'seed': told.get('seed')})\n"
            "    if told['cmd'] == 'stop': break\n"
            "    print(json.dumps({**reply, 'id': told['id']}), flush=True)\n"
        )
        found = self.findings(PYTHON, "-I", str(path), timeout_s=3.0)
        assert said in found["init_agent, reset, select_action"].text

    def test_one_that_has_an_environment(self):
        found = self.findings(
            PYTHON, "-m", "optr.workers.template", "--env-id", "CartPole-v1", environment=True, timeout_s=60.0
        )
        assert [f for f in found.values() if not f.ok] == []

    def test_no_such_program_is_an_error(self):
        done = optr("worker", "check", "nonesuch")
        assert done.returncode == 2
        assert "no program 'nonesuch'" in done.stderr


def optr(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PYTHON, "-m", "optr.cli", *words], capture_output=True, text=True, check=False, timeout=120)


def test_the_installed_worker_runs_any_operator():
    assert worker_command("operator") == [PYTHON, "-m", "optr.workers.template"]
    spec = load_spec("so101_tabletop")
    seen = {STATE: spec.home_vector().astype(np.float32)}
    for options in (
        {"command": "{python} -m optr.workers.template --operator hold"},
        {"command": "operator", "settings": {"operator": "hold"}},
    ):
        with closing(Worker(spec, **options)) as worker:
            worker.reset(0)
            assert worker.select_action(seen, {}) == pytest.approx(spec.home_vector(), abs=1e-6)


def test_choices_have_labels_that_travel():
    channel = Channel("action", "1", 0.0, 1.0, labels=("a", "b"))
    spec = game()
    feature = Feature(ACTION, "command", "optr_interfaces/msg/Tensor", (1,), "int64", 10.0, 1.0, channels=(channel,))
    spec = type(spec)(spec.name, spec.path, {**spec.features, ACTION: feature}, noop=(1.0,))
    again = spec_from_message(json.loads(json.dumps(spec_to_message(spec))))
    assert again.action.channels[0].labels == ("a", "b")
    assert again.noop == (1.0,)
