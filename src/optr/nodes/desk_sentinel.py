"""The sentinel of a desktop: every command that the desktop node obeys comes from here."""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from optr.connectors.desktop.actions import ACTIONS, Ask, Focus, Rect
from optr.connectors.desktop.let_go import let_go
from optr.connectors.desktop.messages import action_fields, action_of, result_of
from optr.connectors.desktop.sight import DeskSight
from optr.connectors.desktop.stop_keys import StopKeys
from optr.connectors.desktop.view import DeskView
from optr.errors import DesktopError, GuardError, OptrError
from optr.ros.company import Company
from optr.ros.convert import time_to_msg
from optr.ros.desk_convert import command_to_msg, verdict_to_msg
from optr.ros.node import ERROR, OK, WARN, OptrNode, run_node
from optr.ros.only_one import PlaceWatch, hold_place
from optr.ros.params import param
from optr.ros.qos import EVENT_QOS, STATUS_QOS
from optr.ros.stop_latch import StopKeeper
from optr.sentinel import Code, Finding, GuardState, Outcome
from optr.sentinel.desk_config import load_desk
from optr.sentinel.desk_guard import RECOVERY, DeskGuard, DeskVerdict
from optr.sentinel.desk_watch import DeskWatch
from optr.spec import stamp_ns
from optr_interfaces.msg import (
    DesktopAction,
    DesktopCommand,
    DesktopResult,
    DesktopState,
    DesktopTarget,
    EpisodeStatus,
    SentinelStatus,
    Verdict,
)
from optr_interfaces.srv import BeginDesktopTask, ConfirmAction, SetAuthority

_HEARTBEAT_S = 0.02
"""Time between two messages of `sentinel/status`, which the desktop node relies on [s]."""

_GRACE_S = 0.5
"""The next action may come so long before the result of the one before is here [s]: topics keep no order among them."""

_LEVELS = {GuardState.READY: OK, GuardState.HOLDING: WARN, GuardState.STOPPED: ERROR}
_NO_ASKING = "nobody can be asked over the graph; end by `fail`, with the question as its reason"
_NOWHERE = Rect(0, 0, 1, 1)
_RELEASED = ("FAIL_SAFE", "CANCELLED")


@dataclass(frozen=True)
class DeskSentinelParams:
    """Settings of the sentinel of a desktop."""

    desk: str = param("", "What may be done: a file, or a name in config/desks; empty: what ships.")
    authority: str = param("", "Id of the operator whose actions pass at first; empty: nobody's.")
    proposers: str = param(
        "desk_operator,human,replay", "Nodes that may publish `action`, separated by commas; another one holds. *: any."
    )
    state_folder: str = param("", "Folder where a stop outlives a restart; empty: ~/.local/state/optr.")
    recorder_timeout_s: float = param(
        0.0,
        "Hold when the recorder's heartbeat is older than this on a steady clock [s]; 0: no recorder needed.",
        low=0.0,
        high=60.0,
    )
    recorder_status: str = param("episode/status", "Topic of that heartbeat: the recorder may be in another namespace.")


class DeskSentinelNode(OptrNode[DeskSentinelParams]):
    """ROS face of one `DeskGuard`, with eyes of its own on the display that `desktop/state` names.

    Subscribes `action` (optr_interfaces/DesktopAction), `result`, `desktop/state` and, if asked for, the recorder's
    heartbeat. Publishes `command` (optr_interfaces/DesktopCommand), `sentinel/verdict`, `sentinel/status`. Services
    `sentinel/stop`, `sentinel/rearm`, `sentinel/set_authority`, `sentinel/confirm`, `sentinel/begin_task` and
    `sentinel/end_task`. The stop chord of the settings stops it, and so does the pointer in a corner of the screen.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("desk_sentinel", DeskSentinelParams, **kwargs)
        p = self.params
        self.guard = DeskGuard(load_desk(p.desk))
        self.watch = DeskWatch(self.guard, p.authority)
        self._stops = StopKeeper(self, self.watch, p.state_folder, "desktop")
        self._command_place = hold_place(self.resolve_topic_name("command"))
        self._company = Company(self, "command", _listed(p.proposers))
        self._company.refuse()
        self._desktop_place = PlaceWatch(f"{self.get_namespace().rstrip('/')}/desktop")
        self._sight: DeskSight | None = None
        self._stop_keys: StopKeys | None = None
        self._state: DesktopState | None = None
        self._next: DesktopAction | None = None
        self._came = 0.0
        self._judging = False
        self._verdict: DeskVerdict | None = None
        self._ended_ns = self._recoveries = 0
        self._asks: dict[str, str] = {}
        self._action_number = -1
        self._recorder_seen = 0
        self._codes: Counter[str] = Counter()
        self._shown: tuple[Any, ...] = ()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.watch.inhibit(Code.DISPLAY_LOST, "no desktop yet")
        self._commands = self.create_publisher(DesktopCommand, "command", EVENT_QOS)
        self._verdicts = self.create_publisher(Verdict, "sentinel/verdict", EVENT_QOS)
        self._status = self.create_publisher(SentinelStatus, "sentinel/status", STATUS_QOS)
        self.hot.subscribe(DesktopState, "desktop/state", STATUS_QOS, self._on_state)
        self.hot.subscribe(DesktopResult, "result", EVENT_QOS, self._on_result)
        self.hot.subscribe(DesktopAction, "action", EVENT_QOS, self._on_action, with_info=True)
        if p.recorder_timeout_s:
            self.hot.subscribe(EpisodeStatus, p.recorder_status, STATUS_QOS, self._on_recorder)
            self.watch.inhibit(Code.RECORDER_LOST, "no recorder yet")
        self.hot.every(_HEARTBEAT_S, self._tick)
        self.create_service(Trigger, "sentinel/stop", self._on_stop)
        self.create_service(Trigger, "sentinel/rearm", self._on_rearm)
        self.create_service(SetAuthority, "sentinel/set_authority", self._on_set_authority)
        self.create_service(ConfirmAction, "sentinel/confirm", self._on_confirm)
        self.create_service(BeginDesktopTask, "sentinel/begin_task", self._on_begin_task)
        self.create_service(Trigger, "sentinel/end_task", self._on_end_task)
        self.create_timer(0.2, self._look_around, clock=self.steady)
        self._worker = threading.Thread(target=self._work, name="desk-eyes", daemon=True)
        self._worker.start()

    # -- what comes, in the hot loop -------------------------------------------------------------------------------

    def _on_action(self, msg: DesktopAction, info: dict[str, int]) -> None:
        number = info["publication_sequence_number"]
        # Perhaps another publisher than before. (Middleware that does not count says the same number every time.)
        if number not in (self._action_number, self._action_number + 1):
            self._hold_for(Code.UNKNOWN_PROPOSER, self._company.stranger())
        self._action_number = number
        found = self.watch.against(msg.operator_id)
        if found is not None:
            self._tell(msg, self.watch.refused(None, found))
        elif self._next is not None:
            self._tell(msg, self.watch.refused(None, self.watch.busy()))
        else:
            self._next, self._came = msg, time.monotonic()
            self._go_on()

    def _on_result(self, msg: DesktopResult) -> None:
        if (msg.operator_id, msg.sequence) == self.watch.doing:
            self._ended_ns = stamp_ns(msg.header.stamp)
            self._jobs.put(lambda: self._over(msg))

    def _on_state(self, msg: DesktopState) -> None:
        before, self._state = self._state, msg
        if before is None or _where(before) != _where(msg):
            self._jobs.put(lambda: self._open_eyes(msg))
        if msg.stopped and self.guard.state is not GuardState.STOPPED:
            self.guard.stop(f"{msg.stopped}: {msg.text}")
            self._show()
        idle = self.watch.doing is None and stamp_ns(msg.header.stamp) >= self._ended_ns
        if msg.stopped or (idle and not msg.held):
            self.guard.let_go()

    def _on_recorder(self, msg: EpisodeStatus) -> None:
        self._recorder_seen = time.monotonic_ns()
        failed = msg.state == EpisodeStatus.ERROR
        self._hold_for(Code.RECORDER_LOST, f"the recorder cannot record: {msg.text}" if failed else "")

    def _tick(self) -> None:
        p = self.params
        if p.recorder_timeout_s and self._recorder_seen:
            age = (time.monotonic_ns() - self._recorder_seen) * 1e-9
            if age > p.recorder_timeout_s:
                self.watch.inhibit(Code.RECORDER_LOST, f"no sign of the recorder for {age:.1f} s")
        if self._state is not None and self._desktop_place.lost():
            display = self._state.display
            self._jobs.put(lambda: self._let_go(display))
            self._state = self.watch.doing = self._verdict = None
            self.guard.let_go()
            self.watch.inhibit(Code.DISPLAY_LOST, "the desktop node has ended")
        if self._next is not None and time.monotonic() - self._came > _GRACE_S:
            self._tell(self._next, self.watch.refused(None, self.watch.busy()))
            self._next = None
        self._show()

    def _go_on(self) -> None:
        """Have the next action judged, if nothing else is being done."""
        if self._next is not None and self.watch.doing is None and not self._judging:
            msg, self._next, self._judging = self._next, None, True
            self._jobs.put(lambda: self._judge(msg))

    # -- what takes longer, in a thread of its own -----------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
        except Exception as err:  # a defect: the node ends by it
            self.hot.error = err

    def _open_eyes(self, state: DesktopState) -> None:
        self._close_eyes()
        why = ""
        try:
            self._sight = DeskSight.open(
                state.display, state.session_bus, Path(state.home), self.guard.config.may_reach
            )
            self._stop_keys = StopKeys(state.display, self.guard.config.stop_chord, self._stop)
        except OptrError as err:
            why = str(err)
        with self.hot.lock:
            if self._state is not None:
                self._hold_for(Code.DISPLAY_LOST, why)

    def _let_go(self, display: str) -> None:
        """Release what the desktop node may have left pressed, on a display that is still there."""
        with suppress(OptrError):
            let_go(display)

    def _close_eyes(self) -> None:
        for part in (self._stop_keys, self._sight):
            if part is not None:
                with suppress(OptrError):  # the display may be gone
                    part.close()
        self._stop_keys = self._sight = None

    def _judge(self, msg: DesktopAction, recovering: bool = False) -> bool:
        """Have it done, if it is allowed; whether it is."""
        try:
            verdict, view, window = self._judged(msg, recovering)
        except Exception as err:  # whatever goes wrong here must not let anything through
            self.get_logger().error(f"{msg.kind} cannot be judged:\n{traceback.format_exc()}")
            failed = Finding(Code.RULE_FAILED, f"{type(err).__name__}: {err}")
            verdict, view, window = self._refused(failed), DeskView(_NOWHERE), 0
        stamp = time_to_msg(self.now_ns())
        with self.hot.lock:
            self._judging = False
            if verdict.allowed:
                self.watch.doing, self._verdict = (msg.operator_id, msg.sequence), verdict
                self._commands.publish(command_to_msg(msg, verdict, view, window, stamp))
            self._tell(msg, verdict)
            self._go_on()
        return verdict.allowed

    def _recover(self) -> None:
        """Try what may lead out of where something does not hold, one action after the other."""
        while (sight := self._sight) is not None and self.guard.holding is not None:
            try:
                view = sight.seen()
            except OptrError:  # the display is gone: told by whoever has it
                return
            with self.hot.lock:
                if self._judging:  # of what waits behind this
                    self._jobs.put(self._recover)
                    return
                free = self.watch.doing is None and self.watch.blocked is None
                if not free or not self.guard.still(view) or (action := self.guard.take_recovery()) is None:
                    self._show(changes_only=True)
                    return
                self._judging = True
                self._recoveries += 1
                fields = action_fields(action)
            targets = [DesktopTarget(**t) for t in fields.pop("targets", ())]
            msg = DesktopAction(**fields, targets=targets, operator_id=RECOVERY, sequence=self._recoveries)
            if self._judge(msg, recovering=True):
                return  # the next one comes when this one is over

    def _judged(self, msg: DesktopAction, recovering: bool) -> tuple[DeskVerdict, DeskView, int]:
        """The verdict of an action, what was seen for it, and the window that a focus means."""
        nothing, action, window, sight = DeskView(_NOWHERE), None, 0, self._sight
        try:
            action = action_of(msg)
        except DesktopError as err:
            code = Code.BAD_ACTION if msg.kind in ACTIONS else Code.UNKNOWN_ACTION
            return self._refused(Finding(code, str(err), msg.kind)), nothing, 0
        if action is None:
            return self._refused(Finding(Code.ABSTAINED, "the operator abstained")), nothing, 0
        if isinstance(action, Ask):
            return self._refused(Finding(Code.UNKNOWN_ACTION, _NO_ASKING, action.kind)), nothing, 0
        if sight is None:
            return self._refused(Finding(Code.DISPLAY_LOST, "the desktop is not seen")), nothing, 0
        try:
            if isinstance(action, Focus):
                window = sight.windows.find(action.window).id
                action = replace(action, window=str(window))
            view = sight.look(action, self.guard)
        except OptrError as err:
            return self._refused(Finding(Code.NO_SUCH_PLACE, str(err))), nothing, 0
        with self.hot.lock:
            # It may have changed meanwhile.
            found = self.watch.blocked if recovering else self.watch.against(msg.operator_id)
            if found is not None:
                return self.watch.refused(action, found), view, window
            verdict = self.guard.judge(action, view, _now(), recovering)
        return verdict, view, window

    def _refused(self, finding: Finding) -> DeskVerdict:
        with self.hot.lock:
            return self.watch.refused(None, finding)

    def _over(self, msg: DesktopResult) -> None:
        verdict, sight = self._verdict, self._sight
        view = None
        if sight is not None:
            with suppress(OptrError):  # the display is gone: told by whoever has it
                view = sight.seen()
        ahead_ns = self.now_ns() - _now()
        with self.hot.lock:
            if verdict is not None and view is not None:
                result = result_of(msg, lambda ns: ns - ahead_ns)
                said = self.guard.over(verdict, result, view)
                if said:
                    self.get_logger().warning(f"after {msg.operator_id} #{msg.sequence} ({msg.kind}): {said}")
                if result.refused in _RELEASED:
                    self.guard.let_go()
            self.watch.doing = self._verdict = None
        self._recover()
        with self.hot.lock:
            self._go_on()
            self._show(changes_only=True)

    # -- services --------------------------------------------------------------------------------------------------

    def _stop(self, why: str) -> str:
        """Stop, tell it, and keep it; answers what went wrong with that."""
        with self.hot.lock:
            self.guard.stop(why)
            self._show()
        return self._stops.keep()

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        trouble = self._stop("stop was requested")
        response.success = not trouble
        response.message = f"stopped; but {trouble}" if trouble else "stopped; call rearm to go on"
        return response

    def _on_rearm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.hot.lock:
            before = self.guard.reason
            try:
                if self._state is not None and self._state.stopped:
                    raise GuardError(f"the desktop is stopped itself: {self._state.text}")
                self.guard.rearm()
                self._stops.latch.clear()
                response.success, response.message = True, "re-armed"
            except GuardError as err:
                response.success, response.message = False, str(err)
            except OSError as err:
                assert before is not None
                self.watch.stop(before.text, before.code)
                response.success, response.message = False, f"cannot forget the stop on disk: {err}"
            self._show()
        return response

    def _on_set_authority(
        self, request: SetAuthority.Request, response: SetAuthority.Response
    ) -> SetAuthority.Response:
        with self.hot.lock:
            response.previous = self.watch.set_authority(request.operator_id)
            self._show()
        response.success = True
        response.message = f"authority is with {request.operator_id or 'nobody'}"
        return response

    def _on_confirm(self, request: ConfirmAction.Request, response: ConfirmAction.Response) -> ConfirmAction.Response:
        with self.hot.lock:
            try:
                if request.allow:
                    self.guard.confirm(request.request, _now())
                else:
                    self.guard.deny(request.request)
                response.success = True
                response.message = "allowed, once" if request.allow else "not allowed"
            except GuardError as err:
                response.message = str(err)
            self._show()
        return response

    def _on_begin_task(
        self, request: BeginDesktopTask.Request, response: BeginDesktopTask.Response
    ) -> BeginDesktopTask.Response:
        response.message = self._looked(lambda view: self.guard.begin_task(request.task, view, _now()))
        response.success = not response.message
        return response

    def _on_end_task(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self._looked(self.guard.end_task)
        response.success = not response.message
        return response

    def _looked(self, check: Callable[[DeskView], str]) -> str:
        """What does not hold now, or why nobody can tell; where something is to be done about it, that begins."""
        sight = self._sight
        try:
            if sight is None:
                raise DesktopError("the desktop is not seen")
            view = sight.seen()
        except OptrError as err:
            return str(err)
        with self.hot.lock:
            said = check(view)
            mended = "; what the settings name to mend it is tried" if self.guard.recovery else ""
            self._show()
        self._jobs.put(self._recover)
        return said and said + mended

    # -- around ----------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        # Looking at the graph takes its time; the hot loop is not kept waiting for it.
        commanders, why = self._company.commanders(), self._company.stranger()
        states = self.count_publishers("desktop/state")
        deaf = self._stop_keys.lost if self._stop_keys is not None else ""
        with self.hot.lock:
            self._hold_for(Code.UNKNOWN_PROPOSER, why)
            self._hold_for(Code.SECOND_SENTINEL, f"{commanders} publish `command`" if commanders > 1 else "")
            self._hold_for(Code.SECOND_STATE_SOURCE, f"{states} publish `desktop/state`" if states > 1 else "")
            if deaf:
                self.watch.inhibit(Code.DISPLAY_LOST, deaf)
            self._show()
            new, self._stops.kept = self.guard.stops != self._stops.kept, self.guard.stops
        if new:
            self._stops.keep()
        self.report(changes_only=True)

    def _hold_for(self, code: str, why: str) -> None:
        if why:
            self.watch.inhibit(code, why)
        else:
            self.watch.release(code)

    def _tell(self, msg: DesktopAction, verdict: DeskVerdict) -> None:
        self._verdicts.publish(verdict_to_msg(msg, verdict, time_to_msg(self.now_ns())))
        if verdict.request:
            self._asks[verdict.request] = f"{msg.kind} of {msg.operator_id} #{msg.sequence}: {verdict.text}"
        if not verdict.allowed:
            self._codes[verdict.code] += 1
            text = f"{msg.operator_id} #{msg.sequence} ({msg.kind}) refused: {verdict.code}: {verdict.text}"
            self.get_logger().warning(text, throttle_duration_sec=1.0)
        self._show(changes_only=True)

    def _show(self, changes_only: bool = False) -> None:
        watch, counts = self.watch, self.guard.counts
        reason = watch.reason
        waiting = self.guard.requests
        short = (watch.state, reason.code if reason else "", watch.authority, waiting)
        if changes_only and short == self._shown:
            return
        self._shown = short
        self._asks = {request: self._asks.get(request, "") for request in waiting}
        msg = SentinelStatus(
            state=int(watch.state),
            code=str(reason.code) if reason else "",
            text=reason.text if reason else "",
            notices=[f"{Code.CONFIRMATION_NEEDED} {r}: {t}" for r, t in self._asks.items()],
            authority=watch.authority,
            observation_age=-1.0 if self._sight is None else 0.0,
            action_age=time.monotonic() - self._came if self._came else -1.0,
            allowed=counts[Outcome.ALLOWED],
            limited=counts[Outcome.LIMITED],
            refused=counts[Outcome.REFUSED],
            stopped=counts[Outcome.STOPPED],
        )
        msg.header.stamp = time_to_msg(self.now_ns())
        self._status.publish(msg)

    def close(self) -> None:
        super().close()
        if hasattr(self, "_worker"):
            self._jobs.put(None)
            self._worker.join(timeout=5.0)
            self._close_eyes()
        if hasattr(self, "_command_place"):
            self._command_place.close()

    def diagnose(self) -> Any:
        with self.hot.lock:
            watch, reason = self.watch, self.watch.reason
            return self.health(
                _LEVELS[watch.state],
                f"{reason.code}: {reason.text}" if reason else "ready",
                state=watch.state.name,
                authority=watch.authority,
                doing=" #".join(map(str, watch.doing or ())),
                waiting_for_a_person=", ".join(self.guard.requests),
                **{o.name.lower(): self.guard.counts[o] for o in Outcome},
                **{f"code {c}": n for c, n in sorted(self._codes.items())},
                stop_file=str(self._stops.latch.path),
            )


def _now() -> int:
    """Time on the clock that the guard is given [ns]."""
    return time.monotonic_ns()


def _where(state: DesktopState) -> tuple[str, str, str]:
    return state.display, state.session_bus, state.home


def _listed(text: str) -> tuple[str, ...]:
    return tuple(t.strip() for t in text.split(",") if t.strip())


def main(args: list[str] | None = None) -> int:
    """Entry point."""
    return run_node(DeskSentinelNode, args)


if __name__ == "__main__":
    sys.exit(main())
