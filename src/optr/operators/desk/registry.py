"""Operators of desktops by name."""

from __future__ import annotations

from typing import Any

from optr.errors import OperatorError, OptrError, PluginError
from optr.operators.desk.contract import DeskOperator
from optr.plugins import load_plugin, plugin_names

_KIND = "desk operator"


def desk_operator_names() -> tuple[str, ...]:
    """Names of all that are installed."""
    return plugin_names(_KIND)


def make_desk_operator(name: str, **options: Any) -> DeskOperator:
    """Build the operator of that name; its id is the name unless `id` is given.

    Raises:
        UnknownNameError: If none is installed under that name.
        PluginError: If it cannot be imported or is no `DeskOperator`.
        OptrError: If it cannot be made with these options.
    """
    cls = load_plugin(_KIND, name)
    if not (isinstance(cls, type) and issubclass(cls, DeskOperator)):
        raise PluginError(f"{_KIND} {name!r} is {cls!r}, which is no subclass of DeskOperator")
    try:
        return cls(**{"id": name, **options})
    except OptrError:
        raise
    except Exception as err:  # anybody's code, reported as theirs
        raise OperatorError(f"{_KIND} {name!r} cannot be made: {type(err).__name__}: {err}") from err
