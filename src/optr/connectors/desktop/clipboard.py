"""The texts that programs hand each other: what was copied (`CLIPBOARD`), and what is marked (`PRIMARY`)."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import Any

from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError

SELECTIONS = ("CLIPBOARD", "PRIMARY")
_LARGEST = 64_000_000
_PIECE = 65_536
"""Bytes that are handed over at once; longer texts go in pieces."""


class Clipboard:
    """Owns a connection that asks for texts, and one that hands out those that were put here, in a thread.

    What was put here is gone when it is closed, as it is with any program.

    Raises:
        DesktopError: If the display cannot be reached.
    """

    def __init__(self, display: str) -> None:
        self._x = X11(display)
        self._window = _small_window(self._x)
        self._server: _Server | None = None

    def read(self, selection: str = "CLIPBOARD", timeout_s: float = 2.0) -> str:
        """The text that is there; empty if there is none.

        Raises:
            DesktopError: If whoever has it does not answer in time.
        """
        from Xlib import X

        with self._x.lock:
            name, place = self._x.atom(_known(selection)), self._x.atom("OPTR_TEXT")
            deadline = time.monotonic() + timeout_s
            self._window.delete_property(place)
            self._window.convert_selection(name, self._x.atom("UTF8_STRING"), place, X.CurrentTime)
            self._x.display.flush()
            told = self._x.heard(lambda e: e.type == X.SelectionNotify, deadline)
            if told is None:
                raise DesktopError(f"whoever has the {selection} does not hand it over within {timeout_s:g} s")
            if not told.property:
                return ""
            found = self._window.get_full_property(place, X.AnyPropertyType, _LARGEST // 4)
            self._window.delete_property(place)
            if found is None:
                return ""
            if found.property_type == self._x.atom("INCR"):
                return self._pieces(place, deadline, selection)
            return _text(found.value)

    def write(self, text: str, selection: str = "CLIPBOARD") -> None:
        """Put a text there, for whoever asks for it."""
        _known(selection)
        if self._server is None:
            self._server = _Server(self._x.name)
        self._server.put(selection, text)

    def close(self) -> None:
        """Stop handing out."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with suppress(Exception):  # the display may be gone
            self._x.close()

    def _pieces(self, place: int, deadline: float, selection: str) -> str:
        """A long text; the next piece comes when the one before was deleted, an empty one ends it."""
        from Xlib import X

        pieces = b""
        self._x.display.flush()
        while True:
            new = lambda e: e.type == X.PropertyNotify and e.atom == place and e.state == X.PropertyNewValue  # noqa: E731
            if self._x.heard(new, deadline) is None or len(pieces) > _LARGEST:
                raise DesktopError(f"whoever has the {selection} stops after {len(pieces)} bytes")
            found = self._window.get_full_property(place, X.AnyPropertyType, _LARGEST // 4)
            self._window.delete_property(place)
            self._x.display.flush()
            if found is None or not len(found.value):
                return _text(pieces)
            pieces += found.value if isinstance(found.value, bytes) else found.value.encode()


class _Server:
    """Owns selections and a thread that answers those who ask for them."""

    def __init__(self, display: str) -> None:
        self._x = X11(display)
        self._window = _small_window(self._x)
        self._texts: dict[int, bytes] = {}
        self._rests: dict[tuple[int, int], bytes] = {}
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, name=f"optr-clipboard{display}", daemon=True)
        self._thread.start()

    def put(self, selection: str, text: str) -> None:
        from Xlib import X

        with self._x.lock:
            name = self._x.atom(selection)
            self._texts[name] = text.encode("utf-8", "replace")
            self._window.set_selection_owner(name, X.CurrentTime)
            self._x.display.sync()
            if self._x.display.get_selection_owner(name) != self._window:
                raise DesktopError(f"another program keeps the {selection}")
        os.write(self._end_write, b"n")  # what came with the answer is looked at

    def close(self) -> None:
        os.write(self._end_write, b"e")
        self._thread.join()
        os.close(self._end_read)
        os.close(self._end_write)
        with suppress(Exception):
            self._x.close()

    def _serve(self) -> None:
        with suppress(Exception):  # the display is gone, and nobody asks any more
            while True:
                with self._x.lock:
                    self._answer_all()
                ready, _, _ = select.select([self._x.display.fileno(), self._end_read], [], [])
                if self._end_read in ready and b"e" in os.read(self._end_read, 100):
                    return

    def _answer_all(self) -> None:
        """Sending takes in what has come meanwhile, which nothing wakes us for."""
        while self._x.display.pending_events():
            while self._x.display.pending_events():
                self._answer(self._x.display.next_event())
            self._x.display.flush()

    def _answer(self, event: Any) -> None:
        from Xlib import X

        if event.type == X.SelectionRequest:
            self._hand_over(event)
        elif event.type == X.PropertyNotify and event.state == X.PropertyDelete:
            self._next_piece(event.window, event.atom)
        elif event.type == X.SelectionClear:
            self._texts.pop(event.atom, None)

    def _hand_over(self, event: Any) -> None:
        from Xlib import X
        from Xlib.protocol import event as events

        place = event.property or event.target
        text = self._texts.get(event.selection)
        if text is None or not self._put_property(event.requestor, event.target, place, text):
            place = X.NONE
        answer = events.SelectionNotify(
            time=event.time, requestor=event.requestor, selection=event.selection, target=event.target, property=place
        )
        event.requestor.send_event(answer)

    def _put_property(self, window: Any, target: int, place: int, text: bytes) -> bool:
        from Xlib import X, Xatom

        texts = (self._x.atom("UTF8_STRING"), self._x.atom("text/plain;charset=utf-8"))
        if target == self._x.atom("TARGETS"):
            window.change_property(place, Xatom.ATOM, 32, [target, *texts])
            return True
        if target not in texts:
            return False
        if len(text) > _PIECE:
            window.change_attributes(event_mask=X.PropertyChangeMask)
            self._rests[(window.id, place)] = text
            window.change_property(place, self._x.atom("INCR"), 32, [len(text)])
        else:
            window.change_property(place, target, 8, text)
        return True

    def _next_piece(self, window: Any, place: int) -> None:
        key = (window.id, place)
        if key in self._rests:
            rest = self._rests[key]
            window.change_property(place, self._x.atom("UTF8_STRING"), 8, rest[:_PIECE])
            self._rests[key] = rest[_PIECE:]
            if not rest:  # the empty piece was the last
                del self._rests[key]


def _known(selection: str) -> str:
    if selection not in SELECTIONS:
        raise DesktopError(f"no selection {selection!r}; there are: {', '.join(SELECTIONS)}")
    return selection


def _small_window(x: X11) -> Any:
    from Xlib import X

    return x.root.create_window(-10, -10, 1, 1, 0, X.CopyFromParent, event_mask=X.PropertyChangeMask)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
