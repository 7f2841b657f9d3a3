"""What adapters have in common: pixels of a picture, texts, keys and numbers of actions, each checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

from optr.connectors.desktop.actions import SCREEN, DesktopAction, Point, Rect, Target
from optr.connectors.desktop.chords import key_name
from optr.connectors.desktop.codec import check_action, short
from optr.connectors.desktop.view import Pixel, pixel_in, point_of
from optr.errors import DesktopError

Actions = tuple[DesktopAction, ...]
Size = tuple[int, int]
"""Width and height of a picture [px]."""

_T = TypeVar("_T")


def checked(*actions: DesktopAction) -> Actions:
    """Actions that are sound.

    Raises:
        DesktopError: If one is not.
    """
    for action in actions:
        check_action(action)
    return actions


def number(value: Any, what: str) -> float:
    """A finite number.

    Raises:
        DesktopError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise DesktopError(f"{what} is {short(value)}, expected a number")
    return float(value)


def whole(value: Any, what: str) -> int:
    """A whole number, however it is written.

    Raises:
        DesktopError: If it is none.
    """
    found = number(value, what)
    if found != round(found):
        raise DesktopError(f"{what} is {found:g}, expected a whole number")
    return round(found)


def text(value: Any, what: str) -> str:
    """A text, with one spelling of the ends of lines.

    Raises:
        DesktopError: If it is none.
    """
    if not isinstance(value, str):
        raise DesktopError(f"{what} is {short(value)}, expected a text")
    return value.replace("\r\n", "\n").replace("\r", "\n")


def one_of(value: Any, known: dict[str, _T], what: str) -> _T:
    """What a word stands for.

    Raises:
        DesktopError: If it stands for nothing.
    """
    if not isinstance(value, str) or value not in known:
        raise DesktopError(f"{what} is {short(value)}, expected one of: {', '.join(known)}")
    return known[value]


def key(value: Any, what: str = "a key") -> str:
    """The one spelling of a key; a capital letter stays one.

    Raises:
        DesktopError: If there is none of that name.
    """
    name = text(value, what)
    return name if len(name) == 1 and name not in " \n\t" else key_name(name)


def place(x: Any, y: Any, size: Size) -> Point:
    """The middle of a pixel of the picture that was decided on; a place between pixels counts for its pixel.

    Raises:
        DesktopError: If it is no pixel of it.
    """
    return point_of((number(x, "x"), number(y, "y")), size)


def pair(value: Any, size: Size, what: str) -> Point:
    """The same for `[x, y]`.

    Raises:
        DesktopError: If it is none, or no pixel of the picture.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DesktopError(f"{what} is {short(value)}, expected [x, y]")
    return place(value[0], value[1], size)


def pixel(target: Target | None, size: Size, format: str) -> Pixel:
    """Where a place lies in a picture of the whole screen.

    Raises:
        DesktopError: If it is no place in the frame of the screen.
    """
    if not isinstance(target, Point) or target.frame != SCREEN:
        raise DesktopError(f"{format} knows pixels of the screen only, not {target}")
    return pixel_in(Rect(0, 0, *size), target.x, target.y)


def cannot(format: str, action: DesktopAction, why: str = "") -> DesktopError:
    """The error where a format has no words for an action."""
    return DesktopError(f"{format} cannot say {action}{f': {why}' if why else ''}")


def seconds(value: Any, what: str) -> float:
    """A time that is not negative [s].

    Raises:
        DesktopError: If it is none.
    """
    found = number(value, what)
    if not 0 <= found < math.inf:
        raise DesktopError(f"{what} is {found:g} s, expected none below zero")
    return found


def known_fields(data: dict[str, Any], known: Iterable[str], what: str) -> None:
    """See that an object has no other fields.

    Raises:
        DesktopError: If it has.
    """
    names = list(known)
    for name in data:
        if name not in names:
            raise DesktopError(f"{what} has no field {short(name)}; it has: {', '.join(names) or 'none'}")
