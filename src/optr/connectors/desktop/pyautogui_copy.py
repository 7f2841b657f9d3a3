"""PyAutoGUI, bound to one display: it takes the display of the environment when it is imported, and keeps it.

So each display has a copy of the module of its own, which nobody else in the process can change.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from types import ModuleType
from typing import Any

from optr.errors import DesktopError

_loading = threading.Lock()
_OTHERS = ("mouseinfo", "pyscreeze", "pymsgbox", "pytweening")
"""What it can do without: dialogs (which need tkinter), pictures, curves."""
_OWN = ("pyautogui", "pyautogui._pyautogui_x11")
KEYCODES = range(8, 256)


def load_pyautogui(display: str) -> Any:
    """A copy of PyAutoGUI for a display: its fail-safe on, without its pause of 0.1 s after each call.

    Keys are also known by their number in X, as `code38`: what it takes for the key of a character is wrong on some
    keyboards (`<` gives `>` where there is a key beside the left Shift).

    Raises:
        DesktopError: If it is not installed, or cannot reach the display.
    """
    with _loading:
        saved = {name: sys.modules.get(name) for name in (*_OWN, *_OTHERS)}
        before = os.environ.get("DISPLAY")
        hidden: dict[str, Any] = dict.fromkeys(_OTHERS)
        try:
            for name in _OWN:
                sys.modules.pop(name, None)
            sys.modules.update(hidden)
            os.environ["DISPLAY"] = display
            gui: Any = importlib.import_module("pyautogui")
        except Exception as err:  # python-xlib's are many, and an ImportError
            raise DesktopError(
                f"PyAutoGUI cannot be used on {display}: {err}; pip install --no-deps pyautogui"
            ) from err
        finally:
            _restore(saved, before)
    gui.FAILSAFE, gui.PAUSE = True, 0.0
    gui.platformModule.keyboardMapping.update({f"code{n}": n for n in KEYCODES})
    gui.platformModule.BUTTON_NAME_MAPPING.update({"back": 8, "forward": 9})
    return gui


def _restore(saved: dict[str, ModuleType | None], display: str | None) -> None:
    for name, module in saved.items():
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module
    if display is None:
        os.environ.pop("DISPLAY", None)
    else:
        os.environ["DISPLAY"] = display
