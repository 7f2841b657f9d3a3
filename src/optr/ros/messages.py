"""Message classes, and their definitions as text for recordings."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from optr.errors import OptrError

_RULE = "=" * 80


class MessageTypeError(OptrError):
    """A message type is not installed: install its package."""


@cache
def message_class(name: str) -> Any:
    """The Python class of `package/msg/Name`.

    Raises:
        MessageTypeError: If it is not installed.
    """
    package, _, short = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), short)
    except (ImportError, AttributeError) as err:
        raise MessageTypeError(f"message type {name} is not installed: {err}") from err


@cache
def message_definition(name: str) -> str:
    """Definition of a message with all that it contains, as rosbag2 stores it (`ros2msg`).

    Raises:
        MessageTypeError: If the `.msg` files are not installed.
    """
    texts = {name: _definition_file(name)}
    waiting = [name]
    while waiting:
        current = waiting.pop(0)
        for inner in _inner_types(current):
            if inner not in texts:
                texts[inner] = _definition_file(inner)
                waiting.append(inner)
    parts = [texts.pop(name)]
    for inner, text in texts.items():
        package, _, short = inner.split("/")
        parts.append(f"{_RULE}\nMSG: {package}/{short}\n{text}")
    return "\n".join(parts)


def _definition_file(name: str) -> str:
    package, _, short = name.split("/")
    try:
        path = Path(get_package_share_directory(package)) / "msg" / f"{short}.msg"
        return path.read_text(encoding="utf-8")
    except (PackageNotFoundError, OSError) as err:
        raise MessageTypeError(f"definition of {name} is not installed: {err}") from err


def _inner_types(name: str) -> list[str]:
    found = []
    for kind in message_class(name).get_fields_and_field_types().values():
        base = kind.removeprefix("sequence<").partition("<")[0]
        base = base.partition(">")[0].partition(",")[0].partition("[")[0]
        if "/" in base:
            package, short = base.split("/")
            found.append(f"{package}/msg/{short}")
    return found
