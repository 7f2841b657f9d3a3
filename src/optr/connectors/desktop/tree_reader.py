"""Reads the trees of programs: from the cache that each keeps for others, and around its holes; always bounded."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from optr.connectors.desktop.accessibility_bus import LATE, Bus, CacheItem, Call, NoCache, Reference
from optr.connectors.desktop.roles import CELLS, CLIPPING, ROLES, bit
from optr.errors import DesktopError

REGISTRY = "org.a11y.atspi.Registry"
ROOT = "/org/a11y/atspi/accessible/root"
ACCESSIBLE = "org.a11y.atspi.Accessible"
PROPERTIES = "org.freedesktop.DBus.Properties"
_COLLECTION = "org.a11y.atspi.Collection"
_MATCH = "(aiia{ss}iaiiasib)uib"  # states, attributes, roles, interfaces, each with how they count; order, count, depth
_ALL, _ANY, _IN_TREE_ORDER = 1, 2, 1
_SHOWING = bit("showing") | bit("visible")
_LAZY = bit("manages_descendants")
_LATE_BEFORE_S = 0.1


@dataclass(frozen=True)
class Limits:
    """How much of a tree is read.

    Attributes:
        elements: At most so many nodes of one program.
        depth: At most so many levels.
        seconds: All programs together may take so long to answer [s].
    """

    elements: int = 10_000
    depth: int = 64
    seconds: float = 2.0


@dataclass(frozen=True)
class Program:
    """A program with a tree: its connection to the bus, its process (0: unknown)."""

    connection: str
    pid: int


@dataclass
class Nodes:
    """What was read of one program.

    Attributes:
        program: Which.
        items: Its nodes; above each are those that lead to a window.
        truncated: Why there are not more; empty: these are all.
    """

    program: Program
    items: dict[Reference, CacheItem] = field(default_factory=dict)
    truncated: str = ""

    def ancestors(self, item: CacheItem, most: int) -> list[CacheItem]:
        """From its parent upwards, without the program itself."""
        found: list[CacheItem] = []
        while (above := self.items.get(item.parent)) is not None and len(found) < most:
            found.append(above)
            item = above
        return found

    def panes(self, item: CacheItem, most: int) -> list[CacheItem]:
        """Lists, tables and panes around it that may scroll."""
        return [above for above in self.ancestors(item, most) if above.role in CLIPPING]

    def order(self, item: CacheItem, most: int) -> tuple[int, ...]:
        """Sorts nodes as they stand in the tree."""
        return tuple(i.place for i in reversed([item, *self.ancestors(item, most)]))

    def holes(self, cells: bool) -> list[CacheItem]:
        """Nodes with children that are in no cache: web pages, and the cells of tables if they are wanted."""
        known = Counter(item.parent for item in self.items.values())
        shown = [i for i in self.items.values() if is_shown(i)]
        return [i for i in shown if (cells if i.states & _LAZY else i.children > known[i.reference])]


class _Place(NamedTuple):
    """A node of which only this is known."""

    reference: Reference
    parent: Reference
    place: int


class TreeReader:
    """Reads over one connection; for one thread at a time.

    Attributes:
        limits: How much is read.
    """

    def __init__(self, bus: Bus, limits: Limits) -> None:
        self._bus = bus
        self.limits = limits
        self._pids: dict[str, int] = {}
        self._late: set[str] = set()

    def programs(self) -> tuple[Program, ...]:
        """Those that have a tree now."""
        ((children),) = self._bus.call(Call(Reference(REGISTRY, ROOT), ACCESSIBLE, "GetChildren"))
        names = dict.fromkeys(name for name, _ in children)
        for name in names:
            if name not in self._pids:
                self._pids[name] = self._bus.pid(name)
        return tuple(Program(n, self._pids[n]) for n in names)

    def read(self, programs: Sequence[Program], role: str) -> list[Nodes]:
        """What programs show, at least what has a role (empty: any).

        All are asked at once: one that hangs costs half of the time, and the next time it is hardly waited for.
        """
        end = time.monotonic() + self.limits.seconds
        names = [p.connection for p in programs]
        patience = {n: _LATE_BEFORE_S if n in self._late else self.limits.seconds / 2 for n in names}
        caches = self._bus.cache_items(patience)
        self._late = {n for n, cache in caches.items() if cache is None}
        return [self._nodes(p, caches[p.connection], role, end) for p in programs]

    def item(self, reference: Reference) -> CacheItem:
        """One node as it is now.

        Raises:
            DesktopError: If it is gone.
        """
        end = time.monotonic() + self.limits.seconds
        found, _ = self._items([_Place(reference, Reference("", ""), 0)], end, hidden=True)
        if not found:
            raise DesktopError(f"the element {reference.name}{reference.path} is gone")
        return found[0]

    def _nodes(self, program: Program, cache: Iterator[CacheItem] | NoCache | None, role: str, end: float) -> Nodes:
        nodes = Nodes(program)
        if cache is None:
            nodes.truncated = f"process {program.pid} does not answer"
        elif isinstance(cache, NoCache):
            root = CacheItem(Reference(program.connection, ROOT), Reference("", ""), 0, -1, frozenset(), "", 0, 0)
            self._walk(nodes, [root], end)
        else:
            try:
                nodes.items = {i.reference: i for i in islice(cache, self.limits.elements)}
                if next(cache, None) is not None:
                    nodes.truncated = self._too_many(program)
            except (struct.error, UnicodeDecodeError):
                nodes.truncated = f"process {program.pid} tells a broken tree"
            for hole in nodes.holes(cells=not role or role in CELLS):
                self._fill(nodes, hole, role, end)
        return nodes

    def _fill(self, nodes: Nodes, hole: CacheItem, role: str, end: float) -> None:
        """Read what is shown below a node, of one role or of all; the program itself looks for it."""
        room = max(self.limits.elements - len(nodes.items), 0)
        body = (_rule(role), _IN_TREE_ORDER, room + 1, True)
        answer = self._bus.call_many([Call(hole.reference, _COLLECTION, "GetMatches", _MATCH, body)], _left(end))[0]
        if answer.error and answer.error != LATE:
            self._walk(nodes, [hole], end)
            return
        found = [Reference(*r) for r in answer.body[0]] if answer.body else []
        below = [_Place(r, hole.reference, n) for n, r in enumerate(found) if r not in nodes.items]
        self._add(nodes, below, not answer.error, end)

    def _walk(self, nodes: Nodes, parents: list[CacheItem], end: float) -> None:
        """Read what is below some nodes, a level at a time."""
        for _ in range(self.limits.depth):
            if not parents:
                return
            calls = [Call(p.reference, ACCESSIBLE, "GetChildren") for p in parents]
            answers = self._bus.call_many(calls, _left(end))
            below = [
                _Place(Reference(*child), parent.reference, place)
                for parent, answer in zip(parents, answers, strict=True)
                for place, child in enumerate(answer.body[0] if answer.body else ())
                if Reference(*child) not in nodes.items
            ]
            parents = self._add(nodes, below, all(a.error != LATE for a in answers), end)
        if parents:
            nodes.truncated = f"process {nodes.program.pid} has more than {self.limits.depth} levels of elements"

    def _add(self, nodes: Nodes, places: Sequence[_Place], whole: bool, end: float) -> list[CacheItem]:
        """Add those that are shown, as many as there is room for; answers them."""
        room = max(self.limits.elements - len(nodes.items), 0)
        items, told = self._items(places[:room], end)
        nodes.items |= {i.reference: i for i in items}
        if len(places) > room:
            nodes.truncated = self._too_many(nodes.program)
        elif not whole or not told:
            nodes.truncated = f"process {nodes.program.pid} did not tell all in time"
        return items

    def _items(self, places: Sequence[_Place], end: float, hidden: bool = False) -> tuple[list[CacheItem], bool]:
        """Nodes at places (those that are not shown only if asked for), and whether all answered in time."""
        answers = self._bus.call_many([Call(p.reference, ACCESSIBLE, "GetState") for p in places], _left(end))
        states = [sum(part << 32 * n for n, part in enumerate(a.body[0])) if a.body else 0 for a in answers]
        kept = [n for n, bits in enumerate(states) if answers[n].body and (hidden or bits & _SHOWING == _SHOWING)]
        calls: list[Call] = []
        for n in kept:
            reference = places[n].reference
            calls += [
                Call(reference, PROPERTIES, "Get", "ss", (ACCESSIBLE, "Name")),
                Call(reference, ACCESSIBLE, "GetRole"),
                Call(reference, ACCESSIBLE, "GetInterfaces"),
            ]
        told = self._bus.call_many(calls, _left(end))
        items = []
        for number, n in enumerate(kept):
            name, role, offered = told[3 * number : 3 * number + 3]
            if name.body and role.body and offered.body:
                short = frozenset(str(i).rpartition(".")[2] for i in offered.body[0])
                items.append(CacheItem(*places[n], -1, short, str(name.body[0][1]), role.body[0], states[n]))
        return items, all(a.error != LATE for a in (*answers, *told))

    def _too_many(self, program: Program) -> str:
        return f"process {program.pid} has more than {self.limits.elements} elements"


def is_shown(item: CacheItem) -> bool:
    """Whether it is on the screen, as far as its program knows: other windows may cover it."""
    return item.states & _SHOWING == _SHOWING


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.0)


def _rule(role: str) -> tuple[Any, ...]:
    """What `GetMatches` compares: shown, and of one role if one is given."""
    numbers = sum(1 << n for n, word in enumerate(ROLES) if word == role)
    return (_parts(_SHOWING, 2), _ALL, {}, _ALL, _parts(numbers, 5), _ANY if numbers else _ALL, [], _ALL, False)


def _parts(bits: int, count: int) -> list[int]:
    """Bits as signed numbers of 32 bits, the lowest first."""
    raw = bits.to_bytes(4 * count, "little")
    return [int.from_bytes(raw[4 * n : 4 * n + 4], "little", signed=True) for n in range(count)]
