"""CSS selectors in Chromium, resolved to pixels of the screen over its DevTools protocol (sockets, no driver).

Where the page lies in its window nobody tells. It is found by arithmetic: Chromium draws it at the bottom of its
window, with the same border left, right and below; bars stand above.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.page_script import FIND
from optr.connectors.desktop.seen import Element, Window
from optr.errors import DesktopError

_PATIENCE_S = 5.0
_SETTLE_S = 1.0  # a window that is being resized tells its page's size some frames later
_WIDEST_BORDER = 12  # px at scale 1; more is a side panel


@dataclass(frozen=True)
class PageFind:
    """What a page answers to a selector.

    Attributes:
        elements: What matches and is drawn; the first 20.
        count: How many match and are drawn.
        trouble: Why the only one cannot be pointed at; empty: it can.
        hints: What people should know when there is none: matches that are not drawn, frames that hold one.
    """

    elements: tuple[Element, ...]
    count: int
    trouble: str = ""
    hints: tuple[str, ...] = ()


class _ContextGoneError(DesktopError):
    """The page was loaded anew between two calls."""


class DevTools:
    """One connection to one Chromium. Any thread may ask; they wait for one another."""

    def __init__(self, place: int | str | Path, windows: Callable[[], Sequence[Window]]) -> None:
        """Connect.

        Args:
            place: Port on this machine, address of the browser's socket (`ws://...`), or folder of the profile of a
                Chromium that was started with `--remote-debugging-port=0`.
            windows: Tells the windows of the display on which it is.

        Raises:
            DesktopError: If none answers there.
        """
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self._windows = windows
        self._lock = threading.RLock()
        self._number = 0
        self._sessions: dict[str, str] = {}
        self._worlds: dict[str, int] = {}
        self._open = ExitStack()
        address = _address(place)
        try:
            self._channel = self._open.enter_context(
                connect(address, max_size=64 << 20, compression=None, open_timeout=_PATIENCE_S, proxy=None)
            )
            processes = self._do("SystemInfo.getProcessInfo")["processInfo"]
        except (OSError, WebSocketException, TimeoutError) as err:
            self._open.close()
            raise DesktopError(f"no Chromium answers at {address}: {err}") from err
        self.pid = next((int(p["id"]) for p in processes if p["type"] == "browser"), 0)

    def find(
        self,
        selectors: Sequence[str],
        window: Window | None = None,
        reveal: Callable[[Window], bool] = lambda _: True,
    ) -> PageFind:
        """What CSS selectors mean on the pages that are shown.

        Args:
            selectors: Each inside what the one before found: an element, or a frame of the same origin.
            window: Only in this window.
            reveal: Whether the page in a window may be scrolled to a single match that is out of sight.

        Raises:
            DesktopError: If a selector is no CSS, or developer tools are open.
        """
        with self._lock:
            pages = self._pages()
            try:
                found = [f for f in (self._find_in(t, list(selectors), window, reveal) for t in pages) if f]
            except _UnsettledError as err:  # it may come to fit: a page that loads slowly keeps its old size so long
                return PageFind((), 0, hints=(str(err),))
            if not found:  # it may still come: a page that loads, a window that opens
                where = f" in the window {window.title!r}" if window else ""
                return PageFind((), 0, hints=(f"no page is shown{where} in this Chromium; it has {len(pages)}",))
            count = sum(f.count for f in found)
            single = next((f for f in found if f.count), found[0])
            elements = tuple(e for f in found for e in f.elements)
            return PageFind(elements, count, single.trouble if count == 1 else "", sum((f.hints for f in found), ()))

    def evaluate(self, expression: str, page: int = 0) -> Any:
        """Value of a JavaScript expression in a page, in the order of their making: for tests and for checkers."""
        with self._lock:
            session = self._session(self._pages()[page])
            answer = self._do("Runtime.evaluate", session, expression=expression, returnByValue=True)
            if "exceptionDetails" in answer:
                raise DesktopError(f"the page cannot evaluate {expression!r}: {answer['exceptionDetails']['text']}")
            return answer["result"].get("value")

    def open(self, url: str, window: bool = True, place: Rect | None = None) -> None:
        """Open a page.

        Args:
            url: Its address.
            window: Whether it gets a window of its own, else a tab of the one that was used last.
            place: Of that window, with the shadow around it [px]; None: where Chromium likes.
        """
        where: dict[str, Any] = {}
        if place is not None:
            where = {"left": place.x, "top": place.y, "width": place.width, "height": place.height}
        with self._lock:
            self._do("Target.createTarget", url=url, newWindow=window, **where)

    def close_pages(self) -> None:
        """Close every page, and with them their windows."""
        with self._lock:
            for target in [t["targetId"] for t in self._do("Target.getTargets")["targetInfos"] if t["type"] == "page"]:
                with suppress(DesktopError):  # it has gone meanwhile
                    self._do("Target.closeTarget", targetId=target)
                self._sessions.pop(target, None)
                self._worlds.pop(target, None)

    @property
    def gone(self) -> bool:
        """Whether nobody is at the other end any more."""
        from websockets.protocol import State

        return self._channel.state is not State.OPEN

    def close(self) -> None:
        """End the connection; Chromium stays."""
        self._open.close()

    def __enter__(self) -> DevTools:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pages(self) -> list[str]:
        targets = self._do("Target.getTargets")["targetInfos"]
        if any(t["url"].startswith("devtools://") for t in targets):
            raise DesktopError("developer tools are open in this Chromium: nobody can tell where its pages lie")
        return [t["targetId"] for t in targets if t["type"] == "page"]

    def _find_in(
        self, target: str, selectors: list[str], window: Window | None, reveal: Callable[[Window], bool]
    ) -> PageFind | None:
        """What a page answers; None if it is not shown, or in another window."""
        end = time.monotonic() + _SETTLE_S
        while True:
            answer = self._ask(target, selectors, reveal=False)
            if answer["page"]["hidden"]:
                return None
            own = self._window(answer["page"])
            if own is None or (window is not None and own.id != window.id):
                return None
            if reveal(own):
                answer = self._ask(target, selectors, reveal=True)
            try:
                origin, scale = _origin(answer["page"], own.rect)
                return _read(answer, origin, scale, own)
            except _UnsettledError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def _ask(self, target: str, selectors: list[str], reveal: bool) -> dict[str, Any]:
        end = time.monotonic() + _SETTLE_S
        while True:
            try:
                return self._call(target, FIND, [selectors, reveal])
            except _ContextGoneError:  # it was loaded anew
                self._worlds.pop(target, None)
                if time.monotonic() > end:
                    raise

    def _call(self, target: str, function: str, arguments: list[Any]) -> dict[str, Any]:
        session = self._session(target)
        if target not in self._worlds:
            frame = self._do("Page.getFrameTree", session)["frameTree"]["frame"]["id"]
            made = self._do("Page.createIsolatedWorld", session, frameId=frame, worldName="optr")
            self._worlds[target] = made["executionContextId"]
        given = [{"value": a} for a in arguments]
        answer = self._do(
            "Runtime.callFunctionOn", session, functionDeclaration=function, arguments=given, returnByValue=True,
            executionContextId=self._worlds[target],
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise DesktopError(f"the page fails: {answer['exceptionDetails'].get('exception', {}).get('description')}")
        return dict(answer["result"]["value"])

    def _session(self, target: str) -> str:
        if target not in self._sessions:
            answer = self._do("Target.attachToTarget", targetId=target, flatten=True)
            self._sessions[target] = answer["sessionId"]
        return self._sessions[target]

    def _do(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        from websockets.exceptions import WebSocketException

        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        end = time.monotonic() + _PATIENCE_S
        try:
            self._channel.send(json.dumps(message))
            while True:
                answer = json.loads(self._channel.recv(timeout=max(end - time.monotonic(), 0.0)))
                if answer.get("id") == self._number:
                    return _checked(method, answer)
        except TimeoutError as err:
            raise DesktopError(
                f"Chromium does not answer {method} within {_PATIENCE_S:g} s: is a dialog of the page open?"
            ) from err
        except (OSError, WebSocketException) as err:
            raise DesktopError(f"Chromium is gone: {err}") from err

    def _window(self, page: Mapping[str, Any]) -> Window | None:
        """The window of a page: of its process, at the place and with the title that it tells."""
        own = [w for w in self._windows() if w.visible and (w.pid == self.pid or not self.pid)]
        return min(own, key=lambda w: (_distance(page, w.rect), page["title"] not in w.title), default=None)


class _UnsettledError(Exception):
    """Window and page tell sizes that do not belong together, perhaps only now."""


def _address(place: int | str | Path) -> str:
    if isinstance(place, int):
        return _asked_address(place)
    if str(place).startswith("ws://"):
        return str(place)
    file = Path(place) / "DevToolsActivePort"
    try:
        port, path = file.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as err:
        raise DesktopError(
            f"no Chromium with DevTools has the profile {place}: start it with --remote-debugging-port=0 ({err})"
        ) from err
    return f"ws://127.0.0.1:{port}{path}"


def _asked_address(port: int) -> str:
    from urllib.error import URLError
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))  # this machine is never behind a proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}/json/version", timeout=_PATIENCE_S) as answer:
            return str(json.load(answer)["webSocketDebuggerUrl"])
    except (URLError, OSError, ValueError, KeyError) as err:
        raise DesktopError(f"no Chromium answers at port {port}: {err}") from err


def _checked(method: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    if "error" not in answer:
        return dict(answer["result"])
    said = answer["error"].get("message", "")
    kind = _ContextGoneError if "context" in said.lower() else DesktopError
    raise kind(f"Chromium refuses {method}: {said}")


def _distance(page: Mapping[str, Any], rect: Rect) -> float:
    """How far a window is from where its page believes it to be [px]; 0 at any scale factor, if it is that one."""
    x, y, width, height = page["place"]
    scale = rect.width / max(width, 1)
    return float(round(abs(x * scale - rect.x) + abs(y * scale - rect.y) + abs(height * scale - rect.height), -1))


def _origin(page: Mapping[str, Any], rect: Rect) -> tuple[tuple[float, float], float]:
    """Pixel of the upper left corner of a page, and pixels per CSS pixel.

    Raises:
        _UnsettledError: If the page is not as wide as its window, less a thin border.
    """
    ratio = float(page["ratio"])
    width, height = (round(side * ratio) for side in page["view"])
    scale = rect.width / max(page["place"][2], 1)
    border = (rect.width - width) / 2
    if not 0 <= border <= _WIDEST_BORDER * max(scale, 1) or height > rect.height - border:
        raise _UnsettledError(
            f"a page of {width}x{height} px does not fit its window of {rect.width}x{rect.height} px: nobody can tell "
            "where it lies; is there a side panel, or does it still change its size?"
        )
    left, top, pinch = page["pinch"]
    across, down = rect.x + border, rect.y + rect.height - border - height
    return (across - left * ratio * pinch, down - top * ratio * pinch), ratio * pinch


def _read(answer: Mapping[str, Any], origin: tuple[float, float], scale: float, window: Window) -> PageFind:
    if "bad" in answer:
        raise DesktopError(f"no CSS selector: {answer['bad']}")
    elements = tuple(_element(item, origin, scale, window) for item in answer["items"])
    trouble = ""
    if answer.get("out"):
        trouble = "it is scrolled out of sight"
    elif answer.get("covered"):
        trouble = f"{answer['covered']} of the page lies over it"
    return PageFind(elements, int(answer["count"]), trouble, _hints(answer))


def _hints(answer: Mapping[str, Any]) -> tuple[str, ...]:
    hints = []
    if answer.get("barred"):
        hints.append(f"the frame {answer['barred']!r} is of another origin: selectors do not reach into it")
    if answer.get("unseen"):
        hints.append(f"{answer['unseen']} that match {answer['at']!r} are not drawn")
    for frame in answer.get("frames", ()):
        if frame["found"]:
            hints.append(f"the frame {frame['name']!r} holds {frame['found']}: write `iframe >> {answer['at']}`")
        elif frame["found"] is None:
            hints.append(f"the frame {frame['name']!r} is of another origin: selectors do not reach into it")
    return tuple(hints)


def _element(item: Mapping[str, Any], origin: tuple[float, float], scale: float, window: Window) -> Element:
    return Element(
        role=item["role"],
        name=item["name"],
        value=item["value"],
        rect=_pixels(item["box"], origin, scale) if item["box"] else None,
        states=tuple(item["states"]),
        source="devtools",
        window=window.id,
    )


def _pixels(box: Sequence[float], origin: tuple[float, float], scale: float) -> Rect | None:
    """Whole pixels nearest to a box in CSS pixels; None if it has no area."""
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return None
    left, top = round(origin[0] + x * scale), round(origin[1] + y * scale)
    right, bottom = round(origin[0] + (x + width) * scale), round(origin[1] + (y + height) * scale)
    return Rect(left, top, max(right - left, 1), max(bottom - top, 1))
