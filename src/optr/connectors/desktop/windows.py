"""The windows of a display: which there are, what lies over what, and who has the keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.screen import overlap
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError


class Windows:
    """Owns two connections: one asks for windows, the other waits. Any thread may call, and ask while others wait.

    Windows that the window manager does not manage, such as menus, are windows too; they never have the keyboard.

    Raises:
        DesktopError: If the display cannot be reached.
    """

    def __init__(self, display: str) -> None:
        from Xlib import X

        self._x = X11(display)
        self._events = X11(display)
        self._told: set[int] = set()
        self._events.root.change_attributes(event_mask=X.PropertyChangeMask | X.SubstructureNotifyMask)
        self._events.display.sync()

    def all(self) -> tuple[Window, ...]:
        """Every window, from the lowest to the highest; minimised ones first."""
        from Xlib.error import XError

        with self._x.lock:
            clients = self._x.numbers(self._x.root, "_NET_CLIENT_LIST_STACKING")
            tops = {self._top(c): c for c in clients}
            stack = [int(w.id) for w in self._x.root.query_tree().children]
            focused = self._focused()
            found = []
            for top in stack:
                with suppress(XError, _GoneError):  # it has gone meanwhile
                    found.append(self._seen(top, tops.get(top), focused))
        shown = [w for w in found if w is not None]
        shown.sort(key=lambda w: w.visible)
        return tuple(replace(w, layer=layer) for layer, w in enumerate(shown))

    def at(self, x: float, y: float) -> Window | None:
        """The window that a click at a pixel goes to; None: the background."""
        with self._x.lock:
            top = self._x.root.translate_coords(self._x.root, int(x), int(y)).child
            number = int(top.id) if top else 0
            tops = {self._top(c): c for c in self._x.numbers(self._x.root, "_NET_CLIENT_LIST_STACKING")}
        wanted = tops.get(number, number)
        return next((w for w in self.all() if w.id == wanted), None)

    def focused(self) -> Window | None:
        """The window that has the keyboard; None: none has."""
        return next((w for w in self.all() if w.focused), None)

    def matching(self, text: str) -> tuple[Window, ...]:
        """The managed windows of this id or title, else those of which title or class hold a text, capitals or not."""
        small = text.lower()
        with self._x.lock:
            managed = set(self._x.numbers(self._x.root, "_NET_CLIENT_LIST"))
        windows = tuple(w for w in self.all() if w.id in managed or not managed)
        exact = tuple(w for w in windows if text in (str(w.id), hex(w.id), w.title))
        return exact or tuple(w for w in windows if any(small in t.lower() for t in (w.title, *w.wm_class)))

    def find(self, text: str) -> Window:
        """The one window that `matching` finds.

        Raises:
            DesktopError: If there is none, or more than one.
        """
        found = self.matching(text)
        if len(found) != 1:
            many = "no window" if not found else f"{len(found)} windows"
            listed = "; ".join(f"{w.id}: {w.title!r} ({w.wm_class[0]})" for w in found or self.all())
            raise DesktopError(f"{many} of id, title or class {text!r}; there are: {listed or 'none'}")
        return found[0]

    def get(self, number: int) -> Window:
        """The window of an id.

        Raises:
            DesktopError: If it is gone.
        """
        windows = self.all()
        for window in windows:
            if window.id == number:
                return window
        listed = "; ".join(f"{w.id}: {w.title!r}" for w in windows)
        raise DesktopError(f"there is no window {number}; there are: {listed or 'none'}")

    def focus(self, number: int, timeout_s: float = 2.0) -> Window:
        """Bring a window to the front and give it the keyboard; returns when it has it.

        Raises:
            DesktopError: If it is gone, or does not get the keyboard in time.
        """
        window = self.get(number)
        with self._x.lock:
            self._x.tell_root(self._x.window(number), "_NET_ACTIVE_WINDOW", (2,))
        if not self.wait(lambda: self.has_focus(number), timeout_s):
            raise DesktopError(f"the window {number} {window.title!r} did not get the keyboard within {timeout_s:g} s")
        return self.get(number)

    def place(self, number: int, rect: Rect, timeout_s: float = 2.0) -> Window:
        """Move a window and give it a size, without its frame; returns when it lies elsewhere than before.

        Args:
            number: Its id.
            rect: Where it shall be [px]; the window manager has the last word.
            timeout_s: For that [s].

        Raises:
            DesktopError: If it is gone, or stays where it was.
        """
        before = self.get(number)
        with self._x.lock:
            self._x.window(number).configure(x=rect.x, y=rect.y, width=rect.width, height=rect.height)
            self._x.display.flush()
        if before.rect != rect and not self.wait(lambda: self.get(number).rect != before.rect, timeout_s):
            raise DesktopError(f"the window {number} {before.title!r} stayed at {before.rect}")
        return self.get(number)

    def has_focus(self, number: int) -> bool:
        """Whether keys go to a window now."""
        with self._x.lock:
            return self._focused() == number

    def wait(self, so: Callable[[], bool], timeout_s: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait until something about windows is so; asked for whenever one of them changes.

        Returns:
            Whether it was so in time.
        """
        with self._events.lock:
            return self._events.wait(lambda: self._heard() and so(), time.monotonic() + timeout_s, cancelled)

    def ping(self, number: int, timeout_s: float = 1.0) -> bool:
        """Wait until a window has taken in all input that it was sent before.

        Returns:
            False if it does not know of such a question (xterm), or does not answer in time.
        """
        from Xlib import X
        from Xlib.protocol import event

        with self._events.lock:
            window = self._events.window(number)
            ping = self._events.atom("_NET_WM_PING")
            if ping not in self._events.numbers(window, "WM_PROTOCOLS"):
                return False
            stamp = time.monotonic_ns() // 1_000_000 & 0x7FFFFFFF
            data = (32, (ping, stamp, number, 0, 0))
            message = event.ClientMessage(window=window, client_type=self._events.atom("WM_PROTOCOLS"), data=data)
            window.send_event(message, event_mask=X.NoEventMask)
            self._events.display.flush()
            answer = self._events.heard(lambda e: _answers(e, ping, stamp), time.monotonic() + timeout_s)
            return answer is not None

    def close(self) -> None:
        """Close the connections."""
        for connection in (self._x, self._events):
            with suppress(Exception):  # the display may be gone
                connection.close()

    # Below: under the lock.

    def _heard(self) -> bool:
        """See that changes of titles are told, of new windows too; always true."""
        from Xlib import X

        clients = set(self._events.numbers(self._events.root, "_NET_CLIENT_LIST"))
        for number in clients - self._told:
            self._events.window(number).change_attributes(event_mask=X.PropertyChangeMask)
        if clients != self._told:
            self._told = clients
            self._events.display.sync()
        return True

    def _top(self, number: int) -> int:
        """The child of the root that a window is in: its frame."""
        from Xlib.error import XError

        window = self._x.window(number)
        with suppress(XError):
            while (parent := window.query_tree().parent) and parent.id != self._x.root.id:
                window = parent
        return int(window.id)

    def _focused(self) -> int:
        """The window that the keys go to: what X says, as the window manager's word comes earlier."""
        from Xlib.error import XError

        holder = self._x.display.get_input_focus().focus
        if isinstance(holder, int):  # nothing, or whatever the pointer is on
            return 0
        clients = set(self._x.numbers(self._x.root, "_NET_CLIENT_LIST"))
        with suppress(XError):
            while holder and holder.id not in clients and holder.id != self._x.root.id:
                top, holder = holder, holder.query_tree().parent
            if not clients:  # nobody manages windows: it is the child of the root
                return int(top.id)
            return int(holder.id) if holder and holder.id in clients else 0
        return 0

    def _seen(self, top: int, client: int | None, focused: int) -> Window | None:
        """A child of the root as a window; None: it is nothing that anybody sees."""
        from Xlib import X

        frame = self._x.window(top)
        attributes = frame.get_attributes()
        mapped = attributes.map_state == X.IsViewable
        if client is None and (not mapped or attributes.win_class != X.InputOutput):
            return None
        outer = self._rect(frame)
        if client is None and not _on_screen(outer, self._x.display.screen()):
            return None
        number = client or top
        window = self._x.window(number)
        rect, outer = self._without_shadow(window, self._rect(window), outer)
        names = window.get_wm_class() or ("", "")
        title = self._x.words(window, "_NET_WM_NAME") or self._x.words(window, "WM_NAME") or ("",)
        pid = self._x.numbers(window, "_NET_WM_PID") or (0,)
        return Window(number, title[0], (names[1], names[0]), pid[0], rect, outer, number == focused, 0, mapped)

    def _without_shadow(self, window: Any, rect: Rect, outer: Rect) -> tuple[Rect, Rect]:
        """Some windows have a shadow around them that they do not count as theirs."""
        extents = self._x.numbers(window, "_GTK_FRAME_EXTENTS")
        if len(extents) != 4 or not any(extents):
            return rect, outer
        left, right, top, bottom = extents
        inner = Rect(rect.x + left, rect.y + top, rect.width - left - right, rect.height - top - bottom)
        return inner, inner

    def _rect(self, window: Any) -> Rect:
        shape = window.get_geometry()
        place = self._x.root.translate_coords(window, 0, 0)
        if place is None:
            raise _GoneError
        return Rect(int(place.x), int(place.y), int(shape.width), int(shape.height))


class _GoneError(Exception):
    """The window has gone while it was asked."""


def _answers(event: Any, ping: int, stamp: int) -> bool:
    data = getattr(event, "data", None)
    return bool(data) and isinstance(data, tuple) and data[0] == 32 and list(data[1][:2]) == [ping, stamp]


def _on_screen(rect: Rect, screen: Any) -> bool:
    return overlap(rect, Rect(0, 0, screen.width_in_pixels, screen.height_in_pixels)) is not None
