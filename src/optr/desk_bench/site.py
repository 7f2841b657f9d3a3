"""The pages of the tasks, on this machine, and the record that their server keeps of what they were told."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from optr.errors import DesktopError

_PAGES = Path(__file__).with_name("pages")
_LONGEST = 100_000
_PATIENCE_S = 15.0
_HEAD = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/style.css">'


class Site:
    """Serves pages while it is open; a context manager.

    A page lies below the number of its episode: what an older one still says is not recorded.
    """

    def __init__(self) -> None:
        self._data: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._records: dict[str, list[Any]] = {}
        self._ready: set[str] = set()
        self._episode = 0
        self._changed = threading.Condition()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(*site._page(self.path))

            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length") or 0), _LONGEST)
                self._answer(*site._told(self.path, self.rfile.read(length)))

            def _answer(self, status: int, kind: str, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """It says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forget the pages and the record of before."""
        with self._changed:
            self._episode += 1
            self._data.clear()
            self._records.clear()
            self._ready.clear()

    def add(self, page: str, data: Mapping[str, Any], name: str = "") -> str:
        """Offer a page with its data, under its own or another name; answers its address.

        Raises:
            DesktopError: If there is no such page.
        """
        if not (_PAGES / f"{page}.html").is_file():
            known = ", ".join(sorted(p.stem for p in _PAGES.glob("*.html")))
            raise DesktopError(f"no page named {page!r}; there are: {known}")
        with self._changed:
            self._data[name or page] = page, dict(data)
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self._episode}/{name or page}"

    def wait_ready(self) -> None:
        """Wait until every page of now has been loaded.

        Raises:
            DesktopError: If that takes too long.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._ready >= set(self._data), _PATIENCE_S):
                missing = ", ".join(sorted(set(self._data) - self._ready))
                raise DesktopError(f"the browser did not load within {_PATIENCE_S:g} s: {missing}")

    def records(self, page: str) -> list[Any]:
        """What a page has told, in order.

        Raises:
            DesktopError: If it is none of this episode.
        """
        with self._changed:
            if page not in self._data:
                raise DesktopError(f"no page {page!r} in this task; there are: {', '.join(self._data) or 'none'}")
            return list(self._records.get(page, ()))

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _page(self, path: str) -> tuple[int, str, str]:
        if path in ("/style.css", "/task.js"):
            kind = "text/css" if path.endswith("css") else "text/javascript"
            return 200, kind, (_PAGES / path[1:]).read_text(encoding="utf-8")
        episode, _, name = path.partition("?")[0].strip("/").partition("/")
        with self._changed:
            found = self._data.get(name) if episode == str(self._episode) else None
        if found is None:
            return 404, "text/plain", "no such page"
        page, data = found
        known = json.dumps(data).replace("<", "\\u003c")
        script = f"<script>const data = {known};</script><script src=/task.js></script>"
        return 200, "text/html", _HEAD + script + (_PAGES / f"{page}.html").read_text(encoding="utf-8")

    def _told(self, path: str, body: bytes) -> tuple[int, str, str]:
        episode, _, rest = path.strip("/").partition("/")
        page, _, what = rest.partition("/")
        with self._changed:
            if episode != str(self._episode) or page not in self._data or what not in ("ready", "record"):
                return 404, "text/plain", "no such page"
            if what == "ready":
                self._ready.add(page)
            else:
                try:
                    self._records.setdefault(page, []).append(json.loads(body))
                except ValueError as err:
                    return 400, "text/plain", str(err)
            self._changed.notify_all()
        return 200, "text/plain", "ok"
