"""ROS messages as bytes where no ROS runs: made of the `.msg` files that the graph is built of."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from optr.episodes.bags.bag_metadata import TopicInfo
from optr.errors import EpisodeError

_OWN = "optr_interfaces"
_SECOND = 1_000_000_000
_QOS = """- history: 1
  depth: 500
  reliability: 1
  durability: 2
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: 1
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""
"""As the nodes of a graph offer it, for `ros2 bag play`."""


@functools.lru_cache(maxsize=1)
def _store() -> Any:
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for path in sorted(_message_files().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(encoding="utf-8"), f"{_OWN}/msg/{path.stem}"))
    store.register(types)
    return store


def _message_files() -> Path:
    source = Path(__file__).resolve().parents[3] / _OWN / "msg"
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    tried = [source, *(Path(p) / "share" / _OWN / "msg" for p in [*prefixes, sys.prefix])]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise EpisodeError(f"the messages of {_OWN} are not installed; looked in: {', '.join(map(str, tried))}")


def topic_info(name: str, kind: str) -> TopicInfo:
    """A topic as a bag describes it.

    Args:
        name: Full name.
        kind: Message type, `package/msg/Name`.

    Raises:
        EpisodeError: If there is no such type.
    """
    definition, type_hash = _described(kind)
    return TopicInfo(name, kind, definition, type_hash, _QOS)


@functools.lru_cache(maxsize=64)
def _described(kind: str) -> tuple[str, str]:
    store = _store()
    if kind not in store.fielddefs:
        raise EpisodeError(f"no message type {kind}; it is neither of ROS 2 Jazzy nor of {_OWN}")
    return store.generate_msgdef(kind, ros_version=2)[0], store.hash_rihs01(kind)


def message_bytes(kind: str, fields: Mapping[str, Any]) -> bytes:
    """A message, serialized. Fields that are not given are zero or empty.

    Args:
        kind: Message type.
        fields: By name: numbers, texts, lists of texts, arrays of numbers, mappings for inner messages (lists of them
            where there are several), and for `Time`, `Duration` and a `Header` alone nanoseconds.

    Raises:
        EpisodeError: If the message has no such field.
    """
    return bytes(_store().serialize_cdr(_message(kind, fields), kind))


def _message(kind: str, fields: Mapping[str, Any]) -> Any:
    store = _store()
    cls, defined = store.types[kind], _fields_of(kind)
    unknown = sorted(set(fields) - {f.name for f in defined})
    if unknown:
        raise EpisodeError(f"{kind} has no {', '.join(unknown)}")
    return cls(**{f.name: _value(f, fields.get(f.name)) for f in defined})


@dataclass(frozen=True)
class _Field:
    """A field of a message.

    Attributes:
        name: Its name.
        inner: Type of the message, or of each of the messages, in it; empty: it is none.
        default: What stands there unless something is given.
    """

    name: str
    inner: str
    default: Any


@functools.lru_cache(maxsize=64)
def _fields_of(kind: str) -> tuple[_Field, ...]:
    from rosbags.interfaces import Nodetype

    zeros = {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}
    out: list[_Field] = []
    for name, (node, about) in _store().fielddefs[kind][1]:
        if node == Nodetype.NAME:
            out.append(_Field(name, about, None))
        elif node == Nodetype.BASE:
            out.append(_Field(name, "", zeros.get(about[0], 0)))
        else:
            (inner, what), size = about
            numeric = inner == Nodetype.BASE and what[0] not in ("string", "wstring")
            count = size if node == Nodetype.ARRAY else 0
            message = what if inner == Nodetype.NAME else ""
            out.append(_Field(name, message, np.zeros(count, dtype=what[0]) if numeric else ()))
    return tuple(out)


def _value(field: _Field, given: Any) -> Any:
    default = field.default
    if field.inner:
        return _inner(field.inner, given) if default is None else [_inner(field.inner, one) for one in given or ()]
    if given is None:
        return list(default) if isinstance(default, tuple) else default
    if isinstance(default, np.ndarray):
        return np.ascontiguousarray(np.asarray(given, dtype=default.dtype).ravel())
    return given


def _inner(kind: str, given: Any) -> Any:
    if kind in ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration"):
        seconds, rest = divmod(int(given or 0), _SECOND)
        return _store().types[kind](sec=seconds, nanosec=rest)
    if kind == "std_msgs/msg/Header" and isinstance(given, int):
        return _message(kind, {"stamp": given})
    return _message(kind, given or {})
