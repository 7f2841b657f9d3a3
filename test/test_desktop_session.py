"""A desktop of its own comes up whole, beside others, and leaves nothing; and what is told where there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from Xlib import X

from browser import find_browser
from desktop_pad import PATIENCE_S, Pad, until
from optr.connectors.desktop.actions import Selector, Type, Wait
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.guardian import marked
from optr.connectors.desktop.session import DesktopSession, Program
from optr.connectors.desktop.windows import Windows
from optr.connectors.desktop.x11 import X11, display_name
from optr.errors import DesktopError, UnknownNameError
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard


def test_two_live_side_by_side_and_leave_nothing():
    with DesktopSession(640, 480) as one, DesktopSession(800, 600) as other:
        assert one.display != other.display
        for session, size in ((one, (640, 480)), (other, (800, 600))):
            x = X11(session.display)
            screen = x.display.screen()
            assert (screen.width_in_pixels, screen.height_in_pixels) == size
            assert x.numbers(x.root, "_NET_SUPPORTING_WM_CHECK")
            until(lambda x=x: x.words(x.root, "AT_SPI_BUS"))
            x.close()
        one.launch(["xterm"])
        windows = Windows(one.display)
        assert windows.wait(lambda: len(windows.all()) == 1, PATIENCE_S)
        windows.close()
        marks = [s.environment["OPTR_DESKTOP"] for s in (one, other)]
        assert all(len(marked(m)) >= 3 for m in marks)
        homes = [one.home, other.home]
    assert not any(marked(m) for m in marks)
    assert not any(h.exists() for h in homes)


def test_a_program_that_leaves_its_group_ends_too():
    with DesktopSession(640, 480) as session:
        session.launch(["setsid", "--fork", "sleep", "1000"])
        mark = session.environment["OPTR_DESKTOP"]
        until(lambda: any(b"sleep" in _command(p) for p in marked(mark)))
    assert not marked(mark)


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_it_ends_with_whoever_is_killed():
    code = """
import sys, time
from optr.connectors.desktop.session import DesktopSession
s = DesktopSession(640, 480)
s.launch(["xterm"])
print(s.environment["OPTR_DESKTOP"], s.home, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        mark, home = process.stdout.readline().split()
        assert marked(mark)
        process.send_signal(signal.SIGKILL)
    until(lambda: not marked(mark))
    until(lambda: not os.path.exists(home))


def test_its_programs_get_no_keys_of_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_API_KEY", "very secret")
    monkeypatch.setenv("OPTR_TEST_PLAIN", "plain")
    with DesktopSession(640, 480) as session:
        process = session.launch(["env"])
        process.wait()
        said = session.said(process)
    assert "very secret" not in said
    assert "OPTR_TEST_PLAIN=plain" in said
    assert f"DISPLAY={session.display}" in said
    assert f"HOME={session.home}" in said


def test_programs_are_started_by_their_name_with_what_is_allowed():
    programs = {"say": Program(("echo", "hello"), "[a-z]+"), "quiet": Program(("true",))}
    with DesktopSession(640, 480, programs) as session:
        said = session.start("say", ["you"])
        said.wait()
        assert session.said(said) == "hello you\n"
        with pytest.raises(DesktopError, match=r"echo may not be started with '; rm'; it takes what fits '\[a-z\]\+'"):
            session.start("say", ["; rm"])
        with pytest.raises(DesktopError, match="true may not be started with 'x'; it takes no arguments"):
            session.start("quiet", ["x"])
        with pytest.raises(UnknownNameError, match="no program of this desktop named 'rm'; there are: quiet, say"):
            session.start("rm")
        with pytest.raises(DesktopError, match="no program 'no-such-program' is installed"):
            session.launch(["no-such-program"])


def test_a_program_is_ended_with_what_it_started_and_no_other():
    with DesktopSession(640, 480) as session:
        before = session.running()
        kept = session.launch(["sleep", "60"])
        gone = session.launch(["sh", "-c", "sleep 60 & echo $!; wait"])
        assert set(session.running()) == {*before, kept, gone}
        while not (child := session.said(gone).strip()):
            assert gone.poll() is None
        session.end(gone)
        assert set(session.running()) == {*before, kept}
        session.end(gone)  # it is over already
        assert not list(session.home.glob(f"log-{gone.pid}"))
        assert kept.poll() is None
        for _ in range(1000):
            if not _runs(child):
                break
            time.sleep(0.01)
        assert not _runs(child)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_another_may_use_it_and_ends_only_what_is_its_own():
    with DesktopSession(640, 480) as session:
        guest = DesktopSession.attach(session.display)
        started = guest.launch(["xterm"])
        windows = Windows(guest.display)
        assert windows.wait(lambda: len(windows.all()) == 1, PATIENCE_S)
        guest.close()
        assert started.poll() is not None
        assert windows.wait(lambda: not windows.all(), PATIENCE_S)
        windows.close()


def test_monitors_stand_side_by_side():
    from optr.connectors.desktop.screen import Screen

    with DesktopSession(1000, 500, monitors=(600, 400)) as session:
        screen = Screen(session.display)
        found = [(m.name, m.rect.x, m.rect.width) for m in screen.monitors()]
        screen.close()
    assert found == [("M0", 0, 600), ("M1", 600, 400)]


@pytest.mark.parametrize(
    ("environ", "match"),
    [
        ({}, "there is no display: DISPLAY is not set"),
        ({"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, "this is a Wayland session"),
        ({"XDG_SESSION_TYPE": "wayland"}, "this is a Wayland session"),
    ],
)
def test_where_there_is_no_display_it_is_said(environ, match):
    with pytest.raises(DesktopError, match=match):
        display_name(None, environ)


def test_a_display_that_nobody_answers_at():
    with pytest.raises(DesktopError, match="no X server answers at ':4711'"):
        DesktopSession.attach(":4711")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"width": 10}, "a screen of 10 x 800 pixels is not possible"),
        ({"width": 1000, "monitors": (600, 300)}, r"monitors of \[600, 300\] pixels side by side do not make"),
    ],
)
def test_screens_that_cannot_be(arguments, match):
    with pytest.raises(DesktopError, match=match):
        DesktopSession(**arguments)


def test_what_is_not_installed_is_named_and_nothing_is_left(monkeypatch, tmp_path):
    os.symlink("/usr/bin/Xvfb", tmp_path / "Xvfb")
    os.symlink(sys.executable, tmp_path / "python")
    before = set(os.listdir("/tmp"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DesktopError, match="needs dbus-daemon, which is not installed: apt install dbus"):
        DesktopSession(640, 480)
    assert not [n for n in set(os.listdir("/tmp")) - before if n.startswith("optr-desktop-")]


def test_what_programs_leave_behind_goes_with_the_session():
    with DesktopSession(320, 240) as session:
        process = session.launch(["mktemp"])
        until(lambda: process.poll() is not None)
        left = Path(session.said(process).strip())
        assert left.is_file() and session.home in left.parents
    assert not left.exists()


def test_keys_that_go_to_the_background_go_to_no_window():
    with DesktopSession(320, 240) as session:
        x, windows = X11(session.display), Windows(session.display)
        x.root.set_input_focus(X.RevertToNone, X.CurrentTime)
        x.display.sync()
        assert windows.focused() is None
        x.close()
        windows.close()


@pytest.mark.parametrize("port", ["0", "free"])
def test_a_chromium_that_somebody_else_has_started_is_asked(port, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<title>theirs</title><input id=name>")
    if port == "free":
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
    words = ["--no-sandbox", "--test-type", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path}/profile"]
    with DesktopSession(800, 600) as theirs:
        theirs.launch([find_browser(), *words, f"--remote-debugging-port={port}", f"file://{page}"])
        with Desk(DesktopSession.attach(theirs.display), DeskGuard(load_desk())) as desk:
            named = Selector("#name")
            assert desk.execute(Wait("element", named.text, 60.0)).executed
            result = desk.execute(Type("ada", named))
            assert result.executed, result
            (browser,) = desk.browsers()
            assert browser.evaluate("document.querySelector('#name').value") == "ada"


def test_a_window_that_comes_at_once_is_shown():
    """What a window manager is told of before it listens is lost."""
    for _ in range(3):
        with DesktopSession(300, 200) as made:
            Pad(made.display, (100, 100), managed=True).close()
