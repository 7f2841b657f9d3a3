"""A run is saved as a script that people read, with parameters, and repeated without any model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from desktop_pad import PATIENCE_S, until
from optr.cli.desktop import desktop
from optr.connectors.desktop.actions import ActionResult, Click, Hotkey, Launch, Point, Rect, Selector, Type, Wait
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.seen import Element, Window
from optr.desk_episodes.episode import Anchor, DeskEpisode, DeskStep
from optr.desk_episodes.recorder import DeskRecorder
from optr.desk_episodes.replay import Course, course_of
from optr.desk_episodes.script import load_script, load_text, script_of
from optr.errors import DesktopError, OptrError, SpecError

for program in ("galculator", "mousepad"):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed", allow_module_level=True)

RECT = Rect(100, 100, 200, 100)
EDITOR = Window(77, "Untitled 1 - Mousepad", ("Mousepad", "mousepad"), 0, RECT, RECT, True, 0, True)


def step(action, *anchors, **more):
    return DeskStep(action, "me", 1, 0, anchors, **more)


def whole():
    """One of each that a script has to say in words of its own."""
    button = Selector('role=button[name="OK"]', 77)
    at = Point(0.4, 0.5, "window:77")
    return Course(
        (
            step(Launch("editor", ("ada.txt",)), result=ActionResult(True, answer="77")),
            step(Type("ada costs ${5}"), keyboard=EDITOR),
            step(Click(button), Anchor(button, None, EDITOR, (150, 150))),
            step(Click(at), Anchor(at, Element("button", "Cancel", window=77), EDITOR, (180, 150))),
            step(Click(at), Anchor(at, None, EDITOR, (180, 150))),
            step(Wait("still", frame="window:77"), framed=EDITOR),
            step(Type("${secret1}"), keyboard=EDITOR),
        ),
        ("secret1",),
    )


def test_a_script_says_what_was_done_and_is_read_back():
    text = script_of(whole(), {"user": "ada"}, "greet")
    data = yaml.safe_load(text)
    assert data["name"] == "greet"
    assert data["parameters"] == {"user": "ada", "secret1": None}
    assert data["windows"] == {1: {"title": EDITOR.title, "wm_class": "Mousepad"}}
    assert data["actions"][0] == {"kind": "launch", "program": "editor", "arguments": ["${user}.txt"], "opens": 1}
    assert data["actions"][1] == {"kind": "type", "text": "${user} costs $${5}", "keyboard": 1}
    course = load_text(text, Path("x"), {"user": "bob", "secret1": "word"})
    actions = [s.action for s in course.steps]
    assert actions[0] == Launch("editor", ("bob.txt",))
    assert actions[1] == Type("bob costs ${5}")
    assert actions[2] == Click(Selector('role=button[name="OK"]', 1))
    assert actions[3] == Click(Selector('role=button[name="Cancel"]', 1))
    assert actions[4] == Click(Point(0.4025, 0.505, "window:1"))
    assert actions[5] == Wait("still", frame="window:1")
    assert actions[6] == Type("word")
    assert {w.title for s in course.steps for w in (s.keyboard, s.framed) if w} == {EDITOR.title}
    assert course.steps[0].result.answer == "1"
    assert course.hidden == ()


def test_a_place_in_a_large_element_keeps_its_share():
    at = Point(0.4, 0.5, "window:77")
    wide = Element("button", "Sign in", rect=Rect(110, 110, 100, 40), window=77)
    course = Course((step(Click(at), Anchor(at, wide, EDITOR, (134, 119))),))
    text = script_of(course)
    assert yaml.safe_load(text)["actions"][0]["share"] == [0.245, 0.2375]
    again = load_text(text, Path("x"))
    assert again.steps[0].anchors[0].share == (0.245, 0.2375)
    assert script_of(again) == text


def test_a_parameter_that_stands_for_nothing_is_refused():
    with pytest.raises(DesktopError, match="'who' stands for 'eve', which no action types"):
        script_of(whole(), {"who": "eve"})
    with pytest.raises(DesktopError, match="'9x' is no name"):
        script_of(whole(), {"9x": "ada"})


HEAD = "desktop_script: 1\n"


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("actions: []\n", {}, "x:1: .*desktop_script"),
        ("[]\n", {}, "x:1: expected a mapping"),
        ("desktop_script: 2\nactions: []\n", {}, "x:1: .*version 2 is not known; this optr reads version 1"),
        (HEAD + "actions: []\n", {}, "x:2: .*has no actions"),
        (HEAD + "actions:\n- {kind: press_it}\n", {}, "x:3: .*no action 'press_it'; there are: move, click"),
        (HEAD + "actions:\n- {kind: key, key: a}\n- {kind: type}\n", {}, "x:4: .*needs 'text'"),
        (HEAD + "actions:\n- {kind: type, text: 5}\n", {}, "x:3: .*type.text: is 5, expected a text"),
        (HEAD + "actions:\n- {kind: type, text: a, colour: red}\n", {}, "x:3: .*no field 'colour'"),
        (HEAD + "actions:\n- hello\n", {}, "x:3: .*is no action"),
        (HEAD + "actions:\n- {kind: type, text: '${user}'}\n", {}, "x:3: .*no parameter 'user'; there are: none"),
        (HEAD + "parameters: {user: }\nactions:\n- {kind: key, key: a}\n", {}, "values are missing: user"),
        (HEAD + "parameters: {a: b}\nactions:\n- {kind: key, key: a}\n", {"c": "d"}, "no parameter c; there are: a"),
        (HEAD + "actions:\n- {kind: key, key: a, keyboard: 3}\n", {}, "x:3: .*no window 3 in the table"),
        (HEAD + "actions:\n- {kind: click, at: {selector: a, within: 3}}\n", {}, "x:3: .*no window 3 in the table"),
        (HEAD + "actions:\n- {kind: click, at: {selector: a}, share: [0, 1]}\n", {}, "x:3: .*only a selector within"),
        (HEAD + "actions:\n- {kind: key, key: a, share: [0, 2]}\n", {}, r"x:3: .*two numbers from 0 to 1"),
        (HEAD + "windows: {one: {title: a}}\nactions: []\n", {}, "x:2: .*a number from 1, not 'one'"),
        (HEAD + "colour: red\nactions: []\n", {}, "x:2: .*colour"),
        (HEAD + "parameters: {'a b': c}\nactions: []\n", {}, "x:2: .*'a b' is no name of a parameter"),
        (HEAD + "actions: [\n", {}, "x:.*is not YAML"),
    ],
)
def test_what_is_wrong_in_a_script_is_said_with_its_line(text, values, says):
    with pytest.raises((DesktopError, SpecError), match=says):
        load_text(text, Path("x"), values)


def test_a_value_that_is_no_text_to_type_is_refused():
    text = HEAD + "parameters: {user: }\nactions:\n- {kind: type, text: '${user}'}\n"
    with pytest.raises(OptrError, match="x:4: .*type.text"):
        load_text(text, Path("x"), {"user": "\x00"})


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        load_script(tmp_path / "none.yaml")


def optr(*words):
    return CliRunner().invoke(desktop, [str(w) for w in words], standalone_mode=False)


def last_line(done):
    assert done.exception is None, done.exception
    return json.loads(done.stdout.splitlines()[-1])


def test_a_recorded_run_is_saved_changed_and_repeated_by_commands(tmp_path, monkeypatch):
    with demo_desk(1000, 700) as desk:
        window = int(desk.execute(Launch("editor")).answer)
        assert desk.execute(Wait("element", "role=textbox", PATIENCE_S)).executed
        with DeskRecorder(desk, tmp_path / "bag", {"task": "greet"}):
            assert desk.execute(Type("hello ada\n", Selector("role=textbox", window))).executed
            assert desk.execute(Hotkey(("ctrl", "end"))).executed
        made = optr("script", str(tmp_path / "bag"), "-o", str(tmp_path / "greet.yaml"), "--parameter", "user=ada")
        assert made.return_value == 0, made.exception
        assert "hello ${user}" in (tmp_path / "greet.yaml").read_text()
        desk.bridge.windows.place(window, Rect(300, 200, 500, 350))
        for name in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
            monkeypatch.setenv(name, desk.session.environment[name])
        done = optr("run", tmp_path / "greet.yaml", "--set", "user=bob")
        told = last_line(done)
        assert (done.return_value, told["success"], told["done"]) == (0, True, 2), done.stdout
        box = Selector("role=textbox", window)
        until(lambda: "hello bob" in desk.finder.find(box).value)
        monkeypatch.setenv("NOBODY", "x")
        done = optr("replay", tmp_path / "bag", "--swap", "ada=eve", "--json")
        assert done.return_value == 0, done.stdout
        assert [r["executed"] for r in last_line(done)["rows"]] == [True, True]
        until(lambda: "hello eve" in desk.finder.find(box).value)
        wrong = optr("run", tmp_path / "greet.yaml", "--secret", "who=NOBODY")
        assert "no parameter who; there are: user" in str(wrong.exception)
        wrong = optr("run", tmp_path / "greet.yaml", "--secret", "who=NOT_THERE_AT_ALL")
        assert "there is no environment variable 'NOT_THERE_AT_ALL'" in str(wrong.exception)


def test_what_is_no_bag_or_holds_nothing_is_said_with_its_name(tmp_path, monkeypatch):
    with demo_desk(1000, 700) as desk:
        for name in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS"):
            monkeypatch.setenv(name, desk.session.environment[name])
        DeskRecorder(desk, tmp_path / "bag").close()
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "cut.partial").mkdir()
    out = tmp_path / "out.yaml"
    for name, says in (
        ("bag", f"nothing was done in {tmp_path / 'bag'}"),
        ("note.txt", f"{tmp_path / 'note.txt'} is a file, and no bag"),
        ("cut", f"optr episodes recover {tmp_path / 'cut.partial'}"),
        ("cut.partial", f"optr episodes recover {tmp_path / 'cut.partial'}"),
        ("none", f"there is no bag {tmp_path / 'none'}"),
    ):
        for words in (("replay", tmp_path / name), ("script", tmp_path / name, "-o", out)):
            told = optr(*words).exception
            assert isinstance(told, OptrError) and says in str(told), (words, told)
    assert not out.exists()
    out.write_text("mine")
    assert "exists already" in str(optr("script", tmp_path / "bag", "-o", out).exception)
    assert out.read_text() == "mine"


def test_what_is_missing_says_how_it_is_given(tmp_path):
    script = tmp_path / "a.yaml"
    script.write_text(HEAD + "parameters: {user: }\nactions:\n- {kind: type, text: '${user}'}\n")
    assert "--set user=TEXT or --secret user=VARIABLE" in str(optr("run", script).exception)
    assert "NAME=VARIABLE" in str(optr("run", script, "--secret", "foo").exception)
    assert "NAME=TEXT" in str(optr("run", script, "--set", "foo").exception)


def test_a_person_is_recorded_until_ctrl_c(tmp_path):
    from test_desk_human import Person

    with demo_desk(1000, 700) as desk:
        window = int(desk.execute(Launch("calculator")).answer)
        assert desk.execute(Wait("element", 'role=button[name="7"]', PATIENCE_S)).executed
        there = {**os.environ, "DISPLAY": desk.session.display}
        there["DBUS_SESSION_BUS_ADDRESS"] = desk.session.environment["DBUS_SESSION_BUS_ADDRESS"]
        words = [sys.executable, "-m", "optr.cli", "desktop", "record", "-o", str(tmp_path / "bag")]
        recording = subprocess.Popen(words, env=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert "Ctrl-C ends it" in recording.stderr.readline()
            person = Person(desk.session.display)
            person.click(*desk.finder.resolve(Selector('role=button[name="7"]', window)).centre)
            until(lambda: desk.finder.find(Selector("role=textbox", window)).value.strip() == "7")
            person.close()
            recording.send_signal(signal.SIGINT)
            out, err = recording.communicate(timeout=PATIENCE_S)
        finally:
            recording.kill()
        assert recording.returncode == 0, err
        assert json.loads(out.splitlines()[-1])["rows"] == [{"kind": "click", "by": "person"}]
    episode = DeskEpisode(tmp_path / "bag")
    assert episode.steps[0].anchors[0].element.name == "7"
    assert 'role=button[name="7"]' in script_of(course_of(episode))
