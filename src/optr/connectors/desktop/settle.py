"""What came of an input: waited for by what is drawn, judged by the pixels, without fixed pauses."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.damage import Drawn
from optr.connectors.desktop.rects import around, overlap
from optr.connectors.desktop.screen import Screen

_REMEMBERED_NS = 5_000_000_000
_APART_NS = 250_000_000
_OFTEN = 3


@dataclass(frozen=True)
class Patience:
    """How long it is waited for what an input leads to.

    Attributes:
        effect_s: For the first pixel that changes [s].
        quiet_s: How long nothing may be drawn until it has settled [s].
        settle_s: The longest for that [s]: a film never settles.
        hover_s: How long what the pointer does by being there is waited for [s].
        focus_s: How long a window may take to get the keyboard [s].
        element_s: How long an element may take to have it after a click [s]: a busy browser was seen to take 1.4.
    """

    effect_s: float = 0.5
    quiet_s: float = 0.03
    settle_s: float = 2.0
    hover_s: float = 0.006
    focus_s: float = 2.0
    element_s: float = 5.0


@dataclass(frozen=True)
class Before:
    """The screen before an input.

    Attributes:
        pixels: As the X server has them, shape (height, width, 4).
        restless: Places that change by themselves.
    """

    pixels: npt.NDArray[np.uint8]
    restless: tuple[Rect, ...]


@dataclass(frozen=True)
class After:
    """What changed.

    Attributes:
        changed: Around all pixels that are not as before, without restless places; None: there are none.
        first_ns: When the first of it was drawn [ns of the steady clock]; 0: never.
        restless: Whether pixels changed where they do so by themselves.
    """

    changed: Rect | None
    first_ns: int = 0
    restless: bool = False


class Settling:
    """Sees what comes of inputs on a screen. Used by one thread at a time."""

    def __init__(self, screen: Screen, patience: Patience) -> None:
        self.patience = patience
        self._screen = screen
        self._idle_ns = time.monotonic_ns()

    def hover(self, since_ns: int) -> None:
        """Wait until what the pointer changes by being somewhere is drawn; hardly anything does."""
        if self._screen.damage.wait(bool, since_ns, self.patience.hover_s):
            self._quiet(since_ns, (), since_ns + 10 * _ns(self.patience.hover_s), _ns(self.patience.hover_s))

    def before(self) -> Before:
        """Look, right before the input."""
        return Before(self._screen.grab_bgrx(), self._restless())

    def after(self, before: Before, since_ns: int, cancelled: threading.Event) -> After:
        """Wait for an effect and until it has settled.

        Args:
            before: What was there.
            since_ns: When the input began [ns of the steady clock].
            cancelled: Set when nobody waits any more; `DamageWatch.wake` goes with it.
        """
        begun = seen = time.monotonic_ns()
        settle_ns = begun + _ns(self.patience.settle_s)
        result = After(None)
        while result.changed is None and not cancelled.is_set():
            left_s = (begun + _ns(self.patience.effect_s) - time.monotonic_ns()) * 1e-9
            news_since = since_ns if seen == begun else seen
            if not self._drawn(before.restless, news_since, max(left_s, 0.0), cancelled):
                break
            seen = self._quiet(since_ns, before.restless, settle_ns, _ns(self.patience.quiet_s), cancelled)
            result = self._compared(before, since_ns)
        if result.changed is None:
            result = self._compared(before, since_ns)
        self._idle_ns = time.monotonic_ns()
        return result

    def still(self, rect: Rect, still_s: float, timeout_s: float, cancelled: threading.Event) -> bool:
        """Wait until nothing was drawn in a part of the screen for a time, from now on or from before."""
        deadline = time.monotonic() + timeout_s
        damage = self._screen.damage
        while not cancelled.is_set():
            now = time.monotonic_ns()
            if now - damage.since_ns < _ns(still_s):
                last = damage.since_ns
            else:
                last = max((d.stamp_ns for d in damage.drawn(now - _ns(still_s)) if overlap(d.rect, rect)), default=0)
            if not last:
                return True
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            rest_s = still_s - (now - last) * 1e-9
            damage.wait(lambda _: cancelled.is_set(), now, min(rest_s + 1e-4, left_s))
        return False

    def _drawn(self, restless: Sequence[Rect], since_ns: int, timeout_s: float, cancelled: threading.Event) -> bool:
        """Wait until something else than what is restless is drawn."""
        self._screen.damage.wait(lambda d: cancelled.is_set() or _other(d, restless) > 0, since_ns, timeout_s)
        return not cancelled.is_set() and _other(self._screen.damage.drawn(since_ns), restless) > 0

    def _quiet(
        self,
        since_ns: int,
        restless: Sequence[Rect],
        until_ns: int,
        quiet_ns: int,
        cancelled: threading.Event | None = None,
    ) -> int:
        """Wait until nothing but what is restless was drawn for a time; when the last was drawn [ns]."""
        while True:
            last = _other(self._screen.damage.drawn(since_ns), restless) or since_ns
            now = time.monotonic_ns()
            left = min(last + quiet_ns, until_ns) - now
            if left <= 0 or (cancelled is not None and cancelled.is_set()):
                return last
            self._screen.damage.wait(lambda d: _other(d, restless) > 0, last, left * 1e-9)

    def _restless(self) -> tuple[Rect, ...]:
        times: dict[Rect, list[int]] = defaultdict(list)
        for drawn in self._screen.damage.drawn(max(self._idle_ns, time.monotonic_ns() - _REMEMBERED_NS)):
            times[drawn.rect].append(drawn.stamp_ns)
        now = time.monotonic_ns()
        return tuple(rect for rect, stamps in times.items() if _goes_on(stamps, now))

    def _compared(self, before: Before, since_ns: int) -> After:
        drawn = self._screen.damage.drawn(since_ns)
        where = around([part for d in drawn if (part := overlap(d.rect, self._screen.rect))])
        if where is None:
            return After(None)
        now = self._screen.grab_bgrx(where)
        rows = slice(where.y, where.y + where.height), slice(where.x, where.x + where.width)
        differs = (now[..., :3] != before.pixels[rows][..., :3]).any(axis=2)
        everywhere = bool(differs.any())
        for rect in before.restless:
            if part := overlap(rect, where):
                y, x = part.y - where.y, part.x - where.x
                differs[y : y + part.height, x : x + part.width] = False
        changed = _bounds(differs, where)
        first = min((d.stamp_ns for d in drawn if changed and overlap(d.rect, changed)), default=0)
        return After(changed, first, everywhere and changed is None)


def _other(drawn: Sequence[Drawn], restless: Sequence[Rect]) -> int:
    """When the last was drawn that is not inside a restless place [ns]; 0: nothing."""
    return max((d.stamp_ns for d in drawn if not any(_inside(d.rect, r) for r in restless)), default=0)


def _goes_on(stamps: Sequence[int], now: int) -> bool:
    """Whether something is drawn again and again and the next time is not overdue: a caret, a clock, a film.

    A page that has loaded was drawn several times too, but not any more.
    """
    gaps = [b - a for a, b in pairwise([*stamps])]
    return len(stamps) >= _OFTEN and stamps[-1] - stamps[0] > _APART_NS and now - stamps[-1] < 1.5 * max(gaps)


def _inside(inner: Rect, outer: Rect) -> bool:
    return overlap(inner, outer) == inner


def _bounds(mask: npt.NDArray[np.bool_], where: Rect) -> Rect | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    x, y = int(columns[0]), int(rows[0])
    return Rect(where.x + x, where.y + y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
