"""Actions on real programs and on a window of our own: what is done, what is seen of it, and what is refused."""

from __future__ import annotations

import subprocess
import threading

import numpy as np
import pytest

from desktop_pad import PATIENCE_S, Pad, until
from optr.connectors.desktop.actions import (
    Ask,
    Click,
    Done,
    Drag,
    Effect,
    Fail,
    Focus,
    Hotkey,
    Invoke,
    Key,
    KeyDown,
    KeyUp,
    Launch,
    Move,
    Point,
    Press,
    Rect,
    Release,
    Scroll,
    Selector,
    SetValue,
    Type,
    Wait,
)
from optr.connectors.desktop.bridge import DesktopBridge, Helpers
from optr.connectors.desktop.places import beside_corner
from optr.connectors.desktop.session import DesktopSession, Program
from optr.connectors.desktop.settle import Patience
from optr.connectors.desktop.view import pixel_in
from optr.errors import DesktopError, UnknownNameError

WIDTH, HEIGHT = 1000, 700
PROGRAMS = {
    "calculator": Program(("galculator",)),
    "text": Program(("zenity", "--text-info", "--editable", "--width=500", "--height=300")),
    "terminal": Program(("xterm",)),
    "nothing": Program(("false",)),
}
GALCULATOR = {
    "7": (35, 200), "8": (100, 200), "9": (165, 200), "/": (230, 200),
    "4": (35, 240), "5": (100, 240), "6": (165, 240), "*": (230, 240),
    "1": (35, 280), "2": (100, 280), "3": (165, 280), "-": (230, 280),
    "0": (35, 320), ".": (100, 320), "+": (230, 320), "=": (295, 300), "clear": (242, 113),
}  # fmt: skip
"""Middles of its keys in a window of 331 x 343 pixels."""


@pytest.fixture(scope="module")
def session():
    with DesktopSession(WIDTH, HEIGHT, PROGRAMS) as made:
        yield made


@pytest.fixture
def bridge(session):
    with DesktopBridge(session.display, Helpers(start=session.start)) as made:
        yield made


@pytest.fixture
def launch(bridge):
    """Starts programs; they are ended after the test."""
    started = []

    def one(name):
        def start(program, arguments=()):
            started.append(helpers.start(program, arguments))
            return started[-1]

        helpers = bridge.helpers
        bridge.helpers = Helpers(start=start)
        result = bridge.execute(Launch(name))
        bridge.helpers = helpers
        assert result.executed and result.effect == Effect.CONFIRMED, result
        assert bridge.execute(Wait("still", timeout_s=PATIENCE_S)).executed
        return int(result.answer)

    yield one
    for process in started:
        process.kill()
        process.wait()
    assert bridge.windows.wait(lambda: not bridge.windows.all(), PATIENCE_S)


@pytest.fixture
def pad(session):
    """Makes windows of our own."""
    made = []

    def one(**options):
        made.append(Pad(session.display, (300, 200), managed=True, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def test_a_calculator_adds_what_is_clicked(session, bridge, launch):
    window = launch("calculator")
    rect = bridge.windows.get(window).rect
    assert (rect.width, rect.height) == (331, 343)
    for sum_ in ("15+27=", "3*4-5=", "81/9="):
        for key in ("clear", *sum_):
            x, y = GALCULATOR[key]
            result = bridge.execute(Click(Point(x / rect.width, y / rect.height, f"window:{window}")))
            assert result.executed and result.at == (rect.x + x, rect.y + y)
            # A result that is what stood there, and a clear of nothing, change no pixel.
            assert result.effect == Effect.CONFIRMED or key in ("clear", "="), (key, result)
        assert bridge.execute(Hotkey(("ctrl", "c"))).executed
        assert clipboard(session) == str(eval(sum_[:-1])).removesuffix(".0")


def clipboard(session):
    words = ["xclip", "-selection", "clipboard", "-o"]
    return subprocess.run(words, env=session.environment, capture_output=True, text=True, check=True).stdout


def test_a_text_is_typed_into_a_window_that_was_behind(session, bridge, launch):
    text = "<b>15 + 27 = „42“</b>\tñ Ω 日本 😀 e\u0301\nsecond line"
    window = launch("text")
    launch("calculator")
    assert bridge.execute(Focus("galculator")).executed
    result = bridge.execute(Type(text, into=Point(0.9, 0.5, f"window:{window}")))
    assert result.executed and result.effect == Effect.CONFIRMED, result
    assert bridge.windows.has_focus(window)
    bridge.execute(Hotkey(("ctrl", "a")))
    bridge.execute(Hotkey(("ctrl", "c")))
    assert clipboard(session) == text


class TestWindows:
    def test_what_lies_over_what(self, bridge, pad):
        low, high = pad(title="low"), pad(title="high")
        until(lambda: len(bridge.windows.matching("pad")) == 2)
        bridge.windows.focus(high.id)
        one, two = bridge.windows.find("low"), bridge.windows.find("high")
        assert (one.wm_class, two.focused, one.focused) == (("Pad", "pad"), True, False)
        assert one.layer < two.layer
        assert one.outer.width >= one.rect.width == 300 and one.rect.height == 200
        bridge.windows.focus(low.id)
        assert bridge.windows.find("low").layer > bridge.windows.find("high").layer
        shared = bridge.windows.find("low").rect.centre
        assert bridge.windows.at(*shared).id == low.id

    def test_ambiguous_and_absent_windows_are_errors_that_list_what_there_is(self, bridge, pad):
        pad(title="first"), pad(title="second")
        until(lambda: len(bridge.windows.matching("pad")) == 2)
        result = bridge.execute(Focus("pad"))
        assert not result.executed and result.text.startswith("2 windows of id, title or class 'pad'; there are: ")
        assert "'first' (Pad)" in result.text and "'second' (Pad)" in result.text
        assert "no window of id, title or class 'nix'" in bridge.execute(Focus("nix")).text
        assert "there is no window 77" in bridge.execute(Click(Point(0.5, 0.5, "window:77"))).text
        result = bridge.execute(Click(Point(0.0, 0.0, "monitor:left")))
        assert "there is no monitor 'left'; there are: screen" in result.text

    def test_a_menu_is_a_window_too(self, bridge, launch):
        launch("calculator")
        window = bridge.windows.find("galculator")
        before = {w.id for w in bridge.windows.all()}
        result = bridge.execute(Click(Point(20 / window.rect.width, 12 / window.rect.height, f"window:{window.id}")))
        assert result.effect == Effect.CONFIRMED and not result.text
        (menu,) = [w for w in bridge.windows.all() if w.id not in before]
        assert bridge.windows.at(*menu.rect.centre).id == menu.id and menu.layer > bridge.windows.get(window.id).layer
        bridge.execute(Key("escape"))
        assert bridge.windows.wait(lambda: len(bridge.windows.all()) == len(before), PATIENCE_S)

    def test_a_window_answers_when_it_has_taken_in_its_input(self, bridge, launch):
        assert bridge.windows.ping(launch("calculator"), PATIENCE_S)
        assert not bridge.windows.ping(launch("terminal"))


class TestEffects:
    def test_drawing_is_confirmed_even_late(self, bridge, pad):
        late = pad(draws=0.25)
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Wait("still", timeout_s=PATIENCE_S))
        result = bridge.execute(Click(Point(0.5, 0.5, f"window:{late.id}")))
        rect = bridge.windows.get(late.id).rect
        assert result.effect == Effect.CONFIRMED
        assert result.changed == Rect(rect.x + 60, rect.y + 60, 40, 30)
        assert result.began_ns < result.input_ns < result.details["first_ns"] < result.ended_ns

    def test_nothing_is_a_suspected_no_op(self, bridge, pad):
        dead = pad()
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Focus("pad"))
        for action in (Click(Point(0.5, 0.5, f"window:{dead.id}")), Key("a"), Type("abc"), Scroll(dy=2)):
            result = bridge.execute(action)
            assert (result.executed, result.effect, result.text) == (True, Effect.SUSPECTED_NO_OP, "no pixel changed")

    def test_what_changes_by_itself_confirms_nothing(self, bridge, pad):
        caret = pad(blinks=True)
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Wait("time", timeout_s=1.0))
        result = bridge.execute(Click(Point(0.9, 0.9, f"window:{caret.id}")))
        # The caret may look as before by then.
        assert result.effect in (Effect.UNVERIFIABLE, Effect.SUSPECTED_NO_OP) and result.changed is None

    def test_a_change_elsewhere_confirms_nothing(self, bridge, pad):
        dead, other = pad(title="dead"), pad(title="other", draws=0.0)
        until(lambda: len(bridge.windows.matching("pad")) == 2)
        bridge.windows.focus(dead.id)
        place = bridge.windows.get(other.id).rect
        where = bridge.windows.get(dead.id).rect
        assert place.x != where.x or place.y != where.y
        other._due.append(0.0)
        result = bridge.execute(Key("a"))
        assert result.effect in (Effect.UNVERIFIABLE, Effect.SUSPECTED_NO_OP)

    def test_a_pointer_that_moves_and_a_copied_text_cannot_be_seen(self, bridge, pad):
        pad()
        until(lambda: bridge.windows.matching("pad"))
        assert bridge.execute(Move(Point(0.5, 0.5))).effect == Effect.UNVERIFIABLE
        assert bridge.hand.position() == (WIDTH // 2, HEIGHT // 2)
        assert bridge.execute(Hotkey(("ctrl", "c"))).effect == Effect.UNVERIFIABLE

    def test_keys_and_buttons_stay_down_until_they_are_released(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Focus("pad"))
        place = Point(0.5, 0.5, f"window:{one.id}")
        for action in (KeyDown("shift"), Press(place), Release(Point(0.6, 0.6, f"window:{one.id}")), KeyUp("shift")):
            assert bridge.execute(action).executed
        kinds = [n.kind for n in one.wait(lambda noted: noted and noted[-1].kind == "key_up") if n.kind != "move"]
        assert kinds == ["key", "press", "release", "key_up"]


class TestWaiting:
    def test_for_a_window(self, bridge, session):
        thread = threading.Timer(0.2, lambda: session.launch(["xterm", "-T", "late one", "-e", "sleep", "1000"]))
        thread.start()
        result = bridge.execute(Wait("window", "late one", timeout_s=PATIENCE_S))
        assert result.executed and "late one" in result.answer
        thread.join()
        pid = bridge.windows.find("late one").pid
        subprocess.run(["kill", str(pid)], check=True)
        assert bridge.windows.wait(lambda: not bridge.windows.all(), PATIENCE_S)

    def test_for_what_does_not_come(self, bridge):
        result = bridge.execute(Wait("window", "never", timeout_s=0.2))
        assert not result.executed
        assert result.text == "waited 0.2 s for window 'never', which did not come"

    def test_for_stillness_and_that_a_caret_prevents_it(self, bridge, pad):
        blinking = pad(blinks=True)
        until(lambda: bridge.windows.matching("pad"))
        frame = f"window:{blinking.id}"
        assert not bridge.execute(Wait("still", still_s=0.4, timeout_s=1.5, frame=frame)).executed
        blinking._blinks = False
        assert bridge.execute(Wait("still", still_s=0.4, timeout_s=PATIENCE_S, frame=frame)).executed

    def test_for_elements_that_others_find(self, bridge, session):
        there = []

        def resolve(selector):
            if not there:
                raise UnknownNameError("element", selector.text, ())
            return there[0]

        bridge.helpers = Helpers(resolve=resolve, absent=UnknownNameError)
        assert not bridge.execute(Wait("element", "role=button", timeout_s=0.3)).executed
        assert bridge.execute(Wait("gone", "role=button", timeout_s=PATIENCE_S)).answer == "gone"
        threading.Timer(0.2, lambda: there.append(Rect(10, 20, 30, 40))).start()
        assert bridge.execute(Wait("text", "Save", timeout_s=PATIENCE_S)).answer == "10, 20, 30 x 40"
        assert bridge.execute(Click(Selector("role=button"))).at == (25, 40)
        assert not bridge.execute(Wait("gone", "role=button", timeout_s=0.3)).executed

    def test_is_cancelled(self, bridge):
        results = []
        thread = threading.Thread(target=lambda: results.append(bridge.execute(Wait("time", timeout_s=1000.0))))
        thread.start()
        until(lambda: bridge._asked)
        bridge.cancel()
        thread.join()
        assert (results[0].executed, results[0].refused, results[0].effect) == (False, "CANCELLED", Effect.NONE)


def test_nothing_is_typed_into_an_element_that_does_not_get_the_keyboard(bridge, pad, monkeypatch):
    monkeypatch.setattr(bridge._settling, "patience", Patience(element_s=0.3))
    one = pad(draws=0.0)
    until(lambda: bridge.windows.matching("pad"))
    rect = bridge.windows.get(one.id).rect
    place = Point(0.5, 0.5, f"window:{one.id}")
    has = [Rect(rect.x, rect.y, 10, 10)]
    bridge.helpers = Helpers(focused=lambda: has[0])
    result = bridge.execute(Type("abc", into=place))
    assert not result.executed and "did not get the keyboard, which is at Rect(" in result.text
    assert not one.of("key")
    timer = threading.Timer(0.1, lambda: has.insert(0, rect))
    timer.start()
    assert bridge.execute(Type("abc", into=place)).executed
    assert [n.kind for n in one.wait(lambda noted: noted[-1].kind == "key_up")].count("key") == 3
    timer.join()


def test_others_may_ask_while_one_waits(bridge, pad):
    thread = threading.Thread(target=lambda: bridge.execute(Wait("window", "never", timeout_s=1000.0)))
    thread.start()
    until(lambda: bridge._asked)
    one = pad()
    until(lambda: [w.id for w in bridge.windows.matching("pad")] == [one.id])
    bridge.cancel()
    thread.join()


class TestRefusals:
    @pytest.mark.parametrize(
        ("action", "match"),
        [
            (Click(Point(1.5, 0.5)), "x: is 1.5, expected 0 to 1"),
            (Click(Point(float("nan"), 0.5)), "x: is nan"),
            (Click(Point(0.5, 0.5), button="lef"), "button: is 'lef', expected one of: left, middle"),
            (Click(Point(0.5, 0.5), count=0), "count: is 0"),
            (Key("pagedwn"), "no key 'pagedwn'"),
            (Hotkey(("ctrl", "blub")), "no key 'blub'"),
            (Type("a\x00b"), "holds"),
            (Wait("dinner"), "until: is 'dinner'"),
            ("click", "'click' is no action"),
        ],
    )
    def test_what_is_no_sound_action_presses_nothing(self, bridge, pad, action, match):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        with pytest.raises(DesktopError, match=match):
            bridge.execute(action)
        assert not one.of("press", "key") and bridge.hand.input_ns == 0

    def test_what_it_was_not_given_it_does_not_do(self, session):
        with DesktopBridge(session.display) as bare:
            for action, what in (
                (Click(Selector("text=Save")), "finds elements"),
                (Wait("element", "text=Save"), "finds elements"),
                (Invoke(Selector("text=Save")), "invokes elements"),
                (SetValue(Selector("text=Save"), "x"), "sets values"),
                (Launch("terminal"), "starts programs"),
            ):
                result = bare.execute(action)
                assert not result.executed and result.text == f"this bridge was given nothing that {what}"
            asked = bare.execute(Ask("May I?"))
            assert not asked.executed and asked.text.startswith("nobody is here to be asked")
            assert bare.hand.input_ns == 0

    def test_what_others_do_is_done_and_seen(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        told = []

        def invoke(selector, action):
            told.append((selector.text, action))
            one._due.append(0.0)

        bridge.helpers = Helpers(invoke=invoke, ask=lambda question, timeout_s: "yes", set_value=lambda s, v: None)
        assert bridge.execute(Invoke(Selector("text=Save"), "press")).effect == Effect.CONFIRMED
        assert told == [("text=Save", "press")]
        assert bridge.execute(SetValue(Selector("text=Save"), "x")).effect == Effect.UNVERIFIABLE
        assert bridge.execute(Ask("May I?")).answer == "yes"
        assert bridge.execute(Done("42")).answer == "42"
        assert bridge.execute(Fail("cannot")).text == "cannot"

    def test_programs_that_are_not_there_or_end_at_once(self, bridge):
        result = bridge.execute(Launch("rm"))
        assert not result.executed and "no program of this desktop named 'rm'; there are: calculator" in result.text
        result = bridge.execute(Launch("nothing"))
        assert not result.executed and result.text == "nothing ended at once, with 1"

    def test_the_fail_safe_is_told_and_stays_until_it_is_rearmed(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Press(Point(0.5, 0.5)))
        with bridge.windows._x.lock:
            bridge.windows._x.root.warp_pointer(0, HEIGHT - 1)
            bridge.windows._x.display.sync()
        until(lambda: bridge.stopped)
        result = bridge.execute(Click(Point(0.5, 0.5, f"window:{one.id}")))
        assert (result.executed, result.refused, result.effect) == (False, "FAIL_SAFE", Effect.NONE)
        with bridge.windows._x.lock:
            bridge.windows._x.root.warp_pointer(WIDTH // 2, HEIGHT // 2)
            bridge.windows._x.display.sync()
        assert bridge.execute(Key("a")).refused == "FAIL_SAFE"
        bridge.rearm()
        assert bridge.execute(Key("a")).executed

    def test_a_screen_that_changes_its_size_is_told(self):
        mode = ["800x600", "38", "800", "832", "912", "1024", "600", "603", "607", "624"]
        set_mode = (["--newmode", *mode], ["--addmode", "screen", mode[0]], ["--output", "screen", "--mode", mode[0]])
        with DesktopSession(1280, 800) as changing, DesktopBridge(changing.display) as bridge:
            assert bridge.execute(Move(Point(0.5, 0.5))).executed
            for words in set_mode:
                subprocess.run(["xrandr", *words], env=changing.environment, check=True)
            result = bridge.execute(Click(Point(0.5, 0.5)))
            assert not result.executed and not result.input_ns
            assert result.text == "the screen was 1280 x 800 and is 800 x 600 now; open the bridge anew"

    def test_a_display_that_goes_away_is_told(self):
        with DesktopSession(640, 480) as brief:
            bridge = DesktopBridge(brief.display)
        for action in (Click(Point(0.5, 0.5)), Key("a"), Wait("still"), Wait("window", "x"), Move(Point(0.5, 0.5))) * 2:
            result = bridge.execute(action)
            assert not result.executed and result.text.startswith(f"the display {brief.display} is gone"), action
        bridge.close()


class TestPlaces:
    def test_pixels_are_those_of_the_picture_again(self):
        rect = Rect(100, 50, 1280, 800)
        for x in range(rect.width):
            assert pixel_in(rect, x / rect.width, 0.0) == (100 + x, 50)
            assert pixel_in(rect, (x + 0.5) / rect.width, 0.0) == (100 + x, 50)
        assert pixel_in(rect, 1.0, 1.0) == (1379, 849)

    def test_the_corners_are_left_to_people(self, bridge):
        assert beside_corner((0, 0), (10, 10)) == (1, 0)
        assert beside_corner((9, 9), (10, 10)) == (8, 9)
        assert beside_corner((9, 5), (10, 10)) == (9, 5)
        for corner in (Point(0.0, 0.0), Point(1.0, 0.0), Point(0.0, 1.0), Point(1.0, 1.0)):
            assert bridge.execute(Move(corner)).executed
        assert not bridge.stopped

    def test_a_window_that_was_moved_is_hit_all_the_same(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        for place in ((50, 60), (600, 400)):
            one.window.configure(x=place[0], y=place[1])
            one._x.display.sync()
            until(lambda place=place: abs(bridge.windows.get(one.id).outer.x - place[0]) < 5)
            one.clear()
            rect = bridge.windows.get(one.id).rect
            result = bridge.execute(Click(Point(123 / 300, 45 / 200, f"window:{one.id}")))
            noted = one.wait(lambda noted: any(n.kind == "release" for n in noted))
            assert [n.at for n in noted if n.kind == "press"] == [(rect.x + 123, rect.y + 45)] == [result.at]

    def test_a_drag_goes_from_one_place_to_another(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        frame = f"window:{one.id}"
        rect = bridge.windows.get(one.id).rect
        result = bridge.execute(Drag((Point(0.1, 0.1, frame), Point(0.9, 0.8, frame)), seconds=0.2))
        noted = one.wait(lambda noted: any(n.kind == "release" for n in noted))
        assert noted[-1].at == (rect.x + 270, rect.y + 160) == result.at
        assert next(n.at for n in noted if n.kind == "press") == (rect.x + 30, rect.y + 20)


class TestScreen:
    def test_pictures_are_what_is_there(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Wait("still", timeout_s=PATIENCE_S))
        rect = bridge.windows.get(one.id).rect
        picture = bridge.screen.grab(rect)
        assert picture.pixels.shape == (200, 300, 3) and picture.rect == rect
        assert np.array_equal(np.unique(picture.pixels.reshape(-1, 3), axis=0), [[0x33, 0x66, 0x99]])
        whole = bridge.screen.grab()
        assert whole.pixels.shape == (HEIGHT, WIDTH, 3)
        assert not whole.pixels.flags.writeable

    def test_what_lies_beside_the_screen_is_cut_off(self, bridge):
        assert bridge.screen.grab(Rect(-10, -10, 30, 20)).rect == Rect(0, 0, 20, 10)
        with pytest.raises(DesktopError, match="nothing of .* is on the screen, which is 1000 x 700"):
            bridge.screen.grab(Rect(2000, 0, 10, 10))

    def test_it_is_told_what_was_drawn_since(self, bridge, pad):
        one = pad()
        until(lambda: bridge.windows.matching("pad"))
        bridge.execute(Wait("still", timeout_s=PATIENCE_S))
        stamp = bridge.screen.grab().stamp_ns
        assert bridge.screen.changed_since(stamp) is None
        one._due.append(0.0)
        rect = bridge.windows.get(one.id).rect
        wanted = Rect(rect.x + 60, rect.y + 60, 40, 30)
        until(lambda: bridge.screen.changed_since(stamp) == wanted)
        assert bridge.screen.changed_since(stamp, Rect(0, 0, 10, 10)) is None
