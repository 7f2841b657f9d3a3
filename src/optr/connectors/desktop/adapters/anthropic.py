"""Anthropic's computer use: calls of its tool, in every version, and the results that go back.

Source: platform.claude.com, "Computer use tool" (tool versions 20241022, 20250124, 20251124), and the input types of
the toolset 20260801 in Anthropic's SDKs (`BetaComputer...Input`). A call is `{"action": "left_click", "coordinate":
[x, y]}`; in the toolset the action is the name of the tool instead. Coordinates are pixels of the picture that the
model was shown, smaller than the screen where that is large; places are shares here, so that needs no care.

A model also asks to see: `screenshot`, `zoom` and `cursor_position` do nothing to a desktop, and come out as a `Look`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import say
from optr.connectors.desktop.chords import split_chord
from optr.connectors.desktop.codec import short
from optr.errors import DesktopError

FORMAT = "computer use"

LONGEST_EDGE_PX = 1568
MOST_PIXELS = 1_150_000
"""What pictures are scaled down to before a model sees them, unless it is done beforehand (documentation, "Vision")."""

_V1 = ("key", "type", "mouse_move", "left_click", "left_click_drag", "right_click", "middle_click", "double_click",
       "screenshot", "cursor_position")  # fmt: skip
_V2 = (*_V1, "left_mouse_down", "left_mouse_up", "scroll", "hold_key", "wait", "triple_click")
_V3 = (*_V2, "zoom")
VERSIONS: dict[str, tuple[str, ...]] = {"20241022": _V1, "20250124": _V2, "20251124": _V3, "20260801": _V3}
"""Actions of each version."""

_FIELDS: dict[str, tuple[str, ...]] = {
    "key": ("text", "repeat"),
    "hold_key": ("text", "duration"),
    "type": ("text",),
    "mouse_move": ("coordinate",),
    "left_click": ("coordinate", "text"),
    "right_click": ("coordinate", "text"),
    "middle_click": ("coordinate", "text"),
    "double_click": ("coordinate", "text"),
    "triple_click": ("coordinate", "text"),
    "left_click_drag": ("start_coordinate", "coordinate", "text"),
    "left_mouse_down": ("coordinate",),
    "left_mouse_up": ("coordinate",),
    "scroll": ("coordinate", "scroll_direction", "scroll_amount", "text"),
    "wait": ("duration",),
    "screenshot": (),
    "cursor_position": (),
    "zoom": ("region",),
}
_CLICKS = {
    "left_click": ("left", 1),
    "right_click": ("right", 1),
    "middle_click": ("middle", 1),
    "double_click": ("left", 2),
    "triple_click": ("left", 3),
}
_DIRECTIONS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@dataclass(frozen=True)
class Look:
    """Something that is to be seen and not done.

    Attributes:
        what: `screenshot`, `cursor_position` or `zoom`.
        region: Of `zoom`: left, upper, right and lower edge as shares of the screen.
    """

    what: str
    region: tuple[float, float, float, float] | None = None


def shown_size(screen: say.Size) -> say.Size:
    """The size that a picture of the screen is scaled to before it is shown, so that its pixels are those named."""
    width, height = screen
    scale = min(1.0, LONGEST_EDGE_PX / max(width, height), math.sqrt(MOST_PIXELS / (width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))


def from_anthropic(
    data: Mapping[str, Any], shown: say.Size, version: str = "20260801", name: str = "computer"
) -> say.Actions | Look:
    """Our actions for the input of one call of theirs, or what the model wants to see.

    Args:
        data: The `input` of a `tool_use` block.
        shown: Size of the picture that the model was shown [px].
        version: Of the tool.
        name: The block's name; where it is none of their actions, the input names the action.

    Raises:
        DesktopError: If it is none of theirs, or what it says cannot be.
    """
    known = {action: action for action in say.one_of(version, VERSIONS, "version")}
    if not isinstance(data, Mapping):
        raise DesktopError(f"{FORMAT}: the input is {short(data)}, expected an object")
    kind = say.one_of(name if name in _FIELDS else data.get("action"), known, "action")
    given = {k: v for k, v in data.items() if k != "action" and v is not None}
    say.known_fields(given, _FIELDS[kind], kind)
    if kind in ("screenshot", "cursor_position"):
        return Look(kind)
    if kind == "zoom":
        return Look(kind, _region(given.get("region"), shown))
    return say.checked(*_FROM[kind](kind, given, shown))


def to_anthropic(action: a.DesktopAction, shown: say.Size) -> list[dict[str, Any]]:
    """Inputs of their calls for one of our actions, to be called one after the other.

    Raises:
        DesktopError: If they have no words for it.
    """
    make = _TO.get(type(action))
    if make is None:
        raise say.cannot(FORMAT, action)
    return make(action, shown)


def tool_result(tool_use_id: str, result: a.ActionResult, png: bytes | None = None) -> dict[str, Any]:
    """What came of a call as a `tool_result` block.

    Args:
        tool_use_id: Id of the call.
        result: What came of it.
        png: A picture of the screen afterwards; None: none is shown.
    """
    said = result.text or result.answer or f"{'done' if result.executed else 'not done'}, effect {result.effect.value}"
    if result.refused:
        said = f"{result.refused}: {said}"
    content: list[dict[str, Any]] = [{"type": "text", "text": said}]
    if png is not None:
        data = base64.b64encode(png).decode()
        content.append({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
    error = {} if result.executed else {"is_error": True}
    return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, **error}


# -- from --------------------------------------------------------------------------------------------------------

_Given = dict[str, Any]


def _at(given: _Given, shown: say.Size) -> a.Point | None:
    return say.pair(given["coordinate"], shown, "coordinate") if "coordinate" in given else None


def _needed(given: _Given, shown: say.Size, name: str = "coordinate") -> a.Point:
    return say.pair(given.get(name), shown, name)


def _keys(value: Any) -> tuple[str, ...]:
    return tuple(say.key(k) for k in split_chord(say.text(value, "text").strip()))


def _modifiers(given: _Given) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_keys(given["text"]))) if given.get("text") else ()


def _click(kind: str, given: _Given, shown: say.Size) -> say.Actions:
    button, count = _CLICKS[kind]
    return (a.Click(_at(given, shown), button, count, _modifiers(given)),)


def _drag(kind: str, given: _Given, shown: say.Size) -> say.Actions:
    end = _needed(given, shown)
    if "start_coordinate" in given:
        return (a.Drag((_needed(given, shown, "start_coordinate"), end), modifiers=_modifiers(given)),)
    return _held(_modifiers(given), a.Press(), a.Move(end), a.Release())


def _held(keys: tuple[str, ...], *during: a.DesktopAction) -> say.Actions:
    return (*map(a.KeyDown, keys), *during, *map(a.KeyUp, reversed(keys)))


def _key(kind: str, given: _Given, shown: say.Size) -> say.Actions:
    repeat = say.whole(given.get("repeat", 1), "repeat")
    words = say.text(given.get("text"), "text").split() or [""]
    if not 1 <= repeat <= 100 or len(words) > 100:
        raise DesktopError(f"repeat is {repeat}, expected 1 to 100, of at most 100 keys")
    chords = [_keys(word) for word in words]
    if len(chords) == 1 and len(chords[0]) == 1:
        return (a.Key(chords[0][0], repeat),)
    return tuple(a.Key(c[0]) if len(c) == 1 else a.Hotkey(c) for c in chords) * repeat


def _hold_key(kind: str, given: _Given, shown: say.Size) -> say.Actions:
    wait = a.Wait("time", timeout_s=say.seconds(given.get("duration"), "duration"))
    return _held(_keys(given.get("text")), wait)


def _scroll(kind: str, given: _Given, shown: say.Size) -> say.Actions:
    dx, dy = say.one_of(given.get("scroll_direction"), _DIRECTIONS, "scroll_direction")
    amount = say.whole(given.get("scroll_amount"), "scroll_amount")
    if amount < 0:
        raise DesktopError(f"scroll_amount is {amount}, expected none below zero")
    return _held(_modifiers(given), a.Scroll(_at(given, shown), dx * amount, dy * amount))


def _region(value: Any, shown: say.Size) -> tuple[float, float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise DesktopError(f"region is {short(value)}, expected [x0, y0, x1, y1]")
    x0, y0, x1, y1 = (say.number(v, "region") for v in value)
    width, height = shown
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DesktopError(f"region {list(value)} is empty, or outside of the picture of {width} x {height}")
    return x0 / width, y0 / height, x1 / width, y1 / height


_FROM: dict[str, Callable[[str, _Given, say.Size], say.Actions]] = {
    **dict.fromkeys(_CLICKS, _click),
    "key": _key,
    "hold_key": _hold_key,
    "type": lambda k, g, s: (a.Type(say.text(g.get("text"), "text")),),
    "mouse_move": lambda k, g, s: (a.Move(_needed(g, s)),),
    "left_click_drag": _drag,
    "left_mouse_down": lambda k, g, s: (a.Press(_at(g, s)),),
    "left_mouse_up": lambda k, g, s: (a.Release(_at(g, s)),),
    "scroll": _scroll,
    "wait": lambda k, g, s: (a.Wait("time", timeout_s=say.seconds(g.get("duration"), "duration")),),
}


# -- to ----------------------------------------------------------------------------------------------------------

_Said = list[dict[str, Any]]


def _place(target: a.Target | None, shown: say.Size, name: str = "coordinate") -> dict[str, Any]:
    return {} if target is None else {name: list(say.pixel(target, shown, FORMAT))}


def _chord(keys: tuple[str, ...]) -> dict[str, Any]:
    return {"text": "+".join(keys)} if keys else {}


def _say_click(action: a.Click, shown: say.Size) -> _Said:
    kind = next((k for k, known in _CLICKS.items() if known == (action.button, action.count)), None)
    if kind is None:
        raise say.cannot(FORMAT, action, f"it has {', '.join(_CLICKS)}")
    return [{"action": kind, **_place(action.at, shown), **_chord(action.modifiers)}]


def _say_button(action: a.Press | a.Release, shown: say.Size) -> _Said:
    if action.button != "left":
        raise say.cannot(FORMAT, action, "it holds the left button only")
    moved = [{"action": "mouse_move", **_place(action.at, shown)}] if action.at is not None else []
    return [*moved, {"action": "left_mouse_down" if isinstance(action, a.Press) else "left_mouse_up"}]


def _say_drag(action: a.Drag, shown: say.Size) -> _Said:
    if action.button != "left" or len(action.path) != 2:
        raise say.cannot(FORMAT, action, "it drags by the left button from one place to one other")
    first, last = action.path
    places = {**_place(first, shown, "start_coordinate"), **_place(last, shown)}
    return [{"action": "left_click_drag", **places, **_chord(action.modifiers)}]


def _say_scroll(action: a.Scroll, shown: say.Size) -> _Said:
    if action.dx and action.dy:
        raise say.cannot(FORMAT, action, "it scrolls in one direction at a time")
    amount = action.dx or action.dy
    words = ("right", "left") if action.dx else ("down", "up")
    direction = words[amount < 0]
    place = _place(action.at, shown)
    return [{"action": "scroll", **place, "scroll_direction": direction, "scroll_amount": abs(amount)}]


def _say_type(action: a.Type, shown: say.Size) -> _Said:
    clicked = [{"action": "left_click", **_place(action.into, shown)}] if action.into is not None else []
    return [*clicked, {"action": "type", "text": action.text}]


def _say_wait(action: a.Wait, shown: say.Size) -> _Said:
    if action.until != "time":
        raise say.cannot(FORMAT, action, "it waits for nothing but time")
    return [{"action": "wait", "duration": action.timeout_s}]


def _say_key(action: a.Key, shown: say.Size) -> _Said:
    return [{"action": "key", "text": action.key, **({"repeat": action.count} if action.count > 1 else {})}]


_TO: dict[type[Any], Callable[[Any, say.Size], _Said]] = {
    a.Move: lambda o, s: [{"action": "mouse_move", **_place(o.to, s)}],
    a.Click: _say_click,
    a.Press: _say_button,
    a.Release: _say_button,
    a.Drag: _say_drag,
    a.Scroll: _say_scroll,
    a.Type: _say_type,
    a.Key: _say_key,
    a.Hotkey: lambda o, s: [{"action": "key", "text": "+".join(o.keys)}],
    a.Wait: _say_wait,
}
