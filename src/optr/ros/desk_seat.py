"""A desktop in the graph as an operator has it: seen by topics, acted on through its sentinel."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from optr.connectors.desktop.actions import ActionResult, DesktopAction, Wait
from optr.connectors.desktop.messages import action_fields, element_of, result_of, window_of
from optr.errors import DesktopError
from optr.operators.desk.contract import ELEMENTS, PICTURE, POINTER, WINDOWS
from optr.ros.convert import time_to_msg
from optr.ros.node import OptrNode
from optr.ros.qos import EVENT_QOS, STATUS_QOS
from optr.spec import Source, stamp_ns
from optr_interfaces.msg import DesktopAction as ActionMsg
from optr_interfaces.msg import DesktopResult, DesktopState, DesktopTarget, SentinelStatus, Verdict
from optr_interfaces.srv import BeginDesktopTask, ReadElements

_ANSWER_S = 20.0
"""How long a service may take [s], and how much longer than it was told an action may."""

_FRESH_S = 1.0
"""How long it is waited for a picture of what an action has changed [s]."""

_ASKED_AGAIN_S = 0.25

_PASSED = (Verdict.ALLOWED, Verdict.LIMITED)


class GraphSeat:
    """One operator's seat: one action at a time, each waited for.

    Its methods are called in a thread of their own; messages come in that of the node.

    Attributes:
        waits_for: What there is not yet, for people; empty: everything is there.
    """

    def __init__(self, node: OptrNode[Any], operator_id: str, keys: Sequence[str]) -> None:
        """Subscribe what is needed.

        Args:
            node: Whose topics they are.
            operator_id: Who decides.
            keys: What it wants to see.
        """
        self._node, self._id = node, operator_id
        self.waits_for = ""
        self._sequence = 0
        self._news = threading.Condition()
        self._closed = False
        self._state: DesktopState | None = None
        self._picture: Image | None = None
        self._sentinel: SentinelStatus | None = None
        self._result: DesktopResult | None = None
        self._verdict: Verdict | None = None
        self._shown: tuple[int, ...] = ()
        self._seen_ns = 0
        self._actions = node.create_publisher(ActionMsg, "action", EVENT_QOS)
        self._elements = node.create_client(ReadElements, "desktop/elements") if ELEMENTS in keys else None
        self._begin = node.create_client(BeginDesktopTask, "sentinel/begin_task")
        self._end = node.create_client(Trigger, "sentinel/end_task")
        hear = self._hear
        node.hot.subscribe(DesktopState, "desktop/state", STATUS_QOS, hear("_state"))
        node.hot.subscribe(SentinelStatus, "sentinel/status", STATUS_QOS, hear("_sentinel"))
        node.hot.subscribe(DesktopResult, "result", EVENT_QOS, hear("_result", self._is_mine))
        node.hot.subscribe(Verdict, "sentinel/verdict", EVENT_QOS, hear("_verdict", self._is_mine))
        self._keys = tuple(keys)
        if PICTURE in keys:
            node.hot.subscribe(Image, "screen/image_raw", STATUS_QOS, hear("_picture"), quick=False)

    def close(self) -> None:
        """Let whoever waits go."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _hear(self, name: str, wanted: Callable[[Any], bool] = lambda _: True) -> Callable[[Any], None]:
        def hear(msg: Any) -> None:
            if wanted(msg):
                with self._news:
                    setattr(self, name, msg)
                    self._news.notify_all()

        return hear

    def _is_mine(self, msg: Any) -> bool:
        return bool((msg.operator_id, msg.sequence) == (self._id, self._sequence))

    # -- as a seat -------------------------------------------------------------------------------------------------

    def begin(self, task: str) -> None:
        """Wait until there is a desktop whose sentinel lets this operator act, and tell it the task.

        Raises:
            DesktopError: If the sentinel does not take the task, or the node ends.
        """
        self._until(lambda: not self._missing(), None)
        answer = self._call(self._begin, BeginDesktopTask.Request(task=task))
        if not answer.success:
            self._node.get_logger().warning(f"before the task: {answer.message}")
            self._until(lambda: not self._missing(), _ANSWER_S)  # the sentinel may be mending it

    def observe(self, keys: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The newest of each; a picture that shows what the last action has changed, if one comes in time."""
        with self._news:
            state, picture = self._state, self._picture
        if state is None:
            raise DesktopError("no desktop is there")
        self._seen_ns = stamp_ns(state.header.stamp)
        seen: dict[str, Any] = {}
        for key in keys:
            if key == WINDOWS:
                seen[key] = tuple(window_of(w) for w in state.windows)
            elif key == POINTER:
                seen[key] = (int(state.pointer_x), int(state.pointer_y))
            elif key == ELEMENTS:
                answer = self._call(self._elements, ReadElements.Request())
                seen[key] = tuple(e for m in answer.elements if (e := element_of(m)) is not None)
            elif key == PICTURE and picture is not None:
                seen[key] = _pixels(picture)
        return seen, {"stamp": self._seen_ns * 1e-9, "size": (int(state.screen.width), int(state.screen.height))}

    def execute(self, action: DesktopAction, source: Source) -> ActionResult:
        """Propose an action, and wait for its result, or for the verdict that refuses it."""
        fields = action_fields(action)
        targets = [DesktopTarget(**t) for t in fields.pop("targets", ())]
        self._propose(ActionMsg(**fields, targets=targets), source)
        longest = (action.timeout_s if isinstance(action, Wait) else getattr(action, "seconds", 0.0)) + _ANSWER_S
        if not self._until(lambda: self._result is not None or self._refused is not None, longest):
            return ActionResult(False, text=f"neither a result nor a refusal within {longest:g} s")
        if (refused := self._refused) is not None and self._result is None:
            request = next((s for c, s in zip(refused.codes, refused.subjects, strict=False) if "CONFIRM" in c), "")
            details = {"request": request} if request else {}
            return ActionResult(False, refused=", ".join(refused.codes), text=refused.text, details=details)
        assert self._result is not None
        ahead_ns = time.time_ns() - time.monotonic_ns()
        result = result_of(self._result, lambda ns: ns - ahead_ns)
        if result.changed is not None and PICTURE in self._keys:
            given_ns = stamp_ns(self._result.input)
            self._until(lambda: self._picture is not None and _stamp(self._picture) >= given_ns, _FRESH_S)
        return result

    def missed(self, source: Source) -> None:
        """Say that nothing was decided on, for the record."""
        self._propose(ActionMsg(), source)

    def wait(self, since_s: float) -> None:
        """Until another state or picture comes."""
        self._until(lambda: self._stamps() != self._shown, _ASKED_AGAIN_S)
        self._shown = self._stamps()

    @property
    def stopped(self) -> str:
        """Why the sentinel or the desktop is, or that the node ends."""
        with self._news:
            if self._closed:
                return "the node ends"
            if self._sentinel is not None and self._sentinel.state == SentinelStatus.STOPPED:
                return self._sentinel.text or "the sentinel is stopped"
            return self._state.text if self._state is not None and self._state.stopped else ""

    def end(self) -> str:
        """The sentinel looks at what must hold after the task."""
        try:
            answer = self._call(self._end, Trigger.Request())
        except DesktopError as err:
            return str(err)
        return "" if answer.success else str(answer.message)

    # -- pieces ----------------------------------------------------------------------------------------------------

    @property
    def _refused(self) -> Verdict | None:
        return self._verdict if self._verdict is not None and self._verdict.outcome not in _PASSED else None

    def _missing(self) -> str:
        """What there is not yet."""
        sentinel = self._sentinel
        if self._state is None:
            said = "no desktop is heard of (desktop/state)"
        elif sentinel is None:
            said = "no sentinel is heard of (sentinel/status)"
        elif sentinel.authority != self._id:
            said = f"the authority is with {sentinel.authority or 'nobody'}, not with {self._id}"
        elif sentinel.state != SentinelStatus.READY:
            said = f"the sentinel is not ready: {sentinel.code} {sentinel.text}"
        elif PICTURE in self._keys and self._picture is None:
            said = "no picture has come (screen/image_raw)"
        elif not self._actions.get_subscription_count():
            said = "nobody listens to action"
        else:
            said = ""
        self.waits_for = said
        return said

    def _propose(self, msg: ActionMsg, source: Source) -> None:
        with self._news:
            self._sequence += 1
            self._result = self._verdict = None
        msg.header.stamp = time_to_msg(self._node.now_ns())
        msg.operator_id, msg.sequence, msg.source = self._id, self._sequence, int(source)
        msg.observation_stamp = time_to_msg(self._seen_ns)
        self._actions.publish(msg)

    def _until(self, so: Callable[[], bool], seconds: float | None) -> bool:
        """Wait for something; None: for ever, looking again now and then.

        Raises:
            DesktopError: If the node ends.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        with self._news:
            while not so():
                if self._closed:
                    raise DesktopError("the node ends")
                left = _ASKED_AGAIN_S if deadline is None else min(deadline - time.monotonic(), _ASKED_AGAIN_S)
                if left <= 0:
                    return False
                self._news.wait(left)
        return True

    def _call(self, client: Any, request: Any) -> Any:
        """Call a service; its answer comes in the thread of the node.

        Raises:
            DesktopError: If nobody offers it, or it does not answer in time.
        """
        if not client.service_is_ready() and not self._until(client.service_is_ready, _ANSWER_S):
            raise DesktopError(f"nobody offers {client.srv_name}")
        future = client.call_async(request)
        future.add_done_callback(lambda _: self._wake())
        if not self._until(future.done, _ANSWER_S):
            raise DesktopError(f"{client.srv_name} does not answer within {_ANSWER_S:g} s")
        return future.result()

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def _stamps(self) -> tuple[int, ...]:
        return tuple(0 if m is None else _stamp(m) for m in (self._state, self._picture))


def _stamp(msg: Any) -> int:
    return stamp_ns(msg.header.stamp)


def _pixels(msg: Image) -> Any:
    """RGB, uint8, shape (height, width, 3), not to be changed.

    Raises:
        DesktopError: If it is another kind of picture.
    """
    if msg.encoding != "rgb8" or msg.step != 3 * msg.width:
        raise DesktopError(f"a picture in {msg.encoding!r} with rows of {msg.step} bytes; expected rgb8 without gaps")
    pixels = np.frombuffer(memoryview(msg.data), np.uint8).reshape(msg.height, msg.width, 3)
    pixels.setflags(write=False)
    return pixels
