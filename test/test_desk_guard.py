"""The guard of a desktop: against an oracle that shares no code, and case by case."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from desk_oracle import SCREEN, Box, Facts, Oracle
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.chords import KeyNameError, key_name
from optr.connectors.desktop.seen import Element, Monitor, Window
from optr.connectors.desktop.view import DeskView
from optr.errors import GuardError, OptrError, SpecError
from optr.secret import Secret
from optr.sentinel.codes import Code, GuardState, Outcome
from optr.sentinel.desk_config import DeskConfig, load_desk, read_desk
from optr.sentinel.desk_guard import DeskGuard
from optr.spec.yaml_lines import parse_marked

SECOND = 1_000_000_000
SECRET = "hunter2"
CALC, NOTES, VAULT, TERM, DIALOG = 11, 12, 13, 14, 15

DESK = """
desk: 1
windows:
  allow: [{wm_class: Calc}, {wm_class: Notes}, {wm_class: XTerm}]
  forbid: [{title: "*private*"}]
regions: {forbid: [{name: tray, low: [0.75, 0.875], high: [1.0, 1.0]}]}
keys: {forbid: [ctrl+alt+delete, super, alt+f4, ctrl+click-middle]}
text: {most: 30}
secrets: {patterns: []}
terminals: {windows: [{wm_class: xterm}], metacharacters: ";|&", newlines: refuse, keys: [left, backspace]}
programs: {allow: [{name: calculator, command: [calc], arguments: [a, "b*"]}]}
budget: {actions: 1000, window: 1.0, steps: 100000, time: 3600.0}
classes: {elements: ["*delete*"], windows: [{title: "*confirm*"}], chords: [shift+delete]}
"""


@cache
def config(*more: str) -> DeskConfig:
    made = read_desk(parse_marked(DESK, Path("desk.yaml")), load_desk())
    for text in more:
        made = read_desk(parse_marked(text, Path("more.yaml")), made)
    return made


def boxes(focus: int = CALC) -> list[Box]:
    made = [
        Box(CALC, "Calc", "Sums", (100, 100, 400, 300), 20, 1),
        Box(NOTES, "Notes", "My private notes", (600, 50, 300, 300), 20, 2),
        Box(VAULT, "Vault", "Keys", (300, 250, 200, 200), 20, 3),
        Box(TERM, "XTerm", "shell", (50, 500, 500, 250), 20, 4),
        Box(DIALOG, "Notes", "Confirm", (600, 500, 390, 290), 20, 5),
    ]
    return [replace(b, focus=b.id == focus) for b in made]


ELEMENTS = {
    "text=Sum": ("Sum", (120, 150, 50, 20), CALC),
    "text=Hidden": ("Hidden", (350, 300, 50, 20), CALC),  # the vault lies over it
    "text=Key": ("Key", (350, 350, 20, 20), VAULT),
    "text=Line": ("Line", (100, 600, 50, 20), TERM),
    "text=Delete": ("Delete all", (130, 200, 50, 20), CALC),
}


def view(of: list[Box] | None = None, stamp_ns: int = 0, **more) -> DeskView:
    def window(b: Box) -> Window:
        return Window(
            b.id, b.title, (b.cls, b.cls.lower()), 1, a.Rect(*b.inside()), a.Rect(*b.place), b.focus, b.layer, True
        )

    found = {a.Selector(s): Element("button", n, rect=a.Rect(*p), window=w) for s, (n, p, w) in ELEMENTS.items()}
    windows = tuple(window(b) for b in (boxes() if of is None else of))
    given = {"pointer": (200, 200), "found": found, "stamp_ns": stamp_ns, **more}
    return DeskView(a.Rect(0, 0, *SCREEN), windows, **given)


def at(x: int, y: int) -> a.Point:
    return a.Point((x + 0.5) / SCREEN[0], (y + 0.5) / SCREEN[1])


def guard(*more: str) -> DeskGuard:
    return DeskGuard(config(*more), [Secret(SECRET)])


def code(action, desk: DeskView | None = None, of: DeskGuard | None = None, now_ns: int = 0) -> str:
    return (of or guard()).judge(action, desk or view(), now_ns).code


# -- against the oracle -----------------------------------------------------------------------------------------

shares = st.integers(0, 1024).map(lambda n: n / 1024)  # exact in binary, so that both compute the same pixel
points = st.builds(
    a.Point, shares, shares, st.sampled_from(["screen", "screen", "window:11", "window:14", "window:99"])
)
selectors = st.sampled_from([*map(a.Selector, ELEMENTS), a.Selector("text=Nowhere")])
targets = points | selectors
maybe = st.none() | targets
buttons = st.sampled_from(["left", "middle", "right"])
modifiers = st.sampled_from([(), (), ("ctrl",), ("shift", "alt")])
named = ["enter", "Return", "ctrl", "ctrlleft", "alt", "shift", "delete", "del", "f4", "win", "left", "backspace"]
keys = st.sampled_from([*"aB;2rn", *named, "semicolon", "nonsense", "super"])
texts = st.one_of(
    st.sampled_from(["hello", "hunt", "er2", SECRET, "rm -rf x", "a;b", "two\nlines", "tab\t", "x" * 31, "A", "2"]),
    st.text("abhunter2;\nX", min_size=1, max_size=8),
)
actions = st.one_of(
    st.builds(a.Move, targets),
    st.builds(a.Click, maybe, buttons, st.integers(1, 3), modifiers),
    st.builds(a.Press, maybe, buttons),
    st.builds(a.Release, maybe, buttons),
    st.builds(a.Drag, st.lists(targets, min_size=2, max_size=3).map(tuple), buttons, modifiers),
    st.builds(a.Scroll, maybe, st.just(0), st.just(2)),
    st.builds(a.Type, texts, maybe),
    st.builds(a.Key, keys, st.integers(1, 3)),
    st.builds(a.KeyDown, keys),
    st.builds(a.KeyUp, keys),
    st.builds(a.Hotkey, st.lists(keys, min_size=1, max_size=4).map(tuple)),
    st.builds(a.Wait, st.just("text"), texts.filter(lambda t: "\n" not in t and "\t" not in t)),
    st.builds(a.Invoke, selectors),
    st.builds(a.SetValue, selectors, texts),
    st.builds(a.Focus, st.sampled_from(["Sums", "11", "13", "note", "vault", "nothing"])),
    st.builds(a.Launch, st.sampled_from(["calculator", "sh"]), st.sampled_from([(), ("a",), ("bc", "a"), ("-rf",)])),
    st.builds(a.Done, texts),
    st.builds(a.Ask, texts),
)


def facts(of: list[Box]) -> Facts:
    return Facts(
        boxes=of,
        allowed={"Calc", "Notes", "XTerm"},
        forbidden_titles=("private",),
        region=("0.75", "0.875", "1", "1"),
        chords=[{"ctrl", "alt", "delete"}, {"super"}, {"alt", "f4"}, {"ctrl", "click-middle"}],
        terminals={"XTerm"},
        shell=";|&",
        terminal_keys=[{"left"}, {"backspace"}],
        programs={"calculator": {"a", "bc"}},
        secret=SECRET,
        longest=30,
        pointer=(200, 200),
        elements=ELEMENTS,
    )


@settings(max_examples=400, deadline=None)
@given(
    st.lists(actions, min_size=1, max_size=12),
    st.sampled_from([CALC, NOTES, VAULT, TERM, DIALOG, 0]),
    st.permutations([1, 2, 3, 4, 5]),
)
@example([a.Press(), a.SetValue(a.Selector("text=Line"), "hello")], CALC, [1, 2, 3, 4, 5])
def test_what_is_allowed_does_nothing_forbidden_and_what_is_refused_would(proposed, focus, layers):
    of = [replace(b, layer=layer) for b, layer in zip(boxes(focus), layers, strict=True)]
    judge, oracle = guard("classes: {irreversible: allow}"), Oracle(facts(of))
    for step, action in enumerate(proposed):
        verdict = judge.judge(action, view(of, stamp_ns=step), step)
        wrong = oracle.wrong(action)
        assert verdict.allowed == (not wrong), (action, verdict.code, verdict.text, wrong)
        assert verdict.allowed or verdict.code in wrong, (action, verdict.code, verdict.text, wrong)
        assert SECRET not in verdict.text or verdict.code != Code.SECRET_FORBIDDEN
        if verdict.allowed:
            oracle.done(action)


# -- case by case ----------------------------------------------------------------------------------------------


def test_by_default_nothing_may_be_reached():
    bare = DeskGuard(DeskConfig())
    for action in (
        a.Click(at(200, 200)),
        a.Move(at(200, 200)),
        a.Type("a"),
        a.Key("a"),
        a.Focus("Sums"),
        a.Launch("x"),
    ):
        assert not bare.judge(action, view(), 0).allowed
    assert bare.judge(a.Wait("time"), view(), 0).allowed


def test_the_shipped_settings_reach_their_programs_and_no_terminal():
    judge = DeskGuard(load_desk())
    box = Box(1, "Galculator", "galculator", (0, 0, 500, 500), 0, 1, focus=True)
    assert code(a.Click(at(100, 100)), view([box]), judge) == ""
    assert code(a.Type("15+27\n"), view([box]), judge) == ""
    for keys in (("alt", "f4"), ("alt", "space"), ("ctrl", "shift", "i"), ("ctrl", "alt", "t")):
        assert code(a.Hotkey(keys), view([box]), judge) == Code.KEY_FORBIDDEN
    assert code(a.Type("javascript"), view([box]), judge) == ""
    assert code(a.Type(":alert(1)"), view([box]), judge) == Code.TEXT_FORBIDDEN
    assert code(a.Click(at(100, 100)), view([replace(box, cls="XTerm")]), judge) == Code.WINDOW_FORBIDDEN
    assert code(a.Type("my key is ghp_" + "a" * 36), view([box]), judge) == Code.SECRET_FORBIDDEN
    assert code(a.Click(at(100, 100)), view([replace(box, title="Authentication Required")]), judge)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (object(), Code.UNKNOWN_ACTION),
        (None, Code.UNKNOWN_ACTION),
        ({"kind": "click"}, Code.UNKNOWN_ACTION),
        (a.Click(a.Point(2, 0)), Code.BAD_ACTION),
        (a.Type(""), Code.BAD_ACTION),
        (a.Click(a.Point(0.5, 0.5, "monitor:HDMI-9")), Code.NO_SUCH_PLACE),
        (a.Click(a.Selector("text=Nowhere")), Code.NO_SUCH_PLACE),
        (a.Click(a.Selector("text=Hidden")), Code.NO_SUCH_PLACE),
        (a.Click(at(990, 10)), Code.WINDOW_FORBIDDEN),
        (a.Click(at(150, 105)), Code.WINDOW_FORBIDDEN),  # a title bar
        (a.Click(at(350, 350)), Code.WINDOW_FORBIDDEN),
        (a.Drag((at(200, 200), at(350, 350))), Code.WINDOW_FORBIDDEN),
        (a.Invoke(a.Selector("text=Key")), Code.WINDOW_FORBIDDEN),
        (a.Focus("Keys"), Code.WINDOW_FORBIDDEN),
        (a.Click(at(800, 750)), Code.REGION_FORBIDDEN),
        (a.Move(at(999, 799)), Code.WINDOW_FORBIDDEN),
        (a.Hotkey(("delete", "alt", "ctrl")), Code.KEY_FORBIDDEN),
        (a.Hotkey(("Control_L", "Alt_R", "KP_Delete")), Code.KEY_FORBIDDEN),
        (a.Click(at(200, 200), "middle", 1, ("ctrl",)), Code.KEY_FORBIDDEN),
        (a.Key("XF86PowerOff"), Code.KEY_FORBIDDEN),
        (a.Type("x" * 31), Code.TEXT_FORBIDDEN),
        (a.Type(SECRET), Code.SECRET_FORBIDDEN),
        (a.Done(f"it is {SECRET}"), Code.SECRET_FORBIDDEN),
        (a.Ask("may I tell aHVudGVyMg?"), Code.SECRET_FORBIDDEN),  # the same in base64
        (a.Launch("calculator", (SECRET,)), Code.SECRET_FORBIDDEN),
        (a.Launch("sh"), Code.PROGRAM_FORBIDDEN),
        (a.Launch("calculator", ("--eval",)), Code.PROGRAM_FORBIDDEN),
        (a.Click(a.Selector("text=Delete")), Code.CONFIRMATION_NEEDED),
        (a.Click(at(650, 550)), Code.CONFIRMATION_NEEDED),
        (a.Hotkey(("shift", "delete")), Code.CONFIRMATION_NEEDED),
        (a.Click(at(200, 200)), ""),
        (a.Click(), ""),
        (a.Click(a.Selector("text=Sum")), ""),
        (a.Type("1+1"), ""),
        (a.Launch("calculator", ("a", "bcd")), ""),
    ],
)
def test_each_reason(action, expected):
    found = code(action)
    if expected == Code.SECRET_FORBIDDEN and isinstance(action, a.Launch):
        assert found in (Code.SECRET_FORBIDDEN, Code.PROGRAM_FORBIDDEN)
    else:
        assert found == expected


@pytest.mark.parametrize(
    "action",
    [
        a.Type("ls; rm -rf x"),
        a.Type("ls\n"),
        a.Type("ls\uff1brm"),  # a fullwidth semicolon
        a.Type("re\tx"),
        a.Key("enter"),
        a.Key("Return"),
        a.Key("a"),
        a.Hotkey(("ctrl", "j")),
        a.Hotkey(("shift", "insert")),
        a.Click(at(200, 600), "middle"),
        a.Click(at(200, 600), "left", 1, ("ctrl",)),
        a.Press(at(200, 600)),
        a.Drag((at(200, 200), at(200, 600))),
        a.Invoke(a.Selector("text=Line")),
        a.SetValue(a.Selector("text=Line"), "a|b"),
    ],
)
def test_a_terminal_gets_no_command(action):
    assert code(action, view(boxes(TERM))) == Code.TERMINAL_FORBIDDEN


def test_a_terminal_gets_text_a_click_and_the_keys_that_are_named():
    for action in (a.Type("ls -l"), a.Click(at(200, 600)), a.Key("backspace"), a.Scroll(at(200, 600), dy=1)):
        assert code(action, view(boxes(TERM))) == ""
    may = guard("terminals: {newlines: allow}")
    assert code(a.Type("ls\n"), view(boxes(TERM)), may) == "" and code(a.Key("enter"), view(boxes(TERM)), may) == ""


def test_a_terminal_is_not_clicked_while_a_button_is_down():
    """The window on which the middle one was pressed closes; the click gives the terminal its release: it pastes."""
    for action in (
        a.Click(at(200, 600)),
        a.Move(at(200, 600)),
        a.Scroll(at(200, 600), dy=1),
        a.Type("ls", at(200, 600)),
    ):
        judge = guard()
        assert code(a.Press(at(200, 200), "middle"), of=judge) == ""
        assert code(action, view(boxes(TERM)), judge) == Code.TERMINAL_FORBIDDEN
        assert code(a.Release(at(200, 200), "middle"), of=judge) == ""
        assert code(action, view(boxes(TERM)), judge) == ""


def test_a_chord_in_parts_is_a_chord():
    judge = guard()
    assert code(a.KeyDown("ctrl"), of=judge) == "" and code(a.KeyDown("altleft"), of=judge) == ""
    assert code(a.Key("del"), of=judge) == Code.KEY_FORBIDDEN
    assert code(a.Type("a"), of=judge) == Code.KEY_FORBIDDEN
    assert code(a.KeyUp("alt_l"), of=judge) == ""
    assert code(a.Key("del"), of=judge) == ""


def test_two_names_of_one_key_are_one_key():
    known = pytest.importorskip("optr.connectors.desktop.keys").KEYS
    spelled: dict[int, set[str]] = {}
    for name, keysym in known.items():
        with suppress(KeyNameError):  # refused, under every name
            spelled.setdefault(keysym, set()).add(key_name(name))
    assert len(spelled) > 100
    assert [names for names in spelled.values() if len(names) > 1] == []
    characters = {keysym: names for keysym, names in spelled.items() if 0x21 <= keysym <= 0x7E}
    assert [names for keysym, names in characters.items() if names != {key_name(chr(keysym))}] == []


def test_what_may_not_have_worked_counts_as_both():
    judge = guard()
    down = judge.judge(a.KeyDown("ctrl"), view(), 0)
    judge.over(down, a.ActionResult(True), view())
    up = judge.judge(a.KeyUp("ctrl"), view(), 1)
    judge.over(up, a.ActionResult(False), view())
    assert judge.held.keys == {"ctrl"}
    judge.let_go()
    assert not judge.held.keys


def test_a_key_in_parts_is_a_key_and_is_never_told():
    judge = guard()
    assert code(a.Type("hunt"), of=judge) == ""
    verdict = judge.judge(a.Type("er2"), view(), 0)
    assert verdict.code == Code.SECRET_FORBIDDEN and "hunt" not in verdict.text
    for letter in "er":
        assert code(a.Key(letter), of=judge) == ""
    assert code(a.Key("2"), of=judge) == Code.SECRET_FORBIDDEN
    shifted = guard()
    shifted._secrets = (Secret("Ab;\n"),)
    for key in ("shift", "a"):
        assert code(a.KeyDown(key), of=shifted) == ""
    assert code(a.KeyUp("shift"), of=shifted) == "" and code(a.Key("b"), of=shifted) == ""
    assert code(a.Key("semicolon"), of=shifted) == "" and code(a.Key("Return"), of=shifted) == Code.SECRET_FORBIDDEN
    may = guard("secrets: {into: [{wm_class: calc}]}")
    assert code(a.Type(SECRET), of=may) == "" and code(a.Type("more"), of=may) == ""
    assert code(a.Type(SECRET), view(boxes(TERM)), may) == Code.SECRET_FORBIDDEN


def test_the_desktop_has_to_be_seen_freshly_and_to_make_sense():
    judge = guard()
    assert code(a.Click(), view(stamp_ns=0), judge, 2 * SECOND) == Code.OBSERVATION_STALE
    assert code(a.Click(), view(stamp_ns=3 * SECOND), judge, 2 * SECOND) == Code.OBSERVATION_AHEAD
    assert code(a.Click(), view(stamp_ns=SECOND), judge, SECOND) == Code.CLOCK_BACKWARDS
    twice = boxes()
    twice[0].layer = twice[1].layer
    assert code(a.Click(), view(twice)) == Code.BAD_VIEW
    assert code(a.Click(), view(pointer=None)) == Code.NO_SUCH_PLACE
    assert code(a.Key("a"), view(boxes(0))) == Code.NO_FOCUS
    assert code(a.Click(), None, guard("regions: {forbid: [{name: r, monitor: gone}]}")) == Code.REGION_FORBIDDEN
    assert guard().judge(a.Click(), None, 0).code == Code.RULE_FAILED


def test_regions_of_monitors_and_windows():
    monitors = (Monitor("left", a.Rect(0, 0, 500, 800)), Monitor("right", a.Rect(500, 0, 500, 800)))
    judge = guard("regions: {forbid: [{name: upper, monitor: left, high: [1.0, 0.25]}]}")
    assert code(a.Click(at(200, 199)), view(monitors=monitors), judge) == Code.REGION_FORBIDDEN
    assert code(a.Click(at(200, 201)), view(monitors=monitors), judge) == ""
    judge = guard("regions: {forbid: [{name: half, wm_class: calc, high: [0.5, 1.0]}]}")
    assert code(a.Click(at(299, 200)), None, judge) == Code.REGION_FORBIDDEN
    assert code(a.Click(at(300, 200)), None, judge) == ""
    judge = guard("regions: {forbid: [], allow: [{name: left, high: [0.2, 1.0]}]}")
    assert code(a.Click(at(199, 200)), None, judge) == "" and code(a.Click(at(201, 200)), None, judge)


def test_a_pixel_that_reaches_into_a_region_is_in_it():
    judge = guard("regions: {forbid: [{name: half a pixel, low: [0.2005, 0.0], high: [0.2995, 1.0]}]}")
    found = [code(a.Move(at(x, 200)), None, judge) for x in (199, 200, 299, 300)]
    assert found == ["", Code.REGION_FORBIDDEN, Code.REGION_FORBIDDEN, ""]


def test_a_star_is_no_option():
    judge = guard("programs: {allow: [{name: editor, command: [edit], arguments: ['*.txt', '-r']}]}")
    tried = ("a.txt", "-r", "-x.txt", "--run=a.txt")
    assert [code(a.Launch("editor", (t,)), of=judge) for t in tried] == ["", "", *[Code.PROGRAM_FORBIDDEN] * 2]


def test_a_menu_without_a_class_is_judged_as_its_process():
    def menu(pid: int) -> DeskView:
        over = Window(99, "", ("", ""), pid, a.Rect(190, 190, 50, 50), a.Rect(190, 190, 50, 50), False, 9, True)
        seen = view()
        ours = [replace(w, pid=7 if w.id == CALC else 8) for w in seen.windows]
        return replace(seen, windows=(*ours, over))

    assert code(a.Click(), menu(7)) == ""
    assert code(a.Click(), menu(8)) == Code.WINDOW_FORBIDDEN  # of several classes: nobody knows of which
    assert code(a.Click(), menu(0)) == Code.WINDOW_FORBIDDEN


def test_rates_steps_and_time_are_bounded_and_letting_go_is_not():
    judge = guard("budget: {actions: 3, window: 1.0, steps: 5, time: 10.0}")

    def tried(action, seconds: float) -> str:
        now_ns = round(seconds * SECOND)
        return code(action, view(stamp_ns=now_ns), judge, now_ns)

    assert [tried(a.Click(), 0.1 * n) for n in range(4)] == ["", "", "", Code.RATE_LIMIT]
    assert tried(a.KeyUp("ctrl"), 0.4) == ""
    assert tried(a.Click(), 1.5) == "" and tried(a.Click(), 1.6) == Code.STEP_BUDGET
    assert tried(a.Done(), 1.7) == ""
    judge.begin_task("next", view(), 2 * SECOND)
    assert tried(a.Click(), 2.0) == "" and tried(a.Click(), 12.1) == Code.TIME_BUDGET


def test_a_person_confirms_one_action_once_and_for_a_while():
    judge = guard()
    delete = a.Click(a.Selector("text=Delete"))
    first = judge.judge(delete, view(), 0)
    assert first.code == Code.CONFIRMATION_NEEDED and judge.requests == (first.request,)
    assert judge.judge(delete, view(), 0).request == first.request
    judge.confirm(first.request, 0)
    assert code(a.Hotkey(("shift", "delete")), of=judge) == Code.CONFIRMATION_NEEDED
    assert code(delete, of=judge) == "" and code(delete, of=judge) == Code.CONFIRMATION_NEEDED
    with pytest.raises(GuardError, match="no request"):
        judge.confirm(first.request, 0)
    again = judge.judge(delete, view(), 1).request
    judge.confirm(again, 1)
    late = 61 * SECOND
    assert code(delete, view(stamp_ns=late), judge, late) == Code.CONFIRMATION_NEEDED


def test_what_was_confirmed_is_another_action_where_something_else_is_there():
    judge = guard()
    delete = a.Click(at(650, 550))
    judge.confirm(judge.judge(delete, view(), 0).request, 0)
    other = boxes()
    other[4].title = "Confirm: everything"
    assert code(delete, view(other), judge) == Code.CONFIRMATION_NEEDED
    assert code(delete, view(), judge) == ""


def test_enter_on_a_focused_element_that_deletes_is_irreversible():
    assert code(a.Key("enter"), view(focus=Element("button", "Delete all"))) == Code.CONFIRMATION_NEEDED
    assert code(a.Key("enter"), view(focus=Element("button", "Sum"))) == ""


def test_a_stop_lasts_until_somebody_rearms():
    judge = guard()
    request = judge.judge(a.Click(a.Selector("text=Delete")), view(), 0).request
    judge.stop("a person pressed ctrl+alt+escape")
    verdict = judge.judge(a.Wait("time"), view(), 0)
    assert (verdict.outcome, verdict.code, judge.state) == (Outcome.STOPPED, Code.STOP_REQUESTED, GuardState.STOPPED)
    with pytest.raises(GuardError):
        judge.confirm(request, 0)
    judge.rearm()
    assert code(a.Click(), of=judge) == "" and judge.state is GuardState.READY
    with pytest.raises(GuardError, match="no stop"):
        judge.rearm()


def test_what_must_hold_before_and_after():
    judge = guard(
        "tasks: {sums: {before: [{window: {wm_class: calc}}], after: [{no_window: {title: '*error*'}}],"
        " recover: [{kind: key, key: escape}], retries: 1}}",
        "actions: {type: {before: [{focused: {wm_class: calc}}]}, click: {after: [{effect: {}}]}}",
    )
    assert "there is not" in judge.begin_task("sums", view([]), 0)
    assert code(a.Wait("time"), view([]), judge) == Code.PRECONDITION and judge.state is GuardState.HOLDING
    assert code(a.Click(), of=judge) == "" and judge.state is GuardState.READY
    assert code(a.Type("a"), view(boxes(TERM)), judge) == Code.PRECONDITION
    error = [*boxes(), Box(16, "Calc", "Error", (0, 0, 50, 50), 0, 9)]
    assert "there is" in judge.end_task(view(error))
    assert code(a.Click(), view(error), judge) == Code.POSTCONDITION
    assert judge.recovery == (a.Key("escape"),)
    assert not judge.judge(a.Key("escape"), view(error), 0, recovering=True).allowed
    assert judge.take_recovery() == a.Key("escape")
    assert not judge.judge(a.Key("escape"), view(error), 0).allowed
    assert judge.judge(a.Key("escape"), view(error), 0, recovering=True).allowed
    assert judge.take_recovery() is None and not judge.recovery
    assert not judge.judge(a.Key("escape"), view(error), 0, recovering=True).allowed
    assert "there is" in judge.still(view(error)) and judge.still(view()) == ""
    assert code(a.Click(), of=judge) == ""
    click = judge.judge(a.Click(), view(), 0)
    assert "suspected_no_op" in judge.over(click, a.ActionResult(True, a.Effect.SUSPECTED_NO_OP), view())
    assert code(a.Click(), of=judge) == Code.POSTCONDITION
    judge.rearm()
    assert code(a.Click(), of=judge) == ""


def test_a_verdict_says_what_has_to_be_there_when_it_is_carried_out():
    verdict = guard().judge(a.Drag((at(200, 200), at(120, 130))), view(), 0)
    assert verdict.pixels == (((200, 200), CALC), ((120, 130), CALC)) and verdict.keyboard == 0
    assert guard().judge(a.Key("a"), view(), 0).keyboard == CALC
    assert guard().judge(a.Click(at(200, 200)), view(), 0).keyboard == 0
    assert guard().judge(a.Click(at(200, 200), modifiers=("shift",)), view(), 0).keyboard == CALC
    into = guard().judge(a.Type("a", at(200, 200)), view(boxes(TERM)), 0)
    value = guard().judge(a.SetValue(a.Selector("text=Sum"), "1"), view(boxes(TERM)), 0)
    assert value.allowed and value.keyboard == 0
    assert into.keyboard == CALC


def whole() -> list[Box]:
    return [replace(b, place=(0, 0, *SCREEN)) for b in boxes() if b.id == CALC]


@pytest.mark.parametrize("path", [((700, 750), (990, 650)), ((200, 200), (700, 750), (990, 650))])
def test_what_is_drawn_on_the_way_counts(path):
    pixels = [at(*p) for p in path]
    assert all(code(a.Click(p), view(whole())) == "" for p in pixels)
    assert code(a.Drag(tuple(pixels)), view(whole())) == Code.REGION_FORBIDDEN
    assert code(a.Drag((*pixels[:-1], at(300, 700))), view(whole())) == ""


def test_a_window_on_the_way_of_a_drag_counts():
    under = [replace(b, layer=0) for b in whole()]
    over = [b for b in boxes() if b.id == VAULT]
    assert code(a.Drag((at(200, 300), at(700, 300))), view(under + over)) == Code.WINDOW_FORBIDDEN
    assert code(a.Drag((at(200, 300), at(250, 300))), view(under + over)) == ""


def test_a_button_that_is_down_draws_as_a_drag_does():
    free = whole()
    judge = guard("regions: {forbid: [{name: middle, low: [0.4, 0.4], high: [0.6, 0.6]}]}")
    assert code(a.Move(at(800, 600)), view(free), judge) == ""
    assert code(a.Press(at(200, 200)), view(free), judge) == ""
    assert code(a.Move(at(800, 600)), view(free), judge) == Code.REGION_FORBIDDEN
    assert code(a.Release(at(800, 600)), view(free), judge) == Code.REGION_FORBIDDEN
    assert code(a.Release(at(250, 200)), view(free), judge) == ""


def test_a_modifier_of_a_click_goes_to_who_has_the_keyboard():
    assert code(a.Click(at(200, 200)), view(boxes(VAULT))) == ""
    assert code(a.Click(at(200, 200), modifiers=("shift",)), view(boxes(VAULT))) == Code.WINDOW_FORBIDDEN
    assert code(a.Click(at(200, 200), modifiers=("shift",)), view(boxes(TERM))) == Code.TERMINAL_FORBIDDEN


def test_the_left_key_stays_down_when_the_right_one_is_released():
    judge = guard()
    for action in (a.KeyDown("shift"), a.KeyUp("shift_r")):
        assert code(action, of=judge) == ""
    assert judge.held.keys == {"shift"}
    assert code(a.Key("left"), view(boxes(TERM)), judge) == Code.TERMINAL_FORBIDDEN
    assert code(a.KeyUp("Shift_L"), of=judge) == "" and not judge.held.keys
    assert code(a.Key("left"), view(boxes(TERM)), judge) == ""


@pytest.mark.parametrize("key", ["shift", "ctrl_r", "altgr"])
def test_a_text_is_not_typed_while_a_key_changes_it(key):
    judge = guard()
    assert code(a.KeyDown(key), of=judge) == ""
    assert code(a.Type("12"), view(boxes(TERM)), judge) == Code.KEY_FORBIDDEN  # with Shift it were !@


def test_a_name_of_several_windows_is_of_none():
    twins = [replace(b, title="Sums") if b.id == NOTES else b for b in boxes()]
    verdict = guard().judge(a.Focus("Sums"), view(twins), 0)
    assert (verdict.code, verdict.text.partition(";")[0]) == (Code.NO_SUCH_PLACE, "2 windows are 'Sums'")
    more = [replace(b, title="Sums and more") if b.id == NOTES else b for b in boxes()]
    assert view(more).named("Sums") == view(more).named(str(CALC))
    seen = view(twins)
    hint = replace(seen, windows=tuple(replace(w, managed=w.id != NOTES) for w in seen.windows))
    assert [w.id for w in hint.named("Sums")] == [CALC]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("desk: 2", "version 2"),
        ("windws: {}", "unknown key 'windws'"),
        ("windows: {allow: [{klass: a}]}", "unknown key 'klass'"),
        ("windows: {root: maybe}", "expected allow or refuse"),
        ("regions: {forbid: [{name: a, low: [0.5, 0.5], high: [0.5, 1.0]}]}", "is empty"),
        ("keys: {forbid: [ctrl+nonsense]}", "no key named"),
        ("text: {forbid: ['(']}", "is no pattern"),
        ("budget: {actions: 0}", "expected 1 to 1000"),
        ("classes: {irreversible: sometimes}", "expected allow, confirm or refuse"),
        ("classes: {kinds: [explode]}", "no action 'explode'"),
        ("programs: {allow: [{name: a, command: []}]}", "needs a name and a command"),
        ("actions: {explode: {}}", "no action 'explode'"),
        ("tasks: {a: {before: [{moon: {}}]}}", "expected one condition"),
        ("tasks: {a: {recover: [{kind: explode}]}}", "no action 'explode'"),
        ("stop_chord: ctrl+", "names no keys"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_the_line(text, said):
    with pytest.raises(SpecError, match="more.yaml:1") as err:
        config(text)
    assert said in str(err.value)


def test_a_desk_that_is_not_there_lists_those_that_are():
    with pytest.raises(OptrError, match="there are: bench, default, demo, miniwob"):
        load_desk("dfault")
