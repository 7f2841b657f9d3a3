"""The windows of a display: which there are, what lies over what, and who has the keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.seen import Window, named
from optr.connectors.desktop.x11 import X11, Question, property_numbers, property_words
from optr.errors import DesktopError

_PROPERTIES = ("_GTK_FRAME_EXTENTS", "WM_CLASS", "_NET_WM_NAME", "WM_NAME", "_NET_WM_PID")
_ASKED = 4 + len(_PROPERTIES)


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
        with self._x.lock:
            tops = {t: c for c, t in self._tops(self._x.numbers(self._x.root, "_NET_CLIENT_LIST_STACKING")).items()}
            stack = [int(w.id) for w in self._x.root.query_tree().children]
            shown = self._seen(stack, tops, self._focused())
        shown.sort(key=lambda w: w.visible)
        return tuple(replace(w, layer=layer) for layer, w in enumerate(shown))

    def at(self, x: float, y: float) -> Window | None:
        """The window that a click at a pixel goes to; None: the background."""
        with self._x.lock:
            top = self._x.root.translate_coords(self._x.root, int(x), int(y)).child
            number = int(top.id) if top else 0
            tops = self._tops(self._x.numbers(self._x.root, "_NET_CLIENT_LIST_STACKING"))
        wanted = next((client for client, top in tops.items() if top == number), number)
        return next((w for w in self.all() if w.id == wanted), None)

    def focused(self) -> Window | None:
        """The window that has the keyboard; None: none has."""
        return next((w for w in self.all() if w.focused), None)

    def matching(self, text: str) -> tuple[Window, ...]:
        """Windows that a text names, as `seen.named` says."""
        return named(self.all(), text)

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

    def _tops(self, numbers: Sequence[int]) -> dict[int, int]:
        """The children of the root that windows are in: their frames."""
        tops = dict(zip(numbers, numbers, strict=True))
        climbing = list(numbers)
        while climbing:
            answers = self._x.ask_all([("QueryTree", {"window": tops[n]}) for n in climbing])
            up = [(n, int(t.parent.id)) for n, t in zip(climbing, answers, strict=True) if t and t.parent]
            up = [(n, parent) for n, parent in up if parent != self._x.root.id]
            tops.update(up)
            climbing = [n for n, _ in up]
        return tops

    def _focused(self) -> int:
        """The window that the keys go to: what X says, as the window manager's word comes earlier."""
        from Xlib.error import XError

        holder = self._x.display.get_input_focus().focus
        if isinstance(holder, int):  # nothing, or whatever the pointer is on
            return 0
        clients = set(self._x.numbers(self._x.root, "_NET_CLIENT_LIST"))
        top = 0
        with suppress(XError):
            while holder and holder.id not in clients and holder.id != self._x.root.id:
                top, holder = int(holder.id), holder.query_tree().parent
            if not clients:  # nobody manages windows: it is the child of the root, if not the root itself
                return top
            return int(holder.id) if holder and holder.id in clients else 0
        return 0

    def _seen(self, stack: Sequence[int], tops: Mapping[int, int], focused: int) -> list[Window]:
        """Of the children of the root those that anybody sees, and all that the window manager manages."""
        from Xlib import X

        attributes = self._x.ask_all([("GetWindowAttributes", {"window": top}) for top in stack])
        mapped = {t: a.map_state == X.IsViewable for t, a in zip(stack, attributes, strict=True) if a}
        solid = {t for t, a in zip(stack, attributes, strict=True) if a and a.win_class == X.InputOutput}
        kept = [t for t in mapped if t in tops or (mapped[t] and t in solid)]
        answers = self._x.ask_all([q for t in kept for q in self._questions(t, tops.get(t, t))])
        found = []
        for number, top in enumerate(kept):
            told = answers[_ASKED * number : _ASKED * (number + 1)]
            if all(told):  # else it has gone meanwhile
                found.append(_window(top, tops.get(top), told, focused, mapped[top]))
        screen = self._x.display.screen()
        return [w for w in found if w.id in tops.values() or _on_screen(w.outer, screen)]

    def _questions(self, top: int, number: int) -> list[Question]:
        root = self._x.root.id
        places = [
            question
            for window in (top, number)
            for question in (
                ("GetGeometry", {"drawable": window}),
                ("TranslateCoords", {"src_wid": window, "dst_wid": root, "src_x": 0, "src_y": 0}),
            )
        ]
        return [*places, *(self._x.property_question(number, name) for name in _PROPERTIES)]


def _window(top: int, client: int | None, told: Sequence[Any], focused: int, mapped: bool) -> Window:
    """A child of the root as a window, out of what was asked about it and the window in it."""
    outer, inner = _rect(*told[0:2]), _rect(*told[2:4])
    extents, name, title, old_title, pid = told[4:]
    rect, outer = _without_shadow(inner, outer, property_numbers(extents))
    names = (*property_words(name), "", "")
    titles = property_words(title) or property_words(old_title) or ("",)
    number = client or top
    known = (number, titles[0], (names[1], names[0]), (*property_numbers(pid), 0)[0], rect, outer)
    return Window(*known, number == focused, 0, mapped, top, inner, client is not None)


def _without_shadow(inner: Rect, outer: Rect, extents: Sequence[int]) -> tuple[Rect, Rect]:
    """Some windows have a shadow around them that they do not count as theirs."""
    if len(extents) != 4 or not any(extents):
        return inner, outer
    left, right, top, bottom = extents
    rect = Rect(inner.x + left, inner.y + top, inner.width - left - right, inner.height - top - bottom)
    return rect, rect


def _rect(shape: Any, place: Any) -> Rect:
    return Rect(int(place.x), int(place.y), int(shape.width), int(shape.height))


def _answers(event: Any, ping: int, stamp: int) -> bool:
    data = getattr(event, "data", None)
    return bool(data) and isinstance(data, tuple) and data[0] == 32 and list(data[1][:2]) == [ping, stamp]


def _on_screen(rect: Rect, screen: Any) -> bool:
    return overlap(rect, Rect(0, 0, screen.width_in_pixels, screen.height_in_pixels)) is not None
