"""Does again what was done in an episode: on what it was done, when that is there, and not where and when it was."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.seen import Window
from optr.desk_episodes.episode import DeskEpisode, DeskStep, with_targets
from optr.desk_episodes.places_again import PATCH_HALF, NotFoundError, Pixels, PlacesAgain
from optr.errors import DesktopError
from optr.sentinel.desk_guard import RECOVERY

PATIENCE_S = 20.0
_NAME = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_KEYED = (a.Type, a.Key, a.KeyDown, a.KeyUp, a.Hotkey)
_ENDS = (a.Done, a.Fail, a.Ask)


@dataclass(frozen=True)
class Row:
    """One action as it was done again.

    Attributes:
        number: From 1.
        kind: Of the action.
        how: By what its place was found; empty: it has none.
        executed: Whether it was carried out.
        effect: What came of it.
        recorded: What came of it then.
        tries: How often it was done.
        seconds: With the wait for its place [s].
        refused: Code of the rule that refused it.
        text: Why it was not carried out.
    """

    number: int
    kind: str
    how: str = ""
    executed: bool = False
    effect: str = "none"
    recorded: str = ""
    tries: int = 1
    seconds: float = 0.0
    refused: str = ""
    text: str = ""


@dataclass(frozen=True)
class Course:
    """What is to be done again.

    Attributes:
        steps: In order.
        hidden: Names of texts in them that were hidden.
        patches: How places looked: by number of the step, and number of its place.
    """

    steps: tuple[DeskStep, ...]
    hidden: tuple[str, ...] = ()
    patches: Mapping[tuple[int, int], Pixels] = field(default_factory=dict)


def course_of(episode: DeskEpisode) -> Course:
    """What was carried out in an episode, without what was refused, was said about its end, or mended a condition."""
    done = [s for s in episode.steps if not s.refused and s.by != RECOVERY]
    steps = _without_repeats([s for s in done if not isinstance(s.action, _ENDS)])
    return Course(steps, episode.secrets, episode.patches(steps, PATCH_HALF))


class DeskReplay:
    """Does a course of steps again, on one desk, through its guard."""

    def __init__(
        self,
        desk: Desk,
        course: Course,
        *,
        values: Mapping[str, str] | None = None,
        swaps: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
        retries: int = 0,
        pixels: bool = False,
        told: Callable[[Row], object] = lambda _: None,
    ) -> None:
        """Take a course.

        Args:
            desk: Where it is done again.
            course: What was done.
            values: Texts that were hidden, by their names.
            swaps: Other texts for parts of texts, arguments and what is waited for.
            patience_s: How long a window or element may take to come [s].
            retries: How often an action is done again if what was waited for after it does not come; it is waited
                as long as in the episode then.
            pixels: Whether places of which only the pixel on the screen is known are used.
            told: Told each row.

        Raises:
            DesktopError: If a text is missing, or one is given that no step asks for.
        """
        self._desk = desk
        self._course = course
        self._values = dict(values or {})
        self._swaps = dict(swaps or {})
        self._places = PlacesAgain(desk, patience_s, pixels=pixels)
        self._patience_s = patience_s
        self._retries = retries
        self._told = told
        _check_names(course.hidden, self._values, course.steps)

    def run(self) -> list[Row]:
        """Do it all; ends at the first step that is not carried out."""
        rows: list[Row] = []
        before: a.DesktopAction | None = None
        for number, step in enumerate(self._course.steps):
            row, action = self._again(number, step, before)
            rows.append(row)
            self._told(row)
            if not row.executed:
                break
            before = None if isinstance(step.action, a.Wait | a.Launch) else action
        return rows

    def _again(self, number: int, step: DeskStep, before: a.DesktopAction | None) -> tuple[Row, a.DesktopAction | None]:
        began = time.monotonic()
        recorded = step.result.effect.value if step.result is not None else ""
        row = Row(number + 1, step.action.kind, recorded=recorded)
        try:
            action, how = self._made(number, step)
            result = self._desk.execute(action)
            tries = 1
            while isinstance(action, a.Wait) and not result.executed and before is not None and tries <= self._retries:
                self._desk.execute(before)
                result = self._desk.execute(action)
                tries += 1
        except DesktopError as err:
            return replace(row, text=str(err), seconds=round(time.monotonic() - began, 3)), None
        if result.executed and isinstance(action, a.Launch):
            self._launched(step, result)
        done = replace(
            row,
            how=how,
            executed=result.executed,
            effect=result.effect.value,
            tries=tries,
            seconds=round(time.monotonic() - began, 3),
            refused=result.refused,
            text=result.text,
        )
        return done, action

    def _made(self, number: int, step: DeskStep) -> tuple[a.DesktopAction, str]:
        """The action for the desktop of now, and by what its places were found."""
        action = self._worded(step)
        found = [
            self._places.find(anchor, self._course.patches.get((number, k))) for k, anchor in enumerate(step.anchors)
        ]
        action = with_targets(action, tuple(f.target for f in found))
        if isinstance(action, _KEYED) and not found and step.keyboard is not None:
            self._listens(step.keyboard)
            return action, "keyboard"
        if isinstance(action, a.Focus):
            return self._focus(action, step), "window"
        if isinstance(action, a.Wait):
            return self._wait(action, step), ""
        return action, ", ".join(dict.fromkeys(f.how for f in found))

    def _worded(self, step: DeskStep) -> a.DesktopAction:
        """An action with its texts: hidden ones filled in, others exchanged."""
        changed: dict[str, Any] = {}
        for name in (f.name for f in fields(step.action)):
            value = getattr(step.action, name)
            if name in ("text", "value", "key") and isinstance(value, str):
                changed[name] = self._text(value)
            elif name == "arguments":
                changed[name] = tuple(self._text(one) for one in value)
        return replace(step.action, **changed) if changed else step.action

    def _text(self, text: str) -> str:
        hidden = _NAME.fullmatch(text)
        if hidden and hidden[1] in self._course.hidden:
            return self._values[hidden[1]]
        for old, new in self._swaps.items():
            text = text.replace(old, new)
        return text

    def _listens(self, recorded: Window) -> None:
        """Wait until the window is there that got the keys, and see that it gets them again."""
        window = self._places.window(recorded)
        windows = self._desk.bridge.windows
        if windows.wait(lambda: windows.has_focus(window.id), min(1.0, self._patience_s)):
            return
        result = self._desk.execute(a.Focus(str(window.id)))
        if not result.executed:
            raise NotFoundError(f"{window.title!r} does not get the keyboard: {result.text}")

    def _focus(self, action: a.Focus, step: DeskStep) -> a.Focus:
        if step.keyboard is not None:
            return a.Focus(str(self._places.window(step.keyboard).id))
        return action

    def _wait(self, action: a.Wait, step: DeskStep) -> a.Wait:
        """As long as then, or longer; in the frame of the window of now."""
        if action.frame.startswith("window:"):
            if step.framed is None:
                raise NotFoundError(f"nothing is known of {action.frame}, in which it was waited")
            action = replace(action, frame=f"window:{self._places.window(step.framed).id}")
        if action.until == "time" or self._retries:
            return action
        return replace(action, timeout_s=max(action.timeout_s, self._patience_s))

    def _launched(self, step: DeskStep, result: a.ActionResult) -> None:
        with suppress(ValueError):
            if step.result is not None:
                self._places.windows.learn(int(step.result.answer), int(result.answer))


def _without_repeats(steps: Sequence[DeskStep]) -> tuple[DeskStep, ...]:
    """Without what was not carried out, and what was done again since a wait for it had not come true."""
    kept: list[DeskStep] = []
    failed = False
    for step in steps:
        if isinstance(step.action, a.Wait) and not step.done:
            failed = True
        elif not (failed and kept and step.done and step.action == kept[-1].action):
            failed = False
            kept += [step] if step.done else []
    return tuple(kept)


def _check_names(known: Sequence[str], given: Mapping[str, str], steps: Sequence[DeskStep]) -> None:
    asked = {
        m[1] for s in steps for f in fields(s.action) for m in _names_in(getattr(s.action, f.name)) if m[1] in known
    }
    missing = sorted(asked - set(given))
    if missing:
        ways = f"--set {missing[0]}=TEXT or --secret {missing[0]}=VARIABLE"
        raise DesktopError(f"texts that were hidden are missing: {', '.join(missing)}; give each, as by {ways}")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise DesktopError(f"no hidden text {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")


def _names_in(value: Any) -> list[re.Match[str]]:
    texts = value if isinstance(value, tuple) else (value,)
    return [m for t in texts if isinstance(t, str) for m in _NAME.finditer(t)]
