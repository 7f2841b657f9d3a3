"""Pointer and keys, as a window on a real X server gets them: where, which, how many, and always released."""

from __future__ import annotations

import random
import threading

import pytest
from Xlib import X

from desktop_pad import Pad
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.footing import Footing
from optr.connectors.desktop.hand import Hand, Pace, StoppedError
from optr.connectors.desktop.keys import KEYS, NO_KEY, combination, keysym, text_keysyms
from optr.connectors.desktop.let_go import let_go
from optr.connectors.desktop.manager_turn import ManagerTurn
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError

WIDTH, HEIGHT = 1280, 800
BUTTONS = ("left", "middle", "right", "back", "forward")


@pytest.fixture(scope="module")
def session():
    with DesktopSession(WIDTH, HEIGHT) as made:
        yield made


@pytest.fixture
def hand(session):
    made = Hand(session.display, Pace(0.002, 0.002, 0.0))
    made.move((640, 400))
    yield made
    made.close()


@pytest.fixture
def pad(session):
    made = Pad(session.display)
    yield made
    made.close()


@pytest.fixture
def x(session):
    made = X11(session.display)
    yield made
    made.close()


def down(x):
    """Buttons and keys that are down, as the server says."""
    pressed = x.display.query_keymap()
    return int(x.root.query_pointer().mask) >> 8 & 0x1F, [
        8 * i + b for i in range(32) for b in range(8) if pressed[i] >> b & 1
    ]


def warp(x, place):
    """As a person does who moves the mouse."""
    x.root.warp_pointer(*place)
    x.display.sync()


class TestPointer:
    def test_clicks_land_on_the_pixel(self, hand, pad):
        places = [(random.randrange(1, WIDTH - 1), random.randrange(1, HEIGHT - 1)) for _ in range(50)]
        for place in places:
            hand.click(place)
        pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == len(places))
        assert [n.at for n in pad.of("press")] == places
        assert [n.at for n in pad.of("release")] == places

    @pytest.mark.parametrize(("button", "number"), [*zip(BUTTONS, (1, 2, 3, 8, 9), strict=True)])
    def test_each_button_is_the_one_of_x(self, hand, pad, button, number):
        hand.click((100, 100), button, count=2)
        pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == 2)
        assert [n.detail for n in pad.of("press", "release")] == [number] * 4

    def test_modifiers_are_down_during_a_click_and_released_after(self, hand, pad, x):
        hand.click((100, 100), modifiers=("ctrl", "shift"))
        pad.wait(lambda noted: sum(n.kind == "key_up" for n in noted) == 2)
        assert pad.of("press")[0].state & (X.ControlMask | X.ShiftMask) == X.ControlMask | X.ShiftMask
        assert down(x) == (0, [])

    def test_a_drag_is_down_all_the_way_and_passes_each_corner(self, hand, pad):
        hand.drag([(100, 100), (300, 100), (300, 250)], seconds=0.2)
        noted = pad.wait(lambda noted: any(n.kind == "release" for n in noted))
        noted = noted[next(i for i, n in enumerate(noted) if n.kind == "press") :]
        assert noted[0].at == (100, 100) and noted[-1].at == (300, 250) and noted[-1].kind == "release"
        moves = [n for n in noted if n.kind == "move"]
        assert all(n.state & X.Button1Mask for n in moves)
        assert (300, 100) in [n.at for n in moves] and len(moves) >= 10
        assert all(n.at[1] == 100 or n.at[0] == 300 for n in moves)

    @pytest.mark.parametrize(("turn", "number"), [((0, 3), 5), ((0, -3), 4), ((2, 0), 7), ((-2, 0), 6)])
    def test_the_wheel_turns_by_notches(self, hand, pad, turn, number):
        hand.scroll((200, 200), *turn)
        wanted = sum(map(abs, turn))
        pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == wanted)
        assert [n.detail for n in pad.of("press")] == [number] * wanted
        assert pad.of("press")[0].at == (200, 200)


class TestKeys:
    def test_a_hotkey_is_released_backwards(self, hand, pad):
        hand.hotkey(["ctrl", "shift", "t"])
        noted = pad.wait(lambda noted: sum(n.kind == "key_up" for n in noted) == 3)
        codes = [n.detail for n in noted if n.kind == "key"]
        assert [n.detail for n in noted if n.kind == "key_up"] == codes[::-1]
        assert len(set(codes)) == 3

    def test_a_key_that_needs_shift_gets_it(self, hand, pad, x):
        for key in ("A", "?", "a", "<"):
            hand.hotkey([key])
        hand.hotkey(["ctrl", "shift", "+"])
        hand.key_down("B")
        hand.key_up("B")
        noted = pad.wait(lambda noted: sum(n.kind == "key_up" for n in noted) == 2 + 2 + 1 + 1 + 3 + 2)
        keys = list(characters(x, noted))
        assert keys == ["A", "?", "a", "<", "+", "B"]
        assert down(x) == (0, [])

    @pytest.mark.parametrize("capitals", [False, True])
    def test_each_character_of_the_keyboard_is_typed_as_it_is(self, hand, pad, x, capitals):
        text = "".join(map(chr, range(0x20, 0x7F)))
        if capitals:
            hand.hotkey(["caps_lock"])
        hand.type(text)
        typed = pad.wait(lambda noted: sum(n.kind == "key_up" for n in noted) >= len(text))
        assert "".join(characters(x, typed)) == text
        assert bool(x.root.query_pointer().mask & X.LockMask) == capitals
        if capitals:
            hand.hotkey(["caps_lock"])
        assert down(x) == (0, [])

    def test_what_is_on_no_key_is_given_by_one_that_is_free_and_it_is_free_again_after(self, hand, pad, x):
        before = [list(row) for row in x.display.get_keyboard_mapping(8, 248)]
        hand.type("aé😀日Ж")
        pad.wait(lambda noted: sum(n.kind == "key" for n in noted) == 5)
        now = {k for row in x.display.get_keyboard_mapping(8, 248) for k in row}
        assert now >= {0xE9, 0x0101F600, 0x010065E5, 0x01000416}
        hand.forget_text()
        after = [list(row) for row in x.display.get_keyboard_mapping(8, 248)]
        assert [[k for k in row if k] for row in after] == [[k for k in row if k] for row in before]

    def test_nothing_is_typed_of_a_text_with_a_character_that_no_key_gives(self, hand, pad):
        for text, match in (("abc\x07", "character 3 of the text: the character U.0007"), ("\ud800", "U.D800")):
            with pytest.raises(DesktopError, match=match):
                hand.type(text)
        hand.click((5, 5))
        assert [n.kind for n in pad.wait(lambda noted: noted and noted[-1].kind == "release") if n.kind != "move"] == [
            "press",
            "release",
        ]

    def test_names_of_keys(self):
        assert keysym("Enter") == keysym("return") == 0xFF0D
        assert keysym("a") == 0x61 and keysym("A") == 0x41 and keysym("F12") == 0xFFC9 and keysym("num7") == 0xFFB7
        assert keysym("é") == 0xE9 and keysym("€") == 0x010020AC
        assert text_keysyms("\n\t") == [0xFF0D, 0xFF09]
        with pytest.raises(DesktopError, match=r"no key 'pagedwn'; .* like it: .*page_down"):
            keysym("pagedwn")
        with pytest.raises(DesktopError, match="no key '';"):
            keysym("")
        assert combination(["S", "shift", "ctrl"]) == "ctrl+shift+S"

    def test_every_key_of_pyautogui_is_known(self, hand):
        names = {n for n in hand._gui.KEY_NAMES if len(n) > 1}
        assert len(names) > 100 and names - set(KEYS) == NO_KEY

    def test_every_key_that_has_a_name_is_what_x_calls_so(self):
        from Xlib import XK

        XK.load_keysym_group("xf86")
        theirs = {n[3:].lower(): v for n, v in vars(XK).items() if n.startswith("XK_") and len(n) > 4}
        same = set(KEYS) & set(theirs)
        assert len(same) > 90
        # X means a soft hyphen, the sign ×, and a key that no keyboard has.
        assert {n for n in same if KEYS[n] != theirs[n]} == {"hyphen", "multiply", "shift_lock"}


def characters(x, noted):
    """What keys mean with the modifiers that came with them, by the table of the server."""
    for note in noted:
        if note.kind == "key":
            shifted = bool(note.state & X.ShiftMask)
            symbol = x.display.keycode_to_keysym(note.detail, int(shifted))
            if not 0xFFE1 <= symbol <= 0xFFEE:
                yield chr(symbol)


class TestStopping:
    def drag_until(self, hand, pad):
        """A long drag in another thread, of which the middle is reached; what it raises is kept."""
        raised = []

        def drag():
            try:
                hand.drag([(100, 100), (1100, 600)], modifiers=("ctrl",), seconds=30.0)
            except StoppedError as err:
                raised.append(err)

        thread = threading.Thread(target=drag)
        thread.start()
        pad.wait(lambda noted: sum(n.kind == "move" and bool(n.state & X.Button1Mask) for n in noted) > 5)
        return thread, raised

    def test_a_cancelled_drag_releases_everything_and_the_next_one_works(self, hand, pad, x):
        thread, raised = self.drag_until(hand, pad)
        assert down(x)[0] == 1 and down(x)[1]
        hand.cancel()
        assert down(x) == (0, [])
        thread.join()
        assert raised[0].code == "CANCELLED"
        assert down(x) == (0, [])
        pad.clear()
        hand.click((50, 50))
        pad.wait(lambda noted: any(n.kind == "release" for n in noted))

    def test_a_pointer_in_the_corner_stops_a_drag_until_somebody_rearms(self, hand, pad, x):
        thread, raised = self.drag_until(hand, pad)
        while thread.is_alive():  # the hand moves on, until it looks at a moment when the person has won
            warp(x, (0, 0))
        assert raised[0].code == "FAIL_SAFE" and hand.stopped == "FAIL_SAFE"
        pad.wait(lambda noted: any(n.kind == "release" for n in noted))
        assert down(x) == (0, [])
        warp(x, (0, 0))
        with pytest.raises(StoppedError, match="the pointer was put into a corner"):
            hand.rearm()
        warp(x, (640, 400))
        pad.clear()
        for refused in (lambda: hand.click((50, 50)), lambda: hand.type("x"), lambda: hand.hotkey(["a"])):
            with pytest.raises(StoppedError, match="nothing is pressed until rearm"):
                refused()
        assert not pad.of("press", "key")
        hand.rearm()
        hand.click((50, 50))
        pad.wait(lambda noted: any(n.kind == "release" for n in noted))

    def test_the_corner_is_watched_while_a_button_is_down_and_nothing_is_done(self, hand, pad, x):
        hand.press((300, 300))
        hand.key_down("shift")
        pad.wait(lambda noted: any(n.kind == "key" for n in noted))
        warp(x, (WIDTH - 1, HEIGHT - 1))
        pad.wait(lambda noted: any(n.kind == "release" for n in noted) and any(n.kind == "key_up" for n in noted))
        assert hand.stopped == "FAIL_SAFE"
        assert down(x) == (0, [])
        warp(x, (640, 400))

    def test_what_is_down_is_released_at_the_end(self, session, pad, x):
        hand = Hand(session.display)
        hand.press((300, 300), "middle")
        hand.key_down("a")
        assert down(x)[0] and down(x)[1]
        hand.close()
        hand.close()
        assert down(x) == (0, [])
        with pytest.raises(StoppedError, match="this hand is closed"):
            hand.move((1, 1))

    def test_a_text_is_cancelled_between_two_characters(self, session, pad, x):
        hand = Hand(session.display, Pace(text_s=0.02))
        raised = []

        def write():
            try:
                hand.type("a" * 5000)
            except StoppedError as err:
                raised.append(err)

        thread = threading.Thread(target=write)
        thread.start()
        pad.wait(lambda noted: sum(n.kind == "key" for n in noted) > 5)
        hand.cancel()
        thread.join()
        assert raised[0].code == "CANCELLED"
        assert len(pad.of("key")) < 5000
        assert down(x) == (0, [])
        hand.close()


def seen(pad, inner):
    whole = Rect(0, 0, WIDTH, HEIGHT)
    return Window(pad.id, "pad", ("Pad", "pad"), 0, whole, whole, False, 1, True, pad.id, inner)


def repeats(x):
    """Keys that X presses again while they are down."""
    return x.display.get_keyboard_control().auto_repeats


@pytest.mark.parametrize("let_go", [lambda hand: hand.key_up("a"), Hand.cancel, Hand.close])
def test_a_key_that_is_kept_down_is_pressed_once(hand, pad, x, let_go):
    before = repeats(x)
    hand.key_down("a")
    hand.drag([(100, 100), (900, 100)], seconds=1.0)  # X begins to repeat after 0.66 s
    pad.wait(lambda noted: any(n.kind == "release" for n in noted))
    (pressed,) = pad.of("key")
    assert before[pressed.detail // 8] >> pressed.detail % 8 & 1 and repeats(x) != before
    let_go(hand)
    assert repeats(x) == before


def test_what_was_down_before_stays_so_when_an_input_has_lost_its_footing(hand, pad, x):
    hand.key_down("ctrl")
    hand.footing = Footing({(200, 200): pad.id}, windows={pad.id: seen(pad, Rect(5, 5, 1, 1))})
    with pytest.raises(StoppedError, match="is not where it was") as stopped:
        hand.click((200, 200), modifiers=())
    assert stopped.value.code == "OBSERVATION_STALE" and not pad.of("press")
    hand.footing = Footing({(200, 200): 0})
    with pytest.raises(StoppedError, match="there is not window 0 any more"):
        hand.click((200, 200))
    hand.footing = Footing({})
    with pytest.raises(StoppedError, match="nobody has judged pixel"):
        hand.press((200, 200))
    hand.footing = Footing({}, 99, {pad.id: seen(pad, None)})
    with pytest.raises(StoppedError, match="not window 99 has the keyboard any more, but"):
        hand.hotkey(["shift", "a"])
    assert down(x)[1] and not pad.of("press")
    hand.footing = None
    hand.key_up("ctrl")
    assert down(x) == (0, [])


def test_a_pointer_that_somebody_else_has_moved_is_told_as_that(hand, x):
    hand.move((717, 350))
    said = "the pointer is at (717, 350), where this action does not act: somebody else moves it, too"
    assert Footing({(200, 200): 0}).wrong_at(x.display) == said
    assert Footing({(200, 200): 0}).wrong_at(x.display, (5, 6)) == "nobody has judged pixel (5, 6)"


def test_what_the_window_manager_was_asked_to_is_known_in_the_moment_of_a_press(session, x):
    """At once, also while nobody else is served: what is known too late has been done before the press comes."""
    giver, pad = X11(session.display), Pad(session.display, (300, 300), managed=True)
    turn = ManagerTurn(session.display, giver.display)
    try:
        for _ in range(50):
            with turn.watched():
                assert turn.done() and not turn.asked_again()
                x.tell_root(x.window(pad.id), "_NET_RESTACK_WINDOW", (2, 0, 0))
                x.display.sync()
                giver.display.grab_server()
                assert turn.asked_again()
                giver.display.ungrab_server()
        x.tell_root(x.window(pad.id), "_NET_RESTACK_WINDOW", (2, 0, 0))
        x.display.sync()
        giver.display.sync()
        assert not giver.display.pending_events(), "nothing piles up that nobody reads"
    finally:
        pad.close()
        turn.close()
        giver.close()


@pytest.mark.parametrize("moved", [0, 1])
def test_every_window_that_a_button_is_down_on_has_to_stay(session, hand, x, moved):
    """X tells the first one of every motion; where that lets go of the pointer, the next one."""
    pads = Pad(session.display), Pad(session.display, (300, 300))
    try:
        first, second = pads
        windows = {first.id: seen(first, Rect(0, 0, WIDTH, HEIGHT)), second.id: seen(second, Rect(0, 0, 300, 300))}
        places = {(600, 600): first.id, (100, 100): second.id, (200, 200): second.id, (700, 700): first.id}
        hand.footing = Footing(places, windows=windows)
        hand.press((600, 600))
        hand.press((100, 100), "right")
        x.window(pads[moved].id).configure(x=40)
        x.display.sync()
        with pytest.raises(StoppedError, match=f"window {pads[moved].id} 'pad' is not where it was"):
            hand.move([(200, 200), (700, 700)][moved])
        hand.cancel()
        assert not [n for n in first.of("move") if n.at in ((200, 200), (700, 700))]
        hand.footing = None
        hand.move((640, 400))
    finally:
        first.close()
        second.close()


def test_a_button_is_released_at_the_place_in_its_window_that_was_judged(session, x):
    """Although the window moves while it is down: elsewhere in it nobody has allowed anything."""
    slow, pad = Hand(session.display, Pace(0.4, 0.002, 0.0)), Pad(session.display, (400, 300))
    try:
        slow.footing = Footing({(100, 100): pad.id}, windows={pad.id: seen(pad, Rect(0, 0, 400, 300))})

        def meanwhile():
            pad.wait(lambda noted: any(n.kind == "press" for n in noted))
            x.window(pad.id).configure(x=70, y=90)
            x.display.sync()

        thread = threading.Thread(target=meanwhile)
        thread.start()
        with pytest.raises(StoppedError, match="is not where it was") as stopped:
            slow.click((100, 100))
        thread.join()
        pad.wait(lambda noted: any(n.kind == "release" for n in noted))
        assert [n.at for n in pad.of("press", "release")] == [(100, 100), (170, 190)], "of the screen"
        assert {n.at for n in pad.of("move")} <= {(100, 100), (170, 190)}
        assert stopped.value.code == "OBSERVATION_STALE" and down(x) == (0, [])
        assert slow.position() == (170, 190)
    finally:
        slow.close()
        pad.close()


def test_a_pointer_does_not_move_where_nothing_is_released_or_nobody_knows_of_what(session, hand, x):
    pads = Pad(session.display), Pad(session.display, (300, 300))
    try:
        first, second = pads
        windows = {first.id: seen(first, Rect(0, 0, WIDTH, HEIGHT)), second.id: seen(second, Rect(0, 0, 300, 300))}
        hand.footing = Footing({(600, 600): first.id, (100, 100): second.id}, windows=windows)
        hand.press((600, 600))
        x.window(first.id).configure(x=40)
        x.display.sync()
        with pytest.raises(StoppedError, match="is not where it was"):
            hand.press((100, 100), "right")
        assert hand.position() == (600, 600) and hand.held_buttons == ("left",)
        x.window(first.id).configure(x=0)
        x.display.sync()
        hand.press((100, 100), "right")
        x.window(second.id).configure(x=40)
        x.display.sync()
        hand.cancel()
        assert hand.position() == (100, 100) and down(x) == (0, [])
    finally:
        first.close()
        second.close()


def test_so_is_one_that_is_cancelled_and_the_corner_leaves_the_pointer_where_it_is(hand, x, session):
    pad = Pad(session.display, (400, 300))
    try:
        hand.footing = Footing({(100, 100): pad.id}, windows={pad.id: seen(pad, Rect(0, 0, 400, 300))})
        hand.press((100, 100))
        x.window(pad.id).configure(x=70, y=90)
        x.display.sync()
        hand.cancel()
        pad.wait(lambda noted: any(n.kind == "release" for n in noted))
        assert [n.at for n in pad.of("release")] == [(170, 190)] and down(x) == (0, [])
        hand.footing = Footing({(170, 190): pad.id}, windows={pad.id: seen(pad, Rect(70, 90, 400, 300))})
        hand.press((170, 190))
        warp(x, (0, 0))
        pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == 2)
        assert hand.position() == (0, 0) and hand.stopped
        warp(x, (640, 400))
        hand.rearm()
    finally:
        pad.close()


def test_a_drag_passes_over_nothing_that_was_not_there(session, hand, pad, x):
    """Also where whoever was dragged from has let go of the pointer: what lies on the way would get all of it."""
    whole = seen(pad, Rect(0, 0, WIDTH, HEIGHT))
    hand.footing = Footing({(100, 150): pad.id, (1100, 150): pad.id}, windows={pad.id: whole})
    came = []

    def meanwhile():
        pad.wait(lambda noted: any(n.kind == "press" for n in noted))
        pad._x.display.ungrab_pointer(X.CurrentTime)
        came.append(Pad(session.display, (900, 300)))

    thread = threading.Thread(target=meanwhile)
    thread.start()
    try:
        with pytest.raises(StoppedError, match="there is not window .* any more, but") as stopped:
            hand.drag([(100, 150), (1100, 150)], seconds=3.0)
        thread.join()
        assert stopped.value.code == "OBSERVATION_STALE" and down(x) == (0, [])
        assert not [n for n in came[0].of("press", "move") if n.at[0] > 200]
    finally:
        thread.join()
        for one in came:
            one.close()


@pytest.mark.parametrize("how", ["closed", "hidden"])
def test_a_button_whose_window_is_gone_is_released_and_moves_nothing_else(session, hand, x, how):
    below, gone = Pad(session.display), Pad(session.display)
    try:
        hand.footing = Footing({(200, 200): gone.id}, windows={gone.id: seen(gone, Rect(0, 0, WIDTH, HEIGHT))})
        hand.press((200, 200))
        gone.wait(lambda noted: any(n.kind == "press" for n in noted))
        if how == "closed":
            gone.close()
        else:
            x.window(gone.id).unmap()
            x.display.sync()
        below.clear()
        hand.footing = Footing({(600, 600): below.id}, windows={below.id: seen(below, Rect(0, 0, WIDTH, HEIGHT))})
        with pytest.raises(StoppedError, match="pressed is gone: everything was released") as stopped:
            hand.move((600, 600))
        assert stopped.value.code == "CANCELLED" and down(x) == (0, [])
        assert not below.of("press", "release", "move")
        hand.move((600, 600))
        below.wait(lambda noted: any(n.kind == "move" for n in noted))
    finally:
        below.close()
        if how == "hidden":
            gone.close()


def test_hands_of_two_displays_do_not_touch_each_other(session, pad):
    with DesktopSession(640, 480) as other:
        here, there = Hand(session.display), Hand(other.display)
        far = Pad(other.display, (640, 480))
        there.click((600, 470))
        here.click((1200, 700))
        there.type("b")
        far.wait(lambda noted: sum(n.kind == "key_up" for n in noted) == 1)
        pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == 1)
        assert [n.at for n in far.of("press")] == [(600, 470)]
        assert [n.at for n in pad.of("press")] == [(1200, 700)]
        assert not pad.of("key")
        here.close()
        there.close()
        far.close()


@pytest.mark.parametrize("how", ["release_all", "cancel", "let_go"])
def test_what_lies_below_a_window_that_is_gone_is_not_told_of_the_release(session, hand, x, how):
    """A terminal would paste."""
    below, above = Pad(session.display), Pad(session.display)
    try:
        hand.press((300, 300), "middle")
        above.wait(lambda noted: any(n.kind == "press" for n in noted))
        above.close()
        x.display.sync()
        let_go(session.display) if how == "let_go" else getattr(hand, how)()
        assert down(x) == (0, [])
        hand.click((301, 301), "left")
        kinds = [(n.kind, n.detail) for n in below.wait(lambda noted: any(n.kind == "release" for n in noted))]
        assert [k for k in kinds if k[0] in ("press", "release")] == [("press", 1), ("release", 1)]
    finally:
        below.close()
