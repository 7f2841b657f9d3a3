"""In which windows of X the elements of a program are: accessibility does not know."""

from __future__ import annotations

from collections.abc import Sequence

from optr.connectors.desktop.accessibility_bus import Bus, CacheItem, Call, Reference
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.roles import role_name
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.tree_reader import Nodes

COMPONENT = "org.a11y.atspi.Component"
_SCREEN_PIXELS = 0
_TOPS = frozenset({"window", "dialog", "alert"})
_POP_UP = frozenset({"menu", "listbox", "tooltip", "combobox"})


class Owners:
    """Tells in which windows the nodes of one program are."""

    def __init__(self, bus: Bus, nodes: Nodes, windows: Sequence[Window], depth: int) -> None:
        self._bus = bus
        self._nodes = nodes
        self._depth = depth
        self._own = [w for w in windows if w.visible and w.pid and w.pid == nodes.program.pid]
        self._known: dict[Reference, Window | None] = {}

    def top(self, item: CacheItem) -> Window | None:
        """The window with the title of the uppermost ancestor."""
        line = [item, *self._nodes.ancestors(item, self._depth)]
        tops = [i for i in line if role_name(i.role) in _TOPS] or line[-1:]
        uppermost = tops[-1]
        if uppermost.reference not in self._known:
            titled = [w for w in self._own if w.title == uppermost.name] or self._own
            self._known[uppermost.reference] = titled[0] if len(titled) == 1 else self._placed(uppermost, titled)
        return self._known[uppermost.reference]

    def drawn(self, item: CacheItem, rect: Rect | None) -> int:
        """Id of the window with its pixels: those of an open menu are in a window of their own. 0: unknown."""
        top = self.top(item)
        if top is None:
            return 0
        above = {role_name(i.role) for i in self._nodes.ancestors(item, self._depth)}
        if rect is None or not above & _POP_UP:
            return top.id
        holding = [w for w in self._own if w.layer > top.layer and w.rect.holds(*rect.centre)]
        return max(holding, key=lambda w: w.layer, default=top).id

    def _placed(self, uppermost: CacheItem, windows: Sequence[Window]) -> Window | None:
        """Of several windows that may be meant, the one that lies where the element says that it does."""
        answer = self._bus.call_many([extents(uppermost.reference)])[0]
        place = rect_of(answer.body[0] if answer.body else None)
        inside = [w for w in windows if place and place.width > 1 and w.outer.holds(*place.centre)]
        return max(inside, key=lambda w: _shared(w.outer, place), default=None)


def _shared(a: Rect, b: Rect | None) -> float:
    """Common area of two rectangles against that of both, 0 to 1."""
    both = overlap(a, b) if b else None
    if b is None or both is None:
        return 0.0
    area = both.width * both.height
    return area / (a.width * a.height + b.width * b.height - area)


def extents(reference: Reference) -> Call:
    """Asks where an element is on the screen."""
    return Call(reference, COMPONENT, "GetExtents", "u", (_SCREEN_PIXELS,))


def rect_of(told: tuple[int, int, int, int] | None) -> Rect | None:
    """A place [px]; None: it has none, or lies nowhere."""
    if told is None:
        return None
    x, y, width, height = told
    return Rect(x, y, width, height) if width > 0 and height > 0 and min(x, y) > -(2**30) else None
