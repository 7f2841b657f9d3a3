"""Shared memory that killed processes left behind.

Fast DDS keeps a segment per process in /dev/shm, and a file with `_el` appended on which the owner holds a lock as
long as it lives. A segment whose lock is free belongs to nobody. (The rule is that of `fastdds shm clean`.)
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

_LOCK = re.compile(r"fastrtps_[0-9a-f]{16}_el")
_YOUNG_S = 10.0


def remove_leftovers(folder: Path = Path("/dev/shm")) -> int:
    """Remove segments whose owner is dead; answers how many bytes that freed.

    Files younger than ten seconds are left alone: their owner may be about to take the lock.
    """
    freed = 0
    if not folder.is_dir():
        return 0
    for lock in folder.iterdir():
        if not _LOCK.fullmatch(lock.name):
            continue
        segment = lock.with_name(lock.name.removesuffix("_el"))
        try:
            if time.time() - lock.stat().st_mtime < _YOUNG_S or not _is_free(lock):
                continue
            if segment.exists():
                freed += segment.stat().st_size
                segment.unlink()
            lock.unlink()
        except OSError:
            continue  # somebody else's, or gone in between
    return freed


def _is_free(lock: Path) -> bool:
    handle = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
