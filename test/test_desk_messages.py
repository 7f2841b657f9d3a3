"""Actions of a desktop as messages of the graph: the same again, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from desk_actions import EXAMPLES, actions
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.messages import (
    action_fields,
    action_of,
    element_fields,
    element_of,
    result_fields,
    result_of,
    window_fields,
    window_of,
)
from optr.connectors.desktop.seen import Element, Window
from optr.errors import DesktopError
from optr_interfaces import msg as kinds


def made(kind: str, fields: dict[str, Any]) -> Any:
    """A real message of a type, with these fields."""
    cls = getattr(kinds, kind)
    known = cls.get_fields_and_field_types()
    out = cls()
    for name, value in fields.items():
        setattr(out, name, _value(known[name], value))
    return out


def _value(kind: str, value: Any) -> Any:
    many = kind.removeprefix("sequence<").removesuffix(">")
    if many != kind:
        return [_value(many, v) for v in value]
    if kind == "std_msgs/Header":
        from std_msgs.msg import Header

        return Header(stamp=_value("builtin_interfaces/Time", value))
    if kind == "builtin_interfaces/Time":
        from builtin_interfaces.msg import Time

        return Time(sec=value // 10**9, nanosec=value % 10**9)
    return made(kind.split("/")[1], value) if "/" in kind else value


@settings(max_examples=200, deadline=None)
@given(actions)
def test_any_action_comes_back_the_same(action: a.DesktopAction):
    assert action_of(made("DesktopAction", action_fields(action))) == action


def test_no_kind_is_to_abstain():
    assert action_of(kinds.DesktopAction()) is None


@pytest.mark.parametrize("action", EXAMPLES, ids=lambda e: e.kind)
def test_what_a_kind_has_not_is_refused(action: a.DesktopAction):
    msg = made("DesktopAction", action_fields(action))
    field = next(f for f in ("still_s", "dx") if not hasattr(action, f))
    setattr(msg, field, 3 if field == "dx" else 3.0)
    with pytest.raises(DesktopError, match=f"{action.kind} has no {field}, got 3"):
        action_of(msg)


def test_what_is_wrong_is_said():
    with pytest.raises(DesktopError, match="no action 'clik'; there are: move, click"):
        action_of(kinds.DesktopAction(kind="clik"))
    with pytest.raises(DesktopError, match="move takes one place, got 0"):
        action_of(kinds.DesktopAction(kind="move"))
    with pytest.raises(DesktopError, match="key takes one key, got 2"):
        action_of(kinds.DesktopAction(kind="key", keys=["a", "b"], count=1))
    far = kinds.DesktopTarget(x=1.5, y=0.0, frame="screen")
    with pytest.raises(DesktopError, match="0 to 1"):
        action_of(kinds.DesktopAction(kind="move", targets=[far]))


def test_what_is_seen_comes_back_the_same():
    element = Element("button", "Save", "", a.Rect(1, 2, 3, 4), ("enabled",), ("click",), "devtools", 7, "x", 0.5)
    assert element_of(made("DesktopElement", element_fields(element))) == element
    assert element_of(made("DesktopElement", element_fields(None))) is None
    window = Window(7, "ä", ("A", "b"), 12, a.Rect(1, 2, 3, 4), a.Rect(0, 0, 5, 6), True, 3, True)
    assert window_of(made("DesktopWindow", window_fields(window))) == window


def test_a_result_comes_back_the_same_on_another_clock():
    result = a.ActionResult(
        True, a.Effect.CONFIRMED, a.Rect(1, 2, 3, 4), 10, 30, 20, (5, 6), "", "t", "a", {"class": "reversible"}
    )
    msg = made("DesktopResult", result_fields(result, lambda ns: ns + 10**12))
    assert msg.header.stamp.sec == 1000
    assert result_of(msg, lambda ns: ns - 10**12) == result
    nothing = a.ActionResult(False, refused="STOPPED")
    assert result_of(made("DesktopResult", result_fields(nothing, lambda ns: ns + 10**12))) == nothing
