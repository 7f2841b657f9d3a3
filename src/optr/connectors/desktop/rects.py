"""What several rectangles have in common, what is around them, and what lies between two pixels."""

from __future__ import annotations

from collections.abc import Sequence

from optr.connectors.desktop.actions import Rect

Pixel = tuple[int, int]


def between(start: Pixel, end: Pixel) -> list[Pixel]:
    """Every pixel of the straight line between two others."""
    (ax, ay), (bx, by) = start, end
    steps = max(abs(bx - ax), abs(by - ay), 1)
    return [(round(ax + (bx - ax) * n / steps), round(ay + (by - ay) * n / steps)) for n in range(1, steps)]


def overlap(a: Rect, b: Rect) -> Rect | None:
    """What two rectangles have in common; None: nothing."""
    x, y = max(a.x, b.x), max(a.y, b.y)
    right, bottom = min(a.x + a.width, b.x + b.width), min(a.y + a.height, b.y + b.height)
    return Rect(x, y, right - x, bottom - y) if right > x and bottom > y else None


def around(rects: Sequence[Rect]) -> Rect | None:
    """The smallest rectangle around several; None: there are none."""
    if not rects:
        return None
    x, y = min(r.x for r in rects), min(r.y for r in rects)
    return Rect(x, y, max(r.x + r.width for r in rects) - x, max(r.y + r.height for r in rects) - y)
