"""What does a physics step cost in optr, compared with bare `mj_step`?

Same model, start and servo targets for both; at the end every joint position must agree bit for bit.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from _common import Load, Result, arguments, spread, tell

from optr.connectors.sim import Simulation, World
from optr.connectors.sim.tasks import make_task
from optr.spec import load_spec

_ROUND_S = 2.0
"""Simulated time of one round of one variant [s]; variants take turns."""

_AIM = 1.15


def main() -> int:
    """Run it."""
    given = arguments(__doc__, seconds=6.0)
    bench = Bench()
    load = Load()
    variants: dict[str, Callable[[], Any]] = {
        "raw, blocks": lambda: bench.raw(5),
        "joints at 100 Hz": lambda: bench.world(5),
        "joints at 100 Hz, task judged": bench.judged,
        "raw, single": lambda: bench.raw(1),
        "every step": lambda: bench.world(1),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        bench.timed(run)
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    while time.perf_counter() - began < given.seconds or len(times["every step"]) < 3:
        for name, run in variants.items():
            times[name].append(bench.timed(run))
    gc.enable()
    us = {name: {**spread(t), "best": min(t)} for name, t in times.items()}
    rows = []
    for name, of in us.items():
        raw = "raw, single" if name in ("raw, single", "every step") else "raw, blocks"
        pairs = [a / b for a, b in zip(times[name], times[raw], strict=True)]
        rows.append(
            {
                "variant": name,
                "us/step p50": of["p50"],
                "p99": of["p99"],
                "best": of["best"],
                "steps/s": 1e6 / of["p50"],
                "ratio to raw": float(np.median(pairs)),
            }
        )
    measured, limit = us["joints at 100 Hz"]["p50"], us["raw, blocks"]["p50"]
    result = Result(
        "sim_step",
        "cost of one physics step in optr against bare mj_step (pick_place scene, 500 Hz, no cameras)",
        measured,
        limit,
        "us",
        f"at most {_AIM} x raw",
        measured / limit <= _AIM,
        rows,
        {
            "rounds": len(times["raw, blocks"]),
            "steps_per_round": bench.steps,
            "bitwise_equal": True,
            "load": load.so_far(),
        },
    )
    return tell(result, given.json)


class Bench:
    """One start state, one list of commands, and the ways to simulate them."""

    def __init__(self) -> None:
        spec = load_spec("so101_tabletop")
        self.sim = Simulation(World(spec), make_task("pick_place"), seed=0)
        world = self.sim.world
        self.control = self.sim.steps_per_action
        self.start = copy.copy(world.data)
        self.data = copy.copy(world.data)
        self.steps = round(_ROUND_S / (world.timestep_ns * 1e-9) / self.control) * self.control
        at = np.arange(self.steps // self.control)[:, None] * spec.period_ns * 1e-9
        home, limits = spec.home_vector(), spec.limits
        # Slow enough for the servo target to be the command: raw MuJoCo has no speed limit of its own.
        wave = home + 0.1 * np.sin(at * np.linspace(1.0, 2.5, len(home)))
        self.commands = list(np.clip(wave, limits.low, limits.high))
        self.end = self._expected()

    def _expected(self) -> np.ndarray:
        self.raw(self.control)
        return self.data.qpos.copy()

    def _begin(self) -> None:
        world = self.sim.world
        mujoco.mj_copyData(self.data, world.model, self.start)
        self.sim.reset(0)
        mujoco.mj_copyData(world.data, world.model, self.start)

    def raw(self, block: int) -> np.ndarray:
        """Only MuJoCo: write the servo targets, step."""
        model, data, step = self.sim.world.model, self.data, mujoco.mj_step
        blocks = range(self.control // block)
        for command in self.commands:
            data.ctrl[:] = command
            for _ in blocks:
                step(model, data, block)
        return data.qpos

    def world(self, block: int) -> np.ndarray:
        """Through `World`: a command every control step, joints measured after every block."""
        world = self.sim.world
        blocks = range(self.control // block)
        for command in self.commands:
            world.command(command)
            for _ in blocks:
                world.advance(block)
                world.joints()
        return world.data.qpos

    def judged(self) -> np.ndarray:
        """Through `World` and `Simulation`: as above, and the task evaluated every control step."""
        sim, world = self.sim, self.sim.world
        block = 5
        for command in self.commands:
            world.command(command)
            for _ in range(self.control // block):
                world.advance(block)
                world.joints()
            sim.judge()
        return world.data.qpos

    def timed(self, run: Callable[[], np.ndarray]) -> float:
        """Microseconds per step of one round; the end state is checked."""
        self._begin()
        began = time.perf_counter()
        end = run()
        seconds = time.perf_counter() - began
        if not np.array_equal(end, self.end):
            raise AssertionError(f"the joints ended elsewhere than raw MuJoCo: {np.abs(end - self.end).max()} off")
        return seconds / self.steps * 1e6


if __name__ == "__main__":
    raise SystemExit(main())
