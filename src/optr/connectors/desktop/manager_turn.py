"""Waiting for the window manager to have done what it was asked to before.

It is asked to raise, move and focus windows by messages, and does so some time later. A press on a window that it
watches is handed on by it too, and goes to what lies there then: not to what lay there when it was given.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optr.connectors.desktop.x11 import X11

_REQUEST, _ANSWER = "_NET_REQUEST_FRAME_EXTENTS", "_NET_FRAME_EXTENTS"
_MOVING = (
    "_NET_ACTIVE_WINDOW", "_NET_RESTACK_WINDOW", "_NET_MOVERESIZE_WINDOW", "_NET_WM_MOVERESIZE", "_NET_WM_STATE",
    "_NET_CLOSE_WINDOW", "_NET_CURRENT_DESKTOP", "_NET_WM_DESKTOP", "_NET_SHOWING_DESKTOP", "WM_CHANGE_STATE",
)  # fmt: skip
"""Messages that change what lies where; others, such as answers to pings, come all the time.

So do these about tooltips, which it does not manage.
"""


class ManagerTurn:
    """Owns a connection and a window that is never shown, of which the window manager tells the frame when asked."""

    def __init__(self, display: str, giver: Any) -> None:
        """Begin to watch nothing.

        Args:
            display: Name of the display.
            giver: python-xlib's connection by which input is given there. What others ask the window manager is read
                from it too: only of one and the same connection is it sure in which order things come.

        Raises:
            DesktopError: If the display cannot be reached.
        """
        self._x = X11(display)
        self._giver = giver
        self._window: Any = None
        self._managed: set[int] = set()
        self._moving = {self._x.atom(name) for name in _MOVING}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notice what it is asked to meanwhile."""
        from Xlib import X

        root = self._giver.screen().root
        root.change_attributes(event_mask=X.SubstructureNotifyMask)
        self._heard()
        try:
            yield
        finally:
            root.change_attributes(event_mask=X.NoEventMask)
            self._heard()

    def done(self, timeout_s: float = 2.0) -> bool:
        """Wait until it has done everything that it was asked to before; one that knows no such question has.

        Returns:
            False if it does not answer in time.
        """
        with self._x.lock:
            if self._x.atom(_REQUEST) not in self._x.numbers(self._x.root, "_NET_SUPPORTED"):
                return True
            self._managed = {self._x.root.id, *self._x.numbers(self._x.root, "_NET_CLIENT_LIST")}
            window = self._asked()
            self._x.tell_root(window, _REQUEST, (0,))
            answer = self._x.heard(lambda e: _tells(e, window, self._x.atom(_ANSWER)), time.monotonic() + timeout_s)
            if answer is None:  # it may come later, and be taken for that to the next question
                window.destroy()
                self._window = None
            return answer is not None

    def asked_again(self) -> bool:
        """Whether somebody has asked it to move windows since it was done, while that was watched."""
        from Xlib import X

        asked = [e for e in self._heard() if e.type == X.ClientMessage and e.client_type in self._moving]
        return any(e.window.id in self._managed for e in asked)

    def _heard(self) -> list[Any]:
        """All that the giver was told until now."""
        self._giver.sync()
        return [self._giver.next_event() for _ in range(self._giver.pending_events())]

    def close(self) -> None:
        """Close the connection."""
        self._x.close()

    def _asked(self) -> Any:
        from Xlib import X

        if self._window is None:
            place = (-10, -10, 1, 1, 0, X.CopyFromParent)
            self._window = self._x.root.create_window(*place, override_redirect=True, event_mask=X.PropertyChangeMask)
            self._x.display.sync()
        return self._window


def _tells(event: Any, window: Any, atom: int) -> bool:
    from Xlib import X

    return bool(event.type == X.PropertyNotify and event.window.id == window.id and event.atom == atom)
