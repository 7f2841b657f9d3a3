"""An action in few words, for people: what kind it is and where it acts come first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from optr.connectors.desktop.actions import SCREEN, DesktopAction, Point, Target

_LONGEST = 60


def in_short(action: DesktopAction) -> str:
    """An action as `click role=button[name="OK"]`, `type "ada" into #username` or `key enter`.

    Texts of more than 60 characters are cut; what an action acts on never is.
    """
    return " ".join([action.kind, *(part for part in _PARTS[action.kind](action) if part)])


def _place(target: Target | None) -> str:
    if target is None:
        return ""
    if isinstance(target, Point):
        return f"{target.x:.2f},{target.y:.2f}" + (f" of {target.frame}" if target.frame != SCREEN else "")
    return target.text + (f" in window {target.within}" if target.within is not None else "")


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...", ensure_ascii=False)


def _after(word: str, text: str) -> str:
    return f"{word} {text}" if text else ""


def _how(action: Any) -> list[str]:
    """With what a pointer acts, where it is not the left button alone, once."""
    count, modifiers = getattr(action, "count", 1), "+".join(getattr(action, "modifiers", ()))
    button = "" if action.button == "left" else action.button
    return [_after("button", button), f"x{count}" if count > 1 else "", _after("with", modifiers)]


def _wheel(notches: int, on: str, back: str) -> str:
    return f"{on if notches > 0 else back} {abs(notches)}" if notches else ""


def _awaited(action: Any) -> list[str]:
    frame = "" if action.frame == SCREEN else action.frame
    value = action.value if action.until in ("element", "gone") else _quoted(action.value) if action.value else ""
    return [action.until, value, _after("of", frame), f"{action.timeout_s:g} s"]


def _pointer(action: Any) -> list[str]:
    return [_place(action.at), *_how(action)]


_PARTS: Mapping[str, Callable[[Any], list[str]]] = {
    "move": lambda a: [_place(a.to)],
    "click": _pointer,
    "press": _pointer,
    "release": _pointer,
    "drag": lambda a: [" -> ".join(map(_place, a.path)), *_how(a)],
    "scroll": lambda a: [_place(a.at), _wheel(a.dy, "down", "up"), _wheel(a.dx, "right", "left")],
    "type": lambda a: [_quoted(a.text), _after("into", _place(a.into))],
    "key": lambda a: [a.key, f"x{a.count}" if a.count > 1 else ""],
    "key_down": lambda a: [a.key],
    "key_up": lambda a: [a.key],
    "hotkey": lambda a: ["+".join(a.keys)],
    "wait": _awaited,
    "invoke": lambda a: [_place(a.element), a.action],
    "set_value": lambda a: [_place(a.element), _after("to", _quoted(a.value))],
    "focus": lambda a: [a.window],
    "launch": lambda a: [a.program, *a.arguments],
    "done": lambda a: [_quoted(a.answer) if a.answer else ""],
    "fail": lambda a: [_quoted(a.reason) if a.reason else ""],
    "ask": lambda a: [_quoted(a.question)],
}
