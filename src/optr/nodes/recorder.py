"""The recorder node: everything that is said in the graph, one bag per episode."""

from __future__ import annotations

import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from std_srvs.srv import Trigger

import optr
from optr.episodes import Recording, SequenceCheck, TopicInfo
from optr.errors import EpisodeError
from optr.ros.convert import step_from_msg
from optr.ros.messages import MessageTypeError, message_class, message_definition
from optr.ros.node import ERROR, OK, OptrNode, run_node
from optr.ros.params import param
from optr.ros.qos import EVENT_QOS, RECORD_IMAGE_QOS, RECORD_QOS, STATUS_QOS, qos_text
from optr.spec import load_spec, stamp_ns
from optr_interfaces.msg import EpisodeStatus, StepResult
from optr_interfaces.srv import StartEpisode, StopEpisode

_OUTCOMES = {0: "unknown", 1: "success", 2: "failure", 3: "aborted"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_QUIET_S = 0.05
_DRAIN_S = 2.0


@dataclass(frozen=True)
class RecorderParams:
    """Settings of the recorder node."""

    spec: str = param("so101_tabletop", "Spec that is stored in every bag.")
    folder: str = param("bags", "Folder for the bags; made if it is missing.")
    exclude: str = param(
        "/rosout|/parameter_events|.*/parameter_events|.*/_action/.*", "Topics not recorded, a regular expression."
    )
    min_free_mb: int = param(500, "Do not begin an episode with less free disk than this [MB].", low=0, high=10**9)
    heartbeat_hz: float = param(
        100.0, "Rate of `episode/status` [Hz], which the sentinel relies on.", low=1.0, high=200.0
    )


@dataclass
class _Topic:
    info: TopicInfo
    handle: Any
    latched: bool
    publishers: int
    check: SequenceCheck = field(default_factory=SequenceCheck)
    last: tuple[bytes, dict[str, int]] | None = None
    heard: bool = False

    @property
    def background(self) -> bool:
        """Whether it never falls silent, so that the end of an episode does not wait for it."""
        return self.info.type in ("optr_interfaces/msg/EpisodeStatus", "diagnostic_msgs/msg/DiagnosticArray")


class RecorderNode(OptrNode[RecorderParams]):
    """ROS face of `Recording`.

    Subscribes every topic as raw bytes. Publishes `episode/status` (optr_interfaces/EpisodeStatus) as a heartbeat.
    Services `recorder/start_episode`, `recorder/stop_episode`, `recorder/discard_episode`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("recorder", RecorderParams, **kwargs)
        self.spec = load_spec(self.params.spec)
        self._folder = _writable(Path(self.params.folder).expanduser())
        self._exclude = re.compile(self.params.exclude)
        self._topics: dict[str, _Topic] = {}
        self._unknown: set[str] = set()
        self._recording: Recording | None = None
        self._id, self._uri, self._error = "", "", ""
        self._began = 0.0
        self._step_ns = -1
        self._arrived = 0.0
        self._episodes = 0
        self._status = self.create_publisher(EpisodeStatus, "episode/status", STATUS_QOS)
        self.hot.subscribe(StepResult, "step", EVENT_QOS, self._on_step)
        self.hot.every(1.0 / self.params.heartbeat_hz, self._beat)
        self.create_timer(0.2, self._discover, clock=self.steady)
        self.create_service(StartEpisode, "recorder/start_episode", self._on_start)
        self.create_service(StopEpisode, "recorder/stop_episode", self._on_stop)
        self.create_service(Trigger, "recorder/discard_episode", self._on_discard)

    # -- hot path ------------------------------------------------------------------------------------------------

    def _receiver(self, topic: _Topic) -> Any:
        def receive(data: bytes, info: dict[str, int]) -> None:
            missing = topic.check.missing(info.get("publication_sequence_number") or 0)
            topic.heard = True
            if topic.latched:
                topic.last = (data, info)
            if self._recording is not None:
                if not topic.background:
                    self._arrived = time.monotonic()
                alone = topic.publishers == 1 and not topic.latched
                self._add(self._recording, topic, data, info, missing if alone else 0)

        return receive

    def _add(self, recording: Recording, topic: _Topic, data: bytes, info: dict[str, int], missing: int = 0) -> None:
        sequence = info.get("publication_sequence_number") or 0
        received, sent = info["received_timestamp"], info["source_timestamp"]
        recording.add(topic.info, data, received or sent, sent, sequence, missing)

    def _on_step(self, msg: StepResult) -> None:
        self._step_ns = step_from_msg(msg).stamp_ns

    def _beat(self) -> None:
        recording = self._recording
        if recording is not None and recording.error is not None and not self._error:
            self._error = str(recording.error)
            self.get_logger().error(self._error)
        self._tell()

    def _tell(self) -> None:
        recording = self._recording
        state = EpisodeStatus.RECORDING if recording is not None else EpisodeStatus.IDLE
        status = EpisodeStatus(
            state=EpisodeStatus.ERROR if self._error else state,
            episode_id=self._id,
            uri=self._uri,
            text=self._error,
        )
        if recording is not None:
            status.duration = time.monotonic() - self._began
            status.messages, status.bytes = recording.writer.messages, recording.writer.bytes
            status.dropped = recording.dropped
        status.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(status)

    # -- topics --------------------------------------------------------------------------------------------------

    def _discover(self) -> None:
        for name, types in self.get_topic_names_and_types():
            if self._exclude.fullmatch(name):
                continue
            offers = self.get_publishers_info_by_topic(name)
            if name in self._topics:
                self._topics[name].publishers = len(offers)
            elif offers and name not in self._unknown:
                self._follow(name, types[0], offers)
        self.report(changes_only=True)

    def _follow(self, name: str, type_: str, offers: list[Any]) -> None:
        try:
            cls, definition = message_class(type_), message_definition(type_)
        except MessageTypeError as err:
            self._unknown.add(name)
            self.get_logger().warning(f"{name} is not recorded: {err}")
            return
        profiles = [o.qos_profile for o in offers]
        base = RECORD_IMAGE_QOS if type_ == "sensor_msgs/msg/Image" else RECORD_QOS
        reliable = all(p.reliability == QoSReliabilityPolicy.RELIABLE for p in profiles)
        latched = all(p.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
        qos = QoSProfile(
            depth=base.depth,
            reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
        )
        info = TopicInfo(name, type_, definition, str(offers[0].topic_type_hash or ""), qos_text(profiles))
        topic = _Topic(info, None, latched, len(offers))
        self._topics[name] = topic
        topic.handle = self.hot.subscribe(cls, name, qos, self._receiver(topic), raw=True, with_info=True)

    # -- services ------------------------------------------------------------------------------------------------

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        try:
            if self._recording is not None:
                raise EpisodeError(f"episode {self._id!r} is being recorded; stop or discard it first")
            name = request.episode_id or _default_name(request.task, request.seed)
            if not _NAME.fullmatch(name):
                raise EpisodeError(f"{name!r} is no name for an episode (letters, digits, . _ -, at most 121)")
            self._await_topics(request.wait_for, request.timeout or 1.0)
            self._check_space()
            facts = {
                "episode_id": name,
                "task": request.task,
                "instruction": request.instruction,
                "operator": request.operator_id,
                "seed": request.seed,
                "spec": self.spec.name,
                "started": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "versions": _versions(),
            }
            recording = Recording(self._folder / name, facts, {"spec.yaml": self.spec.to_yaml()})
        except EpisodeError as err:
            response.message = str(err)
            return response
        with self.hot.lock:
            self._id, self._uri, self._error = name, str(self._folder / name), ""
            self._began = time.monotonic()
            self._step_ns = -1
            for topic in self._topics.values():
                if topic.latched and topic.last is not None:
                    data, info = topic.last  # as if it came now: the bag must not begin before the episode does
                    self._add(recording, topic, data, {**info, "received_timestamp": time.time_ns()})
            self._recording = recording
        response.success, response.episode_id, response.uri = True, name, self._uri
        return response

    def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        if self._recording is None:
            response.message = "no episode is being recorded"
            return response
        complete = self._drain(stamp_ns(request.last_stamp))
        with self.hot.lock:
            recording, self._recording = self._recording, None
        facts = {
            "outcome": _OUTCOMES.get(request.outcome, "unknown"),
            "note": request.note,
            "complete": complete,
            "duration": time.monotonic() - self._began,
        }
        try:
            response.uri = str(recording.close(facts))
            response.success = complete
            response.message = "" if complete else "the last step did not arrive; the bag is marked incomplete"
        except EpisodeError as err:
            self._error = response.message = str(err)
        self._episodes += 1
        response.messages, response.dropped = recording.writer.messages, recording.dropped
        counts = recording.writer.counts
        response.topics = list(counts)
        response.counts = [c.messages for c in counts.values()]
        return response

    def _on_discard(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.hot.lock:
            recording, self._recording = self._recording, None
        if recording is None:
            response.message = "no episode is being recorded"
            return response
        recording.discard()
        self._error = ""
        response.success, response.message = True, f"{self._id} is discarded"
        return response

    def _await_topics(self, names: list[str], timeout_s: float) -> None:
        wanted = [self.resolve_topic_name(n) for n in names]
        deadline = time.monotonic() + timeout_s
        while True:
            self._discover()
            missing = [n for n in wanted if not self._is_heard(n)]
            if not missing:
                return
            if time.monotonic() > deadline:
                known = ", ".join(sorted(self._topics)) or "none"
                raise EpisodeError(f"nothing is heard on {', '.join(missing)}; there are: {known}")
            time.sleep(0.02)

    def _is_heard(self, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and topic.heard and topic.publishers > 0

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._folder).free >> 20
        if free < self.params.min_free_mb:
            raise EpisodeError(f"{self._folder} has {free} MB free, {self.params.min_free_mb} MB are asked for")

    def _drain(self, last_ns: int) -> bool:
        """Wait until the step that ends the episode is in, and nothing more comes."""
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline:
            with self.hot.lock:
                quiet = time.monotonic() - max(self._arrived, self._began) > _QUIET_S
                there = not last_ns or self._step_ns >= last_ns
            if there and (quiet or not last_ns):
                return True
            time.sleep(0.01)
        return not last_ns or self._step_ns >= last_ns

    def diagnose(self) -> Any:
        recording = self._recording
        level, message = (ERROR, self._error) if self._error else (OK, "recording" if recording else "idle")
        return self.health(
            level,
            message,
            episode=self._id,
            episodes=self._episodes,
            topics=len(self._topics),
            messages=recording.writer.messages if recording else 0,
            dropped=recording.dropped if recording else 0,
        )

    def close(self) -> None:
        self.hot.stop()
        recording = getattr(self, "_recording", None)
        if recording is not None:
            recording.abort()
            self.get_logger().warning(f"episode {self._id} was not stopped; it is left as {self._uri}.partial")
        super().close()


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".optr-probe"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as err:
        raise EpisodeError(f"cannot write to the folder for bags, {folder}: {err.strerror or err}") from err
    return folder.resolve()


def _default_name(task: str, seed: int) -> str:
    return f"{task or 'episode'}-{seed:05d}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"


def _versions() -> dict[str, str]:
    found = {"optr": optr.__version__, "python": sys.version.split()[0]}
    for name in ("mujoco", "numpy", "rclpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(RecorderNode, args)


if __name__ == "__main__":
    sys.exit(main())
