"""A bag being written by a thread of its own, so that writing never holds up receiving."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optr.episodes.bag import BagWriter, TopicInfo
from optr.errors import EpisodeError

_QUEUE_BYTES = 512 << 20


class SequenceCheck:
    """Counts what is missing between the sequence numbers of one publisher, which start at 1."""

    def __init__(self) -> None:
        self._last = 0

    def missing(self, sequence: int) -> int:
        """Numbers left out between the last one and this; a number that falls is a publisher that began anew."""
        last = self._last if sequence >= self._last else 0
        self._last = sequence
        return max(0, sequence - last - 1)


class Recording:
    """One episode on its way to disk.

    Attributes:
        writer: The bag.
        overflowed: Messages given up because the disk was too slow for the queue.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], attachments: Mapping[str, str] | None = None) -> None:
        self.writer = BagWriter(folder, facts, attachments)
        self.overflowed = 0
        self._queue: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._error: EpisodeError | None = None
        self._thread = threading.Thread(target=self._run, name="bag", daemon=True)
        self._thread.start()

    @property
    def error(self) -> EpisodeError | None:
        """Why writing has ended early."""
        return self._error

    @property
    def dropped(self) -> int:
        """Messages lost: by gaps in sequence numbers, and by overflow of the queue."""
        return self.writer.dropped + self.overflowed

    def add(
        self, info: TopicInfo, data: bytes, received_ns: int, sent_ns: int, sequence: int, dropped: int = 0
    ) -> None:
        """Take one message.

        Args:
            info: Its topic.
            data: Serialized bytes.
            received_ns: Middleware's receive stamp [ns].
            sent_ns: Middleware's source stamp [ns].
            sequence: Publisher's sequence number.
            dropped: Messages of the topic that are missing before this one.
        """
        if self._waiting + len(data) > _QUEUE_BYTES or self._error is not None:
            self.overflowed += 1
            return
        self._waiting += len(data)
        self._queue.put((info, data, received_ns, sent_ns, sequence, dropped))

    def close(self, facts: Mapping[str, Any]) -> Path:
        """Write what is left and make the bag whole.

        Raises:
            EpisodeError: If anything could not be written; the partial folder stays.
        """
        self._end()
        if self._error is not None:
            self.writer.abort()
            raise self._error
        return self.writer.close({**facts, "dropped": self.dropped})

    def abort(self) -> None:
        """End without making it whole; the partial folder stays."""
        self._end()
        self.writer.abort()

    def discard(self) -> None:
        """End and remove everything."""
        self._end()
        self.writer.discard()

    def _end(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            info, data, received_ns, sent_ns, sequence, dropped = item
            self._waiting -= len(data)
            if self._error is not None:
                self.overflowed += 1
                continue
            try:
                self.writer.add_topic(info)
                self.writer.write(info.name, data, received_ns, sent_ns, sequence, dropped)
            except EpisodeError as err:
                self._error = err
                self.overflowed += 1
