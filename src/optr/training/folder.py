"""What the folder of a training holds, whatever it learns from."""

from __future__ import annotations

import tempfile
from pathlib import Path

from optr.errors import TrainingError

RECIPE, RUN = "recipe.yaml", "run.json"
"""What was asked for; with `RUN` in it a folder holds a training."""
CHECKPOINT = "checkpoint"
"""To go on from, of a training by trial; those of LeRobot are in `checkpoints`."""
POLICY = "policy"
"""What is deployed: the newest policy of imitation, the best one by trial."""


def check_free(out: Path) -> None:
    """Make a folder for a training; there is none in it yet.

    Raises:
        TrainingError: If there is one, or the folder cannot be made or written to.
    """
    if (out / RUN).exists():
        raise TrainingError(f"{out} holds a training already: go on with it by --resume, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as err:
        raise TrainingError(f"nothing can be written to {out} ({err.strerror}): choose another --out") from err
