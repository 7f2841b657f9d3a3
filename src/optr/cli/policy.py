"""`optr policy`: trained policies, here, at the Hub, and served to robots."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from optr.end_signal import EndSignal

if TYPE_CHECKING:
    from optr.policies import Policy
    from optr.policies.zoo import ZooEntry

_TOKEN_FILE = click.option(
    "--token-file", default="", help="File with the shared token, readable by its owner alone; else OPTR_POLICY_TOKEN."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DEVICE = click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps.")


@click.group()
def policy() -> None:
    """Trained policies: list them, look at one, check one, serve some, fetch one."""


@policy.command("list")
@_JSON
def list_(as_json: bool) -> int:
    """List the policies that are here: those that came with optr, and those that were fetched."""
    from optr.policies.zoo import zoo_entries

    entries = zoo_entries()
    if as_json:
        click.echo(json.dumps({"policies": [zoo_row(e) for e in entries]}))
    else:
        table = Table("name", "kind", "robot", "task", "score", "from", "about")
        for entry in entries:
            row = zoo_row(entry)
            about = f"broken: {entry.problem}" if entry.problem else row["about"]
            cells = [row[k] for k in ("name", "kind", "robot", "task", "score", "from")]
            table.add_row(*(escape(str(v)) for v in (*cells, about)))
        Console(emoji=False).print(table)
    return 1 if any(e.problem for e in entries) else 0


def zoo_row(entry: ZooEntry) -> dict[str, Any]:
    """A policy of the zoo as plain data."""
    card = entry.card
    return {
        "name": entry.name,
        "kind": card.kind if card else "",
        "robot": entry.robot,
        "task": card.task if card else "",
        "score": entry.score,
        "from": "optr" if entry.shipped else "fetched",
        "about": card.description if card else "",
        "folder": str(entry.folder),
        "problem": entry.problem,
    }


@policy.command()
@_JSON
@click.argument("name")
def info(name: str, as_json: bool) -> int:
    """Show the card of the policy NAME, or of the checkpoint in the folder NAME."""
    from optr.policies.card import read_card, read_spec
    from optr.policies.source import read_source
    from optr.policies.zoo import find_policy

    folder = Path(name) if Path(name).is_dir() else find_policy(name)
    card, spec, source = read_card(folder), read_spec(folder), read_source(folder)
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    about = {"folder": str(folder), "robot": spec.name, "joints": list(spec.action.names), "bytes": sizes}
    if as_json:
        click.echo(json.dumps({**asdict(card), **about, "source": asdict(source) if source else None}, default=str))
        return 0
    click.echo(card.to_yaml().rstrip())
    click.echo(f"robot: {spec.name} ({', '.join(spec.action.names)})")
    click.echo(f"folder: {folder} ({sum(sizes.values()) / 1e6:.2f} MB)")
    if source:
        click.echo(f"fetched: {source.repo} at {source.revision}")
    return 0


@policy.command()
@click.option("--spec", "robot", default="", help="Robot that it shall move: name or file of a spec.")
@click.option("--assume", default="", help="Robot that a LeRobot directory without a card was trained for.")
@click.option("--assume-rate", default=0.0, type=click.FloatRange(0), help="Its rows per second [Hz].")
@_DEVICE
@_TOKEN_FILE
@click.option("--runs", default=20, show_default=True, type=click.IntRange(1), help="Predictions to time.")
@_JSON
@click.argument("where")
def check(
    robot: str,
    assume: str,
    assume_rate: float,
    device: str,
    token_file: str,
    runs: int,
    as_json: bool,
    where: str,
) -> int:
    """Load a policy, tell whether it fits a robot, and how long a prediction takes here.

    WHERE is a name, a folder, or the address of a server. Exit code 1 if it is broken or does not fit.
    """
    from optr.errors import PolicyError
    from optr.policies.load import load_policy
    from optr.spec import load_spec

    spec = load_spec(robot) if robot else None
    vouched = load_spec(assume) if assume else None
    report: dict[str, Any] = {"policy": where, "robot": spec.name if spec else "", "ok": False, "reason": ""}
    try:
        loaded = load_policy(where, spec, device, vouched, token_file or None, assume_rate)
    except PolicyError as err:
        report["reason"] = str(err)
    else:
        try:
            report |= {"ok": True, "notes": list(loaded.notes)} | _facts(loaded) | _latency(loaded, runs)
        except PolicyError as err:
            report["reason"] = str(err)
        finally:
            loaded.close()
    if as_json:
        click.echo(json.dumps(report))
    else:
        _print_check(report)
    return 0 if report["ok"] else 1


def _facts(policy: Policy) -> dict[str, Any]:
    about = policy.info
    names = ("name", "kind", "device", "rate", "rows", "horizon", "history", "random", "guided")
    return {k: getattr(about, k) for k in names} | {"keys": list(about.keys), "trained_for": about.spec.name}


def _latency(policy: Policy, runs: int) -> dict[str, Any]:
    """How long a prediction takes, after those that warm it up [ms]; and for how long its rows last."""
    import numpy as np

    from optr.policies.inputs import neutral

    history = [neutral(policy.info.spec, policy.info.keys)] * policy.info.history
    took = []
    for _ in range(runs + 2):
        began = time.perf_counter()
        policy.predict(history)
        took.append((time.perf_counter() - began) * 1e3)
    p50, p99 = np.percentile(took[2:], (50, 99))
    lasts = policy.info.rows / policy.info.rate * 1e3
    return {"predict_ms_p50": float(p50), "predict_ms_p99": float(p99), "rows_last_ms": lasts}


def _print_check(report: Mapping[str, Any]) -> None:
    robot = f" {report['robot']}" if report["robot"] else ""
    if not report["ok"]:
        click.echo(f"{report['policy']}: not usable{f' for{robot}' if robot else ''}: {report['reason']}")
        return
    click.echo(f"{report['name']} ({report['kind']}, on {report['device']}) {f'fits{robot}' if robot else 'loads'}")
    click.echo(
        f"sees {', '.join(report['keys'])}; {report['rows']} rows of {report['horizon']} at {report['rate']:g} Hz"
    )
    for note in report["notes"]:
        click.echo(f"not as in training: {note}")
    p50, p99, lasts = (report[k] for k in ("predict_ms_p50", "predict_ms_p99", "rows_last_ms"))
    verdict = "in time" if p99 < lasts else "too slow to follow on: the arm will pause between chunks"
    click.echo(f"a prediction takes {p50:.1f} ms (p99 {p99:.1f}); its rows last {lasts:.0f} ms: {verdict}")


@policy.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8770, show_default=True, type=click.IntRange(0, 65535), help="0: any.")
@_TOKEN_FILE
@click.option("--token-env", default="", help="Environment variable with the token.")
@click.option("--tls-cert", default="", help="File of the certificate chain.")
@click.option("--tls-key", default="", help="File of its key.")
@click.option("--plain", is_flag=True, help="Serve other machines without TLS: others on the network can read along.")
@_DEVICE
@click.option("--batch", "most_batch", default=16, show_default=True, type=click.IntRange(1), help="Most at a time.")
@click.option("--queue", default=64, show_default=True, type=click.IntRange(1), help="Most that wait.")
@click.option("--gather", "gather_s", default=0.0, type=click.FloatRange(0, 1), help="Wait for others of a batch [s].")
@click.option("--shared-draws", is_flag=True, help="Predict together also where random numbers are drawn.")
@click.argument("policies", nargs=-1, required=True, metavar="[NAME=]WHERE...")
def serve(policies: tuple[str, ...], token_file: str, token_env: str, device: str, **settings: Any) -> int:
    """Serve policies to robots, until it is interrupted.

    WHERE is a name of the zoo, a folder, or the address of another server; NAME is how robots call it. Without a token
    it serves this machine alone; beyond it, it wants TLS as well.
    """
    from optr.errors import PolicyError
    from optr.policies.handshake import load_token
    from optr.policies.load import load_policy
    from optr.policies.server import PolicyServer, ServerSettings

    named = [_named(text) for text in policies]
    wanted = dict(named)
    twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
    if twice:
        raise PolicyError(f"several policies would be called {', '.join(twice)}; name each yourself: NAME=WHERE")
    token, how = load_token(token_file, token_env), ServerSettings(**settings)
    how.check(token)
    server = PolicyServer({name: load_policy(where, device=device) for name, where in wanted.items()}, token, how)
    ended = EndSignal(signal.SIGINT, signal.SIGTERM)
    try:
        server.start()
        for name in wanted:
            click.echo(f"{server.url}{name}")
        ended.wait()
    finally:
        server.close()
    click.echo(json.dumps({"batches": server.batches}))
    return 0


def _named(text: str) -> tuple[str, str]:
    """Name and place of a policy to serve."""
    name, given, where = text.partition("=")
    if given and "/" not in name:
        return name, where
    return Path(text.partition("?")[0]).name, text


@policy.command()
@click.option("--revision", default="", help="Branch, tag or commit; the newest if not given.")
@click.option("--name", default="", help="What it is called here.")
@_JSON
@click.argument("repo", metavar="OWNER/NAME")
def fetch(repo: str, revision: str, name: str, as_json: bool) -> int:
    """Fetch a policy from the Hugging Face Hub: one commit, and only files that cannot run."""
    from optr.policies.hub import fetch_policy
    from optr.policies.source import read_source

    folder = fetch_policy(repo, revision, name)
    source = read_source(folder)
    assert source is not None
    if as_json:
        click.echo(json.dumps({"name": folder.name, "folder": str(folder), **asdict(source)}))
        return 0
    click.echo(f"{folder.name}: {repo} at {source.revision[:12]}, {len(source.files)} files in {folder}")
    if source.left:
        click.echo(f"left there, since they could run or are not needed: {', '.join(source.left)}")
    return 0
