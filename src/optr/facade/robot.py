"""The arm in MuJoCo for the operator of the mission: in this process, under the sentinel's guard."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optr.errors import ActionError, ModelError, NotDoneError
from optr.facade.connector import Connector
from optr.spec import Spec, load_spec
from optr.spec.spec import STATE
from optr.spec.values import Vector

if TYPE_CHECKING:
    from optr.connectors.sim.simulation import Simulation
    from optr.experiments.gate import MotionGate
    from optr.operators.tool_path import ToolPath

GRIPPER = "gripper"
_MOST_OFF_M = 0.01
"""How far beside its goal the tool may come to rest [m]: the servos sag under the weight of the arm."""

_REACHED_M = 0.005
"""How near to a place the joints have to be able to bring the tool [m]."""

_OPEN_RAD = 0.8
_CLOSING_RAD_S = 1.0
"""How far jaws open to be ready, and how quickly they move."""

_TOUCHED, _STALLED_RAD_S, _STALLED_STEPS = 0.5, 0.2, 3
"""Jaws are taken to touch something when they press with this share of the force and are this slow, so many steps in a
row: it takes torque, too, to move them."""

_GAIN, _SQUEEZE_S, _NEAR, _NEAR_STEPS = 0.2, 2.0, 0.1, 5
"""What is missing of the force is made up for by this share in each step, for at most so long [s], until it is there
within this share, so many steps in a row."""

_SETTLE_S = 1.0
_REST_RAD_S = 0.02


@dataclass(frozen=True)
class RobotResult:
    """What came of an action of a robot.

    Attributes:
        seconds: How long it took, in the time of the robot [s].
        position: Where the tool is now, base frame [m].
        error_m: How far that is from where it was to be [m]; 0 where it was to be nowhere.
        gripper_rad: How far the jaws are open [rad].
        force: What the jaws press with, by the torque of their actuator and the lever of the tool [N].
        held: Whether there is something between the jaws: they press, and are not closed.
        limited: Steps in which the guard made it slower or smaller.
        codes: Of the rules that did.
    """

    seconds: float
    position: tuple[float, float, float]
    error_m: float
    gripper_rad: float
    force: float
    held: bool
    limited: int = 0
    codes: tuple[str, ...] = ()


class RobotConnector(Connector):
    """An arm on a table in MuJoCo, driven at its control rate, each step through the guard.

    Verbs: `move` (`position=` of the tool [m], base frame; `yaw=` of the jaws about the vertical [rad]; `clearance=` by
    which the fixed jaw is kept aside [m]; `speed=` [m/s]), `grasp` (`force=` [N]), `release`, and `home`.
    The jaws are controlled by position: they are closed until their actuator's torque amounts to the force, which is
    told as it was measured. What comes of a verb is a `RobotResult`.

    Attributes:
        simulation: The world, as soon as it is up.
    """

    def __init__(self, spec: str = "so101_tabletop", task: str = "pick_place", seed: int = 0) -> None:
        """Nothing comes up yet.

        Args:
            spec: File or shipped name of robot and scene.
            task: Puts things where they begin; empty: they are where the scene has them.
            seed: Of that.
        """
        self.simulation: Simulation | None = None
        self._spec_name, self._task, self._seed = spec, task, seed
        self._cancelled = threading.Event()
        self._yaw: float | None = None

    @property
    def verbs(self) -> Mapping[str, Sequence[str]]:
        return {
            "move": ("position", "yaw", "clearance", "speed"),
            "grasp": ("force",),
            "release": (),
            "home": (),
        }

    def open(self) -> None:
        try:
            from optr.connectors.sim.simulation import Simulation
            from optr.connectors.sim.tasks import make_task
            from optr.connectors.sim.world import World
            from optr.experiments.gate import MotionGate
            from optr.operators.tool_path import ToolPath
        except ImportError as err:
            raise ModelError(f"a robot in simulation needs the packages of optr[sim]: {err}") from err
        spec = load_spec(self._spec_name)
        self._path: ToolPath = ToolPath(spec)
        self._gate: MotionGate = MotionGate(spec)
        task = make_task(self._task) if self._task else None
        self.simulation = Simulation(World(spec), task, self._seed)
        self._gripper = spec.action.names.index(GRIPPER)
        self._target = self._joints().position.copy()
        self._lever_m, self._most_n, self._rad_n = self._jaws()

    def execute(self, verb: str, arguments: Mapping[str, Any]) -> RobotResult:
        self._up()
        self._cancelled.clear()
        doing: Callable[..., RobotResult] = getattr(self, f"_{verb}")
        try:
            inspect.signature(doing).bind(**arguments)
        except TypeError as err:
            raise ActionError(f"{verb}: {err}") from err
        return doing(**arguments)

    def observe(self, *keys: str) -> Mapping[str, Any]:
        """Joints [rad], the tool's place [m], force of the jaws [N], and where each object is (pose, base frame)."""
        world = self._up().world
        joints = world.joints()
        seen: dict[str, Any] = {
            STATE: joints.position.copy(),
            "joints": dict(zip(self._spec.action.names, joints.position.tolist(), strict=True)),
            "tool": self._tool(),
            "force": self._force(),
            **{f"observation.environment.{name}": world.pose(name) for name in world.objects},
        }
        unknown = [k for k in keys if k not in seen]
        if unknown:
            raise ActionError(f"nothing {', '.join(unknown)} can be seen of this robot; there are: {', '.join(seen)}")
        return {k: v for k, v in seen.items() if not keys or k in keys}

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self.simulation = None

    # -- verbs -----------------------------------------------------------------------------------------------------

    def _move(
        self, position: Sequence[float], yaw: float | None = None, clearance: float = 0.0, speed: float = 0.15
    ) -> RobotResult:
        goal = _vector("position", position)
        self._yaw = self._yaw if yaw is None else _number("yaw", yaw, -7.0, 7.0)
        clearance, speed = _number("clearance", clearance, -0.05, 0.05), _number("speed", speed, 0.01, 0.3)
        leg = self._path.leg(goal, self._yaw, float(self._target[self._gripper]), speed, clearance)
        far = self._path.out_of_reach_m(self._target, leg)
        if far > _REACHED_M:
            raise NotDoneError(
                f"move: {_place(goal)} is out of reach: the tool comes within {far * 1e3:.0f} mm of it", "UNREACHABLE"
            )
        return self._followed(self._path.follow(self._target, leg), leg.position)

    def _home(self) -> RobotResult:
        goal = self._spec.home_vector()
        goal[self._gripper] = self._target[self._gripper]
        count = max(1, round(float(np.abs(goal - self._target).max()) / _CLOSING_RAD_S * self._spec.action.rate))
        began = self._target
        return self._followed(began + (k / count) * (goal - began) for k in range(1, count + 1))

    def _release(self) -> RobotResult:
        return self._followed(self._jaws_to(_OPEN_RAD))

    def _grasp(self, force: float = 5.0) -> RobotResult:
        wanted = _number("force", force, _LEAST_N, self._most_n)
        result = self._followed(self._closing(wanted))
        if not result.held:
            text = f"grasp: the jaws closed on nothing; they press with {result.force:.1f} N"
            raise NotDoneError(text, "NOTHING_HELD", result)
        return result

    def _closing(self, wanted: float) -> Iterator[Vector]:
        """Close until something is touched, and then so far that the torque becomes that of the force."""
        channel = self._spec.action.channels[self._gripper]
        low, high = float(channel.low or 0.0), float(channel.high or 0.0)
        target = self._target.copy()
        step = _CLOSING_RAD_S * self._spec.period_ns * 1e-9
        stalled = 0
        while stalled < _STALLED_STEPS and target[self._gripper] > low:
            still = abs(float(self._joints().velocity[self._gripper])) < _STALLED_RAD_S
            stalled = stalled + 1 if still and self._force() > _TOUCHED * wanted else 0
            target[self._gripper] = max(low, target[self._gripper] - step)
            yield target.copy()
        near = 0
        for _ in range(round(_SQUEEZE_S * self._spec.action.rate)):
            missing = wanted - self._force()
            near = near + 1 if abs(missing) < _NEAR * wanted else 0
            if near == _NEAR_STEPS:
                return
            change = float(np.clip(_GAIN * missing * self._rad_n, -step, step))
            target[self._gripper] = float(np.clip(target[self._gripper] - change, low, high))
            yield target.copy()

    def _jaws_to(self, angle: float) -> Iterator[Vector]:
        target = self._target.copy()
        step = _CLOSING_RAD_S * self._spec.period_ns * 1e-9
        while (left := angle - target[self._gripper]) != 0.0:
            target[self._gripper] += float(np.clip(left, -step, step))
            yield target.copy()

    # -- motion ----------------------------------------------------------------------------------------------------

    def _followed(self, targets: Iterator[Vector], goal: Vector | None = None) -> RobotResult:
        """Go along joint targets, one each period, come to rest, and say how it went.

        Raises:
            NotDoneError: If the guard refuses a step, or it is cancelled, or comes to rest elsewhere.
        """
        world = self._up().world
        began_ns, limited = world.time_ns, []
        for target in targets:
            if self._cancelled.is_set():
                self._rest()
                raise NotDoneError("it was cancelled; the arm is at rest", "CANCELLED", self._result(began_ns, goal))
            limited += self._step(target)
            self._target = target
        for _ in range(round(_SETTLE_S * self._spec.action.rate)):
            limited += self._step(self._target)
            if float(np.abs(self._joints().velocity).max()) < _REST_RAD_S:
                break
        result = self._result(began_ns, goal, tuple(limited))
        if result.error_m > _MOST_OFF_M:
            text = f"it came to rest {result.error_m * 1e3:.0f} mm beside {_place(goal)}, at {_place(result.position)}"
            raise NotDoneError(text, "NOT_REACHED", result)
        return result

    def _step(self, target: Vector) -> list[str]:
        """One period of the control rate; answers the codes of the rules that limited it."""
        from optr.sentinel.codes import Outcome

        checked = self._gate.judge(target, {STATE: self._state()})
        if checked.outcome not in (Outcome.ALLOWED, Outcome.LIMITED) or checked.action is None:
            self._rest()
            raise NotDoneError(checked.text, ", ".join(map(str, checked.codes)))
        self._advance(checked.action)
        return [str(c) for c in checked.codes] if checked.outcome is Outcome.LIMITED else []

    def _rest(self) -> None:
        """Have the guard bring the joints to rest, and stay there."""
        for _ in range(round(_SETTLE_S * self._spec.action.rate)):
            self._target = self._gate.rest({STATE: self._state()})
            self._advance(self._target)
            if float(np.abs(self._joints().velocity).max()) < _REST_RAD_S:
                return

    def _advance(self, position: Vector) -> None:
        simulation = self._up()
        simulation.world.command(position)
        simulation.world.advance(simulation.steps_per_action)
        simulation.world.refresh()

    # -- what is measured ------------------------------------------------------------------------------------------

    def _result(self, began_ns: int, goal: Vector | None, codes: tuple[str, ...] = ()) -> RobotResult:
        tool = self._tool()
        angle, force = float(self._joints().position[self._gripper]), self._force()
        error = 0.0 if goal is None else float(np.linalg.norm(np.subtract(tool, goal)))
        low = float(self._spec.action.channels[self._gripper].low or 0.0)
        seconds = (self._up().world.time_ns - began_ns) * 1e-9
        held = force >= _HELD_N and angle > low + _CLOSED_RAD
        return RobotResult(seconds, tool, error, angle, force, held, len(codes), tuple(dict.fromkeys(codes)))

    def _joints(self) -> Any:
        return self._up().world.joints()

    def _state(self) -> Vector:
        measured = self._joints().position
        names = self._spec.action.names
        return np.array([measured[names.index(n)] for n in self._spec.state.names], dtype=np.float64)

    def _tool(self) -> tuple[float, float, float]:
        x, y, z = self._up().world.site(self._spec.tool_frame).tolist()
        return x, y, z

    def _force(self) -> float:
        """What the jaws press with [N], closing positive."""
        return max(0.0, -float(self._joints().effort[self._gripper]) / self._lever_m)

    def _jaws(self) -> tuple[float, float, float]:
        """Lever of the tool about their axis [m], most force [N] there, how far they go for it [rad/N]."""
        world = self._up().world
        joint, servo = world.model.joint(GRIPPER).id, world.model.actuator(GRIPPER)
        away = world.site(self._spec.tool_frame) - world.data.xanchor[joint]
        axis = world.data.xaxis[joint]
        lever = float(np.linalg.norm(away - (away @ axis) * axis))
        return lever, float(servo.forcerange[1]) / lever, lever / float(servo.gainprm[0])

    @property
    def _spec(self) -> Spec:
        return self._up().world.spec

    def _up(self) -> Simulation:
        if self.simulation is None:
            raise ModelError("the robot is not up")
        return self.simulation


_LEAST_N = 2.0
_HELD_N = 1.0
"""What jaws press with at least where something is between them [N]; friction alone comes near to it."""

_CLOSED_RAD = 0.05


def _number(name: str, value: Any, low: float, high: float) -> float:
    """A number within limits.

    Raises:
        ActionError: If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ActionError(f"{name} is {value!r}, expected a number from {low:.3g} to {high:.3g}")
    return float(value)


def _vector(name: str, value: Any) -> Vector:
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise ActionError(f"{name} is {value!r}, expected [x, y, z] in metres") from err
    if found.shape != (3,) or not np.isfinite(found).all():
        raise ActionError(f"{name} is {value!r}, expected [x, y, z] in metres, base frame")
    return found


def _place(position: Any) -> str:
    return "[" + ", ".join(f"{v:.3f}" for v in position) + "] m"
