"""Sets a task up on a desktop: what was there is ended, and its files, pages and programs are brought.

A browser stays, without a window, as it takes seconds to come up; everything else is started anew.
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.devtools import DevTools
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.x11 import X11
from optr.desk_bench.checkers import DeskState, Dialog
from optr.desk_bench.site import Site
from optr.desk_bench.task import SeededTask
from optr.errors import DesktopError
from optr.sentinel.desk_rules import ProgramsRule

_PATIENCE_S = 20.0
_STILL_S, _STILL_AT_MOST_S = 0.05, 0.3
_LOOK_S = 0.02
"""How often it is looked for what no event tells [s]."""

_FOLDER = "work"
_TOOLS = ("cat", "cp", "grep", "head", "ls", "mkdir", "mv", "sort", "tail", "touch", "wc")
_SHELL = """PATH="$HOME/.tools"
PS1='$ '
unset HISTFILE
cd "$HOME/work"
"""
"""What the terminal's shell reads before it is restricted to it."""

_PLACES: Mapping[str, tuple[int, int, int, int]] = {
    "browser": (6, 26, 760, 700),
    "editor": (790, 30, 440, 330),
    "calculator": (850, 410, 0, 0),
    "files": (790, 30, 440, 330),
    "terminal": (700, 420, 0, 0),
    "dialog": (120, 220, 0, 0),
}
"""Where windows are put, before a seeded offset: x, y, width, height [px]; no size: that which the program wants."""

_OFFSET = 24
_CLASSES = {
    "browser": "chromium",
    "editor": "mousepad",
    "calculator": "galculator",
    "files": "pcmanfm",
    "terminal": "xterm",
    "dialog": "zenity",
}
_KEPT = ("browser", "runtime", "tmp", ".config", ".cache", ".local", ".pki")
_KEPT_TOO = ("log-", "gtk-", "org.chromium.", ".org.chromium.")
"""Beginnings of names: a Chromium whose files of passage are taken away ends, and can never be started again."""

_DIALOG = 'zenity "$@" >"$0" 2>/dev/null; echo $? >"$0.part" && mv "$0.part" "$0.code"'


class SetUp:
    """Brings tasks to one desktop.

    Attributes:
        work: Folder in which the files of a task lie.
    """

    def __init__(self, desk: Desk, site: Site) -> None:
        """Make what all tasks share, and start the browser.

        Raises:
            DesktopError: If the browser does not come up.
        """
        self._desk = desk
        self._site = site
        self._home = desk.session.home
        self.work = self._home / _FOLDER
        self._x = X11(desk.session.display)
        try:
            self._start_browser()
        except BaseException:
            self.close()
            raise
        self._kept = desk.session.running()

    def close(self) -> None:
        """Leave the display."""
        self._x.close()

    def clear(self) -> None:
        """End what there is: programs, windows, files, what is held, and a stop of the guard."""
        desk = self._desk
        desk.stop("the next task begins")
        size = desk.bridge.screen.rect
        with self._x.lock:
            self._x.root.warp_pointer(size.width // 2, size.height - 8)
            self._x.display.sync()
        desk.rearm()
        for process in desk.session.running():
            if process not in self._kept:
                desk.session.end(process)
        self._empty_browser()
        self._renew_files()
        self._site.begin()
        self._wait(lambda: not self._windows(), "the windows of the task before do not close")

    def run(self, task: SeededTask, state: DeskState) -> None:
        """Carry out the steps of a task's `config`.

        Raises:
            DesktopError: If one of them is none, or a program or page does not come up.
        """
        self._offsets = np.random.default_rng([zlib.crc32(task.task.id.encode()), task.seed, 1])
        opened: dict[int, str] = {}
        steps = list(enumerate(task.task.config))
        for number, step in sorted(steps, key=lambda s: s[1].get("type") == "page"):  # programs come up meanwhile
            kind = str(step.get("type"))
            if kind not in _STEPS:
                raise DesktopError(f"task {task.task.id!r}: no step of type {kind!r}; there are: {', '.join(_STEPS)}")
            given = task.fill(step.get("parameters", {}), work=str(self.work))
            opened[number] = _STEPS[kind](self, state, number, given)
        self._site.wait_ready()
        self._arrange([opened[number] for number in sorted(opened) if opened[number]])

    def _files(self, _: DeskState, __: int, files: Mapping[str, str]) -> str:
        """Files with their texts; a name with a / at its end is a folder."""
        for name, text in files.items():
            path = self.work / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return ""

    def _launch(self, _: DeskState, __: int, given: Mapping[str, Any]) -> str:
        """A program of the desk's settings."""
        program = self._desk.guard.config.rule(ProgramsRule).named(given["app"])
        if program is None:
            raise DesktopError(f"no program {given['app']!r} in the settings of this desk")
        self._desk.session.launch([*program.command, *given.get("arguments", ())])
        return str(given["app"])

    def _dialog(self, state: DeskState, number: int, given: Mapping[str, Any]) -> str:
        """A dialog, of which output and exit code are kept."""
        output = self._home / f"dialog-{number}"
        state.dialogs.append(Dialog(output, output.with_name(f"{output.name}.code")))
        self._desk.session.launch(["sh", "-c", _DIALOG, str(output), *map(str, given["arguments"])])
        return "dialog"

    def _page(self, _: DeskState, __: int, given: Mapping[str, Any]) -> str:
        """A page, in a window of its own or in a tab beside those before."""
        page, tab = given["page"], bool(given.get("tab"))
        url = self._site.add(page, given.get("data", {}), given.get("name", page))
        self._browser().open(url, not tab, None if tab else self._place("browser"))
        return "" if tab else "browser"

    def _arrange(self, apps: Sequence[str]) -> None:
        """Wait for the windows of programs, put them where they belong, and let them be drawn."""
        wanted = {app: apps.count(app) for app in apps}
        there = lambda: all(len(self._windows(app)) >= count for app, count in wanted.items())  # noqa: E731
        self._wait(there, f"not all of {', '.join(apps)} show their windows")
        for app in sorted({*apps} - {"browser"}):  # which was opened where it belongs
            for window in self._windows(app):
                self._move(window, self._place(app))
        if apps:
            self._desk.bridge.windows.focus(self._windows(apps[-1])[-1].id)
        self._wait(self._all_drawn, "not every window is drawn")
        self._desk.execute(a.Wait("still", timeout_s=_STILL_AT_MOST_S, still_s=_STILL_S))

    def _all_drawn(self) -> bool:
        """Whether every window shows more than one colour."""
        screen = self._desk.bridge.screen
        parts = (overlap(w.rect, screen.rect) for w in self._windows() if w.visible)
        pictures = (screen.grab(part).pixels for part in parts if part is not None)
        return all((pixels != pixels[0, 0]).any() for pixels in pictures)

    def _place(self, app: str) -> a.Rect:
        """Where a window belongs in this task."""
        x, y, width, height = _PLACES[app]
        across, down = (int(n) for n in self._offsets.integers(0, _OFFSET, 2))
        return a.Rect(x + across, y + down, width, height)

    def _move(self, window: Window, place: a.Rect) -> None:
        size = {"width": place.width, "height": place.height} if place.width else {}
        with self._x.lock:
            self._x.window(window.id).configure(x=place.x, y=place.y, **size)
            self._x.display.sync()

    def _windows(self, app: str = "") -> list[Window]:
        """Windows with a title, of an application or of any."""
        shown = [w for w in self._desk.bridge.windows.all() if w.title or any(w.wm_class)]
        return [w for w in shown if not app or _CLASSES[app] in [c.lower().split(" ")[0] for c in w.wm_class]]

    def _wait(self, so: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not so():
            if time.monotonic() < end:
                self._desk.bridge.windows.wait(so, _LOOK_S)
                continue
            titles = ", ".join(repr(w.title) for w in self._windows()) or "none"
            raise DesktopError(f"{otherwise} within {_PATIENCE_S:g} s; there are: {titles}")

    def _renew_files(self) -> None:
        """Take away everything in the home that a program may have written, but what the browser and the looks need."""
        folders = (self._home, self._home / ".config", self._home / ".local" / "share", self._home / "tmp")
        for folder in folders:
            for path in folder.iterdir():
                if path.name not in _KEPT and not path.name.startswith(_KEPT_TOO):
                    _remove(path)
        self.work.mkdir()
        tools = self._home / ".tools"
        tools.mkdir()
        for name in _TOOLS:
            if found := shutil.which(name):
                (tools / name).symlink_to(found)
        (self._home / ".shell").write_text(_SHELL, encoding="utf-8")

    def _start_browser(self) -> None:
        words = ["chromium", *self._desk.browsers.options(), "--no-startup-window", "--keep-alive-for-test"]
        process = self._desk.session.launch(words)
        end = time.monotonic() + _PATIENCE_S
        while not self._desk.browsers():
            if process.poll() is not None or time.monotonic() > end:
                raise DesktopError(f"chromium does not come up: {self._desk.session.said(process).strip()[-300:]}")
            time.sleep(0.05)

    def _empty_browser(self) -> None:
        """A browser without a page; another one if it has died."""
        for browser in self._desk.browsers():
            try:
                browser.close_pages()
                return
            except DesktopError:
                if not browser.gone:
                    raise
        self._start_browser()
        self._kept = self._desk.session.running()

    def _browser(self) -> DevTools:
        found = self._desk.browsers()
        if not found:
            raise DesktopError("the browser of the tasks is gone")
        return found[0]


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise DesktopError(f"a file of the task before cannot be taken away: {err}") from err


_STEPS: Mapping[str, Callable[[SetUp, DeskState, int, Any], str]] = {
    "files": SetUp._files,
    "launch": SetUp._launch,
    "dialog": SetUp._dialog,
    "page": SetUp._page,
}
