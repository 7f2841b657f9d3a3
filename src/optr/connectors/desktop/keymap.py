"""Which key of the keyboard gives which character; keys that give none are lent to characters that have none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optr.connectors.desktop.x11 import X11

_GROUP_SHIFT, _LOCK = 13, 2


@dataclass(frozen=True)
class Stroke:
    """A key by its number in X, and whether Shift is held with it."""

    code: int
    shifted: bool = False


class Keymap:
    """The keyboard's map as the server has it now. Used by one thread at a time, under the connection's lock.

    Attributes:
        room: How many characters that are on no key can be lent one at a time.
    """

    def __init__(self, connection: X11) -> None:
        self._x = connection
        self._first = connection.display.display.info.min_keycode
        self._count = connection.display.display.info.max_keycode - self._first + 1
        self._lent: dict[int, int] = {}
        self._spare: list[int] = []
        self._strokes: dict[int, Stroke] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the map anew, and whether another layout is on."""
        with self._x.lock:
            table: Sequence[Sequence[int]] = self._x.display.get_keyboard_mapping(self._first, self._count)
            group = int(self._x.root.query_pointer().mask) >> _GROUP_SHIFT & 1
        ours = set(self._lent.values())
        self._strokes = {}
        for shifted in (False, True):
            for code, row in enumerate(table, self._first):
                column = 2 * group + shifted
                if code not in ours and column < len(row) and row[column]:
                    self._strokes.setdefault(row[column], Stroke(code, shifted))
        self._spare = [c for c, row in enumerate(table, self._first) if not any(row) and c not in ours]
        self.room = len(self._spare) + len(ours)

    @property
    def capitals(self) -> bool:
        """Whether Caps Lock is on."""
        with self._x.lock:
            return bool(int(self._x.root.query_pointer().mask) & _LOCK)

    def stroke(self, keysym: int) -> Stroke | None:
        """How a keysym is given now; None: on no key."""
        if keysym in self._lent:
            return Stroke(self._lent[keysym])
        return self._strokes.get(keysym)

    def on_keyboard(self, keysym: int) -> bool:
        """Whether a keysym has a key of its own."""
        return keysym in self._strokes

    def missing(self, keysyms: Iterable[int]) -> list[int]:
        """Those that are on no key, each once."""
        return [k for k in dict.fromkeys(keysyms) if self.stroke(k) is None]

    def fits(self, keysyms: Sequence[int]) -> bool:
        """Whether keys can be lent to so many without taking any back."""
        return len(keysyms) <= len(self._spare)

    def lend(self, keysyms: Iterable[int]) -> None:
        """Lend keys to keysyms that are on none; `fits` has been asked."""
        with self._x.lock:
            for keysym in keysyms:
                code = self._spare.pop()
                self._lent[keysym] = code
                self._map(code, keysym)
            self._x.display.sync()

    def take_back(self) -> None:
        """Make all lent keys keys that give nothing again."""
        with self._x.lock:
            for code in self._lent.values():
                self._map(code, 0)
                self._spare.append(code)
            self._lent.clear()
            self._x.display.sync()

    def _map(self, code: int, keysym: int) -> None:
        """With Shift or in another layout it gives the same; else a capital letter would come out small."""
        self._x.display.change_keyboard_mapping(code, [(keysym,) * 4])
