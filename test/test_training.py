"""LeRobot's policies, trained on what was recorded: small ones, a few steps."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from optr.episodes.convert.columns import SCENE
from optr.errors import TrainingError
from optr.lerobot_support import lerobot_module
from optr.policies.card import read_card, read_spec
from optr.policies.load import load_policy
from optr.training.imitation import Run, begin, stored, train
from optr.training.lerobot_config import check_recipe, device_named
from optr.training.recipe import load_recipe, override, recipe_names
from training_data import ACT, DIFFUSION, camera_dataset, changed, dataset_of, losses, scene_dataset, wave_bags

SMALL = {"image_size": [24, 32]}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cameras(tmp_path_factory):
    return camera_dataset(tmp_path_factory.mktemp("cameras"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return scene_dataset(tmp_path_factory.mktemp("scene"))


def nothing(text):
    pass


def trained(recipe, data, out, **values):
    begin(out, override(recipe, values), Run(str(data)))
    return train(out, nothing, show=False)


@pytest.mark.parametrize("recipe", [ACT, DIFFUSION], ids=lambda r: r.algorithm)
def test_a_policy_learns_from_two_cameras_and_is_deployed(recipe, cameras, tmp_path):
    result = trained(recipe, cameras, tmp_path / "out", **SMALL)
    assert (result.steps, result.interrupted) == (24, False)
    assert result.loss_last < result.loss_first
    assert len(losses(tmp_path / "out")) == 6
    spec = read_spec(result.policy)
    policy = load_policy(result.policy, robot=spec, device="cpu")
    assert set(policy.info.keys) == {"observation.state", "observation.images.front", "observation.images.wrist"}
    dark = {f.key: np.zeros(f.shape, f.dtype) for f in spec.observations}
    random = np.random.default_rng(0)
    lit = {k: random.integers(0, 255, v.shape, np.uint8) if v.dtype == np.uint8 else v for k, v in dark.items()}
    answers = []
    for seen in (dark, lit, dark):
        policy.reset(0)
        answers.append(policy.predict([seen] * policy.info.history))
    assert answers[0].shape == (policy.info.horizon, 6)
    assert np.array_equal(answers[0], answers[2])
    if recipe is ACT:  # one of diffusion goes to the ends of the range, whatever it sees, after so few steps
        assert not np.array_equal(answers[0], answers[1]), "it sees the pictures"
    card = read_card(result.policy)
    assert (card.name, card.rate, card.training["steps"], card.training["seed"]) == (recipe.name, 50.0, 24, 1000)
    events = list((tmp_path / "out" / "tensorboard").iterdir())
    assert len(events) == 1 and events[0].stat().st_size > 500


def test_the_weights_are_those_of_lerobots_own_loop(tmp_path, monkeypatch):
    monkeypatch.setattr("optr.training.data.STEADY", 0.0)  # the one thing that LeRobot does otherwise
    columns = ("observation.state", "observation.environment.*", "action")
    joined = dataset_of(wave_bags(tmp_path), tmp_path / "joined", columns, joined=True)
    result = trained(ACT, joined, tmp_path / "ours", steps=6)
    configs, default = lerobot_module("configs.train"), lerobot_module("configs.default")
    from optr.training.lerobot_config import policy_config

    config = configs.TrainPipelineConfig(
        dataset=default.DatasetConfig("local/test", root=str(joined), video_backend="pyav"),
        policy=policy_config(ACT, "cpu"),
        output_dir=tmp_path / "theirs",
        num_workers=0, batch_size=4, steps=6, eval_freq=0, log_freq=4, save_freq=100,
    )  # fmt: skip
    argv, sys.argv = sys.argv, ["train"]  # LeRobot looks there
    try:
        lerobot_module("scripts.lerobot_train").train(config)
    finally:
        sys.argv = argv
    theirs = load_file(tmp_path / "theirs" / "checkpoints" / "last" / "pretrained_model" / "model.safetensors")
    ours = load_file(Path(result.policy) / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_scene_is_seen_and_the_card_says_how_it_is_joined(scene, tmp_path):
    keys = ("observation.state", "observation.environment.cube", "observation.environment.bin")
    result = trained(replace(ACT, inputs=keys), scene, tmp_path / "out", steps=2)
    assert read_card(result.policy).inputs == {"observation.state": keys[:1], SCENE: keys[1:]}
    policy = load_policy(result.policy, robot=read_spec(result.policy), device="cpu")
    assert policy.info.keys == keys


def test_the_same_seed_gives_the_same_weights_and_a_training_goes_on(scene, tmp_path):
    whole = trained(ACT, scene, tmp_path / "whole", steps=8, save_freq=4)
    again = trained(ACT, scene, tmp_path / "again", steps=4)
    parts = tmp_path / "whole" / "checkpoints" / "000004" / "pretrained_model"
    ours, theirs = load_file(parts / "model.safetensors"), load_file(Path(again.policy) / "model.safetensors")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    recipe, _ = stored(tmp_path / "again")
    (tmp_path / "again" / "recipe.yaml").write_text(override(recipe, {"steps": 8}).to_yaml())
    more = train(tmp_path / "again", nothing, show=False)
    assert (more.steps, whole.steps) == (8, 8)
    assert read_card(more.policy).training["steps"] == 8
    assert len(losses(tmp_path / "again")) == 2
    with pytest.raises(TrainingError, match="has been trained for 8 steps already: ask for more by --steps"):
        train(tmp_path / "again", nothing, show=False)


def test_weights_of_somebody_else_begin_with_the_numbers_of_our_data(scene, tmp_path):
    first = trained(ACT, scene, tmp_path / "first", steps=1)
    other = replace(
        ACT, settings={**ACT.settings, "policy": {**ACT.settings["policy"], "pretrained_path": first.policy}}
    )
    shifted = changed(scene, tmp_path / "shifted")
    path = shifted / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["mean"] = [9.0] * 6
    path.write_text(json.dumps(stats))
    second = trained(other, shifted, tmp_path / "second", steps=1, **{"policy.optimizer_lr": 1e-12})
    weights = [load_file(Path(r.policy) / "model.safetensors") for r in (first, second)]
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-6) for key in weights[0])
    (kept,) = Path(second.policy).glob("policy_postprocessor_*_unnormalizer_processor.safetensors")
    assert load_file(kept)["action.mean"].tolist() == [9.0] * 6


def test_a_loss_that_is_no_number_ends_it(scene, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+: a smaller learning rate may help"):
        trained(ACT, scene, tmp_path / "out", **{"policy.optimizer_lr": 1e30})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stpes": 3}, "--set stpes: unknown setting 'stpes'; known here: steps, batch_size"),
        ({"steps": 0}, "--set steps: must be at least 1, got 0"),
        ({"policy.chnk_size": 3}, "--set policy.chnk_size: unknown setting 'chnk_size'; known here: .*chunk_size"),
        ({"policy.chunk_size": "many"}, "--set policy.chunk_size: .*Couldn't parse 'many' into an int"),
        ({"policy.n_action_steps": 9}, "policy: .*chunk size is the upper bound"),
        ({"optimizer": {"type": "magic"}}, "--set optimizer: type is one of adam, .*; got 'magic'"),
        ({"scheduler": {"type": "diffuser", "warmup": 3}}, "--set scheduler: .*warmup"),
        ({"optimizer": {"type": "adam", "lr": "high"}}, "--set optimizer: lr: Couldn't parse 'high' into a float"),
        ({"trial.episodes": 0}, "--set trial.episodes: must be at least 1, got 0"),
        ({"trial.first_seed": "late"}, "--set trial.first_seed: expected a whole number, got 'late'"),
        ({"trial.sedes": 1}, "--set trial.sedes: unknown setting 'sedes'; known here: episodes, first_seed"),
        ({"mixed_precision": "fp7"}, "--set mixed_precision: is one of no, fp16, bf16"),
    ],
)
def test_a_wrong_setting_is_named(values, message, scene, tmp_path):
    with pytest.raises(TrainingError, match=message):
        trained(ACT, scene, tmp_path / "out", **values)


def test_what_a_policy_cannot_do_with_is_told(scene, tmp_path):
    with pytest.raises(TrainingError, match="recipe tiny_diffusion cannot do with observation.state: .*must provide"):
        trained(replace(DIFFUSION, inputs=("observation.state",)), scene, tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()  # mended, it can be asked for again
    with pytest.raises(TrainingError, match="LeRobot has no policy 'magic' to train; it has: act, diffusion"):
        trained(replace(ACT, algorithm="magic"), scene, tmp_path / "other")
    with pytest.raises(TrainingError, match="device 'cuda:99' is not there"):
        device_named("cuda:99")


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).kind == "imitation"])
def test_shipped_recipes_are_understood_by_lerobot(name):
    check_recipe(load_recipe(name), "cpu")


def test_the_command_says_what_is_missing(scene, tmp_path):
    from optr.cli import cli

    def said(*arguments):
        found = CliRunner().invoke(cli, ["train", *arguments])
        return found.output + str(found.exception)

    assert "name a recipe" in said()
    assert "name what to train on: optr train act_small DATASET, or bags" in said("act_small")
    assert "--resume goes on with a training: name its folder by --out" in said("--resume")
    assert "holds no training: there is no recipe.yaml" in said("--resume", "--out", str(tmp_path))
    begin(tmp_path / "out", ACT, Run(str(scene)))
    assert "holds a training already: go on with it by --resume" in said(
        "act_small", str(scene), "--out", str(tmp_path / "out")
    )
    for recipe in ("act_small", "reach_ppo"):
        data = [str(scene)] if recipe == "act_small" else []
        assert "nothing can be written to /proc/out" in said(recipe, *data, "--out", "/proc/out")
    assert "--resume cannot change policy.chunk_size" in said(
        "--resume", "--out", str(tmp_path / "out"), "--set", "policy.chunk_size=3"
    )
    going_on = ("--resume", "--out", str(tmp_path / "out"))
    assert "--resume cannot change --device, --seed" in said(*going_on, "--seed", "0", "--device", "cpu")
    assert "goes on with the recipe and the data of" in said("act_small", *going_on)
    assert "each of --processes takes its own" in said("act", str(scene), "--device", "cuda:1", "--processes", "2")
    assert "a training by trial is a setting: --set spec=NAME" in said("reach_ppo", "--spec", "koch")
    assert "--processes is for imitation" in said("reach_ppo", "--processes", "2")
    assert "--outcome chooses among bags: name some" in said("reach_ppo", "--outcome", "success")


def test_what_was_trained_is_tried_each_time_it_goes_on_and_says_how_good_it_is(scene, tmp_path):
    from optr.cli import cli

    recipe, out = tmp_path / "reach.yaml", tmp_path / "out"
    inputs = ("observation.state", "observation.environment.target")
    chosen = override(replace(ACT, name="reach", task="reach", inputs=inputs), {"trial.episodes": 1, "log_freq": 1})
    recipe.write_text(chosen.to_yaml())
    words = ["train", "--out", str(out), "--json"]

    def told(*more):
        found = CliRunner().invoke(cli, [*words, *more], standalone_mode=False)
        assert found.exception is None, found.output
        return json.loads(found.stdout.splitlines()[-1])

    first = told(str(recipe), str(scene), "--steps", "2", "--device", "cpu")
    assert (first["evaluation"]["episodes"], first["evaluation"]["seeds"]) == (1, "900000 to 900000")
    assert read_card(out / "policy").score == first["evaluation"]
    second = told("--resume", "--steps", "4")
    assert (second["steps"], second["evaluation"]["episodes"]) == (4, 1)
    assert [step for step, _ in read_card(out / "policy").training["curve"]] == [1, 2, 3, 4]
    assert sorted(path.name for path in (out / "evaluation").iterdir()) == ["2", "4"]


def test_a_trial_that_cannot_be_played_says_why_after_what_was_trained(scene, tmp_path, monkeypatch):
    from optr.cli import cli

    monkeypatch.setattr("optr.training.trial._robot", lambda *_: "koch")  # another arm than it was trained for
    recipe = tmp_path / "push.yaml"
    recipe.write_text(override(ACT, {"name": "push", "task": "push", "steps": 1, "trial.episodes": 1}).to_yaml())
    words = ["train", str(recipe), str(scene), "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    found = CliRunner().invoke(cli, words, standalone_mode=False)
    assert json.loads(found.stdout.splitlines()[-1])["evaluation"] is None
    assert "0 of 1 episodes were played: " in str(found.exception)


def test_importing_training_costs_little():
    code = "import sys, optr.training.recipe, optr.cli\nprint(*[m for m in ('torch', 'lerobot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert importlib.util.find_spec("lerobot") is not None
