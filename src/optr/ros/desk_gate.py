"""Which commands for a desktop count: those of its one sentinel, while that lives and has not stopped."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node

from optr.ros.only_one import PlaceWatch
from optr.sentinel import Code, Finding
from optr_interfaces.msg import SentinelStatus


class DeskGate:
    """Looks at who commands, and whether it may. Any thread may ask.

    Attributes:
        commands: That came.
        refused: That did not count, or could not be read.
    """

    def __init__(self, node: Node, topic: str, timeout_s: float) -> None:
        """Open it.

        Args:
            node: The desktop.
            topic: Of the commands.
            timeout_s: Nothing counts when the sentinel's heartbeat is older on a steady clock [s].
        """
        self.commands = self.refused = 0
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._timeout_s = timeout_s
        self._place = PlaceWatch(self._topic)
        self._seen = 0
        self._stopped = ""
        self._rivals: tuple[str, ...] = ()

    def saw_sentinel(self, msg: SentinelStatus) -> None:
        """Take note of a heartbeat."""
        self._seen = time.monotonic_ns()
        self._stopped = f"{msg.code}: {msg.text}" if msg.state == SentinelStatus.STOPPED else ""

    def look(self) -> None:
        """See who publishes commands; takes a millisecond."""
        self._known(self._node.get_publishers_info_by_topic(self._topic))

    def admits(self, publisher: bytes) -> Finding | None:
        """What speaks against a command that has just come; None: nothing does.

        Args:
            publisher: Id of who published it; empty: not told.
        """
        infos = self._node.get_publishers_info_by_topic(self._topic)
        self._known(infos)
        if found := self.shut():
            return found
        ids = {bytes(i.endpoint_gid)[: len(publisher)] for i in infos}
        if publisher and publisher not in ids:
            return Finding(Code.SECOND_SENTINEL, f"who sent it is not who is known to publish {self._topic}")
        return None

    def shut(self) -> Finding | None:
        """Why nothing may be done now; None: it may."""
        if self._rivals:
            return Finding(Code.SECOND_SENTINEL, f"several publish {self._topic}: {', '.join(self._rivals)}")
        if self._stopped:
            return Finding(Code.STOP_REQUESTED, f"the sentinel has stopped: {self._stopped}")
        if not self._seen:
            return Finding(Code.NO_SENTINEL, "no sign of a sentinel")
        if self._place.lost():
            return Finding(Code.NO_SENTINEL, "the sentinel has ended")
        age = (time.monotonic_ns() - self._seen) * 1e-9
        return Finding(Code.NO_SENTINEL, f"no sign of the sentinel for {age:.2f} s") if age > self._timeout_s else None

    def _known(self, infos: list[Any]) -> None:
        names = sorted(f"{i.node_namespace.rstrip('/')}/{i.node_name}" for i in infos)
        self._rivals = tuple(names) if len(names) > 1 else ()
