"""What is seen of a task: what it asks for, and what is drawn on its page. Values only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop.actions import Point, Rect

Spot = tuple[float, float]
"""A place on the page [px], from its upper left corner."""

Box = tuple[float, float, float, float]
"""Left, top, width, height on the page [px]."""


@dataclass(frozen=True)
class Item:
    """An element of the page.

    Attributes:
        number: Its place in the page.
        parent: That of the element around it; -1: none.
        tag: In small letters.
        id: As the page has it.
        classes: As the page has them.
        kind: Of an `input`, its type.
        text: Written in it, without what its children say.
        value: Of a field.
        checked: Or selected.
        disabled: Or not to be written to.
        focused: Whether it has the keyboard.
        box: All of it.
        shown: The part that is not scrolled away, of the first line if there are several; None: nothing is.
        free: Whether a click in its middle reaches it.
        ink: Colour of its text, as CSS.
        paper: Colour behind it, as CSS.
        weight: Of its letters.
        cursor: Shape of the pointer over it.
        attributes: Those that say how it is drawn.
        scroll: How far its inside is scrolled, how high that is, and how much of it is shown [px]; 0, 0, 0: it does
            not scroll.
        words: Each word written in it, and where.
        asks: Whether it belongs to what asks, and not to what is asked about.
    """

    number: int
    parent: int
    tag: str
    id: str = ""
    classes: tuple[str, ...] = ()
    kind: str = ""
    text: str = ""
    value: str = ""
    checked: bool = False
    disabled: bool = False
    focused: bool = False
    box: Box = (0.0, 0.0, 0.0, 0.0)
    shown: Box | None = None
    free: bool = False
    ink: str = ""
    paper: str = ""
    weight: str = ""
    cursor: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    scroll: tuple[float, float, float] = (0.0, 0.0, 0.0)
    words: tuple[tuple[str, Box], ...] = ()
    asks: bool = False

    @property
    def middle(self) -> Spot:
        """Of what is shown, else of the whole."""
        left, top, width, height = self.shown or self.box
        return left + width / 2, top + height / 2

    def number_of(self, name: str) -> float:
        """An attribute that is a number; 0: there is none."""
        found = re.match(r"\s*-?[\d.]+", self.attributes.get(name, ""))
        return float(found[0]) if found else 0.0


@dataclass(frozen=True)
class Observation:
    """A page at one moment.

    Attributes:
        utterance: What is asked for.
        items: Elements, in the order of the page.
        size: Width and height of the page [px].
        place: Where it lies on the screen [px].
        screen: Width and height of the screen [px].
        picture: Pixels of the page, RGB, shape (height, width, 3).
    """

    utterance: str
    items: tuple[Item, ...]
    size: tuple[int, int]
    place: Rect
    screen: tuple[int, int]
    picture: npt.NDArray[np.uint8] = field(compare=False, repr=False)

    def point(self, spot: Spot) -> Point:
        """A place of the page on the screen."""
        across, down = self.place.width / self.size[0], self.place.height / self.size[1]
        x, y = self.place.x + spot[0] * across, self.place.y + spot[1] * down
        return Point((int(x) + 0.5) / self.screen[0], (int(y) + 0.5) / self.screen[1], seen=self.screen)

    def all(self, *tags: str, where: Callable[[Item], bool] = lambda item: True) -> list[Item]:
        """Shown elements of some tags (any, if none is named) that fit, without what asks."""
        return [i for i in self.items if i.shown and not i.asks and (not tags or i.tag in tags) and where(i)]

    def by_id(self, name: str) -> Item | None:
        """The element of an id."""
        return next((i for i in self.items if i.id == name), None)

    def of_class(self, name: str) -> list[Item]:
        """Shown elements of a class."""
        return self.all(where=lambda item: name in item.classes)

    def children(self, item: Item) -> list[Item]:
        """Elements directly in one."""
        return [i for i in self.items if i.parent == item.number]

    def within(self, item: Item) -> Iterator[Item]:
        """An element, and all that are in it, in their order."""
        inside = {item.number}
        for other in self.items:
            if other.parent in inside or other.number == item.number:
                inside.add(other.number)
                yield other

    def pixels(self, box: Box) -> npt.NDArray[np.uint8]:
        """The part of the picture in a box, shape (height, width, 3)."""
        left, top, width, height = (round(v) for v in box)
        return self.picture[top : top + height, left : left + width]

    def text(self, item: Item) -> str:
        """All that is written in an element."""
        return " ".join(i.text for i in self.within(item) if i.text)


def observed(
    answer: Mapping[str, Any], place: Rect, screen: tuple[int, int], picture: npt.NDArray[np.uint8]
) -> Observation:
    """What the page answered, as values."""
    items = tuple(_item(number, told) for number, told in enumerate(answer["items"]))
    width, height = answer["size"]
    return Observation(answer["utterance"], items, (width, height), place, screen, picture)


def _item(number: int, told: Mapping[str, Any]) -> Item:
    plain = {name: told[name] for name in ("parent", "tag", "id", "kind", "text", "value", "checked", "disabled")}
    looks = {name: told[name] for name in ("focused", "free", "ink", "paper", "weight", "cursor", "attributes", "asks")}
    return Item(
        number,
        **plain,
        **looks,
        classes=tuple(told["classes"].split()),
        box=_box(told["box"]),
        shown=_box(told["shown"]) if told["shown"] else None,
        scroll=tuple(told["scroll"]),
        words=tuple((word, (x, y, w, h)) for word, x, y, w, h in told["words"]),
    )


def _box(numbers: list[float]) -> Box:
    left, top, width, height = numbers
    return left, top, width, height
