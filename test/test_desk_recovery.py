"""What must hold before and after a task, and what is done where it does not: on a real desktop, with a real dialog."""

from __future__ import annotations

import shutil

import pytest

from desk_graph import DeskGraph, DeskWatcher
from desktop_pad import until
from graph import fresh_domain
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.session import DesktopSession
from optr.desk_episodes.episode import DeskEpisode
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import course_of
from optr.errors import GuardError
from optr.sentinel.codes import Code, GuardState
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard
from optr_interfaces.msg import SentinelStatus
from optr_interfaces.srv import BeginDesktopTask

pytestmark = pytest.mark.skipif(not shutil.which("zenity"), reason="zenity is not installed")

SETTINGS = """
desk: 1
windows: {allow: [{wm_class: zenity}, {wm_class: pad}]}
programs:
  allow: [{name: question, command: [zenity, --question, "--title=In the way", --text=Well]}]
actions:
  scroll: {after: [{no_window: {title: In the way}}], recover: [{kind: key, key: escape}]}
tasks:
  clear:
    before: [{no_window: {title: In the way}}]
    after: [{no_window: {title: In the way}}]
    recover: [{kind: click, at: {selector: 'role=button[name="Nowhere"]'}}, {kind: key, key: escape},
              {kind: wait, until: time, value: "0.3"}]
    retries: 3
  alone: {before: [{no_window: {title: In the way}}], recover: [{kind: key, key: f5}], retries: 2}
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    file = tmp_path_factory.mktemp("recovery") / "desk.yaml"
    file.write_text(SETTINGS)
    guard = DeskGuard(load_desk(str(file)))
    with DesktopSession(700, 500) as session, Desk(session, guard) as made:
        yield made


@pytest.fixture
def in_the_way(desk):
    desk.begin_task("")
    result = desk.execute(a.Launch("question"))
    assert result.executed and desk.execute(a.Focus(result.answer)).executed
    yield
    desk.begin_task("")
    if shown(desk):
        desk.execute(a.Key("escape"))
        until(lambda: not shown(desk))


def shown(desk):
    return desk.bridge.windows.matching("In the way")


def test_what_is_in_the_way_of_a_task_is_cleared_away_before_it(desk, in_the_way, tmp_path):
    with DeskRecorder(desk, tmp_path / "bag", {"operator": "me"}):
        assert desk.begin_task("clear") == ""
        assert not shown(desk) and desk.guard.state is GuardState.READY
        assert desk.execute(a.Wait("time", "0.01")).executed
    episode = DeskEpisode(tmp_path / "bag")
    by = {(step.by, step.action.kind): step.refused for step in episode.steps}
    assert by["recovery", "key"] == () and ("me", "wait") in by
    assert [step.by for step in course_of(episode).steps] == ["me"], "what mends a condition is not done again"


def test_and_after_it_and_after_an_action(desk, in_the_way):
    desk.begin_task("alone")  # which cannot be mended; somebody closes it
    desk.rearm()
    result = desk.execute(a.Scroll(dy=1))
    assert result.executed and "no_window: there is" in result.details["afterwards"]
    assert result.details["recovered"] is True and not shown(desk)
    opened = desk.execute(a.Launch("question"))
    assert opened.executed
    desk.guard.begin_task("clear", desk.look(), desk.look().stamp_ns)
    desk.guard.rearm()
    assert desk.end_task() == "" and not shown(desk)


def test_what_cannot_be_mended_holds_until_a_person_goes_on(desk, in_the_way):
    assert "there is a window" in desk.begin_task("alone")
    assert desk.guard.recovery == () and shown(desk)
    assert desk.execute(a.Key("f6")).refused == Code.PRECONDITION
    desk.rearm()
    assert desk.execute(a.Key("f6")).executed
    with pytest.raises(GuardError, match="nothing is held"):
        desk.rearm()


def test_the_sentinel_of_the_graph_does_the_same(tmp_path):
    fresh_domain()
    watch = DeskWatcher()
    file = tmp_path / "settings.yaml"
    file.write_text(SETTINGS)
    try:
        with DeskGraph(tmp_path / "graph", watch, desk=str(file)) as graph:
            seat = graph.seat
            seat.wait_ready()
            for service, request in (("begin_task", BeginDesktopTask.Request(task="clear")), ("end_task", None)):
                opened = seat.do(a.Launch("question"))
                assert seat.do(a.Focus(opened.answer)).executed
                before = len(seat.results)
                answer = (
                    watch.call(BeginDesktopTask, "sentinel/begin_task", request)
                    if request
                    else seat.trigger("sentinel/end_task")
                )
                assert not answer.success and "there is" in answer.message and "is tried" in answer.message, service
                ours = lambda n=before: [r for r in seat.results[n:] if r.operator_id == "recovery"]  # noqa: E731
                watch.until(lambda got=ours: any(r.kind == "key" and r.executed for r in got()), 15, graph.said)
                watch.until(lambda: seat.status.state == SentinelStatus.READY, 15, graph.said)
                assert not [w for w in seat.state.windows if w.title == "In the way"]
            assert seat.trigger("sentinel/end_task").success
            seat.do(a.Launch("question"))
            before = len(seat.results)
            stuck = watch.call(BeginDesktopTask, "sentinel/begin_task", BeginDesktopTask.Request(task="alone"))
            assert not stuck.success
            watch.until(lambda: len(seat.results) == before + 2, 15, "both tries")
            watch.until(lambda: seat.status.code == Code.PRECONDITION, 15, "it is held")
            assert seat.refused(a.Key("f6")) == Code.PRECONDITION
            assert seat.trigger("sentinel/rearm").success
            assert seat.do(a.Wait("time", "0.01")).executed
    finally:
        watch.close()
