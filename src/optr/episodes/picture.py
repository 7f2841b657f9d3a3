"""An episode as a plot and as a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from optr.episodes.read import EpisodeReader
from optr.spec import Spec, decoder, stamp_ns

matplotlib.use("Agg")

_OUTCOMES = {1: ("limited", "#d95f02"), 2: ("refused", "#c51b7d"), 3: ("stopped", "#000000")}


def plot_episode(reader: EpisodeReader, spec: Spec, path: Path) -> Path:
    """Draw proposed, commanded and measured positions of every joint, with verdicts marked, as PNG."""
    facts = reader.facts()
    measured = reader.joints(spec, spec.state.topic)
    commanded = reader.joints(spec, spec.action.topic)
    verdicts = reader.verdicts(spec)
    begin = measured.stamps_ns[0]
    names = spec.action.names
    figure = Figure(figsize=(10, 1.55 * len(names) + 0.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for k, (axis, name) in enumerate(zip(axes, names, strict=True)):
        axis.plot(_s(verdicts.stamps_ns, begin), verdicts.proposed[:, k], color="#bbbbbb", lw=3.5, label="proposed")
        axis.plot(_s(commanded.stamps_ns, begin), commanded.values[:, k], color="#1b6ca8", lw=1.4, label="commanded")
        axis.plot(_s(measured.stamps_ns, begin), measured.values[:, k], color="#d9822b", lw=1.2, label="measured")
        for outcome, (label, color) in _OUTCOMES.items():
            at = verdicts.outcomes == outcome
            if at.any():
                where = np.full(int(at.sum()), 0.04)
                axis.scatter(
                    _s(verdicts.stamps_ns[at], begin),
                    where,
                    marker="|",
                    s=60,
                    color=color,
                    label=label,
                    transform=axis.get_xaxis_transform(),
                    zorder=3,
                )
        unit = spec.action.channels[k].unit
        axis.set_ylabel(f"{name}\n[{unit}]", fontsize=8)
        axis.grid(alpha=0.25)
        axis.margins(x=0.01)
    axes[-1].set_xlabel("time [s]")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)
    allowed = int((verdicts.outcomes == 0).sum())
    figure.suptitle(
        f"{facts['task']}, seed {facts['seed']}, {facts['operator']}: {facts['outcome']}  "
        f"({allowed} of {len(verdicts.outcomes)} proposals sent as they were)",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    return path


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


def _s(stamps: np.ndarray, begin: int) -> np.ndarray:
    return (stamps - begin) * 1e-9
