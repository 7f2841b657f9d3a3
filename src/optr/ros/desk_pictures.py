"""Pictures of a screen, its monitors or windows as topics: only when something has changed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.screen import overlap
from optr.connectors.desktop.seen import Picture
from optr.connectors.desktop.sight import DeskSight
from optr.errors import DesktopError
from optr.ros.convert import time_to_msg
from optr.ros.desk_convert import picture_to_msg
from optr.ros.qos import SCREEN_QOS
from optr.sentinel.desk_rules import like

_AGAIN_S = 1.0


@dataclass
class _Stream:
    """One topic: what it shows, and what was shown last."""

    publisher: Any
    last: Picture | None = field(default=None)


class DeskPictures:
    """Owns a thread that takes pictures when something was drawn, and publishes those that differ from the last.

    A window is shown as it is on the screen, with what lies over it.

    Attributes:
        told: How many pictures were published.
        error: Why none are any more; empty: they are.
    """

    def __init__(self, node: Any, sight: DeskSight, images: str, windows: str, rate_hz: float) -> None:
        """Begin.

        Args:
            node: The desktop node; `at_ns` makes its times of those of the steady clock.
            sight: Of the display.
            images: `screen`, `monitors` or `none`.
            windows: Class or title of windows, `*` for anything; empty: none.
            rate_hz: At most so many pictures of a kind [Hz].
        """
        self._node, self._sight, self._images, self._pattern = node, sight, images, windows
        self._period_s = 1.0 / rate_hz
        self.told, self.error = 0, ""
        self._streams: dict[str, _Stream] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="desktop-pictures", daemon=True)
        if images != "none" or windows:
            self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._sight.screen.damage.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        damage = self._sight.screen.damage
        try:
            while not self._ended.is_set():
                looked_ns = time.monotonic_ns()
                self._take()
                self._ended.wait(self._period_s - (time.monotonic_ns() - looked_ns) * 1e-9)
                damage.wait(lambda drawn: bool(drawn) or self._ended.is_set(), looked_ns, _AGAIN_S)
        except DesktopError as err:
            self.error = str(err)

    def _take(self) -> None:
        wanted = dict(self._wanted())
        for frame in self._streams.keys() - wanted.keys():
            self._node.destroy_publisher(self._streams.pop(frame).publisher)
        for frame, rect in wanted.items():
            stream = self._streams.get(frame)
            if stream is None:
                stream = _Stream(self._node.create_publisher(Image, _topic(frame), SCREEN_QOS))
                self._streams[frame] = stream
            self._show(stream, frame, rect)

    def _wanted(self) -> Iterable[tuple[str, Rect]]:
        """What there shall be pictures of, by frame."""
        screen = self._sight.screen
        if self._images == "screen":
            yield "screen", screen.rect
        elif self._images == "monitors":
            yield from ((f"monitor:{m.name}", m.rect) for m in screen.monitors())
        if self._pattern:
            for w in self._sight.windows.all():
                shown = overlap(w.rect, screen.rect)
                if w.visible and shown and any(like(t, self._pattern) for t in (*w.wm_class, w.title)):
                    yield f"window:{w.id}", shown

    def _show(self, stream: _Stream, frame: str, rect: Rect) -> None:
        """Publish what is there, if it is something else than was shown last."""
        screen, last = self._sight.screen, stream.last
        if last is not None and last.rect == rect and screen.changed_since(last.stamp_ns, rect) is None:
            return
        stream.last = now = screen.grab(rect)
        if last is not None and last.rect == rect and np.array_equal(now.pixels, last.pixels):
            return  # drawn again as it was
        stamp = time_to_msg(self._node.at_ns(now.stamp_ns))
        stream.publisher.publish(picture_to_msg(now, frame, stamp))
        self.told += 1


def _topic(frame: str) -> str:
    """`screen/image_raw`, `monitor/HDMI_1/image_raw`, `window/id_123/image_raw`: no part may begin with a digit."""
    kind, _, name = frame.partition(":")
    if not name:
        return f"{kind}/image_raw"
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"{kind}/id_{plain}/image_raw" if plain[0].isdigit() else f"{kind}/{plain}/image_raw"
