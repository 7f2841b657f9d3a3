"""Where the files that ship with optr lie: `config/`, `launch/`, `urdf/`.

From a source tree (also `pip install -e`) they are taken from there, from an installed package out of
`share/optr` of the ament prefix or of the Python environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from optr.errors import OptrError


def share_path(*parts: str) -> Path:
    """Path of a shipped file or folder, for example `share_path("config", "fastdds.xml")`.

    Raises:
        OptrError: If it is in none of the places that are looked at.
    """
    tried = []
    for base in _bases():
        path = base.joinpath(*parts)
        if path.exists():
            return path
        tried.append(str(path))
    raise OptrError(f"{'/'.join(parts)} is not installed; looked for: {', '.join(tried)}")


def find_config(kind: str, name: str | os.PathLike[str]) -> Path:
    """A file by path, or by the bare name of one that ships in `config/<kind>/`.

    Raises:
        OptrError: If there is neither; the message lists the names that ship.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path.resolve()
    folder = share_path("config", kind)
    shipped = folder / f"{path}.yaml"
    if path.name == str(path) and shipped.is_file():
        return shipped.resolve()
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
    raise OptrError(f"no file {str(name)!r} and nothing of that name in config/{kind}; there are: {known}")


def _bases() -> list[Path]:
    source = Path(__file__).resolve().parents[2]
    bases = [source] if (source / "package.xml").is_file() else []
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return bases + [Path(p) / "share" / "optr" for p in [*prefixes, sys.prefix]]
