"""Operators of desktops: told what is seen, their actions guarded, and done when they say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import to_json
from optr.connectors.desktop.opening import open_desk
from optr.errors import OperatorError, UnknownNameError
from optr.operators.desk import (
    ELEMENTS,
    PICTURE,
    POINTER,
    WINDOWS,
    DeskEnding,
    DeskOperator,
    desk_operator_names,
    make_desk_operator,
    run_desk,
)
from optr.spec import Source

PATIENCE_S = 30.0
SUM = (
    a.Launch("calculator"),
    a.Wait("element", 'role=button[name="="]', PATIENCE_S),
    *(a.Click(a.Selector(f'role=button[name="{key}"]')) for key in ("1", "5", "+", "2", "7", "=")),
    a.Wait("still", timeout_s=PATIENCE_S),
)


ALLOWED = """
desk: 1
windows: {root: allow}
programs: {allow: [{name: calculator, command: [galculator]}]}
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    file = tmp_path_factory.mktemp("desks") / "root.yaml"
    file.write_text(ALLOWED)
    with open_desk(settings=str(file), own=(1000, 700)) as made:
        yield made


@pytest.fixture
def calculator_ends(desk):
    yield
    for process in desk.session._processes:
        if "galculator" in str(process.args):
            process.kill()


class Said(DeskOperator):
    """Answers what it was given, and keeps what it was told."""

    source = Source.POLICY
    observation_keys = (PICTURE, WINDOWS, ELEMENTS, POINTER)

    def __init__(self, *answers, **names):
        super().__init__(**names)
        self.answers, self.seen, self.infos, self.told = list(answers), [], [], []

    def select_action(self, observation, info):
        self.seen.append(observation)
        self.infos.append(info)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_step_result(self, action, result, info):
        self.told.append((action, result))


def script(*actions):
    return make_desk_operator("script", actions=[to_json(action) for action in actions])


def test_every_built_in_is_found_by_name():
    assert set(desk_operator_names()) >= {"human", "llm", "numeric", "random", "script"}
    with pytest.raises(UnknownNameError, match=r"no desk operator named 'scrpt'; there are: .*script"):
        make_desk_operator("scrpt")
    with pytest.raises(OperatorError, match="'human' cannot be made: TypeError"):
        make_desk_operator("human", hands=3)


@pytest.mark.usefixtures("calculator_ends")
def test_a_script_adds_two_numbers_by_real_clicks(desk):
    told = []
    episode = run_desk(desk, script(*SUM), "add", told=told.append)
    assert episode.ended is DeskEnding.DONE, episode
    assert [row.action for row in episode.rows] == [*SUM, a.Done()] == [row.action for row in told]
    assert {row.source for row in episode.rows} == {Source.SCRIPT}
    display = a.Selector("role=textbox", int(episode.rows[0].result.answer))
    assert desk.finder.find(display).value.strip() == "42"


def test_a_script_fails_as_soon_as_an_action_is_not_carried_out(desk):
    episode = run_desk(desk, script(a.Move(a.Point(0.5, 0.5)), a.Launch("rm"), a.Key("a")))
    assert episode.ended is DeskEnding.FAIL
    assert [row.action.kind for row in episode.rows] == ["move", "launch", "fail"]
    assert "action 2, launch, was not carried out: PROGRAM" in episode.text


def test_a_script_is_read_before_anything_is_done(tmp_path):
    file = tmp_path / "actions.yaml"
    file.write_text("- {kind: key, key: enter}\n- {kind: clack}\n")
    with pytest.raises(OperatorError, match="action 2 of the script: no action 'clack'"):
        make_desk_operator("script", file=str(file))
    file.write_text("- {kind: key, key: enter}\n")
    assert make_desk_operator("script", file=str(file)).select_action({}, {}) == a.Key("enter")
    with pytest.raises(OperatorError, match="either the option actions"):
        make_desk_operator("script")
    for text in ('[{"kind": "key",\n]', "- \x00"):
        file.write_text(text)
        with pytest.raises(OperatorError, match=r"cannot read the script .*actions.yaml.*: is not YAML: .") as wrong:
            make_desk_operator("script", file=str(file))
        assert "\n" not in str(wrong.value)
    with pytest.raises(OperatorError, match="cannot read the script"):
        make_desk_operator("script", file=str(tmp_path / "none.json"))


def test_an_operator_sees_what_it_asks_for_and_is_told_what_came_of_it(desk):
    operator = Said(a.Move(a.Point(0.25, 0.5)), a.Done("yes"))
    episode = run_desk(desk, operator, "look about")
    assert (episode.ended, episode.text) == (DeskEnding.DONE, "yes")
    first, second = operator.seen
    assert first[PICTURE].shape == (700, 1000, 3) and first[PICTURE].dtype == np.uint8
    assert second[POINTER] == (250, 350) and isinstance(first[WINDOWS], tuple) and isinstance(first[ELEMENTS], tuple)
    assert [info["step"] for info in operator.infos] == [0, 1] and operator.infos[0]["task"] == "look about"
    assert operator.infos[0]["last_result"] is None and operator.infos[1]["last_result"] == operator.told[0][1]
    assert operator.infos[0]["size"] == (1000, 700)
    assert [action.kind for action, _ in operator.told] == ["move", "done"]


def test_what_is_refused_is_told_and_does_not_end_it(desk):
    operator = Said(a.Hotkey(("alt", "f4")), a.Done())
    episode = run_desk(desk, operator)
    assert episode.ended is DeskEnding.DONE
    assert episode.rows[0].result.refused and operator.infos[1]["last_result"].refused


def test_who_fails_to_decide_three_times_in_a_row_is_not_asked_again(desk):
    lost = OperatorError("lost")
    episode = run_desk(desk, Said(lost, a.Move(a.Point(0.5, 0.5)), a.Click(count=99), ValueError("odd"), lost))
    assert episode.ended is DeskEnding.FAILED and "lost" in episode.text
    assert [row.source for row in episode.rows] == [
        Source.FALLBACK, Source.POLICY, Source.INVALID, Source.FALLBACK, Source.FALLBACK,
    ]  # fmt: skip
    assert "click.count: is 99" in episode.rows[2].text and episode.rows[2].action is None


def test_who_abstains_for_too_long_is_not_waited_for(desk):
    assert run_desk(desk, make_desk_operator("human"), patience_s=0.3).ended is DeskEnding.ABSTAINED


def test_steps_are_bounded_and_a_stop_ends_it(desk):
    moves = [a.Move(a.Point(0.5, 0.5)) for _ in range(9)]
    assert len(run_desk(desk, Said(*moves), most_steps=3).rows) == 3
    desk.stop("enough")
    try:
        episode = run_desk(desk, Said(*moves))
        assert (episode.ended, episode.rows, episode.text) == (DeskEnding.STOPPED, (), "enough")
    finally:
        desk.rearm()


def test_it_says_what_can_be_seen(desk):
    operator = Said()
    operator.observation_keys = ("observation.smell",)
    with pytest.raises(OperatorError, match=r"nothing observation.smell can be seen .* observation.windows"):
        run_desk(desk, operator)


@pytest.mark.usefixtures("calculator_ends")
def test_chance_is_guarded_like_anybody(desk):
    kinds = ("move", "scroll", "type", "key", "key_down", "key_up", "wait", "invoke", "set_value", "focus", "launch")
    assert desk.execute(a.Launch("calculator")).executed
    chance = make_desk_operator("random", kinds=kinds, programs=["rm", "calculator"])
    episode = run_desk(desk, chance, most_steps=25, seed=3)
    assert (episode.ended, len(episode.rows)) == (DeskEnding.STEPS, 25)
    assert len({row.action.kind for row in episode.rows}) > 5
    assert any(row.result.refused for row in episode.rows) and any(row.result.executed for row in episode.rows)
    with pytest.raises(OperatorError, match="no kind clack; there are: move"):
        make_desk_operator("random", kinds=["clack"])


def test_the_command_lets_an_operator_act(tmp_path):
    file = tmp_path / "actions.json"
    file.write_text(json.dumps([to_json(a.Wait("time", timeout_s=0.0)), to_json(a.Done("there"))]))
    words = [
        "optr.cli",
        "desktop",
        "act",
        "--operator",
        "script",
        "-o",
        f"file={file}",
        "--own",
        "640",
        "480",
        "--json",
    ]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, last = map(json.loads, done.stdout.splitlines())
    assert first["action"]["kind"] == "wait" and first["result"]["executed"] and second["result"]["answer"] == "there"
    assert last == {"ended": "done", "actions": 2, "text": "there"}


def test_the_command_says_what_was_done_how_it_ended_and_how_to_stop_it(desk):
    words = ["act", "--operator", "random", "--steps", "2", "-o", 'kinds=["move"]']
    there = {**os.environ, **desk.session.environment, "COLUMNS": "80"}
    command = [sys.executable, "-m", "optr.cli", "desktop", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=there)
    assert done.returncode == 1 and done.stdout.endswith("\nused up its 2 steps\n"), done.stdout + done.stderr
    assert done.stderr == "Ctrl+Alt+Escape, or the pointer in a corner of the screen, stops it\n"
    assert done.stdout.count("move ") == 2 and "{" not in done.stdout
