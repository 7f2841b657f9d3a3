"""`optr up`: bring up a stack where no ROS 2 installation is."""

from __future__ import annotations

import signal

import click
from rich.console import Console
from rich.table import Table

from optr.end_signal import EndSignal
from optr.stack import Stack, load_stack, parse_arguments


@click.command()
@click.argument("stack")
@click.argument("arguments", nargs=-1)
@click.option("--show-args", is_flag=True, help="List the arguments of the stack and end.")
def up(stack: str, arguments: tuple[str, ...], show_args: bool) -> int:
    """Bring up STACK (`sim`, or a file), with ARGUMENTS like task:=reach, until Ctrl-C.

    The same stack as `ros2 launch optr <stack>.launch.py`, one process per node.
    """
    from optr.supervisor import Supervisor, describe_exit

    described = load_stack(stack)
    if show_args:
        _show(described)
        return 0
    nodes = described.resolve(parse_arguments(arguments))
    console = Console(stderr=True)
    ended = EndSignal(signal.SIGINT, signal.SIGTERM)
    code, why = 0, ""
    with Supervisor(nodes) as supervisor:
        names = ", ".join(f"{c.name} ({c.process.pid})" for c in supervisor.children)
        console.print(f"up: {names}; Ctrl-C ends it", highlight=False)
        while not ended.wait(0.2):
            for child in supervisor.ended():
                status = child.process.returncode
                console.print(f"[red]{child.name} ended with {describe_exit(status)}[/]", highlight=False)
                if status == 2:  # it could not start as asked: so could not the stack
                    code, why = 2, f"{child.name} could not start as asked: its own message above says why"
                    ended.set()
            if all(c.process.poll() is not None for c in supervisor.children):
                code = code or 1
                ended.set()
    if why:
        console.print(f"up: ended, for {why}", highlight=False)
    return code


def _show(stack: Stack) -> None:
    table = Table("argument", "default", "choices", "meaning", title=f"{stack.name}: {stack.description}")
    for argument in stack.arguments.values():
        table.add_row(argument.name, argument.default_text or "''", ", ".join(argument.choices), argument.description)
    Console().print(table)
