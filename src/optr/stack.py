"""A stack: which nodes run together, with which parameters. One description serves `ros2 launch` and `optr up`.

Values may hold `$(argument)`, `$(argument == text)` (true or false) and `$(argument ? a : b)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from optr.errors import OptrError, StackError
from optr.share import find_config

_VALUE = re.compile(r"\$\(\s*(\w+)\s*(?:(==)\s*([\w.-]+)|\?\s*([^:]*?)\s*:\s*([^)]*?))?\s*\)")


@dataclass(frozen=True)
class Argument:
    """Something to choose when a stack is started."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeEntry:
    """A node of a resolved stack.

    Attributes:
        executable: As installed under `lib/optr`; also the name of the node.
        namespace: Namespace, may be empty.
        parameters: Name to value; texts, numbers and booleans.
    """

    executable: str
    namespace: str
    parameters: Mapping[str, Any]

    def ros_arguments(self) -> list[str]:
        """Command line that gives the node its namespace and parameters."""
        out = ["--ros-args"]
        if self.namespace:
            out += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for name, value in self.parameters.items():
            out += ["-p", f"{name}:={_as_yaml(value)}"]
        return out


@dataclass(frozen=True)
class Stack:
    """A stack as described in `config/stacks/<name>.yaml`."""

    name: str
    description: str
    arguments: Mapping[str, Argument]
    entries: tuple[Mapping[str, Any], ...]

    def resolve(self, given: Mapping[str, str]) -> tuple[NodeEntry, ...]:
        """The nodes to run, with the arguments filled in.

        Raises:
            StackError: If an argument is unknown or not among its choices.
        """
        for name in given:
            if name not in self.arguments:
                raise StackError(f"stack {self.name!r} has no argument {name!r}; it has: {', '.join(self.arguments)}")
        values = {name: given.get(name, a.default) for name, a in self.arguments.items()}
        for name, argument in self.arguments.items():
            if argument.choices and values[name] not in argument.choices:
                raise StackError(f"argument {name} is {values[name]!r}; it can be: {', '.join(argument.choices)}")
        nodes = []
        for entry in self.entries:
            if "if" in entry and _fill(entry["if"], values) != "true":
                continue
            parameters: dict[str, Any] = {"use_sim_time": bool(entry.get("use_sim_time", False))}
            for key, raw in entry.get("parameters", {}).items():
                parameters[key] = _fill(raw, values)
            nodes.append(NodeEntry(entry["executable"], values.get("namespace", ""), parameters))
        return tuple(nodes)


def load_stack(name: str) -> Stack:
    """Read a stack by path, or by the name of one that ships with optr.

    Raises:
        StackError: If there is none, or it is wrong.
    """
    try:
        path = find_config("stacks", name)
    except OptrError as err:
        raise StackError(str(err)) from err
    return _read(path)


def parse_arguments(words: Iterable[str]) -> dict[str, str]:
    """`name:=value` words, as ROS users write them.

    Raises:
        StackError: If a word has another form.
    """
    out = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise StackError(f"{word!r} is no argument; expected name:=value")
        out[name] = value
    return out


def _read(path: Path) -> Stack:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        arguments = {
            name: Argument(name, str(a["default"]), a["description"], tuple(a.get("choices", ())))
            for name, a in content["arguments"].items()
        }
        return Stack(path.stem, content["description"], arguments, tuple(content["nodes"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as err:
        raise StackError(f"{path}: is no stack: {type(err).__name__}: {err}") from err


def _fill(raw: Any, values: Mapping[str, str]) -> Any:
    if not isinstance(raw, str):
        return raw

    def one(match: re.Match[str]) -> str:
        name, equals, other, yes, no = match.groups()
        if name not in values:
            raise StackError(f"{raw!r} names the argument {name!r}, which the stack does not declare")
        if equals:
            return "true" if values[name] == other else "false"
        if yes is not None:
            return yes if values[name] == "true" else no
        return values[name]

    return _VALUE.sub(one, raw)


def _as_yaml(value: Any) -> str:
    """A value as the ROS command line reads it back with the same type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    return value if _is_plain(value) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_plain(text: str) -> bool:
    """Whether the text is meant as a number or boolean, or a word that YAML reads as itself."""
    return bool(re.fullmatch(r"true|false|-?\d+|-?\d+\.\d*(e-?\d+)?|[A-Za-z_/.][\w./-]*", text))
