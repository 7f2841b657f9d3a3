"""Calls with literal arguments out of Python text. The text is parsed and never executed."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from optr.errors import DesktopError

LONGEST = 50_000
"""Characters of a text that is looked at."""


@dataclass(frozen=True)
class Call:
    """One call.

    Attributes:
        name: Of the function, with its module: `pyautogui.click`.
        args: Its arguments by place.
        kwargs: Those by name.
        line: Line in the text, from 1.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    line: int

    def fail(self, what: str) -> NoReturn:
        """Raise a `DesktopError` that points here."""
        raise DesktopError(f"line {self.line}: {self.name}: {what}")

    def bind(self, parameters: Sequence[str], ignored: Collection[str] = ()) -> dict[str, Any]:
        """Arguments by name.

        Args:
            parameters: Names in order.
            ignored: Those of them, and others, whose values do not count.

        Raises:
            DesktopError: If there are too many, or one is unknown or given twice.
        """
        if len(self.args) > len(parameters):
            self.fail(f"takes at most {len(parameters)} arguments, got {len(self.args)}")
        found = dict(zip(parameters, self.args, strict=False))
        for name, value in self.kwargs.items():
            if name in found:
                self.fail(f"argument {name!r} is given twice")
            if name not in parameters and name not in ignored:
                self.fail(f"has no argument {name!r}; it has: {', '.join(parameters) or 'none'}")
            found[name] = value
        return {k: v for k, v in found.items() if k not in ignored}


def literal_calls(text: str, modules: Collection[str] = (), idle: Collection[str] = ()) -> list[Call]:
    """Every call in a text that is nothing but calls, one after the other.

    Args:
        text: Python.
        modules: What may be imported, to no effect.
        idle: Names with their modules, as `pyautogui.PAUSE`, that may be set to a literal, to no effect, or stand for
            an argument, which is the name then.

    Raises:
        DesktopError: If it is no Python, or holds anything but literal calls; the message names the line.
    """
    if len(text) > LONGEST:
        raise DesktopError(f"a text of {len(text)} characters; at most {LONGEST} are looked at")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a backslash that escapes nothing stays one
            tree = ast.parse(text)
    except SyntaxError as err:
        raise DesktopError(f"line {err.lineno}: is no Python: {err.msg}") from err
    except (ValueError, RecursionError, MemoryError) as err:
        raise DesktopError(f"is no Python: {str(err) or 'too deeply nested'}") from err
    return [call for node in tree.body if (call := _call(node, modules, idle)) is not None]


def _call(node: ast.stmt, modules: Collection[str], idle: Collection[str]) -> Call | None:
    if isinstance(node, ast.Import) and all(a.name in modules and not a.asname for a in node.names):
        return None
    if isinstance(node, ast.Assign) and all(_dotted(t) in idle for t in node.targets):
        _literal(node.value, idle)
        return None
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        what = type(node.value if isinstance(node, ast.Expr) else node).__name__
        raise DesktopError(f"line {node.lineno}: expected a call with literal arguments, got {what}")
    call = node.value
    keywords = {}
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in keywords:
            raise DesktopError(f"line {node.lineno}: expected named arguments, each once")
        keywords[keyword.arg] = _literal(keyword.value, idle)
    return Call(_name(call.func), tuple(_literal(arg, idle) for arg in call.args), keywords, node.lineno)


def _dotted(node: ast.expr) -> str:
    """A name, with its module if it has one; empty: it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def _name(node: ast.expr) -> str:
    if found := _dotted(node):
        return found
    raise DesktopError(f"line {node.lineno}: expected a function by its name, got {type(node).__name__}")


def _literal(node: ast.expr, idle: Collection[str]) -> Any:
    if (name := _dotted(node)) in idle:
        return name
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as err:
        raise DesktopError(f"line {node.lineno}: expected a literal argument, got {type(node).__name__}") from err
