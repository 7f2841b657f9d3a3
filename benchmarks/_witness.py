"""Programs that write down whatever input they get, as X or their terminal tells it: witnesses of what came through.

`_witness.py window TITLE CLASS X,Y,W,H FILE` opens a window; each line of its file is one event as JSON, with where it
was as a share of the window. `_witness.py terminal FILE` runs in a terminal; its file holds the bytes that came.
"""

from __future__ import annotations

import json
import os
import sys
import termios
import tty
from typing import Any

_BUTTONS = 0x1F00
"""Bits of the state of an event that tell of buttons."""

_CLICKS = b"\033[?1000h\033[?1006h"
"""Has a terminal tell of every press and release in it."""


def window(title: str, wm_class: str, place: str, file: str) -> None:
    """Note every event of pointer and keys, and draw at each press, so that there is something to see."""
    from Xlib import X
    from Xlib.display import Display

    display = Display()
    x, y, width, height = map(int, place.split(","))
    pointer = X.ButtonPressMask | X.ButtonReleaseMask | X.PointerMotionMask
    own = display.screen().root.create_window(
        *(x, y, width, height, 0, X.CopyFromParent),
        background_pixel=0x336699,
        event_mask=pointer | X.KeyPressMask | X.KeyReleaseMask | X.StructureNotifyMask,
    )
    own.set_wm_name(title)
    own.set_wm_class(wm_class.lower(), wm_class)
    own.set_wm_normal_hints(flags=1, x=x, y=y)
    own.map()
    display.sync()
    drawn = own.create_gc(foreground=0xFFFFFF, function=X.GXxor)
    names = {X.ButtonPress: "press", X.ButtonRelease: "release", X.MotionNotify: "move"}
    names |= {X.KeyPress: "key", X.KeyRelease: "key_up"}
    with open(file, "w", encoding="utf-8", buffering=1) as out:
        while True:
            event = display.next_event()
            if event.type == X.ConfigureNotify:
                width, height = event.width, event.height
            if event.type not in names:
                continue
            kind = names[event.type]
            out.write(json.dumps(_note(kind, event, (width, height))) + "\n")
            if kind in ("press", "key"):
                own.fill_rectangle(drawn, 10, 10, 40, 30)


def _note(kind: str, event: Any, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "kind": kind,
        "detail": event.detail,
        "at": [event.event_x, event.event_y],
        "size": size,
        "root": [event.root_x, event.root_y],
        "held": bool(event.state & _BUTTONS),
        "ms": event.time,
        "sent": bool(event.send_event),
    }


def terminal(file: str, clicks: str = "") -> None:
    """Note every byte, as it is typed; nothing of it is run."""
    tty.setraw(0, termios.TCSANOW)
    if clicks:
        os.write(1, _CLICKS)
    with open(file, "wb", buffering=0) as out:
        while came := os.read(0, 4096):
            out.write(came)


if __name__ == "__main__":
    {"window": window, "terminal": terminal}[sys.argv[1]](*sys.argv[2:])
