"""Actions of a desktop as JSON: the same again, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk_actions import EXAMPLES, actions, json_values
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import (
    check_action,
    from_json,
    from_text,
    result_from_json,
    result_to_json,
    to_json,
    to_text,
)
from optr.errors import DesktopError


def test_every_kind_is_among_the_examples():
    assert {e.kind for e in EXAMPLES} == set(a.ACTIONS)


@pytest.mark.parametrize("action", EXAMPLES, ids=lambda e: e.kind)
def test_an_action_comes_back_the_same(action):
    assert from_json(json.loads(json.dumps(to_json(action)))) == action


@settings(max_examples=300, deadline=None)
@given(actions)
def test_any_action_comes_back_the_same(action):
    assert from_text(to_text(action)) == action


def test_what_is_missing_is_the_default():
    assert from_json({"kind": "click"}) == a.Click()
    assert from_json({"kind": "move", "to": {"x": 1, "y": 0}}) == a.Move(a.Point(1.0, 0.0))
    assert isinstance(from_json({"kind": "move", "to": {"x": 1, "y": 0}}).to.x, float)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "an action is an object"),
        ({}, "no action None; there are: move, click"),
        ({"kind": "clik"}, "no action 'clik'"),
        ({"kind": ["click"]}, "no action"),
        ({"kind": "move"}, "needs 'to'"),
        ({"kind": "click", "shell": "rm"}, "has no field 'shell'; it has: at, button, count, modifiers"),
        ({"kind": "click", 1: 2}, "has no field 1"),
        ({"kind": "click", "count": True}, "click.count: is True, expected a whole number"),
        ({"kind": "click", "count": 1.0}, "expected a whole number"),
        ({"kind": "click", "count": 11}, "expected 1 to 10"),
        ({"kind": "key", "key": "a", "count": 10**5000}, "expected 1 to 100"),
        ({"kind": "click", "button": None}, "is null; leave it out"),
        ({"kind": "click", "button": "third"}, "expected one of: left, middle, right"),
        ({"kind": "click", "modifiers": ["ctrl", "ctrl"]}, "names one twice"),
        ({"kind": "click", "modifiers": "ctrl"}, "expected a list"),
        ({"kind": "click", "at": 5}, "expected a place (x, y) or a selector"),
        ({"kind": "click", "at": {}}, "needs 'x'"),
        ({"kind": "click", "at": {"x": 0.5, "y": 1.01}}, "click.at.y: is 1.01, expected 0 to 1"),
        ({"kind": "click", "at": {"x": float("nan"), "y": 0}}, "is nan, expected 0 to 1"),
        ({"kind": "click", "at": {"x": float("inf"), "y": 0}}, "is inf, expected 0 to 1"),
        ({"kind": "click", "at": {"x": 10**400, "y": 0}}, "expected a number"),
        ({"kind": "click", "at": {"x": "0.5", "y": 0}}, "is '0.5', expected a number"),
        ({"kind": "click", "at": {"x": 0, "y": 0, "frame": "desk"}}, "expected screen, monitor:NAME or window:ID"),
        ({"kind": "click", "at": {"x": 0, "y": 0, "frame": "screen\n"}}, "expected screen"),
        ({"kind": "click", "at": {"x": 0, "y": 0, "seen": [10]}}, "has 1 entries, expected 2"),
        ({"kind": "click", "at": {"x": 0, "y": 0, "seen": [10, 0]}}, "expected 1 to 65535"),
        ({"kind": "click", "at": {"selector": "", "within": 1}}, "expected 1 to 1000"),
        ({"kind": "click", "at": {"selector": "a", "x": 1}}, "has no field 'x'"),
        ({"kind": "drag", "path": [{"x": 0, "y": 0}]}, "has 1 places"),
        ({"kind": "drag", "path": [{"x": 0, "y": 0}] * 1001}, "at most 1000"),
        ({"kind": "scroll"}, "turns no wheel"),
        ({"kind": "type", "text": "a" * 20_001}, "expected 1 to 20000"),
        ({"kind": "type", "text": "\ud800"}, "which no text has"),
        ({"kind": "type", "text": "\x1b[A"}, "which no text has"),
        ({"kind": "key", "key": ""}, "expected 1 to 32"),
        ({"kind": "key", "key": "a\n"}, "holds '\\n'"),
        ({"kind": "hotkey", "keys": []}, "expected 1 to 8"),
        ({"kind": "hotkey", "keys": [1]}, "expected a text"),
        ({"kind": "wait", "until": "soon"}, "expected one of: still"),
        ({"kind": "wait", "until": "text"}, "expected what to wait for"),
        ({"kind": "wait", "until": "time", "timeout_s": 1e9}, "expected 0 to 3600"),
        ({"kind": "invoke", "element": {"x": 0, "y": 0}}, "expected a selector"),
        ({"kind": "launch", "program": "a", "arguments": [["b"]]}, "expected a text"),
    ],
)
def test_what_is_no_action_is_refused_and_said(data, said):
    with pytest.raises(DesktopError) as err:
        from_json(data)
    assert said in str(err.value)
    assert len(str(err.value)) < 400


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nul", '{"kind":"click","kind":"done"}', '{"kind":"move","to":{"x":NaN,"y":0}}', "[" * 100_000],
)
def test_what_is_no_json_of_an_action_is_refused(text):
    with pytest.raises(DesktopError):
        from_text(text)


def test_a_whole_number_may_stand_for_one_with_a_fraction():
    check_action(a.Move(a.Point(1, 0)))
    assert from_text(to_text(a.Wait("time", timeout_s=5))) == a.Wait("time", timeout_s=5.0)


def test_what_is_built_by_hand_is_looked_at_as_well():
    @dataclass(frozen=True)
    class Format:
        kind: ClassVar[str] = "click"

    wrong = (a.Click(a.Point(2, 0)), a.Move(None), a.Click(modifiers=["ctrl"]), a.Key(5), Format(), None, "click")
    for action in wrong:
        with pytest.raises(DesktopError):
            check_action(action)
        with pytest.raises(DesktopError):
            to_json(action)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([to_json(e) for e in EXAMPLES]), st.data())
def test_a_field_that_is_changed_to_anything_is_an_action_or_a_clear_refusal(data, draw):
    key = draw.draw(st.sampled_from(sorted(data)))
    changed = {**data, key: draw.draw(json_values)}
    try:
        action = from_json(changed)
    except DesktopError:
        return
    assert from_json(to_json(action)) == action


def test_a_result_comes_back_the_same():
    for result in (
        a.ActionResult(False, refused="KEY_FORBIDDEN", text="no"),
        a.ActionResult(True, a.Effect.CONFIRMED, a.Rect(-1, 2, 3, 4), 5, 6, 7, (8, 9), answer="x", details={"n": [1]}),
    ):
        assert result_from_json(json.loads(json.dumps(result_to_json(result)))) == result
    with pytest.raises(DesktopError, match="expected one of confirmed"):
        result_from_json({"executed": True, "effect": "sure"})
    with pytest.raises(DesktopError, match="needs 'executed'"):
        result_from_json({})
