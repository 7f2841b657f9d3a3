"""Input of pointer and keyboard as the X server gets it, and whose it is: ours, another program's, or a person's.

The server tells (XRecord) in one stream which client asks for an input (XTEST) and which inputs come, in the order of
things: an input is somebody's if the request for it comes right before it. Nothing is guessed by times.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optr.connectors.desktop.keys import KEYS, UNICODE, is_modifier
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError

if TYPE_CHECKING:
    from optr.connectors.desktop.tree import Tree

EVENTS = ("motion", "button_down", "button_up", "key_down", "key_up")
"""Kinds of events, in the order of the numbers of `optr_interfaces/DesktopInput`."""

BUTTON_NAMES = {
    1: "left", 2: "middle", 3: "right", 4: "scroll_up", 5: "scroll_down", 6: "scroll_left", 7: "scroll_right",
    8: "back", 9: "forward",
}  # fmt: skip

_REST_S = 0.03
"""How long a pointer rests until it is looked what is under it [s]: at a press it may be gone already."""
_MOST_WAITING = 64
"""Events that may wait to be looked at; where there are more, elements are not looked for."""
_FOCUS_S = 0.5
"""How long it is believed which element has the keyboard [s], if nobody clicked or pressed Tab or Enter."""
_CORE = {6: "motion", 4: "button_down", 5: "button_up", 2: "key_down", 3: "key_up"}
"""Events by their numbers in X."""
_MOTION_NS = 10_000_000
_LEVELS = frozenset(
    {"shift", "shift_l", "shift_r", "caps_lock", "capslock", "shift_lock", "altgr", "iso_level3_shift", "level3"}
)
"""Keys that choose which character another one types: in a password they tell as much as that."""
_MOVES_FOCUS = frozenset({"tab", "iso_left_tab", "enter", "escape", "kp_enter"})


@dataclass(frozen=True)
class InputEvent:
    """An event of pointer or keyboard.

    Attributes:
        event: One of `EVENTS`.
        stamp_ns: When it happened [ns of the steady clock].
        name: Of the button (`left`, `scroll_up`, ...) or key (`a`, `enter`, ...); empty: it is kept secret.
        text: What the key types; empty: nothing, or it is kept secret.
        x: Where the pointer was [px].
        y: Where the pointer was [px].
        window: Under the pointer; for keys the one that has the keyboard; 0: none, or not looked at.
        injected: Whether it is ours.
        device: `XTEST` if a program asked for it, else `device`.
        element: What is there at a press of a button; at a press of a key what gets it.
    """

    event: str
    stamp_ns: int
    name: str = ""
    text: str = ""
    x: int = 0
    y: int = 0
    window: int = 0
    injected: bool = False
    device: str = ""
    element: Element | None = None


class HumanInput:
    """Owns two connections that listen, and two threads: one takes what comes, the other looks what it meets.

    Attributes:
        foreign: Presses that were not ours.
    """

    def __init__(
        self,
        display: str,
        told: Callable[[InputEvent], object],
        *,
        windows: Callable[[], Sequence[Window]] = tuple,
        tree: Tree | None = None,
        ours: Collection[int] = (),
        unknown_keys: bool = False,
    ) -> None:
        """Begin to listen.

        Args:
            display: Its name.
            told: Called for each event, in a thread, in order; some tenths of a second late where things are looked at.
            windows: Tells the windows of now.
            tree: Tells what is under the pointer, and what has the keyboard.
            ours: Numbers of the clients whose input is ours (`Hand.clients`).
            unknown_keys: Whether keys are told although nobody knows which element gets them; else they are kept
                secret, for it may be a password.

        Raises:
            DesktopError: If the display cannot be reached, or does not tell of input.
        """
        self.foreign = 0
        self._told = told
        self._ours = frozenset(ours)
        self._looks = _Looks(windows, tree)
        self._unknown_keys = unknown_keys
        self._kept: set[str] = set()
        self._waiting: queue.SimpleQueue[tuple[InputEvent, int] | None] = queue.SimpleQueue()
        self._moves = 0
        self._x = X11(display)
        self._stream: X11 | None = None
        try:
            if not self._x.display.has_extension("RECORD"):
                raise DesktopError(f"the X server of {display} has no RECORD extension, so nobody tells of input")
            self._xtest = _major(self._x, "XTEST")
            self._stream = X11(display)
            self._context = self._begin()
        except BaseException:
            self._close_connections()
            raise
        self._asked: _Asked | None = None
        self._ready = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"optr-{name}{display}", daemon=True)
            for name, work in (("input", self._listen), ("input-looks", self._look))
        ]
        for thread in self._threads:
            thread.start()
        if not self._ready.wait(10.0):
            self.close()
            raise DesktopError(f"the X server of {display} does not begin to tell of input")

    def close(self) -> None:
        """Listen no longer; what has come is told before."""
        with suppress(Exception), self._x.lock:  # the display may be gone
            self._x.display.record_disable_context(self._context)
            self._x.display.sync()
        self._threads[0].join(10.0)
        self._waiting.put(None)
        self._threads[1].join(30.0)
        self._close_connections()

    # The one who takes what comes

    def _begin(self) -> int:
        from Xlib import X
        from Xlib.ext import record

        assert self._stream is not None
        nothing: dict[str, Any] = {"core_requests": (0, 0), "core_replies": (0, 0), "ext_replies": (0, 0, 0, 0)}
        nothing |= {"delivered_events": (0, 0), "errors": (0, 0), "client_started": False, "client_died": False}
        asked = (self._xtest, self._xtest, _FAKE_INPUT, _FAKE_INPUT) if self._xtest else (0, 0, 0, 0)
        ranges = [{**nothing, "ext_requests": asked, "device_events": (X.KeyPress, X.MotionNotify)}]
        context = self._x.display.record_create_context(0, [record.AllClients], ranges)
        self._x.display.sync()
        return int(context)

    def _listen(self) -> None:
        assert self._stream is not None
        with suppress(Exception):  # the display is gone: whoever acts on it is told
            self._stream.display.record_enable_context(self._context, self._heard)
        self._ready.set()

    def _heard(self, reply: Any) -> None:
        from Xlib.ext import record

        if reply.category == record.StartOfData:
            self._ready.set()
        elif reply.category == record.FromClient and not reply.client_swapped:
            for asked in _requests(reply.data, self._xtest):
                self._asked = replace(asked, client=int(reply.id_base))
        elif reply.category == record.FromServer:
            for place in range(0, len(reply.data) - 31, 32):
                self._came(reply.data[place : place + 32])

    def _came(self, data: bytes) -> None:
        number, detail, _, stamp_ms = struct.unpack_from("=BBHI", data)
        x, y = struct.unpack_from("=hh", data, 20)
        (state,) = struct.unpack_from("=H", data, 28)
        number &= 0x7F
        event = _CORE.get(number)
        if event is None:
            return
        asked, self._asked = self._asked, None
        known = asked is not None and asked.fits(number, detail, (x, y))
        injected = known and asked is not None and asked.client in self._ours
        name, text = (BUTTON_NAMES.get(detail, f"button{detail}"), "") if "button" in event else ("", "")
        if "key" in event:
            name, text = ("", "") if injected else self._key(detail, state)
        made = InputEvent(
            event, _steady(stamp_ms), name, text if event == "key_down" else "", x, y, 0, injected,
            "XTEST" if known else "device",
        )  # fmt: skip
        if not injected and event in ("button_down", "key_down"):
            self.foreign += 1
        if event == "button_down" or name in _MOVES_FOCUS or (injected and event == "key_down"):
            self._moves += 1
        self._waiting.put((made, self._moves))

    def _key(self, code: int, state: int) -> tuple[str, str]:
        """Name of a key, and what it types; asked anew, since keys are lent to characters that are on none."""
        with self._x.lock:
            found = self._x.display.get_keyboard_mapping(code, 1)
        return key_of(list(found[0]) if found else [], state)

    # The one who looks

    def _look(self) -> None:
        last: InputEvent | None = None
        moved_ns = 0
        while True:
            try:
                got = self._waiting.get(timeout=_REST_S)
            except queue.Empty:
                if last is not None and not last.injected:
                    self._looks.rest((last.x, last.y))
                last = None
                continue
            if got is None:
                return
            event, moves = got
            if event.event == "motion":
                last = event
                if event.stamp_ns - moved_ns < _MOTION_NS:
                    continue
                moved_ns = event.stamp_ns
            bare = event.injected or event.event == "motion"
            for one in (event,) if bare else self._met(event, moves):
                with suppress(Exception):  # whoever listens has trouble of its own; what comes next is told too
                    self._told(one)

    def _met(self, event: InputEvent, moves: int) -> tuple[InputEvent, ...]:
        """What is told of an event of somebody else: with its window and element, and nothing of a password.

        Shift and its like are not told of while their keys may go into a password; only what types nothing, as Tab
        or a click, has them right around it.
        """
        busy = self._waiting.qsize() > _MOST_WAITING
        if event.event == "button_down" and not event.name.startswith("scroll"):
            window, element = self._looks.pressed((event.x, event.y), busy)
            return self._with_levels(replace(event, window=window, element=element))
        if event.event.startswith("button"):
            return self._with_levels(replace(event, window=self._looks.window_at((event.x, event.y))))
        window, element = self._looks.keyboard(moves, lambda: self._moves, busy)
        event = replace(event, window=window, element=element if event.event == "key_down" else None)
        hidden = "password" in element.states if element is not None else not self._unknown_keys
        if event.name in _LEVELS and self._is_kept(event, hidden):
            return ()
        types = bool(event.text) if event.event == "key_down" else len(event.name) == 1 or event.name == "space"
        if hidden and types:
            return (replace(event, name="", text=""),)
        return (event,) if event.event == "key_up" or is_modifier(event.name) else self._with_levels(event)

    def _is_kept(self, event: InputEvent, hidden: bool) -> bool:
        """Whether a key such as Shift is kept secret; its release is if its press was."""
        if event.event == "key_down" and hidden:
            self._kept.add(event.name)
            return True
        kept = event.event == "key_up" and event.name in self._kept
        self._kept -= {event.name} if kept else set()
        return kept

    def _with_levels(self, event: InputEvent) -> tuple[InputEvent, ...]:
        """An event between those of the keys that are held and were not told of."""
        bare = replace(event, text="", element=None)
        before = [replace(bare, event="key_down", name=name) for name in sorted(self._kept)]
        return (*before, event, *(replace(e, event="key_up") for e in reversed(before)))

    def _close_connections(self) -> None:
        for connection in (self._stream, self._x):
            if connection is not None:
                with suppress(Exception):  # the display may be gone
                    connection.close()


class _Looks:
    """What is under the pointer, and what has the keyboard; used by one thread."""

    def __init__(self, windows: Callable[[], Sequence[Window]], tree: Tree | None) -> None:
        self._windows = windows
        self._tree = tree
        self._rest: tuple[tuple[int, int], int, Element | None] | None = None
        self._focus: tuple[int, float, int, Element | None] | None = None
        self._clicked: tuple[int, Element | None] = (0, None)

    def rest(self, pixel: tuple[int, int]) -> None:
        """Remember what is under a pointer that rests."""
        window = self._top(pixel)
        self._rest = (pixel, window.id if window else 0, self._element(pixel, window))

    def pressed(self, pixel: tuple[int, int], busy: bool) -> tuple[int, Element | None]:
        """Window and element at a press: as they were before it, if the pointer rested there."""
        self._focus = None
        if self._rest is not None and self._rest[0] == pixel:
            found = self._rest[1:]
        else:
            window = self._top(pixel)
            found = (window.id if window else 0, None if busy else self._element(pixel, window))
        self._rest = None
        self._clicked = found
        return found

    def window_at(self, pixel: tuple[int, int]) -> int:
        """Id of the window under a pixel; 0: none."""
        window = self._top(pixel)
        return window.id if window else 0

    def keyboard(self, moves: int, moves_now: Callable[[], int], busy: bool) -> tuple[int, Element | None]:
        """Window and element that get keys.

        Args:
            moves: How often the keyboard may have gone elsewhere before this key came.
            moves_now: The same for now: what is seen now may not be what got the key.
            busy: Whether there is no time to look.
        """
        known = self._focus
        if known is not None and known[0] == moves and time.monotonic() - known[1] < _FOCUS_S:
            return known[2:]
        window = self._focused()
        element = None
        if window is not None and self._tree is not None and not busy:
            with suppress(DesktopError):
                element = self._tree.focused(window)
        if moves_now() != moves:  # too late: what was clicked last is the best that is known
            return self._clicked if self._clicked[1] is not None else (window.id if window else 0, None)
        self._focus = (moves, time.monotonic(), window.id if window else 0, element)
        return self._focus[2:]

    def _focused(self) -> Window | None:
        with suppress(DesktopError):
            return next((w for w in self._windows() if w.focused), None)
        return None

    def _top(self, pixel: tuple[int, int]) -> Window | None:
        with suppress(DesktopError):
            here = (w for w in self._windows() if w.visible and w.outer.holds(*pixel))
            return max(here, key=lambda w: w.layer, default=None)
        return None

    def _element(self, pixel: tuple[int, int], window: Window | None) -> Element | None:
        if self._tree is None or window is None:
            return None
        with suppress(DesktopError):
            return self._tree.at(pixel, window)
        return None


_RELATIVE = 1
_FAKE_INPUT = 2
"""Number of the request by which a program gives input (XTEST)."""


@dataclass(frozen=True)
class _Asked:
    """A program asks for an input."""

    number: int
    detail: int
    place: tuple[int, int]
    client: int = 0

    def fits(self, number: int, detail: int, place: tuple[int, int]) -> bool:
        """Whether an input is what was asked for. A motion to where the pointer was already makes none."""
        if _CORE[number] == "motion":
            return number == self.number and (self.detail == _RELATIVE or place == self.place)
        return number == self.number and detail == self.detail


def _major(connection: X11, extension: str) -> int:
    """Number of an extension in requests; 0: there is none."""
    found = connection.display.query_extension(extension)
    return int(found.major_opcode) if found is not None else 0


def _requests(data: bytes, major: int) -> list[_Asked]:
    """The requests for input in what a client has sent."""
    found, at = [], 0
    while at + 8 <= len(data):
        code, minor, length = struct.unpack_from("=BBH", data, at)
        if code == major and minor == _FAKE_INPUT and len(data) >= at + 28:
            found.append(_Asked(data[at + 4] & 0x7F, data[at + 5], struct.unpack_from("=hh", data, at + 24)))
        if not length:  # longer than any request for input
            break
        at += 4 * length
    return found


def _steady(stamp_ms: int) -> int:
    """Time of the X server, which on Linux counts the steady clock in 32 bits [ms], as nanoseconds of that clock."""
    now_ns = time.monotonic_ns()
    behind_ms = (now_ns // 1_000_000 - stamp_ms) & 0xFFFFFFFF
    if behind_ms >= 1 << 31:  # a millisecond ahead, by rounding
        behind_ms -= 1 << 32
    if not -1000 < behind_ms < 60_000:  # it counts another clock
        return now_ns
    return (now_ns // 1_000_000 - behind_ms) * 1_000_000


_NAMES: dict[int, str] = {}
for _name, _keysym in KEYS.items():
    _NAMES.setdefault(_keysym, _name)
_NAMES |= {KEYS["enter"]: "enter", KEYS["escape"]: "escape", KEYS["page_up"]: "page_up", KEYS["iso_left_tab"]: "tab"}
_NAMES |= {KEYS["page_down"]: "page_down", KEYS["kp_enter"]: "enter"}


def key_of(keysyms: Sequence[int], state: int) -> tuple[str, str]:
    """Name of a key, and the text that it types, by its keysyms and the modifiers that are down.

    Args:
        keysyms: Of the key, in the order of the core protocol: two for each of two groups, then two of a third level.
        state: Modifiers, as in an event of X.
    """
    shift, caps, group, level3 = state & 1, state & 2, (state >> 13) & 1, state & 0x80
    first = 4 if level3 else 2 * group
    pair = (*keysyms[first : first + 2], 0, 0)[:2]
    if not any(pair):
        pair = (*keysyms[:2], 0, 0)[:2]
    chosen = pair[1] if shift and pair[1] else pair[0]
    if 0xFF80 <= pair[0] <= 0xFFBD and state & 0x10 and pair[1] and not shift:  # Num Lock, and a key of the pad
        chosen = pair[1]
    char = _char(chosen)
    if char and caps and char.isalpha():
        char = char.lower() if shift else char.upper()
    held = state & 0x4C  # ctrl, alt or super: a key for a command types nothing
    name = _NAMES.get(chosen, "") if not char or char == " " else char
    return ("space" if char == " " else name or char or f"0x{chosen:x}", "" if held else char)


def _char(keysym: int) -> str:
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF:
        return chr(keysym)
    if UNICODE < keysym <= UNICODE + 0x10FFFF:
        return chr(keysym - UNICODE)
    pad = {0xFFAA: "*", 0xFFAB: "+", 0xFFAD: "-", 0xFFAE: ".", 0xFFAF: "/", 0x20AC: "€"}
    return str(keysym - 0xFFB0) if 0xFFB0 <= keysym <= 0xFFB9 else pad.get(keysym, "")
