"""How every optr node starts, runs, reports and ends."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from optr.end_signal import EndSignal
from optr.errors import OptrError
from optr.ros.convert import time_to_msg
from optr.ros.hot_loop import HotLoop
from optr.ros.leftovers import remove_leftovers
from optr.ros.only_one import hold_place
from optr.ros.params import ParameterError, declare_params
from optr.ros.qos import EVENT_QOS
from optr.ros_environment import PARENT_ENV, prepare

RCLError = _rclpy.RCLError
RCLInvalidROSArgsError = _rclpy.RCLInvalidROSArgsError
UnknownROSArgsError = _rclpy.UnknownROSArgsError

P = TypeVar("P")

_END_S = 10
"""Longest time that a node may take to end after it was told to [s]."""

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class OptrNode(Node, Generic[P]):
    """A node with checked parameters, a hot loop, diagnostics, and only one of its name.

    Publishes `diagnostics` (diagnostic_msgs/DiagnosticArray) once a second.

    Attributes:
        params: The parameters, read once at start.
        hot: Loop for subscriptions and ticks that must be quick; started by `run_node`.
        steady: Steady clock for timers that must run even when simulation time stands still.
        done: Set by a node that has done what it was started for: `run_node` then ends it.
        ended: Set when a signal has told it to end; what takes long looks at it, for the executor waits for that.
    """

    done = False

    def __init__(self, name: str, params: type[P], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._place = hold_place(self.get_fully_qualified_name())
        self.params: P = declare_params(self, params)
        self._wall = not self.get_parameter("use_sim_time").value  # then the node clock is the system clock
        self.ended = EndSignal()
        self.hot = HotLoop(self)
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "diagnostics", EVENT_QOS)
        self._reported: tuple[Any, ...] = ()
        self.create_timer(1.0, self.report, clock=self.steady)

    def diagnose(self) -> DiagnosticStatus:
        """State of this node, by `health`."""
        return self.health(OK, "running")

    def health(self, level: bytes, message: str, **values: Any) -> DiagnosticStatus:
        """A diagnostic status of this node; values as text."""
        shown = [KeyValue(key=k, value=f"{v:.4g}" if isinstance(v, float) else str(v)) for k, v in values.items()]
        return DiagnosticStatus(
            level=level, name=self.get_fully_qualified_name(), message=message, hardware_id="", values=shown
        )

    def report(self, changes_only: bool = False) -> None:
        """Publish the diagnostics; with `changes_only` only if level or message differ from the last."""
        status = self.diagnose()
        short = (status.level, status.message)
        if changes_only and short == self._reported:
            return
        self._reported = short
        array = DiagnosticArray(status=[status])
        array.header.stamp = time_to_msg(self.now_ns())
        self._diagnostics.publish(array)

    @property
    def on_wall_clock(self) -> bool:
        """Whether the node clock is the system clock, and not that of a simulation."""
        return self._wall

    def now_ns(self) -> int:
        """Time on the node clock [ns]."""
        return time.time_ns() if self._wall else int(self.get_clock().now().nanoseconds)

    def close(self) -> None:
        """End everything this node owns; tolerates a half-built node."""
        self.hot.stop()
        self.destroy_node()
        self._place.close()


def run_node(make: Callable[[], OptrNode[Any]], args: Sequence[str] | None = None) -> int:
    """Run one node until a signal or an error; the `main` of every executable.

    Returns:
        0 after SIGINT or SIGTERM; 2 if it could not start as asked (the message is on stderr); 1 after a defect.
    """
    prepare()
    remove_leftovers()
    _die_with_parent()
    ended = EndSignal(signal.SIGINT, signal.SIGTERM)
    node: OptrNode[Any] | None = None
    try:
        _init(list(sys.argv if args is None else args))
        node = make()
        node.ended = ended
        node.get_logger().info("up")
        gc.collect()
        gc.freeze()  # what start-up made stays: later collections look at little, and take 0.1 ms instead of 5
        node.hot.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not ended.is_set() and node.hot.error is None and not node.done:
            executor.spin_once(timeout_sec=0.1)
        if node.hot.error is not None:
            raise node.hot.error
        return 0
    except OptrError as err:
        print(f"{_program()}: error: {err}", file=sys.stderr, flush=True)
        return 2
    except Exception:  # a defect: show where, and end with a code that says so
        traceback.print_exc()
        return 1
    finally:
        # The middleware was seen to spin for ever, holding the interpreter, while it takes a node down. What is ours
        # is closed by then; the kernel ends the rest.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_END_S)
        if node is not None:
            node.close()
        rclpy.try_shutdown()
        signal.alarm(0)


def _init(args: list[str]) -> None:
    """Start rclpy with the ROS arguments.

    Raises:
        ParameterError: If these are wrong, or there are others: everything is set by parameters.
    """
    try:
        others = remove_ros_args(args)[1:]
        if not others:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except (RCLError, RCLInvalidROSArgsError, UnknownROSArgsError) as err:
        raise ParameterError(f"wrong ROS arguments: {err}") from err
    if others:
        raise ParameterError(
            f"unknown arguments: {' '.join(others)}; settings are parameters: --ros-args -p name:=value "
            f"(the README lists them, `ros2 param describe` explains them)"
        )


def _program() -> str:
    return "optr " + os.path.basename(sys.argv[0]).removesuffix(".py")


def _die_with_parent() -> None:
    """End by SIGTERM when the process that started the stack is gone, however it went."""
    parent = os.environ.get(PARENT_ENV)
    if not parent or not sys.platform.startswith("linux"):
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit(0)
