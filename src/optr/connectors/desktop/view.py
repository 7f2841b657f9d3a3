"""A desktop at one moment, as far as it has to be known to aim at it and to judge it; and where a place lies on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from optr.connectors.desktop.actions import SCREEN, Point, Rect, Selector, Target
from optr.connectors.desktop.seen import Element, Monitor, Window, named, top_at
from optr.errors import DesktopError

Pixel = tuple[int, int]
"""A pixel of the whole screen, from its upper left corner."""

_SLACK = 1e-6
"""Of a pixel: 0.29 times 100 is 28.999999999999996, and pixel 29 is meant."""


def pixel_in(rect: Rect, x: float, y: float) -> Pixel:
    """The pixel of a rectangle that holds a place in it, 0 to 1 each way."""
    across = min(math.floor(x * rect.width + _SLACK), rect.width - 1)
    down = min(math.floor(y * rect.height + _SLACK), rect.height - 1)
    return rect.x + across, rect.y + down


def point_of(pixel: tuple[float, float], size: tuple[int, int], frame: str = SCREEN) -> Point:
    """The middle of a pixel of a picture of `size` (width, height), as a place in the frame that it shows.

    The same pixel comes out of `pixel_in` where the frame is as large as the picture.

    Raises:
        DesktopError: If the pixel lies outside of the picture.
    """
    width, height = size
    x, y = pixel
    if not (0 <= x < width and 0 <= y < height):
        raise DesktopError(f"pixel ({x:g}, {y:g}) lies outside of the picture of {width} x {height}")
    return Point((int(x) + 0.5) / width, (int(y) + 0.5) / height, frame, (width, height))


@dataclass(frozen=True)
class DeskView:
    """What there is on a desktop, at one moment.

    Attributes:
        screen: All monitors together [px].
        windows: Every window that can be seen or clicked, menus and tooltips too; no two of one layer.
        monitors: By RandR.
        pointer: Where the pointer is; None: unknown.
        under: The element under the pointer, where it is known.
        focus: The element that has the keyboard, where it is known.
        reachable: Elements to act on which may be irreversible, and to which the keys of an action may come: by Tab,
            by a mnemonic, or as what Enter presses.
        found: What lies at a target: what each selector was resolved to, and elements known at points.
        stamp_ns: When it was seen [ns of the steady clock].
    """

    screen: Rect
    windows: tuple[Window, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    pointer: Pixel | None = None
    under: Element | None = None
    focus: Element | None = None
    reachable: tuple[Element, ...] = ()
    found: Mapping[Target, Element] = field(default_factory=dict)
    stamp_ns: int = 0

    def pixel(self, target: Target) -> Pixel:
        """Where a target lies.

        Raises:
            DesktopError: If its frame is not there, the selector was not resolved, or it is outside of the screen.
        """
        if isinstance(target, Selector):
            pixel = self._rect_of(target).centre
        else:
            pixel = pixel_in(self.frame(target.frame), target.x, target.y)
        if not self.screen.holds(*pixel):
            raise DesktopError(f"pixel {pixel} lies outside of the screen, {self.screen}")
        return pixel

    def frame(self, name: str) -> Rect:
        """The rectangle of a frame: `screen`, `monitor:NAME`, or the inside of `window:ID`.

        Raises:
            DesktopError: If there is none of that name, or the window is not visible.
        """
        kind, _, which = name.partition(":")
        if name == SCREEN:
            return self.screen
        if kind == "monitor":
            rects = {m.name: m.rect for m in self.monitors}
        else:
            rects = {str(w.id): w.rect for w in self.windows if w.visible}
        rect = rects.get(which)
        if rect is None or rect.width < 1 or rect.height < 1:
            raise DesktopError(f"no {kind} {which!r} can be seen; there are: {', '.join(rects) or 'none'}")
        return rect

    def top(self, pixel: Pixel) -> Window | None:
        """The visible window that a click there reaches, frames included; None: the root window."""
        top = top_at(self.windows, pixel)
        return None if top is None else self._classed(top)

    @property
    def focused(self) -> Window | None:
        """The window that has the keyboard."""
        return next((w for w in self.windows if w.focused), None)

    def window(self, window_id: int) -> Window | None:
        """A window by its id."""
        return next((w for w in self.windows if w.id == window_id), None)

    def named(self, text: str) -> tuple[Window, ...]:
        """Windows that a text names, as `seen.named` says."""
        return named(self.windows, text)

    def wrong(self) -> str:
        """What contradicts itself in it; empty: nothing."""
        if self.screen.width < 1 or self.screen.height < 1:
            return f"the screen has no size: {self.screen}"
        if len({w.id for w in self.windows}) != len(self.windows):
            return "two windows have one id"
        if len({w.layer for w in self.windows if w.visible}) != sum(w.visible for w in self.windows):
            return "two visible windows have one layer: nobody can tell which is above the other"
        if sum(w.focused for w in self.windows) > 1:
            return "several windows have the keyboard"
        return ""

    def _classed(self, window: Window) -> Window:
        """A window; one without a class, such as a menu, has the class of its process, if there is one."""
        if any(window.wm_class) or not window.pid:
            return window
        classes = {w.wm_class for w in self.windows if w.pid == window.pid and any(w.wm_class)}
        return replace(window, wm_class=classes.pop()) if len(classes) == 1 else window

    def _rect_of(self, selector: Selector) -> Rect:
        element = self.found.get(selector)
        if element is None:
            raise DesktopError(f"nobody has looked for {selector.text!r}")
        if element.rect is None or element.rect.width < 1 or element.rect.height < 1:
            raise DesktopError(f"{selector.text!r} is {element.role} {element.name!r}, which is nowhere on the screen")
        return element.rect
