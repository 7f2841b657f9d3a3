"""What is done with controls: sliders, spinners, lists to be sorted, forms of several parts, pickers of colours."""

from __future__ import annotations

import json
import re

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules.doing import (
    Plan,
    Rule,
    click,
    drag,
    fields,
    labelled,
    need,
    position,
    put,
    rgb,
    says,
    submit,
)
from optr.desk_bench.miniwob.seen import Item, Observation, Spot

# -- sliders and spinners ----------------------------------------------------------------------------------------


def _slide(page: Observation, place: int, wanted: int) -> Plan:
    """Bring the slider of a place to a value, by its handle and the keys; the number beside it tells where it is."""
    handles = page.of_class("ui-slider-handle")
    now = int(_values(page)[place].text)
    if now != wanted:
        page = yield click(page, handles[place])
        now = int(_values(page)[place].text)
    if now != wanted:
        yield a.Key("right" if wanted > now else "left", abs(wanted - now))


def _values(page: Observation) -> list[Item]:
    return page.all("div", where=lambda i: re.fullmatch(r"-?\d+", i.text) is not None)


def _slider(page: Observation, said: re.Match[str]) -> Plan:
    yield from _slide(page, 0, int(said[1]))
    yield submit(page)


def _sliders(page: Observation, said: re.Match[str]) -> Plan:
    for place, wanted in enumerate(json.loads(said[1])):
        yield from _slide(page, place, wanted)
    yield submit(page)


def _slider_and_box(page: Observation, said: re.Match[str]) -> Plan:
    yield from _slide(page, 0, int(said[1]))
    page = yield click(page, page.all("input")[position(page.utterance)])
    yield submit(page)


def _spinner(page: Observation, said: re.Match[str]) -> Plan:
    for _ in range(4):
        far = int(said[1]) - int(fields(page)[0].value or 0)
        if not far:
            break
        arrow = page.of_class("ui-spinner-up" if far > 0 else "ui-spinner-down")[0]
        page = yield click(page, arrow, min(abs(far), 10))
    yield submit(page)


# -- forms -------------------------------------------------------------------------------------------------------


def _radio_and_text(page: Observation, said: re.Match[str]) -> Plan:
    radios = page.all("input", where=lambda i: i.kind == "radio")
    page = yield click(page, radios[position(said[1])])
    page = yield put(page, said[2], fields(page)[position(said[3])])
    yield submit(page)


def _pick_color(page: Observation, said: re.Match[str]) -> Plan:
    """Write the colour into the field, in place of what is there."""
    swatch = next((i.paper for i in page.items if i.asks and "cc" in i.classes), said[1])
    red, green, blue = need(rgb(swatch), f"a colour {swatch!r}")
    page = yield click(page, fields(page)[0], 3)
    page = yield a.Type(f"{red:02X}{green:02X}{blue:02X}")
    page = yield click(page, next((i for i in page.items if i.id == "query"), None))  # the picker lies over the button
    yield submit(page)


def _resize(page: Observation, said: re.Match[str]) -> Plan:
    """By the corner of the field."""
    area = need(next(iter(page.all("textarea")), None))
    handle = next(iter(page.of_class("ui-resizable-se")), None)
    left, top, width, height = area.box
    corner = handle.middle if handle else (left + width - 4, top + height - 4)
    far = 25 if said[2] == "larger" else -25
    shift = (far, 0) if said[1] == "width" else (0, far)
    page = yield drag(page, corner, (corner[0] + shift[0], corner[1] + shift[1]))
    yield submit(page)


# -- lists -------------------------------------------------------------------------------------------------------


def _entries(page: Observation) -> list[Item]:
    found = page.all("li", where=lambda i: "ui-state-default" in i.classes)
    return sorted(found, key=lambda i: (round(i.box[1]), i.box[0]))


def _move_entry(page: Observation, said: re.Match[str]) -> Plan:
    names = [page.text(i) for i in _entries(page)]
    here = names.index(said[1])
    yield _moved(page, here, _place_in_list(said[2], here, len(names)))


def _place_in_list(words: str, here: int, length: int) -> int:
    if (numbered := re.search(r"(\d+)\w\w position", words)) is not None:
        return int(numbered[1]) - 1
    steps = {"to the top": 0, "to the bottom": length - 1, "up by one": here - 1, "down by one": here + 1}
    return next(place for start, place in steps.items() if words.startswith(start))


def _moved(page: Observation, start: int, end: int) -> a.Drag:
    """Drag an entry over another, a little beyond its middle."""
    entries = _entries(page)
    x, y = entries[start].middle
    goal_x, goal_y = entries[end].middle
    beyond = 6 if end > start else -6
    return drag(page, (x, y), ((x + goal_x) / 2, (y + goal_y) / 2), (x, goal_y + beyond), seconds=0.35)


def _sort(page: Observation, said: re.Match[str]) -> Plan:
    """One entry after the other, from the top, to where it belongs."""
    for place in range(len(_entries(page)) - 1):
        numbers = [int(page.text(i)) for i in _entries(page)]
        least = numbers.index(min(numbers[place:]), place)
        if least != place:
            page = yield _moved(page, least, place)
    yield submit(page)


_CELLS = {"top left": 0, "top center": 1, "top right": 2, "center left": 3, "center": 4, "center right": 5,
          "bottom left": 6, "bottom center": 7, "bottom right": 8}  # fmt: skip
_STEPS = {"up": -3, "down": 3, "left": -1, "right": 1}


def _move_cell(page: Observation, said: re.Match[str]) -> Plan:
    entries = _entries(page)
    here = [page.text(i) for i in entries].index(said[1])
    words = said[2].rstrip(".")
    by_one = re.match(r"(up|down|left|right) by one", words)
    there = here + _STEPS[by_one[1]] if by_one else _CELLS[words.removeprefix("to the ")]
    yield drag(page, entries[here], *_way(entries[here], entries[there]), seconds=0.6)


def _way(start: Item, end: Item) -> tuple[Spot, Spot]:
    """To a row, then along it, each time beyond the middle of what has to make room."""
    (x, y), (goal_x, goal_y) = start.middle, end.middle
    row = goal_y + 10 * ((goal_y > y) - (goal_y < y))
    return (x, row), (goal_x + 12 * ((goal_x > x) - (goal_x < x)), row)


# -- several boxes -----------------------------------------------------------------------------------------------


def _odd_or_even(page: Observation, said: re.Match[str]) -> Plan:
    for place in range(len(page.of_class("row"))):
        row = page.of_class("row")[place]
        parts = list(page.within(row))
        number = int(next(i.text for i in parts if "display-number" in i.classes))
        name = "odd" if number % 2 else "even"
        page = yield click(page, next(i for i in parts if name in i.classes))
    yield click(page, labelled(page, "Submit", "button"))


RULES: tuple[Rule, ...] = (
    (says(r"Select (-?\d+) with the slider, click the"), _slider_and_box),
    (says(r"Select (-?\d+) with the slider and"), _slider),
    (says(r"Set the sliders to the combination (\[.+\])"), _sliders),
    (says(r"Select (-?\d+) with the spinner"), _spinner),
    (says(r'Check the (\w+) radio button and enter the number "(-?\d+)" into the (\w+) textbox'), _radio_and_text),
    (says(r"Select (?:the following color|(\w+)) +with the color picker"), _pick_color),
    (says(r"Resize the textarea so that the (width|height) is (smaller|larger)"), _resize),
    (says(r"^Drag ([\w-]+) (to the (?:top|bottom|\d+\w\w position)\.|(?:up|down) by one position)"), _move_entry),
    (says(r"^Drag ([\w-]+) (to the [a-z ]+\.|(?:up|down|left|right) by one\.)"), _move_cell),
    (says(r"Sort the numbers in increasing order"), _sort),
    (says(r"numbers below as odd or even"), _odd_or_even),
)
