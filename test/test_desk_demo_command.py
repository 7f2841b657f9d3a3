"""The whole demonstration: three tasks recorded, and replayed with windows moved and a slow page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from browser import find_browser
from optr.cli.desktop import desktop
from optr.desk_episodes.episode import DeskEpisode

NEEDED = ("Xvfb", "openbox", "galculator", "mousepad", "tesseract", "chromium")
if not all(map(shutil.which, NEEDED)) or not find_browser():
    pytest.skip(f"not all of {', '.join(NEEDED)} are installed", allow_module_level=True)


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
    again = CliRunner().invoke(desktop, ["demo", "--out", str(tmp_path / "out")], standalone_mode=False)
    assert "is not empty; name another folder" in str(again.exception)
