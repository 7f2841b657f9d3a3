"""`optr doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.table import Table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> int:
    """Check what optr needs on this machine; exit code 1 if something is missing."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("rclpy", lambda: _module("rclpy")),
        ("optr_interfaces", lambda: _module("optr_interfaces")),
        ("mujoco", lambda: _module("mujoco")),
        ("mink", lambda: _module("mink")),
        ("mcap", lambda: _module("mcap")),
        ("extensions", _extensions),
        ("rendering", _rendering),
        ("shared memory", _shared_memory),
        ("Fast DDS profile", _profile),
    ]
    rows = []
    for name, run in checks:
        try:
            rows.append({"check": name, "ok": True, "found": run()})
        except Exception as err:  # a doctor reports whatever is wrong
            rows.append({"check": name, "ok": False, "found": str(err)})
    if as_json:
        click.echo(json.dumps({"checks": rows}))
    else:
        table = Table("check", "", "found")
        for row in rows:
            table.add_row(str(row["check"]), "[green]ok[/]" if row["ok"] else "[red]missing[/]", str(row["found"]))
        Console().print(table)
    return 0 if all(r["ok"] for r in rows) else 1


def _python() -> str:
    found = sys.version.split()[0]
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise RuntimeError(f"{found}; needed: 3.10 to 3.13")
    return found


def _module(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        raise RuntimeError(f"the Python package {name} is not installed")
    try:
        return version(name)
    except PackageNotFoundError:
        return "installed"


def _extensions() -> str:
    from optr.plugins import GROUPS, outdated, plugin_names

    if said := outdated():
        raise RuntimeError(said)
    return f"{sum(len(plugin_names(kind)) for kind in GROUPS)} names of {len(GROUPS)} kinds"


def _rendering() -> str:
    from optr.ros_environment import prepare

    prepare()
    import mujoco

    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with mujoco.Renderer(model, 16, 16) as renderer:
        renderer.update_scene(mujoco.MjData(model))
        renderer.render()
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL', 'default')}"


def _shared_memory() -> str:
    if not os.path.isdir("/dev/shm"):
        raise RuntimeError("no /dev/shm: messages go by UDP, and images slowly")
    free = shutil.disk_usage("/dev/shm").free >> 20
    if free < 256:
        raise RuntimeError(f"{free} MB free in /dev/shm; a stack with cameras takes about 256 MB (docker: --shm-size)")
    return f"{free} MB free"


def _profile() -> str:
    from optr.ros_environment import prepare

    environment = prepare(dict(os.environ))
    for key in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        if environment.get(key):
            return environment[key]
    raise RuntimeError("none")
