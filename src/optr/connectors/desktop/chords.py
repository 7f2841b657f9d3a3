"""Names of keys, brought to one spelling, so that what is forbidden under one name is under every other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from optr.connectors.desktop.keys import KEYS
from optr.errors import DesktopError

_SAME = {
    "ctrl": "control ctrlleft ctrlright control_l control_r lctrl rctrl ctrl_l ctrl_r",
    "shift": "shiftleft shiftright shift_l shift_r lshift rshift",
    "alt": "altleft altright alt_l alt_r lalt ralt option optionleft optionright menu_alt",
    "altgr": "iso_level3_shift mode_switch level3",
    "super": "win winleft winright super_l super_r meta meta_l meta_r metaleft metaright cmd command windows lsuper os "
    "hyper hyper_l hyper_r",
    "enter": "return kp_enter linefeed ret numpadenter",
    "escape": "esc",
    "tab": "iso_left_tab kp_tab",
    "space": "spacebar kp_space",
    "backspace": "back back_space bksp",
    "delete": "del kp_delete",
    "insert": "ins kp_insert",
    "home": "kp_home",
    "end": "kp_end",
    "pageup": "pgup page_up prior kp_prior kp_page_up",
    "pagedown": "pgdn page_down next kp_next kp_page_down pgdown",
    "left": "arrowleft leftarrow arrow_left left_arrow kp_left",
    "right": "arrowright rightarrow arrow_right right_arrow kp_right",
    "up": "arrowup uparrow arrow_up up_arrow kp_up",
    "down": "arrowdown downarrow arrow_down down_arrow kp_down",
    "print": "printscreen print_screen prntscrn prtsc prtscr snapshot sysrq sys_req",
    "pause": "break",
    "menu": "apps contextmenu context_menu",
    "capslock": "caps_lock shift_lock",
    "numlock": "num_lock",
    "scrolllock": "scroll_lock",
    "+": "plus add kp_add numpadadd",
    "-": "minus subtract hyphen kp_subtract numpadsubtract",
    "*": "asterisk multiply kp_multiply numpadmultiply",
    "/": "slash divide kp_divide numpaddivide",
    ".": "period dot decimal kp_decimal numpaddecimal",
    ",": "comma separator kp_separator",
    "=": "equal equals kp_equal",
    ";": "semicolon",
    ":": "colon",
    "'": "apostrophe quote quoteright",
    '"': "quotedbl doublequote",
    "`": "grave backquote quoteleft backtick",
    "\\": "backslash",
    "|": "bar pipe",
    "<": "less",
    ">": "greater",
    "(": "parenleft",
    ")": "parenright",
    "[": "bracketleft",
    "]": "bracketright",
    "{": "braceleft",
    "}": "braceright",
    "!": "exclam",
    "?": "question",
    "@": "at",
    "#": "numbersign",
    "$": "dollar",
    "%": "percent",
    "^": "asciicircum caret",
    "&": "ampersand",
    "_": "underscore",
    "~": "asciitilde tilde",
}
_ALONE = [f"f{n}" for n in range(1, 25)] + [
    "help", "select", "execute", "undo", "redo", "find", "cancel", "clear", "begin", "volumeup", "volumedown",
    "volumemute", "playpause", "nexttrack", "prevtrack", "browserback", "browserforward", "browserrefresh",
]  # fmt: skip

_NAMES = {name: name for name in _ALONE} | {name: name for name in _SAME}
_NAMES |= {other: name for name, others in _SAME.items() for other in others.split(" ") if other}
_NAMES |= {" ": "space", "\n": "enter", "\r": "enter", "\t": "tab"}
_NAMES |= {f"{pad}{n}": str(n) for pad in ("kp_", "num", "numpad") for n in range(10)}

HELD = ("ctrl", "shift", "alt", "altgr", "super")
"""Keys that change what others mean while they are down."""


_WALKING = ("tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "f6", "f10", "menu")


class KeyNameError(DesktopError):
    """No key of that name is known."""


def key_name(name: str) -> str:
    """The one spelling of a key: lower case, no left and right, the character itself where it is one.

    Raises:
        KeyNameError: If no key of that name is known.
    """
    if len(name) == 1:
        return _NAMES.get(name, name.lower())
    lowered = name.strip().lower()
    found = _NAMES.get(lowered) or _NAMES.get(lowered.replace("_", "").replace("-", "").replace(" ", ""))
    if found is None and len(lowered) == 1:
        return _NAMES.get(lowered, lowered)
    if found is None:
        raise KeyNameError(f"no key named {name!r}")
    return found


def key_of(keysym: int) -> str:
    """The one spelling of a key by its keysym without modifiers; empty: it has no name."""
    return _BY_KEYSYM.get(keysym) or (key_name(chr(keysym)) if 0 < keysym < 0x100 else "")


def _by_keysym() -> dict[int, str]:
    found: dict[int, str] = {}
    for name, keysym in KEYS.items():
        with suppress(KeyNameError):
            found.setdefault(keysym, key_name(name))
    return found


_BY_KEYSYM = _by_keysym()


def pressed_by(name: str) -> frozenset[str]:
    """What is down while a key is pressed by its name: a capital letter needs shift."""
    key = key_name(name)
    upper = len(name) == 1 and name != name.lower()
    return frozenset({key, "shift"} if upper else {key})


def where_keys_act(keys: Sequence[str], held: Iterable[str] = ()) -> str:
    """On what the keys of one action may act, pressed one after the other while others are held.

    Returns:
        `any`: what Tab or an arrow comes to, or what has a mnemonic; `default`: what has the keyboard, and what Enter
        presses in its window; empty: what has the keyboard.
    """
    names = [name for key in keys if (name := _known(key))]
    walk = next((place for place, name in enumerate(names) if name in _WALKING), len(names))
    goes_on = any(name not in (*_WALKING, *HELD) for name in names[walk + 1 :])
    mnemonic = "alt" in (*held, *names) and any(len(name) == 1 for name in names)
    if goes_on or mnemonic:
        return "any"
    return "default" if "enter" in names else ""


def _known(key: str) -> str:
    with suppress(KeyNameError):
        return key_name(key)
    return ""


def chord(text: str) -> frozenset[str]:
    """Keys that are down together, as people write them: `ctrl+shift+t`, `ctrl++`.

    Raises:
        DesktopError: If one of them is no key.
    """
    return frozenset(key_name(k) for k in split_chord(text))


def split_chord(text: str) -> tuple[str, ...]:
    """The names in `ctrl+shift+t`, as they are written; a plus at the end is the key.

    Raises:
        DesktopError: If there is none.
    """
    if text == "+":
        return ("+",)
    keys = [*text[:-2].split("+"), "+"] if text.endswith("++") else text.split("+")
    if not all(k.strip() or k == " " for k in keys):
        raise DesktopError(f"{text!r} names no keys; expected for example ctrl+shift+t")
    return tuple(keys)


def spelled(keys: Iterable[str]) -> str:
    """A chord for people: modifiers first."""
    return "+".join(sorted(keys, key=lambda k: (k not in HELD, HELD.index(k) if k in HELD else 0, k)))
