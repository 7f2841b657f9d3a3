"""Texts go from and to other programs, long ones too."""

from __future__ import annotations

import subprocess

import pytest

from desktop_pad import until
from optr.connectors.desktop.clipboard import Clipboard
from optr.connectors.desktop.session import DesktopSession
from optr.errors import DesktopError

TEXTS = ["plain", "äß Ω 日本 😀\nsecond\tline\n", "", "long ä" * 100_000]


@pytest.fixture(scope="module")
def session():
    with DesktopSession(640, 480) as made:
        yield made


@pytest.fixture
def clipboard(session):
    made = Clipboard(session.display)
    yield made
    made.close()


def xclip(session, *words, **options):
    return subprocess.run(["xclip", *words], env=session.environment, check=True, timeout=20, **options)


@pytest.mark.parametrize("selection", ["CLIPBOARD", "PRIMARY"])
@pytest.mark.parametrize("text", TEXTS[:2] + TEXTS[3:])
def test_what_another_program_has_is_read(session, clipboard, selection, text):
    xclip(session, "-selection", selection.lower(), input=text.encode(), stdout=subprocess.DEVNULL)
    until(lambda: clipboard.read(selection) == text)  # it goes into the background before it has it


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_written_another_program_gets(session, clipboard, text):
    clipboard.write(text)
    got = xclip(session, "-selection", "clipboard", "-o", stdout=subprocess.PIPE).stdout
    assert got.decode() == text
    assert clipboard.read() == text


def test_who_writes_last_has_it(session, clipboard):
    clipboard.write("ours")
    clipboard.write("marked", "PRIMARY")
    xclip(session, "-selection", "clipboard", input=b"theirs", stdout=subprocess.DEVNULL)
    until(lambda: clipboard.read() == "theirs")
    assert clipboard.read("PRIMARY") == "marked"
    clipboard.write("ours again")
    assert clipboard.read() == "ours again"


def test_nothing_is_there_after_its_owner_has_gone(session):
    first = Clipboard(session.display)
    first.write("gone soon")
    first.close()
    second = Clipboard(session.display)
    until(lambda: second.read() == "")
    with pytest.raises(DesktopError, match="no selection 'SECONDARY'; there are: CLIPBOARD, PRIMARY"):
        second.read("SECONDARY")
    second.close()
