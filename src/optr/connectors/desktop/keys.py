"""Names of keys, and the keysyms that X has for them: PyAutoGUI's, those of X itself, and a few that people write.

A key of one character is that character. Longer names are the same in small and capital letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from types import MappingProxyType

from optr.errors import DesktopError

UNICODE = 0x01000000
"""Added to a code point, it is its keysym."""

_TABLE = """
backspace ff08, tab ff09, linefeed ff0a, clear ff0b, return ff0d, enter ff0d, pause ff13, scroll_lock ff14
scrolllock ff14, sys_req ff15, escape ff1b, esc ff1b, delete ffff, del ffff, home ff50, left ff51, up ff52
right ff53, down ff54, prior ff55, page_up ff55, pageup ff55, pgup ff55, next ff56, page_down ff56
pagedown ff56, pgdn ff56, end ff57, begin ff58, select ff60, print ff61, printscreen ff61, prntscrn ff61
prtsc ff61, prtscr ff61, execute ff62, insert ff63, undo ff65, redo ff66, menu ff67, apps ff67, find ff68
cancel ff69, help ff6a, break ff6b, mode_switch ff7e, modechange ff7e, num_lock ff7f, numlock ff7f
shift ffe1, shift_l ffe1, shiftleft ffe1, shift_r ffe2, shiftright ffe2, ctrl ffe3, control ffe3
control_l ffe3, ctrl_l ffe3, ctrlleft ffe3, control_r ffe4, ctrl_r ffe4, ctrlright ffe4, caps_lock ffe5
capslock ffe5, meta ffe7, meta_l ffe7, meta_r ffe8, alt ffe9, alt_l ffe9, altleft ffe9, option ffe9
optionleft ffe9, alt_r ffea, altright ffea, optionright ffea, super ffeb, super_l ffeb, win ffeb
winleft ffeb, windows ffeb, command ffeb, cmd ffeb, super_r ffec, winright ffec, hyper_l ffed
hyper_r ffee, altgr fe03, iso_level3_shift fe03, iso_left_tab fe20, multi_key ff20, compose ff20
kanji ff21, nonconvert ff22, muhenkan ff22, convert ff23, henkan ff23, kana ff2d, hangul ff31, hanguel ff31
hanja ff34, hangul_hanja ff34, junja ff38, hangul_jeonja ff38, space 20, comma 2c, period 2e, minus 2d
plus 2b, equal 3d, slash 2f, backslash 5c, semicolon 3b, apostrophe 27, grave 60, bracketleft 5b
bracketright 5d, yen a5, less 3c, greater 3e, bar 7c, colon 3a, underscore 5f, question 3f, exclam 21
at 40, numbersign 23, dollar 24, percent 25, asciicircum 5e, ampersand 26, asterisk 2a, parenleft 28
parenright 29, quotedbl 22, asciitilde 7e, braceleft 7b, braceright 7d, dead_grave fe50, dead_acute fe51
dead_circumflex fe52, dead_tilde fe53, dead_diaeresis fe57, dead_cedilla fe5b
kp_space ff80, kp_tab ff89, kp_enter ff8d, numpadenter ff8d, kp_home ff95, kp_left ff96, kp_up ff97
kp_right ff98, kp_down ff99, kp_prior ff9a, kp_next ff9b, kp_end ff9c, kp_begin ff9d, kp_insert ff9e
kp_delete ff9f, kp_equal ffbd, kp_multiply ffaa, multiply ffaa, kp_add ffab, add ffab, kp_separator ffac
separator ffac, kp_subtract ffad, subtract ffad, kp_decimal ffae, decimal ffae, kp_divide ffaf, divide ffaf
volumedown 1008ff11, xf86audiolowervolume 1008ff11, volumemute 1008ff12, xf86audiomute 1008ff12
volumeup 1008ff13, xf86audioraisevolume 1008ff13, playpause 1008ff14, xf86audioplay 1008ff14
stop 1008ff15, xf86audiostop 1008ff15, prevtrack 1008ff16, xf86audioprev 1008ff16, nexttrack 1008ff17
xf86audionext 1008ff17, browserhome 1008ff18, xf86homepage 1008ff18, launchmail 1008ff19, xf86mail 1008ff19
browsersearch 1008ff1b, xf86search 1008ff1b, browserback 1008ff26, xf86back 1008ff26, browserforward 1008ff27
xf86forward 1008ff27, browserstop 1008ff28, xf86stop 1008ff28, browserrefresh 1008ff29, xf86refresh 1008ff29
sleep 1008ff2f, xf86sleep 1008ff2f, browserfavorites 1008ff30, xf86favorites 1008ff30
launchmediaselect 1008ff32, xf86audiomedia 1008ff32, launchapp1 1008ff40, xf86launch0 1008ff40
launchapp2 1008ff41, xf86launch1 1008ff41, fn 100811d0
lctrl ffe3, rctrl ffe4, lshift ffe1, rshift ffe2, lalt ffe9, ralt ffea, level3 fe03, metaleft ffeb, metaright ffec
lsuper ffeb, os ffeb, hyper ffed, ret ff0d, spacebar 20, back ff08, back_space ff08, bksp ff08, ins ff63
kp_page_up ff9a, kp_page_down ff9b, pgdown ff56, arrowleft ff51, leftarrow ff51, arrow_left ff51, left_arrow ff51
arrowright ff53, rightarrow ff53, arrow_right ff53, right_arrow ff53, arrowup ff52, uparrow ff52, arrow_up ff52
up_arrow ff52, arrowdown ff54, downarrow ff54, arrow_down ff54, down_arrow ff54, print_screen ff61, snapshot ff61
sysrq ff61, contextmenu ff67, context_menu ff67, shift_lock ffe5, numpadadd ffab, hyphen 2d, numpadsubtract ffad
numpadmultiply ffaa, numpaddivide ffaf, dot 2e, numpaddecimal ffae, equals 3d, quote 27, quoteright 27
doublequote 22, backquote 60, quoteleft 60, backtick 60, pipe 7c, caret 5e, tilde 7e
"""

NO_KEY = frozenset({"accept", "final"})
"""Names of PyAutoGUI for keys that only another system has."""


def _named() -> dict[str, int]:
    pairs = (entry.split() for line in _TABLE.strip().splitlines() for entry in line.split(","))
    found = {name: int(number, 16) for name, number in pairs}
    found |= {f"f{n}": 0xFFBD + n for n in range(1, 36)}
    return found | {f"{start}{n}": 0xFFB0 + n for n in range(10) for start in ("num", "kp_", "numpad")}


KEYS = MappingProxyType(_named())
"""Keysym of every key that has a name of more than one character; names in small letters."""

_CONTROL = {"\n": 0xFF0D, "\r": 0xFF0D, "\t": 0xFF09, "\b": 0xFF08, "\x1b": 0xFF1B}
_HELD = {"ctrl": "ctrl", "control": "ctrl", "shift": "shift", "alt": "alt", "super": "super"}


def keysym(key: str) -> int:
    """The keysym of a key.

    Args:
        key: A character, or a name.

    Raises:
        DesktopError: If there is no such key.
    """
    if len(key) == 1:
        return char_keysym(key)
    found = KEYS.get(key.lower())
    if found is None:
        near = [k for k in KEYS if key and (k.startswith(key.lower()[:3]) or key.lower() in k)][:8]
        hint = "X has no such key" if key.lower() in NO_KEY else f"like it: {', '.join(near) or 'none'}"
        raise DesktopError(
            f"no key {key!r}; a key is one character or a name such as enter, page_down, ctrl, f5; {hint}"
        )
    return found


def char_keysym(char: str) -> int:
    r"""The keysym of a character; of `\n` and `\t` those of their keys.

    Raises:
        DesktopError: If it is one that no key gives: another control character, or half of a surrogate pair.
    """
    if char in _CONTROL:
        return _CONTROL[char]
    if unicodedata.category(char) in ("Cc", "Cs"):
        raise DesktopError(f"the character U+{ord(char):04X} cannot be typed: no key gives it")
    code = ord(char)
    return code if code < 0x100 else UNICODE | code


def text_keysyms(text: str) -> list[int]:
    """The keysyms of a text, one for each character.

    Raises:
        DesktopError: If one of them cannot be typed; the message says where.
    """
    found = []
    for place, char in enumerate(text):
        if char in "\b\x1b":
            raise DesktopError(f"character {place} of the text is {char!r}, which is a key and no text")
        try:
            found.append(char_keysym(char))
        except DesktopError as err:
            raise DesktopError(f"character {place} of the text: {err}") from None
    return found


def is_modifier(key: str) -> bool:
    """Whether a key of this name only changes what others do."""
    return len(key) > 1 and 0xFFE1 <= KEYS.get(key.lower(), 0) <= 0xFFEE


def combination(keys: Sequence[str]) -> str:
    """Keys pressed together, as people write it: `ctrl+s`; modifiers first, always in the same order."""
    small = [k.lower() if len(k) > 1 else k for k in keys]
    order = list(dict.fromkeys(_HELD.values()))
    held = sorted((k for k in small if k in order), key=order.index)
    return "+".join([*held, *(k for k in small if k not in order)])
