"""Shared memory of killed processes goes; that of living ones stays."""

from __future__ import annotations

import fcntl
import os
import time

from optr.ros.leftovers import remove_leftovers


def segment(folder, name: str, age_s: float = 60.0):
    data, lock = folder / f"fastrtps_{name}", folder / f"fastrtps_{name}_el"
    data.write_bytes(b"x" * 1000)
    lock.write_bytes(b"")
    os.utime(lock, (time.time() - age_s,) * 2)
    return data, lock


def test_only_what_nobody_owns_is_removed(tmp_path):
    dead = segment(tmp_path, "0123456789abcdef")
    alive = segment(tmp_path, "1123456789abcdef")
    young = segment(tmp_path, "2123456789abcdef", age_s=1.0)
    port = tmp_path / "fastrtps_port7400_el"
    port.write_bytes(b"")
    with alive[1].open("rb+") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert remove_leftovers(tmp_path) == 1000
    assert not dead[0].exists()
    assert not dead[1].exists()
    for path in (*alive, *young, port):
        assert path.exists()


def test_a_missing_folder_is_nothing_to_clean(tmp_path):
    assert remove_leftovers(tmp_path / "none") == 0
