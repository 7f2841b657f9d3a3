"""Walk an MCAP file record by record and check everything that the format promises."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, DataEnd, Footer, Header, MessageIndex, Schema, Statistics

from optr.episodes.bags.raw_bag import BagMessage
from optr.episodes.shelf.finding import CheckResult

MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_FOOTER_BYTES = _HEAD.size + 20

Take = Callable[[BagMessage], None]


@dataclass
class Scan:
    """What an MCAP file holds, as found by reading all of it.

    Attributes:
        channels: By number.
        schemas: By number.
        messages: By number of the channel.
        finished: Whether the file has its end.
        begin_ns: Time of the first message [ns].
        end_ns: Time of the last [ns].
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    messages: Counter[int] = field(default_factory=Counter)
    finished: bool = False
    begin_ns: int = 0
    end_ns: int = 0


class _WholeStream(ReadDataStream):
    """A record, of which no field may be longer than it is."""

    def read(self, length: int) -> bytes:
        data: bytes = super().read(length)
        if len(data) < length:
            raise ValueError(f"a field of {length} bytes has {len(data)}")
        return data


class _Walk:
    def __init__(self, path: Path, result: CheckResult, take: Take) -> None:
        self.name = path.name
        self.result = result
        self.take = take
        self.scan = Scan()
        self.chunks: dict[int, Chunk] = {}
        self.offsets: dict[int, list[tuple[int, int]]] = {}
        self.followed: dict[int, dict[int, int]] = {}
        self.indexed: list[ChunkIndex] = []
        self.told: Statistics | None = None
        self.records: Counter[int] = Counter()
        self.summary = False
        self.unsummed = 0

    def find(self, severity: str, code: str, text: str, count: int = 1) -> None:
        self.result.add(severity, code, text, self.name, count)

    # -- records -----------------------------------------------------------------------------------------------------

    def record(self, op: int, at: int, body: bytes) -> None:
        stream = _WholeStream(BytesIO(body))
        if not self.summary:
            self.records[op] += 1
        if op == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self.scan.schemas[schema.id] = schema
        elif op == Opcode.CHANNEL:
            channel = Channel.read(stream)
            self.scan.channels[channel.id] = channel
        elif op == Opcode.MESSAGE:
            self._message(body)
        elif op == Opcode.CHUNK:
            self._chunk(at, Chunk.read(stream))
        elif op == Opcode.MESSAGE_INDEX:
            self._index(at, MessageIndex.read(stream))
        elif op == Opcode.CHUNK_INDEX:
            self.indexed.append(ChunkIndex.read(stream))
        elif op == Opcode.STATISTICS:
            self.told = Statistics.read(stream)
        elif op == Opcode.ATTACHMENT:
            self._attachment(at, body)
        elif op == Opcode.HEADER:
            Header.read(stream)

    def _message(self, body: bytes) -> None:
        number, sequence, log_ns, sent_ns = _MESSAGE.unpack_from(body)
        channel = self.scan.channels.get(number)
        if channel is None:
            self.find("error", "STRUCTURE", f"a message belongs to channel {number}, which is not announced")
            return
        scan = self.scan
        first = not scan.messages
        scan.begin_ns = log_ns if first else min(scan.begin_ns, log_ns)
        scan.end_ns = max(scan.end_ns, log_ns)
        scan.messages[number] += 1
        self.take(BagMessage(channel.topic, log_ns, sent_ns, sequence, body[_MESSAGE.size :]))

    def _chunk(self, at: int, chunk: Chunk) -> None:
        self.chunks[at] = chunk
        self.followed[at] = {}
        self.offsets = {}
        try:
            data = _unpack(chunk)
        except Exception as err:  # decompressors raise about anything of damaged data
            self.find("error", "CRC", f"the chunk at byte {at} cannot be unpacked: {err}; its messages are lost")
            return
        if len(data) != chunk.uncompressed_size:
            self.find("error", "STRUCTURE", f"the chunk at byte {at} is of another size than it says")
        if not chunk.uncompressed_crc:
            self.unsummed += 1
        elif zlib.crc32(data) != chunk.uncompressed_crc:
            self.find("error", "CRC", f"the chunk at byte {at} does not match its checksum: it is damaged")
            return
        for op, begin, body in _split(data):
            if op == Opcode.MESSAGE and len(body) >= _MESSAGE.size:
                number, _, log_ns, _ = _MESSAGE.unpack_from(body)
                self.offsets.setdefault(number, []).append((log_ns, begin))
            self.records[op] += op != Opcode.MESSAGE
            self.record(op, begin, body)
        times = [t for entries in self.offsets.values() for t, _ in entries]
        if times and (min(times), max(times)) != (chunk.message_start_time, chunk.message_end_time):
            self.find("error", "INDEX", f"the chunk at byte {at} says another time span than its messages")
        chunk.data = b""  # the rest is needed, the data is not

    def _attachment(self, at: int, body: bytes) -> None:
        told = int.from_bytes(body[-4:], "little")
        if told and told != zlib.crc32(body[:-4]):
            self.find("error", "CRC", f"the attachment at byte {at} does not match its checksum: it is damaged")

    def _index(self, at: int, index: MessageIndex) -> None:
        if self.followed:
            self.followed[next(reversed(self.followed))][index.channel_id] = at  # of the chunk before it
        there = self.offsets.pop(index.channel_id, None)
        if there is None or sorted(there) != sorted(index.records):
            name = self.scan.channels[index.channel_id].topic if index.channel_id in self.scan.channels else "?"
            self.find("error", "INDEX", f"the index of {name} in a chunk is not that of its messages")

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> Scan:
        if self.unsummed:
            self.find("note", "NO_CRC", "chunks have no checksum: damage would not be seen", self.unsummed)
        if self.scan.finished:
            self._compare_indices()
            self._compare_statistics()
        return self.scan

    def _compare_indices(self) -> None:
        if not self.indexed:
            if self.chunks:
                self.find("warning", "INDEX", "there is no index of chunks: readers must read all of the file")
            return
        there = {
            at: (c.message_start_time, c.message_end_time, c.compression, tuple(sorted(self.followed[at].items())))
            for at, c in self.chunks.items()
        }
        told = {
            i.chunk_start_offset: (
                *(i.message_start_time, i.message_end_time, i.compression),
                tuple(sorted(i.message_index_offsets.items())),
            )
            for i in self.indexed
        }
        if there != told:
            wrong = len(set(there.items()) ^ set(told.items()))
            self.find("error", "INDEX", "the index of chunks is not that of the chunks in the file", wrong)

    def _compare_statistics(self) -> None:
        told, scan = self.told, self.scan
        if told is None:
            self.find("warning", "COUNT", "the file holds no statistics")
            return
        if dict(+scan.messages) != {k: n for k, n in told.channel_message_counts.items() if n}:
            difference = told.message_count - sum(scan.messages.values())
            text = f"the file counts {told.message_count} messages and holds {sum(scan.messages.values())}"
            self.find("error", "COUNT", text, abs(difference) or 1)
        elif told.message_count != sum(scan.messages.values()) or told.chunk_count != len(self.chunks):
            self.find("error", "COUNT", "the statistics of the file contradict what it holds")
        elif scan.messages and (told.message_start_time, told.message_end_time) != (scan.begin_ns, scan.end_ns):
            self.find("error", "COUNT", "the file says another time span than its messages")


def scan_mcap(path: Path, result: CheckResult, take: Take) -> Scan:
    """Read all of a file; findings go into `result`, messages in file order to `take`."""
    walk = _Walk(path, result, take)
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            walk.find("error", "STRUCTURE", "this is no MCAP file: it does not begin like one")
            result.readable = False
            return walk.scan
        _records(stream, size, walk)
        if walk.scan.finished:
            _check_summary(stream, size, walk)
    return walk.end()


def _records(stream: IO[bytes], size: int, walk: _Walk) -> None:
    crc = zlib.crc32(MAGIC)
    while True:
        at = stream.tell()
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            walk.find("error", "CUT_OFF", f"it ends at byte {at} without an end; `optr episodes recover` mends it")
            return
        op, length = _HEAD.unpack(head)
        if at + _HEAD.size + length > size:
            walk.find("error", "CUT_OFF", f"the record at byte {at} is cut off; `optr episodes recover` mends it")
            return
        body = stream.read(length)
        if op == Opcode.DATA_END:
            told = DataEnd.read(ReadDataStream(BytesIO(body))).data_section_crc
            if told and told != crc:
                walk.find("error", "CRC", "the data does not match the checksum of the file")
            walk.summary = True
        elif op == Opcode.FOOTER:
            walk.scan.finished = stream.read(len(MAGIC)) == MAGIC and not stream.read(1)
            if not walk.scan.finished:
                walk.find("error", "STRUCTURE", "the file does not end where its footer is")
            return
        else:
            try:
                walk.record(op, at, body)
            except Exception as err:  # whatever a parser raises of damaged bytes
                walk.find("error", "STRUCTURE", f"the record at byte {at} cannot be read: {err or type(err).__name__}")
        if not walk.summary:
            crc = zlib.crc32(body, zlib.crc32(head, crc))


def _check_summary(stream: IO[bytes], size: int, walk: _Walk) -> None:
    stream.seek(size - len(MAGIC) - _FOOTER_BYTES)
    raw = stream.read(_FOOTER_BYTES)
    footer = Footer.read(ReadDataStream(BytesIO(raw[_HEAD.size :])))
    if not footer.summary_start:
        walk.find("warning", "INDEX", "the file has no summary: readers must read all of it")
        return
    stream.seek(footer.summary_start)
    data = stream.read(size - len(MAGIC) - _FOOTER_BYTES - footer.summary_start)
    if footer.summary_crc and zlib.crc32(raw[:-4], zlib.crc32(data)) != footer.summary_crc:
        walk.find("error", "CRC", "the summary does not match its checksum: it is damaged")


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(data):
        op, length = _HEAD.unpack_from(data, at)
        begin = at + _HEAD.size
        if begin + length > len(data):
            raise ValueError(f"a record within the chunk is longer than the chunk, at byte {at}")
        yield op, at, data[begin : begin + length]
        at = begin + length


def _unpack(chunk: Chunk) -> bytes:
    if chunk.compression == "zstd":
        import zstandard

        found: Any = zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.uncompressed_size)
        return bytes(found)
    if chunk.compression == "lz4":
        import lz4.frame

        return bytes(lz4.frame.decompress(chunk.data))
    if chunk.compression:
        raise ValueError(f"unknown compression {chunk.compression!r}")
    return bytes(chunk.data)
