"""A desktop in the graph as it runs: real processes, real X, real programs; and what happens when somebody dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from desk_graph import DeskGraph, DeskWatcher
from desktop_pad import Pad
from graph import fresh_domain
from optr.connectors.desktop.actions import (
    Ask,
    Click,
    Drag,
    Focus,
    Hotkey,
    Key,
    Launch,
    Move,
    Point,
    Press,
    Release,
    Selector,
    Type,
    Wait,
)
from optr.connectors.desktop.hand import Hand
from optr.connectors.desktop.messages import action_fields
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.x11 import X11
from optr.ros.desk_convert import to_msg
from optr.ros.qos import EVENT_QOS
from optr_interfaces.msg import DesktopAction, DesktopCommand, SentinelStatus, Verdict
from optr_interfaces.srv import (
    BeginDesktopTask,
    ConfirmAction,
    FindElement,
    ReadClipboard,
    ReadElements,
    SetAuthority,
    StartEpisode,
    StopEpisode,
)

for program in ("Xvfb", "openbox", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def watch():
    fresh_domain()
    made = DeskWatcher()
    yield made
    made.close()


@pytest.fixture(scope="module")
def graph(tmp_path_factory, watch):
    with DeskGraph(tmp_path_factory.mktemp("desk"), watch) as running:
        yield running


@pytest.fixture
def seat(graph):
    graph.seat.wait_ready()
    return graph.seat


@contextmanager
def pad_on(seat, size=(400, 300), **options):
    """A window of ours that is allowed, and that the state tells of."""
    made = Pad(seat.state.display, size, **options)
    try:
        seat.watch.until(lambda: any(w.id == made.id for w in seat.state.windows), 10, "the pad in the state")
        yield made
    finally:
        made.close()


@pytest.fixture
def pad(seat):
    with pad_on(seat) as made:
        yield made


def middle(pad):
    return Point(0.5, 0.5, f"window:{pad.id}")


def health(seat, name):
    found = seat.watch.health.get(name)
    return found.message if found else ""


def button_down(display):
    """Whether the X server says that the left button is down."""
    x = X11(display)
    try:
        return bool(x.root.query_pointer().mask & 0x100)
    finally:
        x.close()


def presses(pad):
    return pad.of("press")


# -- what goes through --------------------------------------------------------------------------------------------


def test_a_click_goes_through_the_graph(seat, pad):
    result = seat.do(Click(middle(pad)))
    assert result.executed and result.at == (200, 150) and result.details["class"] == "reversible", result
    assert 0 < result.began_ns <= result.input_ns <= result.ended_ns
    pad.wait(lambda noted: any(n.kind == "release" for n in noted))
    assert [p.at for p in presses(pad)] == [(200, 150)]
    assert (seat.state.pointer_x, seat.state.pointer_y) == (200, 150), "told before the result"


def test_a_text_arrives_in_a_real_program_and_is_read_in_other_ways(seat):
    watch = seat.watch
    window = int(seat.do(Launch("editor")).answer)
    assert seat.do(Wait("element", "role=textbox", 20.0)).executed
    assert seat.do(Type("Grüße, 15 + 27", Selector("role=textbox", window))).executed
    found = watch.call(FindElement, "desktop/find", FindElement.Request(selector="role=textbox", within=window))
    assert found.success and found.element.value == "Grüße, 15 + 27" and found.element.window == window
    missing = watch.call(FindElement, "desktop/find", FindElement.Request(selector='role=button[name="Nowhere"]'))
    assert not missing.success and "nothing is" in missing.message
    some = watch.call(ReadElements, "desktop/elements", ReadElements.Request(window=window, most=3))
    assert some.success and len(some.elements) == 3 and "only 3 of" in some.truncated
    every = watch.call(ReadElements, "desktop/elements", ReadElements.Request(window=window))
    assert len(every.elements) > 3 and not every.truncated
    none = watch.call(ReadElements, "desktop/elements", ReadElements.Request(window=1))
    assert not none.success and "there is no window 1" in none.message
    assert seat.do(Hotkey(("ctrl", "a"))).executed and seat.do(Hotkey(("ctrl", "c"))).executed
    copied = watch.call(ReadClipboard, "desktop/clipboard", ReadClipboard.Request())
    assert copied.success and copied.text == "Grüße, 15 + 27"
    with pad_on(seat, managed=True, title="in front") as pad:
        assert seat.do(Focus("in front")).answer == str(pad.id)
        result = seat.do(Focus("mousepad"))
        assert result.executed and result.answer == str(window)
    watch.until(lambda: [w.id for w in seat.state.windows if w.focused] == [window], 10, "the state tells the focus")


def test_what_is_pressed_stays_until_it_is_released(seat, pad):
    assert seat.do(Press(middle(pad))).executed
    seat.watch.until(lambda: list(seat.state.held) == ["left"], 5, "the state tells what is held")
    assert button_down(seat.state.display)
    assert seat.do(Release()).executed
    seat.watch.until(lambda: not seat.state.held, 5, "released")
    assert not button_down(seat.state.display)


def test_the_next_action_may_come_as_soon_as_a_result_is_heard(seat, pad):
    for n in range(20):
        assert seat.do(Move(Point(0.1 + 0.04 * n, 0.5, f"window:{pad.id}"))).executed


# -- what does not ------------------------------------------------------------------------------------------------


def test_what_is_forbidden_is_refused_and_nothing_happens(seat, pad):
    with pad_on(seat, (300, 200), managed=True, title="decoy") as decoy:
        decoy.window.set_wm_class("decoy", "Decoy")
        decoy._x.display.sync()
        known = lambda: [w for w in seat.state.windows if w.id == decoy.id]  # noqa: E731
        seat.watch.until(lambda: known()[0].wm_class == "Decoy", 10, "its class")
        decoy.window.raise_window()
        decoy._x.display.sync()
        pad.window.configure(x=500)
        pad._x.display.sync()
        results = len(seat.results)
        assert seat.refused(Click(middle(decoy))) == "WINDOW_FORBIDDEN"
        assert seat.refused(Type("x", middle(decoy))) == "WINDOW_FORBIDDEN"
        assert seat.refused(Click(middle(pad)), "somebody") == "WRONG_AUTHORITY"
        assert seat.refused(Launch("terminal")) == "PROGRAM_FORBIDDEN"
        assert seat.refused(Click(Selector("text=nowhere at all"))) == "NO_SUCH_PLACE"
        assert seat.refused(Focus("no such window")) == "NO_SUCH_PLACE"
        assert seat.refused(Ask("May I?")) == "UNKNOWN_ACTION"
        assert seat.refused(None) == "ABSTAINED"
        for wrong, code in (({"kind": "clik"}, "UNKNOWN_ACTION"), ({"kind": "move"}, "BAD_ACTION")):
            seat.sequence += 1
            seat.actions.publish(to_msg(DesktopAction, {**wrong, "operator_id": "me", "sequence": seat.sequence}))
            assert seat.verdict(seat.sequence).codes == [code]
        assert not presses(decoy) and not decoy.of("key") and not presses(pad)
        assert len(seat.results) == results, "what is refused never reaches the desktop"


def test_one_action_at_a_time(seat, pad):
    waits, clicks = seat.propose(Wait("time", timeout_s=3.0)), seat.propose(Click(middle(pad)))
    assert seat.verdict(clicks).codes == ["BUSY"]
    assert "still being carried out" in seat.verdict(clicks).text
    assert seat.result(waits).executed and not presses(pad)


def test_what_cannot_be_undone_waits_for_a_person(seat, pad):
    pad.window.change_property(pad._x.atom("_NET_WM_NAME"), pad._x.atom("UTF8_STRING"), 8, b"delete it?")
    pad._x.display.sync()
    verdict = seat.verdict(seat.propose(Click(middle(pad))))
    assert verdict.codes == ["CONFIRMATION_NEEDED"]
    (request,) = verdict.subjects
    asked = lambda: [n for n in seat.status.notices if n.startswith(f"CONFIRMATION_NEEDED {request}: click of me")]  # noqa: E731
    seat.watch.until(asked, 5, "the question in the status")
    confirm = lambda **of: seat.watch.call(ConfirmAction, "sentinel/confirm", ConfirmAction.Request(**of))  # noqa: E731
    assert not confirm(request="nonsense", allow=True).success
    assert confirm(request=request, allow=True).success
    assert seat.do(Click(middle(pad))).executed
    again = seat.verdict(seat.propose(Click(middle(pad)))).subjects[0]
    assert again != request and confirm(request=again, allow=False).success
    assert seat.refused(Click(middle(pad))) == "CONFIRMATION_NEEDED"


def test_authority_and_tasks_are_given_by_services(seat, pad):
    watch = seat.watch
    give = lambda who: watch.call(SetAuthority, "sentinel/set_authority", SetAuthority.Request(operator_id=who))  # noqa: E731
    assert give("human").previous == "me"
    assert seat.refused(Click(middle(pad))) == "WRONG_AUTHORITY"
    assert give("me").previous == "human"
    assert watch.call(BeginDesktopTask, "sentinel/begin_task", BeginDesktopTask.Request(task="any")).success
    assert seat.do(Click(middle(pad))).executed


# -- stops ---------------------------------------------------------------------------------------------------------


def test_a_stop_ends_what_is_done_and_holds(seat, pad):
    number = seat.propose(Wait("time", timeout_s=60.0))
    assert seat.verdict(number).outcome == Verdict.ALLOWED
    assert seat.trigger("sentinel/stop").success
    assert seat.result(number).refused in ("CANCELLED", "STOP_REQUESTED")
    verdict = seat.verdict(seat.propose(Click(middle(pad))))
    assert (verdict.outcome, verdict.codes) == (Verdict.STOPPED, ["STOP_REQUESTED"])
    assert seat.trigger("sentinel/rearm").success and not seat.trigger("sentinel/rearm").success
    assert seat.do(Click(middle(pad))).executed


def test_the_stop_chord_stops_while_a_drag_goes_on(seat, pad):
    person = Hand(seat.state.display)
    try:
        number = seat.propose(Drag((middle(pad), Point(0.9, 0.5, f"window:{pad.id}")), seconds=30.0))
        pad.wait(lambda noted: any(n.kind == "press" for n in noted))
        person.hotkey(["ctrl", "alt", "escape"])
        seat.watch.until(lambda: seat.status.state == SentinelStatus.STOPPED, 5, "stopped")
        assert seat.status.text == "ctrl+alt+escape was pressed"
        assert not seat.result(number).executed
        assert not button_down(seat.state.display)
    finally:
        person.close()
        assert seat.trigger("sentinel/rearm").success


def test_a_corner_of_the_screen_stops_until_both_are_rearmed(seat, pad):
    x = X11(seat.state.display)
    x.root.warp_pointer(0, 0)
    x.display.sync()
    seat.watch.until(lambda: seat.state.stopped == "FAIL_SAFE", 5, "the desktop stops")
    seat.watch.until(lambda: seat.status.state == SentinelStatus.STOPPED, 5, "the sentinel stops")
    assert "corner" in seat.status.text
    assert not seat.trigger("desktop/rearm").success and not seat.trigger("sentinel/rearm").success
    x.root.warp_pointer(500, 350)
    x.display.sync()
    x.close()
    assert seat.trigger("desktop/rearm").success
    seat.watch.until(lambda: not seat.state.stopped, 5, "the desktop goes on")
    assert seat.refused(Click(middle(pad))) == "STOP_REQUESTED"
    assert seat.trigger("sentinel/rearm").success
    assert seat.do(Click(middle(pad))).executed


def test_cancelling_releases_everything(seat, pad):
    number = seat.propose(Drag((middle(pad), Point(0.9, 0.5, f"window:{pad.id}")), seconds=30.0))
    pad.wait(lambda noted: any(n.kind == "press" for n in noted))
    assert seat.trigger("desktop/cancel").message == "cancelled: drag"
    assert not button_down(seat.state.display)
    assert seat.result(number).refused == "CANCELLED"
    assert seat.do(Click(middle(pad))).executed


# -- who else is there ---------------------------------------------------------------------------------------------


def test_a_second_commander_gets_nothing_done(seat, pad):
    out = seat.watch.node.create_publisher(DesktopCommand, "command", EVENT_QOS)
    try:
        seat.watch.until(lambda: out.get_subscription_count(), 10, "the desktop hears")
        told = len(seat.results)
        action = to_msg(DesktopAction, {**action_fields(Key("a")), "operator_id": "rogue", "sequence": 1})
        command = DesktopCommand(action=action)
        command.header.stamp = seat.watch.node.get_clock().now().to_msg()
        out.publish(command)
        seat.watch.until(lambda: len(seat.results) > told, 10, "it is answered")
        assert (seat.results[-1].executed, seat.results[-1].refused) == (False, "SECOND_SENTINEL")
        seat.watch.until(lambda: seat.status.code == "SECOND_SENTINEL", 5, "the sentinel holds")
        assert seat.refused(Click(middle(pad))) == "SECOND_SENTINEL"
        assert not pad.of("key", "press")
    finally:
        seat.watch.node.destroy_publisher(out)
    seat.wait_ready()
    assert seat.do(Click(middle(pad))).executed


def test_a_second_sentinel_and_a_second_desktop_do_not_start(seat):
    for node in ("desk_sentinel", "desktop"):
        done = subprocess.run(
            [sys.executable, "-m", f"optr.nodes.{node}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 2 and "is taken" in done.stderr, done


def test_a_sentinel_that_dies_in_mid_drag_leaves_nothing_pressed(graph, seat, pad):
    number = seat.propose(Drag((middle(pad), Point(0.9, 0.5, f"window:{pad.id}")), seconds=60.0))
    pad.wait(lambda noted: any(n.kind == "press" for n in noted))
    assert button_down(seat.state.display)
    graph.kill("desk_sentinel")
    seat.watch.until(lambda: not button_down(seat.state.display), 5, "released")
    result = seat.result(number)
    assert not result.executed and result.refused in ("CANCELLED", "NO_SENTINEL")
    seat.watch.until(lambda: health(seat, "/desktop").startswith("NO_SENTINEL"), 10, "the desktop says why")
    graph.start_again("desk_sentinel")
    seat.watch.until(lambda: health(seat, "/desktop") == "ready", 20, "the desktop hears the new one")
    seat.wait_ready()
    pad.clear()
    assert seat.do(Click(middle(pad))).executed


def test_a_desktop_that_dies_is_seen_and_another_one_is_taken(graph, seat):
    before = seat.state.home
    graph.kill("desktop")
    seat.watch.until(lambda: seat.status.code == "DISPLAY_LOST", 10, "the sentinel holds")
    assert seat.refused(Wait("time", timeout_s=0.1)) == "DISPLAY_LOST"
    graph.start_again("desktop")
    seat.watch.until(lambda: seat.state.home != before, 20, "another desktop")
    # As long as the dead one is still known to DDS, two publish the state, and the sentinel holds as it should.
    sources = lambda: seat.watch.node.count_publishers(seat.name("desktop/state"))  # noqa: E731
    seat.watch.until(lambda: sources() == 1, 30, "the dead one to be forgotten")
    seat.wait_ready()
    with pad_on(seat) as pad:
        assert seat.do(Click(middle(pad))).executed
    assert not os.path.exists(before)


def test_a_desktop_that_dies_on_a_display_that_stays_leaves_nothing_pressed(tmp_path, watch):
    with DesktopSession(640, 480) as session:
        with DeskGraph(tmp_path / "guest", watch, "guest", display=session.display) as running:
            seat = running.seat
            seat.wait_ready()
            assert seat.state.display == session.display
            with pad_on(seat) as pad:
                assert seat.do(Press(middle(pad))).executed and button_down(session.display)
                running.kill("desktop")
                watch.until(lambda: not button_down(session.display), 5, "released")
        X11(session.display).close()  # it is still there


# -- pictures ------------------------------------------------------------------------------------------------------


def test_there_are_pictures_when_something_changes_and_else_none(seat, pad):
    heard = seat.see("screen/image_raw")
    pad._fill(0x00FF00, 0, 0, 400, 300)
    green = lambda: heard and pixels(heard[-1])[150, 200].tolist() == [0, 255, 0]  # noqa: E731
    seat.watch.until(green, 10, "a picture of what was drawn")
    assert heard[-1].encoding == "rgb8" and heard[-1].header.frame_id == "screen"
    assert pixels(heard[-1]).shape == (700, 1000, 3)
    before = len(heard)
    pad._fill(0x00FF00, 0, 0, 400, 300)  # drawn, and not changed
    seat.watch.spin(0.5)
    assert len(heard) == before
    pad._fill(0x0000FF, 0, 0, 400, 300)
    seat.watch.until(lambda: pixels(heard[-1])[150, 200].tolist() == [0, 0, 255], 10, "the next picture")
    late = seat.see("screen/image_raw")
    seat.watch.until(lambda: late, 10, "who comes later sees the last one")


def pixels(image):
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


# -- side by side, and recorded ------------------------------------------------------------------------------------


def test_two_displays_side_by_side_do_not_meet(tmp_path, graph, seat, pad):
    other = DeskGraph(
        tmp_path / "other", seat.watch, "other", width="800", monitors="500,300", images="monitors", window_images="pad"
    )
    with other as running:
        there = running.seat
        there.wait_ready()
        assert there.state.display != seat.state.display
        assert [(m.name, m.place.x, m.place.width) for m in there.state.monitors] == [("M0", 0, 500), ("M1", 500, 300)]
        with pad_on(there) as far:
            assert there.do(Click(middle(far))).executed
            far.wait(lambda noted: any(n.kind == "release" for n in noted))
            assert len(presses(far)) == 1 and not presses(pad)
            shown = there.see(f"window/id_{far.id}/image_raw"), there.see("monitor/M0/image_raw")
            right = there.see("monitor/M1/image_raw")
            there.watch.until(lambda: all(shown) and right, 10, "pictures of window and monitors")
            assert pixels(shown[0][-1]).shape == (300, 400, 3) and pixels(right[-1]).shape == (700, 300, 3)
            assert shown[0][-1].header.frame_id == f"window:{far.id}"
            assert there.trigger("sentinel/stop").success
            assert seat.do(Click(middle(pad))).executed


def test_the_recorder_takes_all_down_and_is_missed(tmp_path, watch):
    with DeskGraph(tmp_path / "rec", watch, "rec", record="true", bags=str(tmp_path / "bags")) as running:
        seat = running.seat
        seat.wait_ready()
        begun = watch.call(StartEpisode, "rec/recorder/start_episode", StartEpisode.Request(episode_id="desk"))
        assert begun.success, begun
        with pad_on(seat) as pad:
            assert seat.do(Click(middle(pad))).executed
        ended = watch.call(StopEpisode, "rec/recorder/stop_episode", StopEpisode.Request())
        assert ended.success and not ended.dropped, ended
        counts = dict(zip(ended.topics, ended.counts, strict=True))
        for topic in ("action", "command", "result", "sentinel/verdict", "desktop/state", "screen/image_raw"):
            assert counts.get(f"/rec/{topic}"), (topic, counts)
        running.kill("recorder")
        watch.until(lambda: seat.status.code == "RECORDER_LOST", 10, "the recorder is missed")
        assert seat.refused(Wait("time", timeout_s=0.1)) == "RECORDER_LOST"
