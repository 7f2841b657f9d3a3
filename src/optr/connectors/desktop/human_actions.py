"""What a person did, out of the input: clicks, drags, scrolls, texts, keys. Places refer to their windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.human_input import InputEvent
from optr.connectors.desktop.keys import is_modifier
from optr.connectors.desktop.seen import Element, Window

_NEAR_PX = 5
_AGAIN_S = 0.4
"""Between two clicks of one double click [s]."""
_TURNS_S = 0.6
"""Between two notches of one scroll [s]."""
_MOST_PLACES = 24
_SHIFTED = frozenset({"shift"})
_SAME = {
    "control": "ctrl", "control_l": "ctrl", "ctrl_l": "ctrl", "ctrlleft": "ctrl", "control_r": "ctrl", "ctrl_r": "ctrl",
    "shift_l": "shift", "shiftleft": "shift", "shift_r": "shift", "shiftright": "shift", "lshift": "shift",
    "alt_l": "alt", "altleft": "alt", "option": "alt", "alt_r": "alt", "meta": "alt", "meta_l": "alt",
    "super_l": "super", "win": "super", "super_r": "super", "winright": "super",
}  # fmt: skip
_TURNS = {"scroll_up": (0, -1), "scroll_down": (0, 1), "scroll_left": (-1, 0), "scroll_right": (1, 0)}

HIDDEN = "\N{BULLET}"
"""Stands for a character that was kept secret."""


@dataclass(frozen=True)
class HumanAction:
    """An action of a person.

    Attributes:
        action: With places in their windows.
        stamp_ns: When it began [ns of the clock of the events].
        ended_ns: When it was over [ns].
        pixels: Where the pointer acted [px], one for each place of the action.
        window: Id of the window that it met; 0: none.
        element: What was there; None: unknown.
        hidden: Whether the text of it was kept secret, and `HIDDEN` stands for each character.
    """

    action: a.DesktopAction
    stamp_ns: int
    ended_ns: int
    pixels: tuple[tuple[int, int], ...] = ()
    window: int = 0
    element: Element | None = None
    hidden: bool = False


def actions_of_human(
    events: Iterable[InputEvent], window_of: Callable[[int, int], Window | None] = lambda number, stamp_ns: None
) -> tuple[HumanAction, ...]:
    """What people did; our own input is left out.

    Args:
        events: In the order of time.
        window_of: The window of an id at a time [ns]; None: unknown, and places refer to the screen.
    """
    making = _Making(window_of)
    for event in events:
        if not event.injected:
            making.take(event)
    return tuple(making.made)


class _Making:
    """Makes actions of events that are handed to it one by one."""

    def __init__(self, window_of: Callable[[int, int], Window | None]) -> None:
        self.made: list[HumanAction] = []
        self._window_of = window_of
        self._held: dict[str, None] = {}
        self._path: list[InputEvent] = []

    def take(self, event: InputEvent) -> None:
        """The next event."""
        if event.event == "motion":
            if self._path:
                self._path.append(event)
        elif event.name in _TURNS:
            if event.event == "button_down":
                self._turned(event)
        elif event.event == "button_down":
            self._path = [event]
        elif event.event == "button_up":
            self._released(event)
        elif (modifier := _modifier(event.name)) is not None:
            if event.event == "key_down":
                self._held[modifier] = None
            else:
                self._held.pop(modifier, None)
        elif event.event == "key_down":
            self._pressed(event)

    def _released(self, event: InputEvent) -> None:
        path, self._path = self._path, []
        if not path or path[0].name != event.name or event.name not in a.BUTTONS:
            return
        down, modifiers = path[0], tuple(m for m in a.MODIFIERS if m in self._held)
        pixels = [(e.x, e.y) for e in (*path, event)]
        if any(_far(pixels[0], p) for p in pixels):
            kept = _thinned(pixels)
            seconds = min(60.0, max(0.2, (event.stamp_ns - down.stamp_ns) * 1e-9))
            places = tuple(self._point(p, down) for p in kept)
            self._add(a.Drag(places, event.name, modifiers, round(seconds, 3)), down, event.stamp_ns, tuple(kept))
            return
        last = self.made[-1] if self.made else None
        again = last is not None and (down.stamp_ns - last.ended_ns) * 1e-9 < _AGAIN_S
        if last is not None and again and isinstance(last.action, a.Click) and last.action.count < 3:
            same = (last.action.button, last.action.modifiers) == (event.name, modifiers)
            if same and not _far(last.pixels[0], pixels[0]):
                action = replace(last.action, count=last.action.count + 1)
                self.made[-1] = replace(last, action=action, ended_ns=event.stamp_ns)
                return
        click = a.Click(self._point(pixels[0], down), event.name, 1, modifiers)
        self._add(click, down, event.stamp_ns, (pixels[0],))

    def _turned(self, event: InputEvent) -> None:
        dx, dy = _TURNS[event.name]
        last = self.made[-1] if self.made else None
        if last is not None and isinstance(last.action, a.Scroll):
            soon = (event.stamp_ns - last.ended_ns) * 1e-9 < _TURNS_S
            dx, dy = last.action.dx + dx, last.action.dy + dy
            if soon and not _far(last.pixels[0], (event.x, event.y)) and (dx or dy):
                self.made[-1] = replace(last, action=replace(last.action, dx=dx, dy=dy), ended_ns=event.stamp_ns)
                return
            dx, dy = _TURNS[event.name]
        pixel = (event.x, event.y)
        self._add(a.Scroll(self._point(pixel, event), dx, dy), event, event.stamp_ns, (pixel,))

    def _pressed(self, event: InputEvent) -> None:
        held = [m for m in a.MODIFIERS if m in self._held]
        hidden = not event.name
        text = HIDDEN if hidden else event.text
        last = self.made[-1] if self.made else None
        if text and set(held) <= _SHIFTED:
            if last is not None and isinstance(last.action, a.Type) and self._goes_on(last, event, hidden):
                action = a.Type(last.action.text + text)
                self.made[-1] = replace(last, action=action, ended_ns=event.stamp_ns)
            else:
                self._add(a.Type(text), event, event.stamp_ns, (), hidden)
        elif not hidden:
            self._key(event, held, last)

    def _key(self, event: InputEvent, held: Sequence[str], last: HumanAction | None) -> None:
        if held:
            name = event.name.lower() if len(event.name) == 1 else event.name
            self._add(a.Hotkey((*held, name)), event, event.stamp_ns)
        elif last is not None and isinstance(last.action, a.Key) and self._repeats(last.action, last, event):
            action = replace(last.action, count=last.action.count + 1)
            self.made[-1] = replace(last, action=action, ended_ns=event.stamp_ns)
        else:
            self._add(a.Key(event.name), event, event.stamp_ns)

    def _repeats(self, key: a.Key, last: HumanAction, event: InputEvent) -> bool:
        return key.key == event.name and key.count < 100 and last.window == event.window

    def _goes_on(self, last: HumanAction, event: InputEvent, hidden: bool) -> bool:
        return last.window == event.window and last.hidden == hidden

    def _add(
        self,
        action: a.DesktopAction,
        event: InputEvent,
        ended_ns: int,
        pixels: tuple[tuple[int, int], ...] = (),
        hidden: bool = False,
    ) -> None:
        made = HumanAction(action, event.stamp_ns, ended_ns, pixels, event.window, event.element, hidden)
        self.made.append(made)

    def _point(self, pixel: tuple[int, int], event: InputEvent) -> a.Point:
        """A pixel in the frame of the window that was met; on the screen where that is not known."""
        window = self._window_of(event.window, event.stamp_ns) if event.window else None
        if window is None or not window.rect.width or not window.rect.height:
            return a.Point(*_share(pixel, a.Rect(0, 0, *_screen(self._window_of, event))))
        return a.Point(*_share(pixel, window.rect), f"window:{window.id}")


def _screen(window_of: Callable[[int, int], Window | None], event: InputEvent) -> tuple[int, int]:
    """Size of the screen: the window of no id."""
    root = window_of(0, event.stamp_ns)
    return (root.rect.width, root.rect.height) if root is not None else (65535, 65535)


def _share(pixel: tuple[int, int], rect: a.Rect) -> tuple[float, float]:
    x, y = (pixel[0] + 0.5 - rect.x) / rect.width, (pixel[1] + 0.5 - rect.y) / rect.height
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def _modifier(name: str) -> str | None:
    small = name.lower()
    if small in a.MODIFIERS:
        return small
    return _SAME.get(small) or (small if is_modifier(name) else None)


def _far(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) >= _NEAR_PX


def _thinned(pixels: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The first and the last, and some between, evenly."""
    step = max(1, -(-(len(pixels) - 1) // (_MOST_PLACES - 1)))
    return [*pixels[:-1:step], pixels[-1]]
