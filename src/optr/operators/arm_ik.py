"""Inverse kinematics of an arm, by the mink library on the robot's own MuJoCo model."""

from __future__ import annotations

import mink
import mujoco
import numpy as np

from optr.errors import OperatorError
from optr.spec import Spec
from optr.spec.values import Vector

_DT = 0.05
_CLOSE_ENOUGH_M = 2e-4


class ArmIK:
    """Joint positions that bring the tool frame of a spec to a pose in the base frame.

    Five joints cannot meet every pose: position comes first (weight 1), orientation as far as it goes.

    Attributes:
        names: Joint names of the model, in model order.
    """

    def __init__(self, spec: Spec, orientation_cost: float = 0.05) -> None:
        if spec.mjcf is None or not spec.tool_frame:
            raise OperatorError(f"{spec.path}: inverse kinematics needs mjcf and tool_frame, which the spec lacks")
        model = mujoco.MjModel.from_xml_path(str(spec.mjcf))
        self.names = tuple(model.joint(j).name for j in range(model.njnt))
        missing = [n for n in spec.action.names if n not in self.names]
        if missing or model.nq != len(self.names):
            raise OperatorError(f"{spec.mjcf}: has not one coordinate for each of {', '.join(spec.action.names)}")
        self._columns = [self.names.index(n) for n in spec.action.names]
        self._home = self._in_model_order(spec.home_vector())
        self._configuration = mink.Configuration(model)
        self._tool = mink.FrameTask(
            spec.tool_frame, "site", position_cost=1.0, orientation_cost=orientation_cost, lm_damping=1e-6
        )
        self._posture = mink.PostureTask(model, cost=1e-4)
        self._limits = [mink.ConfigurationLimit(model)]

    def forward(self, joints: Vector) -> tuple[Vector, Vector]:
        """Tool position [m], shape (3,), and rotation matrix, shape (3, 3), in the base frame."""
        self._configuration.update(self._in_model_order(joints))
        pose = self._configuration.get_transform_frame_to_world(self._tool.frame_name, "site")
        return np.array(pose.translation()), np.array(pose.rotation().as_matrix())

    def solve(self, joints: Vector, position: Vector, rotation: Vector, iterations: int = 8) -> Vector:
        """Joint positions near `joints` for a tool pose.

        Args:
            joints: Where to start [rad], in the order of the action vector, shape (n,).
            position: Wanted tool position in the base frame [m], shape (3,).
            rotation: Wanted tool rotation in the base frame, shape (3, 3).
            iterations: Most steps of the solver.

        Returns:
            Joint positions [rad], in the order of the action vector, shape (n,), inside the joint limits.
        """
        conf = self._configuration
        conf.update(self._in_model_order(joints))
        self._posture.set_target(self._home)
        turned = mink.SO3.from_matrix(rotation)
        self._tool.set_target(mink.SE3.from_rotation_and_translation(turned, position))
        for _ in range(iterations):
            velocity = mink.solve_ik(conf, [self._tool, self._posture], _DT, "daqp", limits=self._limits)
            conf.integrate_inplace(velocity, _DT)
            if np.linalg.norm(self._tool.compute_error(conf)[:3]) < _CLOSE_ENOUGH_M:
                break
        return np.asarray(conf.q[self._columns], dtype=np.float64)

    def _in_model_order(self, joints: Vector) -> Vector:
        out = np.zeros(len(self.names))
        out[self._columns] = joints
        return out
