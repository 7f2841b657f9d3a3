"""Actions of a desktop, and what is seen and comes of them, as the fields of `optr_interfaces` messages. Plain data.

Fields are by name, nested messages are mappings, times are nanoseconds. Whoever has ROS, or writes bags without it,
makes messages of them; anything that has attributes of these names can be read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import check_action, short
from optr.connectors.desktop.human_input import EVENTS, InputEvent
from optr.connectors.desktop.seen import Element, Monitor, Window
from optr.errors import DesktopError

_PLACES = ("to", "at", "into", "element", "path")
_TEXTS = ("text", "value", "answer", "reason", "question", "window", "program", "action")
_SECONDS = ("seconds", "timeout_s")

_UNUSED: Mapping[str, Any] = {
    "targets": (), "button": "", "modifiers": (), "keys": (), "count": 0, "dx": 0, "dy": 0, "text": "",
    "arguments": (), "until": "", "frame": "", "seconds": 0.0, "still_s": 0.0,
}  # fmt: skip
"""Fields of DesktopAction that belong to a kind, as they are where they do not."""


def action_fields(action: a.DesktopAction) -> dict[str, Any]:
    """Fields of `optr_interfaces/DesktopAction`, but for those of who decided and when.

    Raises:
        DesktopError: If it is no sound action.
    """
    check_action(action)
    out: dict[str, Any] = {"kind": action.kind}
    for name in (f.name for f in fields(action)):
        value = getattr(action, name)
        if name in _PLACES:
            places = value if name == "path" else () if value is None else (value,)
            out["targets"] = [target_fields(p) for p in places]
        else:
            column = _column(name)
            out[column] = [value] if name == "key" else list(value) if isinstance(value, tuple) else value
    return out


def action_of(msg: Any) -> a.DesktopAction | None:
    """The action in a `DesktopAction`; None: whoever decides abstains.

    Raises:
        DesktopError: If it is not exactly an action: of no known kind, or with fields that its kind has not.
    """
    if not msg.kind:
        return None
    if msg.kind not in a.ACTIONS:
        raise DesktopError(f"no action {short(msg.kind)}; there are: {', '.join(a.ACTIONS)}")
    kind = a.ACTIONS[msg.kind]
    given: dict[str, Any] = {}
    used = {"targets"} if any(f.name in _PLACES for f in fields(kind)) else set()
    for field in fields(kind):
        if field.name in _PLACES:
            given |= _places(msg, field)
        else:
            column = _column(field.name)
            used.add(column)
            given[field.name] = _value(msg, column, field)
    for name, unused in _UNUSED.items():
        value = getattr(msg, name)
        if name not in used and (tuple(value) if isinstance(unused, tuple) else value) != unused:
            raise DesktopError(f"{msg.kind} has no {name}, got {short(value)}")
    action: a.DesktopAction = kind(**given)
    check_action(action)
    return action


def target_fields(target: a.Target) -> dict[str, Any]:
    """Fields of `DesktopTarget`."""
    if isinstance(target, a.Selector):
        return {"selector": target.text, "within": target.within or 0}
    width, height = target.seen or (0, 0)
    return {"x": target.x, "y": target.y, "frame": target.frame, "seen_width": width, "seen_height": height}


def target_of(msg: Any) -> a.Target:
    """The place in a `DesktopTarget`."""
    if msg.selector:
        return a.Selector(msg.selector, int(msg.within) or None)
    seen = (int(msg.seen_width), int(msg.seen_height))
    return a.Point(float(msg.x), float(msg.y), msg.frame, seen if any(seen) else None)


def rect_fields(rect: a.Rect | None) -> dict[str, Any]:
    """Fields of `DesktopRect`; width 0 for None."""
    return {} if rect is None else {"x": rect.x, "y": rect.y, "width": rect.width, "height": rect.height}


def rect_of(msg: Any) -> a.Rect | None:
    """The rectangle in a `DesktopRect`; None where its width is 0."""
    return a.Rect(int(msg.x), int(msg.y), int(msg.width), int(msg.height)) if msg.width else None


def element_fields(element: Element | None) -> dict[str, Any]:
    """Fields of `DesktopElement`; without a role for None."""
    if element is None:
        return {}
    out = {f.name: getattr(element, f.name) for f in fields(element) if f.name != "rect"}
    return {**out, "place": rect_fields(element.rect), "states": list(element.states), "actions": list(element.actions)}


def element_of(msg: Any) -> Element | None:
    """The element in a `DesktopElement`; None where it has no role."""
    if not msg.role:
        return None
    return Element(
        msg.role,
        msg.name,
        msg.value,
        rect_of(msg.place),
        tuple(msg.states),
        tuple(msg.actions),
        msg.source,
        int(msg.window),
        msg.reference,
        float(msg.confidence),
    )


def window_fields(window: Window) -> dict[str, Any]:
    """Fields of `DesktopWindow`."""
    names = ("id", "title", "pid", "focused", "layer", "visible")
    return {
        **{name: getattr(window, name) for name in names},
        "wm_class": window.wm_class[0],
        "wm_instance": window.wm_class[1],
        "place": rect_fields(window.rect),
        "outer": rect_fields(window.outer),
        "frame": window.frame,
        "inner": rect_fields(window.inner),
    }


def window_of(msg: Any) -> Window:
    """The window in a `DesktopWindow`."""
    none = a.Rect(0, 0, 0, 0)
    return Window(
        int(msg.id),
        msg.title,
        (msg.wm_class, msg.wm_instance),
        int(msg.pid),
        rect_of(msg.place) or none,
        rect_of(msg.outer) or none,
        bool(msg.focused),
        int(msg.layer),
        bool(msg.visible),
        int(msg.frame),
        rect_of(msg.inner),
    )


def monitor_fields(monitor: Monitor) -> dict[str, Any]:
    """Fields of `DesktopMonitor`."""
    return {"name": monitor.name, "place": rect_fields(monitor.rect), "primary": monitor.primary}


def monitor_of(msg: Any) -> Monitor:
    """The monitor in a `DesktopMonitor`."""
    return Monitor(msg.name, rect_of(msg.place) or a.Rect(0, 0, 0, 0), bool(msg.primary))


def result_fields(result: a.ActionResult, clock: Callable[[int], int]) -> dict[str, Any]:
    """Fields of `DesktopResult`, but for those of who decided what.

    Args:
        result: What came of it.
        clock: Makes nanoseconds of the steady clock into those of the clock of the messages.
    """
    at = result.at or (0, 0)
    return {
        "header": clock(result.ended_ns) if result.ended_ns else 0,
        "executed": result.executed,
        "effect": result.effect.value,
        "changed": rect_fields(result.changed),
        "began": clock(result.began_ns) if result.began_ns else 0,
        "input": clock(result.input_ns) if result.input_ns else 0,
        "aimed": result.at is not None,
        "at_x": at[0],
        "at_y": at[1],
        "refused": result.refused,
        "text": result.text,
        "answer": result.answer,
        "reach": str(result.details.get("class", "")),
        "request": str(result.details.get("request", "")),
    }


def result_of(msg: Any, clock: Callable[[int], int] = lambda ns: ns) -> a.ActionResult:
    """What came of an action, out of a `DesktopResult`.

    Args:
        msg: The message.
        clock: Makes its nanoseconds into those of the steady clock; left out: they stay.
    """
    began, ended, given = (_ns(t) for t in (msg.began, msg.header.stamp, msg.input))
    details = {"class": msg.reach, "request": msg.request}
    return a.ActionResult(
        bool(msg.executed),
        a.Effect(msg.effect or "none"),
        rect_of(msg.changed),
        clock(began) if began else 0,
        clock(ended) if ended else 0,
        clock(given) if given else 0,
        (int(msg.at_x), int(msg.at_y)) if msg.aimed else None,
        msg.refused,
        msg.text,
        msg.answer,
        {name: value for name, value in details.items() if value},
    )


def input_fields(event: InputEvent, clock: Callable[[int], int]) -> dict[str, Any]:
    """Fields of `DesktopInput`.

    Args:
        event: Of pointer or keyboard.
        clock: Makes nanoseconds of the steady clock into those of the clock of the messages.
    """
    same = ("injected", "device", "name", "text", "x", "y", "window")
    return {
        "header": clock(event.stamp_ns),
        "event": EVENTS.index(event.event),
        **{name: getattr(event, name) for name in same},
        "element": [] if event.element is None else [element_fields(event.element)],
    }


def input_of(msg: Any, clock: Callable[[int], int] = lambda ns: ns) -> InputEvent:
    """The event in a `DesktopInput`.

    Args:
        msg: The message.
        clock: Makes its nanoseconds into those of the steady clock; left out: they stay.

    Raises:
        DesktopError: If it is of no known kind.
    """
    if msg.event >= len(EVENTS):
        raise DesktopError(f"no event of input {msg.event}; there are: {', '.join(EVENTS)}")
    return InputEvent(
        EVENTS[msg.event],
        clock(_ns(msg.header.stamp)),
        msg.name,
        msg.text,
        int(msg.x),
        int(msg.y),
        int(msg.window),
        bool(msg.injected),
        msg.device,
        element_of(msg.element[0]) if len(msg.element) else None,
    )


def _column(name: str) -> str:
    """Which field of the message holds one of an action."""
    return "text" if name in _TEXTS else "seconds" if name in _SECONDS else "keys" if name == "key" else name


def _places(msg: Any, field: Any) -> dict[str, Any]:
    places = tuple(target_of(t) for t in msg.targets)
    if field.name == "path":
        return {"path": places}
    least = 0 if field.default is None else 1
    if not least <= len(places) <= 1:
        wanted = "one place" if least else "one place or none"
        raise DesktopError(f"{msg.kind} takes {wanted}, got {len(places)}")
    return {field.name: places[0] if places else None}


def _value(msg: Any, column: str, field: Any) -> Any:
    value = getattr(msg, column)
    if field.name == "key":
        if len(value) != 1:
            raise DesktopError(f"{msg.kind} takes one key, got {len(value)}")
        return value[0]
    default = field.default
    if isinstance(_UNUSED[column], tuple):
        return tuple(value)
    return type(default)(value) if default is not MISSING else value


def _ns(stamp: Any) -> int:
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
