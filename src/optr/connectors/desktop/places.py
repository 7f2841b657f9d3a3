"""From places as they are written to pixels of the screen."""

from __future__ import annotations

from optr.connectors.desktop.actions import SCREEN, Rect
from optr.connectors.desktop.screen import Screen
from optr.connectors.desktop.windows import Windows
from optr.errors import DesktopError


def frame_rect(frame: str, screen: Screen, windows: Windows) -> Rect:
    """Where a frame lies on the screen now.

    Raises:
        DesktopError: If there is no such monitor or window, or it is minimised.
    """
    if frame == SCREEN:
        return screen.rect
    kind, _, name = frame.partition(":")
    if kind == "monitor":
        monitors = screen.monitors()
        for monitor in monitors:
            if monitor.name == name:
                return monitor.rect
        raise DesktopError(f"there is no monitor {name!r}; there are: {', '.join(m.name for m in monitors)}")
    window = windows.get(int(name))
    if not window.visible:
        raise DesktopError(f"the window {window.id} {window.title!r} is minimised or on another workspace")
    return window.rect


def beside_corner(pixel: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """A pixel that no fail-safe lies on: the four corners are for people, who stop everything there."""
    x, y = pixel
    if x in (0, size[0] - 1) and y in (0, size[1] - 1):
        return (1 if x == 0 else x - 1), y
    return pixel
