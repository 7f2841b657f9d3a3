"""PyAutoGUI code as OSWorld's agents write it: parsed line by line, never executed.

Understood are literal calls of PyAutoGUI's functions for mouse and keyboard and `time.sleep`, and the words WAIT, DONE
and FAIL. Everything else (loops, variables, other modules, pictures to be looked for) is refused by its line.

Source: pyautogui.readthedocs.io, pages on mouse, keyboard and the cheat sheet (names, order of arguments, signs of
scrolling); OSWorld (see `osworld.py`) for the three words. `duration`, `interval`, `tween` and `PAUSE` are pacing, and
left out; `FAILSAFE` is heard and not obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import osworld, say
from optr.connectors.desktop.adapters.literal_calls import Call, literal_calls
from optr.errors import DesktopError

FORMAT = "PyAutoGUI"

_PACING = ("duration", "interval", "tween", "logScreenshot", "_pause", "mouseDownUp")
_BUTTONS = {"left": "left", "middle": "middle", "right": "right", "primary": "left", "secondary": "right"}
_CLICK = ("x", "y", "clicks", "interval", "button", "duration", "tween")
_ONE_CLICK = ("x", "y", "interval", "duration", "tween")
_DOUBLE_CLICK = ("x", "y", "interval", "button", "duration", "tween")
_FENCE = "```"

_SHAPES = ("Quad", "Cubic", "Quart", "Quint", "Sine", "Expo", "Circ", "Elastic", "Back", "Bounce")
_IDLE = frozenset(
    f"pyautogui.{name}"
    for name in ("FAILSAFE", "PAUSE", "linear", *(f"ease{way}{s}" for way in ("In", "Out", "InOut") for s in _SHAPES))
)
"""Pacing, and the fail-safe, which stays on whatever a text says."""


def from_pyautogui(text: str, size: say.Size) -> say.Actions:
    """Our actions for a piece of code, or one of OSWorld's words.

    Args:
        text: The code, with or without a fence around it.
        size: Of the screen that its pixels count in [px].

    Raises:
        DesktopError: If there is anything in it that is not understood; the message names the line.
    """
    code = _unfenced(text)
    if code in ("WAIT", "DONE", "FAIL"):
        return osworld.from_computer_13(code, size)
    out: list[a.DesktopAction] = []
    for call in literal_calls(code, ("pyautogui", "time"), _IDLE):
        make = _FROM.get(call.name.removeprefix("pyautogui."))
        if call.name == "time.sleep":
            make = _sleep
        elif make is None or not call.name.startswith("pyautogui."):
            call.fail(f"is not understood; these are: pyautogui. with {', '.join(_FROM)}; time.sleep")
        try:
            out += say.checked(*make(call, size))
        except DesktopError as err:
            if str(err).startswith("line "):
                raise
            raise DesktopError(f"line {call.line}: {call.name}: {err}") from err
    if not out:
        raise DesktopError("the code does nothing")
    return tuple(out)


def to_pyautogui(action: a.DesktopAction, size: say.Size) -> str:
    """Code for one of our actions; one call a line.

    Raises:
        DesktopError: If PyAutoGUI has no words for it, as for text beyond ASCII, which it drops without a word.
    """
    if isinstance(action, a.Done | a.Fail):
        return str(osworld.to_computer_13(action, size)[0]["action_type"])
    if isinstance(action, a.Wait) and action.until == "time":
        return f"time.sleep({action.timeout_s!r})"
    if isinstance(action, a.Type) and not action.text.isascii():
        raise say.cannot(FORMAT, action, "it types ASCII only")
    try:
        said = osworld.to_computer_13(action, size)
    except DesktopError as err:
        raise say.cannot(FORMAT, action) from err
    lines = [_line(s["action_type"], s.get("parameters", {})) for s in said]
    return "\n".join(line for line in lines if line)


# -- from --------------------------------------------------------------------------------------------------------


def _unfenced(text: str) -> str:
    code = text.strip()
    if code.startswith(_FENCE) and code.endswith(_FENCE) and code.count(_FENCE) == 2:
        code = code[len(_FENCE) : -len(_FENCE)]
        head, newline, rest = code.partition("\n")
        code = rest if newline and head.strip() in ("", "python", "py", "code") else code
    return code.strip()


def _at(given: Mapping[str, Any], size: say.Size) -> a.Point | None:
    x, y = given.get("x"), given.get("y")
    if isinstance(x, list | tuple) and y is None:
        return say.pair(x, size, "x")
    if x is None and y is None:
        return None
    return say.place(x, y, size)


def _needed(given: Mapping[str, Any], size: say.Size) -> a.Point:
    point = _at(given, size)
    if point is None:
        raise DesktopError("needs x and y")
    return point


def _button(given: Mapping[str, Any]) -> str:
    return say.one_of(given.get("button", "left"), _BUTTONS, "button")


def _click(call: Call, size: say.Size) -> say.Actions:
    given = call.bind(_CLICK, _PACING)
    return (a.Click(_at(given, size), _button(given), say.whole(given.get("clicks", 1), "clicks")),)


def _fixed_click(button: str, count: int) -> Callable[[Call, say.Size], say.Actions]:
    names = _ONE_CLICK if count == 1 else _DOUBLE_CLICK

    def make(call: Call, size: say.Size) -> say.Actions:
        given = call.bind(names, _PACING)
        return (a.Click(_at(given, size), _button({"button": button, **given}), count),)

    return make


def _move(call: Call, size: say.Size) -> say.Actions:
    return (a.Move(_needed(call.bind(("x", "y", "duration", "tween"), _PACING), size)),)


def _drag(call: Call, size: say.Size) -> say.Actions:
    given = call.bind(("x", "y", "duration", "tween", "button"), _PACING)
    button = _button(given)
    return (a.Press(None, button), a.Move(_needed(given, size)), a.Release(None, button))


def _mouse(kind: type[a.Press] | type[a.Release]) -> Callable[[Call, say.Size], say.Actions]:
    def make(call: Call, size: say.Size) -> say.Actions:
        given = call.bind(("x", "y", "button", "duration", "tween"), _PACING)
        return (kind(_at(given, size), _button(given)),)

    return make


def _scroll(call: Call, size: say.Size) -> say.Actions:
    given = call.bind(("clicks", "x", "y"), _PACING)
    clicks = say.whole(given.get("clicks"), "clicks")
    sideways = call.name.endswith("hscroll")
    return (a.Scroll(_at(given, size), clicks if sideways else 0, 0 if sideways else -clicks),)


def _write(call: Call, size: say.Size) -> say.Actions:
    message = call.bind(("message", "interval"), _PACING).get("message")
    if isinstance(message, list | tuple):  # names of keys
        return tuple(a.Key(say.key(k)) for k in message)
    return (a.Type(say.text(message, "message")),)


def _press(call: Call, size: say.Size) -> say.Actions:
    given = call.bind(("keys", "presses", "interval"), _PACING)
    presses = say.whole(given.get("presses", 1), "presses")
    keys = given.get("keys")
    if not isinstance(keys, list | tuple):
        return (a.Key(say.key(keys), presses),)
    if not 1 <= presses <= 100:
        raise DesktopError(f"presses is {presses}, expected 1 to 100")
    return tuple(a.Key(say.key(k)) for k in keys) * presses


def _hotkey(call: Call, size: say.Size) -> say.Actions:
    args = call.args[0] if len(call.args) == 1 and isinstance(call.args[0], list | tuple) else call.args
    Call(call.name, (), call.kwargs, call.line).bind((), _PACING)
    return (a.Hotkey(tuple(say.key(k) for k in args)),)


def _one_key(kind: type[a.KeyDown] | type[a.KeyUp]) -> Callable[[Call, say.Size], say.Actions]:
    return lambda call, size: (kind(say.key(call.bind(("key",), _PACING).get("key"))),)


def _sleep(call: Call, size: say.Size) -> say.Actions:
    given = call.bind(("secs",) if call.name == "time.sleep" else ("seconds",))
    return (a.Wait("time", timeout_s=say.seconds(next(iter(given.values()), None), "the time")),)


_FROM: dict[str, Callable[[Call, say.Size], say.Actions]] = {
    "click": _click,
    "leftClick": _fixed_click("left", 1),
    "rightClick": _fixed_click("right", 1),
    "middleClick": _fixed_click("middle", 1),
    "doubleClick": _fixed_click("left", 2),
    "tripleClick": _fixed_click("left", 3),
    "moveTo": _move,
    "dragTo": _drag,
    "mouseDown": _mouse(a.Press),
    "mouseUp": _mouse(a.Release),
    "scroll": _scroll,
    "vscroll": _scroll,
    "hscroll": _scroll,
    "write": _write,
    "typewrite": _write,
    "press": _press,
    "hotkey": _hotkey,
    "keyDown": _one_key(a.KeyDown),
    "keyUp": _one_key(a.KeyUp),
    "sleep": _sleep,
}


# -- to ----------------------------------------------------------------------------------------------------------


def _line(kind: str, given: Mapping[str, Any]) -> str:
    """One call for one of OSWorld's actions."""
    place = f"{given['x']}, {given['y']}" if "x" in given else ""
    if kind == "CLICK":
        more = f"clicks={given['num_clicks']}, button={given['button']!r}"
        return f"pyautogui.click({', '.join(filter(None, (place, more)))})"
    if kind == "SCROLL":
        turns = (("hscroll", given["dx"]), ("vscroll", given["dy"]))
        return "\n".join(f"pyautogui.{name}({clicks})" for name, clicks in turns if clicks)
    if kind == "HOTKEY":
        return f"pyautogui.hotkey({', '.join(map(repr, given['keys']))})"
    name = {
        "MOVE_TO": "moveTo", "MOUSE_DOWN": "mouseDown", "MOUSE_UP": "mouseUp", "TYPING": "write", "PRESS": "press",
        "KEY_DOWN": "keyDown", "KEY_UP": "keyUp",
    }[kind]  # fmt: skip
    button = f"button={given['button']!r}" if "button" in given else ""
    return f"pyautogui.{name}({place or button or repr(next(iter(given.values())))})"
