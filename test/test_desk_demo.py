"""The demonstration on a desktop: done when it is done, and not done when it is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from browser import find_browser
from optr.connectors.desktop import demo
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.guardian import marked
from optr.connectors.desktop.login_page import LoginPage
from optr.connectors.desktop.session import DesktopSession
from optr.desk_episodes.episode import DeskEpisode
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import DeskGuard

NEEDED = ("Xvfb", "openbox", "galculator", "mousepad", "tesseract", "chromium")
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)) or not find_browser(), reason=f"not all of {', '.join(NEEDED)} are installed"
)


@needs_programs
def test_the_command_does_three_tasks_twice_and_says_so_in_its_last_line(tmp_path):
    command = [sys.executable, "-m", "optr.cli", "desktop", "demo", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recorded: 3 of 3 tasks done" in done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["tasks"], told["successes"], told["replayed"]) == (3, 3, 3)
    assert [r["answer"] for r in told["rows"]] == [r["answer"] for r in told["replays"]] == ["", "42", ""]
    assert all(r["steps"] >= 6 for r in (*told["rows"], *told["replays"]))
    assert Path(told["video"]).stat().st_size > 10_000
    bags = [DeskEpisode(tmp_path / "out" / name) for name in ("add-15-and-27", "add-15-and-27-replayed")]
    places = [{p for s in bag.steps for p in s.pixels} for bag in bags]
    assert all(places) and not places[0] & places[1], "it was replayed where it had been recorded"
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 1, "it is not empty"


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
