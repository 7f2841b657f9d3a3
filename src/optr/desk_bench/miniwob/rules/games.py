"""What has to be found out by trying: numbers, cards, a hidden place, a price, a game; and what only pixels show."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob.rules.doing import (
    Plan,
    Rule,
    calm,
    click,
    drag,
    fields,
    labelled,
    need,
    point,
    says,
    submit,
)
from optr.desk_bench.miniwob.seen import Item, Observation

# -- numbers and cards -------------------------------------------------------------------------------------------


def _generate(page: Observation, said: re.Match[str]) -> Plan:
    while not _fits(need(page.by_id("display-number")).text, page.utterance):
        page = yield click(page, labelled(page, "Generate", "button"))
    yield submit(page)


def _fits(text: str, wish: str) -> bool:
    if not text.isdigit():
        return False
    number = int(text)
    if (bound := re.search(r"(less|greater) than (\d+)", wish)) is not None:
        return number < int(bound[2]) if bound[1] == "less" else number > int(bound[2])
    return number % 2 == (1 if "odd" in wish else 0)


def _guess(page: Observation, said: re.Match[str]) -> Plan:
    low, high = int(said[1]), int(said[2])
    while low <= high:
        guess = (low + high) // 2
        field = fields(page)[0]  # what is there is selected, and typed over; to the right it has arrows
        page = yield click(page, (field.box[0] + 8, field.middle[1]), 3)
        page = yield a.Type(f"{guess}\n")
        if "higher" in page.text(need(page.by_id("feedback"))):
            low = guess + 1
        else:
            high = guess - 1


def _greatest(page: Observation, said: re.Match[str]) -> Plan:
    numbers: list[int] = []
    for place in range(len(page.of_class("card"))):
        page = yield click(page, page.of_class("card")[place])
        numbers.append(int(page.of_class("card-value")[0].text))
    best = numbers.index(max(numbers))
    if best != len(numbers) - 1:
        page = yield click(page, page.of_class("card")[best])
    yield submit(page)


def _buy(page: Observation, said: re.Match[str]) -> Plan:
    """Buy when the price is low enough to still be so when the click arrives; the longer it takes, the less low."""
    limit = float(said[1])
    page = yield point(page, labelled(page, "Buy", "button"))
    for look in range(1000):
        price = need(page.by_id("stock-price")).text.lstrip("$")
        if price and float(price) <= limit - (1.2 if look < 60 else 0.5):
            break
        page = yield None
    yield click(page, labelled(page, "Buy", "button"))


# -- a hidden place ----------------------------------------------------------------------------------------------

_FAR_PX = {"HOT": (0, 5), "WARM": (5, 10), "COLD": (10, 40), "ICE COLD": (40, 1000)}
_PROBES = 9


def _hidden(page: Observation, said: re.Match[str]) -> Plan:
    """Ask where it tells most about the places that are still possible, then click the likeliest."""
    area = need(page.by_id("touch-area"))
    left, top, width, height = area.box
    places = np.array([(x, y) for x in np.arange(4, width - 3, 2) for y in np.arange(4, height - 3, 2)])
    asked = places[:: max(1, len(places) // 150)]
    for _ in range(_PROBES):
        spot = _telling(places, asked)
        page = yield point(page, (left + spot[0], top + spot[1]))
        page = yield None  # the page hears of the pointer a moment later
        said_now = page.text(need(page.by_id("display"))) or "ICE COLD"
        if said_now == "HOT":
            break
        near, far = _FAR_PX[said_now]
        away = np.hypot(*(places - spot).T)
        places = places[(away >= near - 1.5) & (away <= far + 1.5)]
        asked = places[:: max(1, len(places) // 150)]
    else:
        spot = places[np.hypot(*(places - places.mean(axis=0)).T).argmin()]
    yield click(page, (left + float(spot[0]), top + float(spot[1])))


def _telling(places: npt.NDArray[np.float64], asked: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The place whose answer splits the possible ones most evenly."""
    away = np.hypot(asked[:, None, 0] - places[None, :, 0], asked[:, None, 1] - places[None, :, 1])
    shares = np.stack([((away >= n) & (away < f)).mean(axis=1) for n, f in _FAR_PX.values()])
    return asked[int((shares**2).sum(axis=0).argmin())]  # type: ignore[no-any-return]


# -- three in a row ----------------------------------------------------------------------------------------------

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def _three(page: Observation, said: re.Match[str]) -> Plan:
    while True:
        cells = [i for i in page.items if re.fullmatch(r"ttt-\d", i.id)]
        page = yield click(page, cells[best_move("".join(map(_mark, cells)))])


def _mark(cell: Item) -> str:
    return "x" if "mark-x" in cell.classes else "o" if "mark-o" in cell.classes else "."


def best_move(board: str) -> int:
    """The free cell with which `x` wins most often against one who plays half of the moves well.

    Args:
        board: Nine cells, `x`, `o` or `.`.
    """
    after = {n: _put(board, n, "x") for n, cell in enumerate(board) if cell == "."}
    return max(after, key=lambda n: (_wins(after[n], "x"), _chance(after[n])))


@cache
def _chance(board: str) -> float:
    """Of `x` to win, with `o` to move."""
    if _wins(board, "x"):
        return 1.0
    free = [n for n, cell in enumerate(board) if cell == "."]
    if not free:
        return 0.0
    good = [n for mark in "ox" for n in free if _wins(_put(board, n, mark), mark)][:1] or free
    return 0.5 * _mean(board, good) + 0.5 * _mean(board, free)


def _mean(board: str, moves: list[int]) -> float:
    return sum(map(_best, (_put(board, n, "o") for n in moves))) / len(moves)


def _best(board: str) -> float:
    if _wins(board, "o") or "." not in board:
        return 0.0
    return max(_chance(_put(board, n, "x")) for n, cell in enumerate(board) if cell == ".")


def _put(board: str, place: int, mark: str) -> str:
    return board[:place] + mark + board[place + 1 :]


def _wins(board: str, mark: str) -> bool:
    return any(all(board[n] == mark for n in line) for line in _LINES)


# -- a cube ------------------------------------------------------------------------------------------------------

_TURN_PX = 60
"""By how far a drag turns the cube by about a quarter."""


def _cube(page: Observation, said: re.Match[str]) -> Plan:
    """Turn the cube by drags beside it, and look which side it shows; 6 and 1 are its upper and lower ones."""
    wanted = said[1]
    for _ in range(8):
        active = _active(page)
        if active == wanted:
            break
        down = active in "61" or wanted in "61"
        x, y = (0, _TURN_PX) if down else (_TURN_PX, 0)
        page = yield drag(page, (100, 240), (100 + x, 240 + y))
        page, _ = yield from calm(page, lambda p: next(iter(p.of_class("cube")), None), 4)
    yield submit(page)


def _active(page: Observation) -> str:
    return next(i.text for i in page.items if "active" in i.classes)


# -- pixels ------------------------------------------------------------------------------------------------------


def _sides(page: Observation, said: re.Match[str]) -> Plan:
    canvas = need(next(iter(page.all("canvas")), None))
    yield click(page, labelled(page, str(count_sides(page.pixels(canvas.box))), "button"))


def count_sides(pixels: npt.NDArray[np.uint8]) -> int:
    """How many sides a regular polygon has, 3 to 7, by how often its outline comes nearer on one way around.

    Args:
        pixels: Dark outline on a light ground, RGB, shape (height, width, 3).
    """
    rows, columns = np.nonzero(pixels.mean(axis=2) < 128)
    y, x = rows - (rows.min() + rows.max()) / 2, columns - (columns.min() + columns.max()) / 2
    for _ in range(20):  # the middle of a triangle is not that of the box around it
        angle, far = np.arctan2(y, x), np.hypot(y, x)
        shift_x, shift_y = 2 * (far * np.cos(angle)).mean(), 2 * (far * np.sin(angle)).mean()
        x, y = x - shift_x / 2, y - shift_y / 2
    angle, far = np.arctan2(y, x), np.hypot(y, x)
    strength = {n: abs(((far - far.mean()) * np.exp(1j * n * angle)).mean()) for n in range(3, 8)}
    return max(strength, key=lambda n: strength[n])


_PICTURE_GRID = (7, 4)


def _draw_number(page: Observation, said: re.Match[str]) -> Plan:
    """Check the boxes that the example shows, all by the keyboard after the first."""
    picture = need(next(iter(page.all("img")), None))
    rows, columns = _PICTURE_GRID
    _, _, width, height = picture.box
    pixels = page.pixels(picture.box).mean(axis=2)
    light = [
        pixels[int((r + 0.5) * height / rows), int((c + 0.5) * width / columns)] > 180
        for r in range(rows)
        for c in range(columns)
    ]
    boxes = page.all("input", where=lambda i: i.kind == "checkbox" and not i.disabled)
    first, *rest = (n for n, on in enumerate(light) if on)
    page = yield click(page, boxes[first])
    strokes, at = "", first
    for place in rest:
        strokes, at = f"{strokes}{chr(9) * (place - at)} ", place
    page = yield a.Type(strokes)
    yield submit(page)


RULES: tuple[Rule, ...] = (
    (says(r"^Generate an? (?:odd |even )?number"), _generate),
    (says(r"Guess the number between (\d+)-(\d+)"), _guess),
    (says(r"card with the greatest number"), _greatest),
    (says(r"Buy \w+ stock when the price is less than \$([\d.]+\d)"), _buy),
    (says(r"Find and click on the HOT area"), _hidden),
    (says(r"win a game of tic-tac-toe"), _three),
    (says(r'Move the cube around so that "(\d)"'), _cube),
    (says(r"how many sides the shape has"), _sides),
    (says(r"^Draw the number"), _draw_number),
)
