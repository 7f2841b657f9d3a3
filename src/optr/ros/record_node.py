"""A node that records the graph it finds from start to end: no services, no heartbeat, beside any other recorder."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from optr.end_signal import EndSignal
from optr.episodes import storage_preset
from optr.errors import EpisodeError
from optr.ros.bag_recorder import BagRecorder, RecordingOptions, default_name
from optr.ros.node import OptrNode
from optr.ros_environment import prepare
from optr.spec import load_spec

_CHECK_S = 0.1


@dataclass(frozen=True)
class RecordSettings:
    """What `optr record` is asked for.

    Attributes:
        include: Topics to record, a regular expression; empty: all.
        exclude: Topics not to record, a regular expression.
        output: Folder in which the bag is made.
        name: Of the bag; empty: made from the date.
        task: Kept in the bag.
        instruction: Kept in the bag.
        operator_: Kept in the bag.
        spec: Of the robot; empty: unknown.
        namespace: Of its topics.
        compression: Preset.
        split_mb: Begin another file after so many MB; 0: never.
        split_seconds: Begin another file after so long [s]; 0: never.
        min_free_mb: Leave so much disk free.
        queue_mb: Most that may wait for the disk.
        sim_time: Whether the node clock is that of a simulation.
        lockstep: Whether that waits for actions.
    """

    include: str
    exclude: str
    output: Path
    name: str
    task: str
    instruction: str
    operator_: str
    spec: str
    namespace: str
    compression: str
    split_mb: float
    split_seconds: float
    min_free_mb: int
    queue_mb: int
    sim_time: bool
    lockstep: bool


@dataclass(frozen=True)
class _NoParams:
    """There are none: the command line has it all."""


class RecordNode(OptrNode[_NoParams]):
    """Records from its start to `finish`.

    Attributes:
        recorder: What records.
    """

    def __init__(self, settings: RecordSettings) -> None:
        """Begin to record.

        Raises:
            EpisodeError: If the disk refuses.
        """
        super().__init__(
            f"optr_record_{os.getpid()}",
            _NoParams,
            namespace=settings.namespace or None,
            start_parameter_services=False,
            parameter_overrides=[Parameter("use_sim_time", value=settings.sim_time)],
        )
        options = RecordingOptions(
            folder=settings.output.expanduser(),
            include=settings.include,
            exclude=settings.exclude,
            storage=storage_preset(settings.compression).split(settings.split_mb, settings.split_seconds),
            queue_bytes=settings.queue_mb << 20,
            min_free_bytes=settings.min_free_mb << 20,
            lockstep=settings.lockstep,
        )
        self.recorder = BagRecorder(self, load_spec(settings.spec) if settings.spec else None, options)
        facts = {"task": settings.task, "instruction": settings.instruction, "operator": settings.operator_}
        self.recorder.start(settings.name or default_name(settings.task), facts)
        self.create_timer(_CHECK_S, self.recorder.check, clock=self.steady)

    def finish(self) -> dict[str, Any]:
        """End the bag and tell what is in it; what the disk refused is left as a partial folder."""
        recorder = self.recorder
        seconds = time.monotonic() - recorder.began
        told: dict[str, Any] = {"bag": "", "messages": 0, "bytes": 0, "dropped": 0, "topics": {}, "seconds": seconds}
        recording = recorder.recording or recorder.ended
        try:
            bag = recorder.stop({})[0] if recorder.recording is not None else recorder.bag
            told["bag"] = str(bag) if bag.is_dir() else ""
        except EpisodeError:
            pass  # told as error
        if recording is not None:
            told |= {"messages": recording.writer.messages, "bytes": recording.writer.bytes}
            told |= {"dropped": recording.dropped, "topics": {n: c.to_dict() for n, c in recording.counts.items()}}
        return {**told, "not_recorded": dict(recorder.capture.unknown), "error": recorder.error}


def run_record(settings: RecordSettings, seconds: float, show: Callable[[RecordNode, bool], None]) -> dict[str, Any]:
    """Record until a signal, or for some seconds, or until the disk runs low.

    Args:
        settings: What and how.
        seconds: How long [s]; 0: until a signal.
        show: Called some times a second, and with True at the end.

    Raises:
        OptrError: If it cannot be done as asked.
    """
    prepare()
    ended = EndSignal(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node: RecordNode | None = None
    try:
        node = RecordNode(settings)
        node.hot.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        until = time.monotonic() + seconds if seconds else float("inf")
        told = 0.0
        while not ended.is_set() and time.monotonic() < until and node.recorder.recording is not None:
            executor.spin_once(timeout_sec=0.1)
            if node.hot.error is not None:
                raise node.hot.error
            if node.recorder.error:
                break
            if time.monotonic() - told > _CHECK_S:
                told = time.monotonic()
                show(node, False)
        show(node, True)
        return node.finish()
    finally:
        if node is not None:
            node.recorder.abort()
            node.close()
        rclpy.try_shutdown()
