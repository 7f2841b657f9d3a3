"""Writes what happens on a desktop as an episode, with the topics and types that a graph would have.

True times: everything is stamped when it was seen or given, on the steady clock, of which the wall time is taken once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import optr
from optr.connectors.desktop import actions as a
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.human_input import HumanInput, InputEvent
from optr.connectors.desktop.messages import (
    action_fields,
    element_fields,
    input_fields,
    monitor_fields,
    rect_fields,
    result_fields,
    window_fields,
)
from optr.connectors.desktop.seen import Element, Picture
from optr.connectors.desktop.tree import Tree
from optr.connectors.desktop.view import DeskView
from optr.desk_episodes.hiding import Hiding, without_value
from optr.desk_episodes.topics import ACTION, COMMAND, HUMAN, RESULT, SCREEN, STATE, TYPES, VERDICT
from optr.episodes import Arrival, Recording, Storage
from optr.episodes.bags.own_messages import message_bytes, topic_info
from optr.errors import DesktopError
from optr.sentinel.desk_guard import RECOVERY, DeskVerdict
from optr.spec import Source

PICTURES_HZ = 4.0
"""Pictures of the screen per second, at most, between two actions [Hz]."""

_UNSEEN = Element("textbox", "", states=("password",))
"""Where a text was to go that went nowhere, since nobody found the place: it may have been for a password field."""

_LOOK_S = 0.1
"""How often it is looked for windows that have changed without a pixel, as their titles do [s]."""

_QUEUE_BYTES = 256 << 20


class DeskRecorder:
    """Records one episode of a desk from its making until `close`; a context manager.

    Texts for password fields, and keys that the guard knows, are replaced by `${secret1}` and so on; the facts say in
    which actions. Pictures show what the screen shows.

    Attributes:
        folder: The bag to be.
    """

    def __init__(
        self,
        desk: Desk,
        folder: Path,
        facts: Mapping[str, Any] | None = None,
        *,
        pictures_hz: float = PICTURES_HZ,
        source: Source = Source.SCRIPT,
        unknown_keys: bool = False,
    ) -> None:
        """Begin.

        Args:
            desk: The desktop, and what acts on it.
            folder: The bag; appears under its name when it is whole.
            facts: What is known: `task`, `operator`, `seed` and what else there is.
            pictures_hz: Most pictures of the screen per second between two actions; 0: none at all.
            source: Who decides about the actions.
            unknown_keys: Whether keys of people are stored where nobody knows which element gets them (a terminal).

        Raises:
            OptrError: If the bag cannot be written, or the desktop does not tell of input.
        """
        given = dict(facts or {})
        self.folder = folder
        self._desk = desk
        self._operator = str(given.get("operator", ""))
        self._source = source
        self._period_s = 1.0 / pictures_hz if pictures_hz > 0 else 0.0
        self._offset_ns = time.time_ns() - time.monotonic_ns()
        self._hiding = Hiding(desk.guard.keeps)
        self._lock = threading.Lock()
        self._sent: dict[str, int] = {}
        self._sequence = 0
        self._proposed: tuple[Any, int] | None = None
        self._state: dict[str, Any] = {}
        self._pixels: npt.NDArray[np.uint8] | None = None
        self._looked_ns = 0
        self._ended = threading.Event()
        about = {"episode_id": folder.name, "instruction": "", "kind": "desktop", **given, **self._about()}
        self._recording = Recording(folder, about, None, Storage(chunk_bytes=4 << 20), _QUEUE_BYTES)
        try:
            self._tree = self._own_tree()
            self._human = HumanInput(
                desk.session.display,
                self._entered,
                windows=desk.bridge.windows.all,
                tree=self._tree,
                ours=desk.bridge.hand.clients,
                unknown_keys=unknown_keys,
            )
        except BaseException:
            self._recording.discard()
            raise
        self._look(time.monotonic_ns())
        desk.watchers.append(self)
        self._thread = threading.Thread(target=self._watch, name="optr-desk-recorder", daemon=True)
        self._thread.start()

    def close(self, outcome: str = "unknown", **facts: Any) -> Path:
        """End, and make the bag whole.

        Args:
            outcome: `success`, `failure`, `unknown`, or `aborted`: it is marked as not complete.
            facts: What else is known now.

        Raises:
            EpisodeError: If it cannot be written; the partial folder stays.
        """
        self._end()
        secrets = dict(self._hiding.facts())
        about = {"outcome": outcome, "complete": outcome != "aborted", "secrets": secrets, **facts}
        return self._recording.close({**about, "inputs_of_people": self._human.foreign})

    def discard(self) -> None:
        """End, and leave nothing behind."""
        self._end()
        self._recording.discard()

    def __enter__(self) -> DeskRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self._ended.is_set():
            self.close("unknown" if kind is None else "aborted")

    # What the desk tells

    def proposed(self, action: Any, stamp_ns: int) -> None:
        """An action is asked for; written once it is known what it acts on, for that may be a secret."""
        self._proposed = (action, stamp_ns)

    def judged(self, verdict: DeskVerdict, view: DeskView, stamp_ns: int) -> None:
        """Write the desktop as it was judged, the action, the verdict, and the command."""
        if self._proposed is None:
            return
        self._write_state(view)
        self._write_picture(force=True)
        targets = tuple(view.found.get(t) for t in _targets(verdict.action))
        into = _typed_into(verdict.action, targets, view)
        fields = self._write_action(into)
        self._put(VERDICT, self._verdict_fields(verdict, stamp_ns), stamp_ns)
        if verdict.allowed and fields is not None:
            self._put(COMMAND, _command_fields(verdict, view, fields, targets, self._wall(stamp_ns)), stamp_ns)

    def done(self, result: a.ActionResult, stamp_ns: int) -> None:
        """Write what came of it."""
        if self._proposed is not None:
            self._write_action(_UNSEEN)
        told = replace(result, text=self._hiding.text(result.text), answer=self._hiding.text(result.answer))
        fields = {**result_fields(told, self._wall), "header": self._wall(result.ended_ns or stamp_ns)}
        self._put(RESULT, {**fields, **self._who(), "kind": self._kind}, result.ended_ns or stamp_ns)
        self._write_picture(force=True)

    # Below: writing

    def _write_action(self, into: Element | None) -> dict[str, Any] | None:
        assert self._proposed is not None
        action, stamp_ns = self._proposed
        self._proposed = None
        self._sequence += 1
        self._kind = str(getattr(action, "kind", ""))
        about = {"header": self._wall(stamp_ns), **self._who(), "source": int(self._source)}
        try:
            fields = action_fields(self._hiding.action(action, into, self._sequence))
        except DesktopError:  # what was proposed is no action; the verdict says so
            fields = None
        self._put(ACTION, {**about, **(fields or {"kind": self._kind[:40]})}, stamp_ns)
        return None if fields is None else {**about, **fields}

    def _verdict_fields(self, verdict: DeskVerdict, stamp_ns: int) -> dict[str, Any]:
        found = [verdict.finding] if verdict.finding is not None else []
        return {
            "header": self._wall(stamp_ns),
            **self._who(),
            "outcome": int(verdict.outcome),
            "codes": [str(f.code) for f in found],
            "subjects": [f.subject for f in found],
            "values": np.array([f.value for f in found], np.float64),
            "limits": np.array([f.limit for f in found], np.float64),
            "text": self._hiding.text(verdict.text),
        }

    def _who(self) -> dict[str, Any]:
        by = RECOVERY if self._desk.recovering else self._operator
        return {"operator_id": by, "sequence": self._sequence}

    def _write_state(self, view: DeskView) -> None:
        hand = self._desk.bridge.hand
        held = self._desk.guard.held
        fields = {
            "display": self._desk.session.display,
            "home": str(self._desk.session.home),
            "screen": rect_fields(view.screen),
            "monitors": [monitor_fields(m) for m in view.monitors],
            "windows": [window_fields(w) for w in view.windows],
            "pointer_x": (view.pointer or (0, 0))[0],
            "pointer_y": (view.pointer or (0, 0))[1],
            "held": sorted(held.keys | held.buttons),
            "stopped": hand.stopped,
        }
        with self._lock:
            if fields == self._state:
                return
            self._state = fields
        self._put(STATE, {"header": self._wall(view.stamp_ns), **fields}, view.stamp_ns)

    def _write_picture(self, force: bool = False) -> None:
        """Write what the screen shows, unless it is what was written last."""
        if not self._period_s:
            return
        screen = self._desk.bridge.screen
        with self._lock:
            if self._pixels is not None and screen.changed_since(self._looked_ns) is None:
                return
            if not force and time.monotonic_ns() - self._looked_ns < self._period_s * 1e9:
                return
            picture = screen.grab()
            self._looked_ns = picture.stamp_ns
            if self._pixels is not None and np.array_equal(self._pixels, picture.pixels):
                return
            self._pixels = picture.pixels
        self._put(SCREEN, _image_fields(picture, self._wall(picture.stamp_ns)), picture.stamp_ns)

    def _entered(self, event: InputEvent) -> None:
        """Somebody gave input; called by the thread that listens."""
        told = replace(event, element=without_value(event.element))
        self._put(HUMAN, input_fields(told, self._wall), event.stamp_ns)

    def _put(self, topic: str, fields: Mapping[str, Any], stamp_ns: int) -> None:
        kind = TYPES[topic]
        data = message_bytes(kind, fields)
        with self._lock:
            number = self._sent[topic] = self._sent.get(topic, 0) + 1
            info = topic_info(f"/{topic}", kind)
            self._recording.put(Arrival(info, data, self._wall(time.monotonic_ns()), self._wall(stamp_ns), number))

    # Below: the thread that watches between actions

    def _watch(self) -> None:
        damage = self._desk.bridge.screen.damage
        while not self._ended.is_set():
            since = self._looked_ns or time.monotonic_ns()
            with suppress(DesktopError):  # the display is gone: whoever acts on it is told
                damage.wait(lambda d: bool(d) or self._ended.is_set(), since, _LOOK_S)
            self._look(time.monotonic_ns())
            self._ended.wait(_LOOK_S)

    def _look(self, stamp_ns: int) -> None:
        bridge = self._desk.bridge
        with suppress(DesktopError):
            view = DeskView(
                bridge.screen.rect,
                bridge.windows.all(),
                bridge.screen.monitors(),
                bridge.hand.position(),
                stamp_ns=stamp_ns,
            )
            self._write_state(view)
            self._write_picture()

    def _end(self) -> None:
        if self._ended.is_set():
            return
        if self in self._desk.watchers:
            self._desk.watchers.remove(self)
        self._human.close()
        self._ended.set()
        self._desk.bridge.screen.damage.wake()
        self._thread.join()
        with suppress(DesktopError):
            self._write_picture(force=True)
        if self._tree is not None:
            self._tree.close()

    def _own_tree(self) -> Tree | None:
        """Another connection than that of the desk: looking for what people press holds up no action."""
        bus = self._desk.session.environment.get("DBUS_SESSION_BUS_ADDRESS", "")
        with suppress(DesktopError):
            return Tree(bus, self._desk.bridge.windows.all) if bus else None
        return None

    def _about(self) -> dict[str, Any]:
        session, screen = self._desk.session, self._desk.bridge.screen.rect
        started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        size = f"{screen.width}x{screen.height}"
        return {"display": session.display, "screen": size, "started": started, "versions": {"optr": optr.__version__}}

    def _wall(self, steady_ns: int) -> int:
        return steady_ns + self._offset_ns


def _targets(action: Any) -> tuple[a.Target, ...]:
    """Places of an action in the order that the message has them."""
    if isinstance(action, a.Drag):
        return action.path
    named = (getattr(action, name, None) for name in ("to", "at", "into", "element"))
    return tuple(t for t in named if isinstance(t, a.Point | a.Selector))


def _typed_into(action: Any, targets: tuple[Element | None, ...], view: DeskView) -> Element | None:
    """The element that gets what an action types."""
    if isinstance(action, a.SetValue) or (isinstance(action, a.Type) and action.into is not None):
        return targets[0] if targets else None
    return view.focus


def _command_fields(
    verdict: DeskVerdict,
    view: DeskView,
    action: Mapping[str, Any],
    elements: tuple[Element | None, ...],
    stamp_ns: int,
) -> dict[str, Any]:
    focus = view.named(verdict.action.window) if isinstance(verdict.action, a.Focus) else ()
    return {
        "header": stamp_ns,
        "action": action,
        "reach": verdict.reach.value if verdict.reach else "",
        "elements": [element_fields(without_value(e)) for e in elements],
        "at_x": [pixel[0] for pixel, _ in verdict.pixels],
        "at_y": [pixel[1] for pixel, _ in verdict.pixels],
        "at_window": [window for _, window in verdict.pixels],
        "keyboard": verdict.keyboard,
        "window": focus[0].id if len(focus) == 1 else 0,
    }


def _image_fields(picture: Picture, stamp_ns: int) -> dict[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {
        "header": {"stamp": stamp_ns, "frame_id": "screen"},
        "height": height,
        "width": width,
        "encoding": "rgb8",
        "step": width * 3,
        "data": picture.pixels,
    }
