"""Which window of now is one of a recorded desktop: ids are new, places and titles may be."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from optr.connectors.desktop.seen import Window

_ALIKE = 0.6
"""How much of two titles has to be the same: of a file that is changed there is a star before the name."""


class WindowsAgain:
    """Remembers which windows have been found again."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def learn(self, recorded: int, now: int) -> None:
        """A window that an action brought up then, and the one that it brought up now."""
        self._known[recorded] = now

    def find(self, recorded: Window, windows: Sequence[Window], sure: bool = True) -> Window | None:
        """The window of now.

        Args:
            recorded: As it was then.
            windows: Those of now.
            sure: Whether its title has to be alike; else the only one of its class is it, too.
        """
        shown = [w for w in windows if w.visible]
        known = next((w for w in shown if w.id == self._known.get(recorded.id)), None)
        if known is not None and _same_class(known, recorded):
            return known
        alike = [w for w in shown if _same_class(w, recorded) and w.id not in self._taken(recorded)]
        titled = [w for w in alike if _alike(w.title, recorded.title) >= _ALIKE]
        # A hint of a program has its title, too: of those that are titled alike, the one that is as large.
        best = max(
            titled,
            key=lambda w: (_alike(w.title, recorded.title), w.managed == recorded.managed, _as_large(w, recorded)),
            default=None,
        )
        only = [w for w in alike if w.managed] or alike
        found = best or (only[0] if len(only) == 1 and not sure else None)
        if found is not None:
            self._known[recorded.id] = found.id
        return found

    def _taken(self, recorded: Window) -> set[int]:
        """Windows that are others of then."""
        return {now for then, now in self._known.items() if then != recorded.id}


def _same_class(one: Window, other: Window) -> bool:
    return any(one.wm_class) == any(other.wm_class) and one.wm_class[0].lower() == other.wm_class[0].lower()


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio()


def _as_large(one: Window, other: Window) -> float:
    """Common area if their corners lay on each other, against the larger: 0 to 1."""
    a, b = one.rect, other.rect
    return min(a.width, b.width) * min(a.height, b.height) / max(1, a.width * a.height, b.width * b.height)


def words(window: Window) -> str:
    """A window as an error tells it."""
    return f"{window.title!r} ({window.wm_class[0] or 'no class'})"
