"""The tasks of optr-desk: what a seed makes of them, how they are scored, and a few of them done on a real desktop."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from optr.cli.desktop_tasks import bench, tasks
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import from_json
from optr.connectors.desktop.seen import Window
from optr.desk_bench.checkers import CHECKERS, CheckError, DeskState, Dialog, score
from optr.desk_bench.oracle import Oracle, _in_windows, plan_of
from optr.desk_bench.parameters import draw, filled
from optr.desk_bench.site import Site
from optr.desk_bench.suite import DeskSuite, run_task
from optr.desk_bench.task import APPS, DeskTask, load_tasks
from optr.errors import DesktopError, UnknownNameError
from optr.sentinel.desk_config import load_desk

ALL = load_tasks()
CLASSES = ("mousepad", "chromium", "galculator", "pcmanfm", "xterm", "zenity")
EVERY = tuple(
    Window(number, name, (name, name), 0, a.Rect(0, 0, 9, 9), a.Rect(0, 0, 9, 9), number == 1, number, True)
    for number, name in enumerate(CLASSES, 1)
)

TASK = {
    "id": "one",
    "instruction": "Write {word}.",
    "level": 1,
    "apps": ["editor"],
    "parameters": {"word": {"choice": ["a", "b", "c"]}},
    "config": [],
    "evaluator": {"func": "file_text", "result": {"path": "x.txt"}, "expected": "{word}"},
    "oracle": [{"kind": "type", "text": "{word}"}],
}


def written(folder, **changes):
    path = folder / "one.json"
    path.write_text(json.dumps({**TASK, **changes}), encoding="utf-8")
    return path


def state(work, **more):
    return DeskState(SimpleNamespace(tree=None), SimpleNamespace(), work, **more)


# -- loading and seeding -----------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_task_and_others_make_others():
    for task in ALL:
        made = [task.seeded(seed) for seed in range(8)]
        assert [m.instruction for m in made] == [task.seeded(seed).instruction for seed in range(8)]
        assert len({json.dumps(dict(m.values), default=str) for m in made}) >= 3, task.id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": 4}, "level 4, expected 1, 2 or 3"),
        ({"apps": ["paint"]}, r"no application \['paint'\]"),
        ({"id": "two"}, "expected the name of its file"),
        ({"stars": 5}, r"unknown \['stars'\]"),
    ],
)
def test_a_file_that_is_no_task_is_told(tmp_path, changes, said):
    with pytest.raises(DesktopError, match=said):
        DeskTask.load(written(tmp_path, **changes))


def test_a_task_that_is_not_there_names_those_that_are(tmp_path):
    written(tmp_path)
    with pytest.raises(UnknownNameError, match="no desktop task named 'two'; there are: one"):
        load_tasks(["two"], tmp_path)
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(DesktopError, match="bad.json is no task"):
        load_tasks(["bad"], tmp_path)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
def test_what_is_no_seed_is_told(tmp_path, seed):
    with pytest.raises(DesktopError, match="expected a whole number from 0"):
        DeskTask.load(written(tmp_path)).seeded(seed)


def test_parameters_are_made_of_one_another():
    recipes = {
        "numbers": {"integers": [1, 9], "count": 3},
        "total": {"sum": "{numbers}"},
        "twice": {"product": ["{total}", 2]},
        "names": ["x", "y", "z"],
        "most": {"largest": "{names}", "by": "{numbers}"},
        "line": {"join": "{names}", "with": ", "},
        "rows": {"rows": ["{names}", "{numbers}"]},
        "digits": {"digits": "{twice}"},
        "words": "{line}: {numbers[0]}",
    }
    for seed in range(20):
        made = draw(recipes, "any", seed)
        assert len(set(made["numbers"])) == 3
        assert made["twice"] == 2 * sum(made["numbers"]) == int("".join(made["digits"]))
        assert dict(made["rows"])[made["most"]] == max(made["numbers"])
        assert made["words"] == f"x, y, z: {made['numbers'][0]}"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"dice": 6}, "no kind of parameter named 'dice'; there are: integer"),
        ("{b}", "no parameter named 'b'"),
        ("{b} and more", "names what there is not"),
        ({"pick": [1], "at": 3}, "cannot be made"),
    ],
)
def test_a_parameter_that_cannot_be_made_is_told(recipe, said):
    with pytest.raises(DesktopError, match=f"parameter 'a' of task 't' cannot be made.*{said}|{said}"):
        draw({"a": recipe}, "t", 0)


def test_a_template_alone_keeps_what_the_value_is():
    assert filled({"{k}": ["{n}", "n={n}", 3]}, {"n": 5, "k": "key"}) == {"key": [5, "n=5", 3]}


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.id)
def test_every_task_that_ships_can_be_made_and_its_oracle_speaks_of_actions(task):
    desk = load_desk("bench")
    for seed in range(3):
        made = task.seeded(seed)
        assert not {"{", "}"} & set(made.instruction)
        *first, last = (from_json(_in_windows(data, EVERY)) for data in plan_of(made))
        assert isinstance(last, a.Done)
        assert first
        assert len(first) < task.max_steps < desk.budget.steps
        assert all(c["func"] in CHECKERS for c in task.evaluator)
        assert len(task.apps) > 1 or task.level < 3


def test_there_are_more_than_thirty_tasks_in_three_levels_on_every_application():
    assert len(ALL) >= 30
    assert {task.level for task in ALL} == {1, 2, 3}
    assert {app for task in ALL for app in task.apps} == set(APPS)


# -- checkers ----------------------------------------------------------------------------------------------------


def one(tmp_path, **changes):
    return DeskTask.load(written(tmp_path, **changes)).seeded(0)


def test_a_file_is_scored_by_its_text(tmp_path):
    made = one(tmp_path)
    where = state(tmp_path)
    assert score(made, where) == 0.0
    (tmp_path / "x.txt").write_text(f"{made.values['word']}\n", encoding="utf-8")
    assert score(made, where) == 1.0
    (tmp_path / "x.txt").write_text("other", encoding="utf-8")
    assert score(made, where) == 0.0


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"func": "guess", "expected": 1}, "is no check"),
        ({"func": "answer"}, "is no check"),
        ({"func": "file_text", "result": {"path": "../x"}, "expected": ""}, "lies outside"),
        ({"func": "file_text", "result": {"path": "latin"}, "expected": ""}, "UnicodeDecodeError"),
        ({"func": "file_text", "result": {"line": 3}, "expected": ""}, "TypeError"),
        ({"func": "dialog", "expected": None}, "IndexError"),
        ({"func": "answer", "expected": "{nothing}"}, "no parameter named 'nothing'"),
    ],
)
def test_a_check_that_cannot_be_made_is_an_error_and_no_score(tmp_path, check, said):
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckError, match=said):
        score(one(tmp_path, evaluator=check), state(tmp_path))


def test_a_dialog_is_scored_once_it_has_ended(tmp_path):
    made = one(tmp_path, evaluator={"func": "dialog", "expected": {"code": 0, "text": "yes"}})
    where = state(tmp_path, dialogs=[Dialog(tmp_path / "out", tmp_path / "code")])
    assert score(made, where) == 0.0
    (tmp_path / "out").write_text("yes\n", encoding="utf-8")
    (tmp_path / "code").write_text("0\n", encoding="utf-8")
    assert score(made, where) == 1.0


def test_all_checks_of_a_task_have_to_hold(tmp_path):
    checks = [{"func": "answer", "expected": "42"}, {"func": "folder", "expected": ["one.json"]}]
    made = one(tmp_path, evaluator=checks)
    assert score(made, state(tmp_path, answer=" 42\n")) == 1.0
    assert score(made, state(tmp_path, answer="41")) == 0.0
    (tmp_path / "more").mkdir()
    assert score(made, state(tmp_path, answer="42")) == 0.0


def test_what_a_page_of_an_older_task_tells_is_not_recorded():
    import urllib.error
    import urllib.request

    def post(url, value):
        urllib.request.urlopen(url, json.dumps(value).encode(), timeout=10).close()

    with Site() as site:
        site.begin()
        old = site.add("login", {})
        post(f"{old}/record", {"n": 1})
        assert site.records("login") == [{"n": 1}]
        site.begin()
        site.add("login", {})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            post(f"{old}/record", {"n": 2})
        assert site.records("login") == []
        with pytest.raises(DesktopError, match="no page named 'nowhere'; there are: .*login"):
            site.add("nowhere", {})
        with pytest.raises(DesktopError, match="no page 'shop' in this task; there are: login"):
            site.records("shop")


def test_an_oracle_tries_again_what_was_not_carried_out_and_then_gives_up(tmp_path):
    nothing, no = {"observation.windows": ()}, a.ActionResult(False, text="it is covered")
    choose = Oracle(one(tmp_path))
    first = choose(nothing, {"last": None})
    assert isinstance(first, a.Type)
    assert choose(nothing, {"last": no}) == first
    assert isinstance(choose(nothing, {"last": a.ActionResult(True)}), a.Done)
    choose = Oracle(one(tmp_path))
    choose(nothing, {"last": None})
    assert [choose(nothing, {"last": no}).kind for _ in range(8)] == ["type"] * 7 + ["fail"]


def test_an_oracle_takes_the_pointer_away_before_it_tries_again(tmp_path):
    choose = Oracle(one(tmp_path))
    seen, no = {"observation.windows": (EVERY[0],)}, a.ActionResult(False)
    kinds = [choose(seen, {"last": last}).kind for last in (None, no, a.ActionResult(True), no, no)]
    assert kinds == ["type", "move", "type", "move", "type"]


def test_an_oracle_names_the_windows_there_are_if_one_is_missing(tmp_path):
    at = {"selector": "text=x", "within": "pcmanfm"}
    choose = Oracle(one(tmp_path, oracle=[{"kind": "click", "at": at}]))
    assert choose({"observation.windows": EVERY}, {"last": None}) == a.Click(a.Selector("text=x", 4))
    choose = Oracle(one(tmp_path, oracle=[{"kind": "click", "at": at}]))
    with pytest.raises(DesktopError, match="no window of class 'pcmanfm'; there are: mousepad"):
        choose({"observation.windows": EVERY[:1]}, {"last": None})


# -- on a real desktop -------------------------------------------------------------------------------------------

NEEDED = ("Xvfb", "openbox", "chromium", "galculator", "mousepad", "pcmanfm", "xterm", "zenity", "tesseract")
missing = [name for name in NEEDED if not shutil.which(name)]
needs_programs = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def suite():
    with DeskSuite() as suite:
        yield suite


def the(name):
    return next(task for task in ALL if task.id == name)


def nothing(observation, info):
    return None


def given(suite, action):
    """What came of an action; a machine that stands still for a second lets what was seen grow too old."""
    for _ in range(10):
        result = suite.step(action)
        if result.refused != "OBSERVATION_STALE":
            break
    return result


ONE_OF_EACH = ["term_mkdir", "edit_append", "calc_sum", "files_rename", "web_login", "dialog_entry", "code_to_page"]


@needs_programs
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_oracle_does_a_task_and_doing_nothing_does_not(suite, name):
    idle = run_task(suite, the(name), 3, nothing)
    assert (idle.score, idle.error) == (0.0, "")
    run = run_task(suite, the(name), 3, Oracle(the(name).seeded(3)))
    assert (run.score, run.error) == (1.0, ""), run.said
    assert run.steps >= 2
    assert run.reset_s > 0


@needs_programs
def test_an_operator_sees_picture_windows_and_elements_and_is_told_the_task(suite):
    seen = suite.reset(the("edit_append"), 5)
    assert seen["observation.images.screen"].shape == (800, 1280, 3)
    assert seen["observation.images.screen"].dtype == "uint8"
    assert [w.wm_class[0] for w in seen["observation.windows"]] == ["Mousepad"]
    text = next(e for e in seen["observation.elements"]() if e.role == "textbox")
    assert text.value.strip() == suite.episode.task.values["text"]
    assert suite.info["task"] == the("edit_append").seeded(5).instruction
    assert (suite.info["step"], suite.info["last"]) == (0, None)
    result = suite.step(a.Key("f25"))
    assert (suite.info["step"], suite.info["last"]) == (1, result)


@needs_programs
def test_nothing_of_a_task_is_left_for_the_next_one(suite):
    suite.reset(the("edit_append"), 0)
    assert given(suite, a.Launch("calculator")).executed
    assert given(suite, a.KeyDown("shift")).executed
    work = suite.episode.state.work
    (work / "more.txt").write_text("x", encoding="utf-8")
    (work.parent / ".shell").write_text("exit", encoding="utf-8")
    (work.parent / ".config" / "made").mkdir()
    suite.desk.stop("a person stops it")
    assert suite.step(a.Key("a")).refused == "STOP_REQUESTED"
    seen = suite.reset(the("term_mkdir"), 0)
    assert [w.wm_class[0] for w in seen["observation.windows"]] == ["XTerm"]
    assert not list(work.iterdir())
    assert not (work.parent / ".config" / "made").exists()
    assert not suite.desk.guard.held.keys
    assert given(suite, a.Type("x")).executed


@needs_programs
def test_a_browser_that_died_is_there_again_for_the_next_task(suite):
    suite.reset(the("web_login"), 0)
    temporary = suite.episode.state.work.parent / "tmp"
    (temporary / "left.txt").write_text("x", encoding="utf-8")
    died = suite.desk.browsers()[0].pid
    os.kill(died, signal.SIGKILL)
    suite.reset(the("web_login"), 1)
    (browser,) = suite.desk.browsers()
    assert browser.pid != died and [w.pid for w in suite.desk.bridge.windows.all()] == [browser.pid]
    assert not (temporary / "left.txt").exists()


@needs_programs
def test_the_terminal_of_the_tasks_takes_no_more_than_it_needs(suite):
    suite.reset(the("term_mkdir"), 0)
    refused = given(suite, a.Type("mkdir a; mkdir b\n"))
    assert refused.refused == "TERMINAL_FORBIDDEN"
    for line in ("cd ..\n", "/bin/mkdir b\n", "python3 -V\n", "mkdir c\n"):
        assert given(suite, a.Type(line)).executed
    assert suite.desk.bridge.windows.wait(lambda: (suite.episode.state.work / "c").is_dir(), 10.0)
    assert [p.name for p in suite.episode.state.work.iterdir()] == ["c"]


@needs_programs
def test_what_fails_beside_the_operator_is_an_error_and_no_score(suite):
    broken = replace(the("term_mkdir"), evaluator=({"func": "dialog", "expected": None},))
    run = run_task(suite, broken, 0, nothing)
    assert run.score is None
    assert run.error.startswith("CheckError: dialog: IndexError")
    strange = replace(the("term_mkdir"), config=({"type": "pray"},))
    run = run_task(suite, strange, 0, nothing)
    assert run.score is None
    assert "no step of type 'pray'; there are: files, launch, dialog, page" in run.error
    with pytest.raises(DesktopError, match="no task has been set up"):
        suite.step(None)


@needs_programs
def test_after_the_end_nothing_more_is_done(suite):
    suite.reset(the("calc_sum"), 0)
    assert given(suite, a.Fail("too hard")).executed
    with pytest.raises(DesktopError, match="the task is over"):
        suite.step(a.Key("1"))
    assert suite.evaluate() == 0.0


# -- the command -------------------------------------------------------------------------------------------------


def test_the_command_lists_every_task():
    done = CliRunner().invoke(tasks, ["--json"])
    rows = json.loads(done.stdout)
    assert [row["id"] for row in rows] == [task.id for task in ALL]
    assert set(rows[0]) == {"id", "level", "apps", "instruction"}
    assert f"{len(ALL)} tasks" in CliRunner().invoke(tasks).stdout


@needs_programs
def test_the_command_runs_tasks_and_says_how_they_were_scored():
    asked = CliRunner().invoke(bench, ["calc_sum", "--operator", "nothing", "--seeds", "2"], standalone_mode=False)
    assert asked.return_value == 0, asked.output
    table, last = asked.stdout.splitlines()[:-1], asked.stdout.splitlines()[-1]
    assert max(map(len, table)) <= 80
    told = json.loads(last)
    assert (told["operator"], told["tasks"], told["runs"], told["score"], told["errors"]) == ("nothing", 1, 2, 0.0, 0)
    assert [row["seed"] for row in told["rows"]] == [0, 1]


@pytest.mark.parametrize(
    ("operator", "found", "code"),
    [("oracle", 1.0, 0), ("oracle", 0.0, 1), ("oracle", None, 1), ("nothing", 0.0, 0), ("nothing", 1.0, 1)],
)
def test_the_command_ends_well_only_if_every_score_is_as_it_should_be(monkeypatch, operator, found, code):
    from optr.desk_bench import suite as module

    error = "" if found is not None else "CheckError: broken"
    monkeypatch.setattr(module, "DeskSuite", nullcontext)
    monkeypatch.setattr(module, "run_task", lambda *_: module.TaskRun("calc_sum", 0, 1, found, error))
    headed = "runs done" if operator == "oracle" else "scored 0.0, as doing nothing must"
    said = CliRunner().invoke(bench, ["calc_sum", "--operator", operator], standalone_mode=False).stdout
    assert f"{1 - code} of 1 {headed}" in said
    asked = CliRunner().invoke(bench, ["calc_sum", "--operator", operator, "--json"], standalone_mode=False)
    told = json.loads(asked.stdout)
    assert asked.return_value == code
    assert (told["score"], told["errors"]) == (found, int(found is None))
