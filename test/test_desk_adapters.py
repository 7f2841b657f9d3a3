"""Other people's actions into ours and back: what they mean, what is refused, and that nothing of them is executed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desk_actions import EXAMPLES, actions, json_values
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters.anthropic import Look, from_anthropic, shown_size, to_anthropic, tool_result
from optr.connectors.desktop.adapters.browsergym import Page, from_browsergym, to_browsergym
from optr.connectors.desktop.adapters.miniwob import TASK_SIZE, Task, from_miniwob, to_miniwob
from optr.connectors.desktop.adapters.osworld import from_computer_13, to_computer_13
from optr.connectors.desktop.adapters.pyautogui_text import from_pyautogui, to_pyautogui
from optr.connectors.desktop.adapters.ui_tars import from_ui_tars, to_ui_tars
from optr.connectors.desktop.view import pixel_in, point_of
from optr.errors import DesktopError

SCREEN = (1920, 1080)
PAGE = Page(a.Rect(100, 200, 1000, 700), (1000, 700), SCREEN)
TASK = Task(
    Page(a.Rect(50, 150, 160, 210), TASK_SIZE, SCREEN),
    {7: (10, 20, 30, 40)},
    ("alice", "secret words"),
    ("NONE", "CLICK_COORDS", "PRESS_KEY"),
    ("<Enter>", "C-a"),
)


def at(x: int, y: int, size=SCREEN) -> a.Point:
    return point_of((x, y), size)


def wait(seconds: float) -> a.Wait:
    return a.Wait("time", timeout_s=seconds)


# -- pixels ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.data())
def test_a_pixel_of_a_picture_is_the_same_pixel_of_a_screen_of_its_size(width, height, draw):
    x, y = draw.draw(st.integers(0, width - 1)), draw.draw(st.integers(0, height - 1))
    point = point_of((x, y), (width, height))
    assert pixel_in(a.Rect(3, 4, width, height), point.x, point.y) == (3 + x, 4 + y)
    x2, y2 = pixel_in(a.Rect(0, 0, 2 * width, 2 * height), point.x, point.y)
    assert x2 in (2 * x, 2 * x + 1) and y2 in (2 * y, 2 * y + 1)


# -- what each says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"action_type": "MOVE_TO", "parameters": {"x": 10, "y": 20}}, [a.Move(at(10, 20))]),
        ({"action_type": "CLICK", "parameters": {}}, [a.Click()]),
        ({"action_type": "CLICK", "button": "right", "num_clicks": 2, "x": 1, "y": 2}, [a.Click(at(1, 2), "right", 2)]),
        ({"action_type": "MOUSE_DOWN"}, [a.Press()]),
        ({"action_type": "MOUSE_UP", "parameters": {"button": "middle"}}, [a.Release(None, "middle")]),
        ({"action_type": "RIGHT_CLICK", "parameters": {"x": 0, "y": 0}}, [a.Click(at(0, 0), "right")]),
        ({"action_type": "DOUBLE_CLICK"}, [a.Click(None, "left", 2)]),
        ({"action_type": "DRAG_TO", "parameters": {"x": 5, "y": 6}}, [a.Press(), a.Move(at(5, 6)), a.Release()]),
        ({"action_type": "SCROLL", "parameters": {"dx": 0, "dy": -3}}, [a.Scroll(None, 0, 3)]),
        ({"action_type": "TYPING", "parameters": {"text": "a\r\nb"}}, [a.Type("a\nb")]),
        ({"action_type": "PRESS", "parameters": {"key": "Return"}}, [a.Key("enter")]),
        ({"action_type": "KEY_DOWN", "parameters": {"key": "ctrlleft"}}, [a.KeyDown("ctrl")]),
        ({"action_type": "KEY_UP", "parameters": {"key": "ctrl"}}, [a.KeyUp("ctrl")]),
        ({"action_type": "HOTKEY", "parameters": {"keys": ["ctrl", "S"]}}, [a.Hotkey(("ctrl", "S"))]),
        ("WAIT", [wait(1.0)]),
        ({"action_type": "FAIL"}, [a.Fail()]),
        ("DONE", [a.Done()]),
    ],
)
def test_computer_13(data, expected):
    assert list(from_computer_13(data, SCREEN)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WAIT", [wait(1.0)]),
        ("pyautogui.click(10, 20)", [a.Click(at(10, 20))]),
        ("pyautogui.click((10, 20), button='right')", [a.Click(at(10, 20), "right")]),
        ("pyautogui.click(x=10, y=20.7, clicks=2, interval=0.1, button='middle')", [a.Click(at(10, 20), "middle", 2)]),
        ("pyautogui.doubleClick(10, 20)", [a.Click(at(10, 20), "left", 2)]),
        ("pyautogui.rightClick()", [a.Click(None, "right")]),
        ("pyautogui.moveTo(1, 2, duration=0.5)", [a.Move(at(1, 2))]),
        ("pyautogui.dragTo(1, 2, 0.5, button='left')", [a.Press(), a.Move(at(1, 2)), a.Release()]),
        ("pyautogui.scroll(-5)", [a.Scroll(None, 0, 5)]),
        ("pyautogui.scroll(2, x=1, y=2)", [a.Scroll(at(1, 2), 0, -2)]),
        ("pyautogui.hscroll(3)", [a.Scroll(None, 3, 0)]),
        ("pyautogui.typewrite('hi\\n', interval=0.05)", [a.Type("hi\n")]),
        ("pyautogui.write('C:\\d')", [a.Type("C:\\d")]),
        ("pyautogui.write(['a', 'enter'])", [a.Key("a"), a.Key("enter")]),
        ("pyautogui.press('down', presses=3)", [a.Key("down", 3)]),
        ("pyautogui.press(['a', 'b'], 2)", [a.Key("a"), a.Key("b"), a.Key("a"), a.Key("b")]),
        ("pyautogui.hotkey('ctrl', 'c')", [a.Hotkey(("ctrl", "c"))]),
        ("pyautogui.hotkey(['ctrl', 'c'])", [a.Hotkey(("ctrl", "c"))]),
        ("pyautogui.keyDown('shift'); pyautogui.keyUp('shift')", [a.KeyDown("shift"), a.KeyUp("shift")]),
        ("```python\nimport pyautogui\nimport time\n\npyautogui.click()  # here\ntime.sleep(0.5)\n```",
         [a.Click(), wait(0.5)]),
    ],
)  # fmt: skip
def test_pyautogui_code(text, expected):
    assert list(from_pyautogui(text, SCREEN)) == expected


SHOWN = (1280, 800)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"action": "key", "text": "ctrl+s"}, [a.Hotkey(("ctrl", "s"))]),
        ({"action": "key", "text": "Page_Down", "repeat": 3}, [a.Key("pagedown", 3)]),
        ({"action": "key", "text": "Tab Tab"}, [a.Key("tab"), a.Key("tab")]),
        ({"action": "hold_key", "text": "shift", "duration": 2}, [a.KeyDown("shift"), wait(2.0), a.KeyUp("shift")]),
        ({"action": "type", "text": "hello"}, [a.Type("hello")]),
        ({"action": "mouse_move", "coordinate": [640, 400]}, [a.Move(at(640, 400, SHOWN))]),
        ({"action": "left_click"}, [a.Click()]),
        ({"action": "left_click", "coordinate": [1, 2], "text": "ctrl+shift"},
         [a.Click(at(1, 2, SHOWN), "left", 1, ("ctrl", "shift"))]),
        ({"action": "triple_click", "coordinate": [1, 2]}, [a.Click(at(1, 2, SHOWN), "left", 3)]),
        ({"action": "left_click_drag", "start_coordinate": [1, 2], "coordinate": [3, 4]},
         [a.Drag((at(1, 2, SHOWN), at(3, 4, SHOWN)))]),
        ({"action": "left_click_drag", "coordinate": [3, 4]}, [a.Press(), a.Move(at(3, 4, SHOWN)), a.Release()]),
        ({"action": "scroll", "coordinate": [1, 2], "scroll_direction": "up", "scroll_amount": 5, "text": "ctrl"},
         [a.KeyDown("ctrl"), a.Scroll(at(1, 2, SHOWN), 0, -5), a.KeyUp("ctrl")]),
        ({"action": "wait", "duration": 1.5}, [wait(1.5)]),
    ],
)  # fmt: skip
def test_computer_use(data, expected):
    assert list(from_anthropic(data, SHOWN)) == expected
    name, rest = data["action"], {k: v for k, v in data.items() if k != "action"}
    assert list(from_anthropic(rest, SHOWN, name=name)) == expected  # as a tool of the set


def test_a_model_asks_to_see():
    assert from_anthropic({"action": "screenshot"}, SHOWN) == Look("screenshot")
    assert from_anthropic({"action": "zoom", "region": [0, 0, 640, 400]}, SHOWN) == Look("zoom", (0.0, 0.0, 0.5, 0.5))
    with pytest.raises(DesktopError, match="expected one of: key, type"):
        from_anthropic({"action": "zoom", "region": [0, 0, 1, 1]}, SHOWN, "20250124")


def test_a_picture_that_was_scaled_down_scales_the_click_up():
    shown = shown_size((3840, 2160))
    assert max(shown) <= 1568 and shown[0] * shown[1] <= 1_150_000
    (click,) = from_anthropic({"action": "left_click", "coordinate": [shown[0] // 2, shown[1] // 2]}, shown)
    x, y = pixel_in(a.Rect(0, 0, 3840, 2160), click.at.x, click.at.y)
    assert abs(x - 1920) <= 2 and abs(y - 1080) <= 2
    assert shown_size((1024, 768)) == (1024, 768)


def test_a_result_goes_back_to_the_model():
    done = tool_result("toolu_1", a.ActionResult(True, a.Effect.CONFIRMED), b"png")
    assert done["content"][1]["source"]["data"] == "cG5n" and "is_error" not in done
    refused = tool_result("toolu_2", a.ActionResult(False, refused="KEY_FORBIDDEN", text="alt+f4"))
    assert refused["is_error"] and refused["content"] == [{"type": "text", "text": "KEY_FORBIDDEN: alt+f4"}]
    json.dumps([done, refused])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click(start_box='(500,250)')", [a.Click(a.Point(0.5, 0.25))]),
        ("Thought: here\nAction: click(start_box='<|box_start|>(500,250)<|box_end|>')", [a.Click(a.Point(0.5, 0.25))]),
        ("left_double(start_box='[100, 200, 300, 400]')", [a.Click(a.Point(0.2, 0.3), "left", 2)]),
        ("right_single(point='<point>0 1000</point>')", [a.Click(a.Point(0.0, 1.0), "right")]),
        ("drag(start_box='(0,0)', end_box='(500,500)')", [a.Drag((a.Point(0.0, 0.0), a.Point(0.5, 0.5)))]),
        ("hotkey(key='ctrl shift t')", [a.Hotkey(("ctrl", "shift", "t"))]),
        ("hotkey(key='enter')", [a.Key("enter")]),
        ("hotkey(key='ctrl+c')", [a.Hotkey(("ctrl", "c"))]),
        ("type(content='it\\'s\\n')", [a.Type("it's\n")]),
        ("scroll(start_box='(500,500)', direction='down')", [a.Scroll(a.Point(0.5, 0.5), 0, 5)]),
        ("wait()", [wait(5.0)]),
        ("finished(content='42')", [a.Done("42")]),
        ("finished()", [a.Done()]),
        ("call_user()", [a.Ask("The operator needs help.")]),
        ("click(start_box='(1,2)')\n\nwait()", [a.Click(a.Point(0.001, 0.002)), wait(5.0)]),
    ],
)
def test_ui_tars(text, expected):
    assert list(from_ui_tars(text)) == expected


def test_ui_tars_counts_in_pixels_of_its_picture_from_1_5_on():
    assert from_ui_tars("click(start_box='(640,200)')", (1280, 800)) == (a.Click(a.Point(0.5, 0.25, seen=(1280, 800))),)
    with pytest.raises(DesktopError, match="lies outside of 1280 x 800"):
        from_ui_tars("click(start_box='(640,801)')", (1280, 800))


def bid(text: str) -> a.Selector:
    return a.Selector(f'[bid="{text}"]')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click('a46')", [a.Click(bid("a46"))]),
        ("click('a46', button='right', modifiers=['Control', 'Shift'])",
         [a.Click(bid("a46"), "right", 1, ("ctrl", "shift"))]),
        ("dblclick('12')", [a.Click(bid("12"), "left", 2)]),
        ("hover('b8')", [a.Move(bid("b8"))]),
        ("fill('237', 'example value')", [a.Click(bid("237")), a.Hotkey(("ctrl", "a")), a.Type("example value")]),
        ("fill('a', 'x', True)", [a.Click(bid("a")), a.Hotkey(("ctrl", "a")), a.Type("x")]),
        ("clear('996')", [a.Click(bid("996")), a.Hotkey(("ctrl", "a")), a.Key("delete")]),
        ("press('88', 'Control+KeyA')", [a.Click(bid("88")), a.Hotkey(("ctrl", "a"))]),
        ("select_option('c48', ['blue'])", [a.SetValue(bid("c48"), "blue")]),
        ("drag_and_drop('56', '498')", [a.Drag((bid("56"), bid("498")))]),
        ("scroll(0, 200)", [a.Scroll(None, 0, 2)]),
        ("scroll(-50.2, -100.5)", [a.Scroll(None, -1, -1)]),
        ("scroll_at(50, 100, 0, 240)", [a.Scroll(at(150, 300), 0, 2)]),
        ("mouse_click(887, 68)", [a.Click(at(987, 268))]),
        ("mouse_dblclick(5, 6, 'right')", [a.Click(at(105, 206), "right", 2)]),
        ("mouse_down(1, 2)", [a.Press(at(101, 202))]),
        ("mouse_drag_and_drop(1, 2, 3, 4)", [a.Drag((at(101, 202), at(103, 204)))]),
        ("keyboard_press('ControlOrMeta+a')", [a.Hotkey(("ctrl", "a"))]),
        ("keyboard_press('PageDown')", [a.Key("pagedown")]),
        ("keyboard_down('Shift')\nkeyboard_up('Shift')", [a.KeyDown("shift"), a.KeyUp("shift")]),
        ("keyboard_type('Hello world!')", [a.Type("Hello world!")]),
        ("goto('http://www.example.com')", [a.Hotkey(("ctrl", "l")), a.Type("http://www.example.com\n")]),
        ("go_back()", [a.Hotkey(("alt", "left"))]),
        ("tab_focus(2)", [a.Hotkey(("ctrl", "3"))]),
        ("noop(500)", [wait(0.5)]),
        ("```send_msg_to_user('42')```", [a.Done("42")]),
        ("report_infeasible('no such page')", [a.Fail("no such page")]),
    ],
)  # fmt: skip
def test_browsergym(text, expected):
    assert list(from_browsergym(text, PAGE)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"action_type": "NONE"}, [wait(0.0)]),
        ({"action_type": 1, "coords": np.array([30.0, 60.0], np.float32), "key": 0}, [a.Click(at(80, 210))]),
        ({"action_type": "DBLCLICK_COORDS", "coords": [0, 0]}, [a.Click(at(50, 150), "left", 2)]),
        ({"action_type": "MOUSEDOWN_COORDS", "coords": [159, 209]}, [a.Press(at(209, 359))]),
        ({"action_type": "SCROLL_UP_COORDS", "coords": [1, 1]}, [a.Scroll(at(51, 151), 0, -1)]),
        ({"action_type": "CLICK_ELEMENT", "ref": np.int64(7)}, [a.Click(at(75, 190))]),
        ({"action_type": np.int64(2), "key": np.int64(1)}, [a.Hotkey(("ctrl", "a"))]),
        ({"action_type": "PRESS_KEY", "key": "C-S-<ArrowLeft>"}, [a.Hotkey(("ctrl", "shift", "left"))]),
        ({"action_type": "PRESS_KEY", "key": "-"}, [a.Key("-")]),
        ({"action_type": "PRESS_KEY", "key": "C--"}, [a.Hotkey(("ctrl", "-"))]),
        ({"action_type": "TYPE_FIELD", "field": 1}, [a.Type("secret words")]),
        ({"action_type": "FOCUS_ELEMENT_AND_TYPE_TEXT", "ref": 7, "text": "x"}, [a.Click(at(75, 190)), a.Type("x")]),
    ],
)
def test_miniwob(data, expected):
    assert list(from_miniwob(data, TASK)) == expected


# -- what is refused ---------------------------------------------------------------------------------------------

EVIL = [
    "__import__('os').system('touch PWNED')",
    "import os\nos.system('touch PWNED')",
    "open('PWNED', 'w')",
    'exec(\'open("PWNED", "w")\')',
    "pyautogui.click(x=[open('PWNED', 'w') for _ in [1]])",
    "pyautogui.write(open('PWNED', 'w').name)",
    'pyautogui.write(f\'{open("PWNED", "w")}\')',
    "pyautogui.click(*open('PWNED', 'w'))",
    "pyautogui.click(**dict(x=open('PWNED', 'w')))",
    "getattr(pyautogui, 'click')()",
    "pyautogui.__class__.mro()",
    "(lambda: open('PWNED', 'w'))()",
    "click('a' if open('PWNED', 'w') else 'b')",
    "for i in range(3):\n    pyautogui.click()",
    "x = 5\npyautogui.click(x, 5)",
    "pyautogui.write('a' * 10**9)",
    "import pyautogui as os",
    "from os import system",
    "@open('PWNED', 'w')\ndef f(): pass",
    "pyautogui.click(1, 2) if open('PWNED', 'w') else 0",
    "(" * 5000,
    "pyautogui.click(" + "-" * 3000 + "1, 2)",
    "-" * 40_000 + "1",
    "a" + ".b" * 20_000 + "()",
    "pyautogui.click(" + "9" * 40_000 + ")",
    "\ud800",
    "\0",
    "",
    "pass",
]


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_no_code_is_ever_executed(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (lambda t: from_pyautogui(t, SCREEN), from_ui_tars, from_browsergym):
        with pytest.raises(DesktopError):
            read(text)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pyautogui.click(1, 2)\nos.system('x')", "line 2: os.system"),
        ("pyautogui.click(1, 2)\n\nfor x in y: pass", "line 3: expected a call"),
        ("pyautogui.moveRel(5, 5)", "line 1: pyautogui.moveRel: is not understood"),
        ("pyautogui.click('button.png')", "line 1: pyautogui.click: x is 'button.png', expected a number"),
        ("pyautogui.click(1, 2, 3, 4, 'left', 5, 6, 7)", "at most 7"),
        ("pyautogui.click(1, x=2)", "given twice"),
        ("pyautogui.click(1, 2, color='red')", "no argument 'color'"),
        ("pyautogui.click(1920, 5)", "outside of the picture of 1920 x 1080"),
        ("pyautogui.click(1, 2, clicks=True)", "expected a number"),
        ("pyautogui.click(1, 2, clicks=99)", "expected 1 to 10"),
        ("pyautogui.press('nonsense')", "no key named 'nonsense'"),
        ("pyautogui.press(['a'], presses=10000000)", "expected 1 to 100"),
        ("pyautogui.write(5)", "expected a text"),
        ("time.sleep(-1)", "expected none below zero"),
        ("time.sleep(1e9)", "expected 0 to 3600"),
        ("pyautogui.click(1, 2", "line 1: is no Python"),
    ],
)
def test_code_that_is_not_understood_is_refused_by_its_line(text, said):
    with pytest.raises(DesktopError) as err:
        from_pyautogui(text, SCREEN)
    assert said in str(err.value)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "EXPLODE"}),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "MOVE_TO", "parameters": {"x": 1}}),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "MOVE_TO", "parameters": {"x": float("nan"), "y": 0}}),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "CLICK", "parameters": {"shell": "rm"}}),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "HOTKEY", "parameters": {"keys": "ctrl"}}),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": ["CLICK"]}),
        (lambda d: from_computer_13(d, SCREEN), 5),
        (lambda d: from_computer_13(d, SCREEN), {"action_type": "MOVE_TO", "x": 10**5000, "y": 0}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "explode"}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "left_click", "coordinate": [1]}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "left_click", "coordinate": [1280, 1]}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "left_click", "start_coordinate": [1, 1]}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "left_click", "text": "a"}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "key", "text": "a", "repeat": 10**9}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "key", "text": ""}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "scroll", "scroll_direction": "in", "scroll_amount": 1}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "scroll", "scroll_direction": "up", "scroll_amount": 0}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "zoom", "region": [5, 5, 5, 9]}),
        (lambda d: from_anthropic(d, SHOWN), {"action": "hold_key", "text": "a", "duration": 1e9}),
        (lambda d: from_anthropic(d, SHOWN, "20300101"), {"action": "screenshot"}),
        (from_ui_tars, "click(start_box='(1,2,3)')"),
        (from_ui_tars, "click(start_box='rm 1 2')"),
        (from_ui_tars, "click('(1,2)')"),
        (from_ui_tars, "click()"),
        (from_ui_tars, "drag(start_box='(1,2)')"),
        (from_ui_tars, "scroll(start_box='(1,2)', direction='in')"),
        (from_ui_tars, "I would click the button."),
        (from_browsergym, "click('a\"] , body')"),
        (from_browsergym, "check('55')"),
        (from_browsergym, "upload_file('5', '/etc/passwd')"),
        (from_browsergym, "mouse_click(1, 2)"),
        (from_browsergym, "goto('javascript:alert(1)')"),
        (from_browsergym, "goto('http://a\\n')"),
        (from_browsergym, "scroll(0, 0)"),
        (lambda d: from_browsergym(d, PAGE), "mouse_click(1000, 2)"),
        (lambda d: from_miniwob(d, TASK), {"action_type": "CLICK_COORDS"}),
        (lambda d: from_miniwob(d, TASK), {"action_type": 3}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "CLICK_COORDS", "coords": [160, 5]}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "CLICK_ELEMENT", "ref": 8}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "TYPE_FIELD", "field": -1}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "PRESS_KEY", "key": "X-a"}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "PRESS_KEY", "key": 9}),
        (lambda d: from_miniwob(d, TASK), {"action_type": "NONE", "script": "x"}),
    ],
)
def test_what_no_format_says_is_refused(read, data):
    with pytest.raises(DesktopError) as err:
        read(data)
    assert str(err.value) and len(str(err.value)) < 900


DICTS = {
    "computer_13": (
        lambda d: from_computer_13(d, SCREEN),
        [
            {"action_type": "CLICK", "parameters": {"x": 5, "y": 6, "button": "left", "num_clicks": 2}},
            {"action_type": "SCROLL", "dx": 1, "dy": 2},
            {"action_type": "HOTKEY", "keys": ["ctrl", "a"]},
            {"action_type": "TYPING", "text": "a"},
        ],
    ),
    "computer use": (
        lambda d: from_anthropic(d, SHOWN),
        [
            {"action": "left_click", "coordinate": [5, 6], "text": "shift"},
            {"action": "scroll", "coordinate": [5, 6], "scroll_direction": "up", "scroll_amount": 2, "text": "ctrl"},
            {"action": "key", "text": "ctrl+a", "repeat": 2},
            {"action": "zoom", "region": [1, 2, 3, 4]},
            {"action": "hold_key", "text": "a", "duration": 1},
        ],
    ),
    "miniwob": (
        lambda d: from_miniwob(d, TASK),
        [
            {"action_type": 1, "coords": [5, 6]},
            {"action_type": "FOCUS_ELEMENT_AND_TYPE_FIELD", "ref": 7, "field": 1},
            {"action_type": "PRESS_KEY", "key": "C-a"},
        ],
    ),
}


@pytest.mark.parametrize("name", DICTS)
@settings(max_examples=300, deadline=None)
@given(draw=st.data())
def test_any_field_may_hold_anything_and_is_understood_or_refused(name, draw):
    read, known = DICTS[name]
    data = dict(draw.draw(st.sampled_from(known)))
    data[draw.draw(st.sampled_from(sorted(data)))] = draw.draw(json_values)
    with suppress(DesktopError):
        read(data)


CALLS = ["pyautogui.click({})", "pyautogui.press({})", "pyautogui.hotkey({})", "pyautogui.scroll({})", "time.sleep({})"]
CALLS += ["click(start_box={})", "hotkey(key={})", "scroll(direction={})", "type(content={})", "drag(start_box={})"]
CALLS += ["click({})", "fill('a', {})", "press('a', {})", "scroll(0, {})", "mouse_click({})", "goto({})", "noop({})"]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(CALLS), json_values | st.tuples(json_values, json_values))
def test_any_argument_may_be_anything_and_is_understood_or_refused(call, value):
    text = call.format(", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value))
    for read in (lambda t: from_pyautogui(t, SCREEN), from_ui_tars, lambda t: from_browsergym(t, PAGE)):
        with suppress(DesktopError):
            read(text)


# -- and back ----------------------------------------------------------------------------------------------------

SAY = {
    "computer_13": (
        lambda o: to_computer_13(o, SCREEN),
        lambda said: [n for s in said for n in from_computer_13(s, SCREEN)],
    ),
    "pyautogui": (lambda o: to_pyautogui(o, SCREEN), lambda said: list(from_pyautogui(said, SCREEN))),
    "computer use": (
        lambda o: to_anthropic(o, SCREEN),
        lambda said: [n for s in said for n in from_anthropic(s, SCREEN)],
    ),
    "ui-tars": (to_ui_tars, lambda said: list(from_ui_tars(said))),
    "browsergym": (lambda o: to_browsergym(o, PAGE), lambda said: list(from_browsergym(said, PAGE))),
    "miniwob": (lambda o: to_miniwob(o, TASK), lambda said: list(from_miniwob(said, TASK))),
}
SAME = {
    "computer_13": [
        a.Move(at(3, 4)),
        a.Click(at(3, 4), "right", 3),
        a.Scroll(None, 2, -3),
        a.Type("é\n"),
        a.Done(),
        a.KeyDown("ctrl"),
        a.KeyUp("ctrl"),
        a.Hotkey(("ctrl", "S")),
        a.Press(),
        a.Release(),
        a.Key("enter"),
        a.Fail(),
    ],
    "pyautogui": [
        a.Move(at(3, 4)),
        a.Click(at(3, 4), "right", 3),
        a.Click(),
        a.Scroll(None, 0, -3),
        a.Type("it's\n\\"),
        a.KeyDown("ctrl"),
        a.Hotkey(("ctrl", "S")),
        a.Press(),
        a.Release(),
        a.Key("'"),
        a.Fail(),
        a.Done(),
        wait(0.25),
    ],
    "computer use": [
        a.Move(at(3, 4)),
        a.Click(at(3, 4), "left", 3, ("ctrl",)),
        a.Click(),
        a.Scroll(at(3, 4), 0, -3),
        a.Type("é\n"),
        a.Key("enter", 7),
        a.Key("+"),
        a.Hotkey(("ctrl", "+")),
        a.Drag((at(1, 2), at(3, 4))),
        wait(2.5),
    ],
    "ui-tars": [
        a.Click(a.Point(0.123, 0.57)),
        a.Click(a.Point(1.0, 0.0), "right"),
        a.Type("it's\n"),
        a.Done("x"),
        a.Hotkey(("ctrl", "c")),
        a.Key("enter"),
        a.KeyDown("shift"),
        a.Scroll(a.Point(0.5, 0.5), -5, 0),
        wait(5.0),
    ],
    "browsergym": [
        a.Click(bid("a1"), "left", 2, ("shift",)),
        a.Click(at(300, 400)),
        a.Move(bid("b")),
        a.Type("it's"),
        a.Key("pagedown"),
        a.Hotkey(("ctrl", "a")),
        a.KeyDown("shift"),
        a.Drag((bid("a"), bid("b"))),
        a.Done("42"),
        a.Scroll(None, 1, -2),
        a.Scroll(at(300, 400), 0, 2),
        a.SetValue(bid("c"), "blue"),
        wait(0.5),
        a.Fail("x"),
    ],
    "miniwob": [
        a.Click(at(60, 160)),
        a.Click(at(60, 160), "left", 2),
        a.Move(at(60, 160)),
        a.Press(at(60, 160)),
        a.Type("x y"),
        a.Key("enter"),
        a.Hotkey(("ctrl", "shift", "left")),
        a.Scroll(at(60, 160), 0, 1),
        wait(0.0),
    ],
}


@pytest.mark.parametrize("name", SAY)
def test_what_is_said_in_their_words_means_the_same(name):
    say, read = SAY[name]
    for action in SAME[name]:
        assert read(say(action)) == [action], say(action)


@pytest.mark.parametrize("name", SAY)
def test_no_format_says_everything_and_each_says_what_it_cannot(name):
    say, _ = SAY[name]
    refused = []
    for action in EXAMPLES:
        try:
            json.dumps(say(action))
        except DesktopError:
            refused.append(action.kind)
    assert {"invoke", "launch", "focus", "wait"} <= set(refused)


def events(done: list[a.DesktopAction]) -> list[tuple]:
    """What a desktop gets of actions: where the pointer goes, what goes down and up, what is typed."""
    out = []
    for one in done:
        held = [*getattr(one, "modifiers", ())]
        out += [("down", m) for m in held]
        for target in getattr(one, "path", [t for t in (getattr(one, n, None) for n in ("at", "to", "into")) if t])[:1]:
            out.append(("go", *where(target)))
        match one:
            case a.Click():
                out += [("press", one.button), ("release", one.button)] * one.count
            case a.Press() | a.Release():
                out.append((one.kind, one.button))
            case a.Drag():
                ways = [("go", *where(t)) for t in one.path[1:]]
                out += [("press", one.button), *ways, ("release", one.button)]
            case a.Scroll():
                out += [("wheel", "x", one.dx)] * bool(one.dx) + [("wheel", "y", one.dy)] * bool(one.dy)
            case a.Type():
                out += [("press", "left"), ("release", "left")] * (one.into is not None) + [("text", one.text)]
            case a.Key():
                out += [("down", one.key), ("up", one.key)] * one.count
            case a.Hotkey():
                out += [("down", k) for k in one.keys] + [("up", k) for k in reversed(one.keys)]
            case a.KeyDown() | a.KeyUp():
                out.append((one.kind.removeprefix("key_"), one.key))
            case a.SetValue():
                out.append(("set", one.element.text, one.value))
            case a.Wait():
                out.append(("wait",))
            case a.Done() | a.Fail() | a.Ask():
                out.append((one.kind, getattr(one, "answer", "") or getattr(one, "question", "")))
        out += [("up", m) for m in reversed(held)]
    return out


def where(target: a.Target) -> tuple:
    if isinstance(target, a.Selector):
        return (target.text,)
    return pixel_in(a.Rect(0, 0, *SCREEN), target.x, target.y)


def alike(one: tuple, other: tuple, pixels: int) -> bool:
    if one[0] != "go" or isinstance(one[1], str):
        return one == other
    return other[0] == "go" and all(abs(p - q) <= pixels for p, q in zip(one[1:], other[1:], strict=True))


@pytest.mark.parametrize("name", SAY)
@settings(max_examples=300, deadline=None)
@given(action=actions)
def test_whatever_is_said_does_the_same_when_it_is_read_again(name, action):
    say, read = SAY[name]
    try:
        said = say(action)
    except DesktopError:
        return
    wanted, found = events([action]), events(read(said))
    assert len(wanted) == len(found), (action, said)
    assert all(alike(w, f, 1 if name == "ui-tars" else 0) for w, f in zip(wanted, found, strict=True)), (action, said)
