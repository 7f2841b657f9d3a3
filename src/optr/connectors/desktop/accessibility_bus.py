"""The message bus of accessibility: calls, many at once, and the long answers of a tree read item by item.

The messages are D-Bus' (its specification, "Type System" and "Marshaling"); `jeepney` writes and reads them. It is too
slow for whole trees (70 µs a node), so what `Cache.GetItems` answers is read here, and only as far as it is wanted.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from jeepney import DBusAddress, HeaderFields, Message, MessageType, new_method_call
from jeepney.auth import BEGIN, Authenticator
from jeepney.bus import get_bus
from jeepney.low_level import Endianness, Header, calc_msg_size

from optr.errors import DesktopError

LARGEST_MESSAGE = 64 << 20
"""Longer answers end the connection [bytes]; a node takes about 370."""
_READ = 1 << 16
_AT_ONCE = 256  # calls under way; more fill the pipes of both sides, and then neither reads
CACHE = "/org/a11y/atspi/cache"
LATE = "no answer in time"
CACHE_SIGNATURES = ("a((so)(so)(so)iiassusau)", "a((so)(so)(so)a(so)assusau)")
"""Of `Cache.GetItems`: as toolkits answer today, and as they did before at-spi 2.26."""


class Reference(NamedTuple):
    """Where a thing on the bus lives: the connection of its program, and its path there."""

    name: str
    path: str


class Call(NamedTuple):
    """A method, and what it is given."""

    to: Reference
    interface: str
    method: str
    signature: str = ""
    body: tuple[Any, ...] = ()


class Answer(NamedTuple):
    """What came back; an error has text and no body."""

    body: tuple[Any, ...]
    error: str = ""


class CacheItem(NamedTuple):
    """A node of a tree as `Cache.GetItems` has it; numbers are those of AT-SPI."""

    reference: Reference
    parent: Reference
    place: int
    children: int
    interfaces: frozenset[str]
    name: str
    role: int
    states: int


class NoCache(NamedTuple):
    """A program that keeps no cache of its tree."""

    reason: str


class Bus:
    """One connection to a message bus; for one thread at a time."""

    def __init__(self, address: str, patience_s: float = 2.0) -> None:
        """Connect to a bus, for example at `unix:path=/tmp/bus`."""
        self._patience_s = patience_s
        self._serial = 0
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience_s)
        try:
            self._socket.connect(get_bus(address))
            self._authenticate()
            hello = Reference("org.freedesktop.DBus", "/org/freedesktop/DBus")
            self.name = str(self.call(Call(hello, "org.freedesktop.DBus", "Hello"))[0])
        except Exception as err:
            self._socket.close()
            raise DesktopError(f"no message bus answers at {address!r}: {err}") from err

    def _authenticate(self) -> None:
        auth = Authenticator()
        for line in auth:
            self._socket.sendall(line)
            auth.feed(self._received())
        self._socket.sendall(BEGIN)

    def call(self, call: Call, within_s: float | None = None) -> tuple[Any, ...]:
        """The answer to one call.

        Raises:
            DesktopError: If it is an error, or none comes in time.
        """
        answer = self.call_many([call], within_s)[0]
        if answer.error:
            raise DesktopError(f"{call.method} of {call.to.name}{call.to.path}: {answer.error}")
        return answer.body

    def call_many(self, calls: Sequence[Call], within_s: float | None = None) -> list[Answer]:
        """The answers to calls that are all sent before the first answer is awaited; one that is late is an error."""
        end = time.monotonic() + (self._patience_s if within_s is None else within_s)
        answers = [Answer((), LATE)] * len(calls)
        with suppress(TimeoutError):
            for first in range(0, len(calls), _AT_ONCE):
                waiting = self._send(calls[first : first + _AT_ONCE])
                while waiting:
                    header, raw, _ = self._receive(end)
                    position = waiting.pop(header.fields.get(HeaderFields.reply_serial, -1), None)
                    if position is not None:
                        answers[first + position] = _answer(header, raw)
        return answers

    def cache_items(self, patience: Mapping[str, float]) -> dict[str, Iterator[CacheItem] | NoCache | None]:
        """Every node that programs keep in their caches, in no order; read as they are asked for.

        Args:
            patience: How long each program may take [s].

        Returns:
            Of each program its nodes, why it has no cache, or None if it did not answer in time.
        """
        calls = [Call(Reference(name, CACHE), "org.a11y.atspi.Cache", "GetItems") for name in patience]
        waiting = {serial: calls[place].to.name for serial, place in self._send(calls).items()}
        found: dict[str, Iterator[CacheItem] | NoCache | None] = dict.fromkeys(patience)
        began = time.monotonic()
        with suppress(TimeoutError):
            while waiting:
                header, raw, start = self._receive(began + max(patience[name] for name in waiting.values()))
                name = waiting.pop(header.fields.get(HeaderFields.reply_serial, -1), None)
                if name is not None:
                    found[name] = _cache(header, raw, start)
        return found

    def pid(self, program: str) -> int:
        """Number of the process behind a connection; 0: nobody knows."""
        daemon = Reference("org.freedesktop.DBus", "/org/freedesktop/DBus")
        call = Call(daemon, "org.freedesktop.DBus", "GetConnectionUnixProcessID", "s", (program,))
        answer = self.call_many([call])[0]
        return 0 if answer.error else int(answer.body[0])

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _send(self, calls: Sequence[Call]) -> dict[int, int]:
        """Place among the calls by serial number."""
        waiting: dict[int, int] = {}
        data = bytearray()
        for place, call in enumerate(calls):
            self._serial += 1
            waiting[self._serial] = place
            address = DBusAddress(call.to.path, call.to.name, call.interface)
            message = new_method_call(address, call.method, call.signature or None, call.body)
            data += message.serialise(serial=self._serial)
        try:
            self._socket.sendall(data)
        except OSError as err:
            raise DesktopError(f"the message bus is gone: {err}") from err
        return waiting

    def _receive(self, end: float) -> tuple[Header, bytes, int]:
        """The next message: its header, all of it, and where its body begins."""
        while len(self._buffer) < 16 or len(self._buffer) < self._size():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            self._buffer += self._received()
        size = self._size()
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        header, start = Header.from_buffer(raw)
        return header, raw, start + -start % 8

    def _size(self) -> int:
        size = int(calc_msg_size(bytes(self._buffer[:16])))
        if size > LARGEST_MESSAGE:
            self.close()
            raise DesktopError(f"a message of {size} bytes came over the bus; at most {LARGEST_MESSAGE} are read")
        return size

    def _received(self) -> bytes:
        try:
            data = self._socket.recv(_READ)
        except TimeoutError:
            raise
        except OSError as err:
            raise DesktopError(f"the message bus is gone: {err}") from err
        if not data:
            raise DesktopError("the message bus is gone: it closed the connection")
        return data


def _cache(header: Header, raw: bytes, start: int) -> Iterator[CacheItem] | NoCache:
    signature = header.fields.get(HeaderFields.signature, "")
    if header.message_type is not MessageType.method_return or signature not in CACHE_SIGNATURES:
        return NoCache(_answer(header, raw).error or f"it answers {signature!r}")
    return read_cache(raw, start, header.endianness is Endianness.little, signature == CACHE_SIGNATURES[1])


def _answer(header: Header, raw: bytes) -> Answer:
    if header.message_type is MessageType.error:
        name = str(header.fields.get(HeaderFields.error_name, "error"))
        body = Message.from_buffer(raw).body
        return Answer((), f"{name}: {body[0]}" if body else name)
    return Answer(tuple(Message.from_buffer(raw).body))


def read_cache(raw: bytes, start: int, little: bool = True, old: bool = False) -> Iterator[CacheItem]:
    """Nodes of the body that begins at `start` (a multiple of 8), of one of `CACHE_SIGNATURES`."""
    number = struct.Struct("<I" if little else ">I").unpack_from
    two = struct.Struct("<II" if little else ">II").unpack_from
    two_signed = struct.Struct("<ii" if little else ">ii").unpack_from
    references: dict[bytes, Reference] = {}
    interfaces: dict[bytes, frozenset[str]] = {}

    def text(at: int) -> tuple[bytes, int]:
        at += -at % 4
        end = at + 4 + number(raw, at)[0]
        return raw[at + 4 : end], end + 1

    def reference(at: int) -> tuple[Reference, int]:
        at += -at % 8
        _, end = text(at)
        _, end = text(end)
        key = raw[at:end]
        if key not in references:
            name, middle = text(at)
            references[key] = Reference(name.decode(), text(middle)[0].decode())
        return references[key], end

    def several(at: int) -> tuple[frozenset[str], int]:
        at += -at % 4
        first, end = at + 4, at + 4 + number(raw, at)[0]
        key = raw[first:end]
        if key not in interfaces:
            words = []
            while first < end:
                word, first = text(first)
                words.append(word.decode().rpartition(".")[2])
            interfaces[key] = frozenset(words)
        return interfaces[key], end

    at = start + 8  # the items begin at a multiple of 8, after four bytes of length and four of nothing
    end = at + number(raw, start)[0]
    while at < end:
        node, at = reference(at)
        _, at = reference(at)
        parent, at = reference(at)
        at += -at % 4
        if old:
            length, place, children = number(raw, at)[0], -1, 0
            at += 4
            at += -at % 8
            stop = at + length
            while at < stop:
                _, at = reference(at)
                children += 1
        else:
            place, children = two_signed(raw, at)
            at += 8
        offered, at = several(at)
        name, at = text(at)
        at += -at % 4
        role = number(raw, at)[0]
        _, at = text(at + 4)
        at += -at % 4
        length = number(raw, at)[0]
        low, high = two(raw, at + 4) if length == 8 else (0, 0)
        at += 4 + length
        yield CacheItem(node, parent, place, children, offered, name.decode("utf-8", "replace"), role, low | high << 32)
        at += -at % 8 if at < end else 0
