"""A desktop's episode as a video: the screen, the pointer, rings where it clicked, paths of drags, what was typed."""

from __future__ import annotations

import importlib.util
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop import actions as a
from optr.desk_episodes.episode import PERSON, DeskEpisode, DeskStep
from optr.episodes.pictures.video import encode
from optr.errors import EpisodeError

Pixels = npt.NDArray[np.uint8]

_TICK_S = 0.08
_STILL_S = 0.5
"""How often a picture is written although nothing has changed [s]."""
_RING_S = 0.7
_AFTER_S = 1.0
_BAND = 34
_LONGEST = 70
_ALLOWED, _REFUSED, _PERSON = (255, 140, 0), (230, 30, 30), (0, 150, 255)


def write_desk_video(
    episodes: Sequence[DeskEpisode], path: Path, *, speed: float = 1.0, titles: Sequence[str] = ()
) -> Path:
    """Write one or more episodes, one after the other, as MP4 (H.264).

    Args:
        episodes: Of screens of one size.
        path: File to write.
        speed: Seconds of the episode per second of the video.
        titles: Of each episode, shown with the time; none: nothing but what is done.

    Raises:
        EpisodeError: If there are no pictures, their sizes differ, or the file cannot be written.
    """
    size: tuple[int, int] | None = None
    for episode in episodes:
        _, first = next(episode.pictures(), (0, None))
        if first is None:
            raise EpisodeError(f"{episode.reader.folder} has no pictures of the screen")
        shape = (first.shape[1], first.shape[0])
        if size not in (None, shape):
            raise EpisodeError(f"{episode.reader.folder} shows a screen of {shape}, others of {size}")
        size = shape
    if size is None:
        raise EpisodeError("no episode to be shown")
    canvas = _Canvas(size)
    frames = _all_frames(episodes, [*titles, *[""] * len(episodes)], canvas, speed)
    if not encode(path, canvas.size, 1 / _TICK_S, frames):
        raise EpisodeError(f"{episodes[0].reader.folder} has no pictures of the screen")
    return path


def _all_frames(
    episodes: Sequence[DeskEpisode], titles: Sequence[str], canvas: _Canvas, speed: float
) -> Iterator[tuple[float, Callable[[], Pixels]]]:
    begin = 0.0
    for episode, title in zip(episodes, titles, strict=False):
        last = 0.0
        for time_s, scene in _scenes(episode, title, speed):
            last = time_s
            yield begin + time_s / speed, partial(canvas.draw, scene)
        begin += last / speed + _TICK_S


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is to be drawn."""

    pixels: Pixels
    pointer: tuple[int, int] | None
    marks: tuple[tuple[DeskStep, float], ...]
    step: DeskStep | None
    caption: str
    clock: str

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for scenes that look the same, but for the time."""
        return id(self.pixels), self.pointer, tuple((id(s), round(t, 2)) for s, t in self.marks), self.caption


def _scenes(episode: DeskEpisode, title: str, speed: float) -> Iterator[tuple[float, _Scene]]:
    """Time since the first picture [s], and what is to be seen then."""
    pictures = episode.pictures()
    start, pixels = next(pictures)
    following = next(pictures, None)
    steps = sorted(episode.steps, key=lambda s: s.seen_ns)
    begins = [s.seen_ns for s in steps]
    moves = [(e.stamp_ns, (e.x, e.y)) for e in episode.inputs if e.event != "key_down" and e.event != "key_up"]
    stamps = [t for t, _ in moves]
    end = max([start, *(s.ended_ns for s in steps), *stamps]) + round(_AFTER_S * 1e9)
    shown_key: tuple[Any, ...] | None = None
    shown_at, now = -1e9, 0.0
    while True:
        at = start + round(now * 1e9)
        while following is not None and following[0] <= at:
            pixels, following = following[1], next(pictures, None)
        place = bisect_right(begins, at)
        newest = steps[place - 1] if place else None
        # What is refused takes no time, and the next action would hide it.
        kept = [s for s in steps[max(0, place - 6) : place] if s.refused and at - s.seen_ns < _AFTER_S * 1e9]
        current = kept[-1] if kept else newest
        moved = bisect_right(stamps, at)
        marks = tuple(
            (s, (at - _marked_ns(s)) * 1e-9)
            for s in steps[max(0, place - 6) : place]
            if s.pixels and _marked_ns(s) <= at <= max(s.ended_ns, _marked_ns(s)) + round(_RING_S * 1e9)
        )
        caption = f"{steps.index(current) + 1}/{len(steps)}  {said(current)}" if current is not None else ""
        scene = _Scene(
            pixels, moves[moved - 1][1] if moved else None, marks, current, caption, f"{now:6.1f} s  {title}"
        )
        if scene.key != shown_key or now - shown_at >= _STILL_S * speed:
            shown_key, shown_at = scene.key, now
            yield now, scene
        if following is None and at >= end:
            return
        now += _TICK_S * speed


def _marked_ns(step: DeskStep) -> int:
    """When the ring of a step appears [ns]: at its last input, of a drag at its begin."""
    if step.result is not None and step.result.input_ns and not isinstance(step.action, a.Drag):
        return step.result.input_ns
    return step.seen_ns


def said(step: DeskStep) -> str:
    """An action in few words."""
    action = step.action
    text = f"{action.kind} {_what(action)}".strip()
    if step.by == PERSON:
        text = f"person: {text}"
    if step.refused:
        return f"{text}   REFUSED: {', '.join(step.refused)}"
    if step.result is not None and not step.result.executed:
        return f"{text}   not done: {_short(step.result.text)}"
    return f"{text}   {step.result.effect.value.replace('_', ' ')}" if step.result is not None else text


def _what(action: a.DesktopAction) -> str:
    if isinstance(action, a.Type):
        into = f" into {action.into.text}" if isinstance(action.into, a.Selector) else ""
        return f"{_short(action.text)!r}{into}"
    if isinstance(action, a.Key | a.KeyDown | a.KeyUp):
        times = f" x {action.count}" if isinstance(action, a.Key) and action.count > 1 else ""
        return f"{action.key}{times}"
    if isinstance(action, a.Hotkey):
        return "+".join(action.keys)
    if isinstance(action, a.Wait):
        return f"until {action.until} {action.value}".rstrip()
    if isinstance(action, a.Scroll):
        return f"{action.dx:+d}, {action.dy:+d}"
    if isinstance(action, a.Launch):
        return " ".join([action.program, *action.arguments])
    if isinstance(action, a.Click):
        kind = {1: "", 2: "double ", 3: "triple "}.get(action.count, f"{action.count} times ")
        held = "".join(f"{m}+" for m in action.modifiers)
        where = action.at.text if isinstance(action.at, a.Selector) else ""
        return f"{kind}{held}{'' if action.button == 'left' else action.button + ' '}{where}"
    named = [getattr(action, n) for n in ("to", "at", "element") if isinstance(getattr(action, n, None), a.Selector)]
    texts = [getattr(action, n) for n in ("value", "window", "answer", "reason", "question") if hasattr(action, n)]
    return " ".join([*(s.text for s in named), *(_short(t) for t in texts)])


def _short(text: str) -> str:
    line = text.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


class _Canvas:
    """Draws scenes."""

    def __init__(self, screen: tuple[int, int]) -> None:
        self._screen = screen
        width, height = screen[0], screen[1] + _BAND
        self.size = (width + width % 2, height + height % 2)
        self._font = _font(15)

    def draw(self, scene: _Scene) -> Pixels:
        """The picture, shape (height, width, 3)."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", self.size, (24, 24, 24))
        image.paste(Image.fromarray(scene.pixels), (0, 0))
        pen = ImageDraw.Draw(image, "RGBA")
        for step, age in scene.marks:
            _mark(pen, step, age)
        if scene.pointer is not None:
            _pointer(pen, scene.pointer)
        top = self._screen[1] + 8
        colour = (255, 90, 90) if scene.step is not None and scene.step.refused else (235, 235, 235)
        pen.text((8, top), scene.caption, fill=colour, font=self._font)
        width = pen.textlength(scene.clock, font=self._font)
        pen.rectangle((self.size[0] - width - 16, self._screen[1], self.size[0], self.size[1]), fill=(24, 24, 24))
        pen.text((self.size[0] - width - 8, top), scene.clock, fill=(150, 150, 150), font=self._font)
        return np.asarray(image)


def _mark(pen: Any, step: DeskStep, age_s: float) -> None:
    red, green, blue = _REFUSED if step.refused else _PERSON if step.by == PERSON else _ALLOWED
    if isinstance(step.action, a.Drag) and len(step.pixels) > 1:
        pen.line(step.pixels, fill=(red, green, blue, 200), width=4)
        _ring(pen, step.pixels[0], 6, (red, green, blue))
    radius = 8 + 18 * min(1.0, age_s / _RING_S)
    count = step.action.count if isinstance(step.action, a.Click) else 1
    for n in range(min(count, 3)):
        _ring(pen, step.pixels[-1], radius + 6 * n, (red, green, blue))


def _ring(pen: Any, at: tuple[int, int], radius: float, colour: tuple[int, int, int]) -> None:
    x, y = at
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(*colour, 230), width=4)


def _pointer(pen: Any, at: tuple[int, int]) -> None:
    x, y = at
    arrow = [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12)]
    pen.polygon([(x + dx, y + dy) for dx, dy in arrow], fill=(255, 255, 255, 255), outline=(0, 0, 0, 255))


def _font(size: int) -> Any:
    """A font with most letters, as matplotlib brings one."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    folders = [Path(p) / "mpl-data/fonts/ttf" for p in (found.submodule_search_locations or ())] if found else []
    for folder in (*folders, Path("/usr/share/fonts/truetype/dejavu")):
        if (folder / "DejaVuSans.ttf").is_file():
            return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), size)
    return ImageFont.load_default()
