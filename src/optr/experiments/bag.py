"""An episode that was played without a graph, as the bag that a graph would have left."""

from __future__ import annotations

import functools
import hashlib
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

import optr
from optr.connectors.environment import AgentStep
from optr.connectors.source import agent_namespace
from optr.episodes import BagWriter, Storage
from optr.episodes.bags.own_messages import message_bytes, topic_info
from optr.episodes.read import SPEC_FILE
from optr.errors import EpisodeError
from optr.sentinel.codes import Outcome
from optr.spec import ACTION, Feature, Source, Spec
from optr.spec.tensor import TENSOR, pack_array

Array = npt.NDArray[Any]

START_NS = 1_000_000_000
"""Time of the first observation of an episode [ns]: zero means "no stamp" in ROS."""

_NOT_SYNCED = Storage(chunk_s=60.0, sync_s=60.0)
"""An episode that was cut off is played again: nothing has to be secured on the way."""


class Decided(Protocol):
    """What became of an agent's decision; `optr.experiments.decision.Decision` is one."""

    @property
    def action(self) -> Array | None:
        """What was carried out, shape (n,); None: nothing."""

    @property
    def source(self) -> Source:
        """Whose it was."""

    @property
    def outcome(self) -> Outcome:
        """What the guard made of what was proposed."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Why."""

    @property
    def reason(self) -> str:
        """The same for people."""

    @property
    def proposed(self) -> Array | None:
        """What the operator answered, where something else was carried out."""


class EpisodeBag:
    """Writes one episode: what each agent saw, what was decided, what the guard made of it, and what was done.

    Topics, types and stamps are those of the graph with the node `gym`: one agent has none, several have a namespace
    each. The folder appears under its name when `close` has made it whole.
    """

    def __init__(self, folder: Path, specs: Mapping[str, Spec], facts: Mapping[str, Any]) -> None:
        """Begin.

        Args:
            folder: The bag to be.
            specs: Spec by agent.
            facts: What is known: `task`, `operator`, `seed`, `episode` and what else there is.

        Raises:
            EpisodeError: If it exists already, cannot be written, or a feature is of a type that is not written.
        """
        spec = next(iter(specs.values()))
        about = {"episode_id": folder.name, "instruction": "", **facts}
        about |= {"spec": spec.name, "started": _now(), "versions": dict(_versions()), "agents": list(specs)}
        told = spec.to_yaml()
        about["hashes"] = {"spec": hashlib.sha256(told.encode()).hexdigest()}
        self._writers = {a: _AgentWriter(a, s, agent_namespace(a, len(specs)), facts) for a, s in specs.items()}
        files = {SPEC_FILE: told}
        if len(specs) > 1:
            files |= {f"{w.space}.{SPEC_FILE}": w.spec.to_yaml() for w in self._writers.values()}
        self._bag = BagWriter(folder, about, files, _NOT_SYNCED)
        self._sent: dict[str, int] = {}
        self._wall_ns = 0

    def step(self, index: int, agent: str, agent_step: AgentStep, decision: Decided | None) -> None:
        """Write what an agent saw and what came of its last action, and what was decided on it.

        Args:
            index: Steps of the environment since the reset.
            agent: Whose.
            agent_step: What it saw.
            decision: What was decided on it; None: nothing was to be decided.

        Raises:
            EpisodeError: If the disk refuses, or the agent is unknown.
        """
        writer = self._writers.get(agent)
        if writer is None:
            raise EpisodeError(f"no agent {agent!r}; there are: {', '.join(self._writers)}")
        for topic, kind, data in writer.messages(index, agent_step, decision):
            self._write(topic, kind, data)

    def close(self, outcome: str, **facts: Any) -> Path:
        """Make it whole.

        Args:
            outcome: `success`, `failure`, `unknown`; `aborted`: it is marked as not complete.
            facts: What else is known now.

        Raises:
            EpisodeError: If it cannot be written; the partial folder stays.
        """
        return self._bag.close({"outcome": outcome, "complete": outcome != "aborted", "dropped": 0, **facts})

    def discard(self) -> None:
        """Leave nothing behind."""
        self._bag.discard()

    def _write(self, topic: str, kind: str, data: bytes) -> None:
        if topic not in self._sent:
            self._bag.add_topic(topic_info(topic, kind))
        self._wall_ns = max(self._wall_ns + 1, time.time_ns())  # in the order that it was written in
        self._sent[topic] = self._sent.get(topic, 0) + 1
        self._bag.write(topic, data, self._wall_ns, self._wall_ns, self._sent[topic])


class _AgentWriter:
    """Makes the messages of one agent."""

    def __init__(self, agent: str, spec: Spec, space: str, facts: Mapping[str, Any]) -> None:
        self.spec, self.space = spec, space
        self._label = agent if space else ""
        self._operator = str(facts.get("operator", ""))
        self._task, self._seed = str(facts.get("task", "")), int(facts.get("seed") or 0)
        self._episode = int(facts.get("episode") or 0) + 1
        self._acted = 0
        for feature in (*spec.observations, spec.action):
            if feature.type not in _WRITERS:
                raise EpisodeError(f"{feature.key}: {feature.type} is not written; are: {', '.join(_WRITERS)}")

    def messages(self, index: int, now: AgentStep, decision: Decided | None) -> list[tuple[str, str, bytes]]:
        """Topic, type and bytes of all that is to be said of a step."""
        stamp = START_NS + index * self.spec.period_ns
        out = [self._made("step", "StepResult", self._result(stamp, now))]
        for feature in self.spec.observations:
            if feature.key in now.observation:
                values = now.observation[feature.key]
                out.append(self._of(feature, values, stamp))
        if decision is not None:
            self._acted += 1
            out.append(self._made("action", "ActionChunk", self._chunk(stamp, decision)))
            out.append(self._made("sentinel/verdict", "Verdict", self._verdict(stamp, decision)))
            if decision.action is not None:
                out.append(self._of(self.spec.action, decision.action, stamp))
        return out

    def _made(self, topic: str, name: str, fields: Mapping[str, Any]) -> tuple[str, str, bytes]:
        kind = f"optr_interfaces/msg/{name}"
        return self._named(topic), kind, message_bytes(kind, fields)

    def _of(self, feature: Feature, values: Array, stamp: int) -> tuple[str, str, bytes]:
        fields = _WRITERS[feature.type](feature, np.asarray(values), stamp, self._label)
        return self._named(feature.topic), feature.type, message_bytes(feature.type, fields)

    def _named(self, topic: str) -> str:
        return f"/{self.space}/{topic}" if self.space else f"/{topic}"

    def _result(self, stamp: int, now: AgentStep) -> dict[str, Any]:
        return {
            "header": stamp,
            "task": self._task,
            "seed": self._seed,
            "episode": self._episode,
            "step": self._acted,
            "reward": float(now.reward),
            "terminated": bool(now.terminated),
            "truncated": bool(now.truncated),
            "success": bool(now.info.get("success", False)),
        }

    def _chunk(self, stamp: int, decision: Decided) -> dict[str, Any]:
        row = _proposal(decision)
        return {
            "header": stamp,
            "operator_id": self._operator,
            "sequence": self._acted,
            "source": int(decision.source),
            "observation_stamp": stamp,
            "start": stamp,
            "period": self.spec.period_ns,
            "names": list(self.spec.action.names),
            "values": np.empty(0) if row is None else row,
        }

    def _verdict(self, stamp: int, decision: Decided) -> dict[str, Any]:
        row, count = _proposal(decision), len(decision.codes)
        return {
            "header": stamp,
            "operator_id": self._operator,
            "sequence": self._acted,
            "outcome": int(decision.outcome),
            "codes": [str(c) for c in decision.codes],
            "subjects": [""] * count,
            "values": np.full(count, np.nan),
            "limits": np.full(count, np.nan),
            "text": decision.reason,
            "names": list(self.spec.action.names),
            "proposed": np.empty(0) if row is None else row,
            "commanded": np.empty(0) if decision.action is None else decision.action,
        }


def _proposal(decision: Decided) -> Array | None:
    """What the operator itself answered; None: nothing."""
    if decision.proposed is not None:
        return decision.proposed
    return decision.action if decision.outcome is Outcome.ALLOWED and decision.source not in _NOT_ITS_OWN else None


_NOT_ITS_OWN = (Source.FALLBACK, Source.TIMEOUT, Source.INVALID)


def _tensor(feature: Feature, values: Array, stamp: int, agent: str) -> dict[str, Any]:
    if feature.key == ACTION:
        values = values.astype(feature.dtype)
    dtype, shape, data = pack_array(values)
    about = {"header": stamp, "key": feature.key, "agent": agent, "dtype": dtype, "shape": shape}
    return {**about, "data": np.frombuffer(data, np.uint8)}


def _joints(feature: Feature, values: Array, stamp: int, agent: str) -> dict[str, Any]:
    return {"header": stamp, "name": list(feature.names), feature.field or "position": values}


def _pose(feature: Feature, values: Array, stamp: int, agent: str) -> dict[str, Any]:
    given = dict(zip(feature.names, values.tolist(), strict=True))
    position = {axis: given.get(axis, 0.0) for axis in "xyz"}
    turned = {axis: given.get(f"q{axis}", 1.0 if axis == "w" else 0.0) for axis in "xyzw"}
    return {"header": stamp, "pose": {"position": position, "orientation": turned}}


def _image(feature: Feature, values: Array, stamp: int, agent: str) -> dict[str, Any]:
    height, width, depth = values.shape
    return {
        "header": {"stamp": stamp, "frame_id": feature.frame},
        "height": height,
        "width": width,
        "encoding": "rgb8" if depth == 3 else "mono8",
        "step": width * depth,
        "data": values,
    }


_WRITERS = {
    TENSOR: _tensor,
    "sensor_msgs/msg/JointState": _joints,
    "geometry_msgs/msg/PoseStamped": _pose,
    "sensor_msgs/msg/Image": _image,
}
"""What makes the fields of a message of its feature, value, stamp and agent."""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@functools.cache
def _versions() -> dict[str, str]:
    """Of what is at work; read once in a process, for what it has imported stays."""
    found = {"optr": optr.__version__, "python": sys.version.split()[0]}
    for name in ("numpy", "gymnasium", "pettingzoo", "mujoco"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
