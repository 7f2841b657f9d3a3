"""What does the guard cost per proposal?

Compared, for orientation, with the least that could be called a guard: one `numpy.clip` of the same vector.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import Load, Result, arguments, best, spread, tell

from optr.sentinel import Guard, Outcome, load_config
from optr.spec import ActionChunk, JointSample, Source, load_spec

_ROUND = 2000
_WARM_UP = 500
_AIM_US, _AIM_AHEAD_US = 100.0, 500.0


def main() -> int:
    """Run it."""
    given = arguments(__doc__, seconds=5.0)
    load = Load()
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "1 row, inside the limits": lambda: _guard(1, 0.5),
        "16 rows, inside the limits": lambda: _guard(16, 0.5),
        "1 row, slowed down": lambda: _guard(1, 5.0),
        "16 rows, slowed down": lambda: _guard(16, 5.0),
        "1 row, looking ahead": lambda: _guard(1, 0.5, ahead=True),
        "16 rows, looking ahead": lambda: _guard(16, 0.5, ahead=True),
        "numpy.clip": _clip,
    }
    rounds: dict[str, list[dict[str, float]]] = {k: [] for k in kinds}
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    while time.perf_counter() - began < given.seconds or len(rounds["numpy.clip"]) < 3:
        for name, run in kinds.items():
            rounds[name].append(spread(run()))
    us = {name: best(some) for name, some in rounds.items()}
    clip = us["numpy.clip"]["p50"]
    rows = [
        {"proposal": n, "p50 us": u["p50"], "p99": u["p99"], "worst": u["worst"], "x clip": u["p50"] / clip}
        for n, u in us.items()
    ]
    result = Result(
        "guard_step",
        "time of one Guard.step on a proposal of 6 joints",
        us["16 rows, looking ahead"]["p50"],
        clip,
        "us",
        f"p50 at most {_AIM_US:.0f} us without looking ahead, {_AIM_AHEAD_US:.0f} us with it",
        bool(
            max(us[f"{n}, inside the limits"]["p50"] for n in ("1 row", "16 rows")) <= _AIM_US
            and us["16 rows, looking ahead"]["p50"] <= _AIM_AHEAD_US
        ),
        rows,
        {"rounds": len(rounds["numpy.clip"]), "load": load.so_far()},
    )
    return tell(result, given.json)


def _guard(rows: int, speed: float, ahead: bool = False) -> np.ndarray:
    """Microseconds of each step along a wave; `speed` is its top speed as a share of the limit."""
    spec = load_spec("so101_tabletop")
    limits, period = spec.limits, spec.period_ns
    config = load_config(spec)
    guard = Guard(spec, config if ahead else config.without("collision"), "bench")
    home = spec.home_vector()
    omega = 3.0
    wave = 0.9 * speed * limits.velocity / omega
    out = np.empty(_ROUND)
    now, state = 1_000_000_000, home
    expected = Outcome.ALLOWED if speed < 1 else None
    for i in range(_WARM_UP + _ROUND):
        now += period
        at = (i + np.arange(rows))[:, None] * period * 1e-9
        # It starts and swings gently: its acceleration stays below the limit, and it turns inside every range.
        values = np.clip(
            home + np.minimum(wave, 0.12 if speed < 1 else 9.0) * np.sin(omega * at), limits.low, limits.high
        )
        chunk = ActionChunk("bench", i, spec.action.names, values, now, now, period, now, Source.SCRIPT)
        sample = JointSample(now, state)
        began = time.perf_counter_ns()
        command, judgement = guard.step(now, sample, chunk)
        took = time.perf_counter_ns() - began
        _check(command, judgement, values[0], expected)
        state = command.position
        if i >= _WARM_UP:
            out[i - _WARM_UP] = took * 1e-3
    limited = guard.counts[Outcome.LIMITED]
    if speed > 1 and not limited:
        raise AssertionError("a proposal five times too fast was let through")
    return out


def _check(command: Any, judgement: Any, wanted: np.ndarray, expected: Outcome | None) -> None:
    if command is None or (expected is not None and judgement.outcome is not expected):
        raise AssertionError(f"wrong judgement: {judgement}")
    if expected is Outcome.ALLOWED and not np.array_equal(command.position, wanted):
        raise AssertionError(f"allowed, but {command.position} is not {wanted}")


def _clip() -> np.ndarray:
    spec = load_spec("so101")
    limits, home = spec.limits, spec.home_vector()
    out = np.empty(_ROUND)
    for i in range(_WARM_UP + _ROUND):
        values = home + 0.1 * np.sin(0.06 * i)
        began = time.perf_counter_ns()
        np.clip(values, limits.low, limits.high)
        took = time.perf_counter_ns() - began
        if i >= _WARM_UP:
            out[i - _WARM_UP] = took * 1e-3
    return out


if __name__ == "__main__":
    raise SystemExit(main())
