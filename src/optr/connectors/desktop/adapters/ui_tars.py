"""UI-TARS: a thought, and an action as a call in text.

Source: Qin et al., "UI-TARS: Pioneering Automated GUI Interaction with Native Agents", 2025, arXiv:2501.12326, and the
prompts and the page on coordinates of github.com/bytedance/UI-TARS (computer use). Coordinates are thousandths of the
picture, or, from version 1.5 on, pixels of the picture as it was scaled for the model: `grid` says which. A place comes
as `(x,y)`, between `<|box_start|>` and `<|box_end|>`, as a box of four numbers, whose middle counts, or as
`<point>x y</point>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import say
from optr.connectors.desktop.adapters.literal_calls import Call, literal_calls
from optr.connectors.desktop.chords import split_chord
from optr.connectors.desktop.codec import short
from optr.errors import DesktopError

FORMAT = "UI-TARS"

THOUSANDTHS = (1000, 1000)
"""The grid of versions before 1.5, and of Doubao models."""

NOTCHES = 5
"""`scroll` says no distance; this is ours."""

WAIT_S = 5.0
"""`wait` is five seconds, says the prompt [s]."""

_NUMBER = re.compile(r"-?\d{1,7}(?:\.\d{1,7})?")
_PLACE = re.compile(r"[\s\d.,()\[\]-]*")
_TAGS = re.compile(r"<\|box_start\|>|<\|box_end\|>|</?point>|</?bbox>")
_DIRECTIONS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_START = ("start_box", "start_point", "point")
_END = ("end_box", "end_point")


def from_ui_tars(text: str, grid: say.Size = THOUSANDTHS) -> say.Actions:
    """Our actions for an answer of the model, or for its action alone.

    Args:
        text: What stands before `Action:` does not count.
        grid: Width and height that its coordinates count in.

    Raises:
        DesktopError: If it holds anything but actions of theirs.
    """
    code = text.rpartition("Action:")[2].strip() if "Action:" in text else text.strip()
    out: list[a.DesktopAction] = []
    for call in literal_calls(code):
        make = _FROM.get(call.name)
        if make is None:
            call.fail(f"is none of: {', '.join(_FROM)}")
        try:
            out += say.checked(*make(call, grid))
        except DesktopError as err:
            raise DesktopError(f"{call.name}: {err}") from err
    if not out:
        raise DesktopError(f"{FORMAT}: there is no action")
    return tuple(out)


def to_ui_tars(action: a.DesktopAction, grid: say.Size = THOUSANDTHS) -> str:
    """Their text for one of our actions.

    Raises:
        DesktopError: If they have no words for it.
    """
    make = _TO.get(type(action))
    if make is None:
        raise say.cannot(FORMAT, action)
    return make(action, grid)


# -- from --------------------------------------------------------------------------------------------------------


def _argument(call: Call, names: tuple[str, ...]) -> Any:
    found = [call.kwargs[name] for name in names if name in call.kwargs]
    if len(found) != 1:
        raise DesktopError(f"needs one of: {', '.join(names)}")
    return found[0]


def _only(call: Call, *names: str) -> None:
    if call.args:
        raise DesktopError("takes arguments by name only")
    say.known_fields(dict(call.kwargs), names, "it")


def _point(value: Any, grid: say.Size) -> a.Point:
    text = _TAGS.sub(" ", say.text(value, "a place"))
    numbers = [float(n) for n in _NUMBER.findall(text)]
    if not _PLACE.fullmatch(text) or len(numbers) not in (2, 4):
        raise DesktopError(f"{short(value)} is no place; expected (x,y) or [x1, y1, x2, y2]")
    x, y = (numbers[0] + numbers[-2]) / 2, (numbers[1] + numbers[-1]) / 2
    width, height = grid
    if not (0 <= x <= width and 0 <= y <= height):
        raise DesktopError(f"({x:g}, {y:g}) lies outside of {width} x {height}")
    return a.Point(x / width, y / height, seen=None if grid == THOUSANDTHS else grid)


def _start(call: Call, grid: say.Size) -> a.Point:
    return _point(_argument(call, _START), grid)


def _click(button: str, count: int) -> Callable[[Call, say.Size], say.Actions]:
    def make(call: Call, grid: say.Size) -> say.Actions:
        _only(call, *_START)
        return (a.Click(_start(call, grid), button, count),)

    return make


def _drag(call: Call, grid: say.Size) -> say.Actions:
    _only(call, *_START, *_END)
    return (a.Drag((_start(call, grid), _point(_argument(call, _END), grid))),)


def _scroll(call: Call, grid: say.Size) -> say.Actions:
    _only(call, *_START, "direction")
    dx, dy = say.one_of(call.kwargs.get("direction"), _DIRECTIONS, "direction")
    at = _start(call, grid) if any(name in call.kwargs for name in _START) else None
    return (a.Scroll(at, dx * NOTCHES, dy * NOTCHES),)


def _keys(call: Call) -> tuple[str, ...]:
    _only(call, "key", "hotkey")
    words = say.text(_argument(call, ("key", "hotkey")), "key").split()
    return tuple(say.key(k) for word in words for k in split_chord(word))


def _hotkey(call: Call, grid: say.Size) -> say.Actions:
    keys = _keys(call)
    return (a.Key(keys[0]),) if len(keys) == 1 else (a.Hotkey(keys),)


def _each_key(kind: type[a.KeyDown] | type[a.KeyUp]) -> Callable[[Call, say.Size], say.Actions]:
    return lambda call, grid: tuple(kind(k) for k in _keys(call))


def _wait(call: Call, grid: say.Size) -> say.Actions:
    _only(call)
    return (a.Wait("time", timeout_s=WAIT_S),)


def _content(call: Call) -> str:
    _only(call, "content")
    return say.text(call.kwargs.get("content", ""), "content")


_FROM: dict[str, Callable[[Call, say.Size], say.Actions]] = {
    "click": _click("left", 1),
    "left_single": _click("left", 1),
    "left_double": _click("left", 2),
    "right_single": _click("right", 1),
    "drag": _drag,
    "hotkey": _hotkey,
    "press": _each_key(a.KeyDown),
    "keydown": _each_key(a.KeyDown),
    "release": _each_key(a.KeyUp),
    "keyup": _each_key(a.KeyUp),
    "type": lambda c, g: (a.Type(_content(c)),),
    "scroll": _scroll,
    "wait": _wait,
    "finished": lambda c, g: (a.Done(_content(c)),),
    "call_user": lambda c, g: (a.Ask(_content(c) or "The operator needs help."),),
}


# -- to ----------------------------------------------------------------------------------------------------------


def _box(target: a.Target | None, grid: say.Size) -> str:
    if not isinstance(target, a.Point) or target.frame != a.SCREEN:
        raise DesktopError(f"{FORMAT} knows places on the screen only, not {target}")
    return f"'({round(target.x * grid[0])},{round(target.y * grid[1])})'"


def _say_click(action: a.Click, grid: say.Size) -> str:
    names = {("left", 1): "click", ("left", 2): "left_double", ("right", 1): "right_single"}
    name = names.get((action.button, action.count))
    if name is None or action.modifiers or action.at is None:
        raise say.cannot(FORMAT, action, "it has click, left_double and right_single, at a place")
    return f"{name}(start_box={_box(action.at, grid)})"


def _say_drag(action: a.Drag, grid: say.Size) -> str:
    if action.button != "left" or len(action.path) != 2 or action.modifiers:
        raise say.cannot(FORMAT, action, "it drags by the left button from one place to one other")
    return f"drag(start_box={_box(action.path[0], grid)}, end_box={_box(action.path[1], grid)})"


def _say_scroll(action: a.Scroll, grid: say.Size) -> str:
    turned = {(x * NOTCHES, y * NOTCHES): name for name, (x, y) in _DIRECTIONS.items()}
    direction = turned.get((action.dx, action.dy))
    if direction is None or action.at is None:
        raise say.cannot(FORMAT, action, f"it scrolls {NOTCHES} notches in one direction, at a place")
    return f"scroll(start_box={_box(action.at, grid)}, direction={direction!r})"


def _say_type(action: a.Type, grid: say.Size) -> str:
    if action.into is not None:
        raise say.cannot(FORMAT, action, "it types where the keyboard is")
    return f"type(content={action.text!r})"


def _say_wait(action: a.Wait, grid: say.Size) -> str:
    if action.until != "time" or action.timeout_s != WAIT_S:
        raise say.cannot(FORMAT, action, f"it waits {WAIT_S:g} s")
    return "wait()"


def _say_keys(action: a.Key | a.Hotkey, grid: say.Size) -> str:
    keys = action.keys if isinstance(action, a.Hotkey) else (action.key,)
    if isinstance(action, a.Key) and action.count != 1:
        raise say.cannot(FORMAT, action, "it presses a key once")
    return f"hotkey(key={' '.join(keys)!r})"


_TO: dict[type[Any], Callable[[Any, say.Size], str]] = {
    a.Click: _say_click,
    a.Drag: _say_drag,
    a.Scroll: _say_scroll,
    a.Type: _say_type,
    a.Key: _say_keys,
    a.Hotkey: _say_keys,
    a.KeyDown: lambda o, g: f"press(key={o.key!r})",
    a.KeyUp: lambda o, g: f"release(key={o.key!r})",
    a.Wait: _say_wait,
    a.Done: lambda o, g: f"finished(content={o.answer!r})",
    a.Ask: lambda o, g: f"call_user(content={o.question!r})",
}
