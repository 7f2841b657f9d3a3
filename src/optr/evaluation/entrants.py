"""Who is evaluated: a folder of a checkpoint, a name of the zoo, the address of a server, or an installed operator."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optr.errors import PolicyError, UnknownNameError
from optr.experiments.plan import ANY_AGENT, Entrant, Kind
from optr.operators.registry import operator_names
from optr.policies.zoo import zoo_names

OPERATOR = "operator:"
"""Before the name of an installed operator."""

_SERVED = ("ws://", "wss://")
_NO_NAMES = re.compile(r"pretrained_model|policy|checkpoints?|last|best|\d+")
"""Folders of a training run that are called the same in every one."""


def entrants_of(policies: Sequence[str | os.PathLike[str]], options: Mapping[str, Any] | None = None) -> list[Entrant]:
    """Policies as those who play in an experiment, each with an id of its own.

    Args:
        policies: Each a folder, a name of the zoo, `ws://host:port`, or `operator:NAME`.
        options: Of the operator `policy`, for every one that is no installed operator: `device`, `seam`, ...

    Raises:
        UnknownNameError: If there is no such operator, or no such name in the zoo.
        PolicyError: If a policy is named twice, or a path leads nowhere.
    """
    kinds = [kind_of(os.fspath(policy), options or {}) for policy in policies]
    if not kinds:
        raise PolicyError("name at least one policy")
    ids: dict[str, int] = {}
    out: list[Entrant] = []
    for policy, kind in zip(policies, kinds, strict=True):
        if kind in kinds[: len(out)]:
            raise PolicyError(f"{os.fspath(policy)} is named twice")
        name = name_of(os.fspath(policy))
        ids[name] = ids.get(name, 0) + 1
        id = name if ids[name] == 1 else f"{name}-{ids[name]}"
        out.append(Entrant(id, os.fspath(policy), {ANY_AGENT: kind}))
    return out


def kind_of(policy: str, options: Mapping[str, Any]) -> Kind:
    """The operator that a policy is served by.

    Raises:
        UnknownNameError: If there is no such operator, or no such name in the zoo.
        PolicyError: If it is a path that leads nowhere.
    """
    if policy.startswith(OPERATOR):
        name = policy.removeprefix(OPERATOR)
        if name not in operator_names():
            raise UnknownNameError("operator", name, operator_names())
        return Kind(name)
    return Kind("policy", {"policy": _place(policy), **options})


def name_of(policy: str) -> str:
    """A short name for tables and files: the last part of a path that says something."""
    text = policy.partition(":")[2]
    if not policy.startswith((OPERATOR, *_SERVED)):
        said = [p for p in Path(policy).absolute().parts if not _NO_NAMES.fullmatch(p)]
        text = said[-1]
    kept = re.sub(r"[^A-Za-z0-9]+", lambda between: between[0][0] if between[0][0] in "_.-" else "-", text)
    return kept.strip("_.-") or "policy"


def sees_pictures(policy: str) -> bool:
    """Whether the card of a policy says that it looks at cameras; False where there is no card at hand."""
    from optr.errors import OptrError
    from optr.policies.card import has_card, read_card
    from optr.policies.load import checkpoint_folder

    if policy.startswith((OPERATOR, *_SERVED)):
        return False
    try:
        folder = checkpoint_folder(policy)
        return has_card(folder) and any(k.startswith("observation.images.") for k in read_card(folder).keys)
    except OptrError:  # told by whoever loads it
        return False


def _place(policy: str) -> str:
    """The same, from wherever it is looked for: a path becomes a whole one."""
    path = Path(policy).expanduser()
    if policy.startswith(_SERVED):
        return policy
    if path.is_dir():
        return str(path.resolve())
    if path.exists() or os.sep in policy or policy.startswith((".", "~")):
        what = "is a file" if path.exists() else "is not there"
        raise PolicyError(f"{policy} {what}; expected the folder of a checkpoint, a name of the zoo, or {OPERATOR}NAME")
    if policy not in zoo_names():
        raise UnknownNameError("policy", policy, zoo_names())
    return policy
