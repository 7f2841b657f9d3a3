"""The sim node's end of its camera process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from optr.errors import ModelError
from optr.ros_environment import PARENT_ENV

_READY_S = 30.0
_AHEAD = 3
"""Frames that may wait in the pipe; physics never waits for more in real time, and not less in lock-step."""


class CameraProcess:
    """Starts the process, hands it states to draw, and counts.

    Attributes:
        requested: Requests handed over.
        skipped: Requests given up because the renderer was behind (never in lock-step).
    """

    def __init__(self, model: Any, spec: Path, name: str, namespace: str, arguments: list[str]) -> None:
        from optr.connectors.sim.render import FrameLink, save_model

        self._link = FrameLink(model)
        self.requested = self.skipped = self._done = 0
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.NamedTemporaryFile(prefix="optr-", suffix=".mjb", dir=folder) as file:
            save_model(model, Path(file.name))
            command = [sys.executable, "-m", "optr.nodes.sim_cameras", file.name, str(spec), name, namespace]
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, PARENT_ENV: str(os.getpid()), "LP_NUM_THREADS": "1"},
                preexec_fn=_background,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
            if not self._read(_READY_S):
                code = self._process.poll()
                self.close()
                raise ModelError(f"the camera process did not start (exit code {code}); its message is above")
        self._done = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def request(self, stamp_ns: int, cameras: int, data: Any, wait: bool) -> bool:
        """Ask for pictures of the present state; False if the renderer is too far behind and `wait` is not set."""
        while self._read(0.0):
            continue
        deadline = time.monotonic() + 5.0
        while self.requested - self._done >= _AHEAD:
            if not wait or not self.alive or time.monotonic() > deadline:
                self.skipped += 1
                return False
            self._read(0.1)
        try:
            os.write(self._in, self._link.pack(stamp_ns, cameras, data))
        except BrokenPipeError:
            self.skipped += 1
            return False
        self.requested += 1
        return True

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything asked for is published."""
        deadline = time.monotonic() + timeout_s
        while self._done < self.requested and self.alive and time.monotonic() < deadline:
            self._read(0.05)
        return self._done >= self.requested

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=3.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._out], [], [], timeout_s)
        got = os.read(self._out, 64) if ready else b""
        self._done += len(got)
        return bool(got)


def _background() -> None:
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches a whole terminal; this process ends with its pipe
