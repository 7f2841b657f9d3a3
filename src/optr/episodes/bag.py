"""Write an episode as a rosbag2 folder with one MCAP file: serialized bytes, true stamps, facts inside.

The folder appears under its own name only when it is whole; until then it ends in `.partial`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mcap.writer import CompressionType, IndexType, Writer

from optr.errors import EpisodeError

FACTS = "optr.episode"
"""Name of the MCAP metadata record that holds the facts of an episode."""

COUNTS = "optr.counts"
"""Name of the MCAP metadata record that holds messages and drops per topic."""

PARTIAL = ".partial"


@dataclass(frozen=True)
class TopicInfo:
    """A recorded topic.

    Attributes:
        name: Fully qualified name.
        type: Message type.
        definition: Message definition with all that it contains (`ros2msg`).
        type_hash: RIHS01 hash of the type, or empty.
        qos: Offered QoS profiles as rosbag2 stores them, YAML.
    """

    name: str
    type: str
    definition: str
    type_hash: str = ""
    qos: str = ""


@dataclass
class TopicCount:
    """What happened to one topic.

    Attributes:
        messages: Written.
        dropped: Lost on the way, by gaps in the publisher's sequence numbers.
    """

    messages: int = 0
    dropped: int = 0


@dataclass
class _Channel:
    info: TopicInfo
    id: int
    count: TopicCount = field(default_factory=TopicCount)


class BagWriter:
    """Writes one bag. `close` makes it whole; `abort` leaves the partial folder, `discard` removes it."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], attachments: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.bytes = 0
        self.messages = 0
        self._partial = folder.with_name(folder.name + PARTIAL)
        self._facts = dict(facts)
        self._channels: dict[str, _Channel] = {}
        self._first_ns = self._last_ns = 0
        if folder.exists():
            raise EpisodeError(f"{folder} exists already; choose another name")
        if self._partial.exists():
            raise EpisodeError(f"{self._partial} exists: a recording that was not finished; move it away first")
        try:
            self._partial.mkdir(parents=True)
            self._path = self._partial / f"{folder.name}_0.mcap"
            self._file = self._path.open("wb")
        except OSError as err:
            raise EpisodeError(f"cannot write a bag to {folder}: {err.strerror or err}") from err
        self._writer = Writer(
            self._file, chunk_size=1 << 20, compression=CompressionType.ZSTD, index_types=IndexType.ALL
        )
        self._writer.start(profile="ros2", library="optr")
        for name, text in (attachments or {}).items():
            self._writer.add_attachment(0, 0, name, "application/yaml", text.encode())

    @property
    def dropped(self) -> int:
        """Messages lost on the way, all topics."""
        return sum(c.count.dropped for c in self._channels.values())

    @property
    def counts(self) -> dict[str, TopicCount]:
        """Messages and drops by topic."""
        return {name: c.count for name, c in self._channels.items()}

    def add_topic(self, info: TopicInfo) -> None:
        """Announce a topic before its first message."""
        if info.name in self._channels:
            return
        schema = self._writer.register_schema(info.type, "ros2msg", info.definition.encode())
        metadata = {"offered_qos_profiles": info.qos, "topic_type_hash": info.type_hash}
        channel = self._writer.register_channel(info.name, "cdr", schema, metadata)
        self._channels[info.name] = _Channel(info, channel)

    def write(self, topic: str, data: bytes, received_ns: int, sent_ns: int, sequence: int, dropped: int = 0) -> None:
        """Write one message.

        Args:
            topic: One announced by `add_topic`.
            data: Serialized message as it arrived.
            received_ns: When the middleware received it [ns, wall clock].
            sent_ns: When the middleware sent it [ns, wall clock].
            sequence: The publisher's sequence number.
            dropped: Messages missing between the last one and this.

        Raises:
            EpisodeError: If it cannot be written (disk full).
        """
        channel = self._channels[topic]
        try:
            self._writer.add_message(channel.id, received_ns, data, sent_ns, sequence & 0xFFFFFFFF)
        except OSError as err:
            raise EpisodeError(f"cannot write to {self._path}: {err.strerror or err}") from err
        channel.count.messages += 1
        channel.count.dropped += dropped
        self.messages += 1
        self.bytes += len(data)
        if not self._first_ns or received_ns < self._first_ns:
            self._first_ns = received_ns
        self._last_ns = max(self._last_ns, received_ns)

    def close(self, facts: Mapping[str, Any] | None = None) -> Path:
        """Make the bag whole and give it its name.

        Raises:
            EpisodeError: If it cannot be written; the partial folder stays.
        """
        self._facts |= facts or {}
        try:
            self._writer.add_metadata(FACTS, {k: _text(v) for k, v in self._facts.items()})
            counts = {n: json.dumps({"messages": c.messages, "dropped": c.dropped}) for n, c in self.counts.items()}
            self._writer.add_metadata(COUNTS, counts)
            self._writer.add_metadata("rosbag2", {"serialized_metadata": self._metadata()})  # for `ros2 bag reindex`
            self._writer.finish()  # type: ignore[no-untyped-call]
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            (self._partial / "metadata.yaml").write_text(self._metadata(), encoding="utf-8")
            self._partial.rename(self.folder)
        except OSError as err:
            raise EpisodeError(f"cannot finish {self.folder}: {err.strerror or err}") from err
        return self.folder

    def abort(self) -> None:
        """Stop writing; what is there stays in the partial folder."""
        # A full disk refuses the end of the file too; the reason for the abort has been reported already.
        with suppress(OSError):
            self._writer.finish()  # type: ignore[no-untyped-call]
        with suppress(OSError):
            self._file.close()

    def discard(self) -> None:
        """Stop writing and remove everything."""
        self._file.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _metadata(self) -> str:
        topics = [
            {
                "topic_metadata": {
                    "name": c.info.name,
                    "type": c.info.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": yaml.safe_load(c.info.qos) if c.info.qos else [],
                    "type_description_hash": c.info.type_hash,
                },
                "message_count": c.count.messages,
            }
            for c in self._channels.values()
        ]

        def span() -> dict[str, Any]:
            return {
                "duration": {"nanoseconds": self._last_ns - self._first_ns},
                "starting_time": {"nanoseconds_since_epoch": self._first_ns},
            }

        information = {
            "version": 9,
            "storage_identifier": "mcap",
            **span(),
            "message_count": self.messages,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._path.name],
            "files": [{"path": self._path.name, **span(), "message_count": self.messages}],
            "custom_data": {k: _text(v) for k, v in self._facts.items()},
            "ros_distro": "jazzy",
        }
        return yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
