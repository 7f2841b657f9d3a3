"""The pointer's picture, which no screenshot of X has in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.x11 import X11


def with_cursor(pixels: npt.NDArray[np.uint8], x11: X11) -> npt.NDArray[np.uint8]:
    """A picture of the whole screen with the pointer drawn into it.

    Args:
        pixels: RGB, uint8, shape (height, width, 3).
        x11: A connection to its display.
    """
    from Xlib.ext import xfixes

    with x11.lock:
        if not x11.display.has_extension("XFIXES"):
            return np.array(pixels)
        xfixes.query_version(x11.display)
        seen = xfixes.get_cursor_image(x11.display, x11.root)
    argb = np.array(seen.cursor_image, dtype=np.uint32).reshape(seen.height, seen.width)
    out: npt.NDArray[np.uint8] = np.array(pixels)
    left, top = seen.x - seen.xhot, seen.y - seen.yhot
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + seen.width, out.shape[1]), min(top + seen.height, out.shape[0])
    if x0 >= x1 or y0 >= y1:
        return out
    part = argb[y0 - top : y1 - top, x0 - left : x1 - left]
    red_green_blue = np.stack([part >> shift & 0xFF for shift in (16, 8, 0)], axis=-1)  # multiplied by alpha already
    clear = 255 - (part >> 24)[..., None]
    under = out[y0:y1, x0:x1].astype(np.uint32)
    out[y0:y1, x0:x1] = np.minimum(red_green_blue + under * clear // 255, 255)
    return out
