"""Find and load extensions by entry point. Nothing is imported until it is asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

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
        raise UnknownNameError(kind, name, found)
    entry = found[name]
    try:
        return entry.load()
    except Exception as err:  # whatever a stranger's module raises is reported as theirs
        raise PluginError(
            f"{kind} {name!r} of distribution {_origin(entry)} cannot be imported from {entry.value}: "
            f"{type(err).__name__}: {err}"
        ) from err


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
