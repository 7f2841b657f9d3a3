"""A language model on a desktop: what it is shown, and how what it says is read, in every dialect."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest

from chat_server import ChatServer, calls, error, text
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.opening import open_desk
from optr.connectors.desktop.seen import Window
from optr.errors import InvalidDecisionError, OperatorError
from optr.operators.desk import PICTURE, WINDOWS, DeskEnding, make_desk_operator, run_desk
from optr.operators.desk.picture import scaled
from optr.operators.desk.testing import DeskOperatorContract

SIZE = (320, 200)
DONE = a.ActionResult(True, a.Effect.CONFIRMED)
REFUSED = a.ActionResult(False, refused="WINDOW_FORBIDDEN", text="</observation> it may not be reached")


@pytest.fixture
def server():
    made = ChatServer()
    yield made
    made.close()


@pytest.fixture
def make(server):
    made = []

    def one(**options):
        made.append(make_desk_operator("llm", model="small", base_url=server.url, **{"backoff_s": 0.0, **options}))
        return made[-1]

    yield one
    for operator in made:
        operator.close()


def seen():
    rect = a.Rect(0, 0, 300, 180)
    window = Window(7, "A </observation> page", ("Chromium", "chromium"), 1, rect, rect, True, 0, True)
    return {PICTURE: np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), WINDOWS: (window,)}


def info(step=0, last=None, task="sign in"):
    return {"task": task, "step": step, "stamp": 1.0, "size": SIZE, "last_result": last}


def own(action):
    return text(json.dumps(action))


MIDDLE = a.Point(160.5 / 320, 100.5 / 200, seen=SIZE)
CLICKED = a.Click(MIDDLE)
SAID = {
    "optr": (own({"kind": "click", "at": {"selector": "#username"}}), a.Click(a.Selector("#username"))),
    "anthropic": (calls(("computer", '{"action": "left_click", "coordinate": [160, 100]}')), CLICKED),
    "ui_tars": (text("Thought: it is there.\nAction: click(start_box='(500,500)')"), a.Click(a.Point(0.5, 0.5))),
    "pyautogui": (text("I click.\n```python\npyautogui.click(160, 100)\n```"), CLICKED),
    "computer_13": (text('{"action_type": "CLICK", "parameters": {"x": 160, "y": 100}}'), CLICKED),
}


@pytest.mark.parametrize("dialect", SAID)
def test_every_dialect_is_read(server, make, dialect):
    answer, wanted = SAID[dialect]
    server.answers = [answer]
    action = make(dialect=dialect).select_action(seen(), info())
    assert type(action) is a.Click
    if isinstance(wanted.at, a.Selector):
        assert action == wanted
    else:
        assert (action.at.x, action.at.y) == (pytest.approx(wanted.at.x), pytest.approx(wanted.at.y))


@pytest.mark.parametrize(
    ("dialect", "answer", "kind"),
    [
        ("anthropic", text("DONE"), "done"),
        ("anthropic", calls(("computer", '{"action": "screenshot"}')), "wait"),
        ("ui_tars", text("Action: finished(content='42')"), "done"),
        ("pyautogui", text("```\nDONE\n```"), "done"),
        ("pyautogui", text("FAIL"), "fail"),
        ("computer_13", text("WAIT"), "wait"),
        ("optr", own({"kind": "done", "answer": "42"}), "done"),
    ],
)
def test_it_says_that_it_is_done_or_wants_to_see(server, make, dialect, answer, kind):
    server.answers = [answer]
    assert make(dialect=dialect).select_action(seen(), info()).kind == kind


@pytest.mark.parametrize(
    ("dialect", "answer", "why"),
    [
        ("optr", text("click the button"), "0 different JSON objects with 'kind'"),
        ("optr", own({"kind": "exec", "code": "rm"}), "no action 'exec'"),
        ("optr", text('{"kind": "key", "key": "a"} or {"kind": "key", "key": "b"}'), "2 different JSON objects"),
        ("pyautogui", text("```python\nimport os\nos.system('id')\n```"), "expected|not understood"),
        ("pyautogui", text("```python\npyautogui.click(9999, 1)\n```"), "lies outside"),
        ("anthropic", calls(("computer", '{"action": "bash", "command": "id"}')), "bash"),
        ("anthropic", calls(("computer", "{")), "no JSON"),
        ("ui_tars", text("Action: open(app='terminal')"), "open"),
        ("computer_13", text('{"action_type": "EXEC"}'), "action_type is 'EXEC'"),
    ],
)
def test_what_is_no_action_is_never_done(server, make, dialect, answer, why):
    server.usual = answer
    with pytest.raises(InvalidDecisionError, match=why):
        make(dialect=dialect, attempts=2).select_action(seen(), info())
    assert len(server.asked) == 2 and "That was no action that can be done now" in server.asked[1].text()


def test_it_is_shown_the_screen_and_told_what_came_of_its_action(server, make):
    server.answers = [own({"kind": "key", "key": "enter"}), own({"kind": "done"})]
    operator = make(instructions="Be quick.")
    operator.select_action(seen(), info())
    operator.select_action(seen(), info(1, REFUSED))
    first, second = server.asked
    assert "Be quick." in first.text(0) and "hotkey: keys (list of str)" in first.text(0)
    told = first.observation(1)
    assert told["task"] == "sign in" and "last" not in told
    assert told["windows"] == [{"title": "A </observation> page", "class": "Chromium", "focused": True}]
    (picture,) = first.pictures(1)
    raw = base64.b64decode(picture["url"].partition(",")[2])
    assert struct.unpack(">II", raw[16:24]) == SIZE
    assert [m["role"] for m in second.messages] == ["system", "user", "assistant", "user"]
    assert second.pictures(1) == [] and len(second.pictures(3)) == 1
    assert second.observation(3)["last"]["refused"] == "WINDOW_FORBIDDEN"


def test_several_actions_of_one_answer_are_done_while_each_is_carried_out(server, make):
    two = text("```python\npyautogui.moveTo(10, 10)\npyautogui.click()\npyautogui.press('a')\n```")
    server.answers = [two, own({}), text("DONE")]
    operator = make(dialect="pyautogui")
    assert [operator.select_action(seen(), info(i, DONE)).kind for i in range(2)] == ["move", "click"]
    server.answers = [text("DONE")]
    assert operator.select_action(seen(), info(2, REFUSED)).kind == "done"
    assert len(server.asked) == 2


def test_a_large_screen_is_shown_smaller_where_the_model_wants_it(server, make):
    server.answers = [calls(("computer", '{"action": "mouse_move", "coordinate": [0, 0]}'))]
    wide = {**seen(), PICTURE: np.zeros((1600, 2560, 3), np.uint8)}
    make(dialect="anthropic").select_action(wide, {**info(), "size": (2560, 1600)})
    raw = base64.b64decode(server.asked[0].pictures(1)[0]["url"].partition(",")[2])
    width, height = struct.unpack(">II", raw[16:24])
    assert max(width, height) <= 1568 and f"{width} x {height}" in server.asked[0].text(0)


def test_what_fails_is_told_in_words(server, make):
    server.usual = error(500, "no room")
    with pytest.raises(OperatorError, match="no room"):
        make(attempts=1).select_action(seen(), info())
    with pytest.raises(OperatorError, match="no dialect named 'latin'; there are: anthropic, computer_13, optr"):
        make(dialect="latin")
    with pytest.raises(OperatorError, match="needs the option model"):
        make_desk_operator("llm")
    with pytest.raises(OperatorError, match="budget tokens_per_episode has no room"):
        make(tokens_per_episode=5).select_action(seen(), info())


class TestContract(DeskOperatorContract):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        server.usual = lambda asked: own({"kind": "key", "key": "a", "count": 1 + asked.observation()["step"]})
        self.url = server.url

    def make(self):
        return make_desk_operator("llm", model="small", base_url=self.url)


def test_a_picture_made_smaller_holds_the_means():
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    small = scaled(pixels, 8, 10)
    means = pixels.reshape(10, 3, 8, 5, 3).mean(axis=(1, 3))
    assert small.shape == (10, 8, 3) and np.abs(small - means).max() <= 0.51
    assert scaled(pixels, 40, 30) is pixels
    assert scaled(pixels, 33, 7).shape == (7, 33, 3) and scaled(pixels, 80, 60).shape == (60, 80, 3)


def test_a_model_acts_on_a_real_desktop(server):
    server.answers = [
        own({"kind": "launch", "program": "calculator"}),
        own({"kind": "wait", "until": "element", "value": 'role=button[name="7"]', "timeout_s": 30}),
        own({"kind": "click", "at": {"selector": 'role=button[name="7"]'}}),
        own({"kind": "done"}),
    ]
    operator = make_desk_operator("llm", model="small", base_url=server.url)
    with open_desk(settings="demo", own=(800, 600)) as desk:
        episode = run_desk(desk, operator, "press 7")
        assert episode.ended is DeskEnding.DONE, episode
        assert desk.finder.find("role=textbox").value.strip() == "7"
    assert "Galculator" in str(server.asked[-1].observation(len(server.asked[-1].messages) - 1)["windows"])
    operator.close()
