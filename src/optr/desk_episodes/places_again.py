"""Finds places of a recorded desktop on that of now: by selector, by element, by looks, by the part of the window."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.image_match import find_image
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.roles import KNOWN
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.selectors import AbsentError, AmbiguousError
from optr.connectors.desktop.view import pixel_in
from optr.desk_episodes.episode import Anchor
from optr.desk_episodes.windows_again import WindowsAgain, words
from optr.errors import DesktopError

Pixels = npt.NDArray[np.uint8]

PATCH_HALF = (28, 14)
"""Half of the width and the height of a picture that a place is found again by [px]."""

LARGE_PX = 64
"""An element that is larger in a direction is met where it was met then; a smaller one in its middle [px]."""

CONTAINERS = frozenset({
    "generic", "none", "window", "desktop", "application", "dialog", "alertdialog", "alert", "document", "group",
    "region", "main", "navigation", "complementary", "banner", "contentinfo", "search", "form", "article", "feed",
    "list", "listbox", "table", "grid", "treegrid", "tree", "rowgroup", "toolbar", "menubar", "tablist", "tabpanel",
    "radiogroup", "directory", "terminal",
})  # fmt: skip
"""Roles of what only holds other things: they say nothing of a place in them."""

_AGAIN_S = 0.05
_TITLE_S = 3.0
"""How long it is waited for a window of the same title, before the only one of its class counts [s]."""
_MIDDLE = (0.5, 0.5)
_NAMELESS_S = 2.0
"""How long it is looked for how a place looks, before its part of the window counts [s]."""


class NotFoundError(DesktopError):
    """A place, or its window, is not there any more, and did not come."""


@dataclass(frozen=True)
class Found:
    """A place of now.

    Attributes:
        target: To be acted on.
        how: `selector`, `element`, `nearest of N elements`, `image`, `window`, `pixel`, or `number` for a place that
            was no place of a window.
    """

    target: a.Target
    how: str


class PlacesAgain:
    """Finds places again on one desk.

    Attributes:
        windows: Which window is which.
    """

    def __init__(self, desk: Desk, patience_s: float, *, pixels: bool = False) -> None:
        """Look at a desk.

        Args:
            desk: The desktop of now.
            patience_s: How long anything may take to come [s].
            pixels: Whether a place on the bare screen may be used as it was recorded, if nothing else is known of it.
        """
        self.windows = WindowsAgain()
        self._desk = desk
        self._patience_s = patience_s
        self._pixels = pixels

    def find(self, anchor: Anchor, patch: Pixels | None) -> Found:
        """A place, as soon as it is there.

        Raises:
            NotFoundError: If it does not come in time.
        """
        if isinstance(anchor.target, a.Selector):
            return Found(self._selector(anchor), "selector")
        window = self.window(anchor.window) if anchor.window is not None else None
        if window is not None and (selector := selector_of(anchor.element, window)) is not None:
            found = self._element(anchor, selector, window)
            if found is not None:
                return found
        if window is not None:
            found = self._image(anchor, patch, window)
            return found or Found(self._in_window(anchor, window), "window")
        return self._number(anchor)

    def window(self, recorded: Window) -> Window:
        """A window, as soon as it is there.

        Raises:
            NotFoundError: If it does not come in time.
        """
        bridge = self._desk.bridge
        titled_s = min(_TITLE_S, self._patience_s / 2)
        found: list[Window] = []
        for sure, wait_s in ((True, titled_s), (False, self._patience_s - titled_s)):

            def there(sure: bool = sure) -> bool:
                one = self.windows.find(recorded, bridge.windows.all(), sure)
                found[:] = [one] if one is not None else []
                return one is not None

            if bridge.windows.wait(there, wait_s):
                return found[0]
        listed = "; ".join(words(w) for w in bridge.windows.all() if w.visible) or "none"
        raise NotFoundError(f"no window like {words(recorded)} came in {self._patience_s:g} s; there are: {listed}")

    # One way after the other

    def _selector(self, anchor: Anchor) -> a.Target:
        assert isinstance(anchor.target, a.Selector)
        selector, window = anchor.target, None
        if selector.within is not None:
            if anchor.window is None:
                raise NotFoundError(f"nothing is known of window {selector.within} that {selector.text!r} was in")
            window = self.window(anchor.window)
            selector = replace(selector, within=window.id)
        try:
            element = self._there(selector)
        except AmbiguousError as err:
            raise NotFoundError(str(err)) from err
        return selector if anchor.share is None or window is None else _part(element, anchor.share, window)

    def _element(self, anchor: Anchor, selector: a.Selector, window: Window) -> Found | None:
        """By role and name; of several the one that is nearest to where it was in its window."""
        share = share_of(anchor)
        try:
            element = self._there(selector)
            return Found(selector if share is None else _part(element, share, window), "element")
        except AmbiguousError as err:
            near = _nearest(err.candidates, self._pixel(anchor, window))
            if near is None:
                return None
            place = _part(near, share or _MIDDLE, window)
            return Found(place, f"nearest of {len(err.candidates)} elements")
        except NotFoundError:
            if anchor.element is None or anchor.element.name:
                raise
            return None  # a thing without a name may have another role now

    def _there(self, selector: a.Selector) -> Element:
        """What a selector means, as soon as it means something.

        Raises:
            AmbiguousError: If it means several things.
            NotFoundError: If it means nothing in time.
        """
        problem = ""
        found: list[Element] = []

        def there() -> bool:
            nonlocal problem
            try:
                found.append(self._desk.finder.find(selector))
                return True
            except AbsentError as err:
                problem = str(err)
                return False

        try:
            if self._soon(there, self._patience_s):
                return found[-1]
        except AmbiguousError:
            raise
        except DesktopError as err:
            raise NotFoundError(str(err)) from err
        raise NotFoundError(f"{selector.text!r} did not come in {self._patience_s:g} s: {problem}")

    def _image(self, anchor: Anchor, patch: Pixels | None, window: Window) -> Found | None:
        """By how it looks, if that is to be seen once in the window."""
        if patch is None or anchor.pixel is None or anchor.window is None:
            return None
        before = _corner(anchor.pixel)
        found: list[a.Target] = []

        def there() -> bool:
            shown = overlap(window.rect, self._desk.bridge.screen.rect)
            with suppress(DesktopError):  # it is flat, or larger than the window
                matches = find_image(self._desk.bridge.screen.grab(shown), patch)
                if len(matches) == 1 and anchor.pixel is not None:
                    rect = matches[0].rect
                    x, y = anchor.pixel[0] - before[0], anchor.pixel[1] - before[1]
                    found[:] = [_point((rect.x + x, rect.y + y), window)]
            return bool(found)

        self._soon(there, min(_NAMELESS_S, self._patience_s))
        return Found(found[0], "image") if found else None

    def _in_window(self, anchor: Anchor, window: Window) -> a.Point:
        target = anchor.target
        if isinstance(target, a.Point) and target.frame.startswith("window:"):
            return replace(target, frame=f"window:{window.id}", seen=None)
        return _point(self._pixel(anchor, window), window)

    def _pixel(self, anchor: Anchor, window: Window) -> tuple[int, int]:
        """Where a place would be, if it had moved and grown with its window."""
        if anchor.pixel is None or anchor.window is None:
            return window.rect.centre
        was, now = anchor.window.rect, window.rect
        x = (anchor.pixel[0] - was.x) / max(1, was.width)
        y = (anchor.pixel[1] - was.y) / max(1, was.height)
        return round(now.x + x * now.width), round(now.y + y * now.height)

    def _number(self, anchor: Anchor) -> Found:
        if not self._pixels:
            raise NotFoundError(
                "nothing but its pixel on the screen is known of this place, which is used only if asked for (--pixels)"
            )
        if isinstance(anchor.target, a.Point) and not anchor.target.frame.startswith("window:"):
            return Found(anchor.target, "pixel")
        raise NotFoundError("not even its pixel on the screen is known of this place")

    def _soon(self, so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so; looked at whenever something was drawn, and now and then."""
        deadline = time.monotonic() + timeout_s
        while True:
            stamp = time.monotonic_ns()
            if so():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._desk.bridge.screen.damage.wait(bool, stamp, min(left, 0.2))
            time.sleep(min(left, _AGAIN_S))  # what draws all the time would be looked at all the time


def selector_of(element: Element | None, window: Window | None) -> a.Selector | None:
    """Role and name of an element as a selector in a window; None: it has too little of them, or holds other things."""
    if element is None or element.role not in KNOWN or element.role in CONTAINERS:
        return None
    if element.name:
        return a.Selector(f"role={element.role}[name={_quoted(element.name)}]", window.id if window else None)
    if element.actions or "editable" in element.states:
        return a.Selector(f"role={element.role}", window.id if window else None)
    return None


def share_of(anchor: Anchor) -> tuple[float, float] | None:
    """Which part of its element a place is, 0 to 1 each way; None: its middle will do, or nobody knows."""
    if anchor.share is not None or isinstance(anchor.target, a.Selector):
        return anchor.share
    rect = anchor.element.rect if anchor.element is not None else None
    if rect is None or anchor.pixel is None or max(rect.width, rect.height) <= LARGE_PX:
        return None
    if not rect.holds(*anchor.pixel):
        return None
    x, y = anchor.pixel
    return round((x + 0.5 - rect.x) / rect.width, 6), round((y + 0.5 - rect.y) / rect.height, 6)


def _part(element: Element, share: tuple[float, float], window: Window) -> a.Point:
    """A place in an element, as one of its window."""
    if element.rect is None:
        raise NotFoundError(f"{element.role} {element.name!r} is nowhere on the screen")
    return _point(pixel_in(element.rect, *share), window)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _point(pixel: tuple[int, int], window: Window) -> a.Point:
    rect = window.rect
    x, y = (pixel[0] + 0.5 - rect.x) / rect.width, (pixel[1] + 0.5 - rect.y) / rect.height
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise NotFoundError(f"the place {pixel} lies outside of its window {words(window)}")
    return a.Point(x, y, f"window:{window.id}")


def _corner(pixel: tuple[int, int]) -> tuple[int, int]:
    """Where a patch around a pixel begins."""
    return max(0, pixel[0] - PATCH_HALF[0]), max(0, pixel[1] - PATCH_HALF[1])


def _nearest(elements: tuple[Element, ...], pixel: tuple[int, int]) -> Element | None:
    def away(element: Element) -> float:
        assert element.rect is not None
        x, y = element.rect.centre
        return (x - pixel[0]) ** 2 + (y - pixel[1]) ** 2

    return min((e for e in elements if e.rect is not None), key=away, default=None)
