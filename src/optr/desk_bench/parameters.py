r"""Seeded parameters of a task: drawn, made of one another, and put into whatever names them.

In a task file each parameter is a template (text, list, object), or one of

    {"integer": [2, 9]}                        a whole number, both ends included
    {"integers": [10, 99], "count": 3}         several, no two of them alike
    {"choice": ["a", "b"]}                     one of a list
    {"sample": ["a", "b", "c"], "count": 2}    several of a list, in any order
    {"sum": ["{a}", "{b}"]}, {"difference": ...}, {"product": ...}
    {"pick": "{names}", "at": "{row}"}         an item of a list
    {"largest": "{names}", "by": "{prices}"}   the item that has the largest number beside it
    {"join": "{names}", "with": "\n"}, {"sorted": "{names}"}, {"digits": "{total}"}
    {"repeat": "x", "count": 3}                a list of the same
    {"mixed": ["{some}", "{others}"]}          lists as one, in any order
    {"rows": ["{names}", "{prices}"]}          lists side by side
    {"replaced": "{text}", "old": "a", "new": "b"}

`{name}` alone stands for the value as it is, inside a text, and as `{name!s}`, for its words; `{names[0]}` is an item.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optr.errors import DesktopError

_WHOLE = re.compile(r"\{(\w+)\}")

Values = Mapping[str, Any]
_Rng = np.random.Generator


def draw(recipes: Mapping[str, Any], task: str, seed: int) -> dict[str, Any]:
    """All parameters of a task; the same task and seed give the same.

    Args:
        recipes: By name; each may use those before it.
        task: Its id, so that no two tasks get the same numbers.
        seed: Not negative.

    Raises:
        DesktopError: If one of them cannot be made; the message names it.
    """
    rng = np.random.default_rng([zlib.crc32(task.encode()), seed])
    values: dict[str, Any] = {}
    for name, recipe in recipes.items():
        try:
            values[name] = _made(recipe, values, rng)
        except (DesktopError, KeyError, IndexError, TypeError, ValueError) as err:
            raise DesktopError(f"parameter {name!r} of task {task!r} cannot be made: {err}") from err
    return values


def filled(template: Any, values: Values) -> Any:
    """A template with what it names put in.

    Raises:
        DesktopError: If it names what there is not.
    """
    if isinstance(template, str):
        if whole := _WHOLE.fullmatch(template):
            if whole[1] not in values:
                raise DesktopError(f"no parameter named {whole[1]!r}; there are: {', '.join(values) or 'none'}")
            return values[whole[1]]
        try:
            return template.format_map(values)
        except (KeyError, IndexError, ValueError, AttributeError) as err:
            raise DesktopError(f"{template!r} names what there is not ({err}); there are: {', '.join(values)}") from err
    if isinstance(template, Mapping):
        return {filled(key, values): filled(value, values) for key, value in template.items()}
    return [filled(item, values) for item in template] if isinstance(template, list) else template


def _made(recipe: Any, values: Values, rng: _Rng) -> Any:
    kind = next(iter(recipe), "") if isinstance(recipe, Mapping) else ""
    if not isinstance(recipe, Mapping):
        return filled(recipe, values)
    if kind not in _KINDS:
        raise DesktopError(f"no kind of parameter named {kind!r}; there are: {', '.join(_KINDS)}")
    given = filled(recipe, values)
    return _KINDS[kind](rng, given.pop(kind), **given)


def _integer(rng: _Rng, ends: list[int]) -> int:
    return int(rng.integers(ends[0], ends[1], endpoint=True))


def _integers(rng: _Rng, ends: list[int], count: int) -> list[int]:
    return [int(n) for n in rng.choice(np.arange(ends[0], ends[1] + 1), count, replace=False)]


def _choice(rng: _Rng, items: list[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _sample(rng: _Rng, items: list[Any], count: int) -> list[Any]:
    return [items[int(i)] for i in rng.permutation(len(items))[:count]]


def _mixed(rng: _Rng, lists: list[list[Any]]) -> list[Any]:
    whole = [item for items in lists for item in items]
    return _sample(rng, whole, len(whole))


_KINDS: Mapping[str, Callable[..., Any]] = {
    "integer": _integer,
    "integers": _integers,
    "choice": _choice,
    "sample": _sample,
    "sum": lambda _, numbers: sum(numbers),
    "difference": lambda _, numbers: numbers[0] - sum(numbers[1:]),
    "product": lambda _, numbers: math.prod(numbers),
    "pick": lambda _, items, at: items[int(at)],
    "largest": lambda _, items, by: max(zip(by, items, strict=True))[1],
    "join": lambda _, items, **how: how["with"].join(map(str, items)),
    "sorted": lambda _, items: sorted(items),
    "digits": lambda _, number: list(str(number)),
    "repeat": lambda _, item, count: [item] * count,
    "mixed": _mixed,
    "rows": lambda _, columns: [list(row) for row in zip(*columns, strict=True)],
    "replaced": lambda _, text, old, new: text.replace(old, new),
}
