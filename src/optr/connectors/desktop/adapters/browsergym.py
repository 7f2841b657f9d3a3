"""BrowserGym's high-level actions: calls in text, on elements by their `bid` or on pixels of the page.

Source: `docs/src/core/action_space.rst` and the docstrings of `browsergym.core.action.functions` of
github.com/ServiceNow/BrowserGym. Elements carry their id as the attribute `bid`. Here everything is done by real input:
an element is clicked to get the keyboard, a field is emptied by selecting all of it, an address is typed into the
address bar. So `press` and `focus` click, which on a button is more than they say. `check` and `uncheck` depend on what
is ticked, and files cannot be chosen by input: these are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import say
from optr.connectors.desktop.adapters.literal_calls import literal_calls
from optr.connectors.desktop.chords import split_chord
from optr.connectors.desktop.codec import short
from optr.connectors.desktop.view import Pixel, pixel_in, point_of
from optr.errors import DesktopError

FORMAT = "BrowserGym"

NOTCH_PX = 120
"""Pixels that a notch of the wheel counts for."""

_BID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SELECTED = re.compile(r'\[bid="([A-Za-z0-9_-]{1,32})"\]')
_BUTTONS = {"left": "left", "middle": "middle", "right": "right"}
_MODIFIERS = {"Alt": "alt", "Control": "ctrl", "ControlOrMeta": "ctrl", "Meta": "super", "Shift": "shift"}
_CODE = re.compile(r"(?:Digit([0-9])|Key([A-Z]))")


@dataclass(frozen=True)
class Page:
    """Where the page is, for actions on its pixels.

    Attributes:
        rect: Its viewport on the screen [px].
        size: Of the viewport in pixels of the page.
        screen: Size of the screen [px].
    """

    rect: a.Rect
    size: say.Size
    screen: say.Size

    def point(self, x: Any, y: Any) -> a.Point:
        """A pixel of the page as a place on the screen.

        Raises:
            DesktopError: If it is no pixel of the page, or lies outside of the screen.
        """
        inside = say.place(x, y, self.size)
        return point_of(pixel_in(self.rect, inside.x, inside.y), self.screen)

    def pixel(self, target: a.Target | None) -> Pixel:
        """The other way.

        Raises:
            DesktopError: If the place is not on the page.
        """
        x, y = say.pixel(target, self.screen, FORMAT)
        if not self.rect.holds(x, y):
            raise DesktopError(f"pixel ({x}, {y}) is not on the page, {self.rect}")
        shares = (x + 0.5 - self.rect.x) / self.rect.width, (y + 0.5 - self.rect.y) / self.rect.height
        return pixel_in(a.Rect(0, 0, *self.size), *shares)


def from_browsergym(text: str, page: Page | None = None) -> say.Actions:
    """Our actions for a text of theirs.

    Args:
        text: Calls, one after the other, with or without a fence around them.
        page: Where the page is; without it there are no actions on its pixels.

    Raises:
        DesktopError: If it holds anything but actions of theirs, or one that cannot be done by input.
    """
    code = text.strip().removeprefix("```python").removeprefix("```").removesuffix("```").strip()
    out: list[a.DesktopAction] = []
    for call in literal_calls(code):
        known = _FROM.get(call.name)
        if known is None:
            call.fail(f"is not understood, or cannot be done by input; these can: {', '.join(_FROM)}")
        names, make = known
        try:
            out += say.checked(*make(call.bind(names), page))
        except DesktopError as err:
            if str(err).startswith("line "):
                raise
            raise DesktopError(f"line {call.line}: {call.name}: {err}") from err
    if not out:
        raise DesktopError(f"{FORMAT}: there is no action; to do nothing is noop()")
    return tuple(out)


def to_browsergym(action: a.DesktopAction, page: Page | None = None) -> str:
    """Their text for one of our actions.

    Raises:
        DesktopError: If they have no words for it.
    """
    make = _TO.get(type(action))
    if make is None:
        raise say.cannot(FORMAT, action)
    return make(action, page)


# -- from --------------------------------------------------------------------------------------------------------

_Given = dict[str, Any]


def _element(value: Any) -> a.Selector:
    bid = say.text(value, "bid")
    if not _BID.fullmatch(bid):
        raise DesktopError(f"{short(bid)} is no bid")
    return a.Selector(f'[bid="{bid}"]')


def _on(page: Page | None, x: Any, y: Any) -> a.Point:
    if page is None:
        raise DesktopError("it is on a pixel of the page, and nobody said where that is")
    return page.point(x, y)


def _click(count: int) -> Callable[[_Given, Page | None], say.Actions]:
    def make(given: _Given, page: Page | None) -> say.Actions:
        listed = given.get("modifiers", [])
        if not isinstance(listed, list | tuple):
            raise DesktopError(f"modifiers is {short(listed)}, expected a list")
        modifiers = tuple(dict.fromkeys(say.one_of(m, _MODIFIERS, "a modifier") for m in listed))
        return (a.Click(_element(given.get("bid")), _button(given), count, modifiers),)

    return make


def _button(given: _Given) -> str:
    return say.one_of(given.get("button", "left"), _BUTTONS, "button")


def _emptied(given: _Given) -> say.Actions:
    return (a.Click(_element(given.get("bid"))), a.Hotkey(("ctrl", "a")))


def _fill(given: _Given, page: Page | None) -> say.Actions:
    value = say.text(given.get("value"), "value")
    return (*_emptied(given), a.Type(value) if value else a.Key("delete"))


def _select(given: _Given, page: Page | None) -> say.Actions:
    options = given.get("options")
    wanted = [options] if isinstance(options, str) else options
    if not isinstance(wanted, list) or len(wanted) != 1:
        raise DesktopError("several options cannot be set at once; expected one")
    return (a.SetValue(_element(given.get("bid")), say.text(wanted[0], "options")),)


def _keyed(value: Any) -> a.DesktopAction:
    names = [_key(k) for k in split_chord(say.text(value, "a key"))]
    return a.Key(names[0]) if len(names) == 1 else a.Hotkey(tuple(names))


def _key(name: str) -> str:
    code = _CODE.fullmatch(name)
    if code is not None:
        return code[1] or code[2].lower()
    return _MODIFIERS.get(name) or say.key(name)


def _mouse(make: Callable[[a.Point, str], a.DesktopAction]) -> Callable[[_Given, Page | None], say.Actions]:
    return lambda g, p: (make(_on(p, g.get("x"), g.get("y")), _button(g)),)


def _mouse_drag(given: _Given, page: Page | None) -> say.Actions:
    ends = ((given.get(f"{end}_x"), given.get(f"{end}_y")) for end in ("from", "to"))
    return (a.Drag(tuple(_on(page, x, y) for x, y in ends)),)


def _scroll(given: _Given, page: Page | None) -> say.Actions:
    at = _on(page, given["x"], given["y"]) if "x" in given else None
    at_element = _element(given["bid"]) if given.get("bid") is not None else None
    names = ("dx", "dy") if "dx" in given else ("delta_x", "delta_y")
    return (a.Scroll(at or at_element, *(_notches(given.get(name), name) for name in names)),)


def _notches(value: Any, name: str) -> int:
    pixels = say.number(value, name)
    return int(math.copysign(math.ceil(abs(pixels) / NOTCH_PX), pixels)) if pixels else 0


def _goto(given: _Given, page: Page | None) -> say.Actions:
    url = say.text(given.get("url"), "url")
    if not re.fullmatch(r"(https?|file|about|data):\S+|[\w.-]+(:\d+)?(/\S*)?", url):
        raise DesktopError(f"{short(url)} is no address")
    return (a.Hotkey(("ctrl", "l")), a.Type(f"{url}\n"))


def _tab(given: _Given, page: Page | None) -> say.Actions:
    index = say.whole(given.get("index"), "index")
    if not 0 <= index < 8:
        raise DesktopError(f"index is {index}; keys reach the tabs 0 to 7")
    return (a.Hotkey(("ctrl", str(index + 1))),)


def _noop(given: _Given, page: Page | None) -> say.Actions:
    return (a.Wait("time", timeout_s=say.seconds(given.get("wait_ms", 1000), "wait_ms") / 1000),)


def _keys(*keys: str) -> Callable[[_Given, Page | None], say.Actions]:
    return lambda g, p: (a.Hotkey(keys),)


_Made = Callable[[_Given, Page | None], say.Actions]
_XY = ("x", "y", "button")
_FROM: dict[str, tuple[tuple[str, ...], _Made]] = {
    "click": (("bid", "button", "modifiers"), _click(1)),
    "dblclick": (("bid", "button", "modifiers"), _click(2)),
    "hover": (("bid",), lambda g, p: (a.Move(_element(g.get("bid"))),)),
    "fill": (("bid", "value", "enable_autocomplete_menu"), _fill),
    "clear": (("bid",), lambda g, p: (*_emptied(g), a.Key("delete"))),
    "focus": (("bid",), lambda g, p: (a.Click(_element(g.get("bid"))),)),
    "press": (("bid", "key_comb"), lambda g, p: (a.Click(_element(g.get("bid"))), _keyed(g.get("key_comb")))),
    "select_option": (("bid", "options"), _select),
    "drag_and_drop": (
        ("from_bid", "to_bid"),
        lambda g, p: (a.Drag((_element(g.get("from_bid")), _element(g.get("to_bid")))),),
    ),
    "scroll": (("delta_x", "delta_y", "bid"), _scroll),
    "scroll_at": (("x", "y", "dx", "dy"), _scroll),
    "mouse_move": (("x", "y"), lambda g, p: (a.Move(_on(p, g.get("x"), g.get("y"))),)),
    "mouse_down": (_XY, _mouse(a.Press)),
    "mouse_up": (_XY, _mouse(a.Release)),
    "mouse_click": (_XY, _mouse(a.Click)),
    "mouse_dblclick": (_XY, _mouse(lambda at, button: a.Click(at, button, 2))),
    "mouse_drag_and_drop": (("from_x", "from_y", "to_x", "to_y"), _mouse_drag),
    "keyboard_press": (("key",), lambda g, p: (_keyed(g.get("key")),)),
    "keyboard_down": (("key",), lambda g, p: (a.KeyDown(_key(say.text(g.get("key"), "key"))),)),
    "keyboard_up": (("key",), lambda g, p: (a.KeyUp(_key(say.text(g.get("key"), "key"))),)),
    "keyboard_type": (("text",), lambda g, p: (a.Type(say.text(g.get("text"), "text")),)),
    "keyboard_insert_text": (("text",), lambda g, p: (a.Type(say.text(g.get("text"), "text")),)),
    "goto": (("url",), _goto),
    "go_back": ((), _keys("alt", "left")),
    "go_forward": ((), _keys("alt", "right")),
    "new_tab": ((), _keys("ctrl", "t")),
    "tab_close": ((), _keys("ctrl", "w")),
    "tab_focus": (("index",), _tab),
    "noop": (("wait_ms",), _noop),
    "send_msg_to_user": (("text",), lambda g, p: (a.Done(say.text(g.get("text"), "text")),)),
    "report_infeasible": (("reason",), lambda g, p: (a.Fail(say.text(g.get("reason"), "reason")),)),
}


# -- to ----------------------------------------------------------------------------------------------------------

_THEIRS = {"ctrl": "Control", "shift": "Shift", "alt": "Alt", "super": "Meta"}
_THEIR_KEYS = _THEIRS | {
    "enter": "Enter", "escape": "Escape", "tab": "Tab", "space": " ", "backspace": "Backspace", "delete": "Delete",
    "insert": "Insert", "home": "Home", "end": "End", "pageup": "PageUp", "pagedown": "PageDown", "left": "ArrowLeft",
    "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown", **{f"f{n}": f"F{n}" for n in range(1, 13)},
}  # fmt: skip


def _bid(target: a.Target | None) -> str | None:
    if not isinstance(target, a.Selector) or target.within is not None:
        return None
    found = _SELECTED.fullmatch(target.text)
    return found[1] if found else None


def _there(action: Any, target: a.Target | None, page: Page | None) -> str:
    if page is None or not isinstance(target, a.Point):
        raise say.cannot(FORMAT, action, "it knows elements by their bid, and pixels of a page")
    return "{}, {}".format(*page.pixel(target))


def _their_keys(action: Any, keys: tuple[str, ...]) -> str:
    names = [_THEIR_KEYS.get(say.key(k), k) for k in keys]
    if any(len(n) > 1 and n not in _THEIR_KEYS.values() for n in names):
        raise say.cannot(FORMAT, action, "it has no such key")
    return repr("+".join(names))


def _say_click(action: a.Click, page: Page | None) -> str:
    bid, double = _bid(action.at), action.count == 2
    if action.count > 2 or action.button not in _BUTTONS:
        raise say.cannot(FORMAT, action)
    if bid is None:
        if action.modifiers:
            raise say.cannot(FORMAT, action, "pixels are clicked without modifiers")
        name = "mouse_dblclick" if double else "mouse_click"
        return f"{name}({_there(action, action.at, page)}, {action.button!r})"
    more = f", {action.button!r}" if action.button != "left" or action.modifiers else ""
    more += f", {[_THEIRS[m] for m in action.modifiers]!r}" if action.modifiers else ""
    return f"{'dblclick' if double else 'click'}({bid!r}{more})"


def _say_move(action: a.Move, page: Page | None) -> str:
    bid = _bid(action.to)
    return f"mouse_move({_there(action, action.to, page)})" if bid is None else f"hover({bid!r})"


def _say_drag(action: a.Drag, page: Page | None) -> str:
    if len(action.path) != 2 or action.button != "left" or action.modifiers:
        raise say.cannot(FORMAT, action, "it drags by the left button from one place to one other")
    bids = [_bid(t) for t in action.path]
    if all(bids):
        return f"drag_and_drop({bids[0]!r}, {bids[1]!r})"
    return f"mouse_drag_and_drop({', '.join(_there(action, t, page) for t in action.path)})"


def _say_scroll(action: a.Scroll, page: Page | None) -> str:
    dx, dy = action.dx * NOTCH_PX, action.dy * NOTCH_PX
    return f"scroll({dx}, {dy})" if action.at is None else f"scroll_at({_there(action, action.at, page)}, {dx}, {dy})"


def _say_type(action: a.Type, page: Page | None) -> str:
    if action.into is not None:
        raise say.cannot(FORMAT, action, "it types where the keyboard is; fill() empties the field before")
    return f"keyboard_type({action.text!r})"


def _say_set(action: a.SetValue, page: Page | None) -> str:
    bid = _bid(action.element)
    if bid is None:
        raise say.cannot(FORMAT, action, "it knows elements by their bid")
    return f"select_option({bid!r}, {action.value!r})"


def _say_key(action: a.Key, page: Page | None) -> str:
    return "\n".join([f"keyboard_press({_their_keys(action, (action.key,))})"] * action.count)


def _say_button(action: a.Press | a.Release, page: Page | None) -> str:
    name = "mouse_down" if isinstance(action, a.Press) else "mouse_up"
    if action.button not in _BUTTONS:
        raise say.cannot(FORMAT, action)
    return f"{name}({_there(action, action.at, page)}, {action.button!r})"


def _say_wait(action: a.Wait, page: Page | None) -> str:
    if action.until != "time":
        raise say.cannot(FORMAT, action, "it waits for nothing but time")
    return f"noop({action.timeout_s * 1000!r})"


_TO: dict[type[Any], Callable[[Any, Page | None], str]] = {
    a.Click: _say_click,
    a.Move: _say_move,
    a.Press: _say_button,
    a.Release: _say_button,
    a.Drag: _say_drag,
    a.Scroll: _say_scroll,
    a.Type: _say_type,
    a.SetValue: _say_set,
    a.Key: _say_key,
    a.Hotkey: lambda o, p: f"keyboard_press({_their_keys(o, o.keys)})",
    a.KeyDown: lambda o, p: f"keyboard_down({_their_keys(o, (o.key,))})",
    a.KeyUp: lambda o, p: f"keyboard_up({_their_keys(o, (o.key,))})",
    a.Wait: _say_wait,
    a.Done: lambda o, p: f"send_msg_to_user({o.answer!r})",
    a.Fail: lambda o, p: f"report_infeasible({o.reason!r})",
}
