"""Where the screen is drawn on, told by the X server a tenth of a millisecond later."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError

_KEPT = 4096


@dataclass(frozen=True)
class Drawn:
    """Something was drawn: when it was heard of [ns of the steady clock], and where on the screen."""

    stamp_ns: int
    rect: Rect


class DamageWatch:
    """Owns a connection and a thread that listen to what is drawn on a display.

    Drawn is not changed: many programs draw again what was there.

    Attributes:
        since_ns: From when on everything is known [ns of the steady clock].
        lost: Why nothing is heard any more; empty: it is.

    Raises:
        DesktopError: If the display cannot be reached, or does not tell of damage.
    """

    def __init__(self, display: str) -> None:
        self._x = X11(display)
        if not self._x.display.has_extension("DAMAGE"):
            self._x.close()
            raise DesktopError(f"the X server of {display} has no DAMAGE extension, so nobody tells what is drawn")
        from Xlib.ext import damage

        self._x.display.damage_query_version()
        self._damage = self._x.root.damage_create(damage.DamageReportDeltaRectangles)
        self._x.display.sync()
        self.since_ns = time.monotonic_ns()
        self.lost = ""
        self._drawn: deque[Drawn] = deque(maxlen=_KEPT)
        self._news = threading.Condition()
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._listen, name=f"optr-damage{display}", daemon=True)
        self._thread.start()

    def drawn(self, since_ns: int) -> tuple[Drawn, ...]:
        """What was drawn after a time, oldest first; only the newest few thousand are kept."""
        with self._news:
            return tuple(d for d in self._drawn if d.stamp_ns > since_ns)

    def wait(self, so: Callable[[tuple[Drawn, ...]], bool], since_ns: int, timeout_s: float) -> bool:
        """Wait until what was drawn after a time fulfils a condition; asked for whenever something was drawn.

        Returns:
            Whether it did in time.

        Raises:
            DesktopError: If the display is gone.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while not so(tuple(d for d in self._drawn if d.stamp_ns > since_ns)):
                if self.lost:
                    raise DesktopError(self.lost)
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(left)
        return True

    def wake(self) -> None:
        """Have those who wait ask their condition again."""
        with self._news:
            self._news.notify_all()

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            os.write(self._end_write, b"x")
            self._thread.join()
        if self._end_write >= 0:
            os.close(self._end_read)
            os.close(self._end_write)
            self._end_read = self._end_write = -1
        with suppress(Exception):  # the display may be gone
            self._x.close()

    def _listen(self) -> None:
        try:
            while self._heard():
                pass
        except Exception as err:  # whatever python-xlib raises when the server is gone
            self.lost = f"the display {self._x.name} is gone: {err}"
            self.wake()

    def _heard(self) -> bool:
        """Take in what has come, or wait for it; False: it is over."""
        if not self._x.display.pending_events():
            ready, _, _ = select.select([self._x.display.fileno(), self._end_read], [], [])
            if self._end_read in ready:
                return False
        news = []
        while self._x.display.pending_events():
            event = self._x.display.next_event()
            if area := getattr(event, "area", None):
                news.append(Rect(area.x, area.y, area.width, area.height))
        if news:
            # Only then is the same place told of again; before it was read, so nothing is missed.
            self._x.display.damage_subtract(self._damage)
            self._x.display.flush()
            stamp = time.monotonic_ns()
            with self._news:
                self._drawn.extend(Drawn(stamp, rect) for rect in news)
                self._news.notify_all()
        return True
