"""What does the sentinel node add to the way of a command, and does it keep up at 500 Hz?

A process publishes joint states and proposals and waits for the command of each. In between: the sentinel node with
the rules that ship (collision look-ahead included), or one relay of raw bytes, a wait set and nothing else. Both take
turns. Then the sentinel alone for a longer time: a period is missed if its command comes later than the next proposal,
or not at all.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import latency
from _common import Load, Processes, Result, arguments, best, spread, tell

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
_RATE_HZ = 500.0
_ROUNDS = 3
_AIM_US = 1000.0
_ACTION_STAMPS = ("header", "observation_stamp", "start")


def main() -> int:
    """Run it."""
    if "--role" in sys.argv:
        return _child()
    given = arguments(__doc__, seconds=72.0, domain=61)
    load = Load()
    block_s = max(1.0, (given.seconds - 60.0 if given.seconds > 60 else given.seconds / 2) / (2 * _ROUNDS))
    long_s = 60.0 if given.seconds > 60 else given.seconds / 2
    blocks: dict[str, list[dict[str, Any]]] = {"sentinel": [], "relay": []}
    with tempfile.TemporaryDirectory(prefix="optr-bench-") as folder:
        spec = latency._spec(Path(folder), _RATE_HZ)
        for i in range(_ROUNDS):
            for variant in ("sentinel", "relay") if i % 2 else ("relay", "sentinel"):
                blocks[variant].append(_block(variant, block_s, spec, folder))
        long = _block("sentinel", long_s, spec, folder)
    of = {name: best(some) for name, some in blocks.items()}
    added = of["sentinel"]["p99"] - of["relay"]["p99"]
    rows = [{"variant": n, "p50 us": v["p50"], "p99": v["p99"], "worst": v["worst"]} for n, v in of.items()]
    rows.append({"variant": f"sentinel, {long_s:.0f} s", "p50 us": long["p50"], "p99": long["p99"],
                 "worst": long["worst"], "late": long["late"], "lost": long["lost"], "of": long["sent"]})  # fmt: skip
    result = Result(
        "sentinel_relay",
        f"p99 that the sentinel adds over one bare relay at {_RATE_HZ:.0f} Hz; best of {_ROUNDS} blocks",
        added,
        of["relay"]["p99"],
        "us",
        f"at most {_AIM_US:.0f} us added; no period missed in {long_s:.0f} s on an idle core",
        bool(added <= _AIM_US and long["missed"] == 0),
        rows,
        {"blocks": blocks, "long": long, "load": load.so_far()},
    )
    return tell(result, given.json)


_number = 0


def _block(variant: str, seconds: float, spec: Path, folder: str) -> dict[str, Any]:
    global _number
    _number += 1
    ns = ("-r", f"__ns:=/relay{_number}")
    me = str(Path(__file__).resolve())
    with Processes() as processes:
        if variant == "sentinel":
            processes.node(
                "sentinel",
                *ns,
                spec=spec,
                authority="hold",
                rate_hz=_RATE_HZ,
                proposers="proposer",
                state_folder=folder,
            )
        else:
            relay = ("-r", "from:=action", "-r", "to:=joint_command")
            processes.start(me, "--role", "relay", "--ros-args", *ns, *relay)
        ours = ("--rate", str(_RATE_HZ), "--seconds", str(seconds), "--spec", str(spec))
        child = processes.start(me, "--role", "proposer", *ours, "--ros-args", *ns, stdout=subprocess.PIPE)
        assert child.stdout is not None
        if child.stdout.readline() != b"go\n":
            processes.check()
            raise RuntimeError("the proposer did not start")
        answer = child.stdout.readline()
        child.wait()
        processes.all.remove(child)
        processes.check()
        got: dict[str, Any] = json.loads(answer)
    return got


# -- the children ------------------------------------------------------------------------------------------------------


def _child() -> int:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--rate", type=float, default=_RATE_HZ)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--spec", default="")
    given, ros = parser.parse_known_args()
    ended = latency._Ended()
    rclpy.init(args=ros, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(given.role)
    try:
        _relay(node, ended) if given.role == "relay" else _proposer(node, given, ended)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _relay(node: Any, ended: Any) -> None:
    from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
    from rclpy.qos import QoSProfile
    from rclpy.type_support import check_is_valid_msg_type
    from sensor_msgs.msg import JointState

    from optr_interfaces.msg import ActionChunk

    check_is_valid_msg_type(ActionChunk)
    publisher = node.create_publisher(JointState, "to", QoSProfile(depth=10))
    with node.handle:
        handle = _rclpy.Subscription(node.handle, ActionChunk, "from", QoSProfile(depth=10).get_c_qos_profile())
    wait_set = _rclpy.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)
    while not ended:
        wait_set.clear_entities()
        wait_set.add_subscription(handle)
        wait_set.wait(100_000_000)
        if wait_set.is_ready("subscription", 0):
            with handle:
                got = handle.take_message(ActionChunk, True)
            if got is not None:
                publisher.publish(got[0])  # only its stamp is read, which lies at the same place


class _Measurement:
    """What was sent when, what came back, and which periods were missed."""

    def __init__(self, given: Any) -> None:
        self.period_ns = round(1e9 / given.rate)
        self.sent: dict[tuple[int, int], int] = {}
        self.us: list[float] = []
        self.count = 0
        self.began = self.answered_ns = 0
        self.seconds = given.seconds
        self.give_up_ns = time.monotonic_ns() + 20_000_000_000

    def over(self) -> bool:
        """Whether to stop; begins to measure when answers have come for a while, and says so."""
        now = time.monotonic_ns()
        if self.began:
            return now > self.began + self.seconds * 1e9
        if self.answered_ns and now - self.answered_ns > 1e9:
            self.sent.clear()
            self.us.clear()
            self.count, self.began = 0, now
            print("go", flush=True)
        if not self.answered_ns and now > self.give_up_ns:
            raise TimeoutError("no proposal was answered")
        return False

    def answered(self, stamp: tuple[int, int]) -> None:
        """A command has come."""
        sent = self.sent.pop(stamp, None)
        if sent is not None:
            self.answered_ns = self.answered_ns or time.monotonic_ns()
            self.us.append((time.perf_counter_ns() - sent) * 1e-3)

    def tell(self) -> None:
        """Print the result."""
        late = sum(us > self.period_ns * 1e-3 for us in self.us)
        old = time.perf_counter_ns() - 100_000_000
        lost = sum(t < old for t in self.sent.values())
        told = {**spread(self.us), "sent": self.count, "late": late, "lost": lost, "missed": late + lost}
        print(json.dumps(told), flush=True)


def _proposer(node: Any, given: Any, ended: Any) -> None:
    """Publishes a joint state and a proposal each period, and takes commands, with a wait set."""
    from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
    from rclpy.qos import QoSProfile
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import JointState

    from optr.ros.convert import ChunkWriter
    from optr.spec import ActionChunk, Source, load_spec
    from optr_interfaces.msg import ActionChunk as ActionChunkMsg

    spec = load_spec(given.spec)
    state = bytearray(serialize_message(latency._observation(given.spec)))
    chunks = ChunkWriter()
    states = node.create_publisher(JointState, "joint_states", QoSProfile(depth=10))
    actions = node.create_publisher(ActionChunkMsg, "action", QoSProfile(depth=10))
    with node.handle:
        handle = _rclpy.Subscription(node.handle, JointState, "joint_command", QoSProfile(depth=10).get_c_qos_profile())
    wait_set = _rclpy.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)
    m = _Measurement(given)
    home = spec.home_vector()[None, :]
    due = time.monotonic_ns() + m.period_ns
    number = 0
    while not m.over() and not ended:
        wait_set.clear_entities()
        wait_set.add_subscription(handle)
        wait_set.wait(max(0, due - time.monotonic_ns()))
        if wait_set.is_ready("subscription", 0):
            with handle:
                got = handle.take_message(JointState, True)
            if got is not None:
                m.answered(_STAMP.unpack_from(got[0], _STAMP_AT))
        if time.monotonic_ns() >= due:
            number += 1
            now = time.time_ns()
            stamp = divmod(now, 1_000_000_000)
            _STAMP.pack_into(state, _STAMP_AT, *stamp)
            states.publish(bytes(state))
            chunk = ActionChunk("hold", number, spec.action.names, home, now, now, m.period_ns, now, Source.SCRIPT)
            data = chunks.bytes(chunk)
            m.sent[stamp] = time.perf_counter_ns()
            actions.publish(data)
            m.count += 1
            due = max(due + m.period_ns, time.monotonic_ns())
    m.tell()


if __name__ == "__main__":
    raise SystemExit(main())
