"""Read an episode back: its facts, and its numbers as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mcap.exceptions import McapError
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader, AnyReaderError

from optr.episodes.bag import COUNTS, FACTS
from optr.errors import EpisodeError
from optr.spec import Spec, stamp_ns

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Series:
    """Rows of numbers over time.

    Attributes:
        stamps_ns: Time of each row [ns], shape (n,).
        values: Rows in the order of the action vector, shape (n, joints).
    """

    stamps_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def since_reset(self) -> Series:
        """Without what lies before the last time that the clock was set back."""
        back = np.flatnonzero(np.diff(self.stamps_ns) < 0)
        first = int(back[-1]) + 1 if len(back) else 0
        return Series(self.stamps_ns[first:], self.values[first:])


@dataclass(frozen=True)
class Verdicts:
    """What the sentinel said, one entry per proposal.

    Attributes:
        stamps_ns: Time of each [ns], shape (n,).
        outcomes: Numbers as in `optr_interfaces/Verdict`, shape (n,).
        codes: Codes of each.
        proposed: Proposed rows, shape (n, joints); NaN where nothing could be read.
    """

    stamps_ns: npt.NDArray[np.int64]
    outcomes: npt.NDArray[np.int64]
    codes: tuple[tuple[str, ...], ...]
    proposed: npt.NDArray[np.float64]


class EpisodeReader:
    """One recorded episode.

    Attributes:
        folder: The bag.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = sorted(folder.glob("*.mcap"))
        if not (folder / "metadata.yaml").is_file() or not files:
            raise EpisodeError(f"{folder} is no whole bag (metadata.yaml and an .mcap file)")
        self._file = files[0]

    def facts(self) -> Mapping[str, Any]:
        """Task, operator, seed, outcome and whatever else was recorded about the episode."""
        return {k: _value(v) for k, v in self._record(FACTS).items()}

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Messages and drops by topic."""
        return {k: json.loads(v) for k, v in self._record(COUNTS).items()}

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Topic, receive time [ns] and message, in the order of receipt; all topics if none is named.

        Raises:
            EpisodeError: If the bag cannot be read.
        """
        names = {t if t.startswith("/") else f"/{t}" for t in topics}
        try:
            with AnyReader([self.folder]) as reader:
                chosen = [c for c in reader.connections if not names or c.topic in names]
                for connection, received, data in reader.messages(connections=chosen):
                    yield connection.topic, received, reader.deserialize(data, connection.msgtype)
        except (AnyReaderError, McapError) as err:
            raise EpisodeError(f"{self.folder} cannot be read: {err}") from err

    def raw(self, topic: str) -> list[bytes]:
        """Serialized messages of one topic, in the order of receipt."""
        name = topic if topic.startswith("/") else f"/{topic}"
        with self._file.open("rb") as stream:
            found = make_reader(stream).iter_messages(topics=[name], log_time_order=True)
            return [message.data for _, _, message in found]

    def joints(self, spec: Spec, topic: str) -> Series:
        """Positions on a JointState topic, in the order of the action vector."""
        stamps, rows = [], []
        for _, _, msg in self.messages(topic):
            column = dict(zip(msg.name, msg.position, strict=True))
            stamps.append(stamp_ns(msg.header.stamp))
            rows.append([column[n] for n in spec.action.names])
        return Series(np.array(stamps, dtype=np.int64), np.array(rows).reshape(-1, len(spec.action.names)))

    def verdicts(self, spec: Spec) -> Verdicts:
        """Everything the sentinel said."""
        width = len(spec.action.names)
        stamps, outcomes, codes, proposed = [], [], [], []
        for _, _, msg in self.messages("sentinel/verdict"):
            stamps.append(stamp_ns(msg.header.stamp))
            outcomes.append(msg.outcome)
            codes.append(tuple(msg.codes))
            proposed.append(list(msg.proposed) if len(msg.proposed) == width else [np.nan] * width)
        return Verdicts(
            np.array(stamps, dtype=np.int64),
            np.array(outcomes, dtype=np.int64),
            tuple(codes),
            np.array(proposed).reshape(-1, width),
        )

    def _record(self, name: str) -> dict[str, str]:
        with self._file.open("rb") as stream:
            for record in make_reader(stream).iter_metadata():
                if record.name == name:
                    return dict(record.metadata)
        raise EpisodeError(f"{self.folder} holds no {name!r}; was it recorded by optr?")


def count_violations(spec: Spec, commands: Series, tolerance: float = 1e-6) -> int:
    """Commands outside the position, speed or acceleration limits of a spec.

    Shares no code with the guard: speeds and accelerations are differences over the stamps of the commands.
    """
    limits, q = spec.limits, commands.values
    outside = ((q < limits.low - tolerance) | (q > limits.high + tolerance)).any(axis=1)
    dt = np.diff(commands.stamps_ns)[:, None] * 1e-9
    if (dt <= 0).any():
        raise EpisodeError("the stamps of the commands do not grow")
    speed = np.diff(q, axis=0) / dt
    fast = (np.abs(speed) > limits.velocity * (1 + 1e-6) + tolerance).any(axis=1)
    period = spec.period_ns * 1e-9
    jump = np.abs(np.diff(speed, axis=0))
    hard = (jump > limits.acceleration * np.maximum(dt[1:], period) * (1 + 1e-6) + tolerance).any(axis=1)
    return int(outside.sum() + fast.sum() + hard.sum())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
