"""An episode of a desktop holds what happened: true times, no secrets, and all it takes to do it again."""

from __future__ import annotations

import shutil

import pytest

from desktop_pad import PATIENCE_S
from optr.connectors.desktop.actions import Click, Launch, Selector, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.desk_episodes.episode import DeskEpisode
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import DeskReplay, course_of

for program in ("galculator", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)


def test_a_click_is_recorded_and_done_again(tmp_path):
    with demo_desk(1000, 700) as desk, DeskRecorder(desk, tmp_path / "bag", {"operator": "me", "task": "press 7"}):
        window = int(desk.execute(Launch("calculator")).answer)
        assert desk.execute(Wait("element", 'role=button[name="7"]', PATIENCE_S)).executed
        assert desk.execute(Click(Selector('role=button[name="7"]', window))).executed
    episode = DeskEpisode(tmp_path / "bag")
    assert [s.action.kind for s in episode.steps] == ["launch", "wait", "click"]
    with demo_desk(1000, 700) as desk:
        rows = DeskReplay(desk, course_of(episode)).run()
        assert [r.executed for r in rows] == [True] * 3
        assert desk.finder.find("role=textbox").value.strip() == "7"
