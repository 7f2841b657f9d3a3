"""MiniWoB++: an action type, and the fields that it needs, on a page of 160 x 210 pixels.

Source: miniwob.farama.org, "Action Space" (types, fields, key combinations). An action is a dict with `action_type`, by
its name or its place in the configured list; `coords` are pixels of the task's area, from its upper left corner; `ref`
is the id of an element of the observation; `key` a combination such as `C-S-<ArrowLeft>`, or its place in the
configured list; `field` the place of a field of the task. Elements are clicked here by the pointer, in their middle,
and not by script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters import say
from optr.connectors.desktop.adapters.browsergym import Page
from optr.connectors.desktop.codec import short
from optr.errors import DesktopError

FORMAT = "MiniWoB++"

TASK_SIZE = (160, 210)
"""Width and height of a task [px of the page]."""

SCROLL_NOTCHES = 1
"""`SCROLL_..._COORDS` scrolls by a configured distance; this is ours."""

_MODIFIERS = {"C": "ctrl", "S": "shift", "A": "alt", "M": "super"}
_COMBINATION = re.compile(r"((?:[CSAM]-)*)(<[A-Za-z0-9]+>|.)", re.DOTALL)
_FIELDS: dict[str, tuple[str, ...]] = {
    "NONE": (),
    "MOVE_COORDS": ("coords",),
    "CLICK_COORDS": ("coords",),
    "DBLCLICK_COORDS": ("coords",),
    "MOUSEDOWN_COORDS": ("coords",),
    "MOUSEUP_COORDS": ("coords",),
    "SCROLL_UP_COORDS": ("coords",),
    "SCROLL_DOWN_COORDS": ("coords",),
    "CLICK_ELEMENT": ("ref",),
    "PRESS_KEY": ("key",),
    "TYPE_TEXT": ("text",),
    "TYPE_FIELD": ("field",),
    "FOCUS_ELEMENT_AND_TYPE_TEXT": ("ref", "text"),
    "FOCUS_ELEMENT_AND_TYPE_FIELD": ("ref", "field"),
}


@dataclass(frozen=True)
class Task:
    """What an action refers to.

    Attributes:
        page: Where the task's area is.
        elements: Place of each element by its ref: left, top, width, height [px of the page].
        fields: Values of the task's fields, in order.
        action_types: The configured list; empty: types come by name.
        keys: Likewise.
    """

    page: Page
    elements: Mapping[int, tuple[float, float, float, float]] = field(default_factory=dict)
    fields: Sequence[str] = ()
    action_types: Sequence[str] = ()
    keys: Sequence[str] = ()

    def element(self, ref: Any) -> a.Point:
        """The middle of an element.

        Raises:
            DesktopError: If there is none of that ref, or it lies outside of the page.
        """
        number = say.whole(_plain(ref), "ref")
        if number not in self.elements:
            known = ", ".join(map(str, sorted(self.elements)[:20])) or "none"
            raise DesktopError(f"no element {number}; there are: {known}")
        left, top, width, height = self.elements[number]
        return self.page.point(left + width / 2, top + height / 2)

    def value(self, index: Any) -> str:
        """The value of a field.

        Raises:
            DesktopError: If there is none in that place.
        """
        return _listed(self.fields, say.whole(_plain(index), "field"), "field")


def from_miniwob(data: Mapping[str, Any], task: Task) -> say.Actions:
    """Our actions for one of theirs; fields that its type does not need do not count, as there.

    Raises:
        DesktopError: If it is none of theirs, or what it says cannot be. NONE is a wait of no time.
    """
    if not isinstance(data, Mapping):
        raise DesktopError(f"{FORMAT}: an action is an object with an action_type, got {short(data)}")
    kind = _plain(data.get("action_type"))
    name = kind if isinstance(kind, str) else _listed(task.action_types, say.whole(kind, "action_type"), "action_type")
    every = {f for names in _FIELDS.values() for f in names} | {"action_type"}
    say.known_fields(dict(data), sorted(every), FORMAT)
    for needed in say.one_of(name, _FIELDS, "action_type"):
        if data.get(needed) is None:
            raise DesktopError(f"{name}: needs {needed!r}, which is missing")
    return say.checked(*_FROM[name](data, task))


def to_miniwob(action: a.DesktopAction, task: Task) -> dict[str, Any]:
    """Theirs for one of our actions, with names in place of numbers.

    Raises:
        DesktopError: If they have no words for it.
    """
    make = _TO.get(type(action))
    if make is None:
        raise say.cannot(FORMAT, action)
    return make(action, task)


# -- from --------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """A number or list out of numpy, as Python has it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _listed(known: Sequence[str], index: int, what: str) -> str:
    if not 0 <= index < len(known):
        raise DesktopError(f"{what} is {index}, and there are {len(known)}")
    return known[index]


def _coords(data: Mapping[str, Any], task: Task) -> a.Point:
    value = _plain(data["coords"])
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DesktopError(f"coords is {short(value)}, expected [left, top]")
    return task.page.point(*value)


def _pressed(data: Mapping[str, Any], task: Task) -> say.Actions:
    value = _plain(data["key"])
    text = value if isinstance(value, str) else _listed(task.keys, say.whole(value, "key"), "key")
    found = _COMBINATION.fullmatch(text)
    if found is None:
        raise DesktopError(f"{short(text)} is no key combination; expected for example C-S-<ArrowLeft>")
    name = found[2][1:-1] if len(found[2]) > 1 else found[2]
    keys = (*(_MODIFIERS[m] for m in found[1].split("-") if m), say.key(name))
    return (a.Key(keys[0]),) if len(keys) == 1 else (a.Hotkey(keys),)


def _typed(text: Any) -> a.Type:
    return a.Type(say.text(_plain(text), "text"))


_FROM: dict[str, Callable[[Mapping[str, Any], Task], say.Actions]] = {
    "NONE": lambda d, t: (a.Wait("time", timeout_s=0.0),),
    "MOVE_COORDS": lambda d, t: (a.Move(_coords(d, t)),),
    "CLICK_COORDS": lambda d, t: (a.Click(_coords(d, t)),),
    "DBLCLICK_COORDS": lambda d, t: (a.Click(_coords(d, t), count=2),),
    "MOUSEDOWN_COORDS": lambda d, t: (a.Press(_coords(d, t)),),
    "MOUSEUP_COORDS": lambda d, t: (a.Release(_coords(d, t)),),
    "SCROLL_UP_COORDS": lambda d, t: (a.Scroll(_coords(d, t), dy=-SCROLL_NOTCHES),),
    "SCROLL_DOWN_COORDS": lambda d, t: (a.Scroll(_coords(d, t), dy=SCROLL_NOTCHES),),
    "CLICK_ELEMENT": lambda d, t: (a.Click(t.element(d["ref"])),),
    "PRESS_KEY": _pressed,
    "TYPE_TEXT": lambda d, t: (_typed(d["text"]),),
    "TYPE_FIELD": lambda d, t: (_typed(t.value(d["field"])),),
    "FOCUS_ELEMENT_AND_TYPE_TEXT": lambda d, t: (a.Click(t.element(d["ref"])), _typed(d["text"])),
    "FOCUS_ELEMENT_AND_TYPE_FIELD": lambda d, t: (a.Click(t.element(d["ref"])), _typed(t.value(d["field"]))),
}


# -- to ----------------------------------------------------------------------------------------------------------

_NAMES = {"enter": "Enter", "escape": "Escape", "tab": "Tab", "space": " ", "backspace": "Backspace",
          "delete": "Delete", "insert": "Insert", "home": "Home", "end": "End", "pageup": "PageUp",
          "pagedown": "PageDown", "left": "ArrowLeft", "right": "ArrowRight", "up": "ArrowUp", "down": "ArrowDown",
          **{f"f{n}": f"F{n}" for n in range(1, 13)}}  # fmt: skip


def _at(kind: str, target: a.Target | None, task: Task) -> dict[str, Any]:
    return {"action_type": kind, "coords": list(task.page.pixel(target))}


def _say_click(action: a.Click, task: Task) -> dict[str, Any]:
    if action.button != "left" or action.count > 2 or action.modifiers:
        raise say.cannot(FORMAT, action, "it clicks once or twice, with the left button")
    return _at("DBLCLICK_COORDS" if action.count == 2 else "CLICK_COORDS", action.at, task)


def _say_button(action: a.Press | a.Release, task: Task) -> dict[str, Any]:
    if action.button != "left":
        raise say.cannot(FORMAT, action, "it has the left button only")
    return _at("MOUSEDOWN_COORDS" if isinstance(action, a.Press) else "MOUSEUP_COORDS", action.at, task)


def _say_scroll(action: a.Scroll, task: Task) -> dict[str, Any]:
    if action.dx or abs(action.dy) != SCROLL_NOTCHES:
        raise say.cannot(FORMAT, action, f"it scrolls up or down by {SCROLL_NOTCHES}")
    return _at("SCROLL_UP_COORDS" if action.dy < 0 else "SCROLL_DOWN_COORDS", action.at, task)


def _say_type(action: a.Type, task: Task) -> dict[str, Any]:
    if action.into is not None:
        raise say.cannot(FORMAT, action, "it types where the keyboard is")
    return {"action_type": "TYPE_TEXT", "text": action.text}


def _say_keys(action: a.Key | a.Hotkey, task: Task) -> dict[str, Any]:
    *held, last = (say.key(k) for k in (action.keys if isinstance(action, a.Hotkey) else (action.key,)))
    letters = {name: letter for letter, name in _MODIFIERS.items()}
    named = _NAMES.get(last, last)
    if not all(k in letters for k in held) or (len(last) > 1 and last not in _NAMES):
        raise say.cannot(FORMAT, action, "it has modifiers before one key")
    if isinstance(action, a.Key) and action.count != 1:
        raise say.cannot(FORMAT, action, "it presses a key once")
    key = f"<{named}>" if len(named) > 1 else named
    return {"action_type": "PRESS_KEY", "key": "".join(f"{letters[k]}-" for k in held) + key}


def _say_wait(action: a.Wait, task: Task) -> dict[str, Any]:
    if action.until != "time" or action.timeout_s:
        raise say.cannot(FORMAT, action, "it does not wait")
    return {"action_type": "NONE"}


_TO: dict[type[Any], Callable[[Any, Task], dict[str, Any]]] = {
    a.Move: lambda o, t: _at("MOVE_COORDS", o.to, t),
    a.Click: _say_click,
    a.Press: _say_button,
    a.Release: _say_button,
    a.Scroll: _say_scroll,
    a.Type: _say_type,
    a.Key: _say_keys,
    a.Hotkey: _say_keys,
    a.Wait: _say_wait,
}
