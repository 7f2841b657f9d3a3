"""A running desktop stack and somebody who acts on it from outside; for tests that need real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from graph import Watcher
from optr.connectors.desktop.messages import action_fields, result_of
from optr.ros.desk_convert import to_msg
from optr.ros.qos import EVENT_QOS, SCREEN_QOS, STATUS_QOS
from optr.sentinel.desk_guard import RECOVERY
from optr.stack import NodeEntry, load_stack
from optr.supervisor import Child, Supervisor
from optr_interfaces.msg import DesktopAction, DesktopResult, DesktopState, SentinelStatus, Verdict

DESK = """
desk: 1
windows:
  allow: [{wm_class: pad}, {wm_class: mousepad}]
programs:
  allow: [{name: editor, command: [mousepad, --disable-server]}]
"""


class DeskWatcher(Watcher):
    """Listens to diagnostics alone: desktops have messages of their own."""

    def _listen(self) -> None:
        self.node.create_subscription(DiagnosticArray, "diagnostics", self._on_health, EVENT_QOS)


class Seat:
    """One desktop in the graph, as an operator sees it.

    Attributes:
        state: Newest state.
        status: Newest status of the sentinel.
        results: All, in order.
        verdicts: All, in order.
        pictures: By topic, all in order.
    """

    def __init__(self, watch: Watcher, space: str = "", me: str = "me") -> None:
        self.watch, self.me, self._space = watch, me, f"{space}/" if space else ""
        self.state: DesktopState | None = None
        self.status: SentinelStatus | None = None
        self.results: list[DesktopResult] = []
        self.verdicts: list[Verdict] = []
        self.pictures: dict[str, list[Image]] = {}
        self.sequence = 0
        listen = watch.node.create_subscription
        self.actions = watch.node.create_publisher(DesktopAction, self.name("action"), EVENT_QOS)
        listen(DesktopState, self.name("desktop/state"), self._on_state, STATUS_QOS)
        listen(SentinelStatus, self.name("sentinel/status"), self._on_status, STATUS_QOS)
        listen(DesktopResult, self.name("result"), self.results.append, EVENT_QOS)
        listen(Verdict, self.name("sentinel/verdict"), self.verdicts.append, EVENT_QOS)

    def name(self, topic: str) -> str:
        return f"{self._space}{topic}"

    def _on_state(self, msg: DesktopState) -> None:
        self.state = msg

    def _on_status(self, msg: SentinelStatus) -> None:
        self.status = self.watch.sentinel = msg

    def see(self, topic: str) -> list[Image]:
        """Listen to pictures."""
        heard = self.pictures.setdefault(topic, [])
        self.watch.node.create_subscription(Image, self.name(topic), heard.append, SCREEN_QOS)
        return heard

    def wait_ready(self) -> None:
        """Until an action would pass."""
        ready = lambda: self.status is not None and self.status.state == SentinelStatus.READY  # noqa: E731
        self.watch.until(lambda: ready() and self.state and self.actions.get_subscription_count(), 20, "ready")

    def propose(self, action: Any, operator: str = "") -> int:
        """Publish an action; answers its number."""
        self.sequence += 1
        fields = action_fields(action) if action is not None else {}
        now = time.time_ns()
        told = {"header": now, "operator_id": operator or self.me, "sequence": self.sequence}
        self.actions.publish(to_msg(DesktopAction, {**fields, **told}))
        return self.sequence

    def verdict(self, number: int) -> Verdict:
        """What the sentinel made of an action."""
        found = lambda: [v for v in self.verdicts if v.sequence == number and v.operator_id != RECOVERY]  # noqa: E731
        self.watch.until(found, 15, f"a verdict on {number}")
        return found()[-1]

    def result(self, number: int) -> Any:
        """What came of an action that was allowed."""
        verdict = self.verdict(number)
        assert verdict.outcome == Verdict.ALLOWED, verdict
        found = lambda: [r for r in self.results if r.sequence == number and r.operator_id != RECOVERY]  # noqa: E731
        self.watch.until(found, 15, f"a result of {number}")
        return result_of(found()[-1])

    def do(self, action: Any) -> Any:
        """What came of an action."""
        return self.result(self.propose(action))

    def refused(self, action: Any, operator: str = "") -> str:
        """The code for which an action was refused."""
        verdict = self.verdict(self.propose(action, operator))
        assert verdict.outcome in (Verdict.REFUSED, Verdict.STOPPED), verdict
        return verdict.codes[0]

    def trigger(self, service: str) -> Any:
        return self.watch.call(Trigger, self.name(service), Trigger.Request())


class DeskGraph:
    """A desktop stack; use it in a `with` statement."""

    def __init__(self, tmp_path: Path, watch: Watcher, space: str = "", **arguments: str) -> None:
        tmp_path.mkdir(exist_ok=True)
        desk = tmp_path / "desk.yaml"
        desk.write_text(DESK)
        given = {
            "desk": str(desk), "operator": "me", "state": str(tmp_path), "namespace": space, "width": "1000",
            "height": "700", "proposers": "watcher,/watcher", **arguments,
        }  # fmt: skip
        self.log = tmp_path / "nodes.log"
        self._file = self.log.open("wb")
        self.stack = Supervisor(load_stack("desktop").resolve(given), self._file)
        self.seat = Seat(watch, space)

    def __enter__(self) -> DeskGraph:
        self.stack.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.stop()
        self._file.close()

    def child(self, executable: str) -> Child:
        return next(c for c in self.stack.children if c.name == executable)

    def kill(self, executable: str) -> float:
        """End a node by SIGKILL; answers when."""
        process = self.child(executable).process
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        return time.monotonic()

    def start_again(self, executable: str, **parameters: object) -> None:
        """Start anew a node that has ended."""
        child = self.child(executable)
        self.stack.children.remove(child)
        entry = NodeEntry(executable, child.entry.namespace, {**child.entry.parameters, **parameters})
        fresh = Supervisor([entry], self._file)
        fresh.start()
        self.stack.children += fresh.children

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")
