"""Releases what is pressed on a display: for when whoever pressed it is gone."""

from __future__ import annotations

from optr.connectors.desktop.x11 import X11


def let_go(display: str) -> None:
    """Release every button and key that is down, at once.

    Raises:
        DesktopError: If the display is gone, too.
    """
    from Xlib import X
    from Xlib.ext.xtest import fake_input

    x = X11(display)
    try:
        mask = int(x.root.query_pointer().mask)
        down = x.display.query_keymap()
        for button in (n for n in range(1, 6) if mask >> (7 + n) & 1):
            fake_input(x.display, X.ButtonRelease, button)
        for code in (8 * place + bit for place, byte in enumerate(down) for bit in range(8) if byte >> bit & 1):
            fake_input(x.display, X.KeyRelease, code)
        x.display.sync()
    finally:
        x.close()
