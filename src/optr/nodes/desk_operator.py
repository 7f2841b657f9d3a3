"""The operator node of a desktop: hosts one operator, which acts through the sentinel of the desktop."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

from std_srvs.srv import Trigger

from optr.errors import OptrError
from optr.operators.desk.host import DeskEpisode, DeskRow, run_seat
from optr.operators.desk.registry import make_desk_operator
from optr.ros.desk_seat import GraphSeat
from optr.ros.node import ERROR, OK, WARN, OptrNode, run_node
from optr.ros.params import json_param, param


@dataclass(frozen=True)
class DeskOperatorParams:
    """Settings of the operator node of a desktop."""

    operator: str = param("human", "Name of the operator: human, llm, numeric, random, script, or another's.")
    options: str = param("{}", "Its options, as a JSON object.")
    task: str = param("", "What is to be done, in words.")
    seed: int = param(0, "Of its chances; one more with each episode.", low=0, high=2**53)
    steps: int = param(50, "Actions that it may decide on in an episode.", low=1, high=1_000_000)
    patience_s: float = param(3600.0, "How long it may abstain in a row [s].", low=0.1, high=1e6)
    begin: bool = param(True, "Begin as soon as the operator has the authority; else when `~/begin` is called.")
    end: bool = param(False, "End the node with the episode.")


class DeskOperatorNode(OptrNode[DeskOperatorParams]):
    """ROS face of one `DeskOperator`; it decides in a thread of its own, and waits for what comes of each action.

    Subscribes `desktop/state` (optr_interfaces/DesktopState), `result`, `sentinel/verdict`, `sentinel/status` and, if
    the operator asks for them, `screen/image_raw` (sensor_msgs/Image); asks the service `desktop/elements` likewise.
    Publishes `action` (optr_interfaces/DesktopAction). Service `~/begin` (std_srvs/Trigger): another episode.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("desk_operator", DeskOperatorParams, **kwargs)
        self.operator = make_desk_operator(self.params.operator, **json_param("options", self.params.options))
        for note in self.operator.notes:
            self.get_logger().warning(f"{self.operator.id}: {note}")
        self.seat = GraphSeat(self, self.operator.id, self.operator.observation_keys)
        self._episodes = 0
        self._rows = 0
        self._problem = ""
        self.episode: DeskEpisode | None = None
        self._wanted = threading.Event()
        self._over = threading.Event()
        self._running = False
        self.create_service(Trigger, "~/begin", self._on_begin)
        self._thread = threading.Thread(target=self._work, name="desk-operator", daemon=True)
        if self.params.begin:
            self._wanted.set()
        self._thread.start()

    def _on_begin(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = not self._running
        response.message = "an episode is under way" if self._running else "it begins"
        if response.success:
            self._wanted.set()
        return response

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            if self._over.is_set():
                return
            self._wanted.clear()
            self._running = True
            try:
                self._play()
            except OptrError as err:
                self._tell(str(err))
            except Exception as err:  # a defect: the node ends by it
                self.hot.error = err
                return
            finally:
                self._running = False
            self.done = self.params.end

    def _play(self) -> None:
        p, seed = self.params, self.params.seed + self._episodes
        self._episodes += 1
        self._rows, self._problem, self.episode = 0, "", None
        episode = run_seat(self.seat, self.operator, p.task, p.steps, seed, p.patience_s, self._on_row)
        self.episode = episode
        said = f": {episode.text}" if episode.text else ""
        self.get_logger().info(f"{self.operator.id}: {episode.ended} after {len(episode.rows)} actions{said}")

    def _on_row(self, row: DeskRow) -> None:
        self._rows = row.step + 1
        if row.text:
            self._tell(row.text)
        elif row.result is not None and not row.result.executed and row.action is not None:
            self._tell(f"{row.action.kind}: {row.result.refused} {row.result.text}".strip())

    def _tell(self, problem: str) -> None:
        self._problem = problem
        if not self._over.is_set():
            self.get_logger().error(problem, throttle_duration_sec=1.0)

    def diagnose(self) -> Any:
        episode = self.episode
        if self._problem:
            level, message = ERROR, self._problem
        elif episode is not None:
            level, message = OK, f"episode is over: {episode.ended}"
        elif not self._running:
            level, message = WARN, "waits for ~/begin"
        elif self.seat.waits_for:
            level, message = WARN, self.seat.waits_for
        else:
            level, message = OK, "deciding"
        return self.health(level, message, operator=self.operator.id, episodes=self._episodes, actions=self._rows)

    def close(self) -> None:
        """End the operator, and everything else this node owns."""
        if hasattr(self, "_thread"):
            self._over.set()
            self._wanted.set()
            self.seat.close()
            self.operator.close()
            self._thread.join(timeout=2.0)
        super().close()


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(DeskOperatorNode, args)


if __name__ == "__main__":
    sys.exit(main())
