"""An operator of desktops without a plan: the baseline, and the hardest customer of the guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import UNTIL
from optr.connectors.desktop.seen import Window
from optr.errors import OperatorError
from optr.operators.desk.contract import WINDOWS, DeskOperator
from optr.spec import Source

_ENDS = ("done", "fail", "ask")
"""Kinds that would end an episode by chance, or trouble a person."""

_KEYS = (*"abcdefghijklmnopqrstuvwxyz0123456789.,;/-=", "enter", "tab", "escape", "backspace", "delete", "space", "up",
         "down", "left", "right", "home", "end", "pageup", "pagedown", "f1", "f5", "f10")  # fmt: skip
_TEXTS = ("a", "42", "hello world", "Grüße", "x < y", "two\nlines", "世界")
_LONGEST_S = 0.05
"""Of waits and drags [s]: chance needs no patience."""


class Random(DeskOperator):
    """Draws every action by chance: the kind evenly, then its places, keys and texts; same seed, same actions.

    Of the places, half lie in a window that is seen. Whatever needs a name takes that of a window.
    """

    category = "random"
    source = Source.SCRIPT
    observation_keys: ClassVar[tuple[str, ...]] = (WINDOWS,)

    def __init__(self, kinds: Sequence[str] = (), programs: Sequence[str] = (), id: str = "", name: str = "") -> None:
        """Prepare.

        Args:
            kinds: Of actions; empty: all but done, fail and ask.
            programs: Names for `launch`; empty: nothing is launched.
            id: As in `Decider`.
            name: As in `Decider`.

        Raises:
            OperatorError: If there is no such kind.
        """
        super().__init__(id, name)
        unknown = [k for k in kinds if k not in a.ACTIONS]
        if unknown:
            raise OperatorError(f"no kind {', '.join(map(str, unknown))}; there are: {', '.join(a.ACTIONS)}")
        self._programs = tuple(programs)
        known = [k for k in a.ACTIONS if k not in _ENDS and (k != "launch" or self._programs)]
        self._kinds = tuple(kinds) or tuple(known)

    def select_action(self, observation: Mapping[str, Any], info: Mapping[str, Any]) -> a.DesktopAction | None:
        if WINDOWS not in observation:
            raise OperatorError(f"the observation lacks {WINDOWS}")
        windows = [w for w in observation[WINDOWS] if w.visible]
        return self._make[self._one(self._kinds)](self, windows)

    def _one(self, of: Sequence[Any]) -> Any:
        return of[int(self.rng.integers(len(of)))]

    def _place(self, windows: Sequence[Window]) -> a.Point:
        frame = f"window:{self._one(windows).id}" if windows and self.rng.random() < 0.5 else a.SCREEN
        return a.Point(float(self.rng.random()), float(self.rng.random()), frame)

    def _here(self, windows: Sequence[Window]) -> a.Point | None:
        return self._place(windows) if self.rng.random() < 0.8 else None

    def _modifiers(self) -> tuple[str, ...]:
        return (self._one(a.MODIFIERS),) if self.rng.random() < 0.2 else ()

    def _named(self, windows: Sequence[Window]) -> str:
        """A name that windows have, as `Focus` and selectors take it."""
        names = [n for w in windows for n in (str(w.id), w.title[:40], w.wm_class[0]) if n.isprintable() and n.strip()]
        return str(self._one(names)) if names else "nothing"

    def _selector(self, windows: Sequence[Window]) -> a.Selector:
        return a.Selector(self._one(("role=button", "role=textbox", f"text={self._named(windows)}")))

    def _notches(self) -> tuple[int, int]:
        dx, dy = (int(v) for v in self.rng.integers(-5, 6, size=2))
        return (dx, dy) if dx or dy else (0, 1)

    _make: Mapping[str, Callable[[Random, Sequence[Window]], a.DesktopAction]] = {
        "move": lambda o, w: a.Move(o._place(w)),
        "click": lambda o, w: a.Click(o._here(w), o._one(a.BUTTONS), int(o.rng.integers(1, 4)), o._modifiers()),
        "press": lambda o, w: a.Press(o._here(w), o._one(a.BUTTONS)),
        "release": lambda o, w: a.Release(o._here(w), o._one(a.BUTTONS)),
        "drag": lambda o, w: a.Drag((o._place(w), o._place(w)), o._one(a.BUTTONS), o._modifiers(), _LONGEST_S),
        "scroll": lambda o, w: a.Scroll(o._here(w), *o._notches()),
        "type": lambda o, w: a.Type(o._one(_TEXTS), o._here(w)),
        "key": lambda o, w: a.Key(o._one(_KEYS), int(o.rng.integers(1, 4))),
        "key_down": lambda o, w: a.KeyDown(o._one((*_KEYS, *a.MODIFIERS))),
        "key_up": lambda o, w: a.KeyUp(o._one((*_KEYS, *a.MODIFIERS))),
        "hotkey": lambda o, w: a.Hotkey((o._one(a.MODIFIERS), o._one(_KEYS))),
        "wait": lambda o, w: a.Wait(o._one(UNTIL), o._named(w), _LONGEST_S, _LONGEST_S),
        "invoke": lambda o, w: a.Invoke(o._selector(w)),
        "set_value": lambda o, w: a.SetValue(o._selector(w), o._one(_TEXTS)),
        "focus": lambda o, w: a.Focus(o._named(w)),
        "launch": lambda o, w: a.Launch(o._one(o._programs)),
        "done": lambda o, w: a.Done(),
        "fail": lambda o, w: a.Fail("by chance"),
        "ask": lambda o, w: a.Ask("Shall I?", _LONGEST_S),
    }
