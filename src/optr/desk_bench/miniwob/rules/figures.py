"""What is done on drawings: figures that are named or counted, points, lines and angles, things that are dragged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from optr.desk_bench.miniwob.rules.doing import (
    Plan,
    Rule,
    alike,
    click,
    drag,
    labelled,
    need,
    says,
    submit,
)
from optr.desk_bench.miniwob.seen import Item, Observation, Spot

_KINDS = {"circle": "circle", "rect": "rectangle", "polygon": "triangle"}
_LARGE_PX = 15.0
_WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def _figures(page: Observation) -> list[Item]:
    return page.all("circle", "rect", "polygon", "text")


def _is(item: Item, said: str) -> bool:
    """Whether a figure is what a description says: its size, its colour, its kind, or what is written."""
    *looks, kind = said.split()
    return _is_kind(item, kind) and all(_looks(item, word) for word in looks)


def _is_kind(item: Item, kind: str) -> bool:
    if item.tag != "text":
        return kind in ("item", "shape", _KINDS[item.tag])
    return kind in ("item", item.text) or kind == ("digit" if item.text.isdigit() else "letter")


def _looks(item: Item, word: str) -> bool:
    if word not in ("large", "small"):
        return alike(item.attributes.get("fill", ""), word)
    side = item.number_of("font-size") if item.tag == "text" else max(item.box[2], item.box[3])
    return (word == "large") == (side > _LARGE_PX)


def _figure(page: Observation, said: re.Match[str]) -> Plan:
    found = [i for i in _figures(page) if _is(i, said[1])]
    yield click(page, next(iter(found), None))


def _count(page: Observation, said: re.Match[str]) -> Plan:
    number = sum(_is(i, said[1]) for i in _figures(page))
    yield click(page, labelled(page, str(number), "button"))


def _identify(page: Observation, said: re.Match[str]) -> Plan:
    figure = _figures(page)[0]
    name = ("number" if figure.text.isdigit() else "letter") if figure.tag == "text" else _KINDS[figure.tag]
    yield click(page, labelled(page, name, "button"))


def _ascending(page: Observation, said: re.Match[str]) -> Plan:
    """The numbers are hidden as soon as the first is clicked: where they were is remembered."""
    spots = {int(i.text): i.middle for i in page.all("text")}
    for number in sorted(spots):
        page = yield click(page, spots[number])


def _grid(page: Observation, said: re.Match[str]) -> Plan:
    """By the labels of the axes, between which every point lies."""
    x, y = int(said[1]), int(said[2])
    dots = page.all("circle")
    columns = sorted({round(i.middle[0]) for i in dots})
    rows = sorted({round(i.middle[1]) for i in dots}, reverse=True)
    yield click(page, (columns[x + len(columns) // 2], rows[y + len(rows) // 2]))


# -- points and angles -------------------------------------------------------------------------------------------


def _dots(page: Observation, colour: str) -> list[Spot]:
    """Points of the problem, by their colour."""
    found = page.all("circle", where=lambda i: alike(i.attributes.get("fill", ""), colour))
    return [i.middle for i in found]


def _set_point(page: Observation, goal: Spot) -> Plan:
    """Set a point and submit; where it is drawn a little beside the click, click once more."""
    before = _dots(page, "blue")
    page = yield click(page, goal)
    drawn = [d for d in _dots(page, "blue") if d not in before]
    if drawn and math.dist(drawn[-1], goal) > 0.7:
        page = yield click(page, (2 * goal[0] - drawn[-1][0] + 0.5, 2 * goal[1] - drawn[-1][1] + 0.5))
    yield submit(page)


def _bisect(page: Observation, said: re.Match[str]) -> Plan:
    (corner,), (one, other) = _dots(page, "blue"), _dots(page, "black")
    first, second = _towards(corner, one), _towards(corner, other)
    yield from _set_point(page, _along(page, corner, [(first[0] + second[0], first[1] + second[1])]))


def _right_angle(page: Observation, said: re.Match[str]) -> Plan:
    (corner,), (one,) = _dots(page, "blue"), _dots(page, "black")
    x, y = _towards(corner, one)
    yield from _set_point(page, _along(page, corner, [(-y, x), (y, -x)]))


def _towards(start: Spot, end: Spot) -> Spot:
    length = math.dist(start, end) or 1.0
    return (end[0] - start[0]) / length, (end[1] - start[1]) / length


def _along(page: Observation, start: Spot, ways: Iterable[Spot]) -> Spot:
    """The place farthest from the start in one of some directions that is still on the drawing."""
    left, top, width, height = need(next(iter(page.all("svg")), None)).box
    best, far = start, 0.0
    for x, y in ways:
        length = math.hypot(x, y) or 1.0
        for reach in range(5, 150, 2):
            spot = start[0] + x / length * reach, start[1] + y / length * reach
            inside = left + 5 < spot[0] < left + width - 5 and top + 5 < spot[1] < top + height - 5
            if inside and reach > far:
                best, far = spot, float(reach)
    return best


def _midpoint(page: Observation, said: re.Match[str]) -> Plan:
    (ax, ay), (bx, by) = _dots(page, "black")
    yield from _set_point(page, ((ax + bx) / 2, (ay + by) / 2))


def _centre(page: Observation, said: re.Match[str]) -> Plan:
    yield from _set_point(page, need(next(iter(page.all("circle")), None)).middle)


# -- drawing -----------------------------------------------------------------------------------------------------


def _line(page: Observation, said: re.Match[str]) -> Plan:
    x, y = need(next(iter(page.all("circle")), None)).middle
    left, top, width, height = need(next(iter(page.all("svg")), None)).box
    if said[1] == "horizontal":
        ends = (max(x - 45, left + 4), y), (min(x + 45, left + width - 4), y)
    else:
        ends = (x, max(y - 45, top + 4)), (x, min(y + 45, top + height - 4))
    page = yield drag(page, ends[0], (x, y), ends[1])
    yield submit(page)


def _circle(page: Observation, said: re.Match[str]) -> Plan:
    x, y = need(next(iter(page.all("circle")), None)).middle
    turns = [2 * math.pi * n / 24 for n in range(25)]
    page = yield drag(page, *((x + 20 * math.cos(t), y + 20 * math.sin(t)) for t in turns), seconds=0.6)
    yield submit(page)


# -- dragging figures --------------------------------------------------------------------------------------------


def _drag_one(page: Observation, said: re.Match[str]) -> Plan:
    figure = need(next(iter(_figures(page)), None))
    x, y = figure.middle
    across, down = _WAYS[said[1]]
    page = yield drag(page, figure, (x + 40 * across, y + 40 * down))
    yield submit(page)


def _drag_into(page: Observation, said: re.Match[str]) -> Plan:
    """All figures of a kind into the only frame."""
    frame = need(page.by_id("shape-container"))
    yield from _sorted_into(page, {i.number: frame for i in _loose_figures(page) if _in_group(i, said[1])})


def _drag_apart(page: Observation, said: re.Match[str]) -> Plan:
    """Figures of a kind or a colour into the left frame, all others into the right one."""
    left, right = sorted((i for i in page.all("rect") if i.id == "shape-container"), key=lambda i: i.box[0])
    yield from _sorted_into(page, {i.number: left if _in_group(i, said[1]) else right for i in _loose_figures(page)})


def _loose_figures(page: Observation) -> list[Item]:
    return [i for i in page.all("circle", "rect", "polygon") if i.id != "shape-container"]


def _in_group(item: Item, said: str) -> bool:
    kind = said.removesuffix("s")
    return kind == _KINDS[item.tag] or alike(item.attributes.get("fill", ""), said.split()[0])


def _sorted_into(page: Observation, frames: dict[int, Item]) -> Plan:
    """Drag figures into frames, beside one another, so that none lies on the next to be dragged."""
    filled: dict[int, int] = {}
    for number, frame in frames.items():
        place = filled[frame.number] = filled.get(frame.number, -1) + 1
        left, top, width, height = frame.box
        spot = (left + width * (0.25 + 0.25 * (place % 3)), top + height * (0.35 if place < 3 else 0.7))
        page = yield drag(page, page.items[number], spot)
    yield submit(page)


def _box_into(page: Observation, said: re.Match[str]) -> Plan:
    """The smaller of two boxes that lie on one another, or not, into the larger one."""
    small, large = need(page.by_id("draggableSmall")), need(page.by_id("draggableLarge"))
    page = yield drag(page, small, large)
    yield submit(page)


RULES: tuple[Rule, ...] = (
    (says(r"^Click on an? ((?:(?:large|small|red|green|blue|aqua|black|magenta|yellow) )*\S+)$"), _figure),
    (says(r"^How many (.+)s are there"), _count),
    (says(r"best describes the figure"), _identify),
    (says(r"numbers in ascending order"), _ascending),
    (says(r"grid coordinate \((-?\d+),(-?\d+)\)"), _grid),
    (says(r"bisects the angle"), _bisect),
    (says(r"create a right angle"), _right_angle),
    (says(r"mid-point between"), _midpoint),
    (says(r"center of the circle"), _centre),
    (says(r"Draw a (horizontal|vertical) line"), _line),
    (says(r"Draw a circle centered"), _circle),
    (says(r"^Drag the (?:circle|item) (left|right|up|down)"), _drag_one),
    (says(r"^Drag all (\w+) into the black box"), _drag_into),
    (says(r"^Drag all (\w+(?: shapes)?) into the left box"), _drag_apart),
    (says(r"^Drag the smaller box"), _box_into),
)
