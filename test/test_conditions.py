"""What must hold before and after, and how the arm gets there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optr.errors import SpecError
from optr.plugins import load_plugin, plugin_names
from optr.sentinel import Code, Guard, GuardState, Outcome, load_config
from optr.spec import Source, load_spec
from test_rules import HOME, SPEC, Driver, guard_with

OPEN = HOME.copy()
OPEN[5] = 0.6
CLOSED = HOME.copy()
CLOSED[5] = 0.0

PICK = """
tasks:
  pick:
    before: [at_rest, {joint_within: {joint: gripper, low: 0.45}}]
    after: [task_succeeded, {near_home: {most: 0.2}}]
    recover: [open_gripper, retreat]
"""


class TestBefore:
    def start(self, tmp_path, text=PICK, at=CLOSED):
        driver = Driver(guard_with(tmp_path, text))
        for _ in range(60):
            driver.propose(at)
        driver.guard.begin_task("pick")
        return driver

    def test_a_task_whose_conditions_hold_begins_at_once(self, tmp_path):
        driver = self.start(tmp_path, at=HOME)
        _, judgement = driver.propose(HOME)
        assert judgement.outcome is Outcome.ALLOWED

    def test_a_recovery_brings_about_what_does_not_hold_and_passes_the_guard(self, tmp_path):
        driver = self.start(tmp_path)
        guard = driver.guard
        driver.tick()
        assert guard.reason.code == Code.RECOVERING
        assert "open_gripper, because before pick: joint_within: gripper is at 0.000" in guard.reason.text
        _, judgement = driver.propose(CLOSED)
        assert (judgement.outcome, judgement.codes) == (Outcome.REFUSED, (Code.RECOVERING,))
        track, said = [], []
        for _ in range(500):
            command, judgement = driver.tick()
            if command is not None:
                track.append(command.position)
            if judgement is not None:
                said.append(judgement)
            if not guard.recovering and guard.state is GuardState.HOLDING:
                break
        assert {j.chunk.operator_id for j in said} == {"recovery"}
        assert {j.chunk.source for j in said} == {Source.FALLBACK}
        assert guard.position[5] == pytest.approx(0.6, abs=1e-3)
        speed = np.abs(np.diff(track, axis=0)) / 0.01
        assert speed.max() <= 0.25 * 2.8 + 1e-6, "slowly"
        _, judgement = driver.propose(guard.position)
        assert judgement.outcome is Outcome.ALLOWED

    def test_without_a_recovery_it_waits_until_somebody_sees_to_it(self, tmp_path):
        driver = self.start(tmp_path, PICK.replace("recover: [open_gripper, retreat]", "recover: []"))
        driver.tick(300)
        assert driver.guard.reason.code == Code.PRECONDITION
        _, judgement = driver.propose(CLOSED)
        assert judgement.codes == (Code.PRECONDITION,)
        # By hand, say: the measured gripper opens.
        driver.now += 10_000_000
        driver.guard.step(driver.now, replace(driver.sample(CLOSED), position=OPEN))
        assert driver.guard.reason.code == Code.NO_ACTION

    def test_a_recovery_that_does_not_help_is_tried_no_more_often_than_configured(self, tmp_path):
        text = PICK.replace("recover: [open_gripper, retreat]", "recover: [{wait: {seconds: 0.2}}]\n    retries: 2")
        driver = self.start(tmp_path, text)
        waits = 0
        for _ in range(200):
            before = driver.guard.recovering
            driver.tick()
            waits += driver.guard.recovering and not before
        assert waits == 2
        assert driver.guard.reason.code == Code.PRECONDITION

    def test_a_person_is_over_it(self, tmp_path):
        path = tmp_path / "r.yaml"
        path.write_text(PICK)
        driver = Driver(Guard(SPEC, load_config(SPEC, path), "me", takeover=("human",)))
        for _ in range(60):
            driver.propose(CLOSED)
        driver.guard.begin_task("pick")
        driver.tick()
        assert driver.guard.recovering
        _, judgement = driver.propose(driver.guard.position, who="human")
        assert judgement.outcome is Outcome.ALLOWED
        assert not driver.guard.recovering

    def test_a_stop_goes_before_a_recovery(self, tmp_path):
        driver = self.start(tmp_path)
        driver.tick(5)
        assert driver.guard.recovering
        driver.guard.stop("hand in the way")
        driver.tick(40)
        assert driver.guard.at_rest
        before = driver.guard.position
        driver.tick(100)
        assert np.array_equal(before, driver.guard.position)


def test_after_a_task_that_failed_the_arm_lets_go_and_retreats(tmp_path):
    driver = Driver(guard_with(tmp_path, PICK.replace("[task_succeeded, ", "[")))
    away = HOME + np.array([0.6, 0, 0, 0, 0, -0.5])
    for _ in range(120):
        driver.propose(away)
    driver.guard.begin_task("pick")
    driver.guard.conduct.leave()
    driver.guard.end_task(success=False)
    driver.tick(600)
    assert driver.guard.position[:5] == pytest.approx(HOME[:5], abs=2e-3)
    assert driver.guard.position[5] == pytest.approx(0.6, abs=2e-3), "the gripper opened first and stays so"
    assert driver.guard.reason.code == Code.NO_ACTION


class TestKindsOfAction:
    TEXT = "actions: {replay: {before: [{near_first_row: {most: 0.1}}], recover: []}}"

    def test_a_replay_that_would_jump_to_its_start_is_not_begun(self, tmp_path):
        driver = Driver(guard_with(tmp_path, self.TEXT))
        driver.tick(30)
        command, judgement = driver.propose(HOME + 0.3, source=Source.REPLAY)
        assert judgement.codes == (Code.PRECONDITION,)
        assert "before action:replay: near_first_row: the first row has wrist_flex 0.300 from" in judgement.text
        assert command is None or np.array_equal(command.position, HOME)
        _, judgement = driver.propose(HOME + 0.05, source=Source.REPLAY)
        assert judgement.outcome in (Outcome.ALLOWED, Outcome.LIMITED)

    def test_others_are_not_asked(self, tmp_path):
        driver = Driver(guard_with(tmp_path, self.TEXT))
        _, judgement = driver.propose(HOME + 0.05, source=Source.POLICY)
        assert judgement.outcome is Outcome.LIMITED


def test_all_that_ship_are_found_and_unknown_joints_are_an_error(tmp_path):
    for kind in ("condition", "recovery"):
        for name in plugin_names(kind):
            assert load_plugin(kind, name).name == name
    with pytest.raises(SpecError, match=r"joint_within: no joint 'jaw' in 'so101_tabletop'; it has: shoulder_pan"):
        guard_with(tmp_path, "tasks: {x: {before: [{joint_within: {joint: jaw}}]}}")
    with pytest.raises(SpecError, match=r"tasks.x.before\[0\].joint_within.low: is 5000, expected"):
        guard_with(tmp_path, "tasks: {x: {before: [{joint_within: {low: 5000}}]}}")


def test_a_spec_may_name_them(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(SPEC.to_yaml() + "sentinel: {tasks: {pick: {before: [at_rest]}}}\n")
    assert "pick" in Guard(load_spec(path)).conduct.duties
