"""From a model file and a spec to a compiled MuJoCo model whose joints can be commanded by position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from optr.errors import ModelError, SpecError
from optr.spec import Spec

_UNITS = {"rad": int(mujoco.mjtJoint.mjJNT_HINGE), "m": int(mujoco.mjtJoint.mjJNT_SLIDE)}
_SERVO_HZ = 5.0
"""Bandwidth of the position servo that is given to a joint whose model has none [Hz]."""


def model_path(spec: Spec, path: Path | None = None) -> Path:
    """The model file to simulate: `path`, or the scene, MJCF or URDF that the spec names.

    Raises:
        ModelError: If there is none.
    """
    for candidate in (path, spec.scene, spec.mjcf, spec.urdf):
        if candidate is not None:
            return candidate
    raise ModelError(f"{spec.path}: names no scene, mjcf or urdf, and no model file was given")


def read_model(path: Path) -> mujoco.MjSpec:
    """Parse an MJCF or URDF file.

    Raises:
        ModelError: If it is missing or broken.
    """
    if not path.is_file():
        raise ModelError(f"no model file {path}")
    try:
        return mujoco.MjSpec.from_file(str(path))
    except (ValueError, RuntimeError) as err:
        raise ModelError(f"{path}: {err}") from err


def compile_model(
    spec: Spec, path: Path | None = None, edit: Callable[[mujoco.MjSpec, mujoco.MjModel], None] | None = None
) -> mujoco.MjModel:
    """Compile the model of a spec.

    Args:
        spec: Names the joints and the model file.
        path: Another model file, or None.
        edit: Changes the description once more, given the model that it compiles to, before the final compilation.

    A joint of the action that has no position servo in the model (a torque motor, or nothing, as in a URDF) gets
    one: critically damped, 5 Hz, at most the motor's own torque. Every model is so commanded in the same way.

    Raises:
        ModelError: If the file is missing or broken.
        SpecError: If the spec names a joint or camera that the model lacks, or gives a joint the wrong unit.
    """
    file = model_path(spec, path)
    parts = read_model(file)
    plain = _compile(parts, file)
    _check_joints(spec, plain, file)
    _check_cameras(spec, plain, file)
    for name in spec.action.names:
        _give_servo(parts, plain, name)
    for image in spec.images.values():
        view = parts.visual.global_
        view.offheight = max(view.offheight, image.shape[0])
        view.offwidth = max(view.offwidth, image.shape[1])
    if edit is not None:
        edit(parts, plain)
    return _compile(parts, file)


def _compile(parts: mujoco.MjSpec, file: Path) -> mujoco.MjModel:
    try:
        return parts.compile()
    except (ValueError, RuntimeError) as err:
        raise ModelError(f"{file}: {err}") from err


def names_of(model: mujoco.MjModel, kind: mujoco.mjtObj, count: int) -> list[str]:
    """Names of all objects of a kind, empty where unnamed."""
    return [mujoco.mj_id2name(model, kind, i) or "" for i in range(count)]


def _check_joints(spec: Spec, model: mujoco.MjModel, file: Path) -> None:
    joints = names_of(model, mujoco.mjtObj.mjOBJ_JOINT, model.njnt)
    for feature in (spec.state, spec.action):
        for channel in feature.channels:
            if channel.name not in joints:
                known = ", ".join(n for n in joints if n)
                raise SpecError(f"{spec.path}: {feature.key}: no joint {channel.name!r} in {file}; it has: {known}")
            kind = int(model.jnt_type[joints.index(channel.name)])
            if channel.unit not in _UNITS or _UNITS[channel.unit] != kind:
                fitting = [u for u, k in _UNITS.items() if k == kind]
                expected = f"expected {fitting[0]!r}" if fitting else "which is neither a hinge nor a slide"
                raise SpecError(
                    f"{spec.path}: {feature.key}: unit {channel.unit!r} does not fit joint {channel.name!r} of {file}; "
                    f"{expected}"
                )


def _check_cameras(spec: Spec, model: mujoco.MjModel, file: Path) -> None:
    cameras = names_of(model, mujoco.mjtObj.mjOBJ_CAMERA, model.ncam)
    for name, feature in spec.images.items():
        if name not in cameras:
            known = ", ".join(n for n in cameras if n) or "none"
            raise SpecError(f"{spec.path}: {feature.key}: no camera {name!r} in {file}; it has: {known}")


def is_position_servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether an actuator's control is a joint position."""
    gain, bias = model.actuator_gainprm[actuator, 0], model.actuator_biasprm[actuator, 1]
    return bool(
        model.actuator_trntype[actuator] == int(mujoco.mjtTrn.mjTRN_JOINT)
        and model.actuator_gaintype[actuator] == int(mujoco.mjtGain.mjGAIN_FIXED)
        and model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_AFFINE)
        and model.actuator_dyntype[actuator] == int(mujoco.mjtDyn.mjDYN_NONE)
        and gain > 0
        and np.isclose(bias, -gain)
        and np.isclose(model.actuator_gear[actuator, 0], 1.0)
    )


def actuators_of(model: mujoco.MjModel, joint: int) -> list[int]:
    """Actuators that act on one joint."""
    kinds = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    return [i for i in range(model.nu) if model.actuator_trntype[i] in kinds and model.actuator_trnid[i, 0] == joint]


def _give_servo(parts: mujoco.MjSpec, model: mujoco.MjModel, name: str) -> None:
    joint = model.joint(name).id
    present = actuators_of(model, joint)
    if len(present) == 1 and is_position_servo(model, present[0]):
        return
    most = 0.0
    for i in present:
        ctrl, force = model.actuator_ctrlrange[i], model.actuator_forcerange[i]
        if model.actuator_forcelimited[i]:
            most += float(np.abs(force).max())
        elif model.actuator_ctrllimited[i] and model.actuator_gaintype[i] == int(mujoco.mjtGain.mjGAIN_FIXED):
            most += float(np.abs(ctrl).max() * abs(model.actuator_gear[i, 0] * model.actuator_gainprm[i, 0]))
    for actuator in [a for a in parts.actuators if a.target == name]:
        parts.delete(actuator)
    inertia = float(model.dof_M0[model.jnt_dofadr[joint]])
    pull = (2 * np.pi * _SERVO_HZ) ** 2 * inertia
    servo = parts.add_actuator(name=f"optr_{name}", target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=pull, kv=2 * np.sqrt(pull * inertia))
    # A new actuator takes over the defaults of the model; all that matters is set here.
    servo.gear = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    servo.ctrllimited, servo.ctrlrange = False, [0.0, 0.0]
    servo.forcelimited, servo.forcerange = most > 0, [-most, most]
