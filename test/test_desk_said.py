"""What people are told of actions: short, with nothing cut that they need, on a terminal of 80 columns."""

from __future__ import annotations

import pytest
from rich.console import Console

from optr.cli.desktop_common import print_done, table
from optr.cli.desktop_demo import _runs_table
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.demo import DeskRun
from optr.connectors.desktop.in_short import in_short

OK = a.Selector('role=button[name="OK"]')
NAME = a.Selector("#username", 12)

SAID = [
    (a.Move(a.Point(0.5, 0.25, "window:7")), "move 0.50,0.25 of window:7"),
    (a.Click(OK), 'click role=button[name="OK"]'),
    (a.Click(None, "right", 2, ("ctrl", "shift")), "click button right x2 with ctrl+shift"),
    (a.Press(OK, "middle"), 'press role=button[name="OK"] button middle'),
    (a.Release(), "release"),
    (a.Drag((a.Point(0.1, 0.2), a.Point(0.5, 0.6))), "drag 0.10,0.20 -> 0.50,0.60"),
    (a.Scroll(OK, -2, 3), 'scroll role=button[name="OK"] down 3 left 2'),
    (a.Type("ada", NAME), 'type "ada" into #username in window 12'),
    (a.Type("a\n" + "b" * 100, OK), f'type "a\\n{"b" * 55}..." into {OK.text}'),
    (a.Key("enter"), "key enter"),
    (a.Key("tab", 3), "key tab x3"),
    (a.KeyDown("ctrl"), "key_down ctrl"),
    (a.KeyUp("ctrl"), "key_up ctrl"),
    (a.Hotkey(("ctrl", "s")), "hotkey ctrl+s"),
    (a.Wait("element", OK.text), 'wait element role=button[name="OK"] 5 s'),
    (a.Wait("still", frame="window:7"), "wait still of window:7 5 s"),
    (a.Wait("text", "all done", 1.0), 'wait text "all done" 1 s'),
    (a.Invoke(OK, "press"), 'invoke role=button[name="OK"] press'),
    (a.SetValue(NAME, "eve"), 'set_value #username in window 12 to "eve"'),
    (a.Focus("Editor"), "focus Editor"),
    (a.Launch("editor", ("a.txt",)), "launch editor a.txt"),
    (a.Done("42"), 'done "42"'),
    (a.Fail(), "fail"),
    (a.Ask("May I?"), 'ask "May I?"'),
]


@pytest.mark.parametrize(("action", "said"), SAID, ids=[said for _, said in SAID])
def test_an_action_is_said_with_its_kind_and_target_first(action, said):
    assert in_short(action) == said


def test_there_are_words_for_every_kind():
    assert {action.kind for action, _ in SAID} == set(a.ACTIONS)


def test_codes_and_targets_stand_whole_in_80_columns_and_texts_below(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "no element; there are: " + ", ".join(f'button "{i}"' for i in range(40))
    print_done(
        [
            (a.Click(OK), a.ActionResult(True, a.Effect.SUSPECTED_NO_OP, began_ns=1, ended_ns=250_000_001), ""),
            (a.Launch("rm"), a.ActionResult(False, refused="PROGRAM_FORBIDDEN", text="[b]"), "[b]"),
            (a.Click(a.Selector("text=" + "x" * 90)), a.ActionResult(False, refused="NO_SUCH_PLACE"), long),
            (a.Wait("still"), a.ActionResult(True, a.Effect.CONFIRMED, answer="0.2"), ""),
            (a.Wait("still"), a.ActionResult(False), "it moves"),
            (None, "timeout", "too late"),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if "│" in line or "┃" in line]
    assert max(map(len, shown)) <= 80 and len(shown) == 10
    whole = "\n".join(shown)
    for word in ("step", "seconds", "0.25", "suspected_no_op", "PROGRAM_FORBIDDEN", "NO_SUCH_PLACE", "timeout"):
        assert word in whole
    assert in_short(a.Click(OK)) in whole and "launch rm" in whole and whole.count("x") >= 90
    assert "not done" in whole and "…" not in whole
    assert lines[-5:] == ["2: [b]", f"3: {long}", "4: answer: 0.2", "5: it moves", "6: too late"]


def test_columns_that_hold_nothing_are_left_out():
    made = table("", [{"a": 1, "b": "", "c": None}, {"a": "", "b": [], "c": True}], {"c": "[px]"})
    assert [str(c.header) for c in made.columns] == ["a", r"\[px]"]
    assert [c.header for c in table("", []).columns] == ["nothing"]


def test_the_table_of_the_demonstration_cuts_no_effect(capsys):
    effects = {"confirmed": 12, "suspected_no_op": 3, "unverifiable": 1}
    run = DeskRun("sign in to a page", False, 16, 12.5, effects, "Welcome, ada", "the page does not say that she is in")
    Console(width=80, emoji=False).print(_runs_table("{} of {}", [run]))
    said = capsys.readouterr().out
    assert all(f"{count} {name}" in said for name, count in effects.items()) and "…" not in said
