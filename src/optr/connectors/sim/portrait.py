"""A picture of the robot alone, at given joint positions: for recordings without a camera."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from optr.errors import ModelError
from optr.model import compile_model
from optr.spec import Spec
from optr.spec.values import Vector

_SIZE = (240, 320)


class Portrait:
    """Draws the model of a spec from outside; use it in a `with` statement.

    Joints stand as they are told; whatever else is in the model stands where the model puts it.
    """

    def __init__(self, spec: Spec) -> None:
        """Compile the model.

        Raises:
            OptrError: If the spec names none that can be used, or nothing can be rendered here.
        """
        self._model = compile_model(spec)
        self._data = mujoco.MjData(self._model)
        self._qpos = [int(self._model.jnt_qposadr[self._model.joint(n).id]) for n in spec.action.names]
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self._model, self._camera)
        try:
            self._renderer = mujoco.Renderer(self._model, *_SIZE)
        except Exception as err:  # MuJoCo raises whatever its OpenGL binding raises
            raise ModelError(f"cannot render without a screen: {err}") from err

    def draw(self, position: Vector) -> npt.NDArray[np.uint8]:
        """The robot at joint positions in the order of the action vector, shape (240, 320, 3), RGB."""
        self._data.qpos[self._qpos] = position
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera)
        return np.array(self._renderer.render())

    def __enter__(self) -> Portrait:
        return self

    def __exit__(self, *_: Any) -> None:
        self._renderer.close()
