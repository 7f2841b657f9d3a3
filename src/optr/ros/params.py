"""Parameters of a node from one frozen dataclass: description, unit and range beside each default."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from optr.errors import OptrError

T = TypeVar("T")


class ParameterError(OptrError):
    """A parameter has a value that its node cannot take: mend the parameter."""


@dataclass(frozen=True)
class _Doc:
    text: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]


def param(
    default: Any, text: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A parameter with its default, what it means (unit in brackets), its range or its choices."""
    return field(default=default, metadata={"doc": _Doc(text, low, high, choices)})


def json_param(name: str, text: str) -> dict[str, Any]:
    """The value of a parameter that is a JSON object.

    Raises:
        ParameterError: If it is none.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as err:  # ValueError: also a number of 5000 digits
        raise ParameterError(f"parameter {name} is {_short(text)}, which is no JSON: {err}") from err
    if not isinstance(found, dict):
        raise ParameterError(f"parameter {name} is {_short(text)}; expected a JSON object")
    return found


def _short(text: str, most: int = 200) -> str:
    return repr(text if len(text) <= most else f"{text[:most]}…")


def declare_params(node: Node, kind: type[T]) -> T:
    """Declare every field of a dataclass as a read-only parameter and answer the dataclass with the values given.

    Raises:
        ParameterError: If a value has the wrong type, is out of range or is none of the choices.
    """
    values = {}
    for item in fields(kind):  # type: ignore[arg-type]
        doc: _Doc = item.metadata["doc"]
        assert item.default is not MISSING
        descriptor = _descriptor(item.name, item.default, doc)
        try:
            value = node.declare_parameter(item.name, item.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as err:
            given = node.get_parameter_or(item.name).value if node.has_parameter(item.name) else None
            override = node._parameter_overrides.get(item.name)
            given = override.value if override is not None else given
            expected = type(item.default).__name__
            span = f" from {doc.low} to {doc.high}" if doc.low is not None else ""
            raise ParameterError(f"parameter {item.name} is {given!r}; expected {expected}{span}: {doc.text}") from err
        if doc.choices and value not in doc.choices:
            raise ParameterError(f"parameter {item.name} is {value!r}; it can be: {', '.join(doc.choices)}")
        values[item.name] = value
    unknown = sorted(set(node._parameter_overrides) - {f.name for f in fields(kind)} - _OF_RCLPY)  # type: ignore[arg-type]
    unknown = [n for n in unknown if not n.startswith("qos_overrides.")]
    if unknown:
        known = ", ".join(f.name for f in fields(kind))  # type: ignore[arg-type]
        raise ParameterError(f"unknown parameter {', '.join(unknown)}; node {node.get_name()!r} has: {known}")
    return kind(**values)


_OF_RCLPY = {"use_sim_time", "start_type_description_service"}


def _descriptor(name: str, default: Any, doc: _Doc) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(name=name, description=doc.text, read_only=True)
    if doc.choices:
        descriptor.additional_constraints = "one of: " + ", ".join(doc.choices)
    if doc.low is not None and doc.high is not None:
        if isinstance(default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=doc.low, to_value=doc.high)]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(doc.low), to_value=int(doc.high), step=1)]
    return descriptor
