"""A running stack and somebody who watches it; for tests that need real processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from optr.ros.qos import COMMAND_QOS, EVENT_QOS, STATE_QOS, STATUS_QOS
from optr.stack import NodeEntry, load_stack
from optr.supervisor import Supervisor
from optr_interfaces.msg import ActionChunk, EpisodeStatus, SentinelStatus, StepResult, Verdict

PATIENCE = 3
"""Waiting is for what comes at all; how soon it does on a machine that is busy is nobody's fault."""

_domains = itertools.count(os.getpid() % 60)


def fresh_domain() -> int:
    """A ROS domain that no other test of this run uses."""
    domain = 20 + next(_domains) % 75
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    return domain


class Stalls:
    """How long the machine kept a thread that sleeps from waking up: what no code here can answer for."""

    _NAP_S = 0.005

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=10_000)
        threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    def longest(self, since: float, until: float) -> float:
        """The longest one that ended between two times of `time.monotonic()` [s]."""
        return max((length for end, length in list(self._seen) if since < end <= until), default=0.0)

    def _watch(self) -> None:
        while True:
            before = time.monotonic()
            time.sleep(self._NAP_S)
            now = time.monotonic()
            if now - before > 2 * self._NAP_S:
                self._seen.append((now, now - before - self._NAP_S))


STALLS = Stalls()


class Watcher:
    """Listens to a stack from outside, in the test's own process."""

    def __init__(self, name: str = "watcher") -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = Node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.joints: list[tuple[float, JointState]] = []
        self.commands: list[JointState] = []
        self.command_times: list[float] = []
        self.actions: list[ActionChunk] = []
        self.verdicts: list[Verdict] = []
        self.steps: list[StepResult] = []
        self.sentinel: SentinelStatus | None = None
        self.recorder: EpisodeStatus | None = None
        self.health: dict[str, object] = {}
        self._listen()

    def _listen(self) -> None:
        listen = self.node.create_subscription
        listen(JointState, "joint_states", lambda m: self.joints.append((time.monotonic(), m)), STATE_QOS)
        listen(JointState, "joint_command", self._on_command, COMMAND_QOS)
        listen(ActionChunk, "action", self.actions.append, EVENT_QOS)
        listen(Verdict, "sentinel/verdict", self.verdicts.append, EVENT_QOS)
        listen(StepResult, "step", self.steps.append, EVENT_QOS)
        listen(SentinelStatus, "sentinel/status", self._on_sentinel, STATUS_QOS)
        listen(EpisodeStatus, "episode/status", self._on_recorder, STATUS_QOS)
        listen(DiagnosticArray, "diagnostics", self._on_health, EVENT_QOS)

    def _on_command(self, msg: JointState) -> None:
        self.commands.append(msg)
        self.command_times.append(time.monotonic())

    def _on_sentinel(self, msg: SentinelStatus) -> None:
        self.sentinel = msg

    def _on_recorder(self, msg: EpisodeStatus) -> None:
        self.recorder = msg

    def _on_health(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            self.health[status.name] = status

    def until(self, condition: Callable[[], object], timeout_s: float, what: str = "") -> None:
        """Spin until something holds; fail with what is known if it does not."""
        timeout_s *= PATIENCE
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._executor.spin_once(timeout_sec=0.02)
            if time.monotonic() > deadline:
                status = self.sentinel
                told = f"{status.code} {status.text}" if status else "nothing"
                health = {n: s.message for n, s in self.health.items()}
                raise AssertionError(f"not within {timeout_s} s: {what}; sentinel: {told}; health: {health}")

    def spin(self, seconds: float) -> None:
        """Listen for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def call(self, type_: type, name: str, request: object, timeout_s: float = 10.0):
        """Call a service."""
        client = self.node.create_client(type_, name)
        try:
            self.until(client.service_is_ready, timeout_s, f"service {name}")
            future = client.call_async(request)
            self.until(future.done, timeout_s, f"answer of {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def close(self) -> None:
        """End it."""
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self.context.try_shutdown()


class Graph:
    """A stack in a domain of its own; use it in a `with` statement."""

    def __init__(self, tmp_path: Path, **arguments: str) -> None:
        self.domain = fresh_domain()
        given = {"cameras": "false", "bags": str(tmp_path / "bags"), "state": str(tmp_path), **arguments}
        self.log = tmp_path / "nodes.log"
        self._file = self.log.open("wb")
        self.stack = Supervisor(load_stack("sim").resolve(given), self._file)

    def __enter__(self) -> Graph:
        self.stack.start()
        try:
            self.watch = Watcher()
        except BaseException:
            self.stack.stop()
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.close()
        self.stack.stop()
        self._file.close()

    def kill(self, name: str, number: int = signal.SIGKILL) -> float:
        """Send a signal to a node; answers when."""
        child = next(c for c in self.stack.children if c.name == name)
        os.kill(child.process.pid, number)
        return time.monotonic()

    def restart(self, name: str, **parameters: object) -> None:
        """Start a node anew with some parameters changed."""
        child = next(c for c in self.stack.children if c.name == name)
        child.process.send_signal(signal.SIGTERM)
        child.process.wait(timeout=15)
        entry = NodeEntry(name, child.entry.namespace, {**child.entry.parameters, **parameters})
        self.stack.children.remove(child)
        fresh = Supervisor([entry], self._file)
        fresh.start()
        self.stack.children += fresh.children

    def alive(self) -> set[str]:
        """Nodes that run."""
        return {c.name for c in self.stack.children if c.process.poll() is None}

    def said(self) -> str:
        """What the nodes printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_moving(self, speed: float = 0.4) -> None:
        """Until the operator moves the arm at some speed [rad/s]."""
        watch = self.watch

        def moving() -> bool:
            # Not at the very start, when the arm sags under its weight.
            going = len(watch.commands) > 10 and len(watch.actions) > 10 and watch.steps
            return bool(going) and float(np.abs(watch.joints[-1][1].velocity).max()) > speed

        watch.until(lambda: watch.sentinel is not None and watch.sentinel.state == 0, 30, "the sentinel is ready")
        watch.until(moving, 30, "the arm moves")


@contextmanager
def sim_alone(*parameters: str) -> Iterator[tuple[Watcher, object]]:
    """A sim without a sentinel, at rest, and a publisher of its commands; afterwards the arm must not have moved."""
    fresh_domain()
    words = [w for p in ("cameras:=false", *parameters) for w in ("-p", p)]
    command = [sys.executable, "-m", "optr.nodes.sim", "--ros-args", *words]
    sim = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    watch = Watcher()
    try:
        out = watch.node.create_publisher(JointState, "joint_command", COMMAND_QOS)
        watch.until(lambda: watch.joints, 20, "joint states")
        watch.until(lambda: out.get_subscription_count() == 2, 5, "the sim listens, beside the watcher")
        watch.spin(0.5)  # the arm sags a little under its weight at first
        before = np.array(watch.joints[-1][1].position)
        yield watch, out
        assert np.abs(np.array(watch.joints[-1][1].position) - before).max() < 0.01
    finally:
        watch.close()
        sim.send_signal(signal.SIGINT)
        assert sim.wait(timeout=10) == 0


def time_to_rest(joints: list[tuple[float, JointState]], since: float, speed: float = 0.05) -> float:
    """Time from `since` to the last measurement faster than `speed` [rad/s], less the longest stall in between."""
    last = max((at for at, msg in joints if at > since and float(np.abs(msg.velocity).max()) > speed), default=since)
    return last - since - STALLS.longest(since, last)
