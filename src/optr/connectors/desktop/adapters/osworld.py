"""OSWorld's action space computer_13: sixteen kinds of actions as dicts.

Source: Xie et al., "OSWorld: Benchmarking Multimodal Agents for Open-Ended Tasks in Real Computer Environments", 2024,
arXiv:2404.07972, appendix on the action space; `desktop_env/actions.py` and `desktop_env/controllers/python.py` of
github.com/xlang-ai/OSWorld. Coordinates are pixels of the screen. A wheel is turned by PyAutoGUI's `hscroll(dx)` and
`vscroll(dy)`: up is positive there. Parameters may stand under `parameters` or beside `action_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import say
from optr.connectors.desktop.codec import short
from optr.errors import DesktopError

FORMAT = "computer_13"
WAIT_S = 1.0
"""WAIT says no time; this is ours [s]."""

_BUTTONS = {"left": "left", "middle": "middle", "right": "right"}
_FIELDS: dict[str, tuple[str, ...]] = {
    "MOVE_TO": ("x", "y"),
    "CLICK": ("button", "x", "y", "num_clicks"),
    "MOUSE_DOWN": ("button",),
    "MOUSE_UP": ("button",),
    "RIGHT_CLICK": ("x", "y"),
    "DOUBLE_CLICK": ("x", "y"),
    "DRAG_TO": ("x", "y"),
    "SCROLL": ("dx", "dy"),
    "TYPING": ("text",),
    "PRESS": ("key",),
    "KEY_DOWN": ("key",),
    "KEY_UP": ("key",),
    "HOTKEY": ("keys",),
    "WAIT": (),
    "FAIL": (),
    "DONE": (),
}


def from_computer_13(data: Mapping[str, Any] | str, size: say.Size) -> say.Actions:
    """Our actions for one of theirs.

    Args:
        data: The dict, or WAIT, FAIL or DONE alone.
        size: Of the screen that its pixels count in [px].

    Raises:
        DesktopError: If it is none of theirs, or what it says cannot be.
    """
    if isinstance(data, str):
        data = {"action_type": data}
    if not isinstance(data, Mapping):
        raise DesktopError(f"{FORMAT}: an action is an object with an action_type, got {short(data)}")
    kind = data.get("action_type")
    names = say.one_of(kind, _FIELDS, "action_type")
    given = {k: v for k, v in data.items() if k not in ("action_type", "parameters")}
    parameters = data.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise DesktopError(f"{kind}: parameters are {short(parameters)}, expected an object")
    given = {**given, **parameters}
    say.known_fields(given, names, str(kind))
    return say.checked(*_FROM[str(kind)](given, size))


def to_computer_13(action: a.DesktopAction, size: say.Size) -> list[dict[str, Any]]:
    """Their actions for one of ours, to be done one after the other.

    How long a wait is, how long a drag takes and why something failed are left out; they have no words for that.

    Raises:
        DesktopError: If they have no words for it.
    """
    make = _TO.get(type(action))
    if make is None:
        raise say.cannot(FORMAT, action)
    return [_theirs(kind, **fields) for kind, fields in make(action, size)]


def _theirs(kind: str, **parameters: Any) -> dict[str, Any]:
    return {"action_type": kind, "parameters": parameters} if _FIELDS[kind] else {"action_type": kind}


# -- from --------------------------------------------------------------------------------------------------------

_Given = dict[str, Any]


def _place(given: _Given, size: say.Size) -> a.Point | None:
    if given.get("x") is None and given.get("y") is None:
        return None
    return say.place(given.get("x"), given.get("y"), size)


def _needed(given: _Given, size: say.Size) -> a.Point:
    return say.place(given.get("x"), given.get("y"), size)


def _button(given: _Given) -> str:
    return say.one_of(given.get("button") or "left", _BUTTONS, "button")


def _click(given: _Given, size: say.Size) -> say.Actions:
    count = 1 if given.get("num_clicks") is None else say.whole(given["num_clicks"], "num_clicks")
    return (a.Click(_place(given, size), _button(given), count),)


def _drag(given: _Given, size: say.Size) -> say.Actions:
    return (a.Press(), a.Move(_needed(given, size)), a.Release())


def _scroll(given: _Given, size: say.Size) -> say.Actions:
    dx, dy = (say.whole(given.get(name, 0), name) for name in ("dx", "dy"))
    return (a.Scroll(None, dx, -dy),)


def _hotkey(given: _Given, size: say.Size) -> say.Actions:
    keys = given.get("keys")
    if not isinstance(keys, list | tuple):
        raise DesktopError(f"HOTKEY: keys is {short(keys)}, expected a list")
    return (a.Hotkey(tuple(say.key(k) for k in keys)),)


_FROM: dict[str, Callable[[_Given, say.Size], say.Actions]] = {
    "MOVE_TO": lambda g, s: (a.Move(_needed(g, s)),),
    "CLICK": _click,
    "MOUSE_DOWN": lambda g, s: (a.Press(None, _button(g)),),
    "MOUSE_UP": lambda g, s: (a.Release(None, _button(g)),),
    "RIGHT_CLICK": lambda g, s: (a.Click(_place(g, s), "right"),),
    "DOUBLE_CLICK": lambda g, s: (a.Click(_place(g, s), "left", 2),),
    "DRAG_TO": _drag,
    "SCROLL": _scroll,
    "TYPING": lambda g, s: (a.Type(say.text(g.get("text"), "text")),),
    "PRESS": lambda g, s: (a.Key(say.key(g.get("key"))),),
    "KEY_DOWN": lambda g, s: (a.KeyDown(say.key(g.get("key"))),),
    "KEY_UP": lambda g, s: (a.KeyUp(say.key(g.get("key"))),),
    "HOTKEY": _hotkey,
    "WAIT": lambda g, s: (a.Wait("time", timeout_s=WAIT_S),),
    "FAIL": lambda g, s: (a.Fail(),),
    "DONE": lambda g, s: (a.Done(),),
}


# -- to ----------------------------------------------------------------------------------------------------------

_Said = list[tuple[str, dict[str, Any]]]


def _at(target: a.Target | None, size: say.Size) -> dict[str, Any]:
    if target is None:
        return {}
    x, y = say.pixel(target, size, FORMAT)
    return {"x": x, "y": y}


def _moved(target: a.Target | None, size: say.Size) -> _Said:
    return [("MOVE_TO", _at(target, size))] if target is not None else []


def _said_button(action: Any) -> dict[str, Any]:
    if action.button not in _BUTTONS:
        raise say.cannot(FORMAT, action, f"it has the buttons {', '.join(_BUTTONS)}")
    return {"button": action.button}


def _holding(action: Any, said: _Said) -> _Said:
    down: _Said = [("KEY_DOWN", {"key": m}) for m in action.modifiers]
    return [*down, *said, *[("KEY_UP", {"key": m}) for m in reversed(action.modifiers)]]


def _say_click(action: a.Click, size: say.Size) -> _Said:
    clicks = {**_said_button(action), **_at(action.at, size), "num_clicks": action.count}
    return _holding(action, [("CLICK", clicks)])


def _say_drag(action: a.Drag, size: say.Size) -> _Said:
    first, *rest = [("MOVE_TO", _at(target, size)) for target in action.path]
    button = _said_button(action)
    return _holding(action, [first, ("MOUSE_DOWN", button), *rest, ("MOUSE_UP", button)])


def _say_type(action: a.Type, size: say.Size) -> _Said:
    clicked: _Said = [("CLICK", {"button": "left", **_at(action.into, size), "num_clicks": 1})] if action.into else []
    return [*clicked, ("TYPING", {"text": action.text})]


def _say_wait(action: a.Wait, size: say.Size) -> _Said:
    if action.until != "time":
        raise say.cannot(FORMAT, action, "it waits for nothing but time")
    return [("WAIT", {})]


def _say_end(action: a.Done | a.Fail, size: say.Size) -> _Said:
    if isinstance(action, a.Done) and action.answer:
        raise say.cannot(FORMAT, action, "it has no answers")
    return [("DONE" if isinstance(action, a.Done) else "FAIL", {})]


_TO: dict[type[Any], Callable[[Any, say.Size], _Said]] = {
    a.Move: lambda o, s: _moved(o.to, s),
    a.Click: _say_click,
    a.Press: lambda o, s: [*_moved(o.at, s), ("MOUSE_DOWN", _said_button(o))],
    a.Release: lambda o, s: [*_moved(o.at, s), ("MOUSE_UP", _said_button(o))],
    a.Drag: _say_drag,
    a.Scroll: lambda o, s: [*_moved(o.at, s), ("SCROLL", {"dx": o.dx, "dy": -o.dy})],
    a.Type: _say_type,
    a.Key: lambda o, s: [("PRESS", {"key": o.key})] * o.count,
    a.KeyDown: lambda o, s: [("KEY_DOWN", {"key": o.key})],
    a.KeyUp: lambda o, s: [("KEY_UP", {"key": o.key})],
    a.Hotkey: lambda o, s: [("HOTKEY", {"keys": list(o.keys)})],
    a.Wait: _say_wait,
    a.Done: _say_end,
    a.Fail: _say_end,
}
