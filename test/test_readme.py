"""The tables of parameters in the README are those of the nodes. `python test/test_readme.py --write` renews them."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from optr.nodes.arm import ArmParams
from optr.nodes.cameras import CamerasParams
from optr.nodes.desk_operator import DeskOperatorParams
from optr.nodes.desk_sentinel import DeskSentinelParams
from optr.nodes.desktop import DesktopParams
from optr.nodes.experiment import ExperimentParams
from optr.nodes.fake_cell import FakeCellParams
from optr.nodes.game_sentinel import GameSentinelParams
from optr.nodes.gym import GymParams
from optr.nodes.operator import OperatorParams
from optr.nodes.player import PlayerParams
from optr.nodes.policy import PolicyParams
from optr.nodes.recorder import RecorderParams
from optr.nodes.replay import ReplayParams
from optr.nodes.sentinel import SentinelParams
from optr.nodes.sim import SimParams
from optr.nodes.teleop import TeleopParams
from optr.nodes.trajectory import TrajectoryParams
from optr.nodes.twin import TwinParams

README = Path(__file__).parents[1] / "README.md"
PART = re.compile(r"(<!-- parameters.*?-->\n).*?(<!-- end of parameters -->)", re.DOTALL)


def tables() -> str:
    out = []
    for name, kind in (
        ("sim", SimParams),
        ("arm", ArmParams),
        ("fake_cell", FakeCellParams),
        ("twin", TwinParams),
        ("experiment", ExperimentParams),
        ("operator", OperatorParams),
        ("policy", PolicyParams),
        ("sentinel", SentinelParams),
        ("gym", GymParams),
        ("game_sentinel", GameSentinelParams),
        ("desktop", DesktopParams),
        ("desk_sentinel", DeskSentinelParams),
        ("desk_operator", DeskOperatorParams),
        ("recorder", RecorderParams),
        ("player", PlayerParams),
        ("replay", ReplayParams),
        ("trajectory", TrajectoryParams),
        ("cameras", CamerasParams),
        ("teleop", TeleopParams),
    ):
        out += [f"\n#### {name}\n", "| parameter | default | range | meaning |", "|---|---|---|---|"]
        for item in fields(kind):
            doc = item.metadata["doc"]
            span = f"{doc.low:g} … {doc.high:g}" if doc.low is not None else ", ".join(doc.choices)
            default = str(item.default).lower() if isinstance(item.default, bool) else str(item.default) or "''"
            default = default.replace("|", "\\|")
            out.append(f"| `{item.name}` | `{default}` | {span} | {doc.text} |")
    return "\n".join(out) + "\n\n"


def test_the_readme_lists_every_parameter_as_it_is():
    assert PART.search(README.read_text(encoding="utf-8"))[0] == PART.search(written())[0]


def test_every_topic_and_service_of_the_nodes_is_in_the_readme():
    text = README.read_text(encoding="utf-8")
    rooms = README.parent / "src" / "optr"
    source = "".join(p.read_text() for p in (*rooms.glob("nodes/*.py"), rooms / "ros" / "operator_node.py"))
    named = re.findall(r'create_(?:service|publisher)\(\w+, "([\w/]+)"', source)
    assert len(named) > 12
    for name in named:
        assert f"`{name}`" in text, name


def written() -> str:
    return PART.sub(lambda m: m[1] + tables() + m[2], README.read_text(encoding="utf-8"))


if __name__ == "__main__" and "--write" in sys.argv:
    README.write_text(written(), encoding="utf-8")
