"""What several rectangles have in common, and what is around them."""

from __future__ import annotations

from collections.abc import Sequence

from optr.connectors.desktop.actions import Rect


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
