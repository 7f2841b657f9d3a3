"""What is done by clicking what is named: buttons, links, boxes to check, tabs, menus, sections, folders, colours."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules.doing import (
    LostError,
    Plan,
    Rule,
    alike,
    all_calm,
    calm,
    click,
    labelled,
    need,
    point,
    quoted,
    reveal,
    rgb,
    says,
    shows,
    submit,
    submit_calmly,
    until,
)
from optr.desk_bench.miniwob.seen import Item, Observation

_CHECKED = ("checkbox", "radio")


def _buttons(page: Observation, said: re.Match[str]) -> Plan:
    for name in re.findall(r"button (\w+)", page.utterance):
        page = yield click(page, labelled(page, name, "button"))


def _button(page: Observation, said: re.Match[str]) -> Plan:
    yield click(page, labelled(page, said[1], "button", "input", "a") or labelled(page, said[1]))


def _any_button(page: Observation, said: re.Match[str]) -> Plan:
    yield click(page, next(iter(page.all("button")), None))


def _link(page: Observation, said: re.Match[str]) -> Plan:
    yield click(page, need(_linked(page, said[1])))


def _linked(page: Observation, name: str) -> Item | None:
    return next((i for i in page.all("a", "span") if i.text == name and ("alink" in i.classes or i.tag == "a")), None)


def _dialog(page: Observation, said: re.Match[str]) -> Plan:
    name = next(iter(quoted(page.utterance)), "x")
    if name.lower() == "x":
        yield click(page, next(iter(page.of_class("ui-dialog-titlebar-close")), None))
    else:
        yield click(page, labelled(page, name, "button"))


def _widget(page: Observation, said: re.Match[str]) -> Plan:
    kind = said[1]
    yield click(page, next(iter(page.all(where=lambda i: kind == (i.kind if i.tag == "input" else i.tag))), None))


def _color(page: Observation, said: re.Match[str]) -> Plan:
    swatch = next((i.paper for i in page.items if i.asks and "color" in i.classes), said[1])
    boxes = page.of_class("color")
    yield click(page, next((i for i in boxes if alike(i.paper, swatch)), None))


# -- boxes to check ----------------------------------------------------------------------------------------------


def _boxes(page: Observation) -> list[tuple[Item, str]]:
    """Boxes with what is written beside them."""
    found = page.all("input", where=lambda i: i.kind in _CHECKED)
    return [(i, page.text(page.items[i.parent])) for i in found]


def _check(page: Observation, said: re.Match[str]) -> Plan:
    wanted = [name.strip() for name in said[1].split(",")]
    boxes = [box for box, name in _boxes(page) if name in wanted]
    yield from _checked(page, boxes)


def _checked(page: Observation, boxes: list[Item]) -> Plan:
    """Check boxes and submit; by the keyboard where there are too many for single clicks."""
    if len(boxes) > _MOST_CLICKS:
        every = [box.number for box, _ in _boxes(page)]
        steps = [every.index(later.number) - every.index(box.number) for box, later in pairwise(boxes)]
        page = yield click(page, boxes[0])
        page = yield a.Type("".join("\t" * n + " " for n in steps))
    else:
        for box in boxes:
            page = yield click(page, box)
    page, _ = yield from reveal(page, lambda p: next(iter(p.all("button")), None))
    yield submit(page)


_MOST_CLICKS = 9


def _stem(word: str) -> str:
    """A word without its plural; whether two other words mean the same is not known here."""
    small = word.strip().casefold()
    return small[:-1] if small.endswith("s") and not small.endswith("ss") else small


def _check_alike(page: Observation, said: re.Match[str]) -> Plan:
    wanted = set(map(_stem, said[1].split(",")))
    yield from _checked(page, [box for box, name in _boxes(page) if _stem(name) in wanted])


def _shades(page: Observation, said: re.Match[str]) -> Plan:
    hue = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}[said[1]]
    for item in page.all("span"):
        own = _hue(item.paper)
        if own is not None and abs(own - hue) < 0.1:
            page = yield click(page, item)
    yield submit(page)


def _hue(colour: str) -> float | None:
    found = rgb(colour)
    if found is None or max(found) == min(found):
        return None
    hue = colorsys.rgb_to_hsv(*(v / 255 for v in found))[0]
    return hue if hue < 0.9 else hue - 1


# -- lists -------------------------------------------------------------------------------------------------------


def _choose(page: Observation, said: re.Match[str]) -> Plan:
    page = yield click(page, next(iter(page.all("select")), None))
    page = yield a.Type(f"{said[1]}\n")
    yield submit(page)


def _choose_several(page: Observation, said: re.Match[str]) -> Plan:
    for place, name in enumerate(said[1].split(", ")):
        page, item = yield from reveal(page, partial(_option, name))
        page = yield click(page, item, 1, *(("ctrl",) if place else ()))
    yield submit(page)


def _option(name: str, page: Observation) -> Item | None:
    return next((i for i in page.items if i.tag == "option" and i.text == name), None)


def _drop_down(page: Observation, said: re.Match[str]) -> Plan:
    """A list that the page draws by itself, then a button."""
    page = yield click(page, next(iter(page.of_class("selectric")), None))
    page, item = yield from reveal(page, lambda p: _entry(p, said[1]))
    page = yield click(page, item)
    yield click(page, labelled(page, said[2], "button"))


def _entry(page: Observation, name: str) -> Item | None:
    return next((i for i in page.items if i.tag == "li" and page.text(i) == name), None)


# -- what opens --------------------------------------------------------------------------------------------------


def _tab(page: Observation, said: re.Match[str]) -> Plan:
    yield click(page, labelled(page, said[1], "a"))


def _in_tabs(page: Observation, said: re.Match[str]) -> Plan:
    yield from _opened(page, said[1], lambda p: p.of_class("ui-tabs-anchor"))


def _in_sections(page: Observation, said: re.Match[str]) -> Plan:
    yield from _opened(page, said[1], lambda p: p.of_class("ui-accordion-header"))


def _opened(page: Observation, name: str, heads: Callable[[Observation], list[Item]]) -> Plan:
    """Open one after the other until a link is seen."""
    for place in range(len(heads(page))):
        if _linked(page, name) is not None:
            break
        page = yield click(page, heads(page)[place])
        page = yield from all_calm(page)
    page, link = yield from reveal(page, lambda p: _linked(p, name))
    page, link = yield from calm(page, lambda p: _linked(p, name))
    yield click(page, link)


def _section(page: Observation, said: re.Match[str]) -> Plan:
    page = yield click(page, next(iter(page.of_class("ui-accordion-header")), None))
    yield from submit_calmly(page)


def _menu(page: Observation, said: re.Match[str]) -> Plan:
    """Open one level after the other by the pointer alone: a click on any of them would be the choice."""
    names = said[1].split(">")
    for name, inner in pairwise(names):
        page = yield point(page, labelled(page, name, "div"))
        page, _ = yield from until(page, partial(_entry_of_menu, inner))
    yield click(page, labelled(page, names[-1], "div"))


def _entry_of_menu(name: str, page: Observation) -> Item | None:
    """An entry of a menu."""
    return labelled(page, name, "div")


def _icons(page: Observation, said: re.Match[str]) -> Plan:
    """A menu that opens by a button; what is wanted is named, or shown as a picture."""
    icon = next((c for i in page.items if i.asks for c in i.classes if c.startswith("ui-icon-")), "")
    names = quoted(page.utterance)
    page = yield click(page, labelled(page, "Menu", "button"))

    def wanted(p: Observation) -> Item | None:
        if icon:
            return next(iter(p.of_class(icon)), None)
        return next((i for i in p.all("div") if p.text(i) == names[-1]), None)

    if wanted(page) is None:
        page = yield point(page, labelled(page, "Playback", "div"))
    page, item = yield from until(page, wanted)
    yield click(page, item)


def _pie(page: Observation, said: re.Match[str]) -> Plan:
    name = quoted(page.utterance)[-1]
    page = yield click(page, labelled(page, "+", "tspan"))
    page, item = yield from calm(page, lambda p: next((i for i in p.all("tspan") if i.text == name), None))
    yield click(page, item)


def _tree(page: Observation, said: re.Match[str]) -> Plan:
    name = said[1]
    tried: set[int] = set()
    while (found := next((i for i in page.all("span") if i.text == name), None)) is None:
        closed = [i for i in page.of_class("expandable-hitarea") if round(i.box[1]) not in tried]
        if not closed:
            raise LostError(f"no file or folder {name!r}")
        tried.add(round(closed[-1].box[1]))  # from below, so that those above stay where they are
        page = yield click(page, closed[-1])
    yield click(page, found)


RULES: tuple[Rule, ...] = (
    (says(r"^Click button \w+(, then click button|\.)"), _buttons),
    (says(r"button in the dialog box labeled|Close the dialog box"), _dialog),
    (says(r'^Click on (?:a|the) "(\w+)" widget'), _widget),
    (says(r"Click on the (\w*) ?colored box"), _color),
    (says(r'Click the "Menu" button'), _icons),
    (says(r'^Click on the "(.+)" button'), _button),
    (says(r"^Click the (cancel) button"), _button),
    (says(r"^Click the button\."), _any_button),
    (says(r'^Click on the link "(.+)"'), _link),
    (says(r"^Click on (Tab #\d)"), _tab),
    (says(r'Switch between the tabs .* link "(.+)"'), _in_tabs),
    (says(r'Expand the sections .* link "(.+)"'), _in_sections),
    (says(r"Expand the section below"), _section),
    (says(r"Expand the pie menu"), _pie),
    (says(r'folder or file named "(.+)"'), _tree),
    (says(r"Select all the shades of (\w+)"), _shades),
    (says(r"Select (.+) from the scroll list"), _choose_several),
    (says(r"Select (.+) from the list"), _choose),
    (says(r'Choose (.+) from the dropdown, then click the button labeled "(\w+)"'), _drop_down),
    (says(r"Select words similar to (.+) and click Submit"), _check_alike),
    (lambda page: shows("ui-menu")(page) and says(r"^Select (\S.*)$")(page), _menu),
    (says(r"^Select (.+) and click Submit"), _check),
)
