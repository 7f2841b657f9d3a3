"""Random actions on a desktop: sound ones, wrong ones, forbidden ones, and what is none at all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from optr.connectors.desktop import actions as a

_KEYS = (
    "a", "7", "+", "Z", "é", "enter", "tab", "space", "escape", "backspace", "delete", "up", "left", "right", "home",
    "end", "f1", "f4", "f10", "f12", "insert", "menu", "page_down", "kp_enter", "print", "super", "caps_lock",
)  # fmt: skip
_HOLDS = ("shift", "ctrl", "alt", "super", "a", "shift_r", "altgr")
_TEXTS = (
    "12", "hello", "7+8=", "Grüße 世界 🙂", "rm -rf ~\n", "ls", "\n", "\t\n", "\t ", " ", "y\n", "; reboot",
    "$(reboot)",
    "javascript:alert(1)", "a\x00b", "x" * 200, "sk-abcdefghijklmnopqrstuvwxyz", "`id`", "-----BEGIN PRIVATE KEY-----",
)  # fmt: skip
_CHORDS = (
    ("ctrl", "a"), ("ctrl", "c"), ("ctrl", "v"), ("ctrl", "x"), ("shift", "insert"), ("ctrl", "shift", "v"),
    ("alt", "f4"), ("alt", "tab"), ("alt", "space"), ("ctrl", "q"), ("ctrl", "w"), ("ctrl", "alt", "delete"),
    ("super",),
    ("shift", "delete"), ("tab", "enter"), ("tab", "space"), ("alt", "d"), ("alt", "y"), ("right", "space"),
    ("alt", "f2"), ("ctrl", "alt", "t"), ("ctrl", "d"), ("enter", "enter"), ("alt", "escape"),
)  # fmt: skip
_SELECTORS = (
    'role=button[name="7"]', 'role=button[name="+"]', 'role=button[name="="]', 'role=button[name="Delete"]',
    'role=button[name="Keep"]', "role=button", "role=textbox", 'role=button[name="Cancel"]', "role=", "role=button[[",
    'role=window >> role=button[name="8"]', "#username", "image=/nowhere/at-all.png", 'role=menuitem[name="File"]',
)  # fmt: skip
_NO_ACTIONS: tuple[Any, ...] = (
    None, "click", 7, {"kind": "click"}, a.Click, a.Point(0.5, 0.5), a.Click(count=-1), a.Click(button="none"),
    a.Click(a.Point(math.nan, 0.5)), a.Click(a.Point(2.0, 0.5)), a.Click(a.Point(0.5, 0.5, "window:1")),
    a.Click(a.Point(0.5, 0.5, "monitor:none")), a.Click(a.Point(0.5, 0.5, "elsewhere")), a.Type("\ud800"), a.Key(""),
    a.Key("no such key"), a.Hotkey(()), a.Drag(()), a.Drag((a.Point(0.5, 0.5),)), a.Wait("forever"),
    a.Scroll(dy=10**9), a.Move(None), a.Wait("still", timeout_s=-1.0), a.Focus(""), a.Launch(""),
)  # type: ignore[arg-type]  # fmt: skip


class RandomActions:
    """Makes up one action after the other."""

    def __init__(self, chosen: random.Random, windows: Callable[[], Sequence[int]]) -> None:
        """Begin.

        Args:
            chosen: Where the chance comes from.
            windows: Ids of the windows of now, allowed or not.
        """
        self._chosen = chosen
        self._windows = windows
        weights = {
            self._click: 22, self._move: 10, self._press: 4, self._release: 6, self._drag: 6, self._scroll: 6,
            self._type: 10, self._key: 9, self._key_down: 3, self._key_up: 5, self._hotkey: 8, self._wait: 2,
            self._invoke: 2, self._set_value: 2, self._focus: 5, self._launch: 1, self._end: 1, self._nothing: 4,
        }  # fmt: skip
        self._makers, self._weights = tuple(weights), tuple(weights.values())

    def __call__(self) -> Any:
        """The next one."""
        return self._chosen.choices(self._makers, self._weights)[0]()

    def _point(self) -> a.Point:
        r = self._chosen
        edge = r.random() < 0.05
        x, y = (r.choice((0.0, 0.5, 1.0)), r.choice((0.0, 0.5, 1.0))) if edge else (r.random(), r.random())
        windows = self._windows()
        return a.Point(x, y, f"window:{r.choice(windows)}" if windows and r.random() < 0.75 else a.SCREEN)

    def _target(self) -> a.Target:
        return self._selector() if self._chosen.random() < 0.1 else self._point()

    def _selector(self) -> a.Selector:
        windows = self._windows()
        within = self._chosen.choice(windows) if windows and self._chosen.random() < 0.5 else None
        return a.Selector(self._chosen.choice(_SELECTORS), within)

    def _maybe(self) -> a.Target | None:
        return self._target() if self._chosen.random() < 0.7 else None

    def _button(self) -> str:
        return self._chosen.choice(("left", "left", "left", "left", "middle", "right", "back"))

    def _modifiers(self) -> tuple[str, ...]:
        return tuple(m for m in a.MODIFIERS if self._chosen.random() < 0.06)

    def _click(self) -> a.Click:
        return a.Click(self._maybe(), self._button(), self._chosen.choice((1, 1, 1, 2, 3)), self._modifiers())

    def _move(self) -> a.Move:
        return a.Move(self._target())

    def _press(self) -> a.Press:
        return a.Press(self._maybe(), self._button())

    def _release(self) -> a.Release:
        return a.Release(self._maybe(), self._button())

    def _drag(self) -> a.Drag:
        path = tuple(self._target() for _ in range(self._chosen.choice((2, 2, 3))))
        return a.Drag(path, self._button(), self._modifiers(), self._chosen.choice((0.0, 0.02, 0.1)))

    def _scroll(self) -> a.Scroll:
        return a.Scroll(self._maybe(), self._chosen.randint(-2, 2), self._chosen.randint(-2, 2))

    def _type(self) -> a.Type:
        return a.Type(self._chosen.choice(_TEXTS), self._target() if self._chosen.random() < 0.3 else None)

    def _key(self) -> a.Key:
        return a.Key(self._chosen.choice(_KEYS), self._chosen.choice((1, 1, 2)))

    def _key_down(self) -> a.KeyDown:
        return a.KeyDown(self._chosen.choice(_HOLDS))

    def _key_up(self) -> a.KeyUp:
        return a.KeyUp(self._chosen.choice(_HOLDS))

    def _hotkey(self) -> a.Hotkey:
        return a.Hotkey(self._chosen.choice(_CHORDS))

    def _wait(self) -> a.Wait:
        until = self._chosen.choice(("still", "window", "element", "gone", "time"))
        value = (
            self._chosen.choice(_SELECTORS) if until in ("element", "gone") else "decoy" if until == "window" else ""
        )
        return a.Wait(until, value, self._chosen.choice((0.0, 0.02)), 0.01)

    def _invoke(self) -> a.Invoke:
        return a.Invoke(self._selector(), self._chosen.choice(("", "click", "nothing")))

    def _set_value(self) -> a.SetValue:
        return a.SetValue(self._selector(), self._chosen.choice(_TEXTS))

    def _focus(self) -> a.Focus:
        windows = self._windows()
        named = self._chosen.choice(("galculator", "decoy", "witness", "delete", "term", "nowhere"))
        return a.Focus(str(self._chosen.choice(windows)) if windows and self._chosen.random() < 0.6 else named)

    def _launch(self) -> a.Launch:
        words = (("nothing", ()), ("nothing", ("-rf",)), ("xterm", ()), ("nowhere", ()), ("nothing; reboot", ()))
        return a.Launch(*self._chosen.choice(words))

    def _end(self) -> a.DesktopAction:
        return self._chosen.choice((a.Done("42"), a.Fail("it cannot be done"), a.Ask("Really?", 0.01)))

    def _nothing(self) -> Any:
        return self._chosen.choice(_NO_ACTIONS)
