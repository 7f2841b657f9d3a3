"""The fuzz and its oracle: the guard against everything, and the judges against themselves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optr.cli import cli
from optr.sentinel import Guard, GuardState, Motion, MotionLimiter, load_config
from optr.sentinel.fuzz import RUN, FuzzSettings, fuzz, hostile_run, make_oracle, play
from optr.sentinel.hostile import CLOCK_FAULTS, FAULTS, PROPOSALS, HostileRun
from optr.sentinel.oracle import Oracle
from optr.spec import load_spec

MS = 1_000_000
SPEC = load_spec("so101_tabletop")
LIMITS = SPEC.limits
PERIOD = SPEC.period_ns
DT = PERIOD * 1e-9
ORACLE = make_oracle(SPEC)
MIDDLE = (LIMITS.low + LIMITS.high) / 2

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def hostile(seed: int, faults: tuple[str, ...] = FAULTS) -> HostileRun:
    return hostile_run(SPEC, seed, 0, faults=faults)


class TestOracle:
    """A track that keeps every limit, and one change to it per kind of violation."""

    def track(self, speed: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        speeds = np.concatenate((np.arange(0.0, speed, 0.25), np.full(20, speed), np.arange(speed, -0.1, -0.25)))
        q = MIDDLE + np.cumsum(speeds * DT)[:, None]
        return np.arange(1, len(q) + 1) * PERIOD, q

    def kinds(self, stamps, q, clock=None, oracle: Oracle = ORACLE) -> set[str]:
        return {v.kind for v in oracle.check(0, MIDDLE, stamps, q, clock).violations}

    def test_a_good_track_passes(self):
        stamps, q = self.track()
        report = ORACLE.check(0, MIDDLE, stamps, q, stamps)
        assert report.violations == []
        assert report.speed_ratio == pytest.approx(0.5 / LIMITS.velocity.min(), rel=1e-5)
        assert report.acceleration_ratio == pytest.approx(0.25 / DT / LIMITS.acceleration.min(), rel=1e-5)

    def test_no_commands_are_no_violation(self):
        assert ORACLE.check(0, MIDDLE, [], []).violations == []

    @pytest.mark.parametrize("off", [2e-9, 0.1, np.inf, np.nan])
    def test_a_position_outside(self, off):
        stamps, q = self.track()
        q[-1, 2] = LIMITS.high[2] + off
        found = [v for v in ORACLE.check(0, MIDDLE, stamps, q).violations if v.kind == "position"]
        assert [(v.row, v.joint) for v in found] == [(len(q) - 1, LIMITS.names[2])]

    @pytest.mark.parametrize("back", [0, 1, 5 * MS])
    def test_a_stamp_that_does_not_grow(self, back):
        stamps, q = self.track()
        stamps[7] = stamps[6] - back
        assert "stamp" in self.kinds(stamps, q)

    def test_a_stamp_ahead_of_the_clock(self):
        stamps, q = self.track()
        assert self.kinds(stamps, q, stamps - 20 * MS) == set()
        assert self.kinds(stamps, q, stamps - 21 * MS) == {"ahead"}

    def test_too_fast(self):
        gentle = Oracle(replace(LIMITS, velocity=np.full(6, 0.49)), 4 * PERIOD, 0)
        assert self.kinds(*self.track(), oracle=gentle) == {"velocity"}

    def test_too_far_by_one_command(self):
        short = Oracle(replace(LIMITS, step=np.full(6, 0.49 * DT)), 4 * PERIOD, 0)
        assert self.kinds(*self.track(), oracle=short) == {"step"}

    def test_too_steep(self):
        stamps, q = self.track()
        weak = Oracle(replace(LIMITS, acceleration=np.full(6, 12.4)), 4 * PERIOD, 0)
        assert self.kinds(stamps, q, oracle=weak) == {"acceleration"}
        assert self.kinds(stamps, q + 0.02) == {"acceleration"}, "the start counts"

    def test_a_short_interval_gives_the_acceleration_of_a_short_interval(self):
        stamps, q = self.track()
        stamps = np.concatenate((stamps, stamps[-1] + [5 * MS]))
        q = np.concatenate((q, q[-1:] + 0.25 * 5e-3))
        assert self.kinds(stamps, q) == {"acceleration"}

    def test_after_a_silence_the_arm_stands_and_has_no_right_to_a_longer_way(self):
        stamps, q = self.track()
        later = stamps[-1] + 1_000 * MS
        stamps = np.append(stamps, later)
        assert self.kinds(stamps, np.vstack((q, q[-1] + 0.079))) == set()
        assert self.kinds(stamps, np.vstack((q, q[-1] + 0.3))) == {"step", "velocity", "acceleration"}

    def test_the_change_between_middles_is_told(self):
        stamps = np.array([1, 80 * MS])
        report = ORACLE.check(0, MIDDLE, stamps, np.array([MIDDLE, MIDDLE + 25.0 * 0.08**2 * 0.4]))
        assert report.violations == []
        assert report.middle_ratio == pytest.approx(2 * report.acceleration_ratio, rel=1e-6)


class TestFuzz:
    def test_finds_nothing_in_the_guard(self):
        report = fuzz(FuzzSettings(8 * RUN, seed=1))
        assert report.first == []
        assert report.proposals == 8 * RUN == sum(report.outcomes.values())
        assert report.float_warnings == 0
        assert set(report.outcomes) == {"ALLOWED", "LIMITED", "REFUSED", "STOPPED"}
        assert 0.99 < report.speed_ratio < 1.000001, "it drives the arm to the limit"
        assert 0.99 < report.acceleration_ratio < 1.000001

    def test_throws_every_kind(self):
        report = fuzz(FuzzSettings(8 * RUN, seed=3))
        assert set(report.kinds) == {*PROPOSALS, *FAULTS}

    def test_is_the_same_for_any_number_of_processes_and_for_one_run_alone(self):
        def told(n: int, **changes) -> dict:
            return {**fuzz(FuzzSettings(n, **changes)).as_dict(), "seconds": 0}

        once = told(RUN + 100, seed=5)
        assert told(RUN + 100, seed=5, jobs=2) == once
        assert told(RUN + 100, seed=6) != once
        alone = [told(RUN, seed=5, only=n)["commands"] for n in (0, 1)]
        assert sum(alone) == told(2 * RUN, seed=5)["commands"]

    def test_a_journal_replays(self):
        run = hostile_run(SPEC, 9, 0, journal=True)
        run.play(300)
        guard, commands = Guard(SPEC, load_config(SPEC).without("collision")), []
        for name, *arguments in run.journal:
            try:
                answer = getattr(guard, name)(*arguments)
            except Exception:  # as the run did
                continue
            if name == "step" and answer[0] is not None:
                commands.append(answer[0].stamp_ns)
        assert commands == [t for track in run.tracks for t in track.stamps]


def no_acceleration_limit(self, now, velocity, dt):
    return velocity, []


def jump(self, now, target, *_):
    return Motion.at_rest(np.clip(target, self.limits.low, self.limits.high)), []


def no_clip(self, now, target, dt, *_):
    return replace(now, position=now.position + 2.0 * dt, velocity=np.full_like(target, 2.0)), []


def too_fast(self, now, velocity, dt, *_):
    return replace(now, position=now.position + velocity * dt * 1.01, velocity=velocity)


class TestBrokenGuards:
    """A fuzz that finds nothing proves something only if it finds what is broken."""

    @pytest.mark.parametrize(
        ("owner", "name", "broken", "kind"),
        [
            (MotionLimiter, "_accelerate", no_acceleration_limit, "acceleration"),
            (MotionLimiter, "toward", jump, "velocity"),
            (MotionLimiter, "toward", no_clip, "position"),
            (MotionLimiter, "rest", lambda self, now, dt: Motion.at_rest(now.position), "acceleration"),
            (MotionLimiter, "_advance", too_fast, "velocity"),
            (Guard, "_spend", lambda self, due: 0.02, "stamp"),
            (Guard, "_hold", lambda self, due: 1 / 0, "raised"),
        ],
    )
    def test_are_found(self, monkeypatch, owner, name, broken, kind):
        monkeypatch.setattr(owner, name, broken)
        assert fuzz(FuzzSettings(2 * RUN, seed=1)).violations[kind] > 0

    def test_that_lets_through_what_it_must_refuse(self, monkeypatch):
        for name in ("Authority", "ObservationAge", "ActionAge"):
            monkeypatch.setattr(f"optr.sentinel.rules.proposal.{name}.check", lambda self, at: None)
        report = fuzz(FuzzSettings(3 * RUN, seed=1))
        assert report.violations["let_through"] > 0
        assert {"stranger", "past"} <= {v.text for v in report.first if v.kind == "let_through"}


class TestProperties:
    @few
    @given(seeds)
    def test_no_history_makes_it_break_a_limit(self, seed):
        report = play(hostile(seed), ORACLE, proposals=400)
        assert report.first == []

    @few
    @given(seeds)
    def test_after_any_history_silence_ends_in_rest(self, seed):
        run = hostile(seed, tuple(set(FAULTS) - set(CLOCK_FAULTS)))
        run.play(400)
        self.end_faults(run)
        run.step(run.chunk(run.last[None]))  # else rows that were let through before may play on for long
        for _ in range(100):
            run.now_ns += 10 * MS
            run.step()
        settled = run.last.copy()
        for _ in range(20):
            run.now_ns += 10 * MS
            run.step()
            assert np.array_equal(run.last, settled)
        assert run.guard.at_rest

    @few
    @given(seeds)
    def test_after_any_history_a_clean_motion_is_passed_unchanged(self, seed):
        run = hostile(seed, tuple(set(FAULTS) - set(CLOCK_FAULTS)))
        run.play(400)
        self.end_faults(run)
        self.move(run)

    @few
    @given(seeds)
    def test_after_any_history_and_a_reset_a_clean_motion_is_passed_unchanged(self, seed):
        run = hostile(seed)
        run.play(400)
        run.calm_down()
        run.call("announce_reset")
        run.now_ns = min(run.top_ns, run.now_ns) - 10_000 * MS
        run.begin(run.smooth_at(run.now_ns))
        self.end_faults(run)
        self.move(run)

    def end_faults(self, run: HostileRun) -> None:
        """A good arm, a good clock, and time for every hold to end."""
        run.calm_down()
        run.tracking, run.lead, run.delay, run.tick_ns = "noisy", 0, 0, 0
        run.authority = "me"
        run.call("set_authority", "me")
        for _ in range(100):
            run.now_ns += 10 * MS
            run.step()
        if run.guard.state is GuardState.STOPPED:
            run.call("rearm")

    def move(self, run: HostileRun) -> None:
        """From where the arm is over into the motion of the run."""
        start, passed = run.last.copy(), 0
        for k in range(350):
            run.now_ns += PERIOD
            share = min(k / 250, 1.0)
            target = start + share**2 * (3 - 2 * share) * (run.smooth_at(run.now_ns) - start)
            run.step(run.chunk(target[None]))
            passed = passed + 1 if np.abs(run.last - target).max() < 1e-9 else 0
        assert passed >= 50


class TestCommand:
    def fuzz(self, *arguments: str) -> int:
        return int(cli.main(["sentinel", "fuzz", *arguments], standalone_mode=False) or 0)

    def test_json(self, capsys):
        code = self.fuzz("--n", "300", "--seed", "2", "--json")
        found = json.loads(capsys.readouterr().out)
        assert found["proposals"] == 300
        assert code == (1 if found["violations"] else 0)
        assert {"violations", "seconds", "outcomes", "codes", "kinds", "worst", "first_violations"} <= set(found)

    def test_violations_are_told_and_repeated_by_their_run(self, capsys, monkeypatch):
        monkeypatch.setattr(MotionLimiter, "_accelerate", no_acceleration_limit)
        assert self.fuzz("--n", "4000", "--seed", "2", "--json") == 1
        last = json.loads(capsys.readouterr().out)["first_violations"][-1]
        assert self.fuzz("--seed", "2", "--run", str(last["run"]), "--json") == 1
        assert last in json.loads(capsys.readouterr().out)["first_violations"]
        assert self.fuzz("--n", "500", "--seed", "2") == 1
        assert "run 0, call" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["--n", "0"], ["--n", "5", "--spec", "nope"], ["--n", "5", "--rules", "no"]])
    def test_bad_arguments_end_with_2(self, monkeypatch, arguments):
        from optr.cli import main

        monkeypatch.setattr("sys.argv", ["optr", "sentinel", "fuzz", *arguments])
        assert main() == 2
