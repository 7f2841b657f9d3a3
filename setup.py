"""Packaging of optr for pip and colcon.

All metadata is here: `colcon build --symlink-install` fails with a [project] table in pyproject.toml.
"""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "optr"


def share(*folders: str) -> list[tuple[str, list[str]]]:
    """List the files of `folders` for share/optr, sub-folders kept.

    Args:
        folders: Folders beside this file; a missing one is skipped.

    Returns:
        Pairs of target folder and files, as `data_files` wants them: all relative.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                found.setdefault(f"share/{NAME}/{path.parent.as_posix()}", []).append(path.as_posix())
    return sorted(found.items())


EXTRAS = {
    "sim": ["mujoco>=3.3", "mink>=1.0", "daqp>=0.6"],
    "episodes": ["mcap>=1.2", "zstandard>=0.22", "lz4>=4.3", "rosbags>=0.10"],
    "datasets": ["pyarrow>=15", "h5py>=3.10"],
    "media": ["matplotlib>=3.7", "av>=13"],
    "teleop": ["websockets>=13"],
    "remote": ["websockets>=15"],
    "games": ["gymnasium>=1.0", "pettingzoo>=1.24", "minigrid>=3.0", "chess>=1.10"],
    "llm": ["openai>=1.50"],
    "desktop": [
        "PyAutoGUI>=0.9.54",
        "jeepney>=0.8",
        "mss>=9",
        "python-xlib>=0.33",
        "six",
        "websockets>=13",
        "pillow>=10",
    ],
    "ros": ["ros-jazzy-rclpy[fastrtps]", "ros-jazzy-common-interfaces"],
}

setup(
    name=NAME,
    version="0.1.0",
    description="Any operator, in any environment, under one guard, on one record, over ROS 2",
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").is_file() else "",
    long_description_content_type="text/markdown",
    author="optr maintainers",
    author_email="maintainers@optr.dev",
    maintainer="optr maintainers",
    maintainer_email="maintainers@optr.dev",
    license="MIT",
    python_requires=">=3.10,<3.14",
    package_dir={"": "src"},
    packages=find_packages("src", include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "connectors/desktop/*.html", "desk_bench/pages/*"]},
    zip_safe=False,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("launch", "config", "urdf"),
        # `ros2 run` and `Node(package="optr")` look here; pip would put console scripts into bin/ alone.
        (f"lib/{NAME}", sorted(path.as_posix() for path in Path("scripts/nodes").iterdir())),
    ],
    install_requires=["numpy>=1.24", "PyYAML>=6.0", "click>=8.1", "rich>=13.0"],
    extras_require={
        **EXTRAS,
        # `colcon test` runs pytest only where an extra named `test` asks for it.
        "test": ["pytest>=7.4", "hypothesis>=6.98", "pytest-rerunfailures>=14"],
        # Not in `all`: gigabytes.
        "lerobot": ["lerobot>=0.4.4,<0.7", "tensorboard>=2.12", "matplotlib>=3.7"],
        "rl": ["gymnasium>=1.1", "stable-baselines3>=2.4", "safetensors>=0.4", "tensorboard>=2.12"],
        "ray": ["ray>=2.40"],
        "dev": ["ruff>=0.9", "mypy>=1.11", "types-PyYAML"],
        "all": [requirement for extra in EXTRAS.values() for requirement in extra],
    },
    entry_points={
        "console_scripts": ["optr = optr.cli:main", "optr-worker = optr.workers.template:main"],
        "optr.operators": [
            "hold = optr.operators.hold:Hold",
            "human = optr.operators.human:Human",
            "llm = optr.operators.llm:Llm",
            "passive = optr.operators.passive:Passive",
            "policy = optr.operators.policy:PolicyOperator",
            "random = optr.operators.random:Random",
            "replay = optr.operators.replay_choice:ReplayAny",
            "scripted = optr.operators.scripted_choice:Scripted",
            "scripted_reach = optr.operators.scripted:ScriptedReach",
            "scripted_push = optr.operators.scripted:ScriptedPush",
            "scripted_pick_place = optr.operators.scripted:ScriptedPickPlace",
            "vlm = optr.operators.llm:Vlm",
            "worker = optr.operators.worker:Worker",
        ],
        "optr.desk_operators": [
            "human = optr.operators.desk.human:Human",
            "llm = optr.operators.desk.llm:Llm",
            "numeric = optr.operators.desk.numeric:Numeric",
            "random = optr.operators.desk.random:Random",
            "script = optr.operators.desk.script:Script",
        ],
        "optr.workers": [
            "operator = optr.workers.template:COMMAND",
        ],
        "optr.environments": [
            "atari = optr.connectors.games.gymnasium_family:Atari",
            "babyai = optr.connectors.games.gymnasium_family:BabyAI",
            "gymnasium = optr.connectors.games.gymnasium_family:GymnasiumFamily",
            "gymnasium_robotics = optr.connectors.games.gymnasium_family:GymnasiumRobotics",
            "minigrid = optr.connectors.games.gymnasium_family:MiniGrid",
            "mosaic_multigrid = optr.connectors.games.gymnasium_family:MosaicMultiGrid",
            "mpe2 = optr.connectors.games.pettingzoo_family:MPE2",
            "pettingzoo = optr.connectors.games.pettingzoo_family:PettingZooFamily",
            "sim = optr.connectors.sim.family:SimFamily",
        ],
        "optr.tasks": [
            "reach = optr.connectors.sim.tasks.reach:Reach",
            "push = optr.connectors.sim.tasks.push:Push",
            "pick_place = optr.connectors.sim.tasks.pick_place:PickPlace",
        ],
        "optr.conditions": [
            "at_rest = optr.sentinel.conditions:AtRest",
            "near_home = optr.sentinel.conditions:NearPose",
            "near_first_row = optr.sentinel.conditions:NearFirstRow",
            "joint_within = optr.sentinel.conditions:JointWithin",
            "task_succeeded = optr.sentinel.conditions:TaskSucceeded",
        ],
        "optr.recoveries": [
            "retreat = optr.sentinel.conditions:Retreat",
            "open_gripper = optr.sentinel.conditions:OpenGripper",
            "wait = optr.sentinel.conditions:Wait",
        ],
        "optr.rules": [
            "authority = optr.sentinel.rules.proposal:Authority",
            "replayed = optr.sentinel.rules.proposal:Replayed",
            "sequence_gap = optr.sentinel.rules.proposal:SequenceGap",
            "shape = optr.sentinel.rules.proposal:Shape",
            "observation_age = optr.sentinel.rules.proposal:ObservationAge",
            "action_age = optr.sentinel.rules.proposal:ActionAge",
            "position = optr.sentinel.rules.limits:Position",
            "velocity = optr.sentinel.rules.limits:Velocity",
            "acceleration = optr.sentinel.rules.limits:Acceleration",
            "collision = optr.sentinel.lookahead:Collision",
            "workspace = optr.sentinel.lookahead:Workspace",
            "keep_out = optr.sentinel.lookahead:KeepOut",
            "jerk = optr.sentinel.rules.limits:Jerk",
            "step = optr.sentinel.rules.limits:Step",
            "observation_gap = optr.sentinel.rules.watch:ObservationGap",
            "following = optr.sentinel.rules.watch:Following",
            "frozen_sensor = optr.sentinel.rules.watch:FrozenSensor",
            "silent_sensor = optr.sentinel.rules.watch:SilentSensor",
            "frozen_image = optr.sentinel.rules.watch:FrozenImage",
            "constant_image = optr.sentinel.rules.watch:ConstantImage",
            "effort = optr.sentinel.rules.watch:Effort",
            "current = optr.sentinel.rules.watch:Current",
            "temperature = optr.sentinel.rules.watch:Temperature",
            "voltage = optr.sentinel.rules.watch:Voltage",
            "interventions = optr.sentinel.rules.watch:Interventions",
        ],
    },
)
