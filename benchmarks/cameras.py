"""Do two cameras of 640x480 at 30 Hz come through while the arm is controlled?

The sim node in real time with its two cameras, the operator and the sentinel; a process of its own subscribes to the
images as raw bytes and counts by the sequence numbers that the publisher gave them.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from _common import Load, Processes, Result, arguments, children_of, cpu_s, spread, tell

_RATE_HZ, _HEIGHT, _WIDTH = 30.0, 480, 640
_WARM_UP_S = 3.0
_LAST_S = 1.1
_SAMPLE = 4096


def main() -> int:
    """Run it."""
    if "--role" in sys.argv:
        return _child()
    given = arguments(__doc__, seconds=15.0, domain=66)
    with tempfile.TemporaryDirectory(prefix="optr-bench-") as folder, Processes() as processes:
        spec = _spec(Path(folder))
        nodes = {"sim": processes.node("sim", spec=spec, task="pick_place", auto_reset=True)}
        time.sleep(1.0)
        nodes["sentinel"] = processes.node("sentinel", spec=spec, authority="scripted_pick_place", use_sim_time=True)
        nodes["operator"] = processes.node("operator", spec=spec, operator="scripted_pick_place", use_sim_time=True)
        me = str(Path(__file__).resolve())
        watcher = processes.start(
            me, "--role", "watcher", "--seconds", str(given.seconds), "--spec", str(spec), stdout=subprocess.PIPE
        )
        assert watcher.stdout is not None
        if watcher.stdout.readline() != b"go\n":
            processes.check()
            raise RuntimeError("no images came")
        pids = {name: p.pid for name, p in nodes.items()}
        pids["cameras"] = children_of(pids["sim"])[0]
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        load = Load()
        got = json.loads(watcher.stdout.readline())
        # The watcher waits a second more for the last diagnostics.
        cores = {name: (cpu_s(pid) - before[name]) / (given.seconds + _LAST_S) for name, pid in pids.items()}
        cores["watcher"] = got["cpu_s"] / (given.seconds + _LAST_S)
        watcher.wait()
        processes.all.remove(watcher)
        processes.check()
    asked = _RATE_HZ * len(got["cameras"])
    fps = sum(c["frames"] for c in got["cameras"].values()) / given.seconds
    lost = sum(c["lost"] for c in got["cameras"].values())
    sim = got["sim"]
    rows: list[dict[str, Any]] = [
        {
            "camera": name,
            "frames/s": c["frames"] / given.seconds,
            "lost": c["lost"],
            "on the way p50 ms": c["on_the_way_ms"]["p50"],
            "p99 ": c["on_the_way_ms"]["p99"],
            "age p50 ms": c["age_ms"]["p50"],
            "p99": c["age_ms"]["p99"],
            "worst": c["age_ms"]["worst"],
        }
        for name, c in got["cameras"].items()
    ]
    result = Result(
        "cameras",
        "two cameras of 640x480 at 30 Hz in the real-time stack: images that arrive",
        fps,
        asked,
        "images/s",
        "0 lost, 0 skipped",
        lost == 0 and not sim["frames_skipped"],
        rows,
        {
            "lost": lost,
            "skipped_by_the_renderer": sim["frames_skipped"],
            "real_time_factor": sim["real_time_factor"],
            "tick_late_ms": {
                "mean": sim["mean_late_ms"],
                "worst": sim["worst_late_ms"],
                "skipped": sim["ticks_skipped"],
            },
            "cores": {k: round(v, 3) for k, v in cores.items()},
            "commands": sim["commands"],
            "load": load.so_far(),
        },
    )
    code = tell(result, given.json)
    if not given.json:
        print(
            f"real-time factor {sim['real_time_factor']:.3f}; physics ticks late by {sim['mean_late_ms']:.2f} ms on "
            f"average, {sim['worst_late_ms']:.1f} at worst, {sim['ticks_skipped']:.0f} skipped; requests skipped by "
            f"the renderer {sim['frames_skipped']:.0f}; cores: " + ", ".join(f"{k} {v:.2f}" for k, v in cores.items())
        )
    return code


def _spec(folder: Path) -> Path:
    """The table top with larger pictures."""
    from optr.spec import load_spec

    spec = load_spec("so101_tabletop")
    features = {
        k: replace(f, rate=_RATE_HZ, shape=(_HEIGHT, _WIDTH, 3)) if f.is_image else f for k, f in spec.features.items()
    }
    path = folder / "so101_tabletop_640.yaml"
    path.write_text(replace(spec, features=features).to_yaml(), encoding="utf-8")
    return path


# -- the watcher -------------------------------------------------------------------------------------------------------


class _SimTime:
    """Simulation time, from the stamps of the joint states; between two of them a steady clock goes on."""

    def __init__(self) -> None:
        self._stamp_ns = self._came_ns = 0

    def take(self, data: bytes) -> None:
        self._stamp_ns, self._came_ns = _stamp(data), time.monotonic_ns()

    def now_ns(self) -> int:
        return self._stamp_ns + time.monotonic_ns() - self._came_ns


def _stamp(data: bytes) -> int:
    """Stamp [ns] of a serialized message that begins with a header."""
    sec, nanosec = struct.unpack_from("<iI", data, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


class _Camera:
    """Counts the images of one topic."""

    def __init__(self, name: str, sim_time: _SimTime) -> None:
        self.name = name
        self._sim_time = sim_time
        self.on_the_way_ms: list[float] = []
        self.first = self.last = -1
        self.frames = 0
        self.age_ms: list[float] = []
        self.previous = b""
        self.changed = 0

    def take(self, data: bytes, info: dict[str, Any]) -> None:
        now = time.time_ns()
        number = info["publication_sequence_number"]
        if len(data) < _HEIGHT * _WIDTH * 3:
            raise AssertionError(f"{self.name}: an image of {len(data)} bytes")
        self.first = number if self.first < 0 else self.first
        self.last = number
        self.frames += 1
        self.on_the_way_ms.append((now - info["source_timestamp"]) * 1e-6)
        self.age_ms.append((self._sim_time.now_ns() - _stamp(data)) * 1e-6)
        middle = data[len(data) // 2 : len(data) // 2 + _SAMPLE]
        self.changed += middle != self.previous
        self.previous = middle

    def told(self) -> dict[str, Any]:
        if not self.frames:
            raise AssertionError(f"no image of {self.name}")
        return {
            "frames": self.frames,
            "lost": self.last - self.first + 1 - self.frames,
            "age_ms": spread(self.age_ms),
            "on_the_way_ms": spread(self.on_the_way_ms),
            "pictures_that_changed": self.changed,
        }


def _child() -> int:
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image, JointState

    from optr.ros.hot_loop import HotLoop
    from optr.ros.qos import EVENT_QOS, IMAGE_QOS
    from optr.spec import load_spec

    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--spec", required=True)
    given = parser.parse_args()
    rclpy.init()
    node = rclpy.create_node("watcher")
    hot = HotLoop(node)
    spec = load_spec(given.spec)
    counters: dict[str, _Camera] = {}
    sim: dict[str, float] = {}

    def receiver(name: str) -> Any:
        def receive(data: bytes, info: dict[str, Any]) -> None:
            if name in counters:
                counters[name].take(data, info)
            else:
                seen[name] = seen.get(name, 0) + 1

        return receive

    def on_diagnostics(msg: Any) -> None:
        for status in msg.status:
            if status.name == "/sim":
                for value in status.values:
                    try:
                        sim[value.key] = float(value.value)
                    except ValueError:
                        continue

    seen: dict[str, int] = {}
    for name, feature in spec.images.items():
        hot.subscribe(Image, feature.topic, IMAGE_QOS, receiver(name), raw=True, with_info=True)
    sim_time = _SimTime()
    hot.subscribe(JointState, spec.state.topic, EVENT_QOS, sim_time.take, raw=True)
    hot.subscribe(DiagnosticArray, "diagnostics", EVENT_QOS, on_diagnostics)
    hot.start()
    try:
        _wait(hot, lambda: len(seen) == len(spec.images) and sim.get("commands", 0) > 0, 30.0)
        _wait(hot, lambda: False, _WARM_UP_S, fail=False)
        print("go", flush=True)
        before, began = dict(sim), time.process_time()
        with hot.lock:
            counters.update({name: _Camera(name, sim_time) for name in spec.images})
        _wait(hot, lambda: False, given.seconds, fail=False)
        with hot.lock:
            cameras = {name: c.told() for name, c in counters.items()}
        time.sleep(_LAST_S)  # for the diagnostics of the last second
        with hot.lock:
            for key in ("frames_skipped", "ticks_skipped", "commands"):
                sim[key] -= before[key]
        print(json.dumps({"cameras": cameras, "sim": sim, "cpu_s": time.process_time() - began}), flush=True)
    finally:
        hot.stop()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _wait(hot: Any, until: Any, seconds: float, fail: bool = True) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if hot.error is not None:
            raise hot.error
        if until():
            return
        time.sleep(0.02)
    if fail:
        raise TimeoutError("the stack did not come up")


if __name__ == "__main__":
    raise SystemExit(main())
