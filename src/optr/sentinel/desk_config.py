"""What a guard of a desktop is set to: from YAML to rules, budgets, classes and conditions.

`config/desks/default.yaml` is what ships. A file changes what it names; a list that it names replaces the one before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from optr.connectors.desktop.actions import ACTIONS, ActionClass
from optr.connectors.desktop.chords import chord
from optr.connectors.desktop.seen import Window
from optr.errors import DesktopError
from optr.sentinel.decode import decode_settings
from optr.sentinel.desk_conditions import DeskDuty, read_duties
from optr.sentinel.desk_rules import DESK_RULES, DeskRule, WindowPattern, WindowsRule
from optr.sentinel.rule import setting
from optr.share import find_config, share_path
from optr.spec.yaml_lines import Marked, read_marked

_T = TypeVar("_T")


@dataclass(frozen=True)
class Budget:
    """How much may be done."""

    actions: int = setting(20, "actions within a window of time", low=1, high=1000)
    window: float = setting(1.0, "this window", unit="s", low=0.01, high=3600.0)
    steps: int = setting(500, "actions in one task", low=1, high=10_000_000)
    time: float = setting(1800.0, "time for one task", unit="s", low=0.1, high=31_536_000.0)


@dataclass(frozen=True)
class Freshness:
    """How old what was seen may be."""

    oldest: float = setting(1.0, "age of what was seen when an action is judged", unit="s", low=0.001, high=60.0)
    ahead: float = setting(0.05, "how far it may be ahead", unit="s", low=0.0, high=1.0)


@dataclass(frozen=True)
class Classes:
    """How far actions reach, and what is done about it."""

    read_only: str = setting("allow", "what is done about actions that change nothing")
    reversible: str = setting("allow", "what is done about those that can be undone")
    irreversible: str = setting("confirm", "what is done about those that cannot: allow, confirm (by a person), refuse")
    valid: float = setting(60.0, "how long a confirmation is good for one action", unit="s", low=1.0, high=3600.0)
    kinds: tuple[str, ...] = setting((), "kinds of actions that are irreversible here")
    elements: tuple[str, ...] = setting((), "names of elements (`*` for anything) to act on which is irreversible")
    windows: tuple[WindowPattern, ...] = setting((), "windows in which everything is irreversible")
    chords: tuple[str, ...] = setting((), "chords that are irreversible")

    def __post_init__(self) -> None:
        for name in ("read_only", "reversible", "irreversible"):
            if getattr(self, name) not in ("allow", "confirm", "refuse"):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected allow, confirm or refuse")
        for kind in self.kinds:
            if kind not in ACTIONS:
                raise ValueError(f"no action {kind!r}; there are: {', '.join(ACTIONS)}")
        try:
            for text in self.chords:
                chord(text)
        except DesktopError as err:
            raise ValueError(str(err)) from err

    def response(self, reach: ActionClass) -> str:
        """What is done about a class: allow, confirm or refuse."""
        return str(getattr(self, reach.value))


@dataclass(frozen=True)
class DeskConfig:
    """Settings of the guard of a desktop. Everything is refused by default: nothing may be reached.

    Attributes:
        rules: In the order in which they are asked.
        budget: How much may be done.
        freshness: How old what was seen may be.
        classes: How far actions reach, and what is done about it.
        tasks: What must hold before and after a task, by its name.
        actions: The same for kinds of actions.
        stop_chord: Keys by which a person stops everything; for whoever listens to the keyboard.
    """

    rules: tuple[DeskRule, ...] = field(default_factory=lambda: tuple(kind() for kind in DESK_RULES))
    budget: Budget = Budget()
    freshness: Freshness = Freshness()
    classes: Classes = Classes()
    tasks: Mapping[str, DeskDuty] = field(default_factory=dict)
    actions: Mapping[str, DeskDuty] = field(default_factory=dict)
    stop_chord: str = "ctrl+alt+escape"

    def rule(self, kind: type[_T]) -> _T:
        """The rule of a kind."""
        return next(r for r in self.rules if isinstance(r, kind))

    def may_reach(self, window: Window) -> bool:
        """Whether pointer, keyboard and accessibility may reach a window."""
        return self.rule(WindowsRule).about(window) is None


def load_desk(source: str | os.PathLike[str] = "") -> DeskConfig:
    """What ships, changed by a file, or by one of `config/desks` that is named.

    Raises:
        OptrError: If there is no such file, or something in it is wrong; the message points at the line.
    """
    config = read_desk(read_marked(share_path("config", "desks", "default.yaml")))
    return config if not str(source) else read_desk(read_marked(find_config("desks", source)), config)


def read_desk(node: Marked, base: DeskConfig | None = None) -> DeskConfig:
    """Settings out of YAML; what is not named stays as in `base`.

    Raises:
        SpecError: If something is wrong; the message points at the line.
    """
    config = base or DeskConfig()
    rules = {kind.name: config.rule(kind) for kind in DESK_RULES}
    parts = ("budget", "freshness", "classes")
    given = node.fields(("desk", "stop_chord", *rules, *parts, "tasks", "actions"))
    if "desk" in given and given["desk"].text() != "1":
        given["desk"].fail(f"version {given['desk'].text()} is not known; this optr reads version 1")
    made: dict[str, Any] = {name: _changed(getattr(config, name), given[name]) for name in parts if name in given}
    changed = {name: _changed(rule, given[name]) if name in given else rule for name, rule in rules.items()}
    for name in ("tasks", "actions"):
        if name in given:
            made[name] = {**getattr(config, name), **read_duties(given[name], of_actions=name == "actions")}
    if "stop_chord" in given:
        made["stop_chord"] = _chord(given["stop_chord"])
    return replace(config, rules=tuple(changed.values()), **made)


def _changed(before: _T, node: Marked) -> _T:
    try:
        return replace(before, **decode_settings(type(before), node))  # type: ignore[type-var]
    except ValueError as err:
        node.fail(str(err))


def _chord(node: Marked) -> str:
    try:
        chord(node.text())
    except DesktopError as err:
        node.fail(str(err))
    return node.text()
