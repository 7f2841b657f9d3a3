"""The elements of programs by accessibility (AT-SPI over D-Bus), bounded in count, depth and time.

Where an element lies, what it holds and offers is asked only of those that are wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optr.connectors.desktop.accessibility_bus import Bus, CacheItem, Call, Reference
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.owners import COMPONENT, Owners, extents, rect_of
from optr.connectors.desktop.rects import overlap
from optr.connectors.desktop.roles import PASSWORD_TEXT, bit, role_name, state_names
from optr.connectors.desktop.seen import Element, Elements, Window
from optr.connectors.desktop.selectors import words
from optr.connectors.desktop.tree_reader import (
    ACCESSIBLE,
    PROPERTIES,
    REGISTRY,
    Limits,
    Nodes,
    Program,
    TreeReader,
    is_shown,
)
from optr.errors import DesktopError

_ACTION = "org.a11y.atspi.Action"
_EDITABLE = "org.a11y.atspi.EditableText"
_TEXT = "org.a11y.atspi.Text"
_VALUE = "org.a11y.atspi.Value"
_LABELLED_BY = 2
_LONGEST_VALUE = 10_000  # characters of a text that are read
_HOLD_TEXT = frozenset({"textbox", "spinbutton", "combobox", "terminal"})
_NAMELESS = frozenset({"textbox", "spinbutton", "combobox", "slider", "checkbox", "listbox", "img"})

Wanted = Callable[[str, str], bool]
"""Whether an element is wanted, by its role and its name with single spaces."""


class Tree:
    """Reads and acts on what programs tell of themselves. Any thread may ask; they wait for one another."""

    def __init__(
        self, session_bus: str, windows: Callable[[], Sequence[Window]] = tuple, limits: Limits | None = None
    ) -> None:
        """Connect.

        Args:
            session_bus: Address of the message bus of the session.
            windows: Tells the windows of the same display; without them no element knows its window.
            limits: How much is read.

        Raises:
            DesktopError: If there is no bus, or no accessibility on it.
        """
        self.limits = limits or Limits()
        self._windows = windows
        self._lock = threading.RLock()
        self._bus = Bus(_accessibility_address(session_bus))
        self._reader = TreeReader(self._bus, self.limits)
        registry = Reference(REGISTRY, "/org/a11y/atspi/registry")
        # Toolkits keep a cache only once somebody listens.
        self._bus.call(Call(registry, REGISTRY, "RegisterEvent", "s", ("object:state-changed:showing",)))

    def programs(self) -> tuple[Program, ...]:
        """Those that have a tree now."""
        with self._lock:
            return self._reader.programs()

    def read(self, window: Window | None = None, limits: Limits | None = None) -> Elements:
        """Everything that is shown, of all programs or in one window, in the order of the tree.

        Args:
            window: Only what is in it.
            limits: How much is read this time; None: as always.
        """
        with self._lock:
            before = self.limits
            try:
                self.limits = self._reader.limits = limits or before
                return self._search("", lambda role, _: role != "generic", window, None)
            finally:
                self.limits = self._reader.limits = before

    def search(
        self,
        role: str = "",
        wanted: Wanted | None = None,
        window: Window | None = None,
        windows: Sequence[Window] | None = None,
    ) -> Elements:
        """What is shown, has a role (empty: any), and is wanted; as in `read`.

        Args:
            role: As ARIA has it.
            wanted: What else must be so.
            window: Only in this window of a program, and in menus that it opened.
            windows: Those of now, if they are known already.
        """
        with self._lock:
            return self._search(role, wanted, window, windows)

    def at(self, pixel: tuple[int, int], window: Window, windows: Sequence[Window] | None = None) -> Element | None:
        """The smallest element of a window that holds a pixel, one that has a name or an action before others.

        Args:
            pixel: On the whole screen.
            window: Of a program.
            windows: Those of now, if they are known already.
        """
        windows = tuple(self._windows()) if windows is None else windows
        here: list[Element] = []
        with self._lock:
            for nodes in self._reader.read(self._asked(window, windows), ""):
                owners = Owners(self._bus, nodes, windows, self.limits.depth)
                placed = [i for i in nodes.items.values() if is_shown(i) and "Component" in i.interfaces]
                told = self._bus.call_many([extents(i.reference) for i in placed], self.limits.seconds)
                rects = [rect_of(answer.body[0]) if answer.body else None for answer in told]
                near = [self._named(i) for i, r in zip(placed, rects, strict=False) if r and r.holds(*pixel)]
                own = [i for i in near if (top := owners.top(i)) is not None and top.id == window.id]
                here += self._describe(own, nodes, owners)
        here = [e for e in here if e.rect is not None and e.rect.holds(*pixel)]
        return min(here, key=lambda e: (not (e.name or e.actions), _area(e)), default=None)

    def focused(self, window: Window, windows: Sequence[Window] | None = None) -> Element | None:
        """The element of a window that has the keyboard, or would have it; None: nobody says so."""
        windows = tuple(self._windows()) if windows is None else windows
        with self._lock:
            for nodes in self._reader.read(self._asked(window, (window,)), ""):
                found = [i for i in nodes.items.values() if is_shown(i) and i.states & bit("focused")]
                elements = self._describe(found, nodes, Owners(self._bus, nodes, windows, self.limits.depth))
                own = [e for e in elements if e.window == window.id and e.rect]
                if own:
                    return min(own, key=_area)
        return None

    def refresh(self, element: Element) -> Element:
        """The element as it is now; its `rect` is the whole of it.

        Raises:
            DesktopError: If it is gone.
        """
        with self._lock:
            item = self._reader.item(_reference(element))
            now = self._describe([item], Nodes(Program(item.reference.name, 0)), None)[0]
            return replace(now, window=element.window)

    def invoke(self, element: Element, action: str = "") -> str:
        """Do what an element offers: an action by its name, else its first one. Answers which.

        Raises:
            DesktopError: If it is gone, insensitive, offers nothing of that name, or refuses.
        """
        with self._lock:
            now = self.refresh(element)
            names = [a.lower() for a in now.actions]
            wanted = action.lower() or (names[0] if names else "")
            if wanted not in names:
                offered = ", ".join(now.actions) or "nothing"
                raise DesktopError(f"{words(now)} has no action {action!r}; it offers: {offered}")
            _demand_enabled(now)
            call = Call(_reference(now), _ACTION, "DoAction", "i", (names.index(wanted),))
            if not self._bus.call(call)[0]:
                raise DesktopError(f"{words(now)} refuses to {wanted}")
            return now.actions[names.index(wanted)]

    def set_value(self, element: Element, value: str) -> Element:
        """Put a text or a number into an element; answers it as it is then.

        Raises:
            DesktopError: If it is gone, takes none, or holds something else afterwards.
        """
        with self._lock:
            now = self.refresh(element)
            _demand_enabled(now)
            reference = _reference(now)
            offered = self._reader.item(reference).interfaces
            if "EditableText" in offered and "editable" in now.states:
                self._bus.call(Call(reference, _EDITABLE, "SetTextContents", "s", (value,)))
            elif "Value" in offered:
                body = (_VALUE, "CurrentValue", ("d", _number(value, now)))
                self._bus.call(Call(reference, PROPERTIES, "Set", "ssv", body))
            else:
                raise DesktopError(f"{words(now)} takes no value; textboxes, sliders and spin buttons do")
            after = self.refresh(now)
            if not _same_value(after.value, value):
                raise DesktopError(f"{words(now)} holds {after.value!r} after {value!r} was put into it")
            return after

    def focus(self, element: Element) -> None:
        """Give an element the keyboard.

        Raises:
            DesktopError: If it is gone, or does not take it.
        """
        with self._lock:
            if not self._bus.call(Call(_reference(element), COMPONENT, "GrabFocus"))[0]:
                raise DesktopError(f"{words(element)} does not take the keyboard")

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._bus.close()

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _search(
        self, role: str, wanted: Wanted | None, window: Window | None, windows: Sequence[Window] | None
    ) -> Elements:
        stamp = time.monotonic_ns()
        windows = tuple(self._windows()) if windows is None else windows
        elements: list[Element] = []
        reasons: list[str] = []
        for nodes in self._reader.read(self._asked(window, windows), role):
            reasons += [nodes.truncated] if nodes.truncated else []
            owners = Owners(self._bus, nodes, windows, self.limits.depth)
            found = self._matching(nodes, role, wanted)
            if window is not None:
                found = [i for i in found if (top := owners.top(i)) is not None and top.id == window.id]
            found.sort(key=lambda i: nodes.order(i, self.limits.depth))
            elements += self._describe(found, nodes, owners)
        return Elements(tuple(e for e in elements if e.rect), "; ".join(reasons), stamp)

    def _asked(self, window: Window | None, windows: Sequence[Window]) -> list[Program]:
        """Programs that may show something."""
        pids = {w.pid for w in ([window] if window else windows) if w.pid and w.visible}
        return [p for p in self._reader.programs() if not pids or not p.pid or p.pid in pids]

    def _matching(self, nodes: Nodes, role: str, wanted: Wanted | None) -> list[CacheItem]:
        found = []
        for item in nodes.items.values():
            its = role_name(item.role)
            if not is_shown(item) or (role and its != role):
                continue
            item = self._named(item)
            if wanted is None or wanted(its, _spaced(item.name)):
                found.append(item)
        return found

    def _named(self, item: CacheItem) -> CacheItem:
        if item.name or role_name(item.role) not in _NAMELESS:
            return item
        return item._replace(name=self._label(item.reference))

    def _label(self, reference: Reference) -> str:
        """Name of what stands beside an element to name it."""
        answer = self._bus.call_many([Call(reference, ACCESSIBLE, "GetRelationSet")])[0]
        targets = [t for kind, those in (answer.body[0] if answer.body else ()) if kind == _LABELLED_BY for t in those]
        names = self._bus.call_many(
            [Call(Reference(*t), PROPERTIES, "Get", "ss", (ACCESSIBLE, "Name")) for t in targets]
        )
        return _spaced(" ".join(str(n.body[0][1]) for n in names if n.body)).rstrip(":")

    def _describe(self, items: Sequence[CacheItem], nodes: Nodes, owners: Owners | None) -> list[Element]:
        """Elements with their places, values and actions, all asked at once."""
        panes = [nodes.panes(item, self.limits.depth) for item in items]
        questions = [(n, what, call) for n, i in enumerate(items) for what, call in _questions(i)]
        around = list(dict.fromkeys(pane.reference for those in panes for pane in those))
        calls = [call for _, _, call in questions] + [extents(pane) for pane in around]
        answers = self._bus.call_many(calls, self.limits.seconds)
        told: list[dict[str, Any]] = [{} for _ in items]
        for (number, what, _), answer in zip(questions, answers, strict=False):
            if answer.body:
                told[number][what] = answer.body[0]
        places = dict(
            zip(around, (rect_of(a.body[0]) if a.body else None for a in answers[len(questions) :]), strict=True)
        )
        actions = self._actions(items, told)
        found = []
        for n, item in enumerate(items):
            rect = _in_sight(rect_of(told[n].get("rect")), [places[pane.reference] for pane in panes[n]])
            window = owners.drawn(item, rect) if owners else 0
            found.append(_element(item, told[n], actions[n], rect, window))
        return found

    def _actions(self, items: Sequence[CacheItem], told: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
        """Names of what each can do. `GetActions` leaves those of Chromium empty: they are asked for one by one."""
        names = [[str(action[0]) for action in t.get("actions", ())] for t in told]
        places = [(n, place) for n, those in enumerate(names) for place, name in enumerate(those) if not name]
        calls = [Call(items[n].reference, _ACTION, "GetName", "i", (place,)) for n, place in places]
        for (n, place), answer in zip(places, self._bus.call_many(calls, self.limits.seconds), strict=True):
            names[n][place] = str(answer.body[0]) if answer.body else ""
        return [tuple(those) for those in names]


def _accessibility_address(session_bus: str) -> str:
    """Address of the bus of accessibility, which is turned on: Chromium tells a tree only if it was when it started."""
    bus = Bus(session_bus)
    try:
        service = Reference("org.a11y.Bus", "/org/a11y/bus")
        address = str(bus.call(Call(service, "org.a11y.Bus", "GetAddress"), 10.0)[0])
        bus.call(Call(service, PROPERTIES, "Set", "ssv", ("org.a11y.Status", "IsEnabled", ("b", True))))
        return address
    except DesktopError as err:
        raise DesktopError(f"no accessibility on the bus {session_bus!r} (at-spi2-core is needed): {err}") from err
    finally:
        bus.close()


def _spaced(name: str) -> str:
    return " ".join(name.split())


def _questions(item: CacheItem) -> Iterable[tuple[str, Call]]:
    if "Component" in item.interfaces:
        yield "rect", extents(item.reference)
    if "Action" in item.interfaces:
        yield "actions", Call(item.reference, _ACTION, "GetActions")
    if "Text" in item.interfaces and (role_name(item.role) in _HOLD_TEXT or item.states & bit("editable")):
        yield "text", Call(item.reference, _TEXT, "GetText", "ii", (0, _LONGEST_VALUE))
    if "Value" in item.interfaces:
        yield "number", Call(item.reference, PROPERTIES, "Get", "ss", (_VALUE, "CurrentValue"))


def _element(
    item: CacheItem, told: Mapping[str, Any], actions: tuple[str, ...], rect: Rect | None, window: int
) -> Element:
    return Element(
        role=role_name(item.role),
        name=_spaced(item.name),
        value=_value(told),
        rect=rect,
        states=_states(item),
        actions=actions,
        window=window,
        reference=f"{item.reference.name}{item.reference.path}",
    )


def _states(item: CacheItem) -> tuple[str, ...]:
    told = state_names(item.states)
    return tuple(sorted((*told, "password"))) if item.role == PASSWORD_TEXT else told


def _in_sight(rect: Rect | None, panes: Sequence[Rect | None]) -> Rect | None:
    """The part of a place that the lists and panes around it, which scroll, let through."""
    for pane in panes:
        rect = overlap(rect, pane) if rect and pane else rect
    return rect


def _area(element: Element) -> int:
    return element.rect.width * element.rect.height if element.rect else 0


def _value(told: Mapping[str, Any]) -> str:
    if "text" in told:
        return str(told["text"])
    return f"{told['number'][1]:g}" if "number" in told else ""


def _reference(element: Element) -> Reference:
    name, slash, path = element.reference.partition("/")
    if element.source != "accessibility" or not slash:
        raise DesktopError(f"{words(element)} comes from {element.source}; only accessibility can act on elements")
    return Reference(name, slash + path)


def _demand_enabled(element: Element) -> None:
    if "enabled" not in element.states:
        raise DesktopError(f"{words(element)} is insensitive")


def _number(value: str, element: Element) -> float:
    try:
        return float(value)
    except ValueError as err:
        raise DesktopError(f"{words(element)} takes a number, not {value!r}") from err


def _same_value(held: str, wanted: str) -> bool:
    if held == wanted:
        return True
    try:
        return abs(float(held) - float(wanted)) <= 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return False
