"""Eyes on one display: what a guard is shown before an action, and where what an action names lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.browser import Browsers
from optr.connectors.desktop.chords import where_keys_act
from optr.connectors.desktop.finder import Finder
from optr.connectors.desktop.ocr import Ocr
from optr.connectors.desktop.screen import Screen
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.view import DeskView, Pixel
from optr.connectors.desktop.windows import Windows
from optr.errors import DesktopError

if TYPE_CHECKING:
    from optr.connectors.desktop.tree import Tree
    from optr.connectors.desktop.tree_reader import Limits
    from optr.sentinel.desk_guard import DeskGuard

_LOOKS = 3
"""How often it is looked anew if a look took longer than what was seen stays fresh."""

_POINTED = (a.Click, a.Press, a.Release, a.Drag, a.Type)
_KEYED = (a.Type, a.Key, a.KeyDown, a.Hotkey)


Reach = Callable[[Window], bool]


class DeskSight:
    """Sees one display; it gives nothing back but what it has opened itself.

    Attributes:
        screen: Its pixels.
        windows: Its windows.
        tree: Accessibility; None: the desktop has none.
        browsers: Chromiums that were started with `home`.
        finder: Finds what selectors mean.
    """

    def __init__(
        self,
        screen: Screen,
        windows: Windows,
        bus: str,
        home: Path,
        may_reach: Reach,
        limits: Limits | None = None,
    ) -> None:
        """Take what is seen by.

        Args:
            screen: Of the display; whoever opened it closes it.
            windows: Of the same display; the same holds.
            bus: Address of the session's message bus; empty: there is none, and so no accessibility.
            home: Folder of the session.
            may_reach: Whether a window may be reached; in others nothing is looked up and no page is scrolled.
            limits: How much of accessibility is read.
        """
        self.screen = screen
        self.windows = windows
        self.tree = _tree(bus, windows, limits)
        self.browsers = Browsers(home, windows.all)
        self.finder = Finder(windows.all, self.tree, self.browsers, _ocr(), screen.grab, may_scroll=may_reach)
        self._may_reach = may_reach
        self._opened: tuple[Screen | Windows, ...] = ()

    @classmethod
    def open(cls, display: str, bus: str, home: Path, may_reach: Reach) -> DeskSight:
        """Eyes of one's own on a display.

        Raises:
            DesktopError: If it cannot be seen.
        """
        screen = Screen(display)
        try:
            windows = Windows(display)
        except BaseException:
            screen.close()
            raise
        self = cls(screen, windows, bus, home, may_reach)
        self._opened = (screen, windows)
        return self

    def look(self, action: Any, guard: DeskGuard) -> DeskView:
        """The desktop as it is now, with what lies where an action acts.

        Args:
            action: The action; None: none.
            guard: Who is to judge it: how fresh that has to be, which keys are down, what is irreversible.

        Raises:
            DesktopError: If what a selector of it means is not there, or not only once.
        """
        for _ in range(_LOOKS):
            stamp = time.monotonic_ns()
            found: dict[a.Target, Element] = {t: self.finder.reach(t) for t in selectors(action)}
            view = self.seen(stamp, found)
            found |= self._pointed_at(action, view, guard)
            view = replace(
                view,
                found=found,
                under=self._under(action, view),
                focus=self._focus(action, view),
                reachable=self._reachable(action, view, guard),
            )
            if (time.monotonic_ns() - stamp) * 1e-9 < guard.config.freshness.oldest:
                break
        return view

    def seen(self, stamp_ns: int = 0, found: dict[a.Target, Element] | None = None) -> DeskView:
        """Windows, monitors and pointer of now, without a look at elements.

        Args:
            stamp_ns: Since when it was looked [ns of the steady clock]; 0: now.
            found: What was found at targets since then.
        """
        return DeskView(
            self.screen.rect,
            self.windows.all(),
            self.screen.monitors(),
            self.screen.pointer(),
            found=found or {},
            stamp_ns=stamp_ns or time.monotonic_ns(),
        )

    def close(self) -> None:
        """Close what was opened here."""
        self.browsers.close()
        if self.tree is not None:
            self.tree.close()
        for part in self._opened:
            part.close()

    def _pointed_at(self, action: Any, view: DeskView, guard: DeskGuard) -> dict[a.Target, Element]:
        """What is at the places that an action names by numbers: a button that deletes is one there, too.

        Nothing is looked up where no name makes a difference: a long drag reads the tree for each of its places.
        """
        found: dict[a.Target, Element] = {}
        for target in targets(action) if guard.config.classes.elements and isinstance(action, _POINTED) else ():
            if isinstance(target, a.Point):
                with suppress(DesktopError):  # the guard says where it is not
                    if (element := self._element_at(view.pixel(target), view)) is not None:
                        found[target] = element
        return found

    def _under(self, action: Any, view: DeskView) -> Element | None:
        """The same, for an action that names no place and so acts where the pointer is."""
        where_it_is = isinstance(action, a.Click | a.Press | a.Release) and action.at is None
        return self._element_at(view.pointer, view) if where_it_is and view.pointer is not None else None

    def _may_ask(self, window: Window | None) -> TypeGuard[Window]:
        return window is not None and self._may_reach(window)

    def _element_at(self, pixel: Pixel, view: DeskView) -> Element | None:
        window = view.top(pixel)
        if self.tree is None or not self._may_ask(window):
            return None
        return self.tree.at(pixel, window, view.windows)

    def _focus(self, action: Any, view: DeskView) -> Element | None:
        if isinstance(action, a.Type) and action.into is not None:  # it will have the keyboard
            return None
        if not isinstance(action, _KEYED) or self.tree is None or not self._may_ask(view.focused):
            return None
        return self.tree.focused(view.focused, view.windows)

    def _reachable(self, action: Any, view: DeskView, guard: DeskGuard) -> tuple[Element, ...]:
        how = where_keys_act(_keys(action), guard.held.keys)
        into = action.into if isinstance(action, a.Type) else None
        window = view.focused
        if into is not None:
            with suppress(DesktopError):  # the guard says where it is not
                window = view.top(view.pixel(into))
        if not how or self.tree is None or not self._may_ask(window):
            return ()
        wanted = lambda _, name: guard.is_irreversible(name)  # noqa: E731
        found = self.tree.search("", wanted, window, view.windows).items
        return tuple(e for e in found if how == "any" or "default" in e.states)


def _keys(action: Any) -> Sequence[str]:
    """The keys that an action presses, one after the other."""
    if isinstance(action, a.Type):
        return tuple(action.text)
    if isinstance(action, a.Key | a.KeyDown):
        return (action.key,)
    return action.keys if isinstance(action, a.Hotkey) else ()


def targets(action: Any) -> tuple[a.Target, ...]:
    """Every place that an action names, in order."""
    values = (getattr(action, name, None) for name in ("to", "at", "into", "element"))
    path = getattr(action, "path", ())
    return tuple(
        v for v in (*values, *(path if isinstance(path, tuple) else ())) if isinstance(v, a.Point | a.Selector)
    )


def selectors(action: Any) -> tuple[a.Selector, ...]:
    """Those of its places that are named by what is there."""
    return tuple(t for t in targets(action) if isinstance(t, a.Selector))


def _tree(bus: str, windows: Windows, limits: Limits | None) -> Tree | None:
    from optr.connectors.desktop.tree import Tree

    with suppress(DesktopError):
        return Tree(bus, windows.all, limits) if bus else None
    return None


def _ocr() -> Ocr | None:
    with suppress(DesktopError):  # no tesseract: only what is looked for by its letters is not found
        return Ocr()
    return None
