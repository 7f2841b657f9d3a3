"""Which part of a rectangle others leave free."""

from __future__ import annotations

from collections.abc import Sequence

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.rects import overlap


def largest_free(rect: Rect, covers: Sequence[Rect]) -> Rect | None:
    """The largest rectangle of those that are left when others are cut off one by one; None: nothing is left."""
    parts = [rect]
    for cover in covers:
        parts = [piece for part in parts for piece in _cut(part, cover)]
    return max(parts, key=lambda p: p.width * p.height, default=None)


def _cut(part: Rect, cover: Rect) -> list[Rect]:
    """What stays of a rectangle left, right, above and below another; the four may overlap."""
    both = overlap(part, cover)
    if both is None:
        return [part]
    right, bottom = part.x + part.width, part.y + part.height
    pieces = [
        Rect(part.x, part.y, both.x - part.x, part.height),
        Rect(both.x + both.width, part.y, right - both.x - both.width, part.height),
        Rect(part.x, part.y, part.width, both.y - part.y),
        Rect(part.x, both.y + both.height, part.width, bottom - both.y - both.height),
    ]
    return [p for p in pieces if p.width > 0 and p.height > 0]
