"""Launch descriptions from stacks. Imported by launch files alone: needs `launch` and `launch_ros`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.events.process import ProcessExited
from launch.logging import get_logger
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from optr.errors import StackError
from optr.ros_environment import PARENT_ENV, prepare
from optr.stack import NodeEntry, Stack, load_stack

_COULD_NOT_START = 2
_OF_LAUNCH = {"emulate_tty", "launch-prefix", "launch-prefix-filter", "sigterm_timeout", "sigkill_timeout"}


def launch_stack(name: str) -> LaunchDescription:
    """The stack of this name or path, with its arguments as launch arguments."""
    stack = load_stack(name)
    declared = [
        DeclareLaunchArgument(
            a.name, default_value=a.default_text, description=a.description, choices=list(a.choices) or None
        )
        for a in stack.arguments.values()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[stack])])


def _start(context: LaunchContext, stack: Stack) -> list[Node]:
    _warn_of_strangers(context, stack)
    entries = stack.resolve({name: context.launch_configurations[name] for name in stack.arguments})
    environment = _environment(context)
    return [_node(entry, environment) for entry in entries]


def _warn_of_strangers(context: LaunchContext, stack: Stack) -> None:
    """Launch itself says nothing about a misspelt argument."""
    names = {word.partition(":=")[0] for word in context.argv} - set(stack.arguments) - _OF_LAUNCH
    for name in sorted(names):
        known = ", ".join(stack.arguments)
        get_logger(__name__).warning(f"stack {stack.name!r} has no argument {name!r}; it has: {known}")


def _environment(context: LaunchContext) -> dict[str, str]:
    present = context.environment
    wanted = prepare(dict(present))
    if not context.launch_configurations.get("launch-prefix"):  # else the prefix is the parent of the node
        wanted[PARENT_ENV] = str(os.getpid())
    return {name: value for name, value in wanted.items() if present.get(name) != value}


def _node(entry: NodeEntry, environment: Mapping[str, str]) -> Node:
    return Node(
        package="optr",
        executable=entry.executable,
        name=entry.executable,
        namespace=entry.namespace,
        parameters=[{n: ParameterValue(v, value_type=type(v)) for n, v in entry.parameters.items()}],
        additional_env=dict(environment),
        output="screen",
        on_exit=_ender(entry.executable),
    )


def _ender(name: str) -> Callable[[ProcessExited, LaunchContext], None]:
    def ended(event: ProcessExited, context: LaunchContext) -> None:
        # A node that cannot start as asked ends the launch, and by an error, or `ros2 launch` would return 0.
        # Any other end leaves the rest running: the sentinel holds the arm.
        if event.returncode == _COULD_NOT_START and not context.is_shutdown:
            raise StackError(f"{name} could not start as asked; its message is above")

    return ended
