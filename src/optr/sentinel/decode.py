"""Settings of rules, conditions and recoveries: from YAML to the fields of their dataclasses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, cast, get_args, get_origin, get_type_hints

from optr.sentinel.rule import Setting
from optr.spec.yaml_lines import Marked


def settings_of(kind: type[Any]) -> dict[str, Setting]:
    """What the configuration may set about a rule, condition or recovery, by name."""
    if not is_dataclass(kind):
        return {}
    return {f.name: f.metadata["setting"] for f in fields(kind) if "setting" in f.metadata}


def decode_settings(kind: type[Any], node: Marked) -> dict[str, Any]:
    """Every setting that a mapping gives.

    Raises:
        SpecError: If one is unknown, has the wrong type or is out of range; the message points at the line.
    """
    return {key: decode_setting(kind, key, entry) for key, entry in node.fields(settings_of(kind)).items()}


def decode_setting(kind: type[Any], key: str, node: Marked) -> Any:
    """One setting.

    Raises:
        SpecError: If it has the wrong type or is out of range.
    """
    return _checked(node, _decode(node, get_type_hints(kind)[key]), settings_of(kind)[key])


def _checked(node: Marked, value: Any, known: Setting) -> Any:
    for number in _numbers(value) if known.low is not None and known.high is not None else ():
        if not cast(float, known.low) <= number <= cast(float, known.high):
            unit = f" {known.unit}" if known.unit else ""
            node.fail(f"is {number:g}, expected {known.low:g} to {known.high:g}{unit}: {known.text}")
    return value


def _numbers(value: Any) -> Iterable[float]:
    if isinstance(value, bool):
        return ()
    if isinstance(value, int | float):
        return (value,)
    return [n for v in value for n in _numbers(v)] if isinstance(value, tuple) else ()


def _decode(node: Marked, hint: Any) -> Any:
    """A YAML value as the type that a field asks for."""
    if hint is float:
        return node.number()
    if hint is bool:
        return node.choice(["true", "false"]) == "true"
    if hint is int:
        return node.integer(low=-(2**53))
    if hint is str:
        return node.text()
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        elements = node.elements()
        if inner[-1] is Ellipsis:
            return tuple(_decode(e, inner[0]) for e in elements)
        if len(elements) != len(inner):
            node.fail(f"expected {len(inner)} values, got {len(elements)}")
        return tuple(_decode(e, h) for e, h in zip(elements, inner, strict=True))
    if is_dataclass(hint) and isinstance(hint, type):
        known = {f.name: f for f in fields(hint)}
        required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
        given = node.fields(known, required=required)
        hints = get_type_hints(hint)
        try:
            return hint(**{k: _decode(v, hints[k]) for k, v in given.items()})
        except ValueError as err:
            node.fail(str(err))
    raise TypeError(f"a setting cannot be {hint}")
