"""The standard services of `simulation_interfaces`, where that package is installed; nothing else here needs it.

Versions 1 and 2 of the standard are served alike: they differ in the flags of `SetEntityState` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import mujoco
import numpy as np
from geometry_msgs.msg import Vector3
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.type_support import check_for_type_support
from rosidl_generator_py.import_type_support_impl import UnsupportedTypeSupport

from optr.connectors.contract import Pose, StepState
from optr.connectors.sim import Simulation, World
from optr.errors import ModelError, OptrError
from optr.ros.convert import pose_from_msg, pose_to_msg
from optr.ros.hot_loop import HotLoop
from optr.spec import Spec
from optr.spec.values import Vector

_ABSENT: ImportError | UnsupportedTypeSupport | None = None
try:
    from simulation_interfaces.msg import EntityFilters, EntityState, Result, SimulationState, SimulatorFeatures
    from simulation_interfaces.srv import (
        GetEntities,
        GetEntitiesStates,
        GetEntityState,
        GetSimulationState,
        GetSimulatorFeatures,
        ResetSimulation,
        SetEntityState,
        SetSimulationState,
        StepSimulation,
    )

    check_for_type_support(GetSimulatorFeatures)  # the libraries behind the Python modules
except (ImportError, UnsupportedTypeSupport) as err:
    _ABSENT = err

_ABOUT = (
    "optr, a MuJoCo scene: state and time are reset together, to the start state of the seed that the node was given. "
    "Entities are the objects of the scene; the robot moves by its command topic alone."
)
_UNIT = 0.01
"""How far the length of a quaternion may be from one."""


class SimulationNode(Protocol):
    """What the services ask of the node that offers them."""

    sim: Simulation
    spec: Spec
    hot: HotLoop
    paused: bool

    @property
    def params(self) -> Any: ...

    def reset(self, seed: int) -> StepState: ...

    def pause(self, paused: bool) -> None: ...

    def advance(self, steps: int) -> None: ...

    def create_service(self, srv_type: Any, srv_name: str, callback: Callable[..., Any]) -> Any: ...

    def get_logger(self) -> RcutilsLogger: ...


class RefusedError(OptrError):
    """A request is refused: the code of the standard and the message say why.

    Attributes:
        code: Value for `simulation_interfaces/Result`.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


def offer_simulation_services(node: SimulationNode) -> None:
    """Create the standard services in a node; without `simulation_interfaces` nothing happens."""
    if _ABSENT is None:
        _Services(node)
    elif isinstance(_ABSENT, ModuleNotFoundError) and (_ABSENT.name or "").startswith("simulation_interfaces"):
        node.get_logger().debug(f"no standard simulation services: {_ABSENT}")
    else:
        node.get_logger().warning(f"no standard simulation services: the package is broken: {_ABSENT}")


class _Services:
    """Translates requests of the standard into calls of the node, each under the node's lock."""

    def __init__(self, node: SimulationNode) -> None:
        self._node = node
        self._stopped = 0  # number of the episode at whose start the simulation was stopped; they count from 1
        node.create_service(GetSimulatorFeatures, "get_simulator_features", self._get_features)
        self._offer(GetSimulationState, "get_simulation_state", self._get_state)
        self._offer(SetSimulationState, "set_simulation_state", self._set_state)
        self._offer(ResetSimulation, "reset_simulation", self._reset)
        self._offer(StepSimulation, "step_simulation", self._step)
        self._offer(GetEntities, "get_entities", self._get_entities)
        self._offer(GetEntitiesStates, "get_entities_states", self._get_entities_states)
        self._offer(GetEntityState, "get_entity_state", self._get_entity_state)
        self._offer(SetEntityState, "set_entity_state", self._set_entity_state)

    def _offer(self, kind: Any, name: str, answer: Callable[[Any, Any], None]) -> None:
        def handle(request: Any, response: Any) -> Any:
            try:
                with self._node.hot.lock:
                    answer(request, response)
                response.result.result = Result.RESULT_OK
            except RefusedError as err:
                response.result = Result(result=err.code, error_message=str(err))
            except OptrError as err:
                response.result = Result(result=Result.RESULT_OPERATION_FAILED, error_message=str(err))
            return response

        self._node.create_service(kind, name, handle)

    # -- the simulation ------------------------------------------------------------------------------------------

    def _get_features(self, _: Any, response: Any) -> Any:
        features = SimulatorFeatures
        response.features.features = [
            features.ENTITY_STATE_GETTING,
            features.ENTITY_STATE_SETTING,
            features.SIMULATION_RESET,  # but neither _TIME nor _STATE, which promise one without the other
            features.SIMULATION_STATE_GETTING,
            features.SIMULATION_STATE_SETTING,
            features.SIMULATION_STATE_PAUSE,
            features.STEP_SIMULATION_SINGLE,
            features.STEP_SIMULATION_MULTIPLE,
        ]
        response.features.custom_info = _ABOUT
        return response

    def _state(self) -> int:
        """Derived, not kept: the node's own services change it too."""
        sim = self._node.sim
        if not self._node.paused:
            return int(SimulationState.STATE_PLAYING)
        if sim.now.episode == self._stopped and sim.world.steps == 0:
            return int(SimulationState.STATE_STOPPED)
        return int(SimulationState.STATE_PAUSED)

    def _get_state(self, _: Any, response: Any) -> None:
        response.state.state = self._state()

    def _set_state(self, request: Any, _: Any) -> None:
        wanted = request.state.state
        names = _state_names()
        if wanted not in names:
            known = ", ".join(f"{value} ({name})" for value, name in names.items())
            raise RefusedError(
                Result.RESULT_FEATURE_UNSUPPORTED,
                f"state is {wanted}, expected one of: {known}; SIGINT or SIGTERM to the node ends it",
            )
        if wanted == self._state():
            raise RefusedError(SetSimulationState.Response.ALREADY_IN_TARGET_STATE, f"already {names[wanted]}")
        stop = wanted == SimulationState.STATE_STOPPED
        # Reset before pausing: the pause waits for the pictures of the start.
        self._stopped = self._restart() if stop else 0
        self._node.pause(wanted != SimulationState.STATE_PLAYING)

    def _restart(self) -> int:
        return self._node.reset(self._node.params.seed).episode

    def _reset(self, request: Any, _: Any) -> None:
        asked = ResetSimulation.Request
        both = asked.SCOPE_TIME | asked.SCOPE_STATE
        if request.scope != asked.SCOPE_DEFAULT and request.scope & both != both:
            raise RefusedError(
                Result.RESULT_FEATURE_UNSUPPORTED,
                f"scope is {request.scope}, expected {asked.SCOPE_DEFAULT} (default), {both} (time and state) or "
                f"{asked.SCOPE_ALL} (all): time and state are reset together, and nothing is ever spawned",
            )
        stopped = self._state() == SimulationState.STATE_STOPPED
        episode = self._restart()
        self._stopped = episode if stopped else 0

    def _step(self, request: Any, _: Any) -> None:
        state = self._state()
        if state != SimulationState.STATE_PAUSED:
            raise RefusedError(
                Result.RESULT_OPERATION_FAILED,
                f"the simulation is {_state_names()[state]}, expected paused; pause it by set_simulation_state",
            )
        self._node.advance(request.steps)

    # -- entities ------------------------------------------------------------------------------------------------

    def _get_entities(self, request: Any, response: Any) -> None:
        response.entities = self._matching(request.filters)

    def _get_entities_states(self, request: Any, response: Any) -> None:
        response.entities = self._matching(request.filters)
        response.states = [self._measure(name) for name in response.entities]

    def _get_entity_state(self, request: Any, response: Any) -> None:
        self._pose(request.entity)
        response.state = self._measure(request.entity)

    def _matching(self, filters: EntityFilters) -> list[str]:
        given = {"categories": filters.categories, "tags": filters.tags.tags, "bounds": filters.bounds.type}
        for what, value in given.items():
            if value:
                raise RefusedError(
                    Result.RESULT_FEATURE_UNSUPPORTED, f"filters.{what} came, expected none: entities are found by name"
                )
        if "[:" in filters.filter:
            raise RefusedError(
                Result.RESULT_FEATURE_UNSUPPORTED,
                f"filter {filters.filter!r} names a class of characters; expected characters or ranges, such as [a-z]",
            )
        try:
            pattern = re.compile(filters.filter)
        except re.error as err:
            raise RefusedError(
                Result.RESULT_OPERATION_FAILED, f"filter {filters.filter!r} is no regular expression: {err}"
            ) from err
        return [name for name in self._node.sim.world.objects if pattern.search(name)]

    def _pose(self, name: str) -> Pose:
        try:
            return self._node.sim.world.pose(name)
        except ModelError as err:
            raise RefusedError(Result.RESULT_NOT_FOUND, str(err)) from err

    def _measure(self, name: str) -> EntityState:
        world, data = self._node.sim.world, self._node.sim.world.data
        pose = self._pose(name)
        posed = pose_to_msg(pose, world.time_ns, self._node.spec.base_frame)
        state = EntityState(header=posed.header, pose=posed.pose)
        dofs = _dofs(world, name)
        if dofs is not None:
            turn = pose.quat_xyzw[[3, 0, 1, 2]]
            for values, out in ((data.qvel[dofs], state.twist), (data.qacc[dofs], state.acceleration)):
                out.linear, out.angular = _vector(values[:3]), _vector(_turned(values[3:], turn))
        return state

    def _set_entity_state(self, request: Any, _: Any) -> None:
        name, state = request.entity, request.state
        world, data = self._node.sim.world, self._node.sim.world.data
        pose, dofs = self._pose(name), _dofs(world, name)
        velocity = None if dofs is None else data.qvel[dofs].copy()
        # Version 1 of the standard has no flags and sets everything.
        set_pose, set_twist = getattr(request, "set_pose", True), getattr(request, "set_twist", True)
        if not (set_pose or set_twist):
            raise RefusedError(
                Result.RESULT_OPERATION_FAILED, "nothing to set: expected set_pose or set_twist; accelerations follow"
            )
        frame = self._node.spec.base_frame
        if state.header.frame_id not in ("", frame):
            raise RefusedError(
                Result.RESULT_OPERATION_FAILED, f"frame is {state.header.frame_id!r}, expected {frame!r} or none"
            )
        if set_pose:
            pose = _checked_pose(state)
        if set_twist:
            velocity = _checked_velocity(name, state, pose, dofs is not None)
        world.place(name, pose.position, pose.quat_xyzw)
        if velocity is not None:
            data.qvel[dofs] = velocity
        mujoco.mj_forward(world.model, data)


def _state_names() -> dict[int, str]:
    state = SimulationState
    return {state.STATE_STOPPED: "stopped", state.STATE_PLAYING: "playing", state.STATE_PAUSED: "paused"}


def _dofs(world: World, name: str) -> slice | None:
    """Where the velocity of an object is in `qvel`: linear in the world, angular in the body; None if it is placed."""
    body = world.model.body(name)
    if world.model.body_mocapid[body.id] >= 0:
        return None
    start = int(world.model.jnt_dofadr[body.jntadr[0]])
    return slice(start, start + 6)


def _turned(vector: Vector, quat_wxyz: Vector) -> Vector:
    out = np.zeros(3)
    mujoco.mju_rotVecQuat(out, np.ascontiguousarray(vector), quat_wxyz)
    return out


def _checked_pose(state: EntityState) -> Pose:
    pose = pose_from_msg(state)
    length = float(np.linalg.norm(pose.quat_xyzw)) if _is_sound(pose.quat_xyzw) else float("nan")
    if not (_is_sound(pose.position) and abs(length - 1.0) <= _UNIT):
        raise RefusedError(
            SetEntityState.Response.INVALID_POSE,
            f"position is {pose.position.tolist()}, quaternion {pose.quat_xyzw.tolist()}; expected finite values and a "
            "quaternion of length 1",
        )
    return Pose(pose.position, pose.quat_xyzw / length)


def _checked_velocity(name: str, state: EntityState, pose: Pose, free: bool) -> Vector | None:
    """A twist as MuJoCo keeps it; None for what is placed."""
    twist = _six(state.twist)
    if not free and (twist.any() or _six(state.acceleration).any()):
        raise RefusedError(
            Result.RESULT_OPERATION_FAILED,
            f"{name!r} moves only by being placed; expected neither twist nor acceleration",
        )
    if not _is_sound(twist):
        raise RefusedError(Result.RESULT_OPERATION_FAILED, f"twist is {twist.tolist()}, expected finite values")
    x, y, z, w = pose.quat_xyzw
    twist[3:] = _turned(twist[3:], np.array([w, -x, -y, -z]))
    return twist if free else None


def _is_sound(values: Vector) -> bool:
    """Whether MuJoCo takes the values; it starts anew, without a word, on those that are not finite or too large."""
    return bool((np.abs(values) < mujoco.mjMAXVAL).all())


def _six(motion: Any) -> Vector:
    linear, angular = motion.linear, motion.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def _vector(values: Vector) -> Vector3:
    x, y, z = values.tolist()
    return Vector3(x=x, y=y, z=z)
