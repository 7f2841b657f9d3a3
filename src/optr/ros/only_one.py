"""One node of a name per domain, and one that commands: two sentinels must never run side by side.

A lock file is held as long as the process lives; the kernel frees it however the process ends. It sees this machine;
what other machines run is found in the ROS graph.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from optr.errors import OptrError

_TRIES = 5
_PAUSE_S = 0.01


class SecondNodeError(OptrError):
    """Another process holds this place in the graph: end it first, or use another name or namespace."""


def hold_place(name: str) -> IO[str]:
    """Claim the name of a node or of a command topic in this ROS domain; keep the answer while it is needed.

    Raises:
        SecondNodeError: If another process holds it; the message names the process.
    """
    path = _place_file(name)
    file = path.open("a+", encoding="utf-8")
    for attempt in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt < _TRIES - 1:
                time.sleep(_PAUSE_S)  # a `PlaceWatch` holds the lock for the time of a look
                continue
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise SecondNodeError(
                f"{name} is taken in ROS domain {os.environ.get('ROS_DOMAIN_ID') or '0'} by process {owner}; "
                f"end that one, or give this one another name or namespace"
            ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class PlaceWatch:
    """Sees when the process that held a place on this machine is gone, within microseconds of its end."""

    def __init__(self, name: str) -> None:
        self._path = _place_file(name)
        self._held = False

    def lost(self) -> bool:
        """Whether the place was held before and is free now; False where nobody here ever held it."""
        try:
            handle = os.open(self._path, os.O_RDWR)
        except OSError:
            return self._held
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return self._held
        except BlockingIOError:
            self._held = True
            return False
        finally:
            os.close(handle)


def _place_file(name: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"optr-{os.getuid()}" / f"domain-{os.environ.get('ROS_DOMAIN_ID') or '0'}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (name.strip("/").replace("/", ".") + ".lock")
