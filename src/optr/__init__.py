"""Any operator, in any environment, under one guard, on one record, over ROS 2."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optr.facade import DesktopConnector, Operator, RobotConnector

__all__ = ["DesktopConnector", "Operator", "RobotConnector"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: `import optr` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("optr.facade"), name)
