"""Where there is no desktop to be seen, the command says why in one line, and ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from optr.connectors.desktop.x11 import display_name, open_display
from optr.errors import DesktopError

pytest.importorskip("Xlib.display", reason="python-xlib is not installed")

NOT_OURS = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE")
SILENT = 4711


def said(words, **environment):
    """What the command says; it says one line, and no more."""
    ours = {k: v for k, v in os.environ.items() if k not in NOT_OURS}
    command = [sys.executable, "-m", "optr.cli", "desktop", *words]
    done = subprocess.run(command, env={**ours, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr and len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def silent():
    """A socket at which somebody takes connections and never answers."""
    place = Path(f"/tmp/.X11-unix/X{SILENT}")
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place))
        door.listen()
        yield f":{SILENT}"
    place.unlink()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "there is no display: DISPLAY is not set"),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "this is a Wayland session"),
        ({"XDG_SESSION_TYPE": "wayland", "DISPLAY": ":0"}, "reach windows of XWayland alone"),
        ({"DISPLAY": ":4712"}, "no X server answers at ':4712'"),
        ({"DISPLAY": "nonsense"}, "no X server answers at 'nonsense'"),
    ],
)
def test_the_command_says_what_is_missing(environment, words):
    assert words in said(["look"], **environment)


def test_a_display_that_never_answers_is_given_up(silent, monkeypatch):
    monkeypatch.setattr("optr.connectors.desktop.x11._KNOCK_S", 0.1)
    with pytest.raises(DesktopError, match=f"no X server answers at '{silent}': timed out"):
        open_display(silent)


def test_a_display_that_is_named_is_taken_in_a_wayland_session_too():
    assert display_name(":7", {"WAYLAND_DISPLAY": "wayland-0"}) == ":7"


@pytest.mark.parametrize("missing", ["Xvfb", "dbus-daemon", "openbox"])
def test_a_program_that_is_not_installed_is_named_with_its_package(missing, tmp_path):
    for name in {"Xvfb", "dbus-daemon", "openbox"} - {missing}:
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    package = {"Xvfb": "xvfb", "dbus-daemon": "dbus", "openbox": "openbox"}[missing]
    line = said(["demo", "--json"], PATH=str(tmp_path))
    assert f"needs {missing}, which is not installed: apt install {package}" in line


def test_serving_others_without_a_token_says_by_what_option_one_is_named():
    assert "--token-env has to name the environment variable that holds a token" in said(["serve", "--host", "0.0.0.0"])
