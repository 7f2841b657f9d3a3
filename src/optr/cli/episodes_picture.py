"""`optr episodes plot` and `optr episodes video`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from optr.cli.episodes_common import BAG
from optr.cli.recording import facts_of, open_recording

if TYPE_CHECKING:
    from optr.desk_episodes.episode import DeskEpisode
    from optr.episodes.pictures.frames import Frame
    from optr.episodes.read import EpisodeReader
    from optr.spec import Spec


@click.command()
@click.argument("bag", type=BAG)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="PNG file; default: <bag>.png in this folder.")
@click.option("--joint", "joints", multiple=True, help="Only this joint; repeatable.")
@click.option("--topic", "topics", multiple=True, help="Draw the numbers on this topic instead; repeatable.")
@click.option("--strip", default=6, show_default=True, type=click.IntRange(0, 20), help="Pictures of each camera.")
@click.option("--spec", "spec_name", default="", help="Spec of the robot; default: the one recorded in the bag.")
@click.option("--namespace", help="Namespace of the robot's topics; default: the only one there is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plot(
    bag: Path,
    output: Path | None,
    joints: tuple[str, ...],
    topics: tuple[str, ...],
    strip: int,
    spec_name: str,
    namespace: str | None,
    as_json: bool,
) -> int:
    """Draw BAG: joints proposed, commanded and measured, what the sentinel did, and pictures of the cameras."""
    folder = bag.parent if bag.is_file() else bag
    target = output or Path(f"{folder.resolve().name}.png")
    _wants(target, ".png")
    with _working("drawing"), _writing(target) as beside:
        if topics:
            from optr.episodes.bags.raw_bag import RawBag
            from optr.episodes.pictures.topic_plot import plot_topics

            plot_topics(RawBag(folder), [t if t.startswith("/") else f"/{t}" for t in topics], beside)
        else:
            from optr.episodes.pictures.picture import plot_episode

            reader, spec = open_recording(folder, spec_name, namespace)
            plot_episode(reader, spec, beside, joints, _frames(reader, spec, strip))
    _tell(target, as_json)
    return 0


@click.command()
@click.argument("bag", type=BAG)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="MP4 file; default: <bag>.mp4 in this folder.")
@click.option("--camera", "cameras", multiple=True, help="Only this camera; repeatable, from left to right.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0.05, 50), help="Times true speed.")
@click.option("--overlay/--no-overlay", default=True, show_default=True, help="A line with time, task and outcome.")
@click.option("--spec", "spec_name", default="", help="Spec of the robot; default: the one recorded in the bag.")
@click.option("--namespace", help="Namespace of the robot's topics; default: the only one there is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def video(
    bag: Path,
    output: Path | None,
    cameras: tuple[str, ...],
    speed: float,
    overlay: bool,
    spec_name: str,
    namespace: str | None,
    as_json: bool,
) -> int:
    """Write the cameras of BAG side by side as an MP4 video. Bags without a spec: every topic of raw images.

    Of a desktop: its screen, with pointer, clicks, drags, texts and keys drawn; what was refused in red.
    """
    from optr.episodes.pictures.frames import cameras_in
    from optr.episodes.pictures.video import cameras_of_topics, write_video
    from optr.episodes.read import EpisodeReader
    from optr.errors import EpisodeError

    folder = bag.parent if bag.is_file() else bag
    if overlay and not cameras and (desk := _desk_episode(folder, namespace)) is not None:
        return _desk_video(desk, folder, output, speed, as_json)
    try:
        reader, spec = open_recording(folder, spec_name, namespace)
        found, measured = dict(cameras_in(reader, spec)), spec.state.topic
    except EpisodeError:
        if spec_name:
            raise
        reader = EpisodeReader(folder, namespace or "")
        found, measured = cameras_of_topics(reader), "joint_states"
    unknown = [c for c in cameras if c not in found]
    if unknown:
        raise EpisodeError(f"no camera {', '.join(unknown)}; there are: {', '.join(found) or 'none'}")
    chosen = {c: found[c] for c in cameras} if cameras else found
    target = output or Path(f"{folder.resolve().name}.mp4")
    _wants(target, ".mp4")
    with _working("encoding"):
        write_video(reader, target, chosen, speed, _title(folder, facts_of(reader)) if overlay else None, measured)
    _tell(target, as_json)
    return 0


def _desk_episode(folder: Path, namespace: str | None) -> DeskEpisode | None:
    """A desktop's episode; None if it is another one."""
    from optr.cli.recording import only_namespace
    from optr.desk_episodes.episode import DeskEpisode, is_desktops
    from optr.episodes.read import EpisodeReader

    space = only_namespace(EpisodeReader(folder)) if namespace is None else namespace
    return DeskEpisode(folder, space) if is_desktops(EpisodeReader(folder, space)) else None


def _desk_video(episode: DeskEpisode, folder: Path, output: Path | None, speed: float, as_json: bool) -> int:
    from optr.desk_episodes.video import write_desk_video

    target = output or Path(f"{folder.resolve().name}.mp4")
    _wants(target, ".mp4")
    with _working("encoding"):
        write_desk_video([episode], target, speed=speed, titles=[_title(folder, facts_of(episode.reader))])
    _tell(target, as_json)
    return 0


def _title(folder: Path, facts: dict[str, Any]) -> str:
    parts = [str(facts.get("task") or folder.name), f"seed {facts['seed']}" if "seed" in facts else ""]
    return "  ".join(p for p in [*parts, str(facts.get("operator") or ""), str(facts.get("outcome") or "")] if p)


def _frames(reader: EpisodeReader, spec: Spec, count: int) -> Sequence[Sequence[Frame]]:
    """Pictures of all cameras at some times, evenly from begin to end."""
    import numpy as np

    from optr.episodes.pictures.clock import EpisodeClock
    from optr.episodes.pictures.frames import cameras_in, frames_before

    if not count or not any(reader.has(f.topic) for f in cameras_in(reader, spec).values()):
        return ()
    measured = reader.joints(spec, spec.state.topic)
    clock = EpisodeClock(measured)
    last = float(clock.seconds(measured.stamps_ns[-1:], measured.received_ns[-1:])[0])
    return [f for f in frames_before(reader, spec, clock, np.linspace(0.0, last, count).tolist()) if f]


def _wants(target: Path, suffix: str) -> None:
    """Refuse a name that promises another kind of file than is written."""
    if target.suffix.lower() != suffix:
        raise click.UsageError(f"{target.name} does not end in {suffix}, and no other kind of file is written")


@contextmanager
def _working(what: str) -> Iterator[None]:
    """A note on the terminal while something takes its time."""
    with Console(stderr=True).status(what):
        yield


@contextmanager
def _writing(target: Path) -> Iterator[Path]:
    """A file written beside, and renamed when it is whole."""
    beside = target.with_name(target.name + ".new")
    try:
        yield beside
        beside.replace(target)
    except OSError as err:
        raise click.ClickException(f"cannot write {target}: {err.strerror or err}") from err
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _tell(path: Path, as_json: bool) -> None:
    click.echo(json.dumps({"file": str(path)}) if as_json else f"wrote {path}")
