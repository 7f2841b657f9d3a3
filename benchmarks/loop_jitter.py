"""How late are the ticks of a 500 Hz hot loop, compared with a bare deadline loop?

A node with a `HotLoop` ticks in a process of its own; so does a thread that does nothing but sleep until absolute
deadlines. They take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Load, Processes, Result, arguments, best, spread, tell

_RATE_HZ = 500.0
_WARM_UP = 250
_ROUNDS = 3
_AIM = 1.5


def main() -> int:
    """Run it."""
    if "--role" in sys.argv:
        return _child()
    given = arguments(__doc__, seconds=18.0, domain=64)
    load = Load()
    roles = ("hot loop", "bare loop")
    blocks: dict[str, list[dict[str, Any]]] = {r: [] for r in roles}
    seconds = max(1.0, given.seconds / (_ROUNDS * len(roles)))
    for i in range(_ROUNDS):
        for role in roles[:: 1 if i % 2 == 0 else -1]:
            blocks[role].append(_block(role, seconds))
    of = {role: best(some) for role, some in blocks.items()}
    rows = [
        {
            "loop": role,
            "p50 late us": u["p50"],
            "p99": u["p99"],
            "worst": u["worst"],
            "missed periods": sum(b["missed"] for b in blocks[role]),
            "of": u["n"],
        }
        for role, u in of.items()
    ]
    measured, limit = of["hot loop"]["p99"], of["bare loop"]["p99"]
    result = Result(
        "loop_jitter",
        "lateness of a 500 Hz tick in a node with a hot loop, against a bare deadline loop; best of 3 blocks",
        measured,
        limit,
        "us (p99)",
        f"at most {_AIM} x the bare loop",
        measured <= _AIM * limit,
        rows,
        {"blocks": blocks, "load": load.so_far()},
    )
    return tell(result, given.json)


def _block(role: str, seconds: float) -> dict[str, Any]:
    with Processes() as processes:
        child = processes.start(
            str(Path(__file__).resolve()), "--role", role, "--seconds", str(seconds), stdout=subprocess.PIPE
        )
        answer = child.communicate()[0]
        if child.returncode:
            processes.check()
    got = json.loads(answer)
    if got["n"] + got["missed"] < 0.99 * seconds * _RATE_HZ:
        raise AssertionError(f"{role}: {got['n']} ticks in {seconds} s, {got['missed']} missed")
    return dict(got)


def _child() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    count = _WARM_UP + round(given.seconds * _RATE_HZ)
    run: dict[str, Callable[[int], np.ndarray]] = {"hot loop": _hot_loop, "bare loop": _bare_loop}
    at = run[given.role](count)
    # Deadlines are a period apart and never move: what is late by whole periods has missed that many.
    period = 1e9 / _RATE_HZ
    at = at[_WARM_UP:]
    late = at[:, 0] - at[:, 1]
    missed = int(np.sum(np.maximum(np.round(np.diff(at[:, 1]) / period) - 1, 0)))
    if (late < 0).any():
        raise AssertionError("a tick came before its deadline")
    print(json.dumps({**spread(late * 1e-3), "missed": missed}))
    return 0


def _hot_loop(count: int) -> np.ndarray:
    """A whole node: parameters, services, diagnostics, an executor beside the loop. Rows of (called, due) [ns]."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from optr.ros.node import OptrNode

    rclpy.init()
    node: Any = OptrNode("jitter", _NoParams)
    at = np.zeros((count, 2))
    done = threading.Event()
    period_s = 1.0 / _RATE_HZ
    state = {"i": 0, "late_s": 0.0}

    def tick() -> None:
        now, i = time.monotonic_ns(), state["i"]
        if i >= count:
            done.set()
            return
        # The loop keeps its deadlines to itself, but adds up by how much it misses them.
        at[i] = now, now - (ticks.late_s - state["late_s"]) * 1e9
        state["i"], state["late_s"] = i + 1, ticks.late_s

    ticks = node.hot.every(period_s, tick)
    node.hot.start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not done.is_set():
        executor.spin_once(timeout_sec=0.1)
        if node.hot.error is not None:
            raise node.hot.error
    node.close()
    rclpy.try_shutdown()
    return at


def _bare_loop(count: int) -> np.ndarray:
    """Nothing but sleep, in a thread. Rows of (called, due) [ns]."""
    at = np.zeros((count, 2))
    period = round(1e9 / _RATE_HZ)

    def run() -> None:
        due = time.monotonic_ns() + period
        for i in range(count):
            wait = due - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait * 1e-9)
            at[i] = time.monotonic_ns(), due
            due += period
            behind = (time.monotonic_ns() - due) // period
            if behind > 2:
                due += behind * period

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return at


@dataclass(frozen=True)
class _NoParams:
    """The node has none."""


if __name__ == "__main__":
    raise SystemExit(main())
