"""Find and load extensions by entry point. Nothing is imported until it is asked for by name."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import optr
from optr.errors import PluginError, UnknownNameError

GROUPS = {
    "operator": "optr.operators",
    "desk operator": "optr.desk_operators",
    "worker": "optr.workers",
    "environment": "optr.environments",
    "task": "optr.tasks",
    "rule": "optr.rules",
    "condition": "optr.conditions",
    "recovery": "optr.recoveries",
}
"""What can be extended, and the entry point group that does it."""

_SOURCE = Path(optr.__file__).resolve().parents[2]
"""Of the repository, if optr runs from one."""


def plugin_names(kind: str) -> tuple[str, ...]:
    """Names of all installed extensions of a kind (a key of `GROUPS`), sorted.

    Raises:
        PluginError: If two distributions claim one name.
    """
    return tuple(sorted(_found(kind)))


def load_plugin(kind: str, name: str) -> Any:
    """Import the extension of that name.

    Raises:
        UnknownNameError: If none is installed under it; the message lists those that are.
        PluginError: If it cannot be imported, or two distributions claim the name.
    """
    found = _found(kind)
    if name not in found:
        raise UnknownNameError(kind, name, found, outdated())
    entry = found[name]
    try:
        return entry.load()
    except Exception as err:  # whatever a stranger's module raises is reported as theirs
        raise PluginError(
            f"{kind} {name!r} of distribution {_origin(entry)} cannot be imported from {entry.value}: "
            f"{type(err).__name__}: {err}"
        ) from err


def outdated(source: Path = _SOURCE) -> str:
    """What to do where optr runs from a repository that names extensions which are not installed; empty: nothing.

    An installation keeps the list of extensions that there was then.

    Args:
        source: Folder that holds `setup.py`, if it is a repository.
    """
    try:
        tree = ast.parse((source / "setup.py").read_text(encoding="utf-8"))
        listed = next(k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "entry_points")
        named: dict[str, list[str]] = ast.literal_eval(listed)
    except (OSError, ValueError, SyntaxError, StopIteration):
        return ""
    missing = [
        name
        for group in GROUPS.values()
        for name in (line.partition("=")[0].strip() for line in named.get(group, ()))
        if name not in {entry.name for entry in _entries(entry_points, group)}
    ]
    return f"{source} has more, which are not installed: {', '.join(missing)}; run make setup there" if missing else ""


def _found(kind: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in _entries(entry_points, GROUPS[kind]):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise PluginError(
                f"{kind} {entry.name!r} is claimed twice: by {_origin(other)} ({other.value}) "
                f"and by {_origin(entry)} ({entry.value}); remove one"
            )
        found[entry.name] = entry
    return found


@lru_cache(maxsize=32)
def _entries(find: Callable[..., Iterable[EntryPoint]], group: str) -> tuple[EntryPoint, ...]:
    """Looked for once in a process: it means reading a file of every installed distribution."""
    return tuple(find(group=group))


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"
