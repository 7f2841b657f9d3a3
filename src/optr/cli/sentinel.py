"""`optr sentinel`: what the guard did, would do, and is told to do."""

from __future__ import annotations

import click

from optr.cli.sentinel_explain import explain
from optr.cli.sentinel_fuzz import fuzz_guard
from optr.cli.sentinel_remote import authority, rearm, status, stop
from optr.cli.sentinel_replay import replay
from optr.cli.sentinel_rules import rules


@click.group()
def sentinel() -> None:
    """Look at the guard's work, try its rules on recordings, and talk to a running one."""


for command in (explain, replay, rules, fuzz_guard, status, stop, rearm, authority):
    sentinel.add_command(command)
