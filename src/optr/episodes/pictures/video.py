"""What the cameras of an episode saw, side by side, as a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from optr.episodes.pictures.clock import EpisodeClock
from optr.episodes.read import EpisodeReader
from optr.errors import EpisodeError
from optr.spec import Feature, decoder, stamp_ns

Pixels = npt.NDArray[np.uint8]

_BAND = 22
_MOST_FPS = 60.0
_ENCODINGS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "mono8": 1}


def write_video(
    reader: EpisodeReader,
    path: Path,
    cameras: Mapping[str, Feature],
    speed: float = 1.0,
    title: str | None = None,
    measured: str = "joint_states",
) -> Path:
    """Write all cameras side by side as MP4 (H.264).

    Each picture shows what every camera had seen last at that time; black before its first.

    Args:
        reader: The episode.
        path: File to write.
        cameras: Features of the cameras by name, from left to right.
        speed: Seconds of the episode per second of the video.
        title: Text in a band below the pictures, with the time; None: no band.
        measured: Topic of the joint states, which say what time it is.

    Raises:
        EpisodeError: If there are no pictures, or the file cannot be written.
        ObservationError: If a picture is none.
    """
    if not cameras:
        raise EpisodeError(f"{reader.folder} has no pictures")
    canvas = _Canvas(cameras, title)
    rate = min(max(f.rate for f in cameras.values()) * speed, _MOST_FPS)
    times = canvas.moments(reader, cameras, measured)
    frames = ((t / speed, partial(canvas.draw, t)) for t in times)
    if not encode(path, (canvas.width, canvas.height), rate, frames):
        raise EpisodeError(f"{reader.folder} has no pictures")
    return path


def encode(path: Path, size: tuple[int, int], rate: float, frames: Iterable[tuple[float, Callable[[], Pixels]]]) -> int:
    """Write pictures as MP4 (H.264); answers how many. Without any, no file is left.

    Args:
        path: File to write.
        size: Width and height [px], even.
        rate: Usual number of pictures per second; they may come closer, up to 60.
        frames: Time [s] of each, growing, and what makes it.

    Raises:
        EpisodeError: If the file cannot be written.
    """
    beside = path.with_name(path.name + ".new")
    try:
        with av.open(str(beside), "w", format="mp4") as out:
            stream = out.add_stream("h264", rate=Fraction(max(1, round(rate * 1000)), 1000))
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.options = {"crf": "23", "preset": "veryfast"}
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            count, shown = 0, -1
            for time_s, draw in frames:
                at = round(time_s * 1000)
                if shown >= 0 and at - shown < 1000 / (_MOST_FPS * 1.05):
                    continue
                frame = av.VideoFrame.from_ndarray(draw(), format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, 1000)
                out.mux(stream.encode(frame))
                count, shown = count + 1, at
            out.mux(stream.encode(None))
        if count:
            beside.replace(path)
    except OSError as err:  # PyAV's errors of files are such too
        raise EpisodeError(f"cannot write {path}: {err.strerror or err}") from err
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return count


class _Canvas:
    def __init__(self, cameras: Mapping[str, Feature], title: str | None) -> None:
        self._title = title
        self._left: dict[str, int] = {}
        self._newest: dict[str, Pixels] = {}
        width = 0
        for name, feature in cameras.items():
            self._left[name] = width
            width += feature.shape[1]
        height = max(f.shape[0] for f in cameras.values()) + (_BAND if title is not None else 0)
        # H.264 with 4:2:0 wants even sizes.
        self.width, self.height = width + width % 2, height + height % 2

    def moments(self, reader: EpisodeReader, cameras: Mapping[str, Feature], measured: str) -> Iterator[float]:
        """Times [s] at which something new was seen; by then the canvas holds all that belongs to it."""
        decoders = {reader.resolve(f.topic): (name, decoder(f)) for name, f in cameras.items()}
        seconds = _clock(reader, measured)
        now, first = -1.0, None
        for topic, received, msg in reader.messages(*decoders):
            at = seconds(stamp_ns(msg.header.stamp), received)
            first = at if first is None else first
            # Cameras of one instant come one after the other: none is shown before the next instant begins.
            if at - first > now >= 0:
                yield now
            now = max(now, at - first)
            name, decode = decoders[topic]
            self._newest[name] = _rgb(decode(msg))
        if now >= 0:
            yield now

    def draw(self, time_s: float) -> Pixels:
        """The picture of a moment, shape (height, width, 3)."""
        canvas = np.zeros((self.height, self.width, 3), dtype=np.uint8)
        for name, pixels in self._newest.items():
            left = self._left[name]
            canvas[: pixels.shape[0], left : left + pixels.shape[1]] = pixels
        if self._title is not None:
            canvas[-_BAND:] = _text(f"{time_s:7.2f} s  {self._title}", self.width)
        return canvas


def _clock(reader: EpisodeReader, measured: str) -> Any:
    """Seconds since the first measurement, from a stamp and a time of receipt; without joint states from the latter."""
    stamps, received = [], []
    for _, at, msg in reader.messages(measured) if reader.has(measured) else ():
        stamps.append(stamp_ns(msg.header.stamp))
        received.append(at)
    if not stamps:
        return lambda _, at: at * 1e-9
    from optr.episodes.read import Series

    clock = EpisodeClock(
        Series(np.array(stamps, dtype=np.int64), np.empty((len(stamps), 0)), np.array(received, dtype=np.int64))
    )
    return lambda stamp, at: float(clock.seconds(np.array([stamp]), np.array([at]))[0])


def _rgb(pixels: Any) -> Pixels:
    shown = pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(shown)


def _text(text: str, width: int) -> Pixels:
    from PIL import Image, ImageDraw

    band = Image.new("RGB", (width, _BAND), (24, 24, 24))
    ImageDraw.Draw(band).text((6, 5), text, fill=(235, 235, 235))
    return np.asarray(band)


def cameras_of_topics(reader: EpisodeReader) -> dict[str, Feature]:
    """Cameras of a bag without a spec: every topic of raw images, with the size of its first."""
    out = {}
    for topic, kind in sorted(reader.topics().items()):
        if kind != "sensor_msgs/msg/Image" or not reader.has(topic):
            continue
        _, _, first = next(iter(reader.messages(topic)))
        depth = _ENCODINGS.get(str(first.encoding), 3)
        shape = (int(first.height), int(first.width), depth)
        key = f"observation.images.{topic.strip('/').replace('/', '_')}"
        out[topic] = Feature(key, topic, kind, shape, "uint8", 30.0, 1.0)
    return out
