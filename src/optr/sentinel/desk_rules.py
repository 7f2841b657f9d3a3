"""What may not be done on a desktop: small, named checks with settings, like those of an arm.

Each is asked about what an action comes down to (`Doing`) on the desktop as it is seen (`DeskView`), and answers with a
finding or None. The first finding decides. A rule remembers nothing; what has to be remembered is handed to it.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import ClassVar

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.chords import chord, key_name, spelled
from optr.connectors.desktop.seen import Window
from optr.connectors.desktop.view import DeskView, Pixel
from optr.errors import DesktopError
from optr.secret import Secret
from optr.sentinel.codes import Code
from optr.sentinel.desk_doing import Doing, Touch
from optr.sentinel.rule import Finding, setting

_CHOICES = ("allow", "refuse")


@dataclass(frozen=True)
class WindowPattern:
    """Some windows: by class or instance, and by title; `*` stands for anything, case does not count.

    Programs choose their titles, and a page in a browser chooses the title of the browser: allow by class.
    """

    wm_class: str = "*"
    title: str = "*"

    def fits(self, window: Window) -> bool:
        """Whether a window is one of them."""
        return any(like(name, self.wm_class) for name in window.wm_class) and like(window.title, self.title)


@dataclass(frozen=True)
class Region:
    """A rectangle in which nothing, or nothing else, may be done: shares of the screen, of a monitor, or of windows.

    Raises:
        ValueError: If it is empty, or outside of 0 to 1.
    """

    name: str
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (1.0, 1.0)
    monitor: str = ""
    wm_class: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        if not all(0.0 <= a < b <= 1.0 for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"region {self.name!r} is empty, or not within 0 to 1: {self.low} to {self.high}")
        if self.monitor and (self.wm_class or self.title):
            raise ValueError(f"region {self.name!r} is of a monitor and of windows; expected one of them")

    def frames(self, view: DeskView) -> list[Rect]:
        """What its shares refer to.

        Raises:
            DesktopError: If its monitor is not there.
        """
        if self.wm_class or self.title:
            pattern = WindowPattern(self.wm_class or "*", self.title or "*")
            return [w.rect for w in view.windows if w.visible and pattern.fits(w)]
        return [view.frame(f"monitor:{self.monitor}" if self.monitor else a.SCREEN)]

    def holds(self, pixel: Pixel, view: DeskView) -> bool:
        """Whether any part of a pixel lies in it.

        Raises:
            DesktopError: If its monitor is not there.
        """
        return any(self._holds(pixel, frame) for frame in self.frames(view))

    def _holds(self, pixel: Pixel, frame: Rect) -> bool:
        across = _overlaps(pixel[0] - frame.x, frame.width, self.low[0], self.high[0])
        return across and _overlaps(pixel[1] - frame.y, frame.height, self.low[1], self.high[1])


@dataclass(frozen=True)
class Asked:
    """What a rule is asked about.

    Attributes:
        doing: What the action comes down to.
        view: The desktop.
        secrets: Texts that may get nowhere.
        typed_before: The end of what was typed before.
    """

    doing: Doing
    view: DeskView
    secrets: Sequence[Secret] = ()
    typed_before: str = ""


class DeskRule(ABC):
    """A named check of one action. A dataclass whose fields, made by `setting`, the configuration may set."""

    name: ClassVar[str]
    code: ClassVar[Code]

    def __post_init__(self) -> None:  # noqa: B027  # most settings cannot be wrong
        """See that the settings are sound.

        Raises:
            ValueError: If they are not.
        """

    @abstractmethod
    def check(self, at: Asked) -> Finding | None:
        """The reason against the action, or None."""

    def found(self, text: str, subject: str = "") -> Finding:
        """A finding of its code."""
        return Finding(self.code, text, subject)


@dataclass(frozen=True)
class WindowsRule(DeskRule):
    """Which windows may be reached: by the pointer, the keyboard or accessibility, or be brought to the front."""

    name: ClassVar[str] = "windows"
    code: ClassVar[Code] = Code.WINDOW_FORBIDDEN

    allow: tuple[WindowPattern, ...] = setting((), "windows that may be reached; none named: none")
    forbid: tuple[WindowPattern, ...] = setting((), "windows that may not, although they are allowed above")
    root: str = setting("refuse", "what is done about places where no window lies: allow or refuse")
    frames: str = setting("refuse", "what is done about title bars and borders: allow or refuse")

    def __post_init__(self) -> None:
        for name in ("root", "frames"):
            if getattr(self, name) not in _CHOICES:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected allow or refuse")

    def check(self, at: Asked) -> Finding | None:
        """A window that may not be reached."""
        for window in at.doing.reached:
            if (found := self.about(window)) is not None:
                return found
        for touch in at.doing.touches:
            if self.frames == "refuse" and touch.on_frame and touch.window is not None:
                return self.found(f"pixel {touch.pixel} is on the frame of {_called(touch.window)}")
        return None

    def about(self, window: Window | None) -> Finding | None:
        """What speaks against one window; None is the root window."""
        if window is None:
            return None if self.root == "allow" else self.found("no window lies there")
        if any(p.fits(window) for p in self.forbid):
            return self.found(f"{_called(window)} is forbidden", window.title)
        if not any(p.fits(window) for p in self.allow):
            return self.found(f"{_called(window)} is not allowed", window.title)
        return None


@dataclass(frozen=True)
class RegionsRule(DeskRule):
    """Where on the screen the pointer may act."""

    name: ClassVar[str] = "regions"
    code: ClassVar[Code] = Code.REGION_FORBIDDEN

    allow: tuple[Region, ...] = setting((), "regions to keep to; none named: everywhere")
    forbid: tuple[Region, ...] = setting((), "regions to keep out of")
    corners: int = setting(
        1, "distance from the corners of the screen, where the pointer stops everything", unit="px", low=0, high=100
    )

    def check(self, at: Asked) -> Finding | None:
        """A place that may not be acted on."""
        way = at.doing.way if self.allow or self.forbid else ()
        for touch in (*at.doing.touches, *way):
            try:
                found = self._about(_pixel(touch), at.view)
            except DesktopError as err:
                found = self.found(f"a region cannot be found: {err}")
            if found is not None:
                return found
        return None

    def _about(self, pixel: Pixel | None, view: DeskView) -> Finding | None:
        if pixel is None:
            return (
                self.found("it acts on something that is nowhere, and not everywhere is allowed")
                if self.allow
                else None
            )
        if self._in_corner(pixel, view.screen):
            return self.found(f"pixel {pixel} is in a corner of the screen, where the pointer stops everything")
        for region in self.forbid:
            if region.holds(pixel, view):
                return self.found(f"pixel {pixel} is in region {region.name!r}", region.name)
        if self.allow and not any(r.holds(pixel, view) for r in self.allow):
            return self.found(f"pixel {pixel} is in none of: {', '.join(r.name for r in self.allow)}")
        return None

    def _in_corner(self, pixel: Pixel, screen: Rect) -> bool:
        across, down = pixel[0] - screen.x, pixel[1] - screen.y
        near_side = min(across, screen.width - 1 - across) < self.corners
        return near_side and min(down, screen.height - 1 - down) < self.corners


@dataclass(frozen=True)
class KeysRule(DeskRule):
    """Which keys may be down together, whether by a hotkey, one after the other, or for a character of a text."""

    name: ClassVar[str] = "keys"
    code: ClassVar[Code] = Code.KEY_FORBIDDEN

    forbid: tuple[str, ...] = setting((), "chords such as `ctrl+alt+delete`; more keys beside them change nothing")

    def __post_init__(self) -> None:
        assert self._forbidden is not None

    @cached_property
    def _forbidden(self) -> list[frozenset[str]]:
        return [_read_chord(text) for text in self.forbid]

    def check(self, at: Asked) -> Finding | None:
        """Keys that may not be down together."""
        for down in at.doing.chords:
            for forbidden in self._forbidden:
                if forbidden <= down:
                    return self.found(f"{spelled(down)} holds {spelled(forbidden)}, which is forbidden", spelled(down))
        return None


@dataclass(frozen=True)
class TextRule(DeskRule):
    """How long a text may be, and what it may not hold."""

    name: ClassVar[str] = "text"
    code: ClassVar[Code] = Code.TEXT_FORBIDDEN

    most: int = setting(5000, "longest text", unit="characters", low=0, high=20_000)
    forbid: tuple[str, ...] = setting((), "patterns (regular expressions, found anywhere) that no text may hold")

    def __post_init__(self) -> None:
        assert self._patterns is not None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return _compiled(self.forbid)

    def check(self, at: Asked) -> Finding | None:
        """A text that is too long, or holds what none may."""
        if len(at.doing.typed) > self.most:
            return self.found(f"a text of {len(at.doing.typed)} characters, at most {self.most}")
        for pattern in self._patterns:
            if any(pattern.search(text) for text in _texts_with_past(at)):
                return self.found(f"a text holds {pattern.pattern!r}, which is forbidden")
        return None


@dataclass(frozen=True)
class SecretsRule(DeskRule):
    """That no key of anybody's is typed, told or handed to a program; also not in parts, one after the other."""

    name: ClassVar[str] = "secrets"
    code: ClassVar[Code] = Code.SECRET_FORBIDDEN

    patterns: tuple[str, ...] = setting((), "what keys look like (regular expressions, found anywhere)")
    into: tuple[WindowPattern, ...] = setting((), "windows into which the given secrets may be typed; none named: none")

    def __post_init__(self) -> None:
        assert self._patterns is not None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return _compiled(self.patterns)

    def looks(self, text: str) -> bool:
        """Whether a text looks as if it held a key."""
        return any(p.search(text) for p in self._patterns)

    def check(self, at: Asked) -> Finding | None:
        """A text that holds a key, never with the key in the words."""
        texts = _texts_with_past(at)
        if any(self.looks(text) for text in texts):
            return self.found("a text looks as if it held a key")
        window = at.doing.keyboard
        if window is not None and any(p.fits(window) for p in self.into):
            texts = [t for t in at.doing.texts if t != at.doing.typed]
        if any(secret.redact(text) != text for secret in at.secrets for text in texts):
            return self.found("a text holds a key that was given to be kept")
        return None


@dataclass(frozen=True)
class TerminalsRule(DeskRule):
    """What may be given to a terminal: text without what a shell would act on, a few keys, plain left clicks."""

    name: ClassVar[str] = "terminals"
    code: ClassVar[Code] = Code.TERMINAL_FORBIDDEN

    windows: tuple[WindowPattern, ...] = setting((), "windows that are terminals")
    metacharacters: str = setting("", "characters that no text for a terminal may hold")
    newlines: str = setting("refuse", "what is done about the end of a line, and so about running a command")
    keys: tuple[str, ...] = setting((), "keys and chords that a terminal may get, beside text")

    def __post_init__(self) -> None:
        if self.newlines not in _CHOICES:
            raise ValueError(f"newlines is {self.newlines!r}, expected allow or refuse")
        assert self._keys is not None

    @cached_property
    def _keys(self) -> set[frozenset[str]]:
        more = {frozenset({"enter"})} if self.newlines == "allow" else set()
        return {_read_chord(text) for text in self.keys} | more

    def check(self, at: Asked) -> Finding | None:
        """What a shell would act on, or a way around the text: a key, a paste, a drop."""
        doing, said = at.doing, None
        if doing.needs_keyboard and self._is_terminal(doing.keyboard):
            by_text = isinstance(doing.action, a.Type | a.SetValue)
            said = self._about_text(doing.typed) if by_text else self._about_keys(doing)
        if said is None and any(self._is_terminal(t.window) for t in doing.touches):
            said = self._about_pointer(doing)
        return None if said is None else self.found(said)

    def _is_terminal(self, window: Window | None) -> bool:
        return window is not None and any(p.fits(window) for p in self.windows)

    def _about_text(self, text: str) -> str | None:
        plain = unicodedata.normalize("NFKC", text)
        held = sorted({c for c in text + plain if c in self.metacharacters})
        if held:
            return f"a text for a terminal holds {' '.join(held)}"
        if self.newlines == "refuse" and any(c in "\n\r\x0b\x0c\x85\u2028\u2029" for c in text):
            return "a text for a terminal ends a line, which runs what stands in it"
        if any(unicodedata.category(c).startswith("C") and c not in "\n" for c in text):
            return "a text for a terminal holds what is no character to be shown, such as a tab"
        return None

    def _about_keys(self, doing: Doing) -> str | None:
        for down in doing.chords:
            if down not in self._keys:
                return f"a terminal gets {spelled(down)}; expected text, or one of: {', '.join(self.keys) or 'none'}"
        return None

    def _about_pointer(self, doing: Doing) -> str | None:
        if isinstance(doing.action, a.Invoke):
            return "something in a terminal is invoked"
        pointed = any(t.pixel is not None and self._is_terminal(t.window) for t in doing.touches)
        if pointed and doing.after.buttons and not isinstance(doing.action, a.Press | a.Release):
            # Whoever it was pressed on may be gone: then the terminal hears of its release, wherever it is, and pastes.
            return f"the {', '.join(sorted(doing.after.buttons))} button is down while the pointer is on a terminal"
        if isinstance(doing.action, a.Drag) and not all(self._is_terminal(w) for w in doing.reached):
            return "something is dragged into a terminal, or out of it"
        if isinstance(doing.action, a.Press | a.Release):
            return "a button is pressed or released alone over a terminal, which may drop or paste; expected a click"
        if isinstance(doing.action, a.Click | a.Drag) and doing.chords[0] != {"click-left"}:
            return f"a terminal gets {spelled(doing.chords[0])}, which may paste; expected a plain left click"
        return None


@dataclass(frozen=True)
class Program:
    """A program that may be launched.

    Attributes:
        name: By which actions call it.
        command: What is run, without a shell.
        arguments: What arguments may look like (`*` stands for anything, but for a `-` at the beginning).
        reach: Class of launching it.
    """

    name: str
    command: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    reach: str = "reversible"

    def __post_init__(self) -> None:
        if not self.name or not self.command or not all(self.command):
            raise ValueError(f"program {self.name!r} needs a name and a command")
        if self.reach not in [c.value for c in a.ActionClass]:
            raise ValueError(f"{self.reach!r} is not one of: {', '.join(c.value for c in a.ActionClass)}")


@dataclass(frozen=True)
class ProgramsRule(DeskRule):
    """Which programs may be launched, and with which arguments."""

    name: ClassVar[str] = "programs"
    code: ClassVar[Code] = Code.PROGRAM_FORBIDDEN

    allow: tuple[Program, ...] = setting((), "programs that may be launched; none named: none")

    def check(self, at: Asked) -> Finding | None:
        """A program or an argument that is not allowed."""
        action = at.doing.action
        if not isinstance(action, a.Launch):
            return None
        program = self.named(action.program)
        if program is None:
            return self.found(
                f"no program {action.program!r}; there are: {', '.join(p.name for p in self.allow) or 'none'}"
            )
        for argument in action.arguments:
            if not any(_argument_like(argument, p) for p in program.arguments):
                listed = ", ".join(program.arguments) or "none"
                return self.found(f"{program.name} may not get {argument!r}; expected {listed}", program.name)
        return None

    def named(self, name: str) -> Program | None:
        """The program of a name."""
        return next((p for p in self.allow if p.name == name), None)


# -- helpers -----------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def like(text: str, pattern: str) -> bool:
    """Whether a text is as a pattern in which `*` stands for anything; case does not count."""
    return fnmatchcase(_plain(text), _plain(pattern))


def _argument_like(argument: str, pattern: str) -> bool:
    return fnmatchcase(argument, pattern) and (pattern[:1] == "-" or not argument.startswith("-"))


def _overlaps(offset: int, length: int, low: float, high: float) -> bool:
    """Whether pixel `offset` of `length` reaches into the share from `low` to `high`."""
    return offset < high * length and offset + 1 > low * length and 0 <= offset < length


def _pixel(touch: Touch) -> Pixel | None:
    """Where something is done; without the pointer, the middle of what it is done to."""
    if touch.pixel is not None or touch.element is None or touch.element.rect is None:
        return touch.pixel
    return touch.element.rect.centre


def _texts_with_past(at: Asked) -> list[str]:
    """Every text of an action; what is typed together with what was typed before, as it will stand there."""
    return [*at.doing.texts, at.typed_before + at.doing.typed] if at.doing.typed else list(at.doing.texts)


def _called(window: Window) -> str:
    return f"window {window.title!r} of {window.wm_class[0] or 'no class'}"


def _read_chord(text: str) -> frozenset[str]:
    """A chord of the settings; buttons are `click-left` and so on.

    Raises:
        ValueError: If a key in it is none.
    """
    try:
        buttons = {f"click-{b}" for b in a.BUTTONS} | {"scroll"}
        if text.rpartition("+")[2] not in buttons:
            return chord(text)
        *keys, button = text.split("+")
        return frozenset({button, *(key_name(k) for k in keys)})
    except DesktopError as err:
        raise ValueError(str(err)) from err


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    out = []
    for pattern in patterns:
        try:
            out.append(re.compile(pattern))
        except re.error as err:
            raise ValueError(f"{pattern!r} is no pattern: {err}") from err
    return out


DESK_RULES: tuple[type[DeskRule], ...] = (
    WindowsRule,
    RegionsRule,
    KeysRule,
    TextRule,
    TerminalsRule,
    SecretsRule,
    ProgramsRule,
)
"""In the order in which they are asked."""
