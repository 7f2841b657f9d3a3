"""What is not stored in clear: texts for password fields, and keys that the guard knows. A name stands for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.keys import is_modifier
from optr.connectors.desktop.seen import Element

SECRET = "secret"
"""What names of hidden texts begin with; a number follows."""


def placeholder(name: str) -> str:
    """What stands in a text for something named."""
    return f"${{{name}}}"


def is_password(element: Element | None) -> bool:
    """Whether an element hides what is typed into it."""
    return element is not None and "password" in element.states


class Hiding:
    """Replaces hidden texts by names, the same text by the same name; owns the texts while an episode is written.

    Attributes:
        used: Which name stands in which action, by its sequence number.
    """

    def __init__(self, keeps: Callable[[str], bool]) -> None:
        """Hide nothing yet.

        Args:
            keeps: Whether a text holds a secret, whatever it is for.
        """
        self._keeps = keeps
        self._names: dict[str, str] = {}
        self.used: dict[str, list[int]] = {}

    def action(self, action: a.DesktopAction, into: Element | None, sequence: int) -> a.DesktopAction:
        """An action without its secrets.

        Args:
            action: As it was proposed.
            into: The element that gets what it types.
            sequence: Its number.
        """
        private = is_password(into)
        changed: dict[str, Any] = {}
        for name in (f.name for f in fields(action)):
            value = getattr(action, name)
            if name in ("text", "value", "answer", "question", "reason") and isinstance(value, str):
                changed[name] = self._hidden(value, private and name in ("text", "value"), sequence)
            elif name == "key":
                private_key = private and not is_modifier(value) and len(value) == 1
                changed[name] = self._hidden(value, private_key, sequence)
            elif name == "arguments":
                changed[name] = tuple(self._hidden(one, False, sequence) for one in value)
        return replace(action, **changed) if changed else action

    def text(self, text: str) -> str:
        """A text, with names for the secrets in it that were met before."""
        for secret, name in self._names.items():
            if len(secret) > 1:
                text = text.replace(secret, placeholder(name))
        return "" if self._keeps(text) else text

    def facts(self) -> Mapping[str, list[int]]:
        """Names of what was hidden, each with the numbers of the actions that it was hidden in."""
        return {name: list(where) for name, where in self.used.items()}

    def _hidden(self, text: str, private: bool, sequence: int) -> str:
        if not text or not (private or self._keeps(text)):
            return text
        name = self._names.setdefault(text, f"{SECRET}{len(self._names) + 1}")
        self.used.setdefault(name, []).append(sequence)
        return placeholder(name)


def without_value(element: Element | None) -> Element | None:
    """An element; one that hides what is typed into it, without that."""
    return replace(element, value="") if element is not None and is_password(element) else element
