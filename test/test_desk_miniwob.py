"""MiniWoB++ in a real Chromium: real input through the guard, and the reward that the page counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError

import pytest
from click.testing import CliRunner

from optr.cli import cli
from optr.connectors.desktop import actions as a
from optr.desk_bench.miniwob import pages
from optr.desk_bench.miniwob.environment import MiniWob
from optr.desk_bench.miniwob.operator import ScriptedOperator
from optr.desk_bench.miniwob.runs import run_episode
from optr.errors import DesktopError, UnknownNameError


@pytest.fixture(scope="module")
def env() -> Iterator[MiniWob]:
    with MiniWob() as opened:
        yield opened


class Idle:
    """Waits a moment, and gives up."""

    def reset(self) -> None:
        self.looks = 0

    def select_action(self, observation, info):
        self.looks += 1
        return None if self.looks < 3 else a.Done()


class Always:
    """Does one thing again and again."""

    def __init__(self, action: a.DesktopAction) -> None:
        self.action = action

    def reset(self) -> None:
        """Nothing to forget."""

    def select_action(self, observation, info):
        return self.action


@pytest.mark.parametrize("task", ["click-checkboxes", "use-slider", "drag-box", "email-inbox-reply", "draw-circle"])
def test_rules_do_tasks_by_clicks_keys_and_drags(env, task):
    episode = run_episode(env, ScriptedOperator(), task, 2000)
    assert episode.success and episode.raw == 1.0, episode
    assert 1 <= episode.steps <= 10


def test_doing_nothing_is_no_success(env):
    episode = run_episode(env, Idle(), "click-test", 1)
    assert (episode.success, episode.raw, episode.steps) == (False, 0.0, 0)


def test_the_wrong_button_is_no_success_and_ends_it(env):
    page = env.reset("click-test-2", 1)
    wrong = next(i for i in page.all("button") if i.text not in page.utterance)
    result = env.act(a.Click(page.point(wrong.middle)))
    assert result.executed and env.outcome().done and env.outcome().raw == -1.0


def test_a_seed_is_a_task_and_another_seed_another(env):
    first, other, again = (env.reset("enter-text", seed).utterance for seed in (3, 4, 3))
    assert first == again != other


def test_steps_are_limited_also_by_what_the_guard_refuses(env):
    episode = run_episode(env, Always(a.Hotkey(("alt", "f4"))), "click-test", 1)
    assert (episode.success, episode.steps) == (False, 10)
    assert "10 steps" in episode.why and not env.act(a.Hotkey(("alt", "f4"))).executed


def test_what_asks_is_told_from_what_is_asked_about(env):
    page = env.reset("click-button", 5)
    assert [i.id for i in page.items if i.asks][:1] == ["query"]
    assert not any(i.asks for i in page.all())
    assert page.picture.shape == (page.size[1], page.size[0], 3)


def test_nothing_hidden_in_attributes_is_seen(env):
    page = env.reset("count-sides", 1)
    assert page.all("button") and not any("data-" in name for i in page.items for name in i.attributes)


def test_no_element_is_looked_up_where_no_name_makes_a_difference(env):
    page = env.reset("click-test", 1)
    assert not env.desk.look(a.Click(page.point(page.all("button")[0].middle))).found


def test_there_are_125_tasks_and_no_import_of_the_package():
    assert len(pages.known_tasks()) == 125
    assert "miniwob" not in sys.modules and "selenium" not in sys.modules


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="no task of MiniWoB\\+\\+ named 'click-tset'.*click-test"):
        pages.known_tasks(("click-tset",))


def test_says_how_to_install_what_is_missing(monkeypatch):
    def none(_: str) -> None:
        raise PackageNotFoundError("miniwob")

    monkeypatch.setattr(pages, "distribution", none)
    with pytest.raises(DesktopError, match="pip install --no-deps miniwob"):
        MiniWob()


def test_the_command_prints_one_line_of_json():
    done = CliRunner().invoke(cli, ["desktop", "miniwob", "click-test", "click-link", "--seeds", "1", "--json"])
    assert done.exit_code == 0, done.output
    whole = json.loads(done.output)
    assert (whole["tasks"], whole["episodes"], whole["success"]) == (2, 2, 1.0)


def test_the_command_prints_a_table_in_80_columns():
    done = CliRunner(env={"COLUMNS": "80"}).invoke(cli, ["desktop", "miniwob", "click-test", "--seeds", "1"])
    assert done.exit_code == 0, done.output
    assert "100.0% of 1 tasks" in done.output and max(map(len, done.output.splitlines())) <= 80
