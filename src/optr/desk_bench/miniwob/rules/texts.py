"""What is done by typing: forms, logins, dates and times, tables, sums, words that are looked for, a terminal."""

from __future__ import annotations

import re

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules.doing import (
    LostError,
    Plan,
    Rule,
    all_calm,
    beside,
    click,
    drag,
    fields,
    keys,
    labelled,
    need,
    position,
    put,
    quoted,
    reveal,
    rgb,
    says,
    submit,
    submit_calmly,
    until,
)
from optr.desk_bench.miniwob.seen import Item, Observation


def _enter(page: Observation, said: re.Match[str]) -> Plan:
    page = yield put(page, said[1], next(iter(fields(page)), None))
    yield submit(page)


def _enter_cased(page: Observation, said: re.Match[str]) -> Plan:
    text = said[1].upper() if said[2] == "upper" else said[1].lower()
    page = yield put(page, text, next(iter(fields(page)), None))
    yield submit(page)


def _enter_twice(page: Observation, said: re.Match[str]) -> Plan:
    for place in range(2):
        page = yield put(page, said[1], fields(page)[place])
    yield submit(page)


def _date(page: Observation, said: re.Match[str]) -> Plan:
    """Into a field of the browser's own, whose parts are filled from the left."""
    yield from _at_left(page, "".join(said.groups()))


def _time(page: Observation, said: re.Match[str]) -> Plan:
    yield from _at_left(page, f"{int(said[1]):02}{said[2]}{said[3]}")


def _at_left(page: Observation, text: str) -> Plan:
    field = need(next(iter(fields(page)), None))
    page = yield put(page, text, (field.box[0] + 10, field.middle[1]))
    yield submit(page)


def _focus(page: Observation, said: re.Match[str]) -> Plan:
    yield click(page, fields(page)[position(said[1]) if said[1] else 0])


def _login(page: Observation, said: re.Match[str]) -> Plan:
    """Name and password; a question that comes in between is declined."""
    for name, text in (("username", said[1]), ("password", said[2])):
        page = yield click(page, page.by_id(name))
        if (cancel := labelled(page, "Cancel", "button")) is not None:
            page = yield click(page, cancel)
            page = yield put(page, text, page.by_id(name))
        else:
            page = yield a.Type(text)
    yield submit(page)


def _movies(page: Observation, said: re.Match[str]) -> Plan:
    wanted = {"genre": said[1], "director": said[2], "year|date": said[3]}
    for label, text in wanted.items():
        written = next((i for i in page.all() if re.search(label, i.text, re.IGNORECASE)), None)
        page = yield put(page, text, beside(page, need(written, label), "input"))
    yield click(page, next((i for i in page.all("button", "div") if i.text in ("Submit", "Search", "Go!")), None))


# -- reading -----------------------------------------------------------------------------------------------------


def _rows(page: Observation) -> dict[str, str]:
    rows = [[page.text(cell) for cell in page.children(row)] for row in page.all("tr")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _cell(page: Observation, said: re.Match[str]) -> Plan:
    page = yield put(page, _looked_up(page, said[1]), fields(page)[0])
    yield submit(page)


def _cells(page: Observation, said: re.Match[str]) -> Plan:
    for label in page.all("label"):
        page = yield put(page, _looked_up(page, label.text.rstrip(":")), beside(page, label, "input"))
    yield submit(page)


def _looked_up(page: Observation, name: str) -> str:
    rows = _rows(page)
    if name not in rows:
        raise LostError(f"no row {name!r} in the table")
    return rows[name]


def _copy(page: Observation, said: re.Match[str]) -> Plan:
    """By the clipboard, as people do."""
    areas = sorted(page.all("textarea"), key=lambda i: i.box[1])
    source = areas[position(page.utterance) if re.search(r"\d(st|nd|rd)", page.utterance) else 0]
    page = yield click(page, source)
    page = yield keys("ctrl", "a")
    page = yield keys("ctrl", "c")
    page = yield click(page, next((i for i in page.all("input")), None))
    page = yield keys("ctrl", "v")
    yield submit(page)


def _word(page: Observation, said: re.Match[str]) -> Plan:
    words = next(i.text for i in page.all("p")).split()
    yield from _answer(page, re.sub(r"[^A-Za-z]", "", words[position(page.utterance)]))


def _last_word(page: Observation, said: re.Match[str]) -> Plan:
    words = next(i.value for i in page.all("textarea")).split()
    yield from _answer(page, words[-1].rstrip("."))


def _captcha(page: Observation, said: re.Match[str]) -> Plan:
    letters = page.by_id("captcha")
    yield from _answer(page, "".join(i.text for i in page.within(need(letters)) if i.text))


def _answer(page: Observation, text: str) -> Plan:
    page = yield put(page, text, next((i for i in fields(page) if i.tag == "input"), None))
    yield submit(page)


def _sum(page: Observation, said: re.Match[str]) -> Plan:
    left, sign, right = need(re.search(r"(-?\d+) ([-+x]) (-?\d+)", _problem(page))).groups()
    results = {"+": int(left) + int(right), "-": int(left) - int(right), "x": int(left) * int(right)}
    yield from _answer(page, str(results[sign]))


def _equation(page: Observation, said: re.Match[str]) -> Plan:
    left, sign, right, result = need(re.search(r"(\S+) ([-+]) (\S+) = (-?\d+)", _problem(page))).groups()
    if sign == "+":
        answer = int(result) - int(right if left == "x" else left)
    else:
        answer = int(result) + int(right) if left == "x" else int(left) - int(result)
    yield from _answer(page, str(answer))


def _problem(page: Observation) -> str:
    return need(page.by_id("math-problem")).text


def _blocks(page: Observation, said: re.Match[str]) -> Plan:
    yield from _answer(page, str(len(page.of_class("addition-block"))))


# -- areas of text -----------------------------------------------------------------------------------------------


def _scroll(page: Observation, said: re.Match[str]) -> Plan:
    area = need(next(iter(page.all("textarea")), None))
    page = yield a.Scroll(page.point(area.middle), dy=30 if said[1] == "bottom" else -30)
    yield submit(page)


def _agreement(page: Observation, said: re.Match[str]) -> Plan:
    area = need(next(iter(page.all("textarea")), None))
    page = yield a.Scroll(page.point(area.middle), dy=60)
    page, field = yield from until(page, lambda p: next((i for i in p.all("input") if not i.disabled), None))
    page = yield put(page, said[1], field)
    yield click(page, labelled(page, said[2], "button"))


def _highlight(page: Observation, said: re.Match[str]) -> Plan:
    texts = page.all("p", where=lambda i: bool(i.words)) or page.all("div", where=lambda i: len(i.words) > 1)
    words = texts[position(page.utterance) if re.search(r"\d(st|nd|rd)", page.utterance) else 0].words
    (_, first), (_, last) = words[0], words[-1]
    start = (first[0] + 1, first[1] + first[3] / 2)
    page = yield drag(page, start, (last[0] + last[2] + 3, last[1] + last[3] / 2))
    yield submit(page)


def _editor(page: Observation, said: re.Match[str]) -> Plan:
    """Select a word or everything, give it a style or a colour, and submit."""
    page = yield from all_calm(page)
    found = re.search(r"(?:give the text (.+) the|(everything) the|give (everything) the)", page.utterance)
    word, *_ = (g for g in need(found).groups() if g)
    style = need(re.search(r"the (style|color) (\w+)", page.utterance))
    text = need(next((i for i in page.all("p") if i.words), None))
    if word == "everything":
        page = yield click(page, text, 3)
    else:
        box = next(b for w, b in text.words if w == word)
        page = yield drag(page, (box[0], box[1] + box[3] / 2), (box[0] + box[2], box[1] + box[3] / 2))
    page = yield from all_calm(page)  # the editor notes a moment later what is selected
    if style[1] == "color":
        page = yield click(page, next(iter(page.of_class("ql-color-picker")), None))
        page = yield from all_calm(page)
        page = yield click(page, _swatch(page, style[2]))
    else:
        name = {"bold": "ql-bold", "italics": "ql-italic", "underlined": "ql-underline"}[style[2]]
        page = yield click(page, next(iter(page.of_class(name)), None))
    yield from submit_calmly(page)


def _swatch(page: Observation, name: str) -> Item | None:
    """The colour of a palette that is nearest to a name."""
    wanted = need(rgb(name))

    def far(item: Item) -> int:
        return sum(abs(p - q) for p, q in zip(rgb(item.paper) or (0, 0, 0), wanted, strict=True))

    return min(page.of_class("ql-picker-item"), key=far, default=None)


def _terminal(page: Observation, said: re.Match[str]) -> Plan:
    page = yield click(page, need(page.by_id("terminal")))
    page = yield a.Type("ls\n")
    lines = [i.text for i in page.of_class("output") if i.text]
    ending = re.search(r"extension (\.[\w.]+)$", page.utterance.rstrip("."))
    files = lines[-1].split()
    wanted = [f for f in files if (f.endswith(ending[1]) if ending else "." not in f)]
    if not wanted:
        raise LostError(f"no such file among {files}")
    yield a.Type(f"rm {wanted[0]}\n")


# -- suggestions -------------------------------------------------------------------------------------------------


def _complete(page: Observation, said: re.Match[str]) -> Plan:
    start, *end = quoted(page.utterance)

    def fitting(p: Observation) -> Item | None:
        entries = p.of_class("ui-menu-item-wrapper")
        return next((i for i in entries if i.text.startswith(start) and i.text.endswith("".join(end))), None)

    page = yield put(page, start, fields(page)[0])
    page, _ = yield from until(page, lambda p: p.of_class("ui-menu-item-wrapper"))
    page, item = yield from reveal(page, fitting)
    page = yield click(page, item)
    yield submit(page)


def _search(page: Observation, said: re.Match[str]) -> Plan:
    place = position(page.utterance)
    page = yield put(page, quoted(page.utterance)[0], fields(page)[0])
    page = yield click(page, labelled(page, "Search", "button"))
    if place >= 3:
        page = yield click(page, labelled(page, str(place // 3 + 1), "a"))
    page, item = yield from reveal(page, lambda p: p.of_class("search-title")[place % 3])
    yield click(page, item)


RULES: tuple[Rule, ...] = (
    (says(r'Enter the password "(.+)" into both'), _enter_twice),
    (says(r'Enter the username "(.+)" and the password "(.+)" into'), _login),
    (says(r'Type "(.+)" in all (upper|lower) case'), _enter_cased),
    (says(r'^Enter "(.+)" into the text field'), _enter),
    (says(r"Enter (\d\d)/(\d\d)/(\d{4}) as the date"), _date),
    (says(r"Enter (\d+):(\d\d)\W*([AP]M) as the time"), _time),
    (says(r"Focus into the (?:(\d\w\w) input )?textbox"), _focus),
    (says(r"Search for (\w+) movies directed by (.+) from year (\d+)"), _movies),
    (says(r"Enter the value of (.+) into the text field"), _cell),
    (says(r"Enter the value that corresponds with each label"), _cells),
    (says(r"^Copy the text"), _copy),
    (says(r"word in the paragraph"), _word),
    (says(r"last word in the text area"), _last_word),
    (says(r"Type the text below"), _captcha),
    (says(r"Solve for x"), _equation),
    (says(r"Solve the math problem"), _sum),
    (says(r"total number of blocks"), _blocks),
    (says(r"Scroll the textarea to the (top|bottom)"), _scroll),
    (says(r'Scroll to the bottom of the textarea, enter the name "(.+)" then press "(\w+)"'), _agreement),
    (says(r"^Highlight the text"), _highlight),
    (says(r"Using the text editor"), _editor),
    (says(r"Use the terminal"), _terminal),
    (says(r"Enter an item that starts with"), _complete),
    (says(r"Use the textbox to enter"), _search),
)
