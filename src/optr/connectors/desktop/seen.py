"""What is seen of a desktop: windows, elements, pictures. Values only; who makes them is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.actions import Rect


@dataclass(frozen=True)
class Monitor:
    """A monitor: its name, where it lies on the screen [px], and whether it is the first one."""

    name: str
    rect: Rect
    primary: bool = False


@dataclass(frozen=True)
class Window:
    """A window of a program, as the window manager knows it.

    Attributes:
        id: Of the client window in X.
        title: Of now.
        wm_class: Class, then instance (WM_CLASS), for example `("Galculator", "galculator")`.
        pid: Of its process; 0: it does not tell.
        rect: Inside of its frame, on the whole screen [px].
        outer: With its frame [px].
        focused: Whether it has the keyboard.
        layer: Place in the order of what lies over what; 0 is the lowest.
        visible: Whether it is mapped, on this workspace and not minimised.
        frame: Id of the child of the root window in X that it is in; itself, if nobody has framed it.
        inner: What X says of its place, with the shadow that it may have [px]; None: unknown.
        managed: Whether the window manager knows it; menus and hints it does not.
    """

    id: int
    title: str
    wm_class: tuple[str, str]
    pid: int
    rect: Rect
    outer: Rect
    focused: bool
    layer: int
    visible: bool
    frame: int = 0
    inner: Rect | None = None
    managed: bool = True


def top_at(windows: Iterable[Window], pixel: tuple[int, int]) -> Window | None:
    """The visible window that lies on top at a pixel, frames included; None: the root window."""
    here = (w for w in windows if w.visible and (w.outer.holds(*pixel) or w.rect.holds(*pixel)))
    return max(here, key=lambda w: w.layer, default=None)


def named(windows: Iterable[Window], text: str) -> tuple[Window, ...]:
    """Managed windows with this id or title, else those whose title or class holds the text, whatever its case.

    Where no window manager is, every window counts.
    """
    known = tuple(windows)
    known = tuple(w for w in known if w.managed) or known
    wanted = text.casefold()
    exact = tuple(w for w in known if text in (str(w.id), hex(w.id), w.title))
    return exact or tuple(w for w in known if any(wanted in t.casefold() for t in (w.title, *w.wm_class)))


@dataclass(frozen=True)
class Element:
    """A thing on the screen that has a role and a name: a button, an input, a word that was read.

    Attributes:
        role: As ARIA has it where there is such a role (`button`, `textbox`, `link`, `checkbox`, `menuitem`, ...).
        name: Its label.
        value: Text or number in it; empty: none.
        rect: On the whole screen [px]; what is scrolled out of sight has none.
        states: `enabled`, `focused`, `checked`, `selected`, `editable`, `expanded`, `visible`, ...; sorted.
        actions: Names of what can be invoked.
        source: Who says so: `accessibility`, `devtools`, `ocr`, `image`.
        window: Id of its window; 0: unknown.
        reference: How its source finds it again.
        confidence: 0 to 1; 1 where it is not guessed.
    """

    role: str
    name: str
    value: str = ""
    rect: Rect | None = None
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    source: str = "accessibility"
    window: int = 0
    reference: str = ""
    confidence: float = 1.0


@dataclass(frozen=True)
class Elements:
    """A list of elements, and whether it is all of them.

    Attributes:
        items: In the order of the tree.
        truncated: Why there are not more; empty: these are all.
        stamp_ns: When they were asked for [ns of the steady clock].
    """

    items: tuple[Element, ...]
    truncated: str = ""
    stamp_ns: int = 0


@dataclass(frozen=True)
class Picture:
    """Pixels of a part of the screen.

    Attributes:
        pixels: RGB, uint8, shape (height, width, 3), contiguous, not to be changed.
        rect: Where they are on the whole screen [px].
        stamp_ns: When they were taken [ns of the steady clock].
    """

    pixels: npt.NDArray[np.uint8]
    rect: Rect
    stamp_ns: int
