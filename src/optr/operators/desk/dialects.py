"""How a language model is told what it can do on a desktop, and how its answer is read. Nothing of it is executed."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters.anthropic import Look, from_anthropic, shown_size
from optr.connectors.desktop.adapters.osworld import from_computer_13
from optr.connectors.desktop.adapters.pyautogui_text import from_pyautogui
from optr.connectors.desktop.adapters.say import Actions, Size
from optr.connectors.desktop.adapters.ui_tars import from_ui_tars
from optr.connectors.desktop.codec import UNTIL, from_json, short
from optr.errors import DesktopError, InvalidDecisionError
from optr.operators.llm.reply import Reply

_FENCED = re.compile(r"```[a-zA-Z_]*\s*\n(.*?)```", re.DOTALL)
_WORDS = re.compile(r"\b(WAIT|DONE|FAIL)\b")
_LOOK = (a.Wait("still", timeout_s=1.0),)
"""A model that asks to see is shown a picture with the next question; until then, the screen may come to rest."""


class Dialect(ABC):
    """One way to say actions.

    Attributes:
        name: By which it is chosen.
    """

    name: str

    @abstractmethod
    def how(self, shown: Size) -> str:
        """How to answer, for the model, which is shown pictures of this size [px]."""

    @abstractmethod
    def read(self, reply: Reply, shown: Size) -> Actions:
        """The actions in an answer, to be done one after the other.

        Raises:
            DesktopError: If there is none, or it cannot be.
        """

    def request(self) -> Mapping[str, Any]:
        """Further fields of the request."""
        return {}

    def shown(self, screen: Size) -> Size:
        """Size of the picture that a screen is shown by [px]."""
        return screen


def read_answer(dialect: Dialect, reply: Reply, shown: Size) -> Actions:
    """The actions in an answer.

    Raises:
        InvalidDecisionError: If there is none, or it cannot be.
    """
    try:
        return dialect.read(reply, shown)
    except DesktopError as err:
        cut = " (it was cut off: more max_tokens would help)" if reply.finish == "length" else ""
        raise InvalidDecisionError(f"{err}{cut}") from err


class _Own(Dialect):
    name = "optr"

    def how(self, shown: Size) -> str:
        kinds = "\n".join(
            f"- {kind}: {', '.join(_described(action)) or 'nothing'}" for kind, action in a.ACTIONS.items()
        )
        return (
            "Answer with one action as a JSON object and nothing else: its `kind`, and its fields beside it.\n"
            f"The kinds, and their fields (those with a ? may be left out):\n{kinds}\n"
            f"`until` is one of: {', '.join(UNTIL)}; `button`: {', '.join(a.BUTTONS)}; `modifiers`: "
            f"{', '.join(a.MODIFIERS)}. `dx` and `dy` are notches of the wheel, right and down.\n"
            'A PLACE is {"selector": TEXT}, where the text is role=button[name="Save"], text=Login or, in a browser, '
            'CSS like #username; or {"x": X, "y": Y}, shares of the screen: (0, 0) is its upper left corner, (1, 1) '
            "its lower right one."
        )

    def read(self, reply: Reply, shown: Size) -> Actions:
        return (from_json(_object(reply, "kind")),)


class _Anthropic(Dialect):
    name = "anthropic"

    def how(self, shown: Size) -> str:
        return (
            f"Answer by calling the tool `computer` once. The screen is shown {shown[0]} x {shown[1]} pixels large; "
            "coordinates are pixels of that picture. When the task is done, say DONE instead of calling it; if it "
            "cannot be done, say FAIL."
        )

    def request(self) -> Mapping[str, Any]:
        named = ("text", "scroll_direction")
        pairs = ("coordinate", "start_coordinate")
        properties: dict[str, Any] = {"action": {"type": "string"}, **{n: {"type": "string"} for n in named}}
        properties |= {n: {"type": "array", "items": {"type": "number"}} for n in pairs}
        properties |= {n: {"type": "number"} for n in ("scroll_amount", "duration", "repeat")}
        about = "Mouse, keyboard and screen: key, type, mouse_move, left_click, scroll, wait, screenshot, ..."
        schema = {"type": "object", "properties": properties, "required": ["action"]}
        tool = {"name": "computer", "description": about, "parameters": schema}
        return {"tools": [{"type": "function", "function": tool}]}

    def read(self, reply: Reply, shown: Size) -> Actions:
        if not reply.calls:
            return _word(reply.content, shown) or self._made(_object(reply, "action"), "computer", shown)
        out: Actions = ()
        for call in reply.calls:
            out += self._made(_parsed(call.arguments), call.name, shown)
        return out

    def shown(self, screen: Size) -> Size:
        return shown_size(screen)

    def _made(self, data: Any, name: str, shown: Size) -> Actions:
        found = from_anthropic(data, shown, name=name)
        return _LOOK if isinstance(found, Look) else found


class _UiTars(Dialect):
    name = "ui_tars"

    def how(self, shown: Size) -> str:
        return (
            "Answer with a thought and an action:\nThought: ...\nAction: ...\n"
            "The actions: click(start_box='(x,y)'), left_double(start_box='(x,y)'), right_single(start_box='(x,y)'), "
            "drag(start_box='(x,y)', end_box='(x,y)'), hotkey(key='ctrl c'), type(content='...'), "
            "scroll(start_box='(x,y)', direction='down'), wait(), finished(content='...'). "
            "Coordinates are thousandths of the picture."
        )

    def read(self, reply: Reply, shown: Size) -> Actions:
        return from_ui_tars(reply.content)


class _PyAutoGui(Dialect):
    name = "pyautogui"

    def how(self, shown: Size) -> str:
        return (
            "Answer with a block of Python that calls nothing but PyAutoGUI's functions for mouse and keyboard with "
            "literal arguments, or time.sleep; or with one word: WAIT, DONE or FAIL. The code is read, not run. "
            f"Coordinates are pixels of the picture, which is {shown[0]} x {shown[1]} large."
        )

    def read(self, reply: Reply, shown: Size) -> Actions:
        blocks = _FENCED.findall(reply.content)
        if len(blocks) > 1:
            raise DesktopError(f"{len(blocks)} blocks of code; expected one")
        return _word(blocks[0] if blocks else reply.content, shown) or from_pyautogui(
            blocks[0] if blocks else reply.content, shown
        )


class _Computer13(Dialect):
    name = "computer_13"

    def how(self, shown: Size) -> str:
        return (
            'Answer with one action as a JSON object: {"action_type": TYPE, "parameters": {...}}, or with WAIT, DONE '
            "or FAIL. The types: MOVE_TO (x, y), CLICK (button, x, y, num_clicks), MOUSE_DOWN, MOUSE_UP (button), "
            "RIGHT_CLICK, DOUBLE_CLICK, DRAG_TO (x, y), SCROLL (dx, dy), TYPING (text), PRESS, KEY_DOWN, KEY_UP (key), "
            f"HOTKEY (keys). Coordinates are pixels of the picture, which is {shown[0]} x {shown[1]} large."
        )

    def read(self, reply: Reply, shown: Size) -> Actions:
        return _word(reply.content, shown) or from_computer_13(_object(reply, "action_type"), shown)


DIALECTS: Mapping[str, Dialect] = {d.name: d for d in (_Own(), _Anthropic(), _UiTars(), _PyAutoGui(), _Computer13())}
"""Every dialect by its name."""


# -- reading -----------------------------------------------------------------------------------------------------------


def _word(content: str, shown: Size) -> Actions:
    """The actions of WAIT, DONE or FAIL where nothing else is said; empty: it is none of them."""
    said = content.strip().strip("`").strip()
    return from_computer_13(said, shown) if _WORDS.fullmatch(said) else ()


def _object(reply: Reply, key: str) -> Mapping[str, Any]:
    """The one JSON object with this key in what was said or called.

    Raises:
        DesktopError: If there is none, or they differ.
    """
    found: list[Mapping[str, Any]] = []
    decoder = json.JSONDecoder()
    for text in (*(call.arguments for call in reply.calls), reply.content):
        at = text.find("{")
        while at >= 0:
            try:
                value, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):  # a brace in a sentence
                value, end = None, at + 1
            if isinstance(value, dict) and key in value:
                found.append(value)
            at = text.find("{", end)
    if not found or any(other != found[0] for other in found):
        said = reply.content or "; ".join(call.arguments for call in reply.calls)
        raise DesktopError(f"{len(found)} different JSON objects with {key!r} in {short(said)}; expected one")
    return found[0]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DesktopError(f"{short(text)} is no JSON") from err


def _described(action: type[Any]) -> list[str]:
    """Its fields with their kinds, as a model is told."""
    out = []
    for field in fields(action):
        kind = str(field.type).replace("a.", "").replace("Target", "PLACE").replace("Selector", "PLACE")
        kind = kind.replace(" | None", "").replace("tuple[", "list of ").replace(", ...]", "")
        needed = field.default.__class__.__name__ == "_MISSING_TYPE"
        out.append(f"{field.name}{'' if needed else '?'} ({kind})")
    return out
