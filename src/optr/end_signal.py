"""Whether a program is to end: told by a signal, at any moment."""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue


class EndSignal:
    """As `threading.Event`, but a handler of a signal may set it.

    The lock of an Event may be held by the main thread just when the signal comes, or a second one does; then its
    handler waits for itself for ever. `SimpleQueue.put` may interrupt itself.
    """

    def __init__(self, *signals: int) -> None:
        """Make one, which these signals set from now on; to be called in the main thread."""
        self._over = False
        self._told: SimpleQueue[None] = SimpleQueue()
        for number in signals:
            signal.signal(number, lambda *_: self.set())

    def set(self) -> None:
        """It is to end."""
        self._over = True
        self._told.put(None)

    def is_set(self) -> bool:
        """Whether it is to end."""
        return self._over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is to end, or for so long [s]; answers whether it is."""
        if not self._over:
            with suppress(Empty):
                self._told.get(timeout=timeout)
                self._told.put(None)  # for others who wait
        return self._over
