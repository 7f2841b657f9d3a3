"""`optr sentinel rules`: which rules are installed, how they are set, and what is done about each."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from optr.sentinel import SentinelConfig
    from optr.spec import Spec


@click.command()
@click.argument("name", default="")
@click.option("--spec", "spec_name", default="so101_tabletop", show_default=True, help="Spec of the robot.")
@click.option("--rules", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Changes to the rules.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def rules(name: str, spec_name: str, rules: Path | None, as_json: bool) -> int:
    """List the installed rules, or tell all about the rule NAME, as they are for a robot.

    Exit code 1 if an installed rule is broken.
    """
    from optr.errors import UnknownNameError
    from optr.plugins import plugin_names
    from optr.sentinel import load_config
    from optr.spec import load_spec

    spec = load_spec(spec_name)
    config = load_config(spec, rules or "")
    installed = plugin_names("rule")
    if name and name not in installed:
        raise UnknownNameError("rule", name, installed)
    order = [n for n in config.rules if n in installed] + [n for n in installed if n not in config.rules]
    found = [_describe(n, config, spec) for n in order if not name or n == name]
    if as_json:
        click.echo(json.dumps({"spec": spec.name, "timing": asdict(config.timing), "rules": found}))
    elif name:
        _print_one(found[0])
    else:
        _print(found, asdict(config.timing))
    return 1 if any(r["broken"] for r in found) else 0


def _describe(name: str, config: SentinelConfig, spec: Spec) -> dict[str, Any]:
    """A rule as configured for a robot."""
    from optr.errors import OptrError
    from optr.plugins import load_plugin
    from optr.sentinel.decode import settings_of

    out: dict[str, Any] = {"name": name, "about": "", "do": "", "can": [], "codes": [], "settings": []}
    out |= {"idle": "", "broken": "", "class": "", "where": ""}
    try:
        kind = load_plugin("rule", name)
        out["about"] = " ".join((kind.__doc__ or "").split())
        out["class"] = f"{kind.__module__}.{kind.__qualname__}"
        out["codes"] = [str(c) for c in kind.codes]
        out["can"] = [str(r) for r in kind.responses] + (["off"] if _may_be_off(name, config) else [])
        one = config.rules.get(name)
        options = one.options if one is not None else {}
        rule = kind(**options)
        for key, known in settings_of(kind).items():
            setting = {"name": key, "value": getattr(rule, key), "unit": known.unit, "low": known.low}
            out["settings"].append({**setting, "high": known.high, "meaning": known.text})
        if one is None:
            out["do"], out["idle"] = "off", "it is not configured: name it in a file of rules"
            return out
        out["where"] = one.where
        out["do"] = str(one.response or kind.responses[0]) if one.on else "off"
        if one.on:
            rule.bind(spec)
            out["idle"] = rule.idle
    except (OptrError, TypeError, AttributeError) as err:
        out["broken"] = f"{type(err).__name__}: {err}"
    return out


def _may_be_off(name: str, config: SentinelConfig) -> bool:
    from optr.errors import SpecError

    try:
        config.without(name)
    except SpecError:
        return name not in config.rules
    return True


def _print(found: list[dict[str, Any]], timing: dict[str, float]) -> None:
    table = Table("rule", "does now", "codes", "settings", box=box.SIMPLE_HEAD)
    for r in found:
        settings = "\n".join(f"{s['name']} = {_value(s)}" for s in r["settings"])
        note = f"broken: {r['broken']}" if r["broken"] else f"idle: {r['idle']}" if r["idle"] else ""
        cell = "\n".join(t for t in (escape(settings), f"[italic]{escape(note)}[/]" if note else "") if t)
        does = f"[bright_black]{r['do']}[/]" if r["do"] == "off" or r["idle"] else r["do"]
        table.add_row(r["name"], does, "\n".join(r["codes"]), cell)
    console = Console()
    console.print(table)
    console.print(f"timing: {', '.join(f'{k} = {v:g}' for k, v in timing.items())}", highlight=False)
    console.print("`optr sentinel rules NAME` tells all about one", highlight=False)


def _print_one(r: dict[str, Any]) -> None:
    console = Console()
    lines = [f"{r['name']}: {r['about']}", f"does now: {r['do']}  (can: {', '.join(r['can'])})"]
    lines.append(f"codes: {', '.join(r['codes'])}")
    if r["where"]:
        lines.append(f"configured in {r['where']}, class {r['class']}")
    lines += [f"{word}: {r[word]}" for word in ("idle", "broken") if r[word]]
    console.print("\n".join(lines), highlight=False, markup=False)
    if r["settings"]:
        table = Table("setting", "value", "range", "meaning", box=box.SIMPLE_HEAD)
        for s in r["settings"]:
            span = f"{s['low']:g} to {s['high']:g}" if s["low"] is not None and s["high"] is not None else ""
            table.add_row(s["name"], escape(_value(s)), span, escape(s["meaning"]))
        console.print(table)


def _value(setting: dict[str, Any]) -> str:
    value = setting["value"]
    shown = ", ".join(str(v) for v in value) or "none" if isinstance(value, tuple | list) else str(value)
    return f"{shown} {setting['unit']}".strip()
