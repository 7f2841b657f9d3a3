"""The demonstration on a desktop: done when it is done, and not done when it is not."""

from __future__ import annotations

import shutil
import urllib.parse
import urllib.request

import pytest

from browser import find_browser
from optr.connectors.desktop import demo
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.guardian import marked
from optr.connectors.desktop.login_page import LoginPage
from optr.connectors.desktop.session import DesktopSession
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

NEEDED = ("Xvfb", "openbox", "galculator", "mousepad", "tesseract", "chromium")
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)) or not find_browser(), reason=f"not all of {', '.join(NEEDED)} are installed"
)


@needs_programs
def test_a_task_that_is_not_done_is_told_with_its_reason(monkeypatch):
    monkeypatch.setattr(demo, "LoginPage", lambda *_: LoginPage({demo.NAME: "another"}))
    monkeypatch.setattr(demo, "NOTE", "typed")
    monkeypatch.setattr(demo, "_text", lambda _: "something else")
    monkeypatch.setattr(demo, "_COMES_S", 8.0)
    with demo.demo_desk() as desk:
        mark = desk.session.environment["OPTR_DESKTOP"]
        runs = demo.run_demo(desk)
    assert [r.success for r in runs] == [False, True, False]
    assert runs[0].text == "the page says that [] signed in"
    assert runs[2].text == "note.txt holds 'something else'"
    assert not any(marked(mark))


def test_nothing_is_done_that_the_guard_does_not_allow():
    with Desk(DesktopSession(800, 600), DeskGuard(load_desk())) as desk:
        runs = demo.run_demo(desk)
        assert not [w for w in desk.bridge.windows.all() if w.visible]
    assert [(r.success, r.steps) for r in runs] == [(False, 0)] * 3
    assert all(r.text.startswith("launch: PROGRAM_FORBIDDEN") for r in runs)
    assert demo.summary(runs)["successes"] == 0


def post(page, **fields):
    with urllib.request.urlopen(f"{page.url}login", urllib.parse.urlencode(fields).encode(), timeout=10) as answer:
        return answer.read().decode()


def test_the_page_lets_in_who_has_the_password_and_nobody_else():
    with LoginPage({"ada": "x"}) as page:
        assert "Wrong" in post(page, username="ada", password="y")
        assert "Wrong" in post(page, username="", password="")
        assert "Wrong" in post(page, username="<b>", password="x")
        assert page.signed_in == []
        assert "Welcome, ada" in post(page, username="ada", password="x")
        assert (page.signed_in, page.refused) == (["ada"], ["ada", "", "<b>"])
