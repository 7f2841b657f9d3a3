"""One node of a name per domain, and one that commands: two sentinels must never run side by side.

A lock file is held as long as the process lives; the kernel frees it however the process ends. It sees this machine;
what other machines run is found in the ROS graph.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

from optr.errors import OptrError


class SecondNodeError(OptrError):
    """Another process holds this place in the graph: end it first, or use another name or namespace."""


def hold_place(name: str) -> IO[str]:
    """Claim the name of a node or of a command topic in this ROS domain; keep the answer while it is needed.

    Raises:
        SecondNodeError: If another process holds it; the message names the process.
    """
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    folder = Path(tempfile.gettempdir()) / f"optr-{os.getuid()}" / f"domain-{domain}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name.strip("/").replace("/", ".") + ".lock")
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise SecondNodeError(
            f"{name} is taken in ROS domain {domain} by process {owner}; end that one, "
            f"or give this one another name or namespace"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
