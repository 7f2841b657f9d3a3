"""The rules that do tasks of MiniWoB++, on pages made here: what they read out of words, drawings and boards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.codec import check_action
from optr.desk_bench.miniwob.operator import RULES, ScriptedOperator
from optr.desk_bench.miniwob.published import PUBLISHED
from optr.desk_bench.miniwob.rules.clicks import _stem
from optr.desk_bench.miniwob.rules.doing import LostError, alike, position, rgb
from optr.desk_bench.miniwob.rules.games import best_move, count_sides
from optr.desk_bench.miniwob.rules.services import source_and_goal
from optr.desk_bench.miniwob.runs import Episode, summary
from optr.desk_bench.miniwob.seen import Item, Observation

SIZE = (400, 300)


def page(utterance: str, *items: Item) -> Observation:
    """A page with elements below one another, 30 px apart, in a body."""
    body = Item(0, -1, "body", box=(0, 0, *SIZE), shown=(0, 0, *SIZE))
    placed = []
    for number, item in enumerate(items, 1):
        box = item.box if item.box[2] else (10.0, 30.0 * number, 60.0, 20.0)
        placed.append(Item(**{**vars(item), "number": number, "parent": 0, "box": box, "shown": box, "free": True}))
    picture = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    return Observation(utterance, (body, *placed), SIZE, Rect(0, 0, *SIZE), SIZE, picture)


def item(tag: str, text: str = "", **more) -> Item:
    return Item(0, 0, tag, text=text, **more)


def decided(*pages: Observation) -> list[a.DesktopAction | None]:
    """What the operator does on each page in turn."""
    operator = ScriptedOperator()
    return [operator.select_action(one, {"step": n}) for n, one in enumerate(pages)]


def clicked(action: a.DesktopAction | None) -> tuple[int, int]:
    """The pixel that an action aims at."""
    assert isinstance(action, a.Click | a.Type), action
    at = action.at if isinstance(action, a.Click) else action.into
    assert isinstance(at, a.Point)
    return int(at.x * SIZE[0]), int(at.y * SIZE[1])


BUTTONS = (item("button", "ok"), item("button", "Ok"), item("button", "cancel"))


@pytest.mark.parametrize(("name", "row"), [("ok", 1), ("Ok", 2), ("cancel", 3)])
def test_clicks_the_button_that_is_named_to_the_letter(name, row):
    (action,) = decided(page(f'Click on the "{name}" button.', *BUTTONS))
    assert clicked(action) == (40, 30 * row + 10)


def test_types_then_submits_then_is_done():
    form = page(
        'Enter "Ada" into the text field and press Submit.', item("input", kind="text"), item("button", "Submit")
    )
    first, second, third = decided(form, form, form)
    assert isinstance(first, a.Type) and first.text == "Ada" and clicked(first) == (40, 40)
    assert clicked(second) == (40, 70)
    assert third == a.Done()


def test_checks_only_the_boxes_that_are_named():
    utterance = "Select b, d and click Submit."
    boxes = [Item(0, 0, "label", text=t) for t in "abcd"]
    made = page(utterance, *boxes, item("button", "Submit"))
    labels = [i for i in made.items if i.tag == "label"]
    inputs = tuple(
        Item(100 + n, one.number, "input", kind="checkbox", box=one.box, shown=one.box, free=True)
        for n, one in enumerate(labels)
    )
    whole = [*made.items]
    for one in inputs:
        whole.append(Item(**{**vars(one), "number": len(whole)}))
    seen = Observation(utterance, tuple(whole), SIZE, made.place, SIZE, made.picture)
    actions = decided(seen, seen, seen, seen)
    assert [clicked(x)[1] for x in actions[:3]] == [70, 130, 160]
    assert actions[3] == a.Done()


@pytest.mark.parametrize("utterance", ["", "Whistle a tune.", "Select"])
def test_a_task_that_no_rule_knows_is_given_up(utterance):
    (action,) = decided(page(utterance, *BUTTONS))
    assert isinstance(action, a.Fail) and "no rule knows" in action.reason


def test_a_page_that_lacks_what_is_named_is_given_up():
    (action,) = decided(page('Click on the "no such" button.', *BUTTONS))
    assert isinstance(action, a.Fail) and "not on the page" in action.reason


def test_a_reset_forgets_the_episode_before():
    operator = ScriptedOperator()
    first = page('Click on the "ok" button.', *BUTTONS)
    operator.select_action(first, {})
    operator.reset()
    again = operator.select_action(page('Click on the "cancel" button.', *BUTTONS), {})
    assert clicked(again) == (40, 100)


@pytest.mark.parametrize("name", ["Ada", "Sara-Ann"])
def test_drags_the_entry_of_a_name_to_the_bottom(name):
    entries = [item("li", text, classes=("ui-state-default",)) for text in ("Eve", name, "Bob")]
    (action,) = decided(page(f"Drag {name} to the bottom.", *entries))
    assert isinstance(action, a.Drag), action
    start, *_, end = action.path
    assert isinstance(start, a.Point) and isinstance(end, a.Point)
    assert int(start.y * SIZE[1]) == 70 and 100 < int(end.y * SIZE[1]) < 110


def test_what_asks_is_not_clicked():
    asking = item("b", "ok", asks=True)
    (action,) = decided(page('Click on the "ok" button.', asking, item("button", "ok")))
    assert clicked(action) == (40, 70)


def test_every_place_on_a_page_becomes_a_sound_action():
    made = page("x")
    for spot in [(0, 0), (399.9, 299.9), (0.5, 150.25)]:
        point = made.point(spot)
        check_action(a.Click(point))
        assert (int(point.x * SIZE[0]), int(point.y * SIZE[1])) == (int(spot[0]), int(spot[1]))


SENDERS = {"Ada", "Bob", "Adalbert"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Find the email by Ada and forward that email to Bob.", ("Ada", "Bob")),
        ("Forward Bob Ada's latest email.", ("Ada", "Bob")),
        ("Give Bob the email from Ada.", ("Ada", "Bob")),
        ("Send the email Ada sent to me to Bob.", ("Ada", "Bob")),
        ("Find the email by Ada and forward that email to Zoe.", ("Ada", "Zoe")),
        ("Bob must be forwarded email from Adalbert.", ("Adalbert", "Bob")),
    ],
)
def test_reads_whose_mail_goes_to_whom(words, expected):
    assert source_and_goal(words, SENDERS) == expected


def test_refuses_to_guess_whose_mail_it_is():
    with pytest.raises(LostError, match="whose mail"):
        source_and_goal("Forward it.", SENDERS)


@pytest.mark.parametrize(("text", "place"), [("the 1st word", 0), ("2nd", 1), ("the 14th word of the 3rd", 2)])
def test_reads_positions(text, place):
    assert position(text) == place


def test_misses_a_position():
    with pytest.raises(LostError, match="no position"):
        position("the word")


def test_words_meet_in_the_singular():
    assert _stem(" Cars") == _stem("car") != _stem("house")
    assert _stem("glass") == "glass"


@pytest.mark.parametrize("colour", ["lime", "#00ff00", "rgb(0, 255, 0)", "rgba(0, 255, 0, 0.5)"])
def test_colours_are_one_however_they_are_written(colour):
    assert rgb(colour) == (0, 255, 0) and alike(colour, "Lime") and not alike(colour, "green")


def test_what_is_no_colour_is_like_none():
    assert rgb("item") is None and not alike("item", "item")


# -- games: an oracle that plays every game out ----------------------------------------------------------------------


def winner(board: Sequence[str]) -> str:
    grid = np.array(list(board)).reshape(3, 3)
    lines = [*grid, *grid.T, grid.diagonal(), np.fliplr(grid).diagonal()]
    return next((line[0] for line in lines if line[0] != "." and len(set(line)) == 1), "")


def shares(board: str) -> dict[str, float]:
    """How often who wins, the rule with `x` to move, if `o` moves at random."""
    if winner(board) or "." not in board:
        return {winner(board): 1.0}
    here = best_move(board)
    board = board[:here] + "x" + board[here + 1 :]
    if winner(board) or "." not in board:
        return {winner(board): 1.0}
    answers = [board[:n] + "o" + board[n + 1 :] for n, cell in enumerate(board) if cell == "."]
    mean: dict[str, float] = {}
    for answer in answers:
        for who, share in shares(answer).items():
            mean[who] = mean.get(who, 0.0) + share / len(answers)
    return mean


@pytest.mark.parametrize("board", ["." * 9, "....o....", "o........", ".o......."])
def test_wins_a_row_of_three_most_of_the_time(board):
    found = shares(board)
    assert found["x"] > 0.75 and found.get("o", 0.0) < 0.15


@pytest.mark.parametrize(("board", "move"), [("xx.oo....", 2), ("x..xoo...", 6), ("o.xox....", 6)])
def test_wins_at_once_when_it_can(board, move):
    assert best_move(board) == move


@pytest.mark.parametrize("sides", range(3, 8))
@pytest.mark.parametrize("turn", [0, 17, 80, 133])
def test_counts_the_sides_of_any_polygon(sides, turn):
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (150, 100), "white")
    turns = [math.radians(turn) + 2 * math.pi * n / sides for n in range(sides)]
    corners = [(75 + 35 * math.cos(t), 50 + 35 * math.sin(t)) for t in turns]
    ImageDraw.Draw(picture).line([*corners, corners[0], corners[1]], "black", 3)
    assert count_sides(np.asarray(picture)) == sides


def test_summary_is_the_mean_over_tasks():
    rows = [Episode("one", s, True, 1.0) for s in range(4)] + [Episode("two", 0, True, 0.5), Episode("two", 1)]
    whole = summary(rows)
    assert (whole["success"], whole["full_reward"]) == (0.75, 0.5)
    assert whole["by_task"] == {"one": 1.0, "two": 0.5}


def test_published_numbers_name_their_source_and_tasks():
    assert all(0 < row.success < 1 and row.tasks >= 50 and row.source for row in PUBLISHED)
    assert len({row.who for row in PUBLISHED}) == len(PUBLISHED)


def test_there_are_rules_for_what_there_is():
    assert len(RULES) > 80
