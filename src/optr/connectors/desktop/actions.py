"""What can be done on a desktop: one typed set, and what came of it. No X, no clock: values that travel.

Places are normalised: (0, 0) is the upper left corner of a frame, (1, 1) its lower right one. A frame is the whole
screen, one monitor, or one window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, get_args

SCREEN = "screen"
"""The frame of all monitors together. Others: `monitor:NAME`, `window:ID`."""

BUTTONS = ("left", "middle", "right", "back", "forward")
MODIFIERS = ("ctrl", "shift", "alt", "super")


class ActionClass(str, Enum):
    """How far an action reaches; the guard of a desktop is set by it."""

    READ_ONLY = "read_only"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"


@dataclass(frozen=True)
class Point:
    """A place.

    Attributes:
        x: From left to right, 0 to 1.
        y: From top to bottom, 0 to 1.
        frame: What it refers to: `screen`, `monitor:NAME` or `window:ID`.
        seen: Width and height of the picture that it was decided on [px]; None: it was no picture.
    """

    x: float
    y: float
    frame: str = SCREEN
    seen: tuple[int, int] | None = None


@dataclass(frozen=True)
class Selector:
    """A place by what is there: `role=button[name="Save"]`, `text=Login`, `image=save.png`, `#username` (CSS).

    Attributes:
        text: As people write it; `optr.connectors.desktop.selectors.parse_selector` knows the grammar.
        within: Id of the window in which it has to be; None: any.
    """

    text: str
    within: int | None = None


Target = Point | Selector


@dataclass(frozen=True)
class Move:
    """Bring the pointer to a place."""

    kind: ClassVar[str] = "move"
    to: Target


@dataclass(frozen=True)
class Click:
    """Press and release a button, `count` times; where the pointer is, if no place is given."""

    kind: ClassVar[str] = "click"
    at: Target | None = None
    button: str = "left"
    count: int = 1
    modifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Press:
    """Press a button and keep it down; it is released at the latest when the bridge ends, is cancelled or fails."""

    kind: ClassVar[str] = "press"
    at: Target | None = None
    button: str = "left"


@dataclass(frozen=True)
class Release:
    """Release a button."""

    kind: ClassVar[str] = "release"
    at: Target | None = None
    button: str = "left"


@dataclass(frozen=True)
class Drag:
    """Press at the first place, move along the others, release at the last."""

    kind: ClassVar[str] = "drag"
    path: tuple[Target, ...]
    button: str = "left"
    modifiers: tuple[str, ...] = ()
    seconds: float = 0.4


@dataclass(frozen=True)
class Scroll:
    """Turn the wheel: `dy` notches down (negative: up), `dx` to the right (negative: left)."""

    kind: ClassVar[str] = "scroll"
    at: Target | None = None
    dx: int = 0
    dy: int = 0


@dataclass(frozen=True)
class Type:
    """Type a text, any Unicode; into a place that is clicked and has to get the focus before, if one is given."""

    kind: ClassVar[str] = "type"
    text: str
    into: Target | None = None


@dataclass(frozen=True)
class Key:
    """Press and release one key, `count` times. Names as in `optr.connectors.desktop.keys`."""

    kind: ClassVar[str] = "key"
    key: str
    count: int = 1


@dataclass(frozen=True)
class KeyDown:
    """Press a key and keep it down; released as a button of `Press` is."""

    kind: ClassVar[str] = "key_down"
    key: str


@dataclass(frozen=True)
class KeyUp:
    """Release a key."""

    kind: ClassVar[str] = "key_up"
    key: str


@dataclass(frozen=True)
class Hotkey:
    """Press keys one after the other, and release them in the opposite order."""

    kind: ClassVar[str] = "hotkey"
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """Wait until something is so, or the time is over.

    Attributes:
        until: `still` (no pixel of the frame has changed for `still_s`), `window` (one whose title or class holds
            `value`), `element` (the selector `value` is there), `text` (it is read anywhere), `gone` (the selector is
            not there any more), `time` (the whole of `timeout_s`).
        value: What is waited for.
        timeout_s: Longest time [s].
        still_s: Of `still` [s].
        frame: Of `still` and `text`.
    """

    kind: ClassVar[str] = "wait"
    until: str
    value: str = ""
    timeout_s: float = 5.0
    still_s: float = 0.2
    frame: str = SCREEN


@dataclass(frozen=True)
class Invoke:
    """Do what an element offers (accessibility), without pointer and keys: `action` by its name, else the first."""

    kind: ClassVar[str] = "invoke"
    element: Selector
    action: str = ""


@dataclass(frozen=True)
class SetValue:
    """Put a text or a number into an element (accessibility), without pointer and keys."""

    kind: ClassVar[str] = "set_value"
    element: Selector
    value: str


@dataclass(frozen=True)
class Focus:
    """Bring a window to the front and give it the keyboard: its id, or a part of its title or class."""

    kind: ClassVar[str] = "focus"
    window: str


@dataclass(frozen=True)
class Launch:
    """Start a program by the name that the desk's settings give it; no shell, no other commands.

    Attributes:
        program: Name in the settings.
        arguments: As they allow them.
    """

    kind: ClassVar[str] = "launch"
    program: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """The task is done, says whoever decides; `answer` if one was asked for."""

    kind: ClassVar[str] = "done"
    answer: str = ""


@dataclass(frozen=True)
class Fail:
    """The task cannot be done, says whoever decides."""

    kind: ClassVar[str] = "fail"
    reason: str = ""


@dataclass(frozen=True)
class Ask:
    """A question for a person; nothing goes on before it is answered or the time is over."""

    kind: ClassVar[str] = "ask"
    question: str
    timeout_s: float = 60.0


DesktopAction = (
    Move | Click | Press | Release | Drag | Scroll | Type | Key | KeyDown | KeyUp | Hotkey | Wait | Invoke | SetValue
    | Focus | Launch | Done | Fail | Ask
)  # fmt: skip

ACTIONS: Mapping[str, type[Any]] = {c.kind: c for c in get_args(DesktopAction)}
"""Every action by its kind."""


class Effect(str, Enum):
    """What came of an action, as far as it was seen."""

    CONFIRMED = "confirmed"
    """Something changed where it was to be expected, or accessibility says so."""
    UNVERIFIABLE = "unverifiable"
    """Nothing that can be seen had to change: a pointer that was moved, a clipboard."""
    SUSPECTED_NO_OP = "suspected_no_op"
    """Nothing changed, where something should have."""
    NONE = "none"
    """It was not carried out."""


@dataclass(frozen=True)
class Rect:
    """A rectangle on the screen [px]."""

    x: int
    y: int
    width: int
    height: int

    def holds(self, x: float, y: float) -> bool:
        """Whether a pixel lies in it."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height

    @property
    def centre(self) -> tuple[int, int]:
        """The pixel in its middle."""
        return self.x + self.width // 2, self.y + self.height // 2


@dataclass(frozen=True)
class ActionResult:
    """What came of an action.

    Attributes:
        executed: Whether it was carried out whole.
        effect: What was seen of it.
        changed: Where pixels changed; None: nowhere, or nobody looked.
        began_ns: When the first input was given, or the wait began [ns of the steady clock]; 0: it never was.
        ended_ns: When it was over, and what it led to had settled [ns].
        input_ns: When the last input was given [ns]; 0: there was none.
        at: Pixel that it was aimed at, on the whole screen; None: none.
        refused: Code of the rule that refused it; empty: none did.
        text: What went wrong, or what people should know; empty: nothing.
        answer: Of `Ask`, `Wait` (what was found) and `Done`.
    """

    executed: bool
    effect: Effect = Effect.NONE
    changed: Rect | None = None
    began_ns: int = 0
    ended_ns: int = 0
    input_ns: int = 0
    at: tuple[int, int] | None = None
    refused: str = ""
    text: str = ""
    answer: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latency_s(self) -> float:
        """From the first input to the end of what it led to [s]."""
        return (self.ended_ns - self.began_ns) * 1e-9 if self.began_ns else 0.0
