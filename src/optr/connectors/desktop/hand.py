"""Pointer and keys of one display, through PyAutoGUI, in one thread; and how they are let go at once.

PyAutoGUI stops with its fail-safe when the pointer is in a corner of the screen, and leaves buttons and keys pressed.
Here they are released then, and nothing is pressed until somebody says `rearm`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from optr.connectors.desktop.chords import key_of
from optr.connectors.desktop.footing import Footing
from optr.connectors.desktop.keymap import Keymap, Stroke
from optr.connectors.desktop.keys import KEYS, keysym, text_keysyms
from optr.connectors.desktop.let_go import shielded
from optr.connectors.desktop.manager_turn import ManagerTurn
from optr.connectors.desktop.pyautogui_copy import load_pyautogui
from optr.connectors.desktop.rects import between
from optr.connectors.desktop.x11 import X11, is_gone
from optr.errors import DesktopError

_T = TypeVar("_T")
_NUMBERS = {"left": 1, "middle": 2, "right": 3, "back": 8, "forward": 9}
_WATCH_S = 0.05
"""How often it is looked whether the pointer is in a corner while nothing else is done [s]."""
_DRAG_STEP_S = 0.01
_SHIFT, _CAPS = KEYS["shift"], KEYS["caps_lock"]

Pixel = tuple[int, int]
_Wrong = Callable[[Footing, Any], str]


class StoppedError(DesktopError):
    """Input was stopped half-way, and everything was released.

    Attributes:
        code: `FAIL_SAFE`, `CANCELLED`, `CLOSED`, `OBSERVATION_STALE`, or of whoever allowed it no more.
    """

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


@dataclass(frozen=True)
class Pace:
    """How quick a hand is.

    Attributes:
        hold_s: How long a button or a key is down [s]; shorter clicks get lost under load.
        gap_s: From one press or release to the next press [s].
        text_s: For each character of a text [s].
    """

    hold_s: float = 0.02
    gap_s: float = 0.02
    text_s: float = 0.004


@dataclass(frozen=True, eq=False)
class _Job:
    what: Callable[[], Any]
    cancelled: threading.Event
    done: Future[Any] = field(default_factory=Future)


class Hand:
    """Owns pointer and keys of one display. Any thread may call; one works, one call after the other.

    Attributes:
        size: Of the screen [px].
        input_ns: When the last input was given [ns of the steady clock]; 0: there was none.
        stopped: Why nothing is pressed any more; empty: it is.
        footing: What every press, turn and move rests on, looked at in the moment that it is given; None: nothing.

    Raises:
        DesktopError: If the display cannot be reached, or PyAutoGUI is not installed.
    """

    def __init__(self, display: str, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self._x = X11(display)
        self.input_ns = self._pressed_ns = 0
        self.stopped = ""
        self.footing: Footing | None = None
        self._pressed_on: dict[int, Pixel | None] = {}
        self._held_buttons: set[str] = set()
        self._held_codes: set[int] = set()
        self._repeats = self._x.display.get_keyboard_control().auto_repeats
        self._giving = threading.RLock()
        self._cancelled = threading.Event()
        self._asked: set[threading.Event] = set()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        try:
            self._keymap = Keymap(self._x)
            self._gui = load_pyautogui(display)
            self._manager = ManagerTurn(display, self._gui.platformModule._display)
        except BaseException:
            self._x.close()
            raise
        self.size: Pixel = tuple(self._gui.size())
        self._worker = threading.Thread(target=self._work, name=f"optr-hand{display}", daemon=True)
        self._worker.start()

    @property
    def clients(self) -> frozenset[int]:
        """Numbers by which the X server knows who gives its input: it is told from that of people by them."""
        ours = (self._x.display, self._gui.platformModule._display)
        return frozenset(int(d.display.info.resource_id_base) for d in ours)

    # What can be done. Each returns when it is done, or raises StoppedError with everything released.

    def position(self) -> Pixel:
        """Where the pointer is [px]."""
        with self._x.lock:
            found = self._x.root.query_pointer()
        return int(found.root_x), int(found.root_y)

    def move(self, to: Pixel) -> None:
        """Bring the pointer to a pixel at once."""
        self._do(lambda: self._move(to))

    def click(self, at: Pixel | None, button: str = "left", count: int = 1, modifiers: Sequence[str] = ()) -> None:
        """Press and release a button `count` times."""

        def job() -> None:
            with self._keys_held(modifiers):
                for _ in range(count):
                    self._press(at, button)
                    self._wait(self.pace.hold_s)
                    self._release(button)

        self._do(job)

    def press(self, at: Pixel | None, button: str = "left") -> None:
        """Press a button, and keep it down."""
        self._do(lambda: self._press(at, button))

    def release(self, at: Pixel | None, button: str = "left") -> None:
        """Release a button, after the pointer was brought to a pixel."""

        def job() -> None:
            if at is not None:
                self._move(at)
                self._wait(self.pace.gap_s)
            self._release(button)

        self._do(job)

    def drag(
        self, path: Sequence[Pixel], button: str = "left", modifiers: Sequence[str] = (), seconds: float = 0.4
    ) -> None:
        """Press at the first pixel, move along the others in `seconds`, release at the last."""

        def job() -> None:
            with self._keys_held(modifiers):
                self._press(path[0], button)
                self._wait(self.pace.hold_s)
                for place in _steps(path, max(2, round(seconds / _DRAG_STEP_S))):
                    self._move(place, on_the_way=place not in path)
                    self._wait(_DRAG_STEP_S)
                self._wait(self.pace.hold_s)
                self._release(button)

        self._do(job)

    def scroll(self, at: Pixel | None, dx: int = 0, dy: int = 0) -> None:
        """Turn the wheel notch by notch: down and to the right where positive."""

        def job() -> None:
            if at is not None:
                self._move(at)
            for turn, notches in ((self._gui.vscroll, -dy), (self._gui.hscroll, dx)):
                self._turn(turn, notches)

        self._do(job)

    def key_down(self, key: str) -> None:
        """Press a key, and keep it down; it is pressed once, however long.

        X would press it again and again, in whichever window has the keyboard by then.
        """
        wanted = keysym(key)

        def job() -> None:
            *shift, stroke = self._strokes([wanted])
            for one in (*shift, stroke):
                self._press_key(one)
            for one in shift:
                self._release_key(one)

        self._do(job)

    def key_up(self, key: str) -> None:
        """Release a key."""
        wanted = keysym(key)

        self._do(lambda: self._release_key(self._strokes([wanted])[-1]))

    def hotkey(self, keys: Sequence[str], count: int = 1) -> None:
        """Press keys one after the other, release them in the opposite order; `count` times."""
        wanted = [keysym(key) for key in keys]

        def job() -> None:
            strokes = self._strokes(wanted)
            for _ in range(count):
                for stroke in strokes:
                    self._pace()
                    self._press_key(stroke)
                self._wait(self.pace.hold_s)
                for stroke in reversed(strokes):
                    self._release_key(stroke)

        self._do(job)

    def type(self, text: str, drained: Callable[[], None] | None = None) -> None:
        r"""Type a text.

        Characters that are on no key are lent one that is not used. When there are more than such keys, some are
        taken back, which may only happen when whoever is typed to has read what was typed before.

        Args:
            text: Any Unicode but control characters; `\n` is the Enter key and `\t` the Tab key.
            drained: Returns when what was typed has been read; None: a tenth of a second.

        Raises:
            DesktopError: If a character cannot be typed; nothing was typed then.
        """
        wanted = text_keysyms(text)
        wait_read = drained or (lambda: self._wait(0.1))
        self._do(lambda: self._type(wanted, wait_read))

    def forget_text(self) -> None:
        """Take back the keys that were lent to characters."""
        self._do(self._keymap.take_back)

    @property
    def held_buttons(self) -> tuple[str, ...]:
        """Buttons that are kept down, by name."""
        return tuple(sorted(self._held_buttons))

    @property
    def held_keys(self) -> tuple[str, ...]:
        """Keys that are down, by name; while a text is typed that is the text."""
        return tuple(sorted(key_of(self._x.display.keycode_to_keysym(c, 0)) for c in tuple(self._held_codes)))

    # Stopping; from any thread, at any time.

    def cancel(self) -> None:
        """Stop what is being done and what is waiting to be, and release everything."""
        for cancelled in tuple(self._asked):
            cancelled.set()
        self.release_all()

    def release_all(self, here: bool = False) -> None:
        """Release every button and key that is down, at once, whatever PyAutoGUI says.

        Args:
            here: Whether buttons are released where the pointer is; else where their place was judged last.
        """
        with self._giving, self._x.lock:
            from Xlib import X
            from Xlib.ext.xtest import fake_input

            mask = int(self._x.root.query_pointer().mask)
            buttons = {n for n in range(1, 6) if mask >> (7 + n) & 1} | {_NUMBERS[b] for b in self._held_buttons}
            pressed = self._x.display.query_keymap()
            codes = {8 * i + bit for i, byte in enumerate(pressed) for bit in range(8) if byte >> bit & 1}
            with shielded(self._x, _here if here or not buttons else self._gone_along):
                for button in buttons:
                    fake_input(self._x.display, X.ButtonRelease, button)
                for code in codes | self._held_codes:
                    fake_input(self._x.display, X.KeyRelease, code)
                    self._repeat(self._x.display, code, True)
            self._held_buttons.clear()
            self._held_codes.clear()
            self._pressed_on.clear()

    def _take_back(self, buttons: Collection[str], codes: Collection[int]) -> None:
        """Release what an input pressed that was not finished. What was down before stays so."""
        from Xlib import X
        from Xlib.ext.xtest import fake_input

        if not buttons and not codes:
            return
        with self._giving, self._x.lock, shielded(self._x, self._gone_along if buttons else _here):
            for button in buttons:
                fake_input(self._x.display, X.ButtonRelease, _NUMBERS[button])
            for code in codes:
                fake_input(self._x.display, X.KeyRelease, code)
                self._repeat(self._x.display, code, True)
            self._held_buttons -= set(buttons)
            self._held_codes -= set(codes)
            if not self._held_buttons:
                self._pressed_on.clear()

    def _gone_along(self, at: Pixel) -> Pixel:
        """Where the place is now that was judged last in the window on which a button is down: it may have moved.

        Released there, the button is released at no place in that window that nobody has judged.
        """
        from Xlib.error import XError

        if len(self._pressed_on) != 1:  # of several nobody knows which is told
            return at
        ((number, place),) = self._pressed_on.items()
        if place is None:
            return at
        try:
            corner = self._x.root.translate_coords(self._x.window(number), 0, 0)
        except XError:
            return at
        to = int(corner.x) + place[0], int(corner.y) + place[1]
        inside = all(0 < there < size - 1 for there, size in zip(to, self.size, strict=True))
        return to if inside else at

    def rearm(self) -> None:
        """Allow input again after the fail-safe.

        Raises:
            StoppedError: If the pointer is still in a corner.
        """

        def job() -> None:
            self.stopped = ""
            self._check_corner()

        self._do(job)

    def close(self) -> None:
        """Release everything, give the keyboard back as it was, and end."""
        if not self._worker.is_alive():
            return
        with suppress(DesktopError):  # the display may be gone
            self.cancel()
        self._jobs.put(None)
        self._worker.join()
        last = (
            self.release_all,
            self._keymap.take_back,
            self._gui.platformModule._display.close,
            self._manager.close,
            self._x.close,
        )
        for one in last:
            with suppress(Exception):
                one()

    # Below: in the worker.

    def _do(self, job: Callable[[], _T]) -> _T:
        if not self._worker.is_alive():
            raise StoppedError("CLOSED", "this hand is closed")
        order = _Job(job, threading.Event())
        self._asked.add(order.cancelled)
        try:
            self._jobs.put(order)
            result: _T = order.done.result()
            return result
        finally:
            self._asked.discard(order.cancelled)

    def _work(self) -> None:
        while True:
            try:
                order = self._jobs.get(timeout=_WATCH_S)
            except queue.Empty:
                with suppress(Exception):  # told by `stopped`, and by the next call
                    self._check_corner()
                continue
            if order is None:
                return
            self._cancelled = order.cancelled
            buttons, codes = frozenset(self._held_buttons), frozenset(self._held_codes)
            try:
                order.done.set_result(order.what())
            except BaseException as err:  # belongs to whoever asked
                with suppress(Exception):
                    if isinstance(err, StoppedError) and err.code == "OBSERVATION_STALE":
                        self._take_back(self._held_buttons - buttons, self._held_codes - codes)
                    else:
                        self.release_all()
                order.done.set_exception(self._understood(err))

    def _understood(self, err: BaseException) -> BaseException:
        if is_gone(err):
            return DesktopError(f"the display {self._x.name} is gone: {err}")
        return err

    def _check_corner(self) -> None:
        """PyAutoGUI's own fail-safe, and what it leaves undone."""
        if self.stopped:
            return
        try:
            self._gui.failSafeCheck()
        except self._gui.FailSafeException:
            self._fail_safe()

    def _fail_safe(self) -> None:
        self.stopped = "FAIL_SAFE"
        self.release_all(here=True)
        raise self._refusal()

    def _refusal(self) -> StoppedError:
        text = "the pointer was put into a corner of the screen: all is released, nothing is pressed until rearm"
        return StoppedError("FAIL_SAFE", text)

    def _give(self, put: Callable[[], Any], wrong: _Wrong | None = None, press: bool = True) -> None:
        """One input; between the look whether to go on and the input itself nobody can cancel.

        Args:
            put: The input.
            wrong: Says what it rests on and is not so any more.
            press: Whether it is one that the next one keeps a distance from.
        """
        with self._giving:
            if self._cancelled.is_set():
                raise StoppedError("CANCELLED", "cancelled; everything was released")
            if self.stopped:
                raise self._refusal()
            try:
                self._put(put, wrong)
            except self._gui.FailSafeException:
                self._fail_safe()
            self.input_ns = time.monotonic_ns()
            if press:
                self._pressed_ns = self.input_ns

    def _put(self, put: Callable[[], Any], wrong: _Wrong | None) -> None:
        """Nothing else happens in the X server between the look at what an input rests on and the input."""
        if self.footing is None or wrong is None:
            put()
            return
        display = self._gui.platformModule._display
        display.grab_server()
        try:
            if any(self.footing.is_lost(display, number) for number in self._pressed_on):
                raise StoppedError(
                    "CANCELLED", "the window on which a button was pressed is gone: everything was released"
                )
            if said := wrong(self.footing, display):
                raise StoppedError("OBSERVATION_STALE", said)
            put()
        finally:
            display.ungrab_server()
            display.flush()

    def _wait(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise StoppedError("CANCELLED", "cancelled; everything was released")

    def _pace(self) -> None:
        left = self.pace.gap_s - (time.monotonic_ns() - self._pressed_ns) * 1e-9
        if left > 0:
            self._wait(left)

    def _move(self, to: Pixel, on_the_way: bool = False) -> None:
        def wrong(footing: Footing, display: Any) -> str:
            here = footing.wrong_on_the_way(display, to) if on_the_way else footing.wrong_at(display, to)
            return here or self._pressed_elsewhere(footing, display)

        def put() -> None:
            self._gui.moveTo(*to, _pause=False)
            self._was_judged(to)

        self._give(put, wrong, press=False)

    def _was_judged(self, pixel: Pixel) -> None:
        """Keep where in the windows on which buttons are down the pointer is, as it was judged."""
        for number in self._pressed_on:
            self._pressed_on[number] = self.footing.place_in(number, pixel) if self.footing is not None else None

    def _pressed_elsewhere(self, footing: Footing, display: Any) -> str:
        """About the windows on which the buttons were pressed that are down.

        The first of them is told whatever the pointer does, or the next one if that has let go of it.
        """
        return next(filter(None, (footing.wrong_place(display, number) for number in self._pressed_on)), "")

    def _press(self, at: Pixel | None, button: str) -> None:
        if at is not None and at != self.position():
            self._move(at)
        self._pace()
        with self._manager.watched():
            self._press_watched(at or self.position(), button)

    def _press_watched(self, at: Pixel, button: str) -> None:
        x, y = at
        if self.footing is not None and not self._manager.done():
            raise StoppedError(
                "OBSERVATION_STALE", "the window manager does not say that it has done what it was asked"
            )

        def put() -> None:
            self._gui.failSafeCheck()
            self._held_buttons.add(button)
            self._gui.platformModule._mouseDown(x, y, button)
            there = self.footing.pixels.get((x, y), 0) if self.footing is not None else 0
            if there:
                self._pressed_on.setdefault(there, None)
            self._was_judged((x, y))

        def wrong(footing: Footing, display: Any) -> str:
            asked = "a window was to be moved or raised meanwhile" if self._manager.asked_again() else ""
            return footing.wrong_at(display) or asked

        self._give(put, wrong)

    def _release(self, button: str) -> None:
        x, y = self.position()

        def wrong(footing: Footing, display: Any) -> str:
            return footing.wrong_at(display) or self._pressed_elsewhere(footing, display)

        def put() -> None:
            self._gui.failSafeCheck()
            self._gui.platformModule._mouseUp(x, y, button)
            self._held_buttons.discard(button)

        self._give(put, wrong)
        if not self._held_buttons:
            self._pressed_on.clear()

    def _turn(self, wheel: Callable[..., None], notches: int) -> None:
        for _ in range(abs(notches)):
            self._pace()
            self._give(lambda: wheel(1 if notches > 0 else -1, _pause=False), Footing.wrong_at)

    def _press_key(self, stroke: Stroke) -> None:
        def put() -> None:
            self._held_codes.add(stroke.code)
            self._repeat(self._gui.platformModule._display, stroke.code, False)
            self._gui.keyDown(f"code{stroke.code}", _pause=False)

        self._give(put, Footing.wrong_keyboard)

    def _release_key(self, stroke: Stroke) -> None:
        def put() -> None:
            self._repeat(self._gui.platformModule._display, stroke.code, True)
            self._gui.keyUp(f"code{stroke.code}", _pause=False)
            self._held_codes.discard(stroke.code)

        self._give(put)

    @contextmanager
    def _keys_held(self, names: Sequence[str]) -> Iterator[None]:
        strokes = self._strokes([keysym(name) for name in names])
        for stroke in strokes:
            self._press_key(stroke)
        yield
        for stroke in reversed(strokes):
            self._release_key(stroke)

    def _strokes(self, wanted: Sequence[int]) -> list[Stroke]:
        """The keys of a combination, with Shift before the first that needs it, unless it was named."""
        self._keymap.refresh()
        missing = self._keymap.missing(wanted)
        if not self._keymap.fits(missing):
            self._keymap.take_back()
            self._wait(0.1)
            missing = self._keymap.missing(wanted)
        self._keymap.lend(missing)
        strokes = [s for s in map(self._keymap.stroke, wanted) if s is not None]
        shift = self._keymap.stroke(_SHIFT)
        needy = next((i for i, s in enumerate(strokes) if s.shifted), None)
        if needy is None or shift is None or shift.code in [s.code for s in strokes]:
            return strokes
        return [*strokes[:needy], shift, *strokes[needy:]]

    def _type(self, wanted: Sequence[int], wait_read: Callable[[], None]) -> None:
        self._keymap.refresh()
        capitals = self._keymap.capitals
        if capitals:
            self._tap(_CAPS)
        for start, end in self._runs(wanted):
            missing = self._keymap.missing(wanted[start:end])
            if not self._keymap.fits(missing):
                wait_read()
                self._keymap.take_back()
                missing = self._keymap.missing(wanted[start:end])
            self._keymap.lend(missing)
            for one in wanted[start:end]:
                self._tap(one)
                self._wait(self.pace.text_s)
        if capitals:
            self._tap(_CAPS)

    def _runs(self, wanted: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Parts of a text for which there are keys enough."""
        start = 0
        lent: set[int] = set()
        for place, one in enumerate(wanted):
            if self._keymap.on_keyboard(one) or one in lent:
                continue
            if len(lent) == self._keymap.room:
                yield start, place
                start, lent = place, set()
            lent.add(one)
        yield start, len(wanted)

    def _repeat(self, display: Any, code: int, on: bool) -> None:
        """Have a key repeat while it is down, or not; one that never did does not.

        X decides it when the key is pressed, and would press it again in whichever window has the keyboard by then.
        """
        from Xlib import X

        if self._repeats[code // 8] >> code % 8 & 1:
            mode = X.AutoRepeatModeOn if on else X.AutoRepeatModeOff
            display.change_keyboard_control(key=code, auto_repeat_mode=mode)

    def _tap(self, wanted: int) -> None:
        stroke = self._keymap.stroke(wanted)
        if stroke is None:
            raise DesktopError(f"no key of {self._x.name} gives the keysym {wanted:#x}, and none is free to")
        shift = self._keymap.stroke(_SHIFT) if stroke.shifted else None
        if shift:
            self._press_key(shift)
        self._press_key(stroke)
        self._release_key(stroke)
        if shift:
            self._release_key(shift)


def _here(at: Pixel) -> Pixel:
    return at


def _steps(path: Sequence[Pixel], count: int) -> Iterator[Pixel]:
    """About `count` pixels along the lines of a path, evenly, without its first, with each of its corners."""
    lengths = [max(1.0, ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5) for a, b in pairwise(path)]
    for (start, end), length in zip(pairwise(path), lengths, strict=True):
        parts = max(1, round(count * length / sum(lengths)))
        line = [*between(start, end), end]
        for n in range(1, parts + 1):
            yield line[-(-n * len(line) // parts) - 1]
