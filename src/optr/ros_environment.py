"""What a process needs in its environment before ROS 2 starts. Called by every way in: nodes, CLI, launch files."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from optr.share import share_path

PARENT_ENV = "OPTR_PARENT"
"""Set by whoever starts a stack: the process id without which a node does not want to live."""

_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def prepare(environment: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Fill in what is not set yet; whatever the user has set stays.

    - the Fast DDS profile that lets camera images through,
    - the ament prefix of a Python environment that holds the ROS wheels, so that packages are found,
    - MuJoCo rendering without a screen.
    """
    env = os.environ if environment is None else environment
    if not any(k in env for k in (_PROFILE, "FASTDDS_DEFAULT_PROFILES_FILE")):
        env[_PROFILE] = str(share_path("config", "fastdds.xml"))
    if "AMENT_PREFIX_PATH" not in env and os.path.isdir(os.path.join(sys.prefix, "share", "ament_index")):
        env["AMENT_PREFIX_PATH"] = sys.prefix
    if "MUJOCO_GL" not in env and "DISPLAY" not in env:
        env["MUJOCO_GL"] = "egl"
    return env
