"""What an input rests on: the windows as they were judged, looked at once more in the moment that it is given.

Whoever gives the input holds the X server meanwhile, so that no window moves between the look and the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optr.connectors.desktop.seen import Window, top_at

Pixel = tuple[int, int]


@dataclass(frozen=True)
class Footing:
    """The windows that an action was judged by; each question is answered with what is wrong, or nothing.

    Attributes:
        pixels: Where the pointer acts, each with the id of the window that has to lie there on top; 0: none.
        keyboard: Id of the window that has to have the keyboard when keys are given; 0: none has.
        windows: As they were seen, by their ids.
    """

    pixels: Mapping[Pixel, int]
    keyboard: int = 0
    windows: Mapping[int, Window] = field(default_factory=dict)

    def wrong_at(self, display: Any, pixel: Pixel | None = None) -> str:
        """About the pointer at a pixel; None: where it is."""
        root = display.screen().root
        here = pixel is None
        if pixel is None:
            found = root.query_pointer()
            pixel = int(found.root_x), int(found.root_y)
        else:
            found = root.translate_coords(root, *pixel)
        if pixel not in self.pixels:
            if here:
                return f"the pointer is at {pixel}, where this action does not act: somebody else moves it, too"
            return f"nobody has judged pixel {pixel}"
        return self._wrong_top(display, pixel, self.pixels[pixel], found)

    def wrong_on_the_way(self, display: Any, pixel: Pixel) -> str:
        """About a pixel that the pointer passes with a button down.

        Mostly the window on which the button was pressed is told of it; where that has let go, the one that lies there.
        """
        expected = top_at(self.windows.values(), pixel)
        root = display.screen().root
        found = root.translate_coords(root, *pixel)
        there = self._framed(found)
        if (
            there is not None
            and there.inner is not None
            and there.inner.holds(*pixel)
            and not there.outer.holds(*pixel)
        ):
            return self.wrong_place(display, there.id)  # its shadow, below which others show
        return self._wrong_top(display, pixel, expected.id if expected else 0, found)

    def _framed(self, found: Any) -> Window | None:
        """The window that X has found, if it was there before."""
        return next((w for w in self.windows.values() if found.child and w.frame == int(found.child.id)), None)

    def _wrong_top(self, display: Any, pixel: Pixel, expected: int, found: Any) -> str:
        """About the window on top at a pixel, as X has found it."""
        top = int(found.child.id) if found.child else 0
        frame = self.windows[expected].frame if expected else 0
        if top == frame:
            return self.wrong_place(display, expected)
        there = self._framed(found)
        named = f"{there.id} {there.title!r}" if there else f"{top or 'none'}"
        return f"at pixel {pixel} there is not window {expected} any more, but {named}"

    def place_in(self, number: int, pixel: Pixel) -> Pixel | None:
        """Where a pixel lies in a window as it was judged, from its upper left corner; None: nobody knows."""
        window = self.windows.get(number)
        inner = None if window is None else window.inner
        return None if inner is None else (pixel[0] - inner.x, pixel[1] - inner.y)

    def wrong_place(self, display: Any, number: int) -> str:
        """About where a window lies and how large it is."""
        from Xlib.error import XError

        window = self.windows.get(number)
        if window is None or window.inner is None:
            return ""
        client = display.create_resource_object("window", number)
        try:
            shape, place = client.get_geometry(), display.screen().root.translate_coords(client, 0, 0)
        except XError:
            return f"window {number} {window.title!r} is gone"
        now = int(place.x), int(place.y), int(shape.width), int(shape.height)
        was = window.inner
        if now == (was.x, was.y, was.width, was.height):
            return ""
        return f"window {number} {window.title!r} is not where it was: at {now[:2]} instead of {(was.x, was.y)}"

    @staticmethod
    def is_lost(display: Any, number: int) -> bool:
        """Whether a window is gone or hidden: the X server takes the pointer from it then, also with a button down."""
        from Xlib import X
        from Xlib.error import XError

        try:
            attributes = display.create_resource_object("window", number).get_attributes()
        except XError:
            return True
        return bool(attributes.map_state != X.IsViewable)

    def wrong_keyboard(self, display: Any) -> str:
        """About who gets keys."""
        from Xlib.error import XError

        holder = display.get_input_focus().focus
        try:
            while not isinstance(holder, int) and holder.id not in self.windows:
                holder = holder.query_tree().parent
        except XError:
            holder = 0
        now = 0 if isinstance(holder, int) else int(holder.id)
        return (
            "" if now == self.keyboard else f"not window {self.keyboard} has the keyboard any more, but {now or 'none'}"
        )
