"""`optr eval`: the same seeds for every policy, counted once, however many processes play and whatever ends them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from optr.cli import cli
from optr.errors import ExperimentError, PolicyError, UnknownNameError
from optr.evaluation import PlayedEpisode, entrants_of, evaluate, make_evaluation
from optr.evaluation.entrants import name_of, sees_pictures
from optr.evaluation.evaluate import plan_of, read_evaluation
from optr.evaluation.failures import differs_from, film_failures
from optr.experiments import load_plan, read_results
from optr.experiments.plan import ANY_AGENT
from optr.experiments.statistics import wilson
from optr.experiments.telemetry import episodes_file, read_lines
from optr.policies.card import PolicyCard, write_card
from optr.spec import load_spec
from policy_makers import save_policy

SCRIPTED, HOLD, RANDOM = "operator:scripted_reach", "operator:hold", "operator:random"
graph = pytest.mark.flaky(reruns=1)
"""Of tests in which processes run that are not started here: tried once more, as `conftest.py` says."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Three operators on four seeds of `reach`, with a video of a failure of each."""
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluate([SCRIPTED, HOLD, RANDOM], ["reach"], range(1000, 1004), folder, processes=1, videos=1)


def played(policy: str, seed: int, success: bool, **more) -> PlayedEpisode:
    given = {"ended": "terminated", "steps": 10, "seconds": 0.2, "allowed": 10, "limited": 0, "refused": 0}
    return PlayedEpisode(policy, "reach", seed, success, **{**given, "abstained": 0, "failed": 0, **more})


# -- playing -----------------------------------------------------------------------------------------------------------


def test_every_policy_plays_the_same_seeds_and_is_judged_by_the_task(evaluated):
    assert evaluated.complete
    for name in ("scripted_reach", "hold", "random"):
        seeds = [e.seed for e in evaluated.episodes if e.policy == name]
        assert seeds == [1000, 1001, 1002, 1003], name
    scripted, hold = evaluated.result("scripted_reach"), evaluated.result("hold", "reach")
    assert scripted.success == wilson(4, 4) and hold.success == wilson(0, 4)
    assert (scripted.failed_seeds, hold.failed_seeds) == ((), (1000, 1001, 1002, 1003))
    assert evaluated.reaches(0.0) and not evaluated.reaches(0.9)


def test_every_decision_is_counted_once_by_what_the_sentinel_made_of_it(evaluated):
    for e in evaluated.episodes:
        assert e.allowed + e.limited + e.refused + e.abstained + e.failed == e.steps, e
        assert e.seconds == pytest.approx(e.steps / 50)
    assert evaluated.result("random").limited > 100, "random actions are too fast for the arm"
    scripted = evaluated.result("scripted_reach")
    assert (scripted.limited, scripted.refused, scripted.failed) == (0, 0, 0)
    assert scripted.latency.count == scripted.allowed
    assert 0 < scripted.latency.p50 <= scripted.latency.p99 <= scripted.latency.worst


def test_time_to_success_is_simulated_time_of_those_that_succeeded(evaluated):
    seconds = [e.seconds for e in evaluated.episodes if e.policy == "scripted_reach"]
    assert evaluated.result("scripted_reach").seconds_to_success.value == pytest.approx(np.mean(seconds))
    assert math.isnan(evaluated.result("hold").seconds_to_success.value)


def test_seeds_dealt_to_processes_give_the_same_episodes(evaluated, tmp_path):
    again = evaluate([SCRIPTED], ["reach"], range(1000, 1004), tmp_path, processes=3)
    assert load_plan(tmp_path / "plan.yaml").parts == 3
    runs = sorted(p.name for p in (tmp_path / "telemetry").glob("*_episodes.jsonl"))
    assert runs == [f"scripted_reach--reach--{k}_episodes.jsonl" for k in (1, 2, 3)]
    assert again.episodes == tuple(e for e in evaluated.episodes if e.policy == "scripted_reach")
    whole = read_results(tmp_path)
    assert whole.complete and [(r.run, r.done, r.planned) for r in whole.runs] == [("scripted_reach--reach", 4, 4)]


def test_it_goes_on_after_the_last_whole_episode_with_any_number_of_processes(tmp_path):
    def ended_early(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate([SCRIPTED], ["reach"], range(5), tmp_path, processes=1, told=ended_early)
    assert len(read_evaluation(tmp_path).episodes) == 1
    with pytest.raises(ExperimentError, match="holds an experiment already"):
        evaluate([SCRIPTED], ["reach"], range(5), tmp_path, processes=1)
    with pytest.raises(ExperimentError, match="seeds differ"):
        evaluate([SCRIPTED], ["reach"], range(6), tmp_path, processes=1, resume=True)
    told = []
    found = evaluate([SCRIPTED], ["reach"], range(5), tmp_path, processes=2, resume=True, told=told.append)
    assert [line["seed"] for line in told] == [1, 2, 3, 4]
    assert [e.seed for e in found.episodes] == [0, 1, 2, 3, 4] and found.complete


def test_a_policy_that_cannot_be_made_takes_nothing_from_the_others():
    found = evaluate(["operator:replay", SCRIPTED], ["reach"], [1], processes=1)
    broken, scripted = found.results
    assert (broken.played, scripted.played) == (0, 1) and "bag" in broken.why
    assert math.isnan(broken.success.value), "nothing is known of it"
    assert not found.complete and not found.reaches(0.1)


def test_seeds_are_dealt_so_that_every_process_has_something_to_do():
    def parts(policies, tasks, seeds, processes):
        entrants = entrants_of([SCRIPTED, HOLD, RANDOM][:policies])
        return plan_of(entrants, [f"t{k}" for k in range(tasks)], range(seeds), processes, False, "").parts

    assert parts(1, 1, 100, 4) == 4 and parts(3, 1, 100, 2) == 2
    assert parts(2, 2, 100, 4) == 1 and parts(1, 1, 2, 16) == 2
    plan = replace(plan_of(entrants_of([HOLD]), ["reach"], range(10), 4, False, ""), parts=4)
    dealt = [[e.seed for e in plan.schedule(run)] for run in plan.runs]
    assert [seed for d in dealt for seed in d] == list(range(10)) and {len(d) for d in dealt} == {2, 3}
    with pytest.raises(ExperimentError, match="seed 3 is named twice"):
        plan_of(entrants_of([HOLD]), ["reach"], [3, 4, 3], 1, False, "")


# -- who ---------------------------------------------------------------------------------------------------------------


def test_a_policy_is_a_folder_a_name_an_address_or_an_operator(tmp_path):
    folder = tmp_path / "act" / "checkpoints" / "000500" / "pretrained_model"
    folder.mkdir(parents=True)
    other = tmp_path / "more" / "act"
    other.mkdir(parents=True)
    given = [folder, other, "pick_place_act", "ws://robot:8080", SCRIPTED]
    entrants = entrants_of(given, {"device": "cpu"})
    assert [e.id for e in entrants] == ["act", "act-2", "pick_place_act", "robot-8080", "scripted_reach"]
    assert name_of("runs/tidy_up/policy") == "tidy_up"
    kinds = [e.agents[ANY_AGENT] for e in entrants]
    assert dict(kinds[0].settings) == {"policy": str(folder), "device": "cpu"} and kinds[0].operator == "policy"
    assert [k.settings.get("policy") for k in kinds[2:]] == ["pick_place_act", "ws://robot:8080", None]


@pytest.mark.parametrize(
    ("policies", "error", "told"),
    [
        (["operator:scripted_reech"], UnknownNameError, "scripted_reach"),
        (["./nowhere/act"], PolicyError, "nowhere/act is not there; expected the folder of a checkpoint"),
        ([__file__], PolicyError, "is a file; expected the folder"),
        ([HOLD, HOLD], PolicyError, "operator:hold is named twice"),
        ([], PolicyError, "at least one policy"),
        (["reach_ppp"], UnknownNameError, "no policy named 'reach_ppp'; there are: pick_place_act, reach_ppo"),
    ],
)
def test_what_is_no_policy_is_told_before_anything_is_played(policies, error, told):
    with pytest.raises(error, match=told):
        entrants_of(policies)


def test_an_unknown_task_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(UnknownNameError, match="no task named 'reech'; there are: pick_place, push, reach"):
        evaluate([HOLD], ["reech"], [1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_lerobot_plays_and_fails_the_same_on_film(tmp_path):
    import torch

    torch.set_num_threads(1)
    folder = save_policy(tmp_path / "run" / "checkpoints" / "last" / "pretrained_model", "act")
    assert not sees_pictures(str(folder))
    found = evaluate([folder], ["reach"], [1000], tmp_path / "out", processes=1, videos=1, options={"device": "cpu"})
    result = found.result("run")
    assert found.complete and result.success == wilson(0, 1), "its weights are random"
    assert (result.failed, result.latency.count) == (0, 300)
    assert result.allowed + result.limited + result.refused == 300
    assert [(v.same, v.text) for v in found.videos] == [(True, "")]


def test_cameras_are_shown_to_policies_whose_card_asks_for_them(tmp_path):
    spec = load_spec("so101_tabletop")
    for name, image in (("blind", ()), ("seeing", ("observation.images.front",))):
        inputs = {"observation.state": ("observation.state",), **{k: (k,) for k in image}}
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, PolicyCard(name, "lerobot", inputs, 50.0), spec)
        assert sees_pictures(str(tmp_path / name)) == bool(image)
    for nested in ("checkpoints/last/pretrained_model", "policy"):
        run = tmp_path / nested.partition("/")[0]
        (run / nested).parent.mkdir(parents=True)
        shutil.copytree(tmp_path / "seeing", run / nested)
        assert sees_pictures(str(run)), "given by the folder of its training"
    assert not sees_pictures(SCRIPTED) and not sees_pictures("ws://robot:1")
    (tmp_path / "seeing" / "optr_policy.yaml").write_text("optr_policy: 9\n")
    assert not sees_pictures(str(tmp_path / "seeing")), "who loads it tells what is wrong"


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_pairs_are_compared_on_the_seeds_that_both_have_played(evaluated):
    pair = next(p for p in evaluated.pairs if (p.first, p.second) == ("scripted_reach", "hold"))
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (0, 4, 0, 0)
    assert pair.p == pytest.approx(2 / 2**4)
    assert len(evaluated.pairs) == 3 and all(p.p_holm >= p.p for p in evaluated.pairs)


def test_the_sign_test_looks_only_at_seeds_where_they_differ():
    keys = [("a", "reach"), ("b", "reach")]
    ours = [played("a", seed, seed < 90) for seed in range(100)]
    theirs = [played("b", seed, seed < 83 or seed in (95, 96)) for seed in range(99)]
    pair = make_evaluation(Path(), keys, 100, [*ours, *theirs], {}, {}).pairs[0]
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (83, 7, 2, 7)
    tail = sum(math.comb(9, k) for k in range(3)) / 2**9
    assert pair.p == pytest.approx(2 * tail)


def test_an_episode_that_broke_off_counts_as_a_failure_and_is_told():
    episodes = [played("a", 0, True), played("a", 1, False, ended="error", text="the model fails", steps=3)]
    found = make_evaluation(Path(), [("a", "reach")], 2, episodes, {}, {})
    result = found.results[0]
    assert (result.success.value, result.broke_off, result.steps.value) == (0.5, 1, 10.0)
    assert result.why == "the model fails" and not found.complete


# -- videos ------------------------------------------------------------------------------------------------------------


def test_a_failure_is_played_again_as_it_was_counted_and_filmed(evaluated):
    assert [(v.policy, v.seed, v.same, v.text) for v in evaluated.videos] == [
        ("hold", 1000, True, ""),
        ("random", evaluated.result("random").failed_seeds[0], True, ""),
    ]
    counted = next(e for e in evaluated.episodes if (e.policy, e.seed) == ("hold", 1000))
    with av.open(evaluated.videos[0].path) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert len(times) == counted.steps + 1 and times[-1] == pytest.approx(counted.seconds, abs=0.01)
    assert (np.diff(times) > 0).all()


def test_a_replay_that_goes_otherwise_says_so(evaluated, tmp_path):
    changed = tuple(replace(e, digest="other", steps=7) if e.policy == "hold" else e for e in evaluated.episodes)
    plan = load_plan(evaluated.folder / "plan.yaml")
    few = replace(plan, entrants=tuple(e for e in plan.entrants if e.id == "hold"), seeds=(1000,))
    found = film_failures(replace(evaluated, episodes=changed), few, tmp_path, 1)
    assert [v.same for v in found.videos] == [False]
    assert "truncated after 7 steps, failure; now truncated after 300, failure" in found.videos[0].text
    assert differs_from(changed[0], type("Outcome", (), {"digest": changed[0].digest})()) == ""


# -- the command -------------------------------------------------------------------------------------------------------


def run(*words: str):
    return CliRunner().invoke(cli, ["eval", *map(str, words)], standalone_mode=False)


def test_the_command_tells_all_as_json_and_asks_for_a_share(tmp_path):
    words = (SCRIPTED, HOLD, "--task", "reach", "--seeds", "2", "--processes", "1", "--videos", "0", "--json")
    done = run(*words, "--out", tmp_path / "a", "--require", "0.9")
    assert done.return_value == 1, "hold does not reach it"
    told = json.loads(done.output)
    assert (told["complete"], told["required"], told["reached"]) == (True, 0.9, False)
    assert [(r["policy"], r["success"]["value"]) for r in told["results"]] == [("scripted_reach", 1.0), ("hold", 0.0)]
    assert told["results"][1]["seconds_to_success"]["value"] is None, "JSON knows no NaN"
    assert [e["seed"] for e in told["episodes"]] == [1000, 1001] * 2
    lines = list(read_lines(episodes_file(tmp_path / "a", "hold--reach")))
    assert [(line["seconds"], line["refused"]) for line in lines] == [(6.0, 0)] * 2
    again = run(*words, "--out", tmp_path / "a", "--resume")
    assert again.return_value == 0 and json.loads(again.output)["episodes"] == told["episodes"]


def test_the_command_prints_tables_and_where_things_are(tmp_path):
    done = run(
        SCRIPTED, HOLD, "--task", "reach", "--seeds", "1", "--processes", "1", "--out", tmp_path, "--videos", "0"
    )
    assert done.return_value == 0, done.output
    assert "100 % [21, 100]" in done.output and "only first" in done.output
    assert "hold, reach: no success with seed 1000" in done.output and str(tmp_path) in done.output
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is True


def test_exit_code_1_when_a_policy_could_not_play(tmp_path):
    words = ("--task", "reach", "--seeds", "1", "--processes", "1", "--videos", "0", "--out", tmp_path)
    assert run("operator:replay", SCRIPTED, *words).return_value == 1


# -- the graph ---------------------------------------------------------------------------------------------------------


@graph
def test_the_real_graph_counts_what_is_counted_in_process(evaluated, tmp_path):
    """And goes on after a kill: the first seed counts already, of the second a piece of a bag was left."""
    words = (SCRIPTED, "--task", "reach", "--graph", "--json", "--out", tmp_path, "--seeds", "2")
    mine = [e.to_dict() for e in evaluated.episodes if e.policy == "scripted_reach"][:2]
    asked = {
        "policies": {e.id: e.agents[ANY_AGENT].to_dict() for e in entrants_of([SCRIPTED])},
        "tasks": ["reach"],
        "seeds": [1000, 1001],
        "cameras": False,
        "spec": "so101_tabletop",
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(asked))
    first = json.dumps({**mine[0], "wall_decide_s": [0.001] * mine[0]["steps"]}) + "\n"
    lines, left = tmp_path / "scripted_reach--reach.jsonl", tmp_path / "scripted_reach--reach/bags/reach-01001"
    lines.write_text(first)
    left.mkdir(parents=True)
    assert "go on with it by --resume" in str(run(*words).exception)
    assert "cameras differ" in str(run(*words, "--resume", "--cameras").exception)
    done = run(*words, "--resume")
    assert done.return_value == 0, done.output
    told = json.loads(done.output)
    assert told["graph"] and told["results"][0]["latency"]["count"] == sum(e["steps"] for e in told["episodes"])
    kept = ("seed", "success", "ended", "steps", "allowed", "limited", "refused", "abstained", "failed")
    assert [{k: e[k] for k in kept} for e in told["episodes"]] == [{k: e[k] for k in kept} for e in mine]
    assert lines.read_text().startswith(first), "the first was not played again"
    assert told["episodes"][1]["bag"] == str(left) and (left / "metadata.yaml").is_file()
    assert told["episodes"][1]["dropped"] == 0


@graph
def test_the_real_graph_counts_who_abstains_as_in_process(tmp_path):
    ours = evaluate(["operator:passive"], ["reach"], [1000], tmp_path / "alone", processes=1).episodes[0]
    words = ("operator:passive", "--task", "reach", "--graph", "--json", "--out", tmp_path / "graph", "--seeds", "1")
    done = run(*words)
    theirs = json.loads(done.output)["episodes"][0]
    kept = ("allowed", "limited", "refused", "abstained", "failed", "steps")
    assert {key: theirs[key] for key in kept} == {key: ours.to_dict()[key] for key in kept}
    assert ours.abstained == ours.steps > 0


def test_videos_without_cameras_are_refused():
    assert "leave out --no-cameras" in str(run(HOLD, "--graph", "--no-cameras", "--videos", "3").exception)
