"""Which rules are on, how they are set, and what is done about each: from YAML to rules.

`config/sentinel.yaml` holds what ships. A spec may change parts of it under its key `sentinel`, and a file given to the
sentinel parts of both. What is not named stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from optr.errors import SpecError
from optr.plugins import load_plugin, plugin_names
from optr.sentinel.codes import Response
from optr.sentinel.decode import decode_setting, settings_of
from optr.sentinel.rule import Rule
from optr.sentinel.rules.limits import LimitRule
from optr.share import share_path
from optr.spec import JointLimits, Spec
from optr.spec.yaml_lines import Marked, parse_marked, read_marked

_TOP = (
    "sentinel",
    "late_periods",
    "clear_time",
    "start_tolerance",
    "engage_distance",
    "engage_share",
    "rules",
    "tasks",
    "actions",
)
_MOST = {
    "late_periods": 50.0,
    "clear_time": 3600.0,
    "start_tolerance": 0.5,
    "engage_distance": 10.0,
    "engage_share": 1.0,
}
"""Largest value of each; see `Timing`."""

_NEEDED = ("authority", "shape", "position", "velocity", "acceleration", "step")
"""Rules that cannot be turned off: without them there is no guard."""


@dataclass(frozen=True)
class Timing:
    """What the guard does about time and about taking over.

    Attributes:
        late_periods: Action periods after the last row without a successor before the arm is ramped to rest.
        clear_time: A hold lasts so long after its reason is gone [s].
        start_tolerance: How far outside its range a joint may stand for the guard to take over there [rad or m].
        engage_distance: A first proposal farther from the arm than this is approached slowly [rad or m].
        engage_share: Part of the speed limits that may be used to do so.
    """

    late_periods: float = 3.0
    clear_time: float = 0.5
    start_tolerance: float = 0.05
    engage_distance: float = 0.2
    engage_share: float = 0.25


@dataclass(frozen=True)
class RuleSetting:
    """One rule as configured.

    Attributes:
        name: Name of the rule.
        response: What is done about it; None: what the rule itself does by default.
        options: Settings by name.
        where: File and line, for errors.
        on: False if it is turned off.
    """

    name: str
    response: Response | None
    options: dict[str, Any]
    where: str
    on: bool = True


@dataclass(frozen=True)
class ActiveRule:
    """A rule made for one robot, and what is done about it."""

    rule: Rule
    response: Response


@dataclass(frozen=True)
class SentinelConfig:
    """Settings of a guard. Made by `load_config`; each guard makes its own rules from it.

    Attributes:
        timing: Times and takeover.
        rules: Every rule by name, in the order in which they are asked.
        tasks: Conditions by task, read by `optr.sentinel.conditions`.
        actions: Conditions by kind of action, likewise.
    """

    timing: Timing
    rules: Mapping[str, RuleSetting]
    tasks: Mapping[str, Marked]
    actions: Mapping[str, Marked]

    def without(self, *names: str) -> SentinelConfig:
        """The same with some rules turned off.

        Raises:
            SpecError: If one of them cannot be turned off or does not exist.
        """
        rules = dict(self.rules)
        for name in names:
            if name not in rules:
                raise SpecError(f"no rule {name!r} is configured; there are: {', '.join(rules)}")
            _check_needed(name, rules[name].where)
            rules[name] = RuleSetting(name, None, {}, "", on=False)
        return replace(self, rules=rules)

    def to_yaml(self) -> str:
        """Everything that is in effect, as YAML; `read_config` reads it back."""
        rules: dict[str, Any] = {}
        for one in self.rules.values():
            kind = _rule_class(one.name)
            plain = {k: _plain(v) for k, v in one.options.items()}
            rules[one.name] = {"do": str(one.response or kind.responses[0]), **plain} if one.on else "off"
        more = {key: {n: m.plain() for n, m in getattr(self, key).items()} for key in ("tasks", "actions")}
        whole = {"sentinel": 1, **asdict(self.timing), "rules": rules, **{k: v for k, v in more.items() if v}}
        return yaml.safe_dump(whole, sort_keys=False, default_flow_style=None, width=120)

    def make(self, spec: Spec) -> list[ActiveRule]:
        """New rules for a robot, bound to it.

        Raises:
            OptrError: If settings do not fit the robot.
        """
        out = []
        for one in self.rules.values():
            if not one.on:
                continue
            rule = _rule_class(one.name)(**one.options)
            try:
                rule.bind(spec)
            except SpecError as err:
                raise SpecError(f"{one.where}: {err}") from err
            out.append(ActiveRule(rule, one.response or rule.responses[0]))
        return out

    def limits(self, spec: Spec) -> JointLimits:
        """The limits of a spec as narrowed by the limit rules."""
        limits = spec.limits
        for one in self.rules.values():
            kind = _rule_class(one.name)
            if one.on and issubclass(kind, LimitRule):
                limits = kind(**one.options).narrow(limits)
        return limits


def read_config(text: str, called: str) -> SentinelConfig:
    """A whole configuration as `SentinelConfig.to_yaml` writes it; `called` is what errors call it.

    Raises:
        SpecError: If something is wrong.
    """
    return _change(SentinelConfig(Timing(), {}, {}, {}), parse_marked(text, Path(called)))


def load_config(spec: Spec, source: str | os.PathLike[str] = "", base: SentinelConfig | None = None) -> SentinelConfig:
    """What ships, changed by the spec, changed by a file.

    Args:
        spec: The robot; its key `sentinel` is applied.
        source: File with further changes; empty: none.
        base: To be changed by the file instead of what ships and the spec.

    Raises:
        SpecError: If something is wrong; the message points at the line.
    """
    config = base if base is not None else _shipped()
    if spec.sentinel is not None and base is None:
        config = _change(config, spec.sentinel)
    if str(source):
        root = read_marked(Path(source).expanduser())
        config = _change(config, root)
    return config


@lru_cache(maxsize=1)
def _shipped() -> SentinelConfig:
    return _change(SentinelConfig(Timing(), {}, {}, {}), read_marked(share_path("config", "sentinel.yaml")))


def _change(config: SentinelConfig, node: Marked) -> SentinelConfig:
    given = node.fields(_TOP)
    if "sentinel" in given and given["sentinel"].text() != "1":
        given["sentinel"].fail(f"version {given['sentinel'].text()} is not known; this optr reads version 1")
    timing = {f.name: getattr(config.timing, f.name) for f in fields(Timing)}
    for name, most in _MOST.items():
        if name in given:
            timing[name] = given[name].number(positive=True)
            if timing[name] > most:
                given[name].fail(f"is {timing[name]:g}, expected above zero and at most {most:g}")
    rules = dict(config.rules)
    for name, entry in given["rules"].items() if "rules" in given else ():
        rules[name] = _rule(name, entry, rules.get(name))
    more = {
        key: {**getattr(config, key), **(dict(given[key].items()) if key in given else {})}
        for key in ("tasks", "actions")
    }
    return SentinelConfig(Timing(**timing), rules, more["tasks"], more["actions"])


def _rule(name: str, node: Marked, before: RuleSetting | None) -> RuleSetting:
    where = f"{node.file}:{node.line}"
    if name not in plugin_names("rule"):
        node.fail(f"no rule {name!r}; there are: {', '.join(plugin_names('rule'))}")
    kind = _rule_class(name)
    if node.is_text():
        if node.text() != "off":
            node.fail(f"expected settings or 'off', got {node.text()!r}")
        _check_needed(name, f"{where}: {node.key}")
        return RuleSetting(name, None, {}, where, on=False)
    given = node.fields(("do", *settings_of(kind)))
    response = before.response if before is not None else None
    if "do" in given:
        response = Response(given["do"].choice([str(r) for r in kind.responses], f"; rule {name} has these"))
    options = dict(before.options) if before is not None else {}
    for key, entry in given.items():
        if key != "do":
            options[key] = decode_setting(kind, key, entry)
    return RuleSetting(name, response, options, where)


@cache
def _rule_class(name: str) -> type[Rule]:
    kind = load_plugin("rule", name)
    if not (isinstance(kind, type) and issubclass(kind, Rule)):
        raise SpecError(f"rule {name!r} is {kind!r}, expected a subclass of optr.sentinel.Rule")
    return kind


def _plain(value: Any) -> Any:
    """A setting as YAML knows it."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return value


def _check_needed(name: str, where: str) -> None:
    if name in _NEEDED:
        raise SpecError(f"{where}: rule {name!r} cannot be turned off; these cannot: {', '.join(_NEEDED)}")
