"""The pages of MiniWoB++, as the package `miniwob` brings them, served on this machine; nothing of it is imported."""

from __future__ import annotations

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from optr.errors import DesktopError, UnknownNameError

_REGISTERED = re.compile(r'^    subdomain = "([a-z0-9-]+)"', re.MULTILINE)


def package_folder() -> Path:
    """Where the package is installed.

    Raises:
        DesktopError: If it is not.
    """
    try:
        return Path(str(distribution("miniwob").locate_file("miniwob")))
    except PackageNotFoundError as err:
        raise DesktopError(
            "the pages of MiniWoB++ are not installed; they come with: pip install --no-deps miniwob"
        ) from err


def task_names() -> tuple[str, ...]:
    """Tasks that the package registers as environments, in order; five of its pages are not among them."""
    text = (package_folder() / "envs" / "miniwob_envs.py").read_text(encoding="utf-8")
    return tuple(sorted(_REGISTERED.findall(text)))


def known_tasks(wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """These tasks; all of them if none is named.

    Raises:
        UnknownNameError: If there is none of such a name.
    """
    known = task_names()
    for name in wanted:
        if name not in known:
            raise UnknownNameError("task of MiniWoB++", name, known)
    return wanted or known


class PageServer:
    """Serves the pages while it is open; a context manager.

    Attributes:
        url: Where they are, with a slash at the end.
    """

    def __init__(self) -> None:
        handler = partial(_Silent, directory=str(package_folder() / "html"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/miniwob/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """It says nothing."""
