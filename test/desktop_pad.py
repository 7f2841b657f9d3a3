"""A window of our own on a desktop: it notes every input as X tells it, and draws what it is told to."""

from __future__ import annotations

import select
import shutil
import threading
import time
from dataclasses import dataclass

import pytest

pytest.importorskip("Xlib.display", reason="python-xlib is not installed")
if not shutil.which("Xvfb") or not shutil.which("openbox"):
    pytest.skip("Xvfb or openbox is not installed", allow_module_level=True)

from Xlib import X
from Xlib.protocol import event as xevent

from optr.connectors.desktop.x11 import X11

PATIENCE_S = 20.0


def until(so):
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass(frozen=True)
class Noted:
    kind: str
    detail: int
    at: tuple[int, int]
    state: int
    stamp_ms: int


class Pad:
    """Owns a window and a thread. `draws`: after which time a press changes its colour [s]; None: never."""

    def __init__(self, display, size=(1280, 800), managed=False, title="pad", draws=None, blinks=False):
        self._x = X11(display)
        self.noted: list[Noted] = []
        self._news = threading.Condition()
        self._draws, self._blinks, self._size, self._colour = draws, blinks, size, 0x336699
        self._due: list[float] = []
        width, height = size
        events = X.ButtonPressMask | X.ButtonReleaseMask | X.KeyPressMask | X.KeyReleaseMask | X.PointerMotionMask
        self.window = self._x.root.create_window(
            *(0, 0, width, height, 0, X.CopyFromParent),
            override_redirect=not managed,
            background_pixel=self._colour,
            event_mask=events | X.StructureNotifyMask | X.ExposureMask,
        )
        self.window.set_wm_name(title)
        self.window.set_wm_class("pad", "Pad")
        self.window.map()
        self._x.display.sync()
        while not self._shown():
            pass
        if not managed:
            self.window.set_input_focus(X.RevertToParent, X.CurrentTime)
        self._x.display.sync()
        self._end = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def id(self):
        return self.window.id

    def _shown(self):
        return self._x.display.next_event().type == X.MapNotify

    def wait(self, so):
        """Wait until the notes fulfil a condition; they are handed out."""
        with self._news:
            assert self._news.wait_for(lambda: so(self.noted), PATIENCE_S), self.noted[-20:]
            return list(self.noted)

    def of(self, *kinds):
        return [n for n in list(self.noted) if n.kind in kinds]

    def clear(self):
        self.noted.clear()

    def _run(self):
        blink = time.monotonic()
        while not self._end:
            if not self._x.display.pending_events():
                select.select([self._x.display.fileno()], [], [], 0.02)
            while self._x.display.pending_events():
                self._note(self._x.display.next_event())
            now = time.monotonic()
            if self._due and now >= self._due[0]:
                self._due.pop(0)
                self._colour ^= 0xFFFFFF
                self._fill(self._colour, 60, 60, 40, 30)
            if self._blinks and now - blink > 0.1:
                blink = now
                self._colour ^= 0xFFFFFF
                self._fill(self._colour, 10, 10, 4, 12)

    def _fill(self, colour, *rect):
        context = self.window.create_gc(foreground=colour)
        self.window.fill_rectangle(context, *rect)
        context.free()
        self._x.display.flush()

    def _note(self, event):
        names = {
            xevent.ButtonPress: "press",
            xevent.ButtonRelease: "release",
            xevent.KeyPress: "key",
            xevent.KeyRelease: "key_up",
            xevent.MotionNotify: "move",
        }
        kind = names.get(type(event))
        if kind:
            with self._news:
                place = (event.root_x, event.root_y)
                self.noted.append(Noted(kind, event.detail, place, event.state, event.time))
                self._news.notify_all()
        if kind == "press" and self._draws is not None:
            self._due.append(time.monotonic() + self._draws)

    def close(self):
        self._end = True
        self._thread.join()
        self._x.close()
