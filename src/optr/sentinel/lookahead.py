"""Rules that look where the arm would go: does it hit itself or its surroundings, does it leave its box?

All look along the whole path without a gap, by conservative advancement: where something is still a distance d away,
the path may be followed unseen as long as nothing can have moved by more than d. How far it can have moved is known
from the joints alone: no point moves farther than the sum over the joints of |change| times the longest lever.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optr.errors import SpecError
from optr.sentinel.codes import Code
from optr.sentinel.rule import Finding, PathRule, Situation, setting
from optr.spec import Spec
from optr.spec.values import Vector

if TYPE_CHECKING:
    from optr.sentinel.body import BodyModel

_SAME = 1e-6
"""What comes closer by less than this [m] has come no closer."""

_NO_MODEL = "the spec names no model"


class Way:
    """A path, and how far things can move along it.

    Places on it are numbers: 2.5 is half way between rows 2 and 3.

    Attributes:
        end: The last place.
    """

    def __init__(self, path: Vector, reach: Vector) -> None:
        """Prepare.

        Args:
            path: Joint positions, shape (m, n), m >= 2, [rad or m].
            reach: How far each of p things can move per change of each joint, shape (p, n), [m/rad or m/m].
        """
        self._path = path
        self.end = float(len(path) - 1)
        self._gone = np.zeros((len(path), len(reach)))
        np.cumsum(np.abs(path[1:] - path[:-1]) @ reach.T, axis=0, out=self._gone[1:])
        self._columns: dict[int, list[float]] = {}

    def at(self, place: float) -> Vector:
        """Joint positions, shape (n,)."""
        row = int(place)
        share = place - row
        if not share:
            return np.asarray(self._path[row])
        return np.asarray(self._path[row] + share * (self._path[row + 1] - self._path[row]))

    def gone(self, thing: int, place: float) -> float:
        """How far a thing can have moved since the start [m]."""
        column = self._column(thing)
        row = int(place)
        if row == place:
            return column[row]
        return column[row] + (place - row) * (column[row + 1] - column[row])

    def after(self, thing: int, place: float, distance: float) -> float:
        """Where a thing can have moved `distance` [m] since `place`; the end if it cannot get that far."""
        column = self._column(thing)
        target = self.gone(thing, place) + distance
        row = bisect_right(column, target) - 1
        if row >= len(column) - 1:
            return self.end
        return row + (target - column[row]) / (column[row + 1] - column[row])

    def _column(self, thing: int) -> list[float]:
        found = self._columns.get(thing)
        if found is None:
            found = self._columns[thing] = self._gone[:, thing].tolist()
        return found


@dataclass
class Collision(PathRule):
    """Keeps the arm from touching itself or its surroundings.

    Distances are those of the model of the spec where its servos let the commanded arm hang (`sag`), without load.
    Lag is not foreseen: an arm that is late goes the same way later, and cuts its corners. Nothing on that path comes
    closer than `margin` less half of `resolution` without being found. What is closer than `margin` at the start may
    go away, and not come closer.
    """

    margin: float = setting(0.003, "Distance that is kept from everything.", unit="m", low=0.0005, high=0.5)
    resolution: float = setting(
        0.004, "What a point may move between two looks beyond what is clear.", unit="m", low=0.0002, high=0.5
    )
    search: float = setting(
        0.03, "What is farther away is not measured; changes the cost only.", unit="m", low=0.001, high=1.0
    )

    sag: bool = setting(True, "Look where the model's servos let the arm hang, not where it is commanded.")

    name: ClassVar[str] = "collision"
    codes: ClassVar[tuple[str, ...]] = (Code.SELF_COLLISION, Code.WORLD_COLLISION)

    def bind(self, spec: Spec) -> None:
        """Compile the model.

        Raises:
            SpecError: If two settings do not fit, or the model does not fit the spec.
            ModelError: If the model is missing or broken.
        """
        if self.resolution > 2 * self.margin:
            raise SpecError(
                f"{self.name}: a resolution of {self.resolution} m could jump over a margin of {self.margin} m; "
                f"at most {2 * self.margin} m"
            )
        self._body = _body_model(self, spec, self.margin)
        if self._body is None:
            return
        if not self._body.pairs:
            self.idle = "nothing in the model can collide"
        self._reach = np.array([*(p.reach for p in self._body.pairs), self._body.worst])

    def features(self) -> tuple[str, ...]:
        return tuple(self._body.placed) if self._body is not None else ()

    def check(self, at: Situation, path: Vector) -> Finding | None:
        body = self._body
        if self.idle or body is None:
            return None
        body.place(at.seen)
        if self.sag:
            path = body.sagged(path)
        way = Way(path, self._reach)
        anything = len(self._reach) - 1
        start: dict[tuple[int, int], float] = {}
        place = 0.0
        while True:
            body.set_joints(way.at(place))
            # What is farther than this cannot matter before the end.
            left = way.gone(anything, way.end) - way.gone(anything, place)
            search = min(max(self.search, self.margin), left + self.margin)
            next_place = way.after(anything, place, search - self.margin + self.resolution)
            for distance, pair, a, b in body.near(search):
                floor = self.margin
                if distance < floor:
                    if not place:
                        start[a, b] = min(distance, start.get((a, b), distance))
                    floor = start.get((a, b), floor)
                    if distance < floor - _SAME:
                        return self._finding(distance, pair, a, b, place, way)
                # What starts within the margin has none to spare for jumps.
                jump = self.resolution if floor == self.margin else self.resolution / 4
                next_place = min(next_place, way.after(pair, place, distance - floor + jump))
            if place >= way.end:
                return None
            place = next_place

    def _finding(self, distance: float, pair: int, a: int, b: int, place: float, way: Way) -> Finding:
        body = self._body
        assert body is not None
        of_robot = body.pairs[pair].of_robot
        # The robot's body, or of two the outer one, whose number is the larger.
        moved, other = (a, b) if body.moved(a) >= body.moved(b) else (b, a)
        subject, by = body.name(moved), body.name(other)
        how = f"come within {distance * 1e3:.1f} mm of" if distance >= 0 else f"go {-distance * 1e3:.1f} mm into"
        return Finding(
            Code.SELF_COLLISION if of_robot else Code.WORLD_COLLISION,
            f"{subject} would {how} {by}, {_where(place, way)}; {self.margin * 1e3:.1f} mm must stay",
            subject,
            distance,
            self.margin,
        )


@dataclass(frozen=True)
class Box:
    """A box in which a point must stay.

    Attributes:
        point: Site or body of the model; its origin is meant.
        low: Lower corner in the base frame [m], 3 values.
        high: Upper corner in the base frame [m], 3 values.
        radius: Size of a ball about the point that must stay in as a whole [m].
    """

    point: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    radius: float = 0.0


@dataclass(frozen=True)
class Zone:
    """A box or a ball that points must stay out of. Give `low` and `high`, or `centre` and `size`.

    Attributes:
        name: For people.
        points: Sites or bodies of the model; their origins are meant.
        low: Lower corner of a box in the base frame [m], 3 values.
        high: Upper corner of a box in the base frame [m], 3 values.
        centre: Centre of a ball in the base frame [m], 3 values.
        size: Radius of that ball [m].
        radius: Size of a ball about each point that must stay out as a whole [m].
    """

    name: str
    points: tuple[str, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    centre: tuple[float, ...] = ()
    size: float = 0.0
    radius: float = 0.0


@dataclass(frozen=True)
class _Region:
    """Where a ball about a point may be. `clear` [m] falls no faster than the point moves; it is negative outside."""

    point: str
    text: str
    low: Vector
    high: Vector
    radius: float
    kind: str

    def clear(self, position: Vector) -> float:
        if self.kind == "inside":
            return float(min((position - self.low).min(), (self.high - position).min())) - self.radius
        if self.kind == "ball":
            return math.dist(position.tolist(), self.low.tolist()) - float(self.high[0]) - self.radius
        beyond = np.maximum(self.low - position, position - self.high)
        if beyond.max() <= 0.0:
            return float(beyond.max()) - self.radius
        return float(np.linalg.norm(np.maximum(beyond, 0.0))) - self.radius


@dataclass
class _Regions(PathRule):
    """Points and where they may be; what `Workspace` and `KeepOut` share."""

    resolution: ClassVar[float] = 0.001
    """What a point may move between two looks beyond what is clear [m]."""

    _does: ClassVar[str]
    """What a point does wrong, for people."""

    _called: ClassVar[str]
    """What a region is called, for people."""

    def bind(self, spec: Spec) -> None:
        """Find the points.

        Raises:
            SpecError: If the model lacks one, or a region is none.
            ModelError: If the model is missing or broken.
        """
        self._regions = self._made()
        for region in self._regions:
            if region.radius < 0.0:
                raise SpecError(f"{self.name}: the radius of {region.text} is {region.radius}, expected 0 or more")
        if not self._regions:
            self.idle = f"no {self._called} is configured"
            return
        self._body = _body_model(self, spec, 0.0)
        if self._body is None:
            return
        found = [self._body.point(r.point) for r in self._regions]
        self._positions = [position for _, position in found]
        self._reach = np.array([self._body.reach(body, position[None]) for body, position in found])

    @abstractmethod
    def _made(self) -> list[_Region]:
        """Regions of the settings."""

    def check(self, at: Situation, path: Vector) -> Finding | None:
        if self.idle or self._body is None:
            return None
        way = Way(path, self._reach)
        body, place, start = self._body, 0.0, [0.0] * len(self._regions)
        while True:
            body.set_joints(way.at(place))
            next_place = way.end
            for i, region in enumerate(self._regions):
                clear = region.clear(body.in_base(self._positions[i]))
                if not place:
                    start[i] = min(clear, 0.0)
                if clear < start[i] - _SAME:
                    by = f"by {-clear * 1e3:.1f} mm, {_where(place, way)}"
                    text = f"{region.point} would {self._does} {region.text} {by}"
                    return Finding(self.codes[0], text, region.point, clear, 0.0)
                next_place = min(next_place, way.after(i, place, clear - start[i] + self.resolution))
            if place >= way.end:
                return None
            place = next_place


@dataclass
class Workspace(_Regions):
    """Keeps points of the arm inside boxes."""

    boxes: tuple[Box, ...] = setting((), "Boxes, each with the site or body that must stay in it.")

    name: ClassVar[str] = "workspace"
    codes: ClassVar[tuple[str, ...]] = (Code.WORKSPACE,)
    _does: ClassVar[str] = "leave"
    _called: ClassVar[str] = "box"

    def _made(self) -> list[_Region]:
        return [
            _Region(b.point, "its box", *_corners(f"{self.name}: box of {b.point}", b.low, b.high), b.radius, "inside")
            for b in self.boxes
        ]


@dataclass
class KeepOut(_Regions):
    """Keeps points of the arm out of zones."""

    zones: tuple[Zone, ...] = setting((), "Boxes and balls, each with the sites or bodies that must stay out of it.")

    name: ClassVar[str] = "keep_out"
    codes: ClassVar[tuple[str, ...]] = (Code.KEEP_OUT,)
    _does: ClassVar[str] = "enter"
    _called: ClassVar[str] = "zone"

    def _made(self) -> list[_Region]:
        made = []
        for zone in self.zones:
            what = f"{self.name}: zone {zone.name!r}"
            if not zone.points:
                raise SpecError(f"{what} names no point that must stay out")
            if zone.centre:
                if zone.low or zone.high or len(zone.centre) != 3 or zone.size < self.resolution:
                    raise SpecError(f"{what}: a ball has a centre of 3 values and a size of at least 1 mm, no corners")
                shape = np.array(zone.centre), np.full(3, zone.size)
            else:
                shape = _corners(what, zone.low, zone.high)
            kind = "ball" if zone.centre else "outside"
            made += [_Region(p, f"zone {zone.name!r}", *shape, zone.radius, kind) for p in zone.points]
        return made


def _corners(what: str, low: tuple[float, ...], high: tuple[float, ...]) -> tuple[Vector, Vector]:
    if len(low) != 3 or len(high) != 3 or any(b - a < _Regions.resolution for a, b in zip(low, high, strict=True)):
        raise SpecError(
            f"{what}: expected low and high of 3 values each, high at least 1 mm above low; "
            f"got {list(low)} and {list(high)}"
        )
    return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)


def _where(place: float, way: Way) -> str:
    return f"{100 * place / way.end:.0f} % along the way (row {math.ceil(place)} of {way.end:.0f})"


def _body_model(rule: PathRule, spec: Spec, margin: float) -> BodyModel | None:
    """The model of the spec; None, and the rule is idle, if it names none. MuJoCo is loaded here and not before."""
    if spec.scene is None and spec.mjcf is None and spec.urdf is None:
        rule.idle = _NO_MODEL
        return None
    from optr.sentinel.body import BodyModel

    return BodyModel(spec, margin)
