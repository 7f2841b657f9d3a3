"""A desktop with operator, sentinel and recorder: `ros2 launch optr desktop.launch.py --show-args`."""

from launch import LaunchDescription

from optr.launch_support import launch_stack


def generate_launch_description() -> LaunchDescription:
    """What `config/stacks/desktop.yaml` describes."""
    return launch_stack("desktop")
