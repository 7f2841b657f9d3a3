"""Episodes that were played without ROS, as bags."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from rclpy.serialization import deserialize_message

from optr.cli.episodes import episodes
from optr.connectors.catalog import make_environment
from optr.connectors.environment import AgentStep
from optr.episodes.bags.own_messages import message_bytes
from optr.episodes.read import EpisodeReader
from optr.episodes.shelf.check import check_bag
from optr.errors import EpisodeError
from optr.experiments.bag import EpisodeBag
from optr.operators import make_operator
from optr.ros.convert import step_from_msg
from optr.ros.messages import message_class
from optr.ros.tensor import tensor_to_msg
from optr.sentinel import Code, Outcome
from optr.spec import Source, decoder, load_spec, stamp_ns


def decided(action, source=Source.SCRIPT, outcome=Outcome.ALLOWED, codes=(), reason="", proposed=None):
    """A decision as an experiment has it."""
    return SimpleNamespace(action=action, source=source, outcome=outcome, codes=codes, reason=reason, proposed=proposed)


def play(folder, name, seed=3, **options):
    """A whole game by chance; answers what was seen and done."""
    environment = make_environment(name, **options)
    operators = {a: make_operator("random", s) for a, s in environment.specs.items()}
    for one in operators.values():
        one.reset(seed)
    bag = EpisodeBag(folder, environment.specs, {"task": name, "operator": "random", "seed": seed, "episode": 0})
    now, index, seen = environment.reset(seed), 0, []
    while now:
        actions = {a: operators[a].select_action(s.observation, {}) for a, s in now.items() if not s.over}
        for agent, step in now.items():
            decision = decided(actions[agent]) if agent in actions else None
            bag.step(index, agent, step, decision)
            seen.append((agent, index, step, actions.get(agent)))
        now = environment.step(actions) if actions else {}
        index += 1
    return bag.close("success"), seen


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gymnasium:CartPole-v1", {}),
        ("gymnasium:CartPole-v1", {"render": True, "max_steps": 5}),
        ("minigrid:MiniGrid-Empty-5x5-v0", {"max_steps": 20}),
        ("pettingzoo:connect_four_v3", {}),
        ("pettingzoo:rps_v2", {}),
    ],
    ids=["pole", "pictures", "grid", "four", "at once"],
)
def test_a_bag_holds_what_was_seen_and_done(tmp_path, name, options):
    folder, seen = play(tmp_path / "one", name, **options)
    reader = EpisodeReader(folder)
    spec = reader.spec()
    assert not spec.moves_joints and reader.facts()["outcome"] == "success" and reader.facts()["complete"] is True
    result = check_bag(folder)
    assert result.sound, [(f.code, f.text, f.topic) for f in result.findings]
    agents = list(dict.fromkeys(a for a, *_ in seen))
    for agent in agents:
        space = f"/{agent}" if len(agents) > 1 else ""
        mine = [(step, action, 10**9 + k * spec.period_ns) for a, k, step, action in seen if a == agent]
        for feature in spec.observations:
            decode = decoder(feature)
            found = list(reader.messages(f"{space}/{feature.topic}"))
            assert len(found) == len(mine)
            for (_, _, msg), (step, _, stamp) in zip(found, mine, strict=True):
                assert stamp_ns(msg.header.stamp) == stamp
                assert np.array_equal(decode(msg), step.observation[feature.key])
        steps = [step_from_msg(m) for _, _, m in reader.messages(f"{space}/step")]
        assert [(s.reward, s.over) for s in steps] == [(s.reward, s.over) for s, _, _ in mine]
        commands = [decoder(spec.action)(m) for _, _, m in reader.messages(f"{space}/command")]
        assert [c.tolist() for c in commands] == [a.tolist() for _, a, _ in mine if a is not None]
        chunks = [m for _, _, m in reader.messages(f"{space}/action")]
        assert {c.source for c in chunks} == {Source.SCRIPT} and [c.sequence for c in chunks] == [
            k + 1 for k in range(len(commands))
        ]


def test_a_decision_that_failed_is_told_from_one_that_did_not(tmp_path):
    environment = make_environment("pettingzoo:connect_four_v3")
    bag = EpisodeBag(tmp_path / "one", environment.specs, {"task": "four", "operator": "a", "seed": 1})
    (first,) = environment.reset(1).values()
    bag.step(
        0, "player_0", first, decided(np.array([3.0]), Source.TIMEOUT, Outcome.REFUSED, (), "was not there in time")
    )
    text, codes = "action 9 does not exist", (Code.NO_SUCH_CHOICE,)
    refused = decided(np.array([2.0]), Source.INVALID, Outcome.REFUSED, codes, text, proposed=np.array([9.0]))
    bag.step(1, "player_1", first, refused)
    folder = bag.close("failure", note="both failed")
    reader = EpisodeReader(folder)
    late, wrong = (next(iter(reader.messages(f"/player_{k}/action")))[2] for k in (0, 1))
    assert (late.source, list(late.values)) == (Source.TIMEOUT, [])
    assert (wrong.source, list(wrong.values)) == (Source.INVALID, [9.0])
    verdict = next(iter(reader.messages("/player_1/sentinel/verdict")))[2]
    assert (list(verdict.codes), verdict.text, list(verdict.commanded)) == (["NO_SUCH_CHOICE"], text, [2.0])
    assert reader.facts()["note"] == "both failed"


def test_an_arm_is_written_as_a_graph_writes_it(tmp_path):
    spec = load_spec("so101_tabletop")
    bag = EpisodeBag(tmp_path / "arm", {"agent": spec}, {"task": "reach", "operator": "a", "seed": 1})
    rng, home = np.random.default_rng(1), spec.home_vector()
    observation = {f.key: rng.random(f.shape).astype(f.dtype) for f in spec.observations if not f.is_image}
    bag.step(0, "agent", AgentStep(observation), decided(home))
    bag.step(1, "agent", AgentStep(observation, 1.0, True), None)
    reader = EpisodeReader(bag.close("success"))
    assert reader.joints(spec, spec.state.topic).values[0] == pytest.approx(observation["observation.state"])
    assert np.array_equal(reader.joints(spec, "joint_command").values[0], home)
    for feature in spec.observations:
        if not feature.is_image:
            msg = next(iter(reader.messages(feature.topic)))[2]
            assert decoder(feature)(msg) == pytest.approx(observation[feature.key])


def test_the_bytes_are_those_of_ros():
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    msg = tensor_to_msg("observation.board", values, 1_500_000_007, "me")
    fields = {
        "header": 1_500_000_007,
        "key": "observation.board",
        "agent": "me",
        "dtype": "int16",
        "shape": (2, 3),
        "data": values.view(np.uint8),
    }
    data = message_bytes("optr_interfaces/msg/Tensor", fields)
    assert deserialize_message(data, message_class("optr_interfaces/msg/Tensor")) == msg
    with pytest.raises(EpisodeError, match="optr_interfaces/msg/Tensor has no colour"):
        message_bytes("optr_interfaces/msg/Tensor", {"colour": 1})


def test_the_commands_for_episodes_read_it(tmp_path):
    folder, _ = play(tmp_path / "one", "pettingzoo:connect_four_v3")
    for command in ("info", "check"):
        done = CliRunner().invoke(episodes, [command, str(folder)], standalone_mode=False)
        assert done.return_value in (0, None), done.output


def test_what_does_not_fit_is_said(tmp_path):
    environment = make_environment("gymnasium:CartPole-v1")
    bag = EpisodeBag(tmp_path / "one", environment.specs, {})
    with pytest.raises(EpisodeError, match="no agent 'you'; there are: agent"):
        bag.step(0, "you", AgentStep({}), None)
    bag.close("aborted")
    assert EpisodeReader(tmp_path / "one").facts()["complete"] is False
    with pytest.raises(EpisodeError, match="exists already"):
        EpisodeBag(tmp_path / "one", environment.specs, {})


def test_it_needs_no_ros():
    blocked = "".join(f"sys.modules[{m!r}] = None\n" for m in ("rclpy", "optr_interfaces", "sensor_msgs", "std_msgs"))
    code = f"import sys\n{blocked}from optr.episodes.bags.own_messages import message_bytes\n"
    code += "print(len(message_bytes('optr_interfaces/msg/StepResult', {'header': 7})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
