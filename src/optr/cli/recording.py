"""What commands that look at a recording have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from optr.episodes.read import EpisodeReader
    from optr.sentinel import SentinelConfig
    from optr.spec import Spec


def open_recording(bag: Path, spec: str, namespace: str | None) -> tuple[EpisodeReader, Spec]:
    """A recording and its spec: the one named, or the one inside.

    Args:
        bag: Folder of the bag, or a file in it.
        spec: Name or file of a spec; empty: what was recorded.
        namespace: Namespace of the topics; None: that of the only `sentinel/verdict` or `action`.

    Raises:
        OptrError: If it is no bag, or nobody says what robot it is.
    """
    from optr.episodes.read import EpisodeReader
    from optr.errors import EpisodeError
    from optr.spec import load_spec

    folder = bag.parent if bag.is_file() else bag
    reader = EpisodeReader(folder, namespace or "")
    if namespace is None:
        reader = EpisodeReader(folder, only_namespace(reader))
    if spec:
        return reader, load_spec(spec)
    try:
        return reader, reader.spec()
    except EpisodeError as err:
        raise EpisodeError(f"{err} Name the spec of the robot with --spec.") from err


def recorded_rules(reader: EpisodeReader) -> SentinelConfig | None:
    """The rules that were in effect, or None where the recording does not say."""
    from optr.sentinel import read_config

    if not reader.has("sentinel/rules"):
        return None
    for _, _, msg in reader.messages("sentinel/rules"):
        return read_config(msg.data, f"{reader.folder}, sentinel/rules")
    return None


def facts_of(reader: EpisodeReader) -> dict[str, Any]:
    """What was recorded about an episode; nothing for a bag of another origin."""
    from optr.errors import EpisodeError

    try:
        return dict(reader.facts())
    except EpisodeError:
        return {}


def only_namespace(reader: EpisodeReader) -> str:
    """Namespace of the only `sentinel/verdict` or `action` in a bag."""
    for wanted in ("/sentinel/verdict", "/action"):
        found = [t.removesuffix(wanted) for t in reader.topics() if t.endswith(wanted)]
        if len(found) > 1 and "" not in found:
            listed = ", ".join(sorted(found))
            raise click.UsageError(f"{reader.folder} has several robots; choose one by --namespace: {listed}")
        if found:
            return "" if "" in found else found[0]
    return ""
