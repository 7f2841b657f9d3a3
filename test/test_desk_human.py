"""What people do is recorded live, apart from what we do, and becomes actions that can be done again.

A person is a program of its own here, that gives input as we do (XTEST): the X server tells who asked.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from desktop_pad import PATIENCE_S, until
from optr.connectors.desktop.actions import Click, Drag, Hotkey, Key, Launch, Point, Rect, Scroll, Selector, Type, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.human_actions import HIDDEN, actions_of_human
from optr.connectors.desktop.human_input import HumanInput, InputEvent, key_of
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.x11 import X11
from optr.desk_episodes.episode import PERSON, DeskEpisode
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import DeskReplay, course_of
from optr.desk_episodes.script import load_text, script_of

for program in ("galculator", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)


class Person:
    """Gives input to a display as another program."""

    def __init__(self, display):
        self._x = X11(display)

    def _fake(self, kind, detail, **place):
        from Xlib.ext.xtest import fake_input

        fake_input(self._x.display, kind, detail, **place)
        self._x.display.sync()
        time.sleep(0.02)  # a hand is not quicker

    def move(self, x, y):
        from Xlib import X

        self._fake(X.MotionNotify, 0, x=x, y=y)

    def click(self, x, y, button=1):
        from Xlib import X

        self.move(x, y)
        time.sleep(0.1)
        self._fake(X.ButtonPress, button)
        self._fake(X.ButtonRelease, button)

    def keys(self, *names):
        """Press keys one in another."""
        from Xlib import XK, X

        codes = [self._x.display.keysym_to_keycode(XK.string_to_keysym(n)) for n in names]
        for code in codes:
            self._fake(X.KeyPress, code)
        for code in reversed(codes):
            self._fake(X.KeyRelease, code)

    def close(self):
        self._x.close()


@pytest.fixture(scope="module")
def desk():
    with demo_desk(1000, 700) as made:
        yield made


@pytest.fixture
def person(desk):
    made = Person(desk.session.display)
    yield made
    made.close()


@pytest.fixture
def calculator(desk):
    window = int(desk.execute(Launch("calculator")).answer)
    assert desk.execute(Wait("element", 'role=button[name="7"]', PATIENCE_S)).executed
    yield window
    desk.session._processes[-1].kill()
    until(lambda: not desk.bridge.windows.matching(str(window)))


def test_our_input_is_told_from_that_of_others(desk, person, calculator):
    heard = []
    listening = HumanInput(desk.session.display, heard.append, ours=desk.bridge.hand.clients)
    try:
        for key in ("7", "8", "9"):
            assert desk.execute(Click(Selector(f'role=button[name="{key}"]', calculator))).executed
            person.click(500, 650, button=3)
        assert desk.execute(Key("escape")).executed
        person.keys("Escape")
        until(lambda: sum(e.event == "key_up" for e in heard) >= 2)
    finally:
        listening.close()
    presses = [(e.name, e.injected) for e in heard if e.event == "button_down"]
    assert presses == [("left", True), ("right", False)] * 3
    assert [(e.injected, e.name) for e in heard if e.event == "key_down"] == [(True, ""), (False, "escape")]
    stamps = [e.stamp_ns for e in heard]
    assert stamps == sorted(stamps)
    assert listening.foreign == 4


def test_what_a_person_does_is_done_again_where_the_window_is_then(desk, person, calculator, tmp_path):
    with DeskRecorder(desk, tmp_path / "bag", {"task": "add"}) as recorder:
        for key in ("7", "+", "5", "="):
            person.click(*desk.finder.resolve(Selector(f'role=button[name="{key}"]', calculator)).centre)
        until(lambda: recorder._human.foreign == 4)
        until(lambda: desk.finder.find(Selector("role=textbox", calculator)).value.strip() == "12")
    episode = DeskEpisode(tmp_path / "bag")
    assert [(s.by, s.action.kind) for s in episode.steps] == [(PERSON, "click")] * 4
    assert [s.anchors[0].element.name for s in episode.steps] == ["7", "+", "5", "="]
    assert episode.facts["inputs_of_people"] == 4
    person.keys("Escape")
    window = desk.bridge.windows.get(calculator)
    move_window(desk, calculator, 20, 30)
    assert desk.bridge.windows.get(calculator).rect != window.rect
    rows = DeskReplay(desk, course_of(episode)).run()
    assert [(r.how, r.executed) for r in rows] == [("element", True)] * 4, rows
    assert desk.finder.find(Selector("role=textbox", calculator)).value.strip() == "12"


def test_clicks_in_something_large_are_done_again_at_their_very_places(desk, person, tmp_path):
    """In a text and beside the menus: accessibility tells only what is around them."""
    window = int(desk.execute(Launch("editor")).answer)
    assert desk.execute(Wait("element", "role=textbox", PATIENCE_S)).executed
    before = desk.bridge.windows.get(window).rect
    places = [(150, 171), (before.width - 20, 10)]
    with DeskRecorder(desk, tmp_path / "bag") as recorder:
        for count, (x, y) in enumerate(places, 1):
            person.click(before.x + x, before.y + y)
            until(lambda count=count: recorder._human.foreign == count)
    course = course_of(DeskEpisode(tmp_path / "bag"))
    assert [s.anchors[0].pixel for s in course.steps] == [(before.x + x, before.y + y) for x, y in places]
    text = script_of(course)
    assert "role=" not in text
    move_window(desk, window, before.x + 60, before.y + 40)
    now = desk.bridge.windows.get(window).rect
    assert (now.x, now.y) != (before.x, before.y)
    for again in (course, load_text(text, Path("script"))):
        met = []
        rows = DeskReplay(desk, again, told=lambda _: met.append(desk.bridge.hand.position())).run()  # noqa: B023
        assert [r.executed for r in rows] == [True] * 2, rows
        for (x, y), (was_x, was_y) in zip(places, met, strict=True):
            assert max(abs(was_x - now.x - x), abs(was_y - now.y - y)) <= 2, (met, now, text, rows)
    desk.session._processes[-1].kill()


def move_window(desk, number, x, y):
    connection = X11(desk.session.display)
    connection.window(number).configure(x=x, y=y)
    connection.display.sync()
    connection.close()
    until(lambda: abs(desk.bridge.windows.get(number).outer.x - x) < 40)


def test_keys_are_recorded_with_what_gets_them_and_replayed(desk, person, tmp_path):
    window = int(desk.execute(Launch("editor")).answer)
    assert desk.execute(Wait("element", "role=textbox", PATIENCE_S)).executed
    with DeskRecorder(desk, tmp_path / "bag"):
        person.keys("h")
        person.keys("Shift_L", "i")
        person.keys("Return")
        person.keys("Control_L", "End")
        until(lambda: desk.finder.find(Selector("role=textbox", window)).value == "hI\n")
    episode = DeskEpisode(tmp_path / "bag")
    assert [s.action for s in episode.steps] == [Type("hI"), Key("enter"), Hotkey(("ctrl", "end"))]
    assert all(s.keyboard.wm_class[0] == "Mousepad" for s in episode.steps)
    assert DeskReplay(desk, course_of(episode)).run()[-1].executed
    until(lambda: desk.finder.find(Selector("role=textbox", window)).value == "hI\nhI\n")
    desk.session._processes[-1].kill()


def test_keys_of_which_nobody_knows_where_they_go_are_kept_secret(desk, person):
    """Hotkeys are told: they type nothing."""
    heard = []
    listening = HumanInput(desk.session.display, heard.append, windows=desk.bridge.windows.all)
    try:
        person.keys("x")
        person.keys("Control_L", "x")
        person.keys("Return")
        until(lambda: sum(e.event == "key_up" for e in heard) >= 4)
    finally:
        listening.close()
    assert [(e.name, e.text) for e in heard if e.event == "key_down"] == [
        ("", ""), ("ctrl", ""), ("x", ""), ("enter", "")
    ]  # fmt: skip
    assert [m.action for m in actions_of_human(heard)] == [Type(HIDDEN), Hotkey(("ctrl", "x")), Key("enter")]


# -- without a display ---------------------------------------------------------------------------------------------

MS = 1_000_000
WINDOW = Window(7, "pad", ("Pad", "pad"), 0, Rect(100, 100, 200, 100), Rect(100, 100, 200, 100), True, 0, True)


def event(kind, ms, name="", text="", x=150, y=150, **more):
    return InputEvent(kind, ms * MS, name, text, x, y, 7, **more)


def made(*events):
    return [m.action for m in actions_of_human(events, lambda number, _: WINDOW if number == 7 else None)]


def click(ms, x=150, y=150, name="left"):
    return [event("button_down", ms, name, x=x, y=y), event("button_up", ms + 20, name, x=x, y=y)]


def test_clicks_that_come_soon_are_one_double_click():
    at = Point(0.2525, 0.505, "window:7")
    assert made(*click(0), *click(100)) == [Click(at, "left", 2)]
    assert made(*click(0), *click(900)) == [Click(at), Click(at)]
    assert made(*click(0), *click(100, x=250)) == [Click(at), Click(Point(0.7525, 0.505, "window:7"))]
    held = event("key_down", 0, "ctrl"), *click(10), event("key_up", 50, "ctrl")
    assert made(*held) == [Click(at, modifiers=("ctrl",))]


def test_a_press_that_moves_is_a_drag():
    path = [event("motion", n, x=150 + n) for n in range(1, 100)]
    found = made(event("button_down", 0, "left"), *path, event("button_up", 500, "left", x=250))
    assert isinstance(found[0], Drag) and len(found) == 1
    assert 2 <= len(found[0].path) <= 26 and found[0].seconds == 0.5
    assert (found[0].path[0].x, found[0].path[-1].x) == pytest.approx((0.2525, 0.7525))


def test_notches_are_one_scroll():
    turns = [event("button_down", n * 50, "scroll_down") for n in range(3)]
    assert made(*turns) == [Scroll(Point(0.2525, 0.505, "window:7"), 0, 3)]


def test_texts_keys_and_hotkeys_are_told_apart():
    keys = [event("key_down", 0, "a", "a"), event("key_down", 9, "shift"), event("key_down", 10, "B", "B")]
    keys += [event("key_up", 11, "shift"), event("key_down", 20, "enter"), event("key_down", 30, "tab")]
    keys += [event("key_down", 31, "tab"), event("key_down", 40, "ctrl"), event("key_down", 41, "s")]
    assert made(*keys) == [Type("aB"), Key("enter"), Key("tab", 2), Hotkey(("ctrl", "s"))]


def test_what_is_secret_stays_so_and_our_own_input_is_no_persons():
    keys = [event("key_down", n) for n in range(3)]
    found = actions_of_human(keys)
    assert [(m.action, m.hidden) for m in found] == [(Type(HIDDEN * 3), True)]
    assert actions_of_human([event("button_down", 0, "left", injected=True)]) == ()


@pytest.mark.parametrize(
    ("keysyms", "state", "name", "text"),
    [
        ([0x61, 0x41], 0, "a", "a"),
        ([0x61, 0x41], 1, "A", "A"),
        ([0x61, 0x41], 2, "A", "A"),
        ([0x61, 0x41], 3, "a", "a"),
        ([0x61, 0x41], 4, "a", ""),
        ([0x31, 0x21], 1, "!", "!"),
        ([0x20, 0], 0, "space", " "),
        ([0xFF0D, 0], 0, "enter", ""),
        ([0xFF09, 0xFE20], 1, "tab", ""),
        ([0xFFE1, 0], 0, "shift", ""),
        ([0x71, 0x51, 0, 0, 0x40, 0], 0x80, "@", "@"),
        ([0x01000439, 0], 0, "й", "й"),
        ([0xFFB7, 0], 0, "7", "7"),
        ([], 0, "0x0", ""),
    ],
)
def test_a_key_is_named_and_read_by_its_keysyms(keysyms, state, name, text):
    assert key_of(keysyms, state) == (name, text)
