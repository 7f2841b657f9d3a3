"""A page to sign in to, on this machine, that tells who did."""

from __future__ import annotations

import html
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

_FORM = Path(__file__).with_name("login.html")
_LONGEST = 10_000


class LoginPage:
    """Serves the page while it is open; a context manager.

    Attributes:
        url: Where it is.
        signed_in: Names of those who have signed in, in order.
        refused: Names of those who gave another password.
    """

    def __init__(self, accounts: dict[str, str], slow_s: float = 0.0) -> None:
        """Serve on a free port of this machine.

        Args:
            accounts: Passwords by name.
            slow_s: How long each answer takes [s].
        """
        self.signed_in: list[str] = []
        self.refused: list[str] = []
        self._accounts = dict(accounts)
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/"
                self._answer(200 if known else 404, _FORM.read_text(encoding="utf-8") if known else "")

            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length") or 0), _LONGEST)
                given = parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
                self._answer(200, page._entered(given.get("username", [""])[0], given.get("password", [""])[0]))

            def _answer(self, status: int, text: str) -> None:
                time.sleep(slow_s)
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """It says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> LoginPage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _entered(self, name: str, password: str) -> str:
        right = bool(name) and self._accounts.get(name) == password
        (self.signed_in if right else self.refused).append(name)
        said = f"Welcome, {html.escape(name)}" if right else "Wrong name or password"
        title = "Signed in" if right else "Not signed in"
        return f"<!doctype html><meta charset=utf-8><title>{title}</title><h1 id=said>{said}</h1>"
