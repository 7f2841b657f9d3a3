"""YAML whose every value knows its file and line, so that an error can point at it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from optr.errors import SpecError


class Marked:
    """One YAML value and where it stands."""

    def __init__(self, node: yaml.Node, file: Path, key: str) -> None:
        self._node = node
        self.file = file
        self.key = key

    @property
    def line(self) -> int:
        """Line in the file, from 1."""
        return int(self._node.start_mark.line) + 1

    def fail(self, message: str) -> NoReturn:
        """Raise a `SpecError` that points here."""
        raise SpecError(": ".join(part for part in (f"{self.file}:{self.line}", self.key, message) if part))

    def items(self) -> Iterator[tuple[str, Marked]]:
        """Key and value of each entry of a mapping, in file order."""
        if not isinstance(self._node, yaml.MappingNode):
            self.fail(f"expected a mapping (key: value), got {self._describe()}")
        seen: set[str] = set()
        for key_node, value in self._node.value:
            key = str(key_node.value)
            child = Marked(value, self.file, f"{self.key}.{key}" if self.key else key)
            if key in seen:
                child.fail("given twice")
            seen.add(key)
            yield key, child

    def fields(self, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Marked]:
        """The entries of a mapping; unknown or missing keys are errors."""
        found = dict(self.items())
        names = list(known)
        for key, child in found.items():
            if key not in names:
                child.fail(f"unknown key {key!r}; known here: {', '.join(names)}")
        for key in required:
            if key not in found:
                self.fail(f"needs {key!r}, which is missing")
        return found

    def elements(self) -> list[Marked]:
        """The entries of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.fail(f"expected a list, got {self._describe()}")
        return [Marked(node, self.file, f"{self.key}[{i}]") for i, node in enumerate(self._node.value)]

    def is_text(self) -> bool:
        """Whether it is a scalar."""
        return isinstance(self._node, yaml.ScalarNode)

    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def plain(self) -> Any:
        """The value without its place: mappings, lists, text and numbers."""
        if isinstance(self._node, yaml.ScalarNode) and self._node.tag.endswith(":null"):
            return None  # nothing at all is no document
        return yaml.safe_load(yaml.serialize(self._node))

    def text(self) -> str:
        """A scalar as text."""
        if not isinstance(self._node, yaml.ScalarNode):
            self.fail(f"expected text, got {self._describe()}")
        return str(self._node.value)

    def number(self, positive: bool = False) -> float:
        """A finite number."""
        value = self._scalar()
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(f"expected a finite number, got {self._describe()}")
        if positive and value <= 0:
            self.fail(f"must be above zero, got {value}")
        return float(value)

    def integer(self, low: int = 1) -> int:
        """A whole number, at least `low`."""
        value = self._scalar()
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            self.fail(f"expected a whole number of at least {low}, got {self._describe()}")
        return value

    def choice(self, options: Iterable[str], hint: str = "") -> str:
        """One of the texts in `options`."""
        value = self.text()
        listed = list(options)
        if value not in listed:
            self.fail(f"{value!r} is not one of: {', '.join(listed)}{hint}")
        return value

    def _scalar(self) -> Any:
        if not isinstance(self._node, yaml.ScalarNode):
            return None
        try:
            return yaml.safe_load(yaml.serialize(self._node))
        except (yaml.YAMLError, ValueError, OverflowError):
            return None  # `!!int abc`, or a number of hundreds of digits

    def _describe(self) -> str:
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        return repr(self._node.value) if self._node.value else "nothing"


def read_marked(path: Path) -> Marked:
    """Parse one YAML file.

    Raises:
        SpecError: If it cannot be read or is no YAML; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise SpecError(f"{path}: cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise SpecError(f"{path}: is not UTF-8 text: {err}") from err
    return parse_marked(text, path)


def parse_marked(text: str, path: Path) -> Marked:
    """Parse YAML that came from somewhere; `path` is what errors call it.

    Raises:
        SpecError: If it is no YAML; the message names the line.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise SpecError(f"{path}:{line}: is not YAML: {err.problem}") from err
    except yaml.YAMLError as err:
        raise SpecError(f"{path}: is not YAML: {' '.join(str(err).split())}") from err
    if node is None:
        raise SpecError(f"{path}:1: is empty")
    return Marked(node, path, "")
