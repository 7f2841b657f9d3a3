"""What an action on a desktop comes down to: which windows it reaches, which keys are down in it, what it types.

Rules look at this and not at the action, so that the same thing said in another way is judged in the same way: a
hotkey, its keys one by one, or a character in a text; a drag, or press, move and release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.chords import HELD, KeyNameError, key_name, pressed_by
from optr.connectors.desktop.keys import keysym
from optr.connectors.desktop.rects import between
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.view import DeskView, Pixel
from optr.errors import DesktopError
from optr.sentinel.codes import Code


@dataclass(frozen=True)
class Held:
    """What earlier actions have pressed and not released.

    Attributes:
        down: Keys by their one spelling, each with its keysym: the left Shift stays down when the right one is
            released.
        buttons: By their names.
    """

    down: frozenset[tuple[str, int]] = frozenset()
    buttons: frozenset[str] = frozenset()

    @property
    def keys(self) -> frozenset[str]:
        """The spellings of the keys."""
        return frozenset(name for name, _ in self.down)


@dataclass(frozen=True)
class Touch:
    """A place that the pointer acts on.

    Attributes:
        pixel: On the whole screen; None: it is acted on without the pointer.
        window: What lies there on top; None: the root window.
        element: What is known to be there.
    """

    pixel: Pixel | None
    window: Window | None
    element: Element | None = None

    @property
    def on_frame(self) -> bool:
        """Whether it is the title bar or border of its window that is touched."""
        return self.window is not None and self.pixel is not None and not self.window.rect.holds(*self.pixel)


@dataclass(frozen=True)
class Doing:
    """What an action comes down to.

    Attributes:
        action: Itself.
        touches: Places that it acts on.
        chords: Sets of keys and buttons that are down together at some moment of it; buttons as `click-left`.
        keyboard: The window that gets keys and text.
        needs_keyboard: Whether any are given.
        typed: Text that comes in there; empty: none.
        texts: Every text in it.
        windows: Windows that it brings to the front.
        way: Pixels between those places, along which something is drawn or dragged.
        after: What is held when it is over.
    """

    action: a.DesktopAction
    touches: tuple[Touch, ...] = ()
    chords: tuple[frozenset[str], ...] = ()
    keyboard: Window | None = None
    needs_keyboard: bool = False
    typed: str = ""
    texts: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    way: tuple[Touch, ...] = ()
    after: Held = Held()

    @property
    def reached(self) -> tuple[Window | None, ...]:
        """Every window that gets something of it; None is the root window."""
        keyboard = (self.keyboard,) if self.needs_keyboard else ()
        passed = dict.fromkeys(t.window for t in self.way if t.window)
        return (*(t.window for t in self.touches), *keyboard, *self.windows, *passed)


class NotThereError(DesktopError):
    """Something that an action needs is not there.

    Attributes:
        code: What kind of thing.
    """

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        super().__init__(text)


def doing_of(action: a.DesktopAction, view: DeskView, held: Held) -> Doing:
    """Take an action apart.

    Raises:
        NotThereError: If a place, a key or a window in it is not there.
    """
    try:
        made = _OF[type(action)](action, view, held)
    except KeyNameError as err:
        raise NotThereError(Code.KEY_FORBIDDEN, str(err)) from err
    except DesktopError as err:
        raise NotThereError(Code.NO_SUCH_PLACE, str(err)) from err
    return replace(made, texts=_texts(action))


_TYPED = {"space": " ", "enter": "\n", "tab": "\t"}


# -- one by one --------------------------------------------------------------------------------------------------


def _touch(target: a.Target | None, view: DeskView) -> Touch:
    if target is None:
        if view.pointer is None:
            raise DesktopError("it acts where the pointer is, and nobody knows where that is")
        return Touch(view.pointer, view.top(view.pointer), view.under)
    pixel = view.pixel(target)
    window, element = view.top(pixel), view.found.get(target)
    if element is not None and element.window and (window is None or window.id != element.window):
        covering = "the root window" if window is None else f"window {window.id} {window.title!r}"
        raise DesktopError(f"{element.role} {element.name!r} is in window {element.window}, covered by {covering}")
    return Touch(pixel, window, element)


def _way(path: Sequence[Pixel | None], view: DeskView) -> tuple[Touch, ...]:
    """Every pixel of the straight lines between places."""
    pixels: dict[Pixel, None] = {}
    for start, end in pairwise(path):
        if start is None or end is None:
            continue
        pixels |= dict.fromkeys(between(start, end))
    return tuple(Touch(pixel, view.top(pixel)) for pixel in pixels)


def _button(button: str) -> str:
    return f"click-{button}"


def _move(action: a.Move, view: DeskView, held: Held) -> Doing:
    to = _touch(action.to, view)
    way = _way([view.pointer, to.pixel], view) if held.buttons else ()
    return Doing(action, (to,), way=way, after=held)


def _click(action: a.Click, view: DeskView, held: Held) -> Doing:
    down = held.keys | {*action.modifiers, _button(action.button)}
    keyboard = view.focused if action.modifiers else None  # who has it gets them, whatever is clicked
    return Doing(action, (_touch(action.at, view),), (down,), keyboard, keyboard is not None, after=held)


def _press(action: a.Press, view: DeskView, held: Held) -> Doing:
    after = replace(held, buttons=held.buttons | {action.button})
    return Doing(action, (_touch(action.at, view),), (held.keys | {_button(action.button)},), after=after)


def _release(action: a.Release, view: DeskView, held: Held) -> Doing:
    after = replace(held, buttons=held.buttons - {action.button})
    at = _touch(action.at, view)
    way = _way([view.pointer, at.pixel], view) if held.buttons else ()
    return Doing(action, (at,), way=way, after=after)


def _drag(action: a.Drag, view: DeskView, held: Held) -> Doing:
    down = held.keys | {*action.modifiers, _button(action.button)}
    keyboard = view.focused if action.modifiers else None
    touches = tuple(_touch(t, view) for t in action.path)
    way = _way([t.pixel for t in touches], view)
    return Doing(action, touches, (down,), keyboard, keyboard is not None, way=way, after=held)


def _scroll(action: a.Scroll, view: DeskView, held: Held) -> Doing:
    chords = (held.keys | {"scroll"},) if held.keys else ()
    return Doing(action, (_touch(action.at, view),), chords, after=held)


def _type(action: a.Type, view: DeskView, held: Held) -> Doing:
    modifying = held.keys & {*HELD}
    if modifying:
        raise KeyNameError(f"a text is no text while {', '.join(sorted(modifying))} is down; give hotkeys")
    touches = () if action.into is None else (_touch(action.into, view),)
    keyboard = touches[0].window if touches else view.focused
    chords = [held.keys | pressed_by(c) for c in dict.fromkeys(action.text)]
    chords += [held.keys | {_button("left")}] if touches else []
    return Doing(action, touches, tuple(chords), keyboard, True, action.text, after=held)


def _key(action: a.Key, view: DeskView, held: Held) -> Doing:
    chord = held.keys | pressed_by(action.key)
    typed = _character(action.key, held.keys) * action.count
    return Doing(action, (), (chord,), view.focused, True, typed, after=held)


def _key_down(action: a.KeyDown, view: DeskView, held: Held) -> Doing:
    chord = held.keys | pressed_by(action.key)
    typed = _character(action.key, held.keys)
    after = replace(held, down=held.down | {_physical(action.key)})
    return Doing(action, (), (chord,), view.focused, True, typed, after=after)


def _key_up(action: a.KeyUp, view: DeskView, held: Held) -> Doing:
    return Doing(action, after=replace(held, down=held.down - {_physical(action.key)}))


def _physical(key: str) -> tuple[str, int]:
    return key_name(key), keysym(key if len(key) > 1 else key.lower())


def _hotkey(action: a.Hotkey, view: DeskView, held: Held) -> Doing:
    down, chords, typed = held.keys, [], ""
    for key in action.keys:
        typed += _character(key, down)
        down = down | pressed_by(key)
        chords.append(down)
    return Doing(action, (), tuple(chords), view.focused, True, typed, after=held)


def _character(key: str, down: frozenset[str]) -> str:
    """What a key types while these are down; empty: nothing, or it is a shortcut."""
    if down & {"ctrl", "alt", "super"}:
        return ""
    name = key_name(key)
    plain = _TYPED.get(name, name if len(name) == 1 else "")
    return plain.upper() if "shift" in down or key != key.lower() == name else plain


def _on_element(selector: a.Selector, view: DeskView) -> Touch:
    element = view.found.get(selector)
    if element is None:
        raise DesktopError(f"nobody has looked for {selector.text!r}")
    window = view.window(element.window) if element.window else None
    if window is None:
        raise DesktopError(f"{element.role} {element.name!r} is in no window that is known")
    return Touch(None, window, element)


def _invoke(action: a.Invoke, view: DeskView, held: Held) -> Doing:
    return Doing(action, (_on_element(action.element, view),), after=held)


def _set_value(action: a.SetValue, view: DeskView, held: Held) -> Doing:
    touch = _on_element(action.element, view)
    return Doing(action, (touch,), (), touch.window, True, action.value, after=held)


def _focus(action: a.Focus, view: DeskView, held: Held) -> Doing:
    windows = view.named(action.window)
    if len(windows) != 1:
        titles = ", ".join(f"{w.id} {w.title!r}" for w in (windows or view.windows)[:10]) or "none"
        many = f"{len(windows)} windows are" if windows else "no window is"
        raise DesktopError(f"{many} {action.window!r}; there are: {titles}")
    return Doing(action, windows=windows, after=held)


def _nothing(action: Any, view: DeskView, held: Held) -> Doing:
    return Doing(action, after=held)


_OF: dict[type[Any], Callable[[Any, DeskView, Held], Doing]] = {
    a.Move: _move,
    a.Click: _click,
    a.Press: _press,
    a.Release: _release,
    a.Drag: _drag,
    a.Scroll: _scroll,
    a.Type: _type,
    a.Key: _key,
    a.KeyDown: _key_down,
    a.KeyUp: _key_up,
    a.Hotkey: _hotkey,
    a.Wait: _nothing,
    a.Invoke: _invoke,
    a.SetValue: _set_value,
    a.Focus: _focus,
    a.Launch: _nothing,
    a.Done: _nothing,
    a.Fail: _nothing,
    a.Ask: _nothing,
}


def _texts(action: Any) -> tuple[str, ...]:
    """Every text that stands in an action, however deep."""
    found: list[str] = []
    waiting: list[Any] = list(vars(action).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, tuple):
            waiting += value
        elif isinstance(value, a.Selector):
            waiting.append(value.text)
    return tuple(found)
