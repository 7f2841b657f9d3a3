"""The desktop node: one display behind topics; it does what its sentinel allows, and nothing else."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger

from optr.connectors.desktop.actions import ActionResult, Selector
from optr.connectors.desktop.clipboard import Clipboard
from optr.connectors.desktop.desk_hands import DeskHands
from optr.connectors.desktop.messages import element_fields, result_fields
from optr.connectors.desktop.seen import Element
from optr.connectors.desktop.session import DesktopSession
from optr.errors import DesktopError, OptrError
from optr.ros.desk_convert import to_msg, verdict_of
from optr.ros.desk_gate import DeskGate
from optr.ros.desk_pictures import DeskPictures
from optr.ros.desk_state import DeskStateWatch
from optr.ros.node import ERROR, OK, WARN, OptrNode, run_node
from optr.ros.params import ParameterError, param
from optr.ros.qos import EVENT_QOS, STATUS_QOS
from optr.sentinel import Code, Finding
from optr.sentinel.desk_config import load_desk
from optr.spec import stamp_ns
from optr_interfaces.msg import DesktopCommand, DesktopElement, DesktopResult, DesktopState, SentinelStatus
from optr_interfaces.srv import FindElement, ReadClipboard, ReadElements

if TYPE_CHECKING:
    from optr.connectors.desktop.tree_reader import Limits

_LOOK_S = 0.2
"""Time between two looks at who is in the graph [s]."""

_WATCH_S = 0.01
"""Time between two looks whether what is being done may go on [s]."""

_OLDEST_S = 2.0
"""A command that was judged longer ago is not carried out [s]."""


@dataclass(frozen=True)
class DesktopParams:
    """Settings of the desktop node."""

    display: str = param("", "X display to attach to, such as :1; empty: one of its own, in memory.")
    width: int = param(1280, "Width of the screen of its own [px].", low=64, high=16384)
    height: int = param(800, "Height of the screen of its own [px].", low=64, high=16384)
    monitors: str = param("", "Widths of several monitors side by side [px], separated by commas; empty: one.")
    desk: str = param("", "Settings of the desk, a file or a name in config/desks: which programs it may start.")
    images: str = param(
        "screen",
        "Pictures that are published whenever something has changed: of the whole screen, of each monitor, or none.",
        choices=("screen", "monitors", "none"),
    )
    window_images: str = param("", "Windows, by class or title (`*` for anything), of which there are pictures, too.")
    image_rate_hz: float = param(10.0, "No more pictures of one kind than this [Hz].", low=0.1, high=120.0)
    elements: int = param(10_000, "Most elements that are read of one program.", low=1, high=1_000_000)
    elements_depth: int = param(64, "Most levels of elements that are read.", low=1, high=1000)
    elements_s: float = param(2.0, "Longest time for reading the elements of all programs [s].", low=0.01, high=60.0)
    sentinel_timeout_s: float = param(
        0.5,
        "Do nothing, and release everything, when the sentinel's heartbeat is older on a steady clock [s].",
        low=0.05,
        high=10.0,
    )


class DesktopNode(OptrNode[DesktopParams]):
    """ROS face of one display: a `DesktopSession` and its `DeskHands`.

    Obeys `command` (optr_interfaces/DesktopCommand) of one sentinel, while `sentinel/status` is fresh. Publishes
    `desktop/state` (optr_interfaces/DesktopState), `result` (optr_interfaces/DesktopResult), and pictures
    (sensor_msgs/Image): `screen/image_raw`, `monitor/<name>/image_raw`, `window/id_<id>/image_raw`. Services
    `desktop/elements`, `desktop/find`, `desktop/clipboard`, `desktop/cancel`, `desktop/rearm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("desktop", DesktopParams, **kwargs)
        p = self.params
        config = load_desk(p.desk)
        self.gate = DeskGate(self, "command", p.sentinel_timeout_s)
        self.session = self._open_session()
        self.hands = DeskHands(self.session, config, self.gate.shut, limits=self._limits())
        self._clipboard = Clipboard(self.session.display)
        self._commands: queue.SimpleQueue[tuple[DesktopCommand, bytes] | None] = queue.SimpleQueue()
        self._doing = ""
        self._executed = 0
        self._results = self.create_publisher(DesktopResult, "result", EVENT_QOS)
        self._states = self.create_publisher(DesktopState, "desktop/state", STATUS_QOS)
        self._watch = DeskStateWatch(self.session, self.hands.bridge, self._states.publish, self.at_ns)
        self._pictures = DeskPictures(self, self.hands.sight, p.images, p.window_images, p.image_rate_hz)
        self._worker = threading.Thread(target=self._work, name="desktop", daemon=True)
        self._worker.start()
        self.hot.subscribe(SentinelStatus, "sentinel/status", STATUS_QOS, self.gate.saw_sentinel)
        self.hot.subscribe(DesktopCommand, "command", EVENT_QOS, self._on_command, raw=True, with_info=True)
        self.hot.every(_WATCH_S, self._watch_over)
        self.hot.serve(Trigger, "desktop/cancel", self._on_cancel)
        self.create_service(Trigger, "desktop/rearm", self._on_rearm)
        self.create_service(ReadElements, "desktop/elements", self._on_elements)
        self.create_service(FindElement, "desktop/find", self._on_find)
        self.create_service(ReadClipboard, "desktop/clipboard", self._on_clipboard)
        self.create_timer(_LOOK_S, self._look_around, clock=self.steady)

    def _open_session(self) -> DesktopSession:
        p = self.params
        if p.display:
            return DesktopSession.attach(p.display)
        try:
            monitors = tuple(int(w) for w in p.monitors.split(",") if w.strip())
        except ValueError as err:
            raise ParameterError(f"parameter monitors is {p.monitors!r}; expected widths, such as 640,640") from err
        return DesktopSession(p.width, p.height, monitors=monitors)

    def _limits(self) -> Limits:
        from optr.connectors.desktop.tree_reader import Limits

        p = self.params
        return Limits(p.elements, p.elements_depth, p.elements_s)

    def at_ns(self, steady_ns: int) -> int:
        """Time on the node clock of a time on the steady clock [ns]."""
        return self.now_ns() - (time.monotonic_ns() - steady_ns)

    # -- commands --------------------------------------------------------------------------------------------------

    def _on_command(self, data: bytes, info: dict[str, Any]) -> None:
        self.gate.commands += 1
        self._commands.put((deserialize_message(data, DesktopCommand), info["publisher_gid"]))

    def _work(self) -> None:
        try:
            while (order := self._commands.get()) is not None:
                self._obey(*order)
        except Exception as err:  # the display is gone, or a defect: the node ends by it
            self.hot.error = err

    def _obey(self, msg: DesktopCommand, publisher: bytes) -> None:
        self._doing = msg.action.kind
        try:
            result = self._carried_out(msg, publisher)
        finally:
            self._doing = ""
        self._executed += result.executed
        self.gate.refused += bool(result.refused)
        self._watch.look()  # whoever hears of the result has heard of what it led to
        self._results.publish(self._result(msg, result))

    def _carried_out(self, msg: DesktopCommand, publisher: bytes) -> ActionResult:
        found = self.gate.admits(publisher) or self._late(msg)
        if found is not None:
            return ActionResult(False, refused=str(found.code), text=found.text)
        try:
            verdict, elements, windows = verdict_of(msg)
        except DesktopError as err:
            return ActionResult(False, refused=str(Code.BAD_ACTION), text=str(err))
        try:
            return self.hands.carry_out(verdict, elements, windows)
        except Exception as err:  # a defect, which must leave nothing pressed
            self.hands.bridge.cancel()
            self.get_logger().error(f"{msg.action.kind} failed:\n{traceback.format_exc()}")
            return ActionResult(False, text=f"{type(err).__name__}: {err}")

    def _late(self, msg: DesktopCommand) -> Finding | None:
        age = (self.now_ns() - stamp_ns(msg.header.stamp)) * 1e-9
        return Finding(Code.ACTION_STALE, f"it was judged {age:.2f} s ago") if age > _OLDEST_S else None

    def _result(self, msg: DesktopCommand, result: ActionResult) -> DesktopResult:
        ended = result if result.ended_ns else replace(result, ended_ns=time.monotonic_ns())
        fields = result_fields(ended, self.at_ns)
        action = msg.action
        told = {"operator_id": action.operator_id, "sequence": action.sequence, "kind": action.kind}
        return to_msg(DesktopResult, {**fields, **told, "reach": msg.reach})

    def _watch_over(self) -> None:
        """Nothing stays pressed, and nothing goes on, without a sentinel."""
        bridge = self.hands.bridge
        if bridge.screen.damage.lost:
            raise DesktopError(bridge.screen.damage.lost)
        if (self._doing or bridge.held) and self.gate.shut() is not None:
            bridge.cancel()

    def _look_around(self) -> None:
        self.gate.look()
        self.report(changes_only=True)

    # -- services --------------------------------------------------------------------------------------------------

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        doing = self._doing
        self.hands.bridge.cancel()
        response.success, response.message = True, f"cancelled: {doing}" if doing else "nothing was being done"
        return response

    def _on_rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self.hands.bridge.stopped:
            response.message = "nothing is stopped here; a stop of the sentinel ends by sentinel/rearm"
            return response
        try:
            self.hands.bridge.rearm()
        except DesktopError as err:
            response.message = str(err)
            return response
        self._watch.look()
        response.success, response.message = True, "re-armed; sentinel/rearm ends the stop of the sentinel"
        return response

    def _on_elements(self, request: ReadElements.Request, response: ReadElements.Response) -> ReadElements.Response:
        tree = self.hands.sight.tree
        try:
            if tree is None:
                raise DesktopError("this desktop has no accessibility")
            window = self.hands.bridge.windows.get(request.window) if request.window else None
            limits = replace(tree.limits, seconds=request.seconds or tree.limits.seconds)
            read = tree.read(window, limits)
        except OptrError as err:
            response.message = str(err)
            return response
        most = request.most or len(read.items)
        cut = f"only {most} of {len(read.items)} were asked for" if most < len(read.items) else ""
        response.elements = [_element(e) for e in read.items[:most]]
        response.truncated = "; ".join(t for t in (read.truncated, cut) if t)
        response.success = True
        return response

    def _on_find(self, request: FindElement.Request, response: FindElement.Response) -> FindElement.Response:
        try:
            found = self.hands.sight.finder.find(Selector(request.selector, request.within or None))
        except OptrError as err:
            response.message = str(err)
            return response
        response.success, response.element = True, _element(found)
        return response

    def _on_clipboard(self, request: ReadClipboard.Request, response: ReadClipboard.Response) -> ReadClipboard.Response:
        try:
            response.success, response.text = True, self._clipboard.read()
        except OptrError as err:
            response.success, response.message = False, str(err)
        return response

    # -- around ----------------------------------------------------------------------------------------------------

    def diagnose(self) -> Any:
        bridge, shut = self.hands.bridge, self.gate.shut()
        level, message = OK, f"carries out: {self._doing}" if self._doing else "ready"
        if bridge.stopped:
            level, message = ERROR, f"{bridge.stopped}: nothing is pressed until desktop/rearm"
        elif shut is not None:
            level, message = (ERROR if shut.code == Code.SECOND_SENTINEL else WARN), f"{shut.code}: {shut.text}"
        elif self._watch.error or self._pictures.error:
            level, message = ERROR, self._watch.error or self._pictures.error
        return self.health(
            level,
            message,
            display=self.session.display,
            home=str(self.session.home),
            accessibility=self.hands.sight.tree is not None,
            commands=self.gate.commands,
            executed=self._executed,
            refused=self.gate.refused,
            held=", ".join(bridge.held),
            states=self._watch.told,
            pictures=self._pictures.told,
        )

    def close(self) -> None:
        if hasattr(self, "hands"):
            self.hands.bridge.cancel()
        if hasattr(self, "_worker"):
            self._commands.put(None)
            self._worker.join(timeout=5.0)
        for part in ("_pictures", "_watch", "_clipboard", "hands", "session"):
            if hasattr(self, part):
                getattr(self, part).close()
        super().close()


def _element(element: Element) -> DesktopElement:
    return to_msg(DesktopElement, element_fields(element))


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(DesktopNode, args)


if __name__ == "__main__":
    sys.exit(main())
