"""A desktop as `DesktopState`, told when something of it has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from optr.connectors.desktop.bridge import DesktopBridge
from optr.connectors.desktop.messages import monitor_fields, rect_fields, window_fields
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.windows import Windows
from optr.errors import DesktopError
from optr.ros.desk_convert import to_msg
from optr_interfaces.msg import DesktopState

_AT_LEAST_S = 1.0
"""It is looked again after so long although no event has come [s]."""

_STOPPED = {"FAIL_SAFE": "the pointer was put into a corner of the screen; desktop/rearm ends it"}


class DeskStateWatch:
    """Owns a connection and a thread that hear what happens to windows.

    Where the pointer is, what is held and whether the fail-safe has fired is looked at 20 times a second.

    Attributes:
        told: How many states were published.
        error: Why none are any more; empty: they are.
    """

    def __init__(
        self,
        session: DesktopSession,
        bridge: DesktopBridge,
        publish: Callable[[DesktopState], None],
        at_ns: Callable[[int], int],
    ) -> None:
        """Begin.

        Args:
            session: The desktop.
            bridge: What acts on it.
            publish: Takes a state.
            at_ns: Time on the node clock of one on the steady clock [ns].

        Raises:
            DesktopError: If the display cannot be reached.
        """
        self._bridge, self._publish, self._at_ns = bridge, publish, at_ns
        self.told, self.error = 0, ""
        self._constant = {
            "display": session.display,
            "session_bus": session.environment.get("DBUS_SESSION_BUS_ADDRESS", ""),
            "home": str(session.home),
            "screen": rect_fields(bridge.screen.rect),
        }
        self._shown: tuple[Any, ...] = ()
        self._one = threading.Lock()
        self._ended = threading.Event()
        self._windows = Windows(session.display)
        self._thread = threading.Thread(target=self._run, name="desktop-state", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look now; when this returns, what has changed was told.

        Raises:
            DesktopError: If the display is gone.
        """
        with self._one:
            stamp_ns = time.monotonic_ns()
            by_itself = self._by_itself()
            seen = (*by_itself, self._windows.all(), self._bridge.screen.monitors())
            if seen == self._shown:
                return
            self._shown = seen
            self._publish(self._made(stamp_ns))
            self.told += 1

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join(timeout=2.0)
        self._windows.close()

    def _made(self, stamp_ns: int) -> DesktopState:
        (x, y), held, stopped, windows, monitors = self._shown
        fields = {
            "header": self._at_ns(stamp_ns),
            "monitors": [monitor_fields(m) for m in monitors],
            "windows": [window_fields(w) for w in windows],
            "pointer_x": x,
            "pointer_y": y,
            "held": held,
            "stopped": stopped,
            "text": _STOPPED.get(stopped, stopped),
        }
        return to_msg(DesktopState, {**self._constant, **fields})

    def _by_itself(self) -> tuple[Any, ...]:
        """What no event tells of."""
        return self._bridge.screen.pointer(), self._bridge.held, self._bridge.stopped

    def _changed(self) -> bool:
        return self._ended.is_set() or self._by_itself() != self._shown[:3]

    def _run(self) -> None:
        def looked() -> bool:
            self.look()
            return self._ended.is_set()

        try:
            while not self._ended.is_set():
                self._windows.wait(looked, _AT_LEAST_S, self._changed)
        except DesktopError as err:
            self.error = str(err)
