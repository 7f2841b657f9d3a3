"""`optr spec`: check a spec, or make one from a model."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def spec() -> None:
    """Check a spec, show it, or make one from a model file."""


@spec.command()
@click.argument("name")
@click.option("--scene", type=click.Path(path_type=Path), help="Model file to check it against.")
def check(name: str, scene: Path | None) -> int:
    """Check the spec NAME (a file, or the name of one that ships with optr), also against its model."""
    from optr.spec import load_spec

    loaded = load_spec(name)
    loaded.limits  # noqa: B018  # raises if one is missing
    lines = [f"{loaded.name}: {len(loaded.action.names)} joints, {len(loaded.observations)} observed features"]
    if scene is not None or loaded.scene or loaded.mjcf or loaded.urdf:
        from optr.model import compile_model, model_path

        model = compile_model(loaded, scene)
        lines.append(f"fits {model_path(loaded, scene)} ({model.nbody} bodies, {model.nu} actuators)")
    click.echo("\n".join(lines))
    return 0


@spec.command()
@click.argument("name")
def show(name: str) -> int:
    """Print the spec NAME whole, with everything that it extends."""
    from optr.spec import load_spec

    click.echo(load_spec(name).to_yaml(), nl=False)
    return 0


@spec.command("from-model")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; else standard output.")
@click.option("--rate", type=click.FloatRange(1, 1000), default=50.0, show_default=True, help="Action rate [Hz].")
def from_model(model: Path, output: Path | None, rate: float) -> int:
    """Make a spec for MODEL (MJCF or URDF): its joints, cameras and free objects.

    Speed and acceleration limits are no part of a model: those written are cautious guesses to be checked.
    """
    from optr.connectors.sim.describe import describe_model

    text = describe_model(model, rate)
    if output is None:
        click.echo(text, nl=False)
        return 0
    beside = output.with_suffix(output.suffix + ".new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as err:
        raise click.ClickException(f"cannot write {output}: {err.strerror or err}") from err
    click.echo(f"wrote {output}")
    return 0
