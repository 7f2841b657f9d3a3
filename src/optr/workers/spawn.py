"""One thread that starts processes.

The kernel's parent-death signal comes when the *thread* that started a process ends, not when its process does: a
worker that was restarted by a thread of a pool would be killed when the pool shrinks. So one thread, that lives as long
as this process, starts them all.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

_LAUNCH = str(Path(__file__).with_name("launch.py"))

Started = subprocess.Popen[bytes]
_Order = tuple[Sequence[str], dict[str, Any], "Future[Started]"]

_lock = threading.Lock()
_orders: queue.SimpleQueue[_Order] | None = None


def spawn(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: str | None = None,
    pass_fds: Sequence[int] = (),
    output: int | None = None,
) -> Started:
    """Start a process with a process group of its own; it is killed when this process is gone.

    Args:
        command: What to run.
        env: Its whole environment.
        cwd: Its folder; None: ours.
        pass_fds: Files that it inherits under the same numbers.
        output: File that takes what it says, and then it is told nothing; None: it has three pipes.

    Raises:
        OSError: If it cannot be started.
    """
    words = [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), *command]
    options = {
        "env": dict(env),
        "cwd": cwd,
        "pass_fds": tuple(pass_fds),
        "stdin": subprocess.PIPE if output is None else subprocess.DEVNULL,
        "stdout": subprocess.PIPE if output is None else output,
        "stderr": subprocess.PIPE if output is None else output,
        "bufsize": 0,
        "start_new_session": True,
    }
    started: Future[Started] = Future()
    _queue().put((words, options, started))
    return started.result()


def _queue() -> queue.SimpleQueue[_Order]:
    global _orders
    with _lock:
        if _orders is None:
            _orders = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(_orders,), name="optr-spawn", daemon=True).start()
        return _orders


def _serve(orders: queue.SimpleQueue[_Order]) -> None:
    while True:
        words, options, started = orders.get()
        try:
            process: Any = subprocess.Popen(words, **options)
            started.set_result(process)
        except BaseException as err:  # belongs to whoever asked
            started.set_exception(err)
        # Else the last process would be kept alive by this loop.
        del words, options, started


def _forget() -> None:
    global _orders, _lock
    _orders, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
