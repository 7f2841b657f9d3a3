"""Keys by which a person stops everything, heard from the X server itself, whoever has the keyboard to himself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from optr.connectors.desktop.chords import chord, key_of
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError

_PATIENCE_S = 5.0


class StopKeys:
    """Owns two connections and a thread that hear every key of a display, through the RECORD extension.

    Attributes:
        lost: Why nothing is heard any more; empty: it is.

    Raises:
        DesktopError: If the display cannot be reached, or does not tell: nobody could stop it by keys.
    """

    def __init__(self, display: str, keys: str, stop: Callable[[str], object]) -> None:
        """Begin to listen.

        Args:
            display: Its name.
            keys: Chord as `ctrl+alt+escape`.
            stop: Called with the reason, in a thread of this one's own, when all of them are down.
        """
        self._keys, self._spelled, self._stop = chord(keys), keys, stop
        self.lost = ""
        self._down: set[int] = set()
        self._hears = threading.Event()
        self._ended = False
        self._x, self._events = X11(display), X11(display)
        if not self._x.display.has_extension("RECORD"):
            self.close()
            raise DesktopError(f"the X server of {display} has no RECORD extension: {keys} would stop nothing")
        self._context = self._x.display.record_create_context(0, [_all_clients()], [_keys_alone()])
        self._x.display.sync()
        self._thread = threading.Thread(target=self._listen, name=f"optr-stop-keys{display}", daemon=True)
        self._thread.start()
        if not self._hears.wait(_PATIENCE_S) or self.lost:
            why = self.lost or "it does not begin"
            self.close()
            raise DesktopError(f"the keys of {display} are not heard: {why}")

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        with suppress(Exception):  # the display may be gone
            self._x.display.record_disable_context(self._context)
            self._x.display.sync()
            self._thread.join(_PATIENCE_S)
            self._x.display.record_free_context(self._context)
        for connection in (self._x, self._events):
            with suppress(Exception):
                connection.close()

    def _listen(self) -> None:
        try:
            self._events.display.record_enable_context(self._context, self._told)
        except Exception as err:  # whatever python-xlib raises when the server is gone
            if not self._ended:
                self.lost = f"the display {self._events.name} is gone: {err}"
        self._hears.set()

    def _told(self, reply: Any) -> None:
        from Xlib import X
        from Xlib.ext import record

        if reply.category != record.FromServer:
            self._hears.set()
            return
        for at in range(0, len(reply.data) - 31, 32):
            kind, code = reply.data[at] & 0x7F, reply.data[at + 1]
            if kind == X.KeyPress:
                self._down.add(code)
                if self._keys <= {self._name(c) for c in self._down}:
                    self._stop(f"{self._spelled} was pressed")
            elif kind == X.KeyRelease:
                self._down.discard(code)

    def _name(self, code: int) -> str:
        """What a key is called without modifiers; empty: it has no name."""
        return key_of(int(self._x.display.keycode_to_keysym(code, 0)))


def _all_clients() -> int:
    from Xlib.ext import record

    return int(record.AllClients)


def _keys_alone() -> dict[str, Any]:
    from Xlib import X

    return {
        "core_requests": (0, 0),
        "core_replies": (0, 0),
        "ext_requests": (0, 0, 0, 0),
        "ext_replies": (0, 0, 0, 0),
        "delivered_events": (0, 0),
        "device_events": (X.KeyPress, X.KeyRelease),
        "errors": (0, 0),
        "client_started": False,
        "client_died": False,
    }
