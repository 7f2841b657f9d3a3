"""An operator, the sentinel and the desktop as they run: real processes, a real editor, and what is written in it."""

from __future__ import annotations

import json
import shutil

import pytest

from desk_graph import DeskGraph, DeskWatcher
from graph import fresh_domain
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import to_json

SCRIPT = [
    a.Launch("editor"),
    a.Wait("window", "Untitled", 30.0),
    a.Type("Bolts: 42"),
    a.Hotkey(("alt", "f4")),
]


@pytest.fixture
def watch():
    fresh_domain()
    made = DeskWatcher()
    yield made
    made.close()


@pytest.mark.skipif(not shutil.which("mousepad"), reason="mousepad is not installed")
def test_a_script_acts_through_the_graph(tmp_path, watch):
    options = json.dumps({"actions": [to_json(action) for action in SCRIPT]})
    given = {"operator": "script", "options": options, "operate": "true", "proposers": "*"}
    with DeskGraph(tmp_path / "graph", watch, **given) as graph:
        seat = graph.seat
        watch.until(lambda: len(seat.results) >= 4, 15, f"four results; {graph.said()[-2000:]}")
        kinds = [result.kind for result in seat.results]
        assert kinds == ["launch", "wait", "type", "fail"], seat.verdicts
        assert all(result.executed for result in seat.results)
        assert seat.verdicts[-2].codes == ["KEY_FORBIDDEN"]
        assert "alt" in seat.verdicts[-2].text or "hotkey" in seat.results[-1].text
        assert any("Untitled" in w.title for w in seat.state.windows)
        watch.until(
            lambda: watch.health["/desk_operator"].message.startswith("hotkey: KEY_FORBIDDEN"), 20, "it says so"
        )
