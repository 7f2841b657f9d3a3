"""The house rules: cores without ROS, no cycles, cheap imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "optr"
CORES = ["spec", "operators", "connectors", "sentinel", "episodes", "teleop", "fake_arm", "experiments", "workers"]
CORES += ["policies", "training", "evaluation", "desk_bench", "desk_episodes", "facade"]
ROS = {
    "rclpy",
    "optr_interfaces",
    "sensor_msgs",
    "std_msgs",
    "geometry_msgs",
    "diagnostic_msgs",
    "std_srvs",
    "trajectory_msgs",
    "control_msgs",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if top_level_only:
        guarded = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
        skip = {id(inner) for block in guarded for inner in ast.walk(block)}
        nodes = [n for n in tree.body if id(n) not in skip]
    else:
        nodes = list(ast.walk(tree))
    out = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            out.add(node.module)
            out |= {f"{node.module}.{alias.name}" for alias in node.names}
    return out


@pytest.mark.parametrize("core", CORES)
def test_cores_import_without_ros(core):
    names = [n for n in modules() if n.startswith(f"optr.{core}")]
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in sorted(ROS))
    wanted = "\n".join(f"import {name}" for name in sorted(names))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{blocked}\n{wanted}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_cores_name_no_ros_package_anywhere():
    for name, path in modules().items():
        if name.split(".")[1:2] and name.split(".")[1] in CORES:
            found = {i.partition(".")[0] for i in imports_of(path)} & ROS
            assert not found, f"{name} imports {found}"


def test_nodes_import_no_other_node():
    for name, path in modules().items():
        if name.startswith("optr.nodes."):
            others = {i for i in imports_of(path) if i.startswith("optr.nodes.") and not i.startswith(name)}
            assert not others, f"{name} imports {others}"


def test_imports_run_one_way():
    order = {
        "spec": 0,
        "policies": 0.5,
        "operators": 1,
        "connectors": 1,
        "sentinel": 1,
        "episodes": 1,
        "teleop": 1,
        "workers": 1,
        "experiments": 1.5,
        "desk_episodes": 1.2,
        "desk_bench": 1.5,
        "evaluation": 1.6,
        "training": 1.7,
        "facade": 1.7,
        "ros": 2,
        "nodes": 3,
        "cli": 3,
    }
    for name, path in modules().items():
        room = ([*name.split("."), ""])[1]
        for imported in imports_of(path):
            other = ([*imported.split("."), ""])[1] if imported.startswith("optr.") else ""
            if room in order and other in order and room != other:
                assert order[other] <= order[room], f"{name} imports {imported}"


def test_there_are_no_import_cycles():
    found = modules()
    graph = {
        name: {i for i in imports_of(path, top_level_only=True) if i in found and i != name}
        for name, path in found.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                # `from optr.x import y` inside package x is how a package assembles itself
                if not other.startswith(f"{name}.") and not name.startswith(f"{other}."):
                    visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import optr", ["numpy", "mujoco", "torch", "rclpy", "click"]),
        ("import optr.cli", ["mujoco", "torch", "rclpy", "matplotlib", "av", "mink"]),
        ("import optr.workers.template", ["mujoco", "torch", "rclpy", "mink", "gymnasium"]),
        ("from optr.operators import Operator", ["mujoco", "torch", "rclpy", "mink"]),
        ("from optr.sentinel import Guard", ["mujoco", "torch", "rclpy"]),
        ("import optr.connectors.catalog", ["gymnasium", "pettingzoo", "mujoco", "torch", "rclpy"]),
        ("import optr.connectors.games.gymnasium_family", ["gymnasium", "minigrid", "mujoco"]),
        ("import optr.connectors.sim.family", ["gymnasium", "torch", "rclpy"]),
        ("import optr.connectors.desktop.actions", ["Xlib", "pyautogui", "mss", "cv2", "rclpy"]),
        ("import optr.connectors.desktop.bridge", ["Xlib", "pyautogui", "mss", "cv2", "rclpy", "mujoco"]),
        ("import optr.connectors.desktop.demo", ["Xlib", "pyautogui", "mss", "jeepney", "websockets", "rclpy"]),
        ("import optr.desk_bench.suite", ["Xlib", "pyautogui", "mss", "jeepney", "websockets", "rclpy"]),
        ("import optr.connectors.desktop.finder", ["jeepney", "websockets", "PIL", "Xlib", "mss", "pyautogui"]),
        ("import optr.nodes.sentinel", ["mujoco", "torch", "mink", "mcap"]),
        ("import optr.nodes.operator", ["mujoco", "torch", "mink", "mcap"]),
        ("import optr.nodes.policy", ["mujoco", "torch", "lerobot", "mink", "mcap"]),
        ("import optr.nodes.teleop", ["mujoco", "torch", "mink", "mcap", "websockets", "lerobot"]),
        ("import optr.nodes.recorder", ["mujoco", "torch", "mink"]),
        ("import optr.nodes.desk_operator", ["mujoco", "torch", "mink", "mcap", "Xlib", "mss", "openai"]),
        ("import optr.nodes.gym", ["mujoco", "torch", "gymnasium", "pettingzoo", "mcap"]),
        ("import optr.nodes.desktop", ["mujoco", "torch", "Xlib", "pyautogui", "mss", "jeepney", "cv2", "mcap"]),
        ("import optr.nodes.desk_sentinel", ["mujoco", "torch", "Xlib", "pyautogui", "mss", "jeepney", "cv2", "mcap"]),
        ("import optr.nodes.game_sentinel", ["mujoco", "torch", "gymnasium", "pettingzoo", "mcap"]),
    ],
)
def test_importing_costs_little(statement, heavy):
    code = f"import sys\n{statement}\nprint(*[m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
