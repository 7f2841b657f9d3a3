"""The demo as a user runs it, and what its bags prove."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from optr.episodes.read import EpisodeReader, count_violations
from optr.spec import load_spec

SPEC = load_spec("so101_tabletop")


def run_demo(*words: str, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    command = [sys.executable, "-m", "optr.cli", "demo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Three episodes with cameras; answers the JSON object."""
    folder = tmp_path_factory.mktemp("demo")
    done = run_demo("--seeds", "3", "--json", "--output", str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def readers(demo):
    return [EpisodeReader(Path(bag)) for bag in demo["bags"]]


def test_everything_succeeds_and_nothing_is_lost(demo):
    assert {"episodes", "successes", "dropped", "violations", "seconds", "bags"} <= set(demo)
    assert (demo["episodes"], demo["successes"], demo["dropped"], demo["violations"]) == (3, 3, 0, 0)
    assert all(row["refused"] == 0 for row in demo["rows"])


def test_commands_in_the_bags_keep_the_limits(readers):
    for reader in readers:
        commands = reader.joints(SPEC, SPEC.action.topic)
        assert len(commands.stamps_ns) > 100
        assert count_violations(SPEC, commands) == 0


def test_every_message_that_was_due_is_in_the_bag(demo, readers):
    for row, reader in zip(demo["rows"], readers, strict=True):
        steps, counts = row["steps"], reader.counts()
        for topic in ("/action", "/joint_command", "/sentinel/verdict"):
            assert counts[topic]["messages"] == steps, topic
        for topic in ("/joint_states", "/object/cube/pose", "/step"):
            assert counts[topic]["messages"] == steps + 1, topic
        for camera in SPEC.images:
            frames = int(steps / SPEC.action.rate * SPEC.images[camera].rate + 1e-6) + 1
            assert counts[f"/camera/{camera}/image_raw"]["messages"] == frames
            assert counts[f"/camera/{camera}/camera_info"]["messages"] == frames


def test_facts_say_what_was_done(readers):
    facts = readers[1].facts()
    assert (facts["task"], facts["operator"], facts["seed"]) == ("pick_place", "scripted_pick_place", 1)
    assert (facts["outcome"], facts["complete"], facts["dropped"]) == ("success", True, 0)
    assert facts["instruction"] == "Put the red cube into the bin."
    assert {"optr", "mujoco", "python"} <= set(facts["versions"])


def test_every_command_names_the_observation_it_answers(readers):
    commands = readers[0].joints(SPEC, SPEC.action.topic).stamps_ns
    measured = readers[0].joints(SPEC, SPEC.state.topic).stamps_ns
    assert np.array_equal(commands, measured[:-1])
    assert (np.diff(measured) == SPEC.period_ns).all()


def test_images_carry_the_time_they_were_taken_and_are_no_empty_frames(readers):
    for camera, feature in SPEC.images.items():
        stamps, last = [], None
        for _, _, msg in readers[0].messages(feature.topic):
            stamps.append(msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec)
            pixels = np.frombuffer(msg.data, dtype=np.uint8).reshape(feature.shape)
            assert pixels.std() > 5, f"{camera} is blank"
            last = pixels if last is None else last
        assert (np.diff(stamps) == 40_000_000).all()
        assert not np.array_equal(last, pixels), f"{camera} is frozen"


def test_plot_and_video_show_the_last_episode(demo):
    assert Path(demo["plot"]).read_bytes().startswith(b"\x89PNG")
    with av.open(demo["video"]) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (640, 240)
        frames = sum(1 for _ in video.decode(stream))
    expected = int(demo["rows"][-1]["steps"] / 2) + 1
    assert frames == expected


def test_same_seed_twice_gives_the_same_bytes(demo, readers, tmp_path):
    """Another stack, another order of seeds, no cameras: the joint states of a seed are the same, bit for bit."""
    done = run_demo("--seeds", "2", "--first-seed", "1", "--no-cameras", "--json", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    again = {row["seed"]: EpisodeReader(Path(row["bag"])) for row in json.loads(done.stdout)["rows"]}
    for seed in (1, 2):
        first, second = readers[seed].raw("joint_states"), again[seed].raw("joint_states")
        assert len(first) == demo["rows"][seed]["steps"] + 1
        assert first == second


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "fly"), "no task named 'fly'; there are: pick_place, push, reach"),
        (("--operator", "nobody"), "no operator named 'nobody'; there are: hold"),
        (("--seeds", "0"), "at least one episode"),
    ],
)
def test_what_cannot_be_done_is_said(words, says, tmp_path):
    done = run_demo(*words, "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert says in done.stderr


def test_a_bad_operator_makes_a_bad_exit_code(tmp_path):
    done = run_demo(
        "--seeds", "1", "--task", "reach", "--operator", "hold", "--no-cameras", "--json", "--output", str(tmp_path)
    )
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["successes"], found["dropped"], found["violations"]) == (0, 0, 0)
