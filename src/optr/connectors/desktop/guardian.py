"""Ends what belongs to a desktop when its owner is gone, however that went: `python -I -S guardian.py OWNER MARK HOME`.

The kernel ends the processes that the owner started, but not those that these started: a bus, the parts of a browser.
All of them have `OPTR_DESKTOP=MARK` in their environment. The owner closes our input to have it done while it lives.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time

VARIABLE = "OPTR_DESKTOP"


def marked(mark: str) -> set[int]:
    """Processes with this mark, as far as they are ours, without those that have ended."""
    needle = f"{VARIABLE}={mark}".encode()
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if needle in file.read().split(b"\0"):
                    found.add(int(name))
        except OSError:
            continue
    return found


def end(mark: str) -> None:
    """Kill all processes with a mark, until there are none."""
    while pids := marked(mark) - {os.getpid()}:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.005)


def main() -> None:
    """Wait for the end of the owner or of our input, then end all that is marked and take the folder away."""
    owner, mark, home = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched = select.poll()
    watched.register(sys.stdin, select.POLLIN | select.POLLHUP)
    try:
        watched.register(os.pidfd_open(owner), select.POLLIN)
        watched.poll()
    except OSError:  # it was gone already
        pass
    end(mark)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
