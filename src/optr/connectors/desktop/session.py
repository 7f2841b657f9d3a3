"""A desktop that is there for us alone: an X server in memory, a bus, a window manager, accessibility, programs.

Everything runs below a folder of its own, which is home to the programs too, and ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from optr.connectors.desktop import guardian
from optr.connectors.desktop.manager_turn import ManagerTurn
from optr.connectors.desktop.x11 import X11, display_name
from optr.errors import DesktopError, UnknownNameError
from optr.secret_names import variable_names_secret
from optr.workers.spawn import Started, spawn

_PATIENCE_S = 20.0
_ASK_AGAIN_S = 0.05
_GUARDIAN = str(Path(guardian.__file__))
_ACCESSIBILITY = ("/usr/libexec/at-spi-bus-launcher", "/usr/lib/at-spi2-core/at-spi-bus-launcher")

_CALM = "[Settings]\ngtk-enable-animations=false\ngtk-cursor-blink=false\n"
"""A button that fades for 0.2 s after each click would be waited for."""


@dataclass(frozen=True)
class Program:
    """What may be started on a desktop by a name.

    Attributes:
        words: Program and arguments that it always has.
        arguments: Regular expression that each further argument fits as a whole; empty: there are none.
    """

    words: tuple[str, ...]
    arguments: str = ""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """All words.

        Raises:
            DesktopError: If an argument does not fit.
        """
        for argument in arguments:
            if not self.arguments or not re.fullmatch(self.arguments, argument):
                allowed = f"what fits {self.arguments!r}" if self.arguments else "no arguments"
                raise DesktopError(f"{self.words[0]} may not be started with {argument!r}; it takes {allowed}")
        return [*self.words, *arguments]


class DesktopSession:
    """Owns a desktop and all that runs on it; a context manager. Several live side by side.

    Attributes:
        display: Name of the X display, as `:1`.
        environment: What programs on it are run with.
        programs: What `start` may start, by name.
        home: Folder of the session, and home of its programs.

    Raises:
        DesktopError: If something that it needs is not installed, or does not come up; nothing is left running then.
    """

    _processes: list[Started]

    def __init__(
        self,
        width: int = 1280,
        height: int = 800,
        programs: Mapping[str, Program] | None = None,
        *,
        monitors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Bring a desktop up.

        Args:
            width: Of the screen [px].
            height: Of the screen [px].
            programs: What `start` may start.
            monitors: Widths of several monitors side by side [px]; they add up to `width`. Empty: one.
            environment: Added to what programs are run with.
        """
        if not (64 <= width <= 16384 and 64 <= height <= 16384):
            raise DesktopError(f"a screen of {width} x {height} pixels is not possible: 64 to 16384 each way")
        if monitors and sum(monitors) != width:
            raise DesktopError(f"monitors of {list(monitors)} pixels side by side do not make a screen of {width}")
        self.programs = dict(programs or {})
        self._begin()
        self.display = ""
        self.environment = self._base_environment(environment or {})
        try:
            self._bring_up(width, height, monitors)
        except BaseException:
            self.close()
            raise

    @classmethod
    def attach(cls, display: str | None = None, programs: Mapping[str, Program] | None = None) -> DesktopSession:
        """Use a desktop that is there; only what is started here ends with it.

        Args:
            display: Its name; None: that of the environment.
            programs: What `start` may start.

        Raises:
            DesktopError: If there is none, or it is Wayland's.
        """
        self = cls.__new__(cls)
        self.display = display_name(display)
        X11(self.display).close()
        self.programs = dict(programs or {})
        self._begin()
        own = {"DISPLAY": self.display, "TMPDIR": self._temporary(), guardian.VARIABLE: self._mark}
        self.environment = {**_harmless(os.environ), **own}
        return self

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Started:
        """Start a program on this desktop; it ends with the session.

        Args:
            command: Program and arguments; no shell.
            environment: Added to that of the session.

        Raises:
            DesktopError: If it is not installed or cannot be started.
        """
        if not command or not shutil.which(command[0]):
            raise DesktopError(f"no program {command[0] if command else ''!r} is installed")
        process = self._run(command, {**self.environment, **(environment or {})})
        self._processes = [p for p in self._processes if p.poll() is None] + [process]
        return process

    def start(self, program: str, arguments: Sequence[str] = ()) -> Started:
        """Start a program of `programs` by its name.

        Raises:
            UnknownNameError: If there is none of that name.
            DesktopError: If an argument is not allowed, or it cannot be started.
        """
        if program not in self.programs:
            raise UnknownNameError("program of this desktop", program, self.programs)
        return self.launch(self.programs[program].command(arguments))

    def running(self) -> tuple[Started, ...]:
        """Processes that were started here and have not ended."""
        return tuple(p for p in self._processes if p.poll() is None)

    def end(self, process: Started) -> None:
        """End a program that was started here, and what it started in its group; what it has said goes with it."""
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._log(process).unlink(missing_ok=True)
        self._processes = [p for p in self._processes if p is not process]

    def said(self, process: Started) -> str:
        """What a program has said so far."""
        return self._log(process).read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End everything that was started here, and take the folder away."""
        for process in reversed(self._processes):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._guardian.stdin is not None:
            self._guardian.stdin.close()
        for process in (*self._processes, self._guardian):
            process.wait()
        self._processes.clear()

    def __enter__(self) -> DesktopSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        """A folder, a mark for the processes, and who ends them all if we cannot."""
        self.home = Path(tempfile.mkdtemp(prefix="optr-desktop-"))
        self._mark = uuid.uuid4().hex
        self._processes = []
        words = [sys.executable, "-I", "-S", _GUARDIAN, str(os.getpid()), self._mark, str(self.home)]
        self._guardian = subprocess.Popen(words, stdin=subprocess.PIPE, cwd="/", start_new_session=True)

    def _temporary(self) -> str:
        """A folder for what programs leave behind."""
        folder = self.home / "tmp"
        folder.mkdir(mode=0o700)
        return str(folder)

    def _base_environment(self, added: Mapping[str, str]) -> dict[str, str]:
        """Ours without what looks like a key, without our own desktop, and with a home of its own."""
        ours = {
            k: v for k, v in _harmless(os.environ).items() if not k.startswith(("XDG_", "DBUS_", "WAYLAND_", "GTK_"))
        }
        runtime = self.home / "runtime"
        runtime.mkdir(mode=0o700)
        for name in (".config", ".cache", ".local/share"):  # some programs make no folder above theirs
            (self.home / name).mkdir(parents=True)
        for version in ("gtk-3.0", "gtk-4.0"):
            (self.home / ".config" / version).mkdir()
            (self.home / ".config" / version / "settings.ini").write_text(_CALM, encoding="utf-8")
        return {
            **ours,
            "HOME": str(self.home),
            "TMPDIR": self._temporary(),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "LANG": "C.UTF-8",
            "GTK_A11Y": "atspi",
            "QT_LINUX_ACCESSIBILITY_ALWAYS_ON": "1",
            "NO_AT_BRIDGE": "0",
            guardian.VARIABLE: self._mark,
            **added,
        }

    def _bring_up(self, width: int, height: int, monitors: Sequence[int]) -> None:
        self.display = self._start_x(width, height)
        self.environment["DISPLAY"] = self.display
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = self._start_bus()
        if launcher := next((p for p in _ACCESSIBILITY if Path(p).exists()), None):
            self.launch([launcher, "--launch-immediately"])
        self._start_window_manager()
        if len(monitors) > 1:
            self._split(monitors, height)

    def _start_x(self, width: int, height: int) -> str:
        read, write = os.pipe()
        try:
            size = f"{width}x{height}x24"
            words = ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp", "-noreset"]
            process = self._needed(words, (write,))
        finally:
            os.close(write)
        return f":{self._line(read, process, 'Xvfb')}"

    def _start_bus(self) -> str:
        read, write = os.pipe()
        try:
            process = self._needed(["dbus-daemon", "--session", "--nofork", f"--print-address={write}"], (write,))
        finally:
            os.close(write)
        return self._line(read, process, "dbus-daemon")

    def _start_window_manager(self) -> None:
        """Start it, and wait until it answers: what it is told of before, windows too, is lost."""
        process = self._needed(["openbox", "--sm-disable"])
        connection = X11(self.display)
        turn = ManagerTurn(self.display, connection.display)
        try:
            from Xlib import X

            connection.root.change_attributes(event_mask=X.PropertyChangeMask)
            deadline = time.monotonic() + _PATIENCE_S
            ready = connection.wait(
                lambda: bool(connection.numbers(connection.root, "_NET_SUPPORTING_WM_CHECK")),
                deadline,
                lambda: process.poll() is not None,
            )
            while ready and not turn.done(_ASK_AGAIN_S):
                ready = process.poll() is None and time.monotonic() < deadline
        finally:
            turn.close()
            connection.close()
        if not ready:
            raise DesktopError(
                f"openbox does not manage windows: {self.said(process).strip()[-300:] or 'it is silent'}"
            )

    def _split(self, monitors: Sequence[int], height: int) -> None:
        """Say that parts of the one screen are monitors."""
        left = 0
        for number, width in enumerate(monitors):
            output = "screen" if number == 0 else "none"
            place = f"{width}/{width}x{height}/{height}+{left}+0"
            words = ["xrandr", "--setmonitor", f"M{number}", place, output]
            done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DesktopError(f"xrandr does not make a monitor of {place}: {done.stderr.strip()}")
            left += width

    def _needed(self, words: Sequence[str], pass_fds: Sequence[int] = ()) -> Started:
        if not shutil.which(words[0]):
            raise DesktopError(
                f"a desktop of its own needs {words[0]}, which is not installed: apt install {_PACKAGES[words[0]]}"
            )
        process = self._run(words, self.environment, pass_fds)
        self._processes.append(process)
        return process

    def _run(self, words: Sequence[str], environment: Mapping[str, str], pass_fds: Sequence[int] = ()) -> Started:
        handle, log = tempfile.mkstemp(dir=self.home, prefix="log-")
        try:
            process = spawn(words, environment, str(self.home), pass_fds, handle)
        except (OSError, ValueError) as err:
            raise DesktopError(f"cannot start {words[0]}: {err}") from err
        finally:
            os.close(handle)
        Path(log).rename(self._log(process))
        return process

    def _last_words(self, process: Started) -> str:
        return self.said(process).strip()[-300:] or "it is silent"

    def _log(self, process: Started) -> Path:
        return self.home / f"log-{process.pid}"

    def _line(self, handle: int, process: Started, name: str) -> str:
        """The line that a program writes once it is up."""
        text = b""
        try:
            deadline = time.monotonic() + _PATIENCE_S
            while not text.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
                if not select.select([handle], [], [], left)[0] or not (piece := os.read(handle, 4096)):
                    break
                text += piece
        finally:
            os.close(handle)
        if not text.endswith(b"\n"):
            raise DesktopError(f"{name} does not come up: {self._last_words(process)}")
        return text.decode().strip()


_PACKAGES = {"Xvfb": "xvfb", "dbus-daemon": "dbus", "openbox": "openbox"}


def _harmless(environ: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environ.items() if not variable_names_secret(k)}
