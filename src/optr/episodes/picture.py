"""An episode as a plot and as a video."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from optr.episodes.clock import EpisodeClock
from optr.episodes.read import Array, EpisodeReader, Series
from optr.episodes.timeline import Timeline, read_timeline
from optr.errors import EpisodeError
from optr.spec import Channel, Spec, decoder, stamp_ns
from optr.spec.values import Vector

matplotlib.use("Agg")

_OUTCOMES = {"limited": "#f2a35e", "refused": "#e58bbd", "stopped": "#e04040"}
_STATES = {"ready": "#8fce93", "holding": "#9a9a9a", "stopped": "#e04040"}
_JOINED_S = 0.03
_PROPOSED, _COMMANDED, _MEASURED = "#b3b3b3", "#1b6ca8", "#d9822b"


def plot_episode(reader: EpisodeReader, spec: Spec, path: Path) -> Path:
    """Draw proposed, commanded and measured positions of every joint, with what the sentinel did shaded, as PNG."""
    measured = reader.joints(spec, spec.state.topic)
    commanded = reader.joints(spec, spec.action.topic)
    verdicts = reader.verdicts(spec)
    timeline = read_timeline(reader, spec)
    clock = EpisodeClock(measured)
    names = spec.action.names
    lines = (
        ("proposed", _PROPOSED, 3.5, clock.seconds(verdicts.stamps_ns, verdicts.received_ns), verdicts.proposed),
        ("commanded", _COMMANDED, 1.4, clock.seconds(commanded.stamps_ns, commanded.received_ns), commanded.values),
        ("measured", _MEASURED, 1.2, clock.seconds(measured.stamps_ns, measured.received_ns), measured.values),
    )
    figure = Figure(figsize=(11, 1.45 * len(names) + 1.5), layout="constrained")
    heights = [0.22, *([1.0] * len(names))]
    axes = figure.subplots(len(names) + 1, 1, sharex=True, gridspec_kw={"height_ratios": heights})
    _draw_states(axes[0], timeline)
    for k, (axis, name) in enumerate(zip(axes[1:], names, strict=True)):
        for label, color, width, times, values in lines:
            # Others than the authority propose as well: their lines would go to and fro between the two.
            style: dict[str, Any] = {"ls": "", "marker": ".", "ms": 4.5} if label == "proposed" else {"lw": width}
            axis.plot(times, values[:, k], color=color, label=label, **style)
        _shade(axis, timeline)
        _keep_in_view(axis, commanded.values[:, k], measured.values[:, k], spec.action.channels[k])
        axis.set_ylabel(f"{name}\n[{spec.action.channels[k].unit}]", fontsize=8)
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
    axes[-1].set_xlabel("time [s]")
    handles = [*axes[1].get_legend_handles_labels()[0]]
    shown = {e.outcome for e in timeline.entries} | {s.state for s in timeline.states}
    colors = {**_STATES, **_OUTCOMES}
    handles += [Patch(color=c, alpha=0.5, label=name) for name, c in colors.items() if name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(_title(reader, timeline), x=0.01, ha="left", fontsize=10)
    figure.savefig(path, dpi=110)
    return path


def _title(reader: EpisodeReader, timeline: Timeline) -> str:
    sent = f"{timeline.outcomes['allowed']} of {timeline.proposals} proposals sent as they were"
    try:
        facts = reader.facts()
        return f"{facts['task']}, seed {facts['seed']}, {facts['operator']}: {facts['outcome']}  ({sent})"
    except (EpisodeError, KeyError):  # a bag of another origin
        return f"{reader.folder.name}  ({sent})"


def _draw_states(axis: Axes, timeline: Timeline) -> None:
    """A band with the states of the sentinel."""
    for span in timeline.states:
        if span.state in _STATES:
            axis.axvspan(span.begin_s, span.end_s, color=_STATES[span.state], alpha=0.6, lw=0)
    axis.set_yticks([])
    axis.set_ylabel("sentinel", fontsize=8, rotation=0, ha="right", va="center")
    for side in ("top", "left", "right"):
        axis.spines[side].set_visible(False)


def _shade(axis: Axes, timeline: Timeline) -> None:
    """What was limited, refused or stopped; refusals of those without authority change nothing for the arm."""
    for outcome, color in _OUTCOMES.items():
        spans: list[list[float]] = []
        for entry in timeline.entries:
            if entry.outcome != outcome or "WRONG_AUTHORITY" in entry.codes:
                continue
            # Entries that follow one another are one patch: thousands of them would take minutes to draw.
            if spans and entry.begin_s - spans[-1][1] < _JOINED_S:
                spans[-1][1] = max(spans[-1][1], entry.end_s)
            else:
                spans.append([entry.begin_s, max(entry.end_s, entry.begin_s + 0.01)])
        axis.broken_barh(
            [(begin, end - begin) for begin, end in spans],
            (0, 1),
            transform=axis.get_xaxis_transform(),
            color=color,
            alpha=0.3,
            lw=0,
            zorder=0,
        )


def _keep_in_view(axis: Axes, commanded: Array, measured: Array, channel: Channel) -> None:
    """Proposals far off the range are no reason to draw the arm as a flat line."""
    both = np.concatenate([commanded, measured])
    if not len(both):
        return
    low, high = float(both.min()), float(both.max())
    bottom, top = axis.get_ylim()
    room = max(0.6 * (high - low), 0.1)
    low = min(low, channel.low if channel.low is not None else low)
    high = max(high, channel.high if channel.high is not None else high)
    axis.set_ylim(max(bottom, low - room), min(top, high + room))


def video_of_episode(reader: EpisodeReader, spec: Spec, path: Path) -> Path | None:
    """All cameras side by side as MP4 (H.264), at true speed; None if the episode has no pictures."""
    features = {f"/{f.topic}": f for f in spec.images.values()}
    if not features:
        return None
    decoders = {topic: decoder(f) for topic, f in features.items()}
    rate = max(f.rate for f in features.values())
    height = max(f.shape[0] for f in features.values())
    width = sum(f.shape[1] for f in features.values())
    latest: dict[str, np.ndarray] = {}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("h264", rate=Fraction(round(rate * 1000), 1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast"}
        stream.time_base = Fraction(1, 1000)
        begin, shown = None, -1
        for topic, _, msg in reader.messages(*features):
            latest[topic] = decoders[topic](msg)
            if len(latest) < len(features):
                continue
            stamp = stamp_ns(msg.header.stamp)
            begin = stamp if begin is None else begin
            at = (stamp - begin) // 1_000_000
            if at <= shown:
                continue  # the other camera of the same instant
            shown = at
            canvas = np.zeros((height, width, 3), dtype=np.uint8)
            left = 0
            for name, feature in features.items():
                h, w = feature.shape[:2]
                canvas[:h, left : left + w] = latest[name]
                left += w
            frame = av.VideoFrame.from_ndarray(canvas, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def plot_commands(
    recorded: Series, stamps_ns: Sequence[int], positions: Sequence[Vector], spec: Spec, path: Path
) -> Path:
    """Draw recorded commands and others at other times, one below the other by joint, as PNG.

    Args:
        recorded: Commands of a recording.
        stamps_ns: When the others are due [ns].
        positions: The others, each of shape (n,), in the order of the action vector.
        spec: The robot.
        path: File to write.
    """
    names = spec.action.names
    others = Series(np.array(stamps_ns, dtype=np.int64), np.array(positions).reshape(-1, len(names))).since_reset()
    recorded = recorded.since_reset()
    stamps = np.concatenate([recorded.stamps_ns, others.stamps_ns])
    begin = int(stamps.min()) if len(stamps) else 0
    figure = Figure(figsize=(11, 1.45 * len(names) + 1.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for k, (axis, name) in enumerate(zip(axes, names, strict=True)):
        for label, color, width, series in (("recorded", _PROPOSED, 3.5, recorded), ("new", _COMMANDED, 1.4, others)):
            axis.plot((series.stamps_ns - begin) * 1e-9, series.values[:, k], color=color, lw=width, label=label)
        axis.set_ylabel(f"{name}\n[{spec.action.channels[k].unit}]", fontsize=8)
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
    axes[-1].set_xlabel("time [s]")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle("commands as recorded, and by the new guard", x=0.01, ha="left", fontsize=10)
    figure.savefig(path, dpi=110, format="png")
    return path
