"""What does the look-ahead cost per proposal?"""

from __future__ import annotations

import gc
import time

import numpy as np
from _common import Load, Result, arguments, best, spread, tell

from optr.sentinel.lookahead import Collision
from optr.sentinel.rule import Seen, Situation
from optr.spec import JointSample, Spec, load_spec
from optr.spec.values import Vector

_ROUND = 300
_WARM_UP = 30
_ROWS = 16
_AIM_US = 300.0
_LOW = np.array([0.0, 0.3, 0.3, 0.0, 0.0, 0.0])
"""From home to where the jaws hang about a centimetre above the table [rad]."""


def main() -> int:
    """Run it."""
    given = arguments(__doc__, seconds=8.0)
    load, spec = Load(), load_spec("so101_tabletop")
    home = spec.home_vector()
    kinds = {}
    for speed in (0.1, 0.3, 1.0):
        share = f"{round(100 * speed)} % of full speed"
        kinds[f"far from the table, {share}"] = _chunk(spec, home, [1, 0.3, -0.3, 0.3, 0.2, 0.1], speed)
        kinds[f"above the table, {share}"] = _chunk(spec, home + _LOW, [-1, 0, 0, 0, 0.3, 0.2], speed)
    rounds: dict[str, list[dict[str, float]]] = {k: [] for k in kinds}
    gc.collect()
    gc.freeze()
    rule = Collision()
    rule.bind(spec)
    began = time.perf_counter()
    while time.perf_counter() - began < given.seconds or len(rounds[next(iter(kinds))]) < 3:
        for name, path in kinds.items():
            rounds[name].append(spread(_checks(rule, spec, path)))
    us = {name: best(some) for name, some in rounds.items()}
    rows = [{"chunk of 16 rows": n, "p50 us": u["p50"], "p99": u["p99"], "worst": u["worst"]} for n, u in us.items()]
    typical = max(us[n]["p50"] for n in us if " 30 %" in n)
    result = Result(
        "lookahead",
        "time of one Collision.check along 16 rows of 6 joints, at 30 % of full speed",
        typical,
        _AIM_US,
        "us",
        f"p50 at most {_AIM_US:.0f} us",
        typical <= _AIM_US,
        rows,
        {"rounds": len(rounds[next(iter(kinds))]), "load": load.so_far()},
    )
    return tell(result, given.json)


def _chunk(spec: Spec, start: Vector, direction: list[float], speed: float) -> Vector:
    """Rows from `start` on, 20 ms apart, the fastest joint at a share of its limit."""
    step = np.array(direction) * spec.limits.velocity * speed * spec.period_ns * 1e-9
    return np.asarray(start + np.arange(_ROWS)[:, None] * step)


def _checks(rule: Collision, spec: Spec, path: Vector) -> np.ndarray:
    """Microseconds of each check; the arm and the bin move a little from one to the next."""
    still = np.zeros(path.shape[1])
    out = np.empty(_ROUND)
    rng = np.random.default_rng(0)
    for i in range(_WARM_UP + _ROUND):
        moved = path + rng.uniform(-0.003, 0.003, path.shape[1])
        pose = np.array([-0.2, 0.25 + rng.uniform(-1e-3, 1e-3), 0.0, 0.0, 0.0, 0.0, 1.0])
        seen = {key: Seen(0, pose) for key in rule.features()}
        at = Situation(0, JointSample(0, moved[0]), "", None, moved[0], still, seen)
        began = time.perf_counter_ns()
        finding = rule.check(at, moved)
        took = time.perf_counter_ns() - began
        if finding is not None:
            raise AssertionError(f"a free way was refused: {finding}")
        if i >= _WARM_UP:
            out[i - _WARM_UP] = took * 1e-3
    return out


if __name__ == "__main__":
    raise SystemExit(main())
