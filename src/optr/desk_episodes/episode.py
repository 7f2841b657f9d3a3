"""Reads a desktop's episode: what was done, by whom, where, on what, and how the desktop was then."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.human_actions import HumanAction, actions_of_human
from optr.connectors.desktop.human_input import InputEvent
from optr.connectors.desktop.messages import action_of, element_of, input_of, rect_of, result_of, window_of
from optr.connectors.desktop.seen import Element, Window
from optr.connectors.desktop.view import pixel_in
from optr.desk_episodes.hiding import SECRET, placeholder
from optr.desk_episodes.topics import ACTION, COMMAND, HUMAN, RESULT, SCREEN, STATE, TYPES, VERDICT
from optr.episodes.read import EpisodeReader
from optr.errors import DesktopError, EpisodeError
from optr.spec import stamp_ns

Pixels = npt.NDArray[np.uint8]
PERSON = "person"
"""Who did what no operator proposed."""


@dataclass(frozen=True)
class Anchor:
    """By what a place is found again.

    Attributes:
        target: As the action names it.
        element: What was there; None: unknown.
        window: In which it was; None: unknown.
        pixel: Where it was on the screen then; None: nowhere.
        share: Which part of what a selector means it is, 0 to 1 each way; None: its middle.
    """

    target: a.Target
    element: Element | None = None
    window: Window | None = None
    pixel: tuple[int, int] | None = None
    share: tuple[float, float] | None = None


@dataclass(frozen=True)
class DeskStep:
    """One action of an episode.

    Attributes:
        action: Hidden texts have names, as `${secret1}`.
        by: Who proposed it; `person` for what people did by hand.
        sequence: Its number; 0 for people.
        stamp_ns: When it was proposed [ns, as in the bag].
        anchors: One for each place that it names.
        keyboard: The window that got its keys; None: it has none, or nobody knows.
        result: What came of it; None: it is not told, as of people.
        refused: Codes for which it was refused; empty: it was allowed.
        pixels: Where the pointer acted [px].
        framed: The window whose inside a wait refers to; None: none.
        seen_ns: The last moment before it did anything [ns].
        ended_ns: When it was over [ns].
    """

    action: a.DesktopAction
    by: str
    sequence: int
    stamp_ns: int
    anchors: tuple[Anchor, ...] = ()
    keyboard: Window | None = None
    result: a.ActionResult | None = None
    refused: tuple[str, ...] = ()
    pixels: tuple[tuple[int, int], ...] = ()
    framed: Window | None = None
    seen_ns: int = 0
    ended_ns: int = 0

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return not self.refused and (self.result is None or self.result.executed)


@dataclass(frozen=True)
class _State:
    stamp_ns: int
    windows: tuple[Window, ...]
    screen: a.Rect
    pointer: tuple[int, int]


class DeskEpisode:
    """One episode of a desktop.

    Attributes:
        reader: Its bag.
        steps: What was done, in the order of time.
        inputs: Every event of pointer and keyboard, in the order of time.
        secrets: Names of the texts that were hidden.
    """

    def __init__(self, folder: Path, namespace: str = "") -> None:
        """Read a bag, but for its pictures.

        Raises:
            OptrError: If it is no whole bag, or no desktop's.
        """
        self.reader = EpisodeReader(folder, namespace)
        topics = self.reader.topics()
        names = {t: self.reader.resolve(t) for t in TYPES}
        if not is_desktops(self.reader):
            raise EpisodeError(f"{folder} is no episode of a desktop: it has no {names[STATE]} of {TYPES[STATE]}")
        found: dict[str, list[Any]] = {t: [] for t in TYPES if t != SCREEN}
        by_name = {names[t]: t for t in found}
        for topic, _, msg in self.reader.messages(*(n for n in by_name if n in topics)):
            found[by_name[topic]].append(msg)
        self._states = [_state(m) for m in sorted(found[STATE], key=_stamp)]
        self._stamps = [s.stamp_ns for s in self._states]
        self.inputs: tuple[InputEvent, ...] = tuple(
            sorted((input_of(m) for m in found[HUMAN]), key=lambda e: e.stamp_ns)
        )
        own = [s for s in self._own(found) if s is not None]
        hidden = self.reader.facts().get("secrets")
        names_ = list(hidden) if isinstance(hidden, Mapping) else []
        people, more = self._peoples(len(names_))
        self.secrets: tuple[str, ...] = (*names_, *more)
        self.steps: tuple[DeskStep, ...] = tuple(sorted([*own, *people], key=lambda s: s.stamp_ns))

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What was recorded about it."""
        return self.reader.facts()

    def windows(self, stamp: int) -> tuple[Window, ...]:
        """The windows of a time [ns, as in the bag]."""
        return self._at(stamp).windows

    def screen(self, stamp: int) -> a.Rect:
        """The screen of a time."""
        return self._at(stamp).screen

    def pictures(self) -> Iterator[tuple[int, Pixels]]:
        """Time [ns] and pixels, RGB, shape (height, width, 3), of every picture of the screen."""
        if not self.reader.has(SCREEN):
            return
        for _, _, msg in self.reader.messages(SCREEN):
            pixels = np.asarray(msg.data, np.uint8).reshape(msg.height, msg.step)[:, : msg.width * 3]
            yield stamp_ns(msg.header.stamp), pixels.reshape(msg.height, msg.width, 3)

    def patches(self, steps: tuple[DeskStep, ...], half: tuple[int, int]) -> Mapping[tuple[int, int], Pixels]:
        """What the screen showed around the places of steps, right before them.

        Args:
            steps: Of this episode.
            half: Half of the width and of the height [px].

        Returns:
            By number of the step and number of its place; where nothing was seen there is none.
        """
        wanted = [
            (s.seen_ns, n, k, anchor.pixel)
            for n, s in enumerate(steps)
            for k, anchor in enumerate(s.anchors)
            if anchor.pixel is not None
        ]
        wanted.sort(key=lambda w: w[0])
        found: dict[tuple[int, int], Pixels] = {}
        last: Pixels | None = None
        waiting = list(wanted)
        for stamp, pixels in self.pictures():
            while waiting and last is not None and stamp > waiting[0][0]:
                _, n, k, pixel = waiting.pop(0)
                found[n, k] = _cut(last, pixel, half)
            last = pixels
        for _, n, k, pixel in waiting if last is not None else ():
            assert last is not None
            found[n, k] = _cut(last, pixel, half)
        return found

    # Below: steps

    def _own(self, found: Mapping[str, list[Any]]) -> Iterator[DeskStep | None]:
        verdicts = {_who(m): m for m in found[VERDICT]}
        results = {_who(m): m for m in found[RESULT]}
        commands = {_who(m.action): m for m in found[COMMAND]}
        for msg in found[ACTION]:
            try:
                action = action_of(msg)
            except DesktopError:  # what was proposed was no action, and refused
                continue
            if action is None:
                continue
            who = _who(msg)
            result = result_of(results[who]) if who in results else None
            refused = _codes(verdicts.get(who), result)
            yield self._step(msg, action, commands.get(who), result, refused)

    def _step(
        self, msg: Any, action: a.DesktopAction, command: Any, result: a.ActionResult | None, refused: tuple[str, ...]
    ) -> DeskStep:
        stamp = _stamp(msg)
        known = {w.id: w for w in self.windows(_stamp(command) if command is not None else stamp)}
        elements = [element_of(e) for e in command.elements] if command is not None else []
        pixels = (
            tuple((int(x), int(y)) for x, y in zip(command.at_x, command.at_y, strict=True))
            if command is not None
            else ()
        )
        if not pixels and result is not None and result.at is not None:
            pixels = (result.at,)
        windows = [known.get(int(w)) for w in command.at_window] if command is not None else []
        anchors = []
        for n, target in enumerate(targets_of(action)):
            element = elements[n] if n < len(elements) else None
            window = windows[n] if n < len(windows) else None
            if window is None and element is not None:
                window = known.get(element.window)
            if window is None and isinstance(target, a.Point):
                window = known.get(_window_id(target.frame))
            pixel = pixels[n] if n < len(pixels) else self._place(target, known, stamp) if refused else None
            anchors.append(Anchor(target, element, window, pixel))
        judged = _stamp(command) if command is not None else stamp
        return DeskStep(
            action,
            str(msg.operator_id),
            int(msg.sequence),
            stamp,
            tuple(anchors),
            known.get(int(command.keyboard or command.window)) if command is not None else None,
            result,
            refused,
            pixels or tuple(n.pixel for n in anchors if n.pixel is not None),
            known.get(_window_id(getattr(action, "frame", ""))),
            result.began_ns if result is not None and result.began_ns else judged,
            result.ended_ns if result is not None and result.ended_ns else stamp,
        )

    def _place(self, target: a.Target, windows: Mapping[int, Window], stamp: int) -> tuple[int, int] | None:
        """The pixel that a refused action was aimed at, as far as that is known."""
        if isinstance(target, a.Selector) or target.frame.startswith("monitor:"):
            return None
        window = windows.get(_window_id(target.frame))
        rect = window.rect if window is not None else self.screen(stamp)
        return pixel_in(rect, target.x, target.y) if window is not None or target.frame == a.SCREEN else None

    def _peoples(self, named: int) -> tuple[list[DeskStep], list[str]]:
        """What people did, and names for what they typed in secret."""
        steps: list[DeskStep] = []
        names: list[str] = []
        for made in actions_of_human(self.inputs, self._window_then):
            action = made.action
            if made.hidden:
                names.append(f"{SECRET}{named + len(names) + 1}")
                action = a.Type(placeholder(names[-1]))
            steps.append(self._persons(made, action))
        return steps, names

    def _persons(self, made: HumanAction, action: a.DesktopAction) -> DeskStep:
        window = self._window_then(made.window, made.stamp_ns) if made.window else None
        element = made.element
        anchors = [
            Anchor(t, element if n == 0 else None, window, made.pixels[n]) for n, t in enumerate(targets_of(action))
        ]
        keyboard = window if not anchors else None
        return DeskStep(
            action, PERSON, 0, made.stamp_ns, tuple(anchors), keyboard,
            pixels=made.pixels, seen_ns=made.stamp_ns, ended_ns=made.ended_ns,
        )  # fmt: skip

    def _window_then(self, number: int, stamp: int) -> Window | None:
        state = self._at(stamp)
        if not number:
            return Window(0, "", ("", ""), 0, state.screen, state.screen, False, 0, True)
        return next((w for w in state.windows if w.id == number), None) or self._window_soon(number, stamp)

    def _window_soon(self, number: int, stamp: int) -> Window | None:
        """A window that was told of a little later."""
        later = self._states[bisect_right(self._stamps, stamp) :]
        return next((w for s in later[:3] for w in s.windows if w.id == number), None)

    def _at(self, stamp: int) -> _State:
        if not self._states:
            return _State(0, (), a.Rect(0, 0, 1, 1), (0, 0))
        return self._states[max(0, bisect_right(self._stamps, stamp + _JUDGED_NS) - 1)]


_JUDGED_NS = 1_000
"""The picture and the state that an action was judged by may have its very stamp [ns]."""


def is_desktops(reader: EpisodeReader) -> bool:
    """Whether a bag holds an episode of a desktop."""
    topics = reader.topics()
    proposed = topics.get(reader.resolve(ACTION), TYPES[ACTION])
    return topics.get(reader.resolve(STATE)) == TYPES[STATE] and proposed == TYPES[ACTION]


def targets_of(action: a.DesktopAction) -> tuple[a.Target, ...]:
    """The places that an action names, in the order of the message."""
    if isinstance(action, a.Drag):
        return action.path
    named = (getattr(action, name, None) for name in ("to", "at", "into", "element"))
    return tuple(t for t in named if isinstance(t, a.Point | a.Selector))


def with_targets(action: a.DesktopAction, targets: tuple[a.Target, ...]) -> a.DesktopAction:
    """An action with other places."""
    if isinstance(action, a.Drag):
        return replace(action, path=targets)
    for name in ("to", "at", "into", "element"):
        if targets and getattr(action, name, None) is not None:
            changed: Any = {name: targets[0]}
            return replace(action, **changed)
    return action


def _who(msg: Any) -> tuple[str, int]:
    return str(msg.operator_id), int(msg.sequence)


def _window_id(frame: str) -> int:
    """Id of the window that a frame is the inside of; 0: it is of none."""
    return int(frame[7:]) if frame.startswith("window:") else 0


def _codes(verdict: Any, result: a.ActionResult | None) -> tuple[str, ...]:
    if verdict is not None and verdict.outcome:
        return tuple(str(c) for c in verdict.codes) or ("REFUSED",)
    return (result.refused,) if result is not None and result.refused else ()


def _state(msg: Any) -> _State:
    screen = rect_of(msg.screen) or a.Rect(0, 0, 1, 1)
    windows = tuple(window_of(w) for w in msg.windows)
    return _State(_stamp(msg), windows, screen, (int(msg.pointer_x), int(msg.pointer_y)))


def _stamp(msg: Any) -> int:
    return int(stamp_ns(msg.header.stamp))


def _cut(pixels: Pixels, pixel: tuple[int, int], half: tuple[int, int]) -> Pixels:
    x, y = pixel
    top, left = max(0, y - half[1]), max(0, x - half[0])
    return np.array(pixels[top : y + half[1] + 1, left : x + half[0] + 1])
