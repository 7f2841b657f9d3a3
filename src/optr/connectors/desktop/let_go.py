"""Releases what is pressed on a display, and does nothing else by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from optr.connectors.desktop.x11 import X11

Pixel = tuple[int, int]


def let_go(display: str) -> None:
    """Release every button and key that is down, at once: for when whoever pressed it is gone.

    Raises:
        DesktopError: If the display is gone, too.
    """
    from Xlib import X
    from Xlib.ext.xtest import fake_input

    x = X11(display)
    try:
        mask = int(x.root.query_pointer().mask)
        down = x.display.query_keymap()
        with shielded(x):
            for button in (n for n in range(1, 6) if mask >> (7 + n) & 1):
                fake_input(x.display, X.ButtonRelease, button)
            for code in (8 * place + bit for place, byte in enumerate(down) for bit in range(8) if byte >> bit & 1):
                fake_input(x.display, X.KeyRelease, code)
    finally:
        x.close()


@contextmanager
def shielded(x: X11, place: Callable[[Pixel], Pixel] = lambda at: at) -> Iterator[None]:
    """Have a button that is released meanwhile reach the window that it was pressed on, or none.

    A window that is closed or hidden while a button is down on it is not told of the release; what lies there by then
    would be, and a terminal pastes when the middle button is released. A window of ours lies over it meanwhile.

    Args:
        x: By which it is released.
        place: Where that shall be, given where the pointer is; asked while nothing else happens in the X server.
    """
    from Xlib import X
    from Xlib.ext.xtest import fake_input

    x.display.grab_server()
    try:
        found = x.root.query_pointer()
        at = int(found.root_x), int(found.root_y)
        to = place(at)
        shield = x.root.create_window(
            *(to[0] - 1, to[1] - 1, 3, 3, 0, X.CopyFromParent), window_class=X.InputOnly, override_redirect=True
        )
        shield.map()
        if to != at:
            fake_input(x.display, X.MotionNotify, x=to[0], y=to[1])
        yield
        shield.destroy()
    finally:
        x.display.ungrab_server()
        x.display.sync()
