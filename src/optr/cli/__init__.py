"""The `optr` command. Importing it costs little; each command imports what it needs."""

from __future__ import annotations

import errno
import os
import sys

import click

import optr
from optr.cli.arm import arm
from optr.cli.calibrate import calibrate
from optr.cli.convert import convert
from optr.cli.demo import demo
from optr.cli.desktop import desktop
from optr.cli.doctor import doctor
from optr.cli.environments import environments
from optr.cli.episodes import episodes
from optr.cli.eval import evaluate_
from optr.cli.experiment import experiment
from optr.cli.fake_arm import fake_arm
from optr.cli.listing import operators, tasks
from optr.cli.llm import llm
from optr.cli.loop import loop
from optr.cli.policy import policy
from optr.cli.record import record
from optr.cli.replay import replay
from optr.cli.sentinel import sentinel
from optr.cli.spec import spec
from optr.cli.teleop import teleop
from optr.cli.train import train
from optr.cli.up import up
from optr.cli.worker import worker
from optr.errors import OptrError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(optr.__version__, prog_name="optr")
def cli() -> None:
    """Any operator, in any environment, under one guard, on one record, over ROS 2."""


for command in (
    demo, up, record, episodes, replay, convert, operators, environments, tasks, spec, sentinel, arm, calibrate, teleop,
    fake_arm, llm, policy, train, experiment, evaluate_, loop, desktop, worker, doctor,
):  # fmt: skip
    cli.add_command(command)


def main() -> int:
    """Entry point. Exit codes: 0 done, 1 done but not as asked for, 2 cannot be done as asked."""
    try:
        result = cli.main(standalone_mode=False)
        if sys.stdout is not None:  # None where it is closed from the start
            sys.stdout.flush()
        return int(result or 0)
    except click.exceptions.Exit as err:
        return err.exit_code
    except click.ClickException as err:
        err.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        print("optr: interrupted", file=sys.stderr)
        return 130
    except OptrError as err:
        print(f"optr: error: {err}", file=sys.stderr)
        return 2
    except OSError as err:
        if err.filename is not None or err.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise
        print(f"optr: error: cannot write: {err.strerror}", file=sys.stderr)
        _drop_output()
        return 2


def _drop_output() -> None:
    """Let what is left of standard output go nowhere: Python writes it when it ends, and fails a second time."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
