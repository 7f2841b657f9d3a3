"""Broken checkpoints are refused when they are loaded, each with the reason and the file."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from optr import lerobot_support
from optr.errors import PolicyError
from optr.policies.card import CARD, SPEC, hash_files, read_card, write_card
from optr.policies.lerobot import TYPES
from optr.policies.load import load_policy
from optr.spec import load_spec
from policy_makers import FRONT, SCENE, STATE, WRIST, Payload, edit_json, robot, save_policy

pytest.importorskip("lerobot")
pytest.importorskip("torch")

WEIGHTS = "model.safetensors"
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("whole") / "act", "act")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy that may be broken."""
    return shutil.copytree(whole, tmp_path / "act")


def refused(folder, message, **more):
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(folder, robot(), device="cpu", **more)
    return str(caught.value)


def state_file(folder, name):
    """The file of the statistics of a processor."""
    (found,) = [s["state_file"] for s in json.loads((folder / name).read_text())["steps"] if "state_file" in s]
    return folder / found


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", BEFORE, AFTER, SPEC])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name}: is missing")


@pytest.mark.parametrize("name", [BEFORE, AFTER])
def test_missing_statistics_are_named(folder, name):
    path = state_file(folder, name)
    path.unlink()
    refused(folder, f"{path.name}: is missing")


def test_empty_and_cut_files_are_named(folder):
    path = folder / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(b"")
    refused(folder, f"{WEIGHTS}: is empty")
    for size in (4, 100, len(content) - 1):
        path.write_bytes(content[:size])
        refused(folder, f"{WEIGHTS}: is no whole safetensors file")
    path.write_bytes(content)
    assert load_policy(folder, robot(), device="cpu").info.kind == "act"


def test_a_file_that_is_not_the_one_of_the_card_is_refused(folder):
    card = read_card(folder)
    write_card(folder, replace(card, files=hash_files(folder, [WEIGHTS, "config.json"])), robot())
    assert load_policy(folder, robot(), device="cpu").info.name == "tiny_act"
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, rf"{WEIGHTS}: is not the file that {CARD} lists: SHA-256 is [0-9a-f]{{64}}, expected")
    write_card(folder, replace(card, files={"more.bin": "0" * 64}), robot())
    refused(folder, rf"more.bin: is missing; {CARD} lists it")


def test_a_card_that_lists_weights_lists_what_gives_them_their_meaning(folder):
    write_card(folder, replace(read_card(folder), files=hash_files(folder, [WEIGHTS])), robot())
    loaded = {WEIGHTS, "config.json", BEFORE, AFTER, state_file(folder, BEFORE).name, state_file(folder, AFTER).name}
    assert set(read_card(folder).files) == loaded
    assert load_policy(folder, robot(), device="cpu").info.name == "tiny_act"
    for name in sorted(loaded):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        refused(folder, f"{name}: is not the file that {CARD} lists")
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(folder, value):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    tensors["model.action_head.bias"][2] = value
    save_file(tensors, folder / WEIGHTS)
    refused(folder, f"{WEIGHTS}: holds weights that are not finite, in model.action_head.bias")


@pytest.mark.parametrize("name", [BEFORE, AFTER])
def test_statistics_that_are_not_finite_are_refused(folder, name):
    from safetensors.numpy import load_file, save_file

    path = state_file(folder, name)
    tensors = load_file(path)
    tensors["action.mean"][0] = np.nan
    save_file(tensors, path)
    refused(folder, f"{name}: holds weights that are not finite, in action.mean")


def normaliser(config):
    (step,) = [s for s in config["steps"] if s["registry_name"].endswith("normalizer_processor")]
    return step


def without_statistics(config):
    normaliser(config).pop("state_file")


def without_the_step(config):
    config["steps"].remove(normaliser(config))


def with_two(config):
    config["steps"].append(normaliser(config))


def without_modes(config):
    normaliser(config)["config"]["norm_map"] = {}


def by_other_modes(config):
    normaliser(config)["config"]["norm_map"].update(STATE="MIN_MAX", ACTION="MIN_MAX")


def of_no_features(config):
    normaliser(config)["config"]["features"] = {}


@pytest.mark.parametrize("name", [BEFORE, AFTER])
@pytest.mark.parametrize(
    "change", [without_statistics, without_the_step, with_two, without_modes, by_other_modes, of_no_features]
)
def test_numbers_that_are_not_normalised_as_in_training_are_refused(folder, name, change):
    edit_json(folder / name, change)
    key = STATE if name == BEFORE else "action"
    refused(folder, rf"{name}: {key} is .* here, normalised by MEAN_STD in config.json")


def test_some_statistics_are_not_enough(folder):
    from safetensors.numpy import load_file, save_file

    for name, key in ((AFTER, "action"), (BEFORE, STATE)):
        path = state_file(folder, name)
        tensors = load_file(path)
        save_file({k: v for k, v in tensors.items() if k != f"{key}.std"}, path)
        refused(folder, f"{name}: {key} is left as it is here, normalised by MEAN_STD in config.json")
        save_file(tensors, path)


def test_what_is_normalised_must_have_been_so_in_training(folder):
    edit_json(folder / "config.json", lambda c: c["normalization_mapping"].update(ACTION="IDENTITY"))
    refused(folder, f"{AFTER}: action is normalised by MEAN_STD here, left as it is in config.json")


def test_inputs_that_are_left_out_of_the_normaliser_are_refused(folder):
    edit_json(folder / BEFORE, lambda c: normaliser(c)["config"].update(normalize_observation_keys=[SCENE]))
    refused(folder, f"{BEFORE}: {STATE} is left as it is here, normalised by MEAN_STD in config.json")


def test_weights_that_are_lacking_or_of_another_shape_are_refused(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    less = {k: v for k, v in tensors.items() if k != "model.action_head.bias"}
    save_file(less, folder / WEIGHTS)
    refused(folder, rf"{WEIGHTS}: .*model.action_head.bias")
    save_file(tensors | {"model.action_head.bias": np.zeros(7, np.float32)}, folder / WEIGHTS)
    refused(folder, rf"{WEIGHTS}: .*model.action_head.bias")
    save_file(tensors | {"more": np.zeros(1, np.float32)}, folder / WEIGHTS)
    refused(folder, rf"{WEIGHTS}: .*more")


def test_pickles_are_never_opened(folder, tmp_path):
    mark = tmp_path / "mark"
    payload = pickle.dumps(Payload(mark))
    (folder / WEIGHTS).write_bytes(payload)
    refused(folder, f"{WEIGHTS}: is no whole safetensors file")
    for name in ("pytorch_model.bin", "model.pth", "policy.pkl", "data.pickle"):
        strange = tmp_path / name.replace(".", "_")
        strange.mkdir()
        (strange / name).write_bytes(payload)
        refused(strange, f"Pickles .{name}. are not opened", assume=robot())
        shutil.copy(strange / name, folder / name)
    (folder / WEIGHTS).unlink()
    refused(folder, f"{WEIGHTS}: is missing")
    assert not mark.exists()
    pickle.loads(payload)
    assert mark.exists()  # it would have


def test_processors_make_nothing_but_steps_of_lerobot(folder, tmp_path):
    mark = tmp_path / "mark"

    def evil(config):
        config["steps"].insert(0, {"class": "subprocess.Popen", "config": {"args": ["touch", str(mark)]}})

    edit_json(folder / BEFORE, evil)
    refused(folder, f"{BEFORE}: 'subprocess.Popen' is no step that is made here")
    assert not mark.exists()


@pytest.fixture
def payload(tmp_path):
    """A folder with code of its own for transformers, and the mark that it makes when it is run."""
    strange, mark = tmp_path / "strange", tmp_path / "mark"
    strange.mkdir()
    (strange / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Evil: pass\n")
    named = {k: "evil.Evil" for k in ("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer")}
    for name in ("config.json", "processor_config.json", "preprocessor_config.json"):
        (strange / name).write_text(json.dumps({"model_type": "evil", "auto_map": named}))
    return strange, mark


@pytest.mark.parametrize(
    ("name", "step", "setting"),
    [
        (BEFORE, "action_tokenizer_processor", "action_tokenizer_name"),
        (BEFORE, "reward_classifier_processor", "pretrained_path"),
        (AFTER, "action_tokenizer_processor", "action_tokenizer_name"),
    ],
)
def test_steps_that_run_what_they_find_are_not_made(folder, payload, name, step, setting):
    strange, mark = payload
    evil = {"registry_name": step, "config": {setting: str(strange)}}
    edit_json(folder / name, lambda c: c["steps"].insert(0, evil))
    refused(folder, f"{name}: '{step}' is no step that is made here; these are: rename_observations_processor")
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["sac", "reward_classifier", "groot", "wall_x", "pi0_fast", "xvla", "sarm"])
def test_types_that_run_what_they_find_are_not_made(folder, payload, kind):
    strange, mark = payload
    given = json.loads((folder / "config.json").read_text())
    features = {k: given[k] for k in ("input_features", "output_features")}
    text = json.dumps({"type": kind, "vision_encoder_name": str(strange), "model_name": str(strange), **features})
    (folder / "config.json").write_text(text)
    refused(folder, f"config.json: policies of type '{kind}' are not loaded, only: act, diffusion")
    assert not mark.exists()


def test_every_type_that_is_loaded_is_one_of_lerobot():
    assert set(TYPES) <= set(lerobot_support.policy_types())


def test_rows_are_not_normalised_where_they_are_to_be_joint_targets(folder):
    edit_json(folder / AFTER, lambda c: c["steps"].append({"registry_name": "normalizer_processor", "config": {}}))
    refused(folder, f"{AFTER}: 'normalizer_processor' is no step that is made here")


def test_state_files_come_from_the_folder_only(folder):
    def outside(config):
        for step in config["steps"]:
            if "state_file" in step:
                step["state_file"] = "../other.safetensors"

    edit_json(folder / BEFORE, outside)
    refused(folder, f"{BEFORE}: the state file '../other.safetensors' is not in the folder")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "config.json: is not JSON"),
        ("config.json", "[]", "config.json: expected an object, got list"),
        ("config.json", "[" * 100_000, "config.json: is not JSON"),
        (BEFORE, "\xff", f"{BEFORE}: is not JSON"),
        (AFTER, "{}", f"{AFTER}: expected a list of 'steps'"),
        (CARD, "optr_policy: 1\nname: [", f"{CARD}:2: is not YAML"),
        (SPEC, "spec: 1\nname: x\n", f"{SPEC}:1: needs 'features'"),
    ],
)
def test_texts_that_are_no_settings_are_named(folder, name, text, message):
    (folder / name).write_text(text, encoding="latin-1")
    refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "telepathy"}, "config.json: policies of type 'telepathy' are not loaded, only: act, diffusion"),
        ({"dim_modle": 32}, "config.json: LeRobot .* does not take it: .*dim_modle"),
        ({"n_heads": "many"}, "config.json: LeRobot .* does not take it"),
        ({"chunk_size": 2}, "config.json: LeRobot .* does not take it: .*chunk size"),
        ({"use_peft": True}, "config.json: is an adapter for other weights"),
        ({"dim_model": 64}, f"{WEIGHTS}: LeRobot .* does not load it: .*size mismatch"),
        (
            {"dim_model": 2**16, "dim_feedforward": 2**20},
            r"config.json: describes a network of [\d,]{13,} numbers",
        ),
        ({"output_features": {}}, "config.json: output_features has no 'action'"),
    ],
)
def test_settings_that_lerobot_does_not_take_are_refused(folder, change, message):
    edit_json(folder / "config.json", lambda c: c.update(change))
    refused(folder, message)


def test_another_robot_is_refused_before_weights_are_looked_at(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(
        PolicyError, match="policy tiny_act, trained for so101_tabletop, does not fit koch:\n- "
    ) as caught:
        load_policy(folder, load_spec("koch"), device="cpu")
    assert "observation.environment.cube: the policy sees this feature, the robot does not have it" in str(caught.value)


def test_a_card_of_another_policy_is_refused(folder):
    card = read_card(folder)
    less = replace(card, inputs={STATE: (STATE,)})
    write_card(folder, less, robot())
    refused(folder, rf"{CARD}: inputs are {STATE}; the policy in config.json takes {STATE}, {SCENE}")
    write_card(folder, replace(card, inputs={**card.inputs, SCENE: (STATE,)}), robot())
    refused(folder, rf"{CARD}: inputs.{SCENE}: 6 numbers; config.json says \(14,\)")
    five = robot().action.channels[:5]
    short = replace(robot(), home=None, features={**robot().features, "action": replace(robot().action, channels=five)})
    write_card(folder, card, short)
    with pytest.raises(PolicyError, match=r"config.json: actions have shape \(6,\); so101_tabletop has 5 joints"):
        load_policy(folder, device="cpu")


def test_a_grey_camera_for_a_policy_of_colours_is_refused(tmp_path):
    grey = replace(robot(), features={**robot().features, WRIST: replace(robot().features[WRIST], shape=(64, 64, 1))})
    folder = save_policy(tmp_path / "p", "act", (FRONT, WRIST), scene=False, spec=grey)
    with pytest.raises(PolicyError, match=rf"inputs.{WRIST}: 1 channels; config.json says \(3, 64, 64\)"):
        load_policy(folder, device="cpu")


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_what_cannot_run_here_is_said_before_billions_of_weights_are_made(tmp_path, kind):
    lacking = lerobot_support.lacking_for(kind)
    if not lacking:
        pytest.skip(f"{kind} can run here")
    folder = save_policy(tmp_path / "p", "act", (FRONT,), scene=False)
    config = json.loads((folder / "config.json").read_text())
    kept = {k: config[k] for k in ("input_features", "output_features")}
    (folder / "config.json").write_text(json.dumps({"type": kind, **kept}))
    with pytest.raises(PolicyError, match=rf"config.json: LeRobot 0.4.* needs a fork of transformers for {kind}"):
        load_policy(folder, device="cpu")
