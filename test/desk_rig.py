"""A small desktop that is really there: Xvfb, a message bus of its own, openbox, and what is started on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.seen import Picture, Window
from optr.workers import launch

KEEPER = Path(launch.__file__)


def until(true: Callable[[], object], patience_s: float = 20.0, what: str = "it") -> object:
    """What a condition answers as soon as it holds."""
    end = time.monotonic() + patience_s
    while True:
        answer = true()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)


class Desk:
    """Use it in a `with` statement; ends everything that it started."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if k not in ("WAYLAND_DISPLAY", "AT_SPI_BUS_ADDRESS")}
        self.environment |= {"NO_AT_BRIDGE": "0", "GTK_A11Y": "atspi", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        self.environment |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "GDK_BACKEND": "x11"}
        self.environment |= {"XDG_CONFIG_HOME": str(folder / "config"), "GSETTINGS_BACKEND": "memory"}
        self._children: list[subprocess.Popen[bytes]] = []
        try:
            self._start(width, height)
        except BaseException:
            self.close()
            raise

    def _start(self, width: int, height: int) -> None:
        screen = f"{width}x{height}x24"
        number = self._told(["Xvfb", "-displayfd", "{}", "-screen", "0", screen, "-nolisten", "tcp", "-noreset"])
        self.display = self.environment["DISPLAY"] = f":{number}"
        self.bus = self._told(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address={}"])
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = self.bus
        from Xlib.display import Display

        self._x = Display(self.display)
        self.launch(["openbox"])
        root = self._x.screen().root
        check = self._x.intern_atom("_NET_SUPPORTING_WM_CHECK")
        until(lambda: root.get_full_property(check, 0), what="openbox")

    def _told(self, words: list[str]) -> str:
        """Start a program that tells one line through a pipe whose number stands for `{}`."""
        reader, writer = os.pipe()
        self.launch([w.format(writer) for w in words], keep=(writer,))
        os.close(writer)
        with open(reader) as pipe:
            line = pipe.readline().strip()
        assert line, f"{words[0]} does not come up"
        return line

    def launch(self, words: list[str], keep: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start a program on this desktop; it ends with us."""
        command = [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), *words]
        silent = subprocess.DEVNULL
        child = subprocess.Popen(
            command, env=self.environment, stdin=silent, stdout=silent, stderr=silent, pass_fds=keep,
            start_new_session=True,
        )  # fmt: skip
        self._children.append(child)
        return child

    def windows(self) -> tuple[Window, ...]:
        """Those of programs, the lowest first; open menus, which nobody manages, are over all."""
        root = self._x.screen().root
        listed = root.get_full_property(self._x.intern_atom("_NET_CLIENT_LIST_STACKING"), 0)
        active = root.get_full_property(self._x.intern_atom("_NET_ACTIVE_WINDOW"), 0)
        found = []
        popups = [child.id for child in root.query_tree().children if self._pops_up(child)]
        for layer, number in enumerate([*(listed.value if listed else ()), *popups]):
            with suppress(Exception):
                found.append(self._window(int(number), layer, bool(active and active.value[0] == number)))
        return tuple(found)

    def _pops_up(self, window) -> bool:
        from Xlib import X

        with suppress(Exception):  # it is gone
            seen = window.get_attributes()
            return bool(seen.override_redirect and seen.map_state == X.IsViewable and window.get_wm_class())
        return False

    def _window(self, number: int, layer: int, focused: bool) -> Window:
        from Xlib import X

        window = self._x.create_resource_object("window", number)
        root = self._x.screen().root
        size, place = window.get_geometry(), window.translate_coords(root, 0, 0)
        rect = Rect(-place.x, -place.y, size.width, size.height)
        frame = window.get_full_property(self._x.intern_atom("_NET_FRAME_EXTENTS"), 0)
        left, right, top, bottom = frame.value if frame else (0, 0, 0, 0)
        outer = Rect(rect.x - left, rect.y - top, rect.width + left + right, rect.height + top + bottom)
        title = window.get_full_text_property(self._x.intern_atom("_NET_WM_NAME")) or window.get_wm_name() or ""
        pid = window.get_full_property(self._x.intern_atom("_NET_WM_PID"), 0)
        instance, name = window.get_wm_class() or ("", "")
        visible = window.get_attributes().map_state == X.IsViewable
        return Window(
            number, title, (name, instance), int(pid.value[0]) if pid else 0, rect, outer, focused, layer, visible
        )

    def window(self, title: str) -> Window:
        """The one whose title or class holds a text, as soon as it is there."""

        def found() -> Window | None:
            text = title.lower()
            return next((w for w in self.windows() if w.visible and text in f"{w.title} {w.wm_class}".lower()), None)

        answer = until(found, 30, f"a window {title!r}")
        assert isinstance(answer, Window)
        return answer

    def place(self, number: int, x: int, y: int, width: int = 0, height: int = 0) -> None:
        """Move a window, size it if a size is given, and wait until it is there."""
        size = {"width": width, "height": height} if width else {}
        self._x.create_resource_object("window", number).configure(x=x, y=y, **size)
        self._x.flush()

        def there() -> bool:
            seen = next(w for w in self.windows() if w.id == number)
            sized = not width or (seen.rect.width, seen.rect.height) == (width, height)
            return (seen.outer.x, seen.outer.y) == (x, y) and sized

        try:
            until(there, 5, "the window at its place")
        except AssertionError as err:
            raise AssertionError(f"{(x, y, width, height)}: {self.windows()}") from err

    def lift(self, number: int) -> None:
        """Bring a window to the front."""
        from Xlib import X

        self._x.create_resource_object("window", number).configure(stack_mode=X.Above)
        self._x.flush()
        until(lambda: self.windows()[-1].id == number, what="the window in front")

    def grab(self, rect: Rect | None = None) -> Picture:
        """What is on the screen, or a part of it."""
        import mss
        import numpy as np

        with mss.MSS(display=self.display) as camera:
            whole = camera.monitors[0]
            rect = rect or Rect(0, 0, whole["width"], whole["height"])
            shot = camera.grab({"left": rect.x, "top": rect.y, "width": rect.width, "height": rect.height})
            pixels = np.frombuffer(shot.rgb, np.uint8).reshape(shot.height, shot.width, 3)
        return Picture(pixels, rect, time.monotonic_ns())

    def click(self, x: int, y: int) -> None:
        """Press and release the left button at a pixel, by real input events."""
        from Xlib import X
        from Xlib.ext import xtest

        xtest.fake_input(self._x, X.MotionNotify, x=x, y=y)
        self._x.sync()
        time.sleep(0.02)  # a button that comes with the motion is lost by some programs
        xtest.fake_input(self._x, X.ButtonPress, 1)
        self._x.sync()
        time.sleep(0.02)
        xtest.fake_input(self._x, X.ButtonRelease, 1)
        self._x.sync()

    def press(self, *names: str) -> None:
        """Press keys one after the other and release them, by the names of X."""
        from Xlib import XK, X
        from Xlib.ext import xtest

        codes = [self._x.keysym_to_keycode(XK.string_to_keysym(n)) for n in names]
        for kind, code in [(X.KeyPress, c) for c in codes] + [(X.KeyRelease, c) for c in reversed(codes)]:
            xtest.fake_input(self._x, kind, code)
            self._x.sync()
            time.sleep(0.02)

    def end(self, pid: int) -> None:
        """End one of the programs, and wait until its windows are gone."""
        child = next(c for c in self._children if c.pid == pid)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        until(lambda: all(w.pid != pid for w in self.windows()))

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "_x"):
            with suppress(Exception):
                self._x.close()
        for child in reversed(self._children):
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
