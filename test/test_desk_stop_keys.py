"""A person stops a desktop by keys, whatever program has the keyboard to itself."""

from __future__ import annotations

import shutil

import pytest

from desktop_pad import until
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.hand import Hand
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.stop_keys import StopKeys
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError
from optr.sentinel.codes import GuardState
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

if not shutil.which("Xvfb"):
    pytest.skip("Xvfb is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def session():
    with DesktopSession(640, 480) as made:
        yield made


@pytest.fixture(scope="module")
def hand(session):
    made = Hand(session.display)
    yield made
    made.close()


def test_all_keys_of_the_chord_stop_and_fewer_do_not(session, hand):
    said = []
    keys = StopKeys(session.display, "ctrl+alt+escape", said.append)
    try:
        hand.hotkey(["ctrl", "escape"])
        hand.hotkey(["alt", "x"])
        hand.hotkey(["ctrl", "alt", "a"])
        assert not said
        hand.hotkey(["ctrlright", "altright", "escape"])
        until(lambda: said)
        assert said == ["ctrl+alt+escape was pressed"]
    finally:
        keys.close()


def test_they_are_heard_while_a_program_has_grabbed_the_keyboard(session, hand):
    from Xlib import X

    said = []
    keys, greedy = StopKeys(session.display, "ctrl+alt+q", said.append), X11(session.display)
    try:
        grabbed = greedy.root.grab_keyboard(False, X.GrabModeAsync, X.GrabModeAsync, X.CurrentTime)
        assert grabbed == X.GrabSuccess
        hand.hotkey(["ctrl", "alt", "q"])
        until(lambda: said)
    finally:
        greedy.close()
        keys.close()


def test_a_desk_hears_them(session, hand):
    with DesktopSession(640, 480) as own, Desk(own, DeskGuard(load_desk())) as desk:
        person = Hand(own.display)
        person.hotkey(["ctrl", "alt", "escape"])
        until(lambda: desk.guard.state is GuardState.STOPPED)
        assert desk.guard.reason.text == "ctrl+alt+escape was pressed"
        person.close()


def test_a_display_that_goes_away_is_told():
    with DesktopSession(320, 240) as gone:
        keys = StopKeys(gone.display, "ctrl+alt+q", print)
    until(lambda: keys.lost)
    assert "is gone" in keys.lost
    keys.close()
    with pytest.raises(DesktopError, match="no X server answers"):
        StopKeys(gone.display, "ctrl+alt+q", print)
