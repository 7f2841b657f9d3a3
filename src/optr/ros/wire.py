"""Messages of the hot path to bytes and back, quicker than rclpy where the layout stays.

The hot path carries the same few messages over and over: names stay, stamps and numbers change. rclpy converts a joint
state in 11 us and an action chunk in 18 us, and in a process that has just woken up in three times that. Here rclpy
converts the first message of a layout; then it is known which bytes hold which number, and later messages whose other
bytes are the same are read, or written, at these places alone. Whatever is not understood goes through rclpy.
"""

from __future__ import annotations

import struct
from array import array
from operator import attrgetter
from typing import Any, Generic, TypeVar

from rclpy.serialization import deserialize_message, serialize_message

M = TypeVar("M")

_PLAIN_CDR = b"\x00\x01"
"""What a message begins with that is little-endian and without compression or member ids."""

_HEAD = 4
_MOST_LAYOUTS = 8
_NUMBERS = {
    "boolean": "?", "octet": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float": "f", "double": "d",
}  # fmt: skip
_KINDS = {*_NUMBERS, "string", "sequence<string>", "sequence<double>"}
_COUNT = struct.Struct("<I")


class _UnknownError(Exception):
    """Something that is not understood here."""


class _Layout:
    """Which bytes of a serialized message hold its numbers, and what the others are.

    Attributes:
        numbers: (owner, field, format, offset) of every number; the owner is the message or one within it.
        arrays: (owner, field, begin, end) of every sequence of float64.
        nested: (owner, field, message) of every message within another.
    """

    def __init__(self, data: bytes, msg: Any) -> None:
        if data[:2] != _PLAIN_CDR:
            raise _UnknownError("encoding")
        self.numbers: list[tuple[Any, str, struct.Struct, int]] = []
        self.arrays: list[tuple[Any, str, int, int]] = []
        self.nested: list[tuple[Any, str, Any]] = []
        self.size = len(data)
        self._at = _HEAD
        self._texts = [(0, 2)]  # between texts and numbers lies padding, which may hold anything
        self._walk(data, msg)
        self._fixed = [(a, b, data[a:b]) for a, b in self._texts]
        self._end = self._at

    def clean(self, data: bytes) -> bytes:
        """The same message with zeros for padding, and without what rclpy leaves behind its end."""
        out = bytearray(self._end)
        numbers = [(at, at + form.size) for _, _, form, at in self.numbers]
        for begin, end in (*self._texts, *numbers, *(a[2:] for a in self.arrays)):
            out[begin:end] = data[begin:end]
        return bytes(out)

    def fits(self, data: bytes) -> bool:
        """Whether another message has the same layout, and the same in all that is no number."""
        return len(data) == self.size and all(data[begin:end] == fixed for begin, end, fixed in self._fixed)

    def _walk(self, data: bytes, msg: Any) -> None:
        for field, kind in msg.get_fields_and_field_types().items():
            if kind in _NUMBERS:
                form = struct.Struct("<" + _NUMBERS[kind])
                self._align(form.size)
                self.numbers.append((msg, field, form, self._at))
                self._at += form.size
            elif kind == "string":
                self._string(data)
            elif kind == "sequence<string>":
                for _ in range(self._count(data)):
                    self._string(data)
            elif kind == "sequence<double>":
                count = self._count(data)
                if count:
                    self._align(8)
                self.arrays.append((msg, field, self._at, self._at + 8 * count))
                self._at += 8 * count
            elif "/" in kind and "<" not in kind and "[" not in kind:
                self.nested.append((msg, field, getattr(msg, field)))
                self._walk(data, getattr(msg, field))
            else:
                raise _UnknownError(kind)

    def _align(self, size: int) -> None:
        self._at += -(self._at - _HEAD) % size

    def _count(self, data: bytes) -> int:
        self._align(4)
        count = int(_COUNT.unpack_from(data, self._at)[0])
        self._at += 4
        self._keep(self._at - 4, self._at)
        return count

    def _string(self, data: bytes) -> None:
        size = self._count(data)
        self._keep(self._at, self._at + size)
        self._at += size

    def _keep(self, begin: int, end: int) -> None:
        if self._texts[-1][1] == begin:
            begin = self._texts.pop()[0]
        self._texts.append((begin, end))


class WireReader(Generic[M]):
    """Reads serialized messages of one type. A message is valid until the next one is read; its arrays stay."""

    def __init__(self, type_: type[M]) -> None:
        self._type = type_
        self._known: dict[int, tuple[_Layout, M]] = {}

    def read(self, data: bytes) -> M:
        """The message."""
        known = self._known.get(len(data))
        if known is None or not known[0].fits(data):
            return self._learn(data)
        layout, msg = known
        for owner, field, form, at in layout.numbers:
            setattr(owner, field, form.unpack_from(data, at)[0])
        for owner, field, begin, end in layout.arrays:
            setattr(owner, field, array("d", data[begin:end]))
        return msg

    def _learn(self, data: bytes) -> M:
        msg: M = deserialize_message(data, self._type)
        if len(self._known) >= _MOST_LAYOUTS:
            self._known.clear()
        again: M = deserialize_message(data, self._type)
        try:
            self._known[len(data)] = (_Layout(data, again), again)
        except (_UnknownError, struct.error):
            return msg
        if self.read(data) != msg:  # rclpy has the last word on what the bytes mean
            del self._known[len(data)]
        return msg


class WireWriter:
    """Serializes one message object over and over; whoever owns it changes its numbers and arrays in between.

    For messages of numbers, texts and sequences of texts and float64. Padding is zero: same message, same bytes.

    Raises:
        TypeError: If the message holds anything else.
    """

    def __init__(self, msg: Any) -> None:
        others = sorted({kind for _, kind in _fields(msg)} - _KINDS)
        if others:
            raise TypeError(f"{type(msg).__name__} holds {', '.join(others)}, which only rclpy can write")
        self.msg = msg
        self._data = bytearray()
        self._layout: _Layout | None = None
        texts = [path for path, kind in _fields(msg) if kind in ("string", "sequence<string>")]
        self._texts = attrgetter(*texts) if len(texts) > 1 else (lambda m: tuple(attrgetter(t)(m) for t in texts))
        self._known: Any = None

    def write(self) -> bytes:
        """The bytes of `msg` as it is now."""
        layout = self._layout
        if layout is None or self._texts(self.msg) != self._known:
            return self._learn()
        data = self._data
        for owner, field, known in layout.nested:
            if getattr(owner, field) is not known:
                return self._learn()
        for owner, field, form, at in layout.numbers:
            form.pack_into(data, at, getattr(owner, field))
        for owner, field, begin, end in layout.arrays:
            values = getattr(owner, field)
            if len(values) * 8 != end - begin:
                return self._learn()
            data[begin:end] = memoryview(values).cast("B")
        return bytes(data)

    def _learn(self) -> bytes:
        data: bytes = serialize_message(self.msg)
        layout = _Layout(data, self.msg)
        clean = layout.clean(data)
        self._layout, self._data = layout, bytearray(clean)
        texts = self._texts(self.msg)
        self._known = tuple(list(t) if isinstance(t, list) else t for t in texts)
        return clean


def _fields(msg: Any, prefix: str = "") -> list[tuple[str, str]]:
    out = []
    for field, kind in msg.get_fields_and_field_types().items():
        if "/" in kind and "<" not in kind and "[" not in kind:
            out += _fields(getattr(msg, field), f"{prefix}{field}.")
        else:
            out.append((prefix + field, kind))
    return out
