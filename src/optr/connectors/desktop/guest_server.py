"""The endpoint that OSWorld's agents and tools speak to inside of a virtual machine, in front of a guarded desk.

Source: `desktop_env/server/main.py` and `desktop_env/controllers/python.py` of github.com/xlang-ai/OSWorld (routes,
form of requests and answers). There, commands are run as they come; here none is. PyAutoGUI code that arrives as
`python -c "..."` is read, and each call in it passes the guard; programs are launched if the desk's settings name them;
whatever else could be asked for is refused, and says so.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.adapters.pyautogui_text import from_pyautogui
from optr.connectors.desktop.codec import result_to_json
from optr.connectors.desktop.cursor import with_cursor
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.seen import Element
from optr.connectors.desktop.x11 import X11
from optr.errors import DesktopError
from optr.operators.llm.picture import png
from optr.sentinel.desk_rules import ProgramsRule

PORT = 5000
"""OSWorld's."""

LONGEST_BODY = 1_000_000
_IDLE_S = 30.0
"""A connection on which nothing comes for so long is closed [s]."""

_PYTHON = re.compile(r"(.*/)?python[0-9.]*")
_NAMESPACE = "https://accessibility.ubuntu.example.org/ns/"
"""Not a place to go to: what OSWorld calls its attributes by."""

_REFUSED = {
    "/file": "files of the desktop are not handed out",
    "/list_directory": "folders of the desktop are not listed",
    "/run_python": "no code is run",
    "/run_bash_script": "no code is run",
    "/execute_with_verification": "no command is run",
    "/setup/execute_with_verification": "no command is run",
    "/setup/upload": "no files are taken",
    "/setup/download_file": "nothing is fetched",
    "/setup/open_file": "programs are started by /setup/launch alone",
    "/setup/close_window": "windows are closed by what is in them",
    "/setup/change_wallpaper": "the wallpaper stays",
    "/wallpaper": "files of the desktop are not handed out",
    "/terminal": "no terminal tells what is written in it",
    "/start_recording": "episodes are recorded by optr itself",
    "/end_recording": "episodes are recorded by optr itself",
}


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    kind: str = "application/json"


class _WrongError(Exception):
    """What was asked for is not done; the status says why, the text says it to people."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


class GuestServer:
    """Serves one desk while it is open; a context manager. It does not own the desk.

    Attributes:
        url: Where it is.
        token: That each request has to bring; empty: none.
    """

    def __init__(self, desk: Desk, host: str = "127.0.0.1", port: int = PORT, token: str = "") -> None:
        """Serve.

        Args:
            desk: Every action goes through it.
            host: Address to listen at.
            port: 0: any that is free.
            token: That each request has to bring, as `Authorization: Bearer TOKEN` or `?token=TOKEN`.

        Raises:
            DesktopError: If others can reach the address and there is no token, or it cannot be listened at.
        """
        if not token and not _is_here(host):
            raise DesktopError(f"whoever reaches {host} could act on this desktop: that needs a token")
        self._desk, self.token = desk, token
        self._hosts = {"localhost", "127.0.0.1", "[::1]", host if ":" not in host else f"[{host}]"}
        self._acting = threading.Lock()
        self._x11 = X11(desk.session.display)
        try:
            self._server = _Server((host, port), _handler(self))
        except OSError as err:
            self._x11.close()
            raise DesktopError(f"cannot listen at {host} port {port}: {err}") from err
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._x11.close()

    def __enter__(self) -> GuestServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        """What is said to one request; never an exception."""
        try:
            parts = urlsplit(target)
            self._admit(headers, parse_qs(parts.query))
            return self._route(method, parts.path.rstrip("/"), headers, body)
        except _WrongError as err:
            return _json({"status": "error", "message": str(err)}, err.status)
        except DesktopError as err:
            return _json({"status": "error", "message": str(err)}, 500)

    # -- who may ---------------------------------------------------------------------------------------------------

    def _admit(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> None:
        """A page in a browser must not reach it, neither by a name that leads here nor by sending a form."""
        host = headers.get("Host", "")
        if host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
            raise _WrongError(403, f"this is not {host!r}")
        if headers.get("Origin"):
            raise _WrongError(403, "pages may not ask")
        given = headers.get("Authorization", "").removeprefix("Bearer ") or query.get("token", [""])[0]
        if self.token and not secrets.compare_digest(given.encode(), self.token.encode()):
            raise _WrongError(401, "the token is missing or another")

    # -- what is asked ---------------------------------------------------------------------------------------------

    def _route(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        if path in _REFUSED:
            raise _WrongError(403, f"{path} is refused here: {_REFUSED[path]}")
        known = {"GET": _GET, "POST": _POST}.get(method, {})
        if path not in known:
            listed = ", ".join(sorted({*_GET, *_POST}))
            raise _WrongError(404, f"no {method} {path[:100]!r}; there are: {listed}")
        return known[path](self, _fields(headers, body))

    def _screenshot(self, _: Mapping[str, Any]) -> _Answer:
        return _Answer(200, png(with_cursor(self._desk.bridge.screen.grab().pixels, self._x11)), "image/png")

    def _accessibility(self, _: Mapping[str, Any]) -> _Answer:
        if self._desk.tree is None:
            raise _WrongError(500, "this desktop has no accessibility")
        seen = self._desk.tree.read()
        windows = {w.id: w.title for w in self._desk.bridge.windows.all()}
        return _json({"AT": _tree(seen.items, windows), **({"truncated": seen.truncated} if seen.truncated else {})})

    def _screen_size(self, _: Mapping[str, Any]) -> _Answer:
        width, height = self._size
        return _json({"width": width, "height": height})

    def _cursor_position(self, _: Mapping[str, Any]) -> _Answer:
        return _json(list(self._desk.bridge.hand.position()))

    def _platform(self, _: Mapping[str, Any]) -> _Answer:
        return _Answer(200, b"Linux", "text/plain")

    def _window_size(self, given: Mapping[str, Any]) -> _Answer:
        wanted = _text(given, "app_class_name").lower()
        for window in self._desk.bridge.windows.all():
            if wanted in (name.lower() for name in window.wm_class):
                return _json({"width": window.rect.width, "height": window.rect.height})
        raise _WrongError(404, f"no window of class {wanted[:100]!r}")

    def _desktop_path(self, _: Mapping[str, Any]) -> _Answer:
        path = self._desk.session.home / "Desktop"
        if not path.is_dir():
            raise _WrongError(404, "there is no such folder")
        return _json({"desktop_path": str(path)})

    def _execute(self, given: Mapping[str, Any]) -> _Answer:
        try:
            actions = from_pyautogui(_python(given), self._size)
        except DesktopError as err:
            raise _WrongError(403, f"not run, since it is not understood: {err}") from err
        results: list[a.ActionResult] = []
        with self._acting:
            for action in actions:
                results.append(self._desk.execute(action))
                if not results[-1].executed:
                    break
        last = results[-1]
        why = f"{last.refused}: {last.text}" if last.refused else last.text
        error = "" if last.executed else f"action {len(results)} of {len(actions)}, {action.kind}: {why}"
        told = [result_to_json(r) for r in results]
        code = 0 if last.executed else 1
        return _json({"status": "success", "output": "", "error": error, "returncode": code, "results": told})

    def _launch(self, given: Mapping[str, Any]) -> _Answer:
        words = _words(given)
        programs = self._desk.guard.config.rule(ProgramsRule).allow
        for program in programs:
            for known in (program.command, (program.name,)):
                if tuple(words[: len(known)]) == known:
                    self._done(a.Launch(program.name, tuple(words[len(known) :])))
                    return _Answer(200, f"{' '.join(words)} launched successfully".encode(), "text/plain")
        listed = ", ".join(p.name for p in programs) or "none"
        raise _WrongError(
            403, f"no program {' '.join(words)[:200]!r} in the settings of this desk; there are: {listed}"
        )

    def _activate(self, given: Mapping[str, Any]) -> _Answer:
        self._done(a.Focus(_text(given, "window_name")))
        return _Answer(200, b"Window activated successfully", "text/plain")

    def _done(self, action: a.DesktopAction) -> None:
        """Carry an action out.

        Raises:
            _WrongError: If it is refused, or not carried out.
        """
        with self._acting:
            result = self._desk.execute(action)
        if result.refused:
            raise _WrongError(403, f"{result.refused}: {result.text}")
        if not result.executed:
            raise _WrongError(500, result.text)

    @property
    def _size(self) -> tuple[int, int]:
        rect = self._desk.bridge.screen.rect
        return rect.width, rect.height


_Routes = Mapping[str, Callable[[GuestServer, Mapping[str, Any]], _Answer]]

_GET: _Routes = {
    "/screenshot": GuestServer._screenshot,
    "/accessibility": GuestServer._accessibility,
    "/cursor_position": GuestServer._cursor_position,
    "/platform": GuestServer._platform,
    "/screen_size": GuestServer._screen_size,
}
_POST: _Routes = {
    "/screen_size": GuestServer._screen_size,
    "/window_size": GuestServer._window_size,
    "/desktop_path": GuestServer._desktop_path,
    "/execute": GuestServer._execute,
    "/setup/execute": GuestServer._execute,
    "/setup/launch": GuestServer._launch,
    "/setup/activate_window": GuestServer._activate,
}


# -- requests --------------------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away while it is answered is no fault here."""


def _handler(server: GuestServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_S

        def do_GET(self) -> None:
            self._respond(server.answer("GET", self.path, self._told(), b""))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or self.headers.get("Transfer-Encoding"):
                self._respond(_json({"status": "error", "message": "a body needs its Content-Length"}, 411))
            elif int(length) > LONGEST_BODY:
                message = f"a body of {length} bytes; at most {LONGEST_BODY} are read"
                self._respond(_json({"status": "error", "message": message}, 413))
            else:
                body = self.rfile.read(int(length))
                self._respond(server.answer("POST", self.path, self._told(), body))

        def _told(self) -> dict[str, str]:
            """Headers by their names as they are usually written: in HTTP, capitals mean nothing in them."""
            return {name.title(): value for name, value in self.headers.items()}

        def _respond(self, answer: _Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """It says nothing."""

    return Handler


def _fields(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not body:
        return {}
    text = body.decode("utf-8", "replace")
    if kind == "application/x-www-form-urlencoded":
        return {name: values[0] for name, values in parse_qs(text).items()}
    if kind != "application/json":
        raise _WrongError(415, f"a body of {kind or 'no type'}; expected application/json, or a form")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise _WrongError(400, f"the body is no JSON: {err}") from err
    if not isinstance(found, Mapping):
        raise _WrongError(400, "the body is no JSON object")
    return found


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise _WrongError(400, f"{name} is required, a text")
    return value


def _words(given: Mapping[str, Any]) -> list[str]:
    command = given.get("command")
    if given.get("shell"):
        raise _WrongError(403, "no shell is run")
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError as err:
            raise _WrongError(400, f"command cannot be read: {err}") from err
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise _WrongError(400, "command is required, a list of texts")
    return command


def _python(given: Mapping[str, Any]) -> str:
    """The code in `["python", "-c", CODE]`."""
    words = _words(given)
    if len(words) != 3 or not _PYTHON.fullmatch(words[0]) or words[1] != "-c":
        said = " ".join(words)[:200]
        raise _WrongError(403, f"{said!r} is not run; only PyAutoGUI code as [python, -c, CODE] is read")
    return words[2]


def _json(value: Any, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# -- accessibility -----------------------------------------------------------------------------------------------------


def _tree(elements: Sequence[Element], windows: Mapping[int, str]) -> str:
    """Elements as OSWorld's XML: those of a window below it. Roles are those of ARIA."""
    for name, prefix in (("state", "st"), ("component", "cp"), ("value", "val")):
        ElementTree.register_namespace(prefix, _NAMESPACE + name)
    root = ElementTree.Element("desktop-frame")
    frames = {id: ElementTree.SubElement(root, "frame", {"name": _clean(title)}) for id, title in windows.items()}
    for element in elements:
        node = ElementTree.SubElement(
            frames.get(element.window, root), _tag(element.role), {"name": _clean(element.name)}
        )
        for state in element.states:
            node.set(f"{{{_NAMESPACE}state}}{_tag(state)}", "true")
        if element.rect is not None:
            node.set(f"{{{_NAMESPACE}state}}showing", "true")
            node.set(f"{{{_NAMESPACE}component}}screencoord", f"({element.rect.x}, {element.rect.y})")
            node.set(f"{{{_NAMESPACE}component}}size", f"({element.rect.width}, {element.rect.height})")
        if element.value:
            node.set(f"{{{_NAMESPACE}value}}value", _clean(element.value))
    return ElementTree.tostring(root, encoding="unicode")


def _tag(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "unknown"


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or (c.isprintable() and not "\ud800" <= c <= "\udfff"))
