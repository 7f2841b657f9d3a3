"""Chromium on a desktop of tests, on pages of files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from browser import find_browser
from desk_rig import Desk, until
from optr.connectors.desktop.devtools import DevTools
from optr.connectors.desktop.seen import Window

PLACE = ("--window-size=800,600", "--window-position=100,60")  # the last of several counts


def open_page(desk: Desk, page: str, options: Sequence[str] = ()) -> tuple[DevTools, Window]:
    """Start a new Chromium on a page; its name is of a file in the folder of the desk."""
    profile = Path(tempfile.mkdtemp(prefix="profile-", dir=desk.folder))  # one that was killed tells what it was once
    desk.launch([
        find_browser(), "--no-sandbox", "--test-type", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", *PLACE, *options,
        f"file://{desk.folder}/{page}",
    ])  # fmt: skip
    until(lambda: answers(profile), 40, "Chromium")
    browser = DevTools(profile, desk.windows)
    until(lambda: browser.evaluate("document.readyState") == "complete", what="the page")
    until(lambda: any(w.pid == browser.pid for w in desk.windows()), what="its window")
    return browser, next(w for w in desk.windows() if w.pid == browser.pid)


def profile_of(browser: DevTools) -> Path:
    """The folder of the profile of a Chromium that `open_page` has started."""
    words = Path(f"/proc/{browser.pid}/cmdline").read_text()
    return Path(re.findall(r"--user-data-dir=([^\0 ]+)", words)[0])


def answers(profile: Path) -> bool:
    """Whether the file that tells its port is there, and whole."""
    file = profile / "DevToolsActivePort"
    return file.is_file() and len(file.read_text().split()) == 2
