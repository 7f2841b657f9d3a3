"""QoS profiles by purpose."""

from __future__ import annotations

import yaml
from rclpy.duration import Duration
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy


def _profile(depth: int, reliable: bool = True, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


STATE_QOS = _profile(10)
"""Subscribers of joint states and object poses: may miss their turn a few times and still get each."""

SENSOR_QOS = _profile(5, reliable=False)
"""Subscribers to sensors that only want the newest (REP-2003)."""

IMAGE_QOS = _profile(30)
"""Camera publishers: reliable (REP-2003), so that a recorder gets every frame."""

SCREEN_QOS = _profile(4, latched=True)
"""Pictures of a screen, sent when it changes: whoever comes later sees the last one, however long ago that was."""

COMMAND_QOS = _profile(1)
"""Subscribers of commands: only the newest counts, and it must arrive."""

STATUS_QOS = _profile(1, latched=True)
"""Status: whoever comes later sees the last one."""

EVENT_QOS = _profile(500)
"""Proposals, verdicts, step results: every single one counts. All publishers of small messages take it, also of joint
states and commands: what a busy machine loses on the way to a slow recorder is sent again from this history."""

RECORD_QOS = _profile(1000)
"""The recorder's subscriptions: deep, because what it misses is gone."""

RECORD_IMAGE_QOS = _profile(60)
"""The same for images: two seconds of frames, and not a gigabyte of queue."""


def qos_text(profiles: list[QoSProfile]) -> str:
    """Offered QoS profiles as rosbag2 stores them: a YAML list."""
    entries = []
    for p in profiles:
        entries.append(
            {
                "history": p.history.short_key if p.history.value in (1, 2) else "unknown",
                "depth": p.depth,
                "reliability": p.reliability.short_key,
                "durability": p.durability.short_key,
                "deadline": _span(p.deadline),
                "lifespan": _span(p.lifespan),
                "liveliness": p.liveliness.short_key,
                "liveliness_lease_duration": _span(p.liveliness_lease_duration),
                "avoid_ros_namespace_conventions": p.avoid_ros_namespace_conventions,
            }
        )
    return yaml.safe_dump(entries, sort_keys=False)


def _span(duration: Duration) -> dict[str, int]:
    seconds, nanoseconds = divmod(duration.nanoseconds, 1_000_000_000)
    return {"sec": seconds, "nsec": nanoseconds}
