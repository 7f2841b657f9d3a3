"""What is done on pages like those of mail, posts, shops, contacts, calendars and flights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import partial

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules.doing import (
    NOTCH_PX,
    LostError,
    Part,
    Plan,
    Rule,
    around,
    click,
    drag,
    fields,
    labelled,
    need,
    put,
    quoted,
    reveal,
    says,
    shows,
    submit,
    submit_calmly,
    until,
)
from optr.desk_bench.miniwob.seen import Item, Observation


def _part(page: Observation, whole: Item | None, name: str) -> Item | None:
    """The first element of a class in another."""
    inside = page.within(whole) if whole is not None else iter(())
    return next((i for i in inside if name in i.classes), None)


# -- mail --------------------------------------------------------------------------------------------------------


def _mail(page: Observation, said: object) -> Plan:
    words = page.utterance
    senders = {i.text for i in page.items if "email-sender" in i.classes}
    if quotes := quoted(words):
        yield from _reply(page, need(_named(words, senders)), quotes[-1])
    elif re.search(r"\bstar|important|favorite|flag|priority", words, re.IGNORECASE):
        yield from _mark(page, need(_named(words, senders)), "star")
    elif re.search(r"delet|trash|remov|eras|discard|rid of|garbage|throw", words, re.IGNORECASE):
        yield from _mark(page, need(_named(words, senders)), "trash")
    else:
        yield from _forward(page, *source_and_goal(words, senders))


def _named(words: str, names: set[str]) -> str | None:
    """The longest of some names that is written somewhere."""
    return max((n for n in names if n in words), key=len, default=None)


def source_and_goal(words: str, senders: set[str]) -> tuple[str, str]:
    """Whose mail goes to whom.

    Raises:
        LostError: If the words do not tell.
    """
    given = [w for w in re.findall(r"\b[A-Z][a-z]+", words) if w in senders]
    before = r"(?:from|by) (\w+)", r"(\w+)(?:'s|s') ", r"(\w+) (?:sent|wrote|e-?mail)", r"(?:that|email) (\w+) "
    found = (m[1] for pattern in before for m in re.finditer(pattern, words) if m[1] in senders)
    source = next(found, None) or next(iter(given), None)
    others = [w for w in given if w != source]
    after = [m[1] for m in re.finditer(r"\bto ([A-Z]\w+)", words) if m[1] != source]
    goal = next(iter(after), None) or next(iter(others), None)
    if source is None or goal is None:
        raise LostError(f"{words!r} does not tell whose mail goes to whom")
    return source, goal


def _thread(name: str, part: str, page: Observation) -> Item | None:
    sender = next((i for i in page.items if "email-sender" in i.classes and i.text == name), None)
    return None if sender is None else _part(page, around(page, sender, "email-thread"), part)


def _mark(page: Observation, sender: str, icon: str) -> Plan:
    page, item = yield from reveal(page, partial(_thread, sender, icon))
    yield click(page, item)


def _open(page: Observation, sender: str, what: str) -> Part:
    page, item = yield from reveal(page, partial(_thread, sender, "email-sender"))
    page = yield click(page, item)
    page, item = yield from reveal(page, lambda p: next((i for i in p.items if what in i.classes), None))
    return (yield click(page, item))


def _reply(page: Observation, sender: str, text: str) -> Plan:
    page = yield from _open(page, sender, "email-reply")
    page = yield put(page, text, page.by_id("reply-text"))
    yield click(page, page.by_id("send-reply"))


def _forward(page: Observation, sender: str, to: str) -> Plan:
    page = yield from _open(page, sender, "email-forward")
    page = yield put(page, to, next(iter(page.of_class("forward-sender")), None))
    yield click(page, page.by_id("send-forward"))


# -- posts -------------------------------------------------------------------------------------------------------


def _posts(page: Observation, user: str) -> list[Item]:
    names = [i for i in page.items if "username" in i.classes and i.text == user]
    return [need(around(page, i, "media")) for i in names]


def _post(page: Observation, said: re.Match[str]) -> Plan:
    user, action = said[1], said[2]
    if action in ("Reply", "Retweet", "Like"):
        page, item = yield from reveal(page, lambda p: _part(p, _posts(p, user)[0], action.lower()))
    else:
        page, more = yield from reveal(page, lambda p: _part(p, _posts(p, user)[0], "more"))
        page = yield click(page, more)
        page, item = yield from reveal(page, lambda p: _menu_entry(p, action))
    yield click(page, item)


def _menu_entry(page: Observation, start: str) -> Item | None:
    shown = [i for i in page.items if i.tag == "li" and i.box[3] and i.text.startswith(start)]
    return next(iter(shown), None)


def _all_posts(page: Observation, said: re.Match[str]) -> Plan:
    action, amount, user = said[1].lower(), said[2], said[3]
    posts = _posts(page, user)
    for place in range(len(posts) if amount == "all" else int(amount)):
        page, item = yield from reveal(page, partial(_button_of, user, place, action))
        page = yield click(page, item)
    page, _ = yield from reveal(page, lambda p: next((i for i in p.items if i.tag == "button"), None))
    yield submit(page)


def _button_of(user: str, place: int, action: str, page: Observation) -> Item | None:
    return _part(page, _posts(page, user)[place], action)


# -- shops -------------------------------------------------------------------------------------------------------


def _order_named(page: Observation, said: re.Match[str]) -> Plan:
    for name in said[1].split(","):
        page, item = yield from reveal(page, partial(_more_of, name.strip()))
        page = yield click(page, item)
    yield from _order(page)


def _order_some(page: Observation, said: re.Match[str]) -> Plan:
    """The first dish of a kind, several times; the picture tells the kind."""
    kind = said[2]
    pictures = (i for i in page.items if f"/{kind}." in i.attributes.get("src", ""))
    dish = need(around(page, need(next(pictures, None)), "food-item"))
    name = need(_part(page, dish, "item-name")).text
    page, item = yield from reveal(page, partial(_more_of, name))
    page = yield click(page, item, int(said[1]))
    yield from _order(page)


def _more_of(name: str, page: Observation) -> Item | None:
    dish = next((i for i in page.items if "item-name" in i.classes and i.text == name), None)
    return None if dish is None else _part(page, around(page, dish, "food-item"), "add")


def _order(page: Observation) -> Plan:
    page, item = yield from reveal(page, lambda p: next((i for i in p.items if i.text == "Order!"), None))
    yield click(page, item)


def _ticket(page: Observation, said: re.Match[str]) -> Plan:
    yield from _book(page, said[1])


def _book(page: Observation, wish: str) -> Plan:
    best = {"cheapest": min, "shortest": min, "longest": max, "most expensive": max}[wish]
    measure = _price if wish in ("cheapest", "most expensive") else _minutes
    flights = [i for i in page.items if "flight" in i.classes]
    place = flights.index(best(flights, key=partial(measure, page)))
    page, item = yield from reveal(page, partial(_booking, place))
    yield click(page, item)


def _booking(place: int, page: Observation) -> Item | None:
    flight = [i for i in page.items if "flight" in i.classes][place]
    return next((i for i in page.within(flight) if i.tag == "button"), None)


def _price(page: Observation, flight: Item) -> int:
    return int(need(re.search(r"\$(\d+)", page.text(flight)))[1])


def _minutes(page: Observation, flight: Item) -> int:
    hours, minutes = need(re.search(r"(\d+)h (\d+)m", page.text(flight))).groups()
    return 60 * int(hours) + int(minutes)


# -- contacts ----------------------------------------------------------------------------------------------------


def _contact(page: Observation, said: re.Match[str]) -> Plan:
    while page.of_class("name")[0].text != said[1]:
        page = yield click(page, labelled(page, ">", "a"))
    yield click(page, next(iter(page.of_class(said[2])), None))


# -- calendars ---------------------------------------------------------------------------------------------------


def _pick_date(page: Observation, said: re.Match[str]) -> Plan:
    page = yield from _picked(page, next((i for i in fields(page) if i.id == "datepicker"), None), said[1])
    yield from submit_calmly(page)


def _picked(page: Observation, field: Item | None, text: str) -> Part:
    """Open a calendar, turn to the month by the keys, and click the day."""
    month, day, year = (int(part) for part in text.split("/"))
    page = yield click(page, field)
    page, _ = yield from until(page, lambda p: p.of_class("ui-datepicker-month"))
    shown = date.fromisoformat(f"{page.of_class('ui-datepicker-year')[0].text}-{_month(page):02}-01")
    months = 12 * (shown.year - year) + shown.month - month
    if months:
        page = yield a.Key("pageup" if months > 0 else "pagedown", abs(months))
    page, _ = yield from until(page, lambda p: _month(p) == month)
    days = (i for i in page.of_class("ui-state-default") if i.tag == "a" and i.text == str(day))
    return (yield click(page, next(days, None)))


_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


def _month(page: Observation) -> int:
    return _MONTHS.index(page.of_class("ui-datepicker-month")[0].text) + 1


def _fly(page: Observation, said: re.Match[str]) -> Plan:
    for place, city in enumerate((said[2], said[3])):
        page = yield put(page, city, fields(page)[place])
        page, entry = yield from until(page, partial(_suggested, city))
        page = yield click(page, entry)
    page = yield from _picked(page, page.by_id("datepicker"), said[4])
    page = yield click(page, labelled(page, "Search", "button"))
    yield from _book(page, said[1])


def _suggested(city: str, page: Observation) -> Item | None:
    return next((i for i in page.of_class("ui-menu-item-wrapper") if city in i.text), None)


def _event(page: Observation, said: re.Match[str]) -> Plan:
    """Draw an event over free half hours, name it, and create it.

    With some fonts the rows to draw in lie below those in which events are shown; the button is let go over the event.
    """
    slots = round(float(said[1]) * (2 if said[2].startswith("hour") else 1 / 30))
    first, last = _half_hour(said[4]), _half_hour(said[5])
    start = need(_in_sight(page, list(_free(page, first, last, slots))), "a time that is free")
    page, _ = yield from reveal(page, lambda p: p.by_id(f"hh-{start}"))
    top, bottom = (need(page.by_id(f"hh-{n}")).middle for n in (start, start + slots - 1))
    beside = top[0] + 70
    page = yield drag(page, top, bottom, (beside, bottom[1]), (beside, top[1] + 3 + _lower(page)), seconds=0.5)
    page, field = yield from reveal(page, lambda p: p.by_id("event-name"))
    page = yield put(page, said[3], field)
    page, button = yield from reveal(page, lambda p: next((i for i in p.items if "create" in i.classes), None))
    yield click(page, button)


def _lower(page: Observation) -> float:
    """How far events are shown below the rows to draw in [px]; negative: above."""
    hour = next(i for i in page.items if "hour" in i.classes)
    return hour.box[1] - need(_part(page, hour, "half-hour")).box[1]


def _in_sight(page: Observation, starts: list[int]) -> int | None:
    """That which notches of the wheel bring nearest to the middle of what is shown."""

    def beside(start: int) -> float:
        notches = need(page.by_id(f"hh-{start}")).box[1] / NOTCH_PX
        return abs(notches - round(notches - _MIDDLE) - _MIDDLE)

    return min(starts, key=beside, default=None)


_MIDDLE = 120 / NOTCH_PX
"""Of the rows that are shown, from the top of the page [notches]."""


def _half_hour(text: str) -> int:
    hour, half = int(text[:-2]) % 12, text[-2:].upper()
    return 2 * (hour + (12 if half == "PM" else 0))


def _free(page: Observation, first: int, last: int, slots: int) -> Iterator[int]:
    """Half hours at which so many are free, not even touching another event."""
    shown = [i.box for i in page.items if "event" in i.classes]
    events = [*shown, *((left, top - _lower(page), width, height) for left, top, width, height in shown)]
    for start in range(first, last - slots + 1):
        above, below = (need(page.by_id(f"hh-{n}")).box for n in (start, start + slots - 1))
        low, high = above[1] - above[3] / 2, below[1] + 1.5 * below[3]
        if not any(top < high and top + height > low for _, top, _, height in events):
            yield start


RULES: tuple[Rule, ...] = (
    (shows("email-thread"), _mail),
    (says(r'For the user (@\w+), click on the "(\w+)'), _post),
    (says(r'Click the "(\w+)" button on (all|\d+) posts? by (@\w+)'), _all_posts),
    (says(r"Order one of each item: (.+)"), _order_named),
    (says(r"Order (\d) items that are (\S+)"), _order_some),
    (says(r"Buy the ticket with the (cheapest|shortest|longest|most expensive)"), _ticket),
    (says(r"Find ([\w-]+) in the contact book and click on their (\w+)"), _contact),
    (says(r"Select (\d\d/\d\d/\d{4}) as the date"), _pick_date),
    (says(r"Book the (cheapest|shortest) one-way flight from: (.+) to: (.+) on (\d\d/\d\d/\d{4})"), _fly),
    (says(r'Create a ([\d.]+) (hour|min)\w* event named "(.+)", between (\w+) and (\w+)'), _event),
)
