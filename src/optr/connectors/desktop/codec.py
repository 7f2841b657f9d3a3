"""Actions of a desktop as JSON, and what may stand in one. Strict: whatever is not exactly an action is refused.

An action is a flat object: `kind`, and the fields of its class. A place is `{"x": 0.5, "y": 0.5, "frame": "screen",
"seen": [1280, 800]}` or `{"selector": "text=Login", "within": 12}`. Everything is written but what is None.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from optr.connectors.desktop.actions import (
    ACTIONS,
    BUTTONS,
    MODIFIERS,
    ActionResult,
    DesktopAction,
    Effect,
    Point,
    Rect,
    Selector,
)
from optr.errors import DesktopError

LONGEST_TEXT = 20_000
"""Characters of a text that is typed, answered or asked."""

LONGEST_NAME = 1_000
"""Characters of what names something: a selector, a window, a program."""

LONGEST_KEY = 32
"""Characters of the name of a key."""

LONGEST_WAIT_S = 3600.0
"""Longest timeout [s]."""

MOST_PIXELS = 65_535
"""Width and height of the largest picture that X can show [px]."""

UNTIL = ("still", "window", "element", "text", "gone", "time")
"""What can be waited for."""

_NAMED = ("window", "element", "text", "gone")
_FRAME = re.compile(r"screen|monitor:[^\s\x00-\x1f\x7f]{1,64}|window:[0-9]{1,10}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_IN_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MOST_DEPTH_TEXT = 4 * LONGEST_TEXT * 10


def check_action(action: DesktopAction) -> None:
    """See that an action is one, in every field.

    Raises:
        DesktopError: If it is of no known kind, or a field has the wrong type, is out of range or endless.
    """
    kind = type(action)
    if ACTIONS.get(getattr(kind, "kind", "")) is not kind:
        raise DesktopError(f"{short(action)} is no action; there are: {', '.join(ACTIONS)}")
    for name, hint in _hints(kind).items():
        _check(getattr(action, name), hint, f"{kind.kind}.{name}")
    for name, check in _WHOLE.items():
        if kind.kind == name:
            check(action)


def to_json(action: DesktopAction) -> dict[str, Any]:
    """An action as plain data, ready for `json.dumps`; `from_json` makes the same action of it.

    Raises:
        DesktopError: If it is no sound action; see `check_action`.
    """
    check_action(action)
    return {"kind": action.kind, **_dumped_fields(action)}


def from_json(data: Mapping[str, Any]) -> DesktopAction:
    """An action out of plain data.

    Raises:
        DesktopError: If it is not exactly an action; the message says what came and what was expected.
    """
    if not isinstance(data, Mapping):
        raise DesktopError(f"an action is an object with a kind, got {short(data)}")
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in ACTIONS:
        raise DesktopError(f"no action {short(kind)}; there are: {', '.join(ACTIONS)}")
    made = _loaded_fields(ACTIONS[kind], {k: v for k, v in data.items() if k != "kind"}, kind)
    check_action(made)
    action: DesktopAction = made
    return action


def to_text(action: DesktopAction) -> str:
    """An action as one line of JSON, the same for the same action."""
    return json.dumps(to_json(action), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def from_text(text: str) -> DesktopAction:
    """An action out of JSON.

    Raises:
        DesktopError: If it is no JSON, names something twice, or is not exactly an action.
    """
    if len(text) > _MOST_DEPTH_TEXT:
        raise DesktopError(f"{len(text)} characters are no action; the longest has {_MOST_DEPTH_TEXT}")
    try:
        data = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as err:
        raise DesktopError(f"{short(text)} is no JSON: {err}") from err
    return from_json(data)


def result_to_json(result: ActionResult) -> dict[str, Any]:
    """What came of an action as plain data, without what is None."""
    return _dumped_fields(result)


def result_from_json(data: Mapping[str, Any]) -> ActionResult:
    """What came of an action out of plain data.

    Raises:
        DesktopError: If it is not exactly that.
    """
    if not isinstance(data, Mapping):
        raise DesktopError(f"a result is an object, got {short(data)}")
    made = _loaded_fields(ActionResult, data, "result")
    for name, hint in _hints(ActionResult).items():
        if name != "details":
            _check(getattr(made, name), hint, f"result.{name}")
    result: ActionResult = made
    return result


# -- out ---------------------------------------------------------------------------------------------------------


def _dumped_fields(value: Any) -> dict[str, Any]:
    found = ((f.name, getattr(value, f.name)) for f in fields(value))
    return {name: _dumped(inner) for name, inner in found if inner is not None}


def _dumped(value: Any) -> Any:
    if isinstance(value, Selector):
        return {"selector": value.text} | ({} if value.within is None else {"within": value.within})
    if isinstance(value, Point | Rect):
        return _dumped_fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_dumped(v) for v in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


# -- in ----------------------------------------------------------------------------------------------------------


def _loaded_fields(kind: type[Any], data: Mapping[str, Any], where: str) -> Any:
    hints = _hints(kind)
    for key in data:
        if key not in hints:
            _fail(where, f"has no field {short(key)}; it has: {', '.join(hints) or 'none'}")
    for one in fields(kind):
        if one.name not in data and one.default is MISSING and one.default_factory is MISSING:
            _fail(where, f"needs {one.name!r}, which is missing")
    return kind(**{key: _loaded(value, hints[key], f"{where}.{key}") for key, value in data.items()})


def _loaded(value: Any, hint: Any, where: str) -> Any:
    """Plain data as the type that is wanted, as far as its form tells; `_check` looks at the rest."""
    kinds = _alternatives(hint)
    if value is None and type(None) not in kinds:
        _fail(where, "is null; leave it out instead")
    if isinstance(value, Mapping):
        if Selector in kinds and "selector" in value:
            return _loaded_fields(Selector, {"text" if k == "selector" else k: v for k, v in value.items()}, where)
        inner = next((k for k in (Point, Rect) if k in kinds), None)
        if inner is not None:
            return _loaded_fields(inner, value, where)
    if isinstance(value, list):
        item = next((get_args(k) for k in kinds if get_origin(k) is tuple), None)
        if item is not None:
            return tuple(_loaded(v, item[0], f"{where}[{i}]") for i, v in enumerate(value))
    if Effect in kinds and value in [e.value for e in Effect]:
        return Effect(value)
    if float in kinds and _is_whole(value):
        return float(value)
    return value


# -- checks ------------------------------------------------------------------------------------------------------


def _check(value: Any, hint: Any, where: str) -> None:
    """See that a value is of one of the types, and within what its field allows."""
    kinds = _alternatives(hint)
    if value is None and type(None) in kinds:
        return
    if isinstance(value, Point | Selector | Rect) and type(value) in kinds:
        for name, inner in _hints(type(value)).items():
            _check(getattr(value, name), inner, f"{where}.{name}")
        return
    if isinstance(value, tuple) and any(get_origin(k) is tuple for k in kinds):
        _check_tuple(value, next(get_args(k) for k in kinds if get_origin(k) is tuple), where)
        return
    if type(value) not in kinds and not (float in kinds and _is_whole(value)):
        _fail(where, f"is {short(value)}, expected {_expected(kinds)}")
    check = _RANGES.get(where.partition("[")[0]) or _RANGES.get(where.rpartition(".")[2].partition("[")[0])
    if check is not None:
        check(value, where)


def _is_whole(value: Any) -> bool:
    """Whether a whole number can stand for one with a fraction."""
    return type(value) is int and abs(value) < 2**53


def _check_tuple(value: tuple[Any, ...], items: tuple[Any, ...], where: str) -> None:
    wanted = [items[0]] * len(value) if items[-1] is Ellipsis else list(items)
    if len(value) != len(wanted):
        _fail(where, f"has {len(value)} entries, expected {len(wanted)}")
    if len(value) > 1000:
        _fail(where, f"has {len(value)} entries, expected at most 1000")
    for i, (inner, hint) in enumerate(zip(value, wanted, strict=True)):
        _check(inner, hint, f"{where}[{i}]")


def _between(low: float, high: float) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        if not low <= value <= high:  # what is no number is not between them
            _fail(where, f"is {short(value)}, expected {low:g} to {high:g}")

    return check


def _text(most: int, least: int = 0, control: re.Pattern[str] = _CONTROL) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        if not least <= len(value) <= most:
            _fail(where, f"has {len(value)} characters, expected {least} to {most}")
        if found := control.search(value):
            _fail(where, f"holds {found[0]!a}, which no text has that is typed or shown")

    return check


def _one_of(*known: str) -> Callable[[Any, str], None]:
    def check(value: Any, where: str) -> None:
        if value not in known:
            _fail(where, f"is {short(value)}, expected one of: {', '.join(known)}")

    return check


def _frame(value: Any, where: str) -> None:
    if not _FRAME.fullmatch(value):
        _fail(where, f"is {short(value)}, expected screen, monitor:NAME or window:ID")


_name = _text(LONGEST_NAME, 1, _CONTROL_IN_NAME)
_long = _text(LONGEST_TEXT)
_timeout = _between(0.0, LONGEST_WAIT_S)
_key = _text(LONGEST_KEY, 1, _CONTROL_IN_NAME)

_RANGES: dict[str, Callable[[Any, str], None]] = {
    "x": _between(0.0, 1.0),
    "y": _between(0.0, 1.0),
    "result.changed.x": _between(-MOST_PIXELS, MOST_PIXELS),
    "result.changed.y": _between(-MOST_PIXELS, MOST_PIXELS),
    "frame": _frame,
    "seen": _between(1, MOST_PIXELS),
    "within": _between(1, 2**32 - 1),
    "button": _one_of(*BUTTONS),
    "modifiers": _one_of(*MODIFIERS),
    "click.count": _between(1, 10),
    "key.count": _between(1, 100),
    "drag.seconds": _between(0.0, 60.0),
    "dx": _between(-1000, 1000),
    "dy": _between(-1000, 1000),
    "key": _key,
    "keys": _key,
    "until": _one_of(*UNTIL),
    "timeout_s": _timeout,
    "still_s": _timeout,
    "window": _name,
    "program": _name,
    "arguments": _text(LONGEST_NAME, 0, _CONTROL_IN_NAME),
    "invoke.action": _text(LONGEST_NAME, 0, _CONTROL_IN_NAME),
    "type.text": _text(LONGEST_TEXT, 1),
    "result.text": _long,
    "result.refused": _text(LONGEST_NAME),
    "text": _name,  # of a selector
    "wait.value": _text(LONGEST_NAME, 0, _CONTROL_IN_NAME),
    "value": _long,
    "answer": _long,
    "reason": _long,
    "question": _text(LONGEST_TEXT, 1),
}
"""Of one value, or of each entry: by its whole place, else by the name of the field."""


def _check_click(action: Any) -> None:
    if len(set(action.modifiers)) != len(action.modifiers):
        _fail(f"{action.kind}.modifiers", f"names one twice: {', '.join(action.modifiers)}")


def _check_drag(action: Any) -> None:
    _check_click(action)
    if len(action.path) < 2:
        _fail("drag.path", f"has {len(action.path)} places, expected at least 2")


def _check_hotkey(action: Any) -> None:
    if not 1 <= len(action.keys) <= 8:
        _fail("hotkey.keys", f"has {len(action.keys)} keys, expected 1 to 8")


def _check_scroll(action: Any) -> None:
    if not action.dx and not action.dy:
        _fail("scroll", "turns no wheel: dx and dy are 0")


def _check_wait(action: Any) -> None:
    if action.until in _NAMED and not action.value:
        _fail("wait.value", f"is empty, expected what to wait for ({action.until})")


_WHOLE: dict[str, Callable[[Any], None]] = {
    "click": _check_click,
    "drag": _check_drag,
    "hotkey": _check_hotkey,
    "scroll": _check_scroll,
    "wait": _check_wait,
}


# -- words -------------------------------------------------------------------------------------------------------


def _hints(kind: type[Any]) -> dict[str, Any]:
    return _FIELDS[kind]


def _field_types(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


_FIELDS = {kind: _field_types(kind) for kind in (*ACTIONS.values(), Point, Selector, Rect, ActionResult)}
"""The type of each field, looked up once: that is slow."""


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, types.UnionType) or get_origin(hint) not in (None, tuple) else (hint,)


def _expected(kinds: tuple[Any, ...]) -> str:
    names = {
        Point: "a place (x, y)",
        Selector: "a selector",
        int: "a whole number",
        float: "a number",
        str: "a text",
        Rect: "a rectangle",
        Effect: f"one of {', '.join(e.value for e in Effect)}",
    }
    return " or ".join(names.get(k, "a list") for k in kinds if k is not type(None))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice among {', '.join(k for k, _ in pairs)[:200]}")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def short(value: Any) -> str:
    """A value in few words, for errors; never an error itself."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fail(where: str, what: str) -> NoReturn:
    raise DesktopError(f"{where}: {what}")
