"""What rules are made of: clicks and drags on elements, how elements are found by what is written on them."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.seen import Item, Observation, Spot
from optr.errors import DesktopError

_T = TypeVar("_T")

Step = a.DesktopAction | None
Plan = Generator[Step, Observation, None]
"""Actions one by one; None waits a moment."""

Part = Generator[Step, Observation, Observation]
"""A plan that others go on from: it answers the page after its last action."""

Known = Callable[[Observation], Any]
Rule = tuple[Known, Callable[[Observation, Any], Plan]]

NOTCH_PX = 120.0
"""How far one notch of the wheel scrolls, about [px]."""

_SUBMITS = ("submit", "ok", "okay", "login", "search", "go!", "order!", "done", "send", "save")


class LostError(DesktopError):
    """The page does not show what the rule goes by."""


def says(pattern: str) -> Known:
    """Whether the task is worded like this; answers the match."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda page: compiled.search(page.utterance)


def shows(*classes: str) -> Known:
    """Whether there is an element of each of these classes."""
    return lambda page: all(any(name in i.classes for i in page.items) for name in classes)


def need(found: _T | None, what: str = "what is looked for") -> _T:
    """That it was found.

    Raises:
        LostError: Otherwise.
    """
    if found is None:
        raise LostError(f"{what} is not on the page")
    return found


# -- actions -----------------------------------------------------------------------------------------------------


def spot_of(at: Item | Spot | None) -> Spot:
    """Where something is.

    Raises:
        LostError: If it is not there.
    """
    if at is None:
        raise LostError("what is looked for is not on the page")
    return at.middle if isinstance(at, Item) else at


def click(page: Observation, at: Item | Spot | None, count: int = 1, *modifiers: str) -> a.Click:
    """Click something.

    Raises:
        LostError: If it is not there.
    """
    return a.Click(page.point(spot_of(at)), count=count, modifiers=modifiers)


def put(page: Observation, text: str, into: Item | Spot | None) -> a.Type:
    """Type a text into a field.

    Raises:
        LostError: If it is not there.
    """
    return a.Type(text, page.point(spot_of(into)))


def point(page: Observation, at: Item | Spot | None) -> a.Move:
    """Bring the pointer over something.

    Raises:
        LostError: If it is not there.
    """
    return a.Move(page.point(spot_of(at)))


def drag(page: Observation, *spots: Item | Spot, seconds: float = 0.25) -> a.Drag:
    """Drag along some places."""
    return a.Drag(tuple(page.point(spot_of(s)) for s in spots), seconds=seconds)


def keys(*names: str) -> a.Hotkey:
    """Press keys together."""
    return a.Hotkey(names)


def submit(page: Observation) -> a.Click:
    """Click the button that ends a form.

    Raises:
        LostError: If there is none.
    """
    return click(page, submit_button(page))


def submit_button(page: Observation) -> Item | None:
    """The button that ends a form."""
    buttons = page.all("button", where=lambda i: page.text(i).lower() in _SUBMITS)
    others = page.all(where=lambda i: i.text.lower() in _SUBMITS)
    return next(iter(buttons or others), None)


# -- looking -----------------------------------------------------------------------------------------------------


def labelled(page: Observation, name: str, *tags: str) -> Item | None:
    """The element on which something is written, exactly if there is one, else whatever its case."""
    items = page.all(*tags)
    for clean in (_plain, _loose):
        for said in (lambda i: i.text, lambda i: i.value, page.text):
            found = [i for i in items if clean(said(i)) == clean(name)]
            if found:
                return min(found, key=lambda i: (not i.free, i.box[2] * i.box[3]))
    return None


def fields(page: Observation) -> list[Item]:
    """Where text can be typed, from top to bottom."""
    texts = ("text", "password", "number", "search", "date", "time", "email", "tel")
    found = page.all("input", "textarea", where=lambda i: i.tag == "textarea" or i.kind in texts)
    return sorted(found, key=lambda i: (i.box[1], i.box[0]))


def nearest(to: Item, among: Iterable[Item]) -> Item | None:
    """The element whose middle is nearest to that of another."""
    x, y = to.middle
    return min(among, key=lambda i: (i.middle[0] - x) ** 2 + (i.middle[1] - y) ** 2, default=None)


def beside(page: Observation, label: Item, *tags: str) -> Item | None:
    """The element of some tags that a label belongs to: inside of it, next to it, or inside of what is around both."""
    around: Item | None = label
    while around is not None:
        inside = [i for i in page.within(around) if i.tag in tags and i.shown and i.number != label.number]
        if inside:
            return nearest(label, inside)
        around = page.items[around.parent] if around.parent >= 0 else None
    return None


def above(page: Observation, item: Item) -> Item | None:
    """The element around one."""
    return page.items[item.parent] if item.parent >= 0 else None


def around(page: Observation, item: Item, name: str) -> Item | None:
    """The nearest element of a class around one, or itself."""
    at: Item | None = item
    while at is not None and name not in at.classes:
        at = above(page, at)
    return at


def quoted(text: str) -> list[str]:
    """What stands in double quotes."""
    return re.findall(r'"([^"]*)"', text)


def position(text: str) -> int:
    """Of `2nd` the 1; the last of several words of that kind.

    Raises:
        LostError: If there is none.
    """
    found = re.findall(r"(\d+)(?:st|nd|rd|th)\b", text)
    if not found:
        raise LostError(f"no position is named in {text!r}")
    return int(found[-1]) - 1


def rgb(colour: str) -> tuple[int, int, int] | None:
    """Of a colour in CSS, by name, numbers or `rgb(...)`; None: it is none."""
    from PIL import ImageColor

    found = re.match(r"rgba?\((\d+), (\d+), (\d+)", colour)
    if found:
        return int(found[1]), int(found[2]), int(found[3])
    try:
        return ImageColor.getrgb(colour)[:3]
    except ValueError:
        return None


def alike(one: str, other: str) -> bool:
    """Whether two colours are the same, however they are written."""
    return rgb(one) is not None and rgb(one) == rgb(other)


# -- waiting and scrolling ---------------------------------------------------------------------------------------


def until(
    page: Observation, find: Callable[[Observation], _T | None], tries: int = 40
) -> Generator[Step, Observation, tuple[Observation, _T]]:
    """Wait until something is found.

    Raises:
        LostError: If it does not come.
    """
    for _ in range(tries):
        found = find(page)
        if found:
            return page, found
        page = yield None
    raise LostError("what was waited for did not come")


def calm(
    page: Observation, find: Callable[[Observation], Item | None], looks: int = 3
) -> Generator[Step, Observation, tuple[Observation, Item]]:
    """Wait until an element has stayed where it is for some looks.

    Raises:
        LostError: If it is not there, or does not come to rest.
    """
    seen: list[object] = []
    for _ in range(60):
        item = need(find(page))
        seen = [*seen, item.box][-looks:]
        if len(seen) == looks and len(set(map(str, seen))) == 1:
            return page, item
        page = yield None
    raise LostError("it does not come to rest")


def all_calm(page: Observation, looks: int = 3) -> Part:
    """Wait until nothing on the page has moved for some looks.

    Raises:
        LostError: If it does not come to rest.
    """
    still, before = 1, page
    for _ in range(60):
        if still == looks:
            return page
        page = yield None
        still = still + 1 if [i.box for i in page.items] == [i.box for i in before.items] else 1
        before = page
    raise LostError("the page does not come to rest")


def submit_calmly(page: Observation) -> Plan:
    """Click the button that ends a form as soon as it lies still and nothing lies over it.

    Raises:
        LostError: If that does not come.
    """
    page, _ = yield from calm(page, submit_button)
    page, button = yield from until(page, lambda p: next((i for i in [submit_button(p)] if i and i.free), None))
    yield click(page, button)


def reveal(
    page: Observation, find: Callable[[Observation], Item | None]
) -> Generator[Step, Observation, tuple[Observation, Item]]:
    """Scroll until an element is in sight.

    Raises:
        LostError: If it is not there, or cannot be scrolled to.
    """
    for _ in range(5):
        item = need(find(page))
        view = _scroller(page, item)
        if view is None or _sees(item):
            return page, item
        top, height = view.box[1], view.box[3]
        far = item.box[1] + item.box[3] / 2 - (top + height / 2)
        notches = round(far / NOTCH_PX) or (1 if far > 0 else -1)
        page = yield a.Scroll(page.point(view.middle), dy=notches)
        page, _ = yield from calm(page, find)
    item = need(find(page))
    if item.shown is None:
        raise LostError("it cannot be scrolled to")
    return page, item


def _scroller(page: Observation, item: Item) -> Item | None:
    at = above(page, item)
    while at is not None and at.scroll[1] <= at.scroll[2] + 2:
        at = above(page, at)
    return at


def _sees(item: Item) -> bool:
    """Whether enough of an element is shown to be pointed at: notches of the wheel are coarse."""
    return item.shown is not None and item.shown[3] >= max(min(item.box[3], 8), 0.4 * item.box[3])


def _plain(text: str) -> str:
    return " ".join(text.split())


def _loose(text: str) -> str:
    return _plain(text).casefold().strip(".:,")
