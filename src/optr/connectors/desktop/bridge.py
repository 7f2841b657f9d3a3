"""Carries out actions on a desktop, one after the other, and says what came of each.

It decides nothing about what may be done: the guard does, before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optr.connectors.desktop.actions import (
    ActionResult,
    Ask,
    Click,
    DesktopAction,
    Done,
    Drag,
    Effect,
    Fail,
    Focus,
    Hotkey,
    Invoke,
    Key,
    KeyDown,
    KeyUp,
    Launch,
    Move,
    Press,
    Rect,
    Release,
    Scroll,
    Selector,
    SetValue,
    Target,
    Type,
    Wait,
)
from optr.connectors.desktop.codec import check_action
from optr.connectors.desktop.footing import Footing
from optr.connectors.desktop.hand import Hand, Pace, Pixel, StoppedError
from optr.connectors.desktop.keys import is_modifier, keysym, text_keysyms
from optr.connectors.desktop.places import beside_corner, frame_rect
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.screen import Screen
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.settle import After, Before, Patience, Settling
from optr.connectors.desktop.view import pixel_in
from optr.connectors.desktop.windows import Windows
from optr.connectors.desktop.x11 import display_name
from optr.errors import DesktopError, OptrError

_LAUNCH_S = 10.0
_AGAIN_S = 0.1
"""How long after nothing was drawn it is looked again for an element: some change without a pixel [s]."""


@dataclass(frozen=True)
class Helpers:
    """What a bridge cannot do by itself; each may be absent, and then an action that needs it is not carried out.

    Attributes:
        resolve: Where an element is on the screen [px]; raises an OptrError if there is not exactly one.
        absent: What `resolve` raises if there is none.
        focused: Where the element that has the keyboard is [px]; None if nobody knows of one.
        invoke: Does what an element offers: selector and name of the action, empty for the first.
        set_value: Puts a value into an element.
        start: Starts a program by its name, with arguments; what is answered has `poll()`.
        ask: Asks a person: the question, and the time [s]; raises an OptrError or TimeoutError without an answer.
        ready: Called before each input; raises a StoppedError that says why there shall be none, and answers what
            the input rests on.
    """

    resolve: Callable[[Selector], Rect] | None = None
    absent: type[Exception] = OptrError
    focused: Callable[[], Rect | None] | None = None
    invoke: Callable[[Selector, str], object] | None = None
    set_value: Callable[[Selector, str], object] | None = None
    start: Callable[[str, Sequence[str]], Any] | None = None
    ask: Callable[[str, float], str] | None = None
    ready: Callable[[], Footing] | None = None


class DesktopBridge:
    """Owns the eyes and hands of one display.

    `execute` is called by one thread at a time; `cancel` by any, at any time.

    Attributes:
        display: Its name.
        screen: Its pixels.
        windows: Its windows.
        hand: Its pointer and keys.

    Raises:
        DesktopError: If there is no display, or it is Wayland's.
    """

    def __init__(
        self,
        display: str | None = None,
        helpers: Helpers | None = None,
        *,
        patience: Patience | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Open a display.

        Args:
            display: Its name; None: that of the environment.
            helpers: What it cannot do by itself.
            patience: How long it waits for effects.
            pace: How quick its hand is.
        """
        self.display = display_name(display)
        self.helpers = helpers or Helpers()
        self.screen = Screen(self.display)
        try:
            self.windows = Windows(self.display)
            self.hand = Hand(self.display, pace)
        except BaseException:
            self.close()
            raise
        self._settling = Settling(self.screen, patience or Patience())
        self._one = threading.Lock()
        self._cancelled = threading.Event()
        self._asked: set[threading.Event] = set()

    def execute(self, action: DesktopAction) -> ActionResult:
        """Carry an action out and see what comes of it.

        Raises:
            DesktopError: If it is no sound action: nothing was pressed. What goes wrong with a sound one is told by
                the result.
        """
        check_action(action)
        _check_keys(action)
        cancelled = threading.Event()
        self._asked.add(cancelled)
        try:
            with self._one:
                self._cancelled = cancelled
                return self._executed(action)
        finally:
            self._asked.discard(cancelled)

    def cancel(self) -> None:
        """Stop what is being done, at once, and release every button and key."""
        for cancelled in tuple(self._asked):
            cancelled.set()
        self.hand.cancel()
        self.screen.damage.wake()

    @property
    def stopped(self) -> str:
        """Why nothing is pressed any more, as `FAIL_SAFE`; empty: it is."""
        return self.hand.stopped

    @property
    def held(self) -> tuple[str, ...]:
        """Buttons and keys that are kept down; while something is done buttons alone, for keys would tell a text."""
        return self.hand.held_buttons if self._one.locked() else self.hand.held_buttons + self.hand.held_keys

    def rearm(self) -> None:
        """Go on after the fail-safe.

        Raises:
            DesktopError: If the pointer is still in a corner.
        """
        self.hand.rearm()

    def close(self) -> None:
        """Release everything and leave the display."""
        for part in ("hand", "screen", "windows"):
            if hasattr(self, part):
                getattr(self, part).close()

    def __enter__(self) -> DesktopBridge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Below: one action at a time.

    def _executed(self, action: DesktopAction) -> ActionResult:
        doing: Callable[[Any], ActionResult] = getattr(self, f"_{action.kind}")
        self._began_ns = 0
        self._given_ns = self.hand.input_ns
        try:
            self._go_on()
            self.screen.check_size()
            result = doing(action)
        except StoppedError as err:
            result = ActionResult(False, refused=err.code, text=str(err))
        except (OptrError, TimeoutError) as err:
            result = ActionResult(False, text=str(err) or "the time is over")
        given = self.hand.input_ns
        return replace(
            result,
            began_ns=self._began_ns,
            ended_ns=time.monotonic_ns(),
            input_ns=given if given != self._given_ns else 0,
        )

    def _go_on(self) -> None:
        if self._cancelled.is_set():
            raise StoppedError("CANCELLED", "cancelled; everything was released")

    def _begin(self) -> None:
        self._ready()
        self._began_ns = time.monotonic_ns()

    def _ready(self) -> None:
        self._go_on()
        if self.helpers.ready is not None:
            self.hand.footing = self.helpers.ready()

    # Pointer

    def _move(self, action: Move) -> ActionResult:
        at = self._pixel(action.to)
        self._begin()
        self.hand.move(at)
        return ActionResult(True, Effect.UNVERIFIABLE, at=at)

    def _click(self, action: Click) -> ActionResult:
        at = self._approach(action.at)
        return self._watched(lambda: self.hand.click(at, action.button, action.count, action.modifiers), at)

    def _press(self, action: Press) -> ActionResult:
        at = self._approach(action.at)
        return self._watched(lambda: self.hand.press(at, action.button), at, unseen=Effect.UNVERIFIABLE)

    def _release(self, action: Release) -> ActionResult:
        at = self.hand.position() if action.at is None else self._pixel(action.at)
        place = None if action.at is None else at
        return self._watched(lambda: self.hand.release(place, action.button), at, unseen=Effect.UNVERIFIABLE)

    def _drag(self, action: Drag) -> ActionResult:
        path = [self._pixel(place) for place in action.path]
        self._approach_pixel(path[0])
        give = lambda: self.hand.drag(path, action.button, action.modifiers, action.seconds)  # noqa: E731
        return replace(self._watched(give, path[0], path[-1]), at=path[-1])

    def _scroll(self, action: Scroll) -> ActionResult:
        at = self._approach(action.at)
        return self._watched(lambda: self.hand.scroll(at, action.dx, action.dy), at)

    # Keys

    def _type(self, action: Type) -> ActionResult:
        at = None
        if action.into is not None:
            at = self._approach(action.into)
            before = self._settling.before()
            self._begin()
            self.hand.click(at)
            self._focus_arrives(at)
            self._element_focus_arrives(before, at)
        else:
            self._listens()
        began = self._began_ns
        result = self._watched(lambda: self.hand.type(action.text, self._drained), at)
        self._began_ns = began or self._began_ns
        return result

    def _key(self, action: Key) -> ActionResult:
        unseen = Effect.UNVERIFIABLE if is_modifier(action.key) else Effect.SUSPECTED_NO_OP
        return self._watched(lambda: self.hand.hotkey([action.key], action.count), None, unseen=unseen)

    def _key_down(self, action: KeyDown) -> ActionResult:
        self._begin()
        self.hand.key_down(action.key)
        return ActionResult(True, Effect.UNVERIFIABLE)

    def _key_up(self, action: KeyUp) -> ActionResult:
        self._begin()
        self.hand.key_up(action.key)
        return ActionResult(True, Effect.UNVERIFIABLE)

    def _hotkey(self, action: Hotkey) -> ActionResult:
        return self._watched(lambda: self.hand.hotkey(action.keys), None, unseen=Effect.UNVERIFIABLE)

    # Waiting

    def _wait(self, action: Wait) -> ActionResult:
        wanted = {
            "still": self._wait_still,
            "window": self._wait_window,
            "element": self._wait_element,
            "text": self._wait_element,
            "gone": self._wait_gone,
            "time": self._wait_time,
        }
        self._begin()
        answer = wanted[action.until](action)
        self._go_on()
        if answer is None:
            what = f"{action.until} {action.value!r}" if action.value else action.until
            return ActionResult(False, text=f"waited {action.timeout_s:g} s for {what}, which did not come")
        return ActionResult(True, Effect.CONFIRMED, answer=answer)

    def _wait_still(self, action: Wait) -> str | None:
        rect = frame_rect(action.frame, self.screen, self.windows)
        return "still" if self._settling.still(rect, action.still_s, action.timeout_s, self._cancelled) else None

    def _wait_window(self, action: Wait) -> str | None:
        found: list[Window] = []

        def there() -> bool:
            found[:] = [w for w in self.windows.matching(action.value) if w.visible]
            return bool(found)

        self.windows.wait(there, action.timeout_s, self._cancelled.is_set)
        return f"{found[-1].id}: {found[-1].title}" if found else None

    def _wait_element(self, action: Wait) -> str | None:
        selector = Selector(f"text={action.value}" if action.until == "text" else action.value)
        frame = frame_rect(action.frame, self.screen, self.windows) if action.until == "text" else self.screen.rect
        for _ in self._looks(action.timeout_s):
            rect = self._there(selector)
            if rect is not None and overlap(rect, frame):
                return f"{rect.x}, {rect.y}, {rect.width} x {rect.height}"
        return None

    def _wait_gone(self, action: Wait) -> str | None:
        for _ in self._looks(action.timeout_s):
            if self._there(Selector(action.value)) is None:
                return "gone"
        return None

    def _wait_time(self, action: Wait) -> str | None:
        self._cancelled.wait(action.timeout_s)
        return "time"

    def _looks(self, timeout_s: float) -> Iterator[None]:
        """One look now, one whenever something was drawn, and now and then."""
        deadline = time.monotonic() + timeout_s
        while not self._cancelled.is_set():
            looked_ns = time.monotonic_ns()
            yield
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.screen.damage.wait(lambda d: bool(d) or self._cancelled.is_set(), looked_ns, min(left, _AGAIN_S))

    def _there(self, selector: Selector) -> Rect | None:
        try:
            return self._resolved(selector)
        except self.helpers.absent:
            if self.helpers.resolve is None:
                raise
            return None

    # What others do

    def _invoke(self, action: Invoke) -> ActionResult:
        invoke = self._helper(self.helpers.invoke, "invokes elements")
        return self._watched(lambda: invoke(action.element, action.action), None, everywhere=True)

    def _set_value(self, action: SetValue) -> ActionResult:
        put = self._helper(self.helpers.set_value, "sets values")
        give = lambda: put(action.element, action.value)  # noqa: E731
        return self._watched(give, None, everywhere=True, unseen=Effect.UNVERIFIABLE)

    def _focus(self, action: Focus) -> ActionResult:
        window = self.windows.find(action.window)
        self._begin()
        self.windows.focus(window.id, self._settling.patience.focus_s)
        return ActionResult(True, Effect.CONFIRMED, answer=str(window.id))

    def _launch(self, action: Launch) -> ActionResult:
        start = self._helper(self.helpers.start, "starts programs")
        before = {w.id for w in self.windows.all()}
        self._begin()
        process = start(action.program, action.arguments)
        new: list[Window] = []

        def up() -> bool:
            shown = (w for w in self.windows.all() if w.id not in before and w.visible)
            new[:] = [w for w in shown if w.title or any(w.wm_class)]  # else the frame of one that is not listed yet
            return bool(new)

        over = lambda: self._cancelled.is_set() or process.poll() is not None  # noqa: E731
        self.windows.wait(up, _LAUNCH_S, over)
        self._go_on()
        if new:
            return ActionResult(True, Effect.CONFIRMED, new[-1].outer, answer=str(new[-1].id))
        if process.poll():
            return ActionResult(False, text=f"{action.program} ended at once, with {process.poll()}")
        return ActionResult(True, Effect.UNVERIFIABLE, text=f"{action.program} has shown no window so far")

    def _done(self, action: Done) -> ActionResult:
        self._begin()
        return ActionResult(True, Effect.UNVERIFIABLE, answer=action.answer)

    def _fail(self, action: Fail) -> ActionResult:
        self._begin()
        return ActionResult(True, Effect.UNVERIFIABLE, text=action.reason)

    def _ask(self, action: Ask) -> ActionResult:
        ask = self.helpers.ask
        if ask is None:
            raise DesktopError("nobody is here to be asked: a program gives `ask` to open_desk (Python)")
        self._begin()
        return ActionResult(True, Effect.UNVERIFIABLE, answer=ask(action.question, action.timeout_s))

    # Places

    def _pixel(self, target: Target) -> Pixel:
        """The pixel that is meant, beside the corners in which people stop everything."""
        if isinstance(target, Selector):
            pixel = self._resolved(target).centre
        else:
            pixel = pixel_in(frame_rect(target.frame, self.screen, self.windows), target.x, target.y)
        if not self.screen.rect.holds(*pixel):
            size = f"{self.screen.rect.width} x {self.screen.rect.height}"
            raise DesktopError(f"{target} is at the pixel {pixel}, which is not on the screen of {size}")
        return beside_corner(pixel, (self.screen.rect.width, self.screen.rect.height))

    def _resolved(self, selector: Selector) -> Rect:
        rect: Rect = self._helper(self.helpers.resolve, "finds elements")(selector)
        return rect

    def _helper(self, given: Callable[..., Any] | None, what: str) -> Callable[..., Any]:
        if given is None:
            raise DesktopError(f"this bridge was given nothing that {what}")
        return given

    def _approach(self, target: Target | None) -> Pixel:
        at = self.hand.position() if target is None else self._pixel(target)
        self._approach_pixel(at)
        return at

    def _approach_pixel(self, at: Pixel) -> None:
        """Bring the pointer there and let what lies there notice, so that the look before the input has it."""
        if at != self.hand.position():
            self._begin()
            since = time.monotonic_ns()
            self.hand.move(at)
            self._settling.hover(since)

    # Effects

    def _watched(
        self,
        give: Callable[[], object],
        *at: Pixel | None,
        everywhere: bool = False,
        unseen: Effect = Effect.SUSPECTED_NO_OP,
    ) -> ActionResult:
        """Give an input and see what it does to the windows that it goes to, or which windows come and go.

        Args:
            give: The input.
            at: Pixels that it is given at; None: it goes to the window that has the keyboard.
            everywhere: Whether any pixel may change instead.
            unseen: What it is called if nothing changes.
        """
        windows = self.windows.all()
        targets = [_top(windows, p) if p else next((w for w in windows if w.focused), None) for p in at]
        before = self._settling.before()
        self._ready()
        self._began_ns = self._began_ns or time.monotonic_ns()
        since = time.monotonic_ns()
        give()
        after = self._settling.after(before, since, self._cancelled)
        self._go_on()
        expected = everywhere or self._expected(after, targets, windows)
        details = {"first_ns": after.first_ns} if after.first_ns else {}
        place = at[0] if at else None
        if after.changed is not None and expected:
            return ActionResult(True, Effect.CONFIRMED, after.changed, at=place, details=details)
        if after.changed is not None:
            text = "something changed, but not in the window that it was meant for"
            return ActionResult(True, Effect.UNVERIFIABLE, after.changed, at=place, text=text, details=details)
        if after.restless:
            text = "something changed only where it does so by itself"
            return ActionResult(True, Effect.UNVERIFIABLE, at=place, text=text)
        text = "no pixel changed" if unseen == Effect.SUSPECTED_NO_OP else ""
        return ActionResult(True, unseen, at=place, text=text)

    def _expected(self, after: After, targets: Sequence[Window | None], before: Sequence[Window]) -> bool:
        if after.changed is None:
            return False
        if any(w is not None and overlap(after.changed, w.outer) for w in targets):
            return True
        stack = [(w.id, w.outer, w.visible) for w in before]
        return stack != [(w.id, w.outer, w.visible) for w in self.windows.all()]

    # Focus

    def _focus_arrives(self, at: Pixel) -> None:
        """Wait until the window that was clicked has the keyboard, and has taken the click in.

        Raises:
            DesktopError: If it does not get it: what is typed would go to another one.
        """
        window = self.windows.at(*at)
        if window is None or (window.title == "" and window.wm_class == ("", "")):
            return
        patience = self._settling.patience.focus_s
        if not self.windows.wait(lambda: self.windows.has_focus(window.id), patience, self._cancelled.is_set):
            self._go_on()
            raise DesktopError(f"the window {window.id} {window.title!r} was clicked and did not get the keyboard")
        self.windows.ping(window.id)

    def _element_focus_arrives(self, before: Before, at: Pixel) -> None:
        """Wait until the element that was clicked has the keyboard.

        A browser hands a click to its page later than keys, so that what is typed at once is lost. Whoever knows which
        element has the keyboard is asked; else it is waited for the caret to show.

        Raises:
            DesktopError: If another element has it: what is typed would go there.
        """
        focused = self.helpers.focused
        rect = focused() if focused else None
        if focused is None or rect is None:
            self._settling.after(before, self._began_ns, self._cancelled)
            rect = focused() if focused else None
        if focused is None or rect is None:
            return
        for _ in self._looks(self._settling.patience.element_s):
            rect = focused()
            if rect is not None and rect.holds(*at):
                return
        self._go_on()
        raise DesktopError(f"what was clicked at {at} did not get the keyboard, which is at {rect}; nothing was typed")

    def _listens(self) -> None:
        """Let the window that has the keyboard take in what came before, if it says when it has."""
        window = self.windows.focused()
        if window is not None:
            self.windows.ping(window.id)

    def _drained(self) -> None:
        """Wait until what was typed has been read: the window says so, or nothing is drawn any more."""
        window = self.windows.focused()
        if window is None or not self.windows.ping(window.id):
            self._settling.still(self.screen.rect, 0.1, 1.0, self._cancelled)


def _top(windows: Sequence[Window], pixel: Pixel) -> Window | None:
    """The uppermost window at a pixel, of windows from the lowest to the highest."""
    return next((w for w in reversed(windows) if w.visible and w.outer.holds(*pixel)), None)


def _check_keys(action: DesktopAction) -> None:
    """Names of keys are looked up before anything is done."""
    if isinstance(action, Key | KeyDown | KeyUp):
        keysym(action.key)
    if isinstance(action, Hotkey):
        for key in action.keys:
            keysym(key)
    if isinstance(action, Type):
        text_keysyms(action.text)
