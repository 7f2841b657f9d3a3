"""Chromiums of a desktop: how one is started so that it can be asked what CSS means, and who answers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from optr.connectors.desktop.seen import Window
from optr.errors import DesktopError

if TYPE_CHECKING:
    from optr.connectors.desktop.devtools import DevTools

_NAMES = ("chromium", "chrome")
_OPTIONS = (
    "--remote-debugging-port=0",
    "--force-renderer-accessibility",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--disable-gpu",
    "--disable-dev-shm-usage",
)
_OPTION = re.compile(r"--(remote-debugging-port|user-data-dir)=(.*?)(?=\0| --| \S+://|$)")
"""Chromium writes all its words into one, with blanks between."""

_OFFERS_NOTHING = {
    "autofill": {"profile_enabled": False, "credit_card_enabled": False},
    "credentials_enable_service": False,
    "profile": {"password_manager_enabled": False, "password_manager_leak_detection": False},
    "signin": {"allowed": False, "allowed_on_next_startup": False},
}
"""A list of names that once were typed, or a question whether to save a password, would lie over the page; an offer to
sign in to Chromium has the words of many pages."""


def is_browser(program: str) -> bool:
    """Whether a program is a Chromium."""
    return any(name in Path(program).name.lower() for name in _NAMES)


class Browsers:
    """The Chromiums of a desktop that can be asked; called, it tells those that answer now.

    Those are the one that is started here, and others that show windows there and were started with
    `--remote-debugging-port`.
    """

    def __init__(self, home: Path, windows: Callable[[], Sequence[Window]]) -> None:
        """Nothing is started here.

        Args:
            home: Folder in which the profile of one that is started here is made.
            windows: Tells the windows of the desktop.
        """
        self._profile = home / "browser"
        self._windows = windows
        self._open: dict[int | Path, DevTools] = {}

    def options(self) -> list[str]:
        """What a Chromium is to be started with; makes its profile."""
        settings = self._profile / "Default" / "Preferences"
        if not settings.exists():
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps(_OFFERS_NOTHING), encoding="utf-8")
        unboxed = ["--no-sandbox", "--test-type"] if os.geteuid() == 0 else []  # it refuses to start otherwise
        return [*_OPTIONS, *unboxed, f"--user-data-dir={self._profile}"]

    def __call__(self) -> tuple[DevTools, ...]:
        """Those that answer."""
        from optr.connectors.desktop.devtools import DevTools

        for place, browser in list(self._open.items()):
            if browser.gone or not Path(f"/proc/{browser.pid}").exists():
                browser.close()
                del self._open[place]
        for place in self._places() - set(self._open):
            with suppress(DesktopError):  # not yet, or not any more
                self._open[place] = DevTools(place, self._windows)
        return tuple(self._open.values())

    def close(self) -> None:
        """End the connections; each Chromium stays."""
        for browser in self._open.values():
            browser.close()
        self._open.clear()

    def _places(self) -> set[int | Path]:
        """Where those that have windows can be asked, and the one that was started here."""
        pids = {w.pid for w in self._windows() if w.pid and any(map(is_browser, w.wm_class))}
        places = {self._profile, *map(_place, pids)}
        return {p for p in places if isinstance(p, int) or (p is not None and _tells_port(p))}


def _place(pid: int) -> int | Path | None:
    """Where a Chromium can be asked: its port, or its profile, which tells it; None: nowhere."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    given = dict(_OPTION.findall(line))
    port, profile = given.get("remote-debugging-port", ""), given.get("user-data-dir", "")
    if port.isdecimal() and int(port):
        return int(port)
    return Path(profile) if port and profile else None


def _tells_port(profile: Path) -> bool:
    file = profile / "DevToolsActivePort"
    return file.is_file() and len(file.read_text(encoding="utf-8").split()) == 2
