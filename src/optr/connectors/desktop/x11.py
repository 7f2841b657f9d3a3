"""A connection to an X server: opened with clear words, its properties read, its events waited for.

Each part of a desktop has a connection of its own, used under its lock: what one waits for holds up no other.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optr.errors import DesktopError

_SOCKETS = Path("/tmp/.X11-unix")
_KNOCK_S = 5.0

Question = tuple[str, dict[str, Any]]
"""Name of a request of X that is answered, and its fields."""


def display_name(display: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """Which X display is meant: the one that is named, else the one of the environment.

    Raises:
        DesktopError: If there is none, or it is Wayland's.
    """
    known = os.environ if environ is None else environ
    if display:
        return display
    if known.get("WAYLAND_DISPLAY") or known.get("XDG_SESSION_TYPE") == "wayland":
        raise DesktopError(
            "this is a Wayland session, which lets no program see or act on the others: input and pictures of X reach "
            "windows of XWayland alone; log in to an X11 session, name another display, or let optr bring up one of "
            f"its own (DesktopSession). X displays: {_running()}"
        )
    if not known.get("DISPLAY"):
        raise DesktopError(
            "there is no display: DISPLAY is not set. Log in to an X11 session, name one, or let optr bring up one of "
            f"its own (DesktopSession). X displays: {_running()}"
        )
    return known["DISPLAY"]


def _running() -> str:
    return ", ".join(sorted(f":{p.name[1:]}" for p in _SOCKETS.glob("X*"))) or "none"


def open_display(name: str) -> Any:
    """Connect to an X server; close what is answered.

    Raises:
        DesktopError: If python-xlib is not installed, nothing answers there, or what answers shows Wayland.
    """
    try:
        import Xlib.ext.damage  # noqa: F401  # python3-xlib, which PyAutoGUI asks for and which replaces it, has none
        from Xlib.display import Display
        from Xlib.error import DisplayError
    except ImportError as err:
        raise DesktopError(
            f"a desktop needs python-xlib, which cannot be imported ({err}): "
            "pip install six && pip install --force-reinstall --no-deps python-xlib"
        ) from err
    try:
        _knock(name)
        opened = Display(name)
    except (DisplayError, OSError, AssertionError) as err:
        raise DesktopError(f"no X server answers at {name!r}: {err}; there are: {_running()}") from err
    if opened.has_extension("XWAYLAND"):
        opened.close()
        raise DesktopError(
            f"{name} is XWayland, a part of a Wayland session: input and pictures of X reach the windows in it alone; "
            "log in to an X11 session, or let optr bring up a display of its own (DesktopSession)"
        )
    opened.set_error_handler(_ignore)
    return opened


def _knock(name: str) -> None:
    """See whether somebody answers: python-xlib leaves its socket open if nobody does, and waits for ever.

    Raises:
        OSError: If nobody does in time.
    """
    if local := re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", name):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(_KNOCK_S)
            knock.connect(str(_SOCKETS / f"X{local[1]}"))
            knock.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))  # whoever has to be told a secret says so
            if not knock.recv(1):
                raise OSError("it ends the connection")


def _ignore(*_: object) -> None:
    """A window that has gone meanwhile: whoever asks next is told."""


class _Lock:
    """A lock under which a display that goes away is told in words."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._lock.release()
        if error is not None and is_gone(error):
            raise DesktopError(f"the display {self._name} is gone: {error}") from error


def is_gone(error: BaseException) -> bool:
    """Whether an error says that the X server has closed the connection."""
    from Xlib.error import ConnectionClosedError

    return isinstance(error, ConnectionClosedError | BrokenPipeError | ConnectionResetError)


def property_numbers(answer: Any) -> tuple[int, ...]:
    """What `numbers` tells, out of an answer to a `property_question`."""
    return _numbers(_value(answer))


def property_words(answer: Any) -> tuple[str, ...]:
    """What `words` tells, out of an answer to a `property_question`."""
    return _words(_value(answer))


def _value(answer: Any) -> Any:
    return answer.value[1] if answer is not None and answer.property_type else None


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if value is not None and not isinstance(value, bytes | str) else ()


def _words(value: Any) -> tuple[str, ...]:
    if value is None or not isinstance(value, bytes | str):
        return ()
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return tuple(text.rstrip("\0").split("\0"))


class X11:
    """One connection, used by any thread under its lock.

    Attributes:
        name: Of the display, as `:1`.
        display: python-xlib's.
        root: The window of the whole screen.
        lock: Held while the connection is used.

    Raises:
        DesktopError: As `open_display`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.display = open_display(name)
        self.root = self.display.screen().root
        self.lock = _Lock(name)
        self._atoms: dict[str, int] = {}
        self._open = True

    def atom(self, name: str) -> int:
        """Number of an X name."""
        if name not in self._atoms:
            self._atoms[name] = self.display.intern_atom(name)
        return self._atoms[name]

    def window(self, number: int) -> Any:
        """python-xlib's object for a window."""
        return self.display.create_resource_object("window", number)

    def numbers(self, window: Any, name: str) -> tuple[int, ...]:
        """A property made of numbers; empty if the window has none, or is gone."""
        return _numbers(self._property(window, name))

    def words(self, window: Any, name: str) -> tuple[str, ...]:
        """A property made of texts that end with zeros; empty if the window has none, or is gone."""
        return _words(self._property(window, name))

    def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """Answers to several questions that are sent together: a tenth of the time of one after the other.

        Args:
            questions: Names of requests of X, with what each asks about.

        Returns:
            In the same order; None: the window is gone.
        """
        from Xlib.error import XError
        from Xlib.protocol import request

        inner = self.display.display
        asked = [getattr(request, name)(display=inner, defer=True, **about) for name, about in questions]
        answers = []
        for one in asked:
            try:
                one.reply()
                answers.append(one)
            except XError:
                answers.append(None)
        return answers

    def property_question(self, number: int, name: str) -> Question:
        """Asks for a property of a window, up to 64 kB of it; `property_numbers` and `property_words` read it."""
        from Xlib import X

        about = {"window": number, "property": self.atom(name), "type": X.AnyPropertyType}
        return "GetProperty", {**about, "delete": False, "long_offset": 0, "long_length": 1 << 14}

    def _property(self, window: Any, name: str) -> Any:
        from Xlib import X
        from Xlib.error import XError

        try:
            found = window.get_full_property(self.atom(name), X.AnyPropertyType)
        except XError:
            return None
        return None if found is None else found.value

    def tell_root(self, window: Any, name: str, data: tuple[int, ...]) -> None:
        """Send the window manager a message about a window: five numbers at most."""
        from Xlib import X
        from Xlib.protocol import event

        padded = (*data, *(0 for _ in range(5 - len(data))))
        message = event.ClientMessage(window=window, client_type=self.atom(name), data=(32, padded))
        self.root.send_event(message, event_mask=X.SubstructureRedirectMask | X.SubstructureNotifyMask)
        self.display.flush()

    def wait(self, so: Callable[[], bool], deadline: float, cancelled: Callable[[], bool] = lambda: False) -> bool:
        """Wait for events until something is so; asked for at the start and after each event.

        Args:
            so: The condition; sees events by asking the server anew.
            deadline: On the monotonic clock [s].
            cancelled: Whether nobody waits any more; asked for 20 times a second.

        Returns:
            Whether it was so in time.
        """
        while not so():
            if not self._event(deadline, cancelled):
                return False
        return True

    def heard(self, which: Callable[[Any], bool], deadline: float) -> Any:
        """Wait for one event; others are passed over.

        Args:
            which: Whether it is this one.
            deadline: On the monotonic clock [s].

        Returns:
            The event; None: it did not come in time.
        """
        while self._pending(deadline, lambda: False):
            while self.display.pending_events():
                event = self.display.next_event()
                if which(event):
                    return event
        return None

    def _event(self, deadline: float, cancelled: Callable[[], bool]) -> bool:
        if not self._pending(deadline, cancelled):
            return False
        while self.display.pending_events():
            self.display.next_event()
        return True

    def _pending(self, deadline: float, cancelled: Callable[[], bool]) -> bool:
        while not self.display.pending_events():
            left = deadline - time.monotonic()
            if left <= 0 or cancelled():
                return False
            if self.display.fileno() < 0:
                raise ConnectionResetError("it was lost before")
            select.select([self.display.fileno()], [], [], min(left, 0.05))
        return True

    def close(self) -> None:
        """Close the connection."""
        with self.lock:
            if self._open:
                self._open = False
                self.display.close()
