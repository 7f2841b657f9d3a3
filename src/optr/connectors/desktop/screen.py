"""The pixels of a display, taken through memory that the X server shares, and its monitors."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.damage import DamageWatch
from optr.connectors.desktop.rects import around, overlap
from optr.connectors.desktop.seen import Monitor, Picture
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError


class Screen:
    """Owns what it takes to see one display. Any thread may call.

    Attributes:
        damage: What is drawn, and when.

    Raises:
        DesktopError: If the display cannot be reached or seen.
    """

    def __init__(self, display: str) -> None:
        self._x = X11(display)
        self._lock = threading.Lock()
        try:
            self._grabber = _grabber(display)
            self.damage = DamageWatch(display)
        except BaseException:
            self._x.close()
            raise
        width, height = self._grabber.monitors[0]["width"], self._grabber.monitors[0]["height"]
        self.rect = Rect(0, 0, width, height)

    def grab(self, rect: Rect | None = None) -> Picture:
        """Take a picture.

        Args:
            rect: Which part of the screen; what lies beside the screen is cut off. None: all of it.

        Raises:
            DesktopError: If nothing of it is on the screen, or the display is gone.
        """
        part, pixels, stamp_ns = self._taken(rect)
        rgb = _rgb(pixels)
        rgb.flags.writeable = False
        return Picture(rgb, part, stamp_ns)

    def grab_bgrx(self, rect: Rect | None = None) -> npt.NDArray[np.uint8]:
        """Take a picture as the X server has it: blue, green, red and a byte of nothing, shape (height, width, 4).

        A tenth of the time of `grab`.
        """
        return self._taken(rect)[1]

    def monitors(self) -> tuple[Monitor, ...]:
        """The monitors, from left to right; a screen that names none is one."""
        with self._x.lock:
            found = self._x.root.xrandr_get_monitors().monitors if self._x.display.has_extension("RANDR") else ()
            told = [
                Monitor(
                    self._x.display.get_atom_name(m.name),
                    Rect(m.x, m.y, m.width_in_pixels, m.height_in_pixels),
                    bool(m.primary),
                )
                for m in found
            ]
        told.sort(key=lambda m: (m.rect.x, m.rect.y))
        return tuple(told) or (Monitor("screen", self.rect, True),)

    def pointer(self) -> tuple[int, int]:
        """Where the pointer is [px]."""
        with self._x.lock:
            found = self._x.root.query_pointer()
        return int(found.root_x), int(found.root_y)

    def check_size(self) -> None:
        """See that the screen is as large as it was: the corners of the fail-safe do not move with it.

        Raises:
            DesktopError: If it is not.
        """
        with self._x.lock:
            now = self._x.root.get_geometry()
        if (now.width, now.height) != (self.rect.width, self.rect.height):
            was = f"{self.rect.width} x {self.rect.height}"
            raise DesktopError(f"the screen was {was} and is {now.width} x {now.height} now; open the bridge anew")

    def changed_since(self, stamp_ns: int, rect: Rect | None = None) -> Rect | None:
        """Around everything that was drawn after a time, in a part of the screen; None: nothing was."""
        inside = rect or self.rect
        return around([part for d in self.damage.drawn(stamp_ns) if (part := overlap(d.rect, inside))])

    def close(self) -> None:
        """Give everything back."""
        self.damage.close()
        with self._lock, suppress(Exception):  # the display may be gone
            self._grabber.close()
        with suppress(Exception):
            self._x.close()

    def _taken(self, rect: Rect | None) -> tuple[Rect, npt.NDArray[np.uint8], int]:
        part = overlap(rect, self.rect) if rect else self.rect
        if part is None:
            raise DesktopError(f"nothing of {rect} is on the screen, which is {self.rect.width} x {self.rect.height}")
        area = {"left": part.x, "top": part.y, "width": part.width, "height": part.height}
        try:
            with self._lock:
                stamp_ns = time.monotonic_ns()
                shot = self._grabber.grab(area)
        except Exception as err:  # mss and what is below it have many
            raise DesktopError(f"the screen {self._x.name} cannot be seen: {err}") from err
        return part, np.frombuffer(shot.raw, np.uint8).reshape(part.height, part.width, 4), stamp_ns


def _grabber(display: str) -> Any:
    try:
        import mss
    except ImportError as err:
        raise DesktopError(f"seeing a desktop needs mss, which cannot be imported ({err}): pip install mss") from err
    try:
        return mss.MSS(display=display)
    except Exception as err:
        raise DesktopError(f"the screen {display} cannot be seen: {err}") from err


def _rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Red, green and blue of what X has; OpenCV does it in a tenth of the time."""
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    try:
        import cv2
    except ImportError:
        for channel in range(3):
            rgb[..., channel] = pixels[..., 2 - channel]
        return rgb
    cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB, dst=rgb)
    return rgb
