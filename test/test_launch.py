"""Launch files: what `ros2 launch` offers, what reaches the nodes, and how a launch ends.

Needs `launch` and `launch_ros`, which a ROS 2 installation brings and PyPI does not.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # whatever the installed version deprecates
    # Not `launch` alone: the folder of the launch files is found as an empty package of that name.
    pytest.importorskip("launch.actions", reason="launch is not installed; a ROS 2 installation brings it")
    pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed; a ROS 2 installation brings it")
    import launch
    from launch_ros.utilities import evaluate_parameters, normalize_parameters

    from optr import launch_support

from optr.errors import StackError
from optr.ros_environment import PARENT_ENV
from optr.stack import load_stack

pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
NODES = ["sim", "operator", "sentinel", "recorder"]

needs_ros2 = pytest.mark.skipif(shutil.which("ros2") is None, reason="the command ros2 is not installed")


def load(path: Path) -> launch.LaunchDescription:
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def resolve(monkeypatch, given: dict[str, str], argv: tuple[str, ...] = ()) -> list[SimpleNamespace]:
    """What sim.launch.py would start; parameters as launch_ros evaluates them."""
    made = []
    monkeypatch.setattr(launch_support, "Node", lambda **kwargs: made.append(SimpleNamespace(**kwargs)))
    context = launch.LaunchContext(argv=argv)
    context.launch_configurations.update(given)
    for entity in load(ROOT / "launch" / "sim.launch.py").entities:
        entity.visit(context)
    for node in made:
        (node.parameters,) = evaluate_parameters(context, normalize_parameters(node.parameters))
    return made


# -- the description ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_arguments_are_those_of_the_stack(path):
    stack = load_stack(path.name.removesuffix(".launch.py"))
    offered = load(path).get_launch_arguments()
    assert [a.name for a in offered] == list(stack.arguments)
    for action, argument in zip(offered, stack.arguments.values(), strict=True):
        default = launch.utilities.perform_substitutions(launch.LaunchContext(), action.default_value)
        assert default == argument.default_text
        assert argument.description in action.description
        assert tuple(action.choices or ()) == argument.choices


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"seed": "7", "real_time_factor": "2", "cameras": "false", "options": '{"gain": 1}'},
        {"mode": "lockstep", "record": "false", "task": "''", "scene": "1e3", "spec": "true", "namespace": "arm1"},
    ],
    ids=["defaults", "numbers", "texts"],
)
def test_parameters_reach_the_nodes_with_their_types(monkeypatch, given):
    nodes = resolve(monkeypatch, given)
    expected = load_stack("sim").resolve(given)
    assert [n.executable for n in nodes] == [e.executable for e in expected]
    for node, entry in zip(nodes, expected, strict=True):
        assert (node.package, node.name, node.namespace) == ("optr", entry.executable, entry.namespace)
        assert node.parameters == dict(entry.parameters)
        assert [type(v) for v in node.parameters.values()] == [type(v) for v in entry.parameters.values()]


def test_types_are_those_that_the_nodes_declare(monkeypatch):
    sim, operator, sentinel, _ = (n.parameters for n in resolve(monkeypatch, {"real_time_factor": "2"}))
    assert (sim["real_time_factor"], type(sim["real_time_factor"])) == (2.0, float)
    assert (sim["seed"], type(sim["seed"])) == (0, int)
    assert (sim["cameras"], sim["use_sim_time"], sim["scene"]) == (True, False, "")
    assert (operator["options"], operator["lockstep"], operator["use_sim_time"]) == ("{}", False, True)
    assert type(sentinel["recorder_timeout_s"]) is float


def test_nodes_get_the_environment_that_they_need(monkeypatch):
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    for node in resolve(monkeypatch, {}):
        assert Path(node.additional_env["FASTRTPS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"
        assert node.additional_env[PARENT_ENV] == str(os.getpid())
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    for node in resolve(monkeypatch, {"launch-prefix": "nice"}):
        assert not {"FASTRTPS_DEFAULT_PROFILES_FILE", PARENT_ENV} & set(node.additional_env)


def test_wrong_values_are_refused(monkeypatch):
    with pytest.raises(StackError, match="argument seed is 'x'; expected an integer"):
        resolve(monkeypatch, {"seed": "x"})
    with pytest.raises(RuntimeError, match='Argument "mode" provided value "quick" is not valid'):
        resolve(monkeypatch, {"mode": "quick"})


def test_a_misspelt_argument_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(launch_support, "get_logger", lambda _: SimpleNamespace(warning=told.append))
    resolve(monkeypatch, {}, argv=("sed:=1", "seed:=1", "launch-prefix:="))
    (text,) = told
    assert text.startswith("stack 'sim' has no argument 'sed'; it has: spec, scene,")


# -- the real thing -------------------------------------------------------------------------------------------------


@needs_ros2
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_show_args_lists_every_argument(path):
    done = subprocess.run(
        ["ros2", "launch", str(path), "--show-args"], capture_output=True, text=True, timeout=60, check=True
    )
    offered = re.findall(r"^    '(\w+)':", done.stdout, re.MULTILINE)
    assert offered == list(load_stack(path.name.removesuffix(".launch.py")).arguments)


class Launched:
    """`ros2 launch` of the source tree, in a prefix made for it."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        for part in ("lib", "share/ament_index/resource_index/packages"):
            (folder / part).mkdir(parents=True)
        (folder / "share/ament_index/resource_index/packages/optr").touch()
        (folder / "lib/optr").symlink_to(ROOT / "scripts" / "nodes")
        path = ROOT / "launch" / "sim.launch.py"
        common = ("cameras:=false", "task:=reach", f"bags:={folder / 'bags'}")
        self.log = folder / "log"
        environment = os.environ | {
            "AMENT_PREFIX_PATH": os.pathsep.join([str(folder), os.environ.get("AMENT_PREFIX_PATH", "")]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            "ROS_DOMAIN_ID": str(40 + os.getpid() % 20),
            "ROS_LOG_DIR": str(folder / "ros_log"),
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ros2", "launch", str(path), *common, *arguments],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def pids(self) -> dict[str, int]:
        """Processes by node, as far as they have been started."""
        return {n: int(p) for n, p in re.findall(r"\[(\w+)-\d\]: process started with pid \[(\d+)\]", self.text)}

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def wait_until_up(self) -> None:
        """Wait until every node listens to signals."""
        self.wait_for(lambda: len(self.pids) == len(NODES) and all(listens(p) for p in self.pids.values()))


def listens(pid: int) -> bool:
    """Whether a process handles SIGTERM; a Python process does only if told to."""
    caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Launched]]:
    begun: list[Launched] = []

    def start_one(*arguments: str) -> Launched:
        begun.append(Launched(tmp_path / "prefix", arguments))
        return begun[-1]

    yield start_one
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.wait_for(lambda one=one: not any(runs(p) for p in one.pids.values()), 10.0)


@needs_ros2
def test_a_killed_node_ends_alone_and_ctrl_c_ends_the_rest(start):
    up = start("operator:=scripted_reach", "real_time_factor:=2")
    up.wait_until_up()
    os.kill(up.pids["operator"], signal.SIGKILL)
    up.wait_for(lambda: "process has died" in up.text)
    time.sleep(1.0)
    assert [n for n in NODES if runs(up.pids[n])] == ["sim", "sentinel", "recorder"]
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(15.0) == 0, up.text
    assert up.text.count("process has finished cleanly") == 3
    assert "Traceback" not in up.text


@needs_ros2
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_no_node_outlives_its_launch(start, number):
    up = start("operator:=scripted_reach")
    up.wait_until_up()
    up.process.send_signal(number)
    assert up.process.wait(15.0) != 0
    up.wait_for(lambda: not any(runs(p) for p in up.pids.values()), 10.0)


@needs_ros2
def test_a_node_that_refuses_ends_the_launch_with_an_error(start):
    up = start("operator:=nobody")
    assert up.process.wait(30.0) == 1, up.text
    assert "optr operator: error: no operator named 'nobody'; there are: " in up.text
    assert "operator could not start as asked; its message is above" in up.text
    assert not any(runs(p) for p in up.pids.values())
