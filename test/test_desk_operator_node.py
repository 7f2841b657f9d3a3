"""The operator node of a desktop: a real process; the test stands in for desktop and sentinel, at their topics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from array import array
from contextlib import contextmanager

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from chat_server import ChatServer, text
from graph import Watcher, fresh_domain
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import to_json
from optr.connectors.desktop.messages import action_of
from optr.ros.convert import time_to_msg
from optr.ros.qos import EVENT_QOS, STATUS_QOS
from optr.spec import Source, stamp_ns
from optr_interfaces.msg import (
    DesktopAction,
    DesktopElement,
    DesktopRect,
    DesktopResult,
    DesktopState,
    DesktopWindow,
    SentinelStatus,
    Verdict,
)
from optr_interfaces.srv import BeginDesktopTask, ReadElements

SECOND = 1_000_000_000
SCRIPT = [a.Click(a.Selector("text=Save")), a.Hotkey(("ctrl", "s")), a.Type("x", a.Point(0.5, 0.25))]


class FakeDesk(Watcher):
    """Desktop and sentinel: answers each action as it is told to, and keeps what came."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node("watcher", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.health, self.sentinel = {}, None
        self.actions: list[DesktopAction] = []
        self.tasks: list[str] = []
        self.answered = 0
        make = self.node.create_publisher
        self._state = make(DesktopState, "desktop/state", STATUS_QOS)
        self._status = make(SentinelStatus, "sentinel/status", STATUS_QOS)
        self._results = make(DesktopResult, "result", EVENT_QOS)
        self._verdicts = make(Verdict, "sentinel/verdict", EVENT_QOS)
        self._pictures = make(Image, "screen/image_raw", STATUS_QOS)
        self.node.create_subscription(DesktopAction, "action", self.actions.append, EVENT_QOS)
        self.node.create_subscription(DiagnosticArray, "diagnostics", self._on_health, EVENT_QOS)
        self.node.create_service(BeginDesktopTask, "sentinel/begin_task", self._on_task)
        self.node.create_service(ReadElements, "desktop/elements", self._on_elements)

    def _on_task(self, request, response):
        self.tasks.append(request.task)
        response.success = True
        return response

    def _on_elements(self, request, response):
        button = DesktopElement(role="button", name="Save", place=DesktopRect(x=1, y=1, width=9, height=9))
        response.success, response.elements = True, [button]
        return response

    def show(self, stamp=7 * SECOND):
        window = DesktopWindow(id=9, title="A note", wm_class="Mousepad", visible=True, focused=True)
        screen = DesktopRect(width=40, height=20)
        state = DesktopState(display=":9", screen=screen, windows=[window], pointer_x=3, pointer_y=4)
        state.header.stamp = time_to_msg(stamp)
        self._state.publish(state)

    def allow(self, operator, state=SentinelStatus.READY, said=""):
        self._status.publish(SentinelStatus(state=state, authority=operator, text=said))

    def picture(self):
        image = Image(height=20, width=40, encoding="rgb8", step=120, data=array("B", bytes(2400)))
        image.header.stamp = time_to_msg(7 * SECOND)
        self._pictures.publish(image)

    def next(self) -> DesktopAction:
        """The next action that has not been answered."""
        self.until(lambda: len(self.actions) > self.answered, 20, f"action {self.answered + 1}")
        self.answered += 1
        return self.actions[self.answered - 1]

    def verdict(self, msg, outcome, *codes):
        made = Verdict(operator_id=msg.operator_id, sequence=msg.sequence, outcome=outcome, codes=list(codes))
        made.subjects, made.text = ["" for _ in codes], "it may not be"
        self._verdicts.publish(made)

    def result(self, msg, **fields):
        told = {"executed": True, "effect": "confirmed", **fields}
        self._results.publish(DesktopResult(operator_id=msg.operator_id, sequence=msg.sequence, kind=msg.kind, **told))

    def do(self) -> DesktopAction:
        """Allow the next action and do it."""
        msg = self.next()
        self.verdict(msg, Verdict.ALLOWED)
        self.result(msg)
        return msg

    def said(self):
        status = self.health.get("/desk_operator")
        return status.message if status is not None else ""


@pytest.fixture
def desk():
    fresh_domain()
    made = FakeDesk()
    yield made
    made.close()


@contextmanager
def running(folder, desk, operator, options, *more):
    log = folder / "log"
    parameters = (f"operator:={operator}", f"options:={json.dumps(json.dumps(options))}", *more)
    words = [w for p in parameters for w in ("-p", p)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "optr.nodes.desk_operator", "--ros-args", *words], stdout=out, stderr=out,
            env=dict(os.environ),
        )  # fmt: skip
    try:
        desk.until(lambda: desk.node.count_publishers("action") or process.poll() is not None, 40, "the node")
        desk.until(lambda: desk._results.get_subscription_count(), 20, "it listens")
        yield process
    finally:
        process.terminate()
        code = process.wait(timeout=20)
    assert code in (0, -signal.SIGALRM), log.read_text()
    assert "Traceback" not in log.read_text()


def script(*actions):
    return {"actions": [to_json(action) for action in actions]}


def test_it_does_one_action_after_the_other_and_is_told_what_came(tmp_path, desk):
    desk.show()
    desk.allow("me")
    with running(tmp_path, desk, "script", {**script(*SCRIPT), "id": "me"}, "task:=save it"):
        first = desk.next()
        desk.verdict(first, Verdict.ALLOWED)
        desk.spin(0.5)
        assert len(desk.actions) == 1, "it does not wait for the result"
        desk.result(first)
        rest = [desk.do() for _ in range(3)]
        assert [action_of(m) for m in (first, *rest)] == [*SCRIPT, a.Done()]
        assert [m.sequence for m in (first, *rest)] == [1, 2, 3, 4]
        assert {(m.operator_id, m.source) for m in rest} == {("me", int(Source.SCRIPT))}
        assert stamp_ns(first.observation_stamp) == 7 * SECOND and stamp_ns(first.header.stamp) > 0
        assert desk.tasks == ["save it"]
        desk.until(lambda: desk.said() == "episode is over: done", 20, "the end")
        assert desk.call(Trigger, "desk_operator/begin", Trigger.Request()).success
        assert action_of(desk.next()) == SCRIPT[0]


def test_what_the_sentinel_refuses_comes_to_the_operator(tmp_path, desk):
    desk.show()
    desk.allow("script")
    with running(tmp_path, desk, "script", script(*SCRIPT)):
        desk.verdict(desk.next(), Verdict.REFUSED, "WINDOW_FORBIDDEN")
        fail = action_of(desk.do())
        assert fail == a.Fail("action 1, click, was not carried out: WINDOW_FORBIDDEN it may not be")
        desk.until(lambda: "WINDOW_FORBIDDEN" in desk.said() or "fail" in desk.said(), 20, "the end")


def test_it_waits_for_the_authority_and_ends_by_a_stop(tmp_path, desk):
    desk.show()
    desk.allow("somebody")
    with running(tmp_path, desk, "script", script(*SCRIPT)):
        desk.until(lambda: desk.said() == "the authority is with somebody, not with script", 20, "it says so")
        assert desk.actions == []
        desk.allow("script")
        first = desk.next()
        desk.allow("script", SentinelStatus.STOPPED, "a person stopped it")
        desk.verdict(first, Verdict.STOPPED, "STOP_REQUESTED")
        desk.until(lambda: "stopped" in desk.said() or "STOP" in desk.said(), 20, "the end")
        desk.spin(0.5)
        assert len(desk.actions) == 1


def test_who_wants_to_see_is_shown_pictures_and_elements(tmp_path, desk):
    server = ChatServer()
    server.answers = [text('{"kind": "exec"}'), text('{"kind": "done", "answer": "42"}')]
    options = {"model": "small", "base_url": server.url, "attempts": 1, "elements": True}
    desk.show()
    desk.allow("llm")
    try:
        with running(tmp_path, desk, "llm", options):
            desk.until(lambda: desk.said() == "no picture has come (screen/image_raw)", 20, "it says so")
            desk.picture()
            missed = desk.next()
            assert (missed.kind, missed.source) == ("", int(Source.INVALID))
            done = desk.do()
            assert action_of(done) == a.Done("42") and done.source == int(Source.POLICY)
    finally:
        server.close()
    told = server.asked[-1].observation(1)
    assert told["elements"] == [{"role": "button", "name": "Save", "value": ""}]
    assert told["windows"][0]["title"] == "A note" and len(server.asked[-1].pictures(1)) == 1


def test_what_cannot_be_is_said_at_once(tmp_path):
    words = ["-p", "operator:=script", "-p", "options:='[]'"]
    command = [sys.executable, "-m", "optr.nodes.desk_operator", "--ros-args", *words]
    fresh_domain()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
    assert done.returncode == 2, done.stderr
    assert "parameter options is '[]'; expected a JSON object" in done.stderr
