"""Make a spec for a model that comes without one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mujoco
import yaml

from optr.errors import ModelError
from optr.model import actuators_of, is_position_servo, names_of, read_model

_UNITS = {int(mujoco.mjtJoint.mjJNT_HINGE): "rad", int(mujoco.mjtJoint.mjJNT_SLIDE): "m"}
_SPAN = {"rad": 3.14159, "m": 1.0}
_SPEED = {"rad": 2.0, "m": 0.5}
_ACCELERATION = {"rad": 20.0, "m": 5.0}


def describe_model(path: Path, rate: float = 50.0) -> str:
    """A spec, as YAML text, with every joint that can be commanded, every camera and every free object of a model.

    Joints are those with an actuator; in a model without actuators (a URDF), all of them.

    Raises:
        ModelError: If the file is missing or broken, or has no named joint that can be commanded.
    """
    try:
        model = read_model(path).compile()
    except (ValueError, RuntimeError) as err:
        raise ModelError(f"{path}: {err}") from err
    joints = _joints(model)
    if not joints:
        raise ModelError(f"{path}: has no named hinge or slide joint that could be commanded")
    step = round(model.opt.timestep * 1e9)
    period = max(1, round(1e9 / rate / step)) * step
    state = [{"name": n, "unit": u} | ({"low": lo, "high": hi} if limited else {}) for n, u, lo, hi, limited in joints]
    action = [
        {
            "name": n,
            "unit": u,
            "low": lo,
            "high": hi,
            "velocity": _SPEED[u],
            "acceleration": _ACCELERATION[u],
            "step": round(_SPEED[u] * period * 1.5e-9, 6),
        }
        for n, u, lo, hi, _ in joints
    ]
    joint_state = {"topic": "joint_states", "type": "sensor_msgs/msg/JointState", "field": "position"}
    features: dict[str, Any] = {"observation.state": {**joint_state, "rate": 100.0, "channels": state}}
    for name in filter(None, names_of(model, mujoco.mjtObj.mjOBJ_CAMERA, model.ncam)):
        if _is_word(name):
            features[f"observation.images.{name.lower()}"] = {
                "topic": f"camera/{name}/image_raw",
                "type": "sensor_msgs/msg/Image",
                "shape": [240, 320, 3],
                "rate": 25.0,
                "frame": f"camera_{name}_optical_frame",
            }
    features["action"] = {**joint_state, "topic": "joint_command", "rate": round(1e9 / period, 6), "channels": action}
    spec = {
        "spec": 1,
        "name": re.sub(r"\W", "_", path.stem),
        "scene": str(path.resolve()),
        "base_frame": "world",
        "features": features,
    }
    head = (
        f"# Made from {path.name}. Speed, acceleration and step are guesses, and so is the range of a joint that the\n"
        "# model does not limit: check them.\n"
    )
    return head + yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=160)


def _joints(model: mujoco.MjModel) -> list[tuple[str, str, float, float, bool]]:
    """Name, unit, low, high of each joint to be commanded, and whether the model limits it."""
    found = []
    for j, name in enumerate(names_of(model, mujoco.mjtObj.mjOBJ_JOINT, model.njnt)):
        kind = int(model.jnt_type[j])
        acting = actuators_of(model, j)
        if not name or kind not in _UNITS or (model.nu and not acting):
            continue
        unit, limited = _UNITS[kind], bool(model.jnt_limited[j])
        low, high = (float(v) for v in model.jnt_range[j])
        if not limited:
            low, high = -_SPAN[unit], _SPAN[unit]
            if len(acting) == 1 and is_position_servo(model, acting[0]) and model.actuator_ctrllimited[acting[0]]:
                low, high = (float(v) for v in model.actuator_ctrlrange[acting[0]])
        found.append((name, unit, round(low, 6), round(high, 6), limited))
    return found


def _is_word(name: str) -> bool:
    return bool(re.fullmatch(r"[a-z][a-z0-9_]*", name))
