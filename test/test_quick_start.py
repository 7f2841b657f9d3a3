"""The two quick starts of the house, with real parts: a login page in Chromium, and the arm in MuJoCo."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from Xlib.X import Button1Mask

from optr import DesktopConnector, Operator, RobotConnector
from optr.connectors.desktop.actions import ActionResult
from optr.connectors.desktop.login_page import LoginPage
from optr.connectors.desktop.x11 import X11
from optr.errors import ActionError, NotDoneError, OptrError, UnknownNameError
from optr.facade import Connector

CUBE = "observation.environment.cube"

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


# -- a desktop --------------------------------------------------------------------------------------------------------


@needs_browser
def test_it_signs_in_to_a_page():
    async def quick_start(url):
        async with Operator({"desktop": DesktopConnector(desk="demo")}) as op:
            await op.execute_action("launch", program="browser", arguments=[url])
            await op.execute_action("click", selector="#username")
            await op.execute_action("type", text="ada")
            await op.execute_action("type", selector="#password", text="difference engine 2")
            result = await op.execute_action("click", selector='role=button[name="Sign in"]')
            await op.execute_action("wait", until="window", value="Signed in", timeout_s=30)
            seen = await op.observe("desktop", "observation.windows", "observation.images.screen")
            return result, seen

    with LoginPage({"ada": "difference engine 2"}) as page:
        result, seen = run(quick_start(page.url))
        assert (page.signed_in, page.refused) == (["ada"], [])
    assert isinstance(result, ActionResult) and result.executed
    assert any("Signed in" in window.title for window in seen["observation.windows"])
    assert seen["observation.images.screen"].shape == (800, 1280, 3)


@needs_browser
def test_the_words_of_the_document_run_as_they_stand(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "desktop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    file = tmp_path / "quick_start.py"
    file.write_text(code)
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "held=True" in done.stdout


def test_what_a_desk_refuses_is_told_by_its_rule():
    async def act():
        async with Operator({"desktop": DesktopConnector(size=(640, 480), patience_s=0.1)}) as op:
            with pytest.raises(NotDoneError, match="PROGRAM_FORBIDDEN: launch: ") as refused:
                await op.execute_action("launch", program="rm")
            with pytest.raises(NotDoneError, match=r"NO_SUCH_PLACE: click: .*role=button"):
                await op.execute_action("click", selector="role=button")
            with pytest.raises(OptrError, match="nothing observation.smell can be seen"):
                await op.observe("desktop", "observation.smell")
            return refused.value

    refused = run(act())
    assert refused.code == "PROGRAM_FORBIDDEN" and refused.result.refused == "PROGRAM_FORBIDDEN"


def test_cancelled_it_lets_everything_go_and_goes_on():
    async def act():
        async with Operator({"desktop": DesktopConnector(size=(640, 480))}) as op:
            await op.observe("desktop", "observation.pointer")
            waiting = asyncio.ensure_future(op.execute_action("wait", until="window", value="none", timeout_s=50))
            await asyncio.sleep(0)
            desk = op._seats["desktop"].connector.desk
            while not desk.bridge._asked:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            done = await op.execute_action("wait", until="time", timeout_s=0)
            return time.monotonic() - began, done

    seconds, done = run(act())
    assert seconds < 20 and done.executed


def test_cancelled_in_mid_drag_the_button_is_released(tmp_path):
    settings = tmp_path / "root.yaml"
    settings.write_text("desk: 1\nwindows: {root: allow}\n")

    async def act():
        async with Operator({"desktop": DesktopConnector(desk=str(settings), size=(640, 480))}) as op:
            await op.observe("desktop", "observation.pointer")
            x11 = X11(op._seats["desktop"].connector.desk.session.display)
            pressed = lambda: bool(x11.root.query_pointer().mask & Button1Mask)  # noqa: E731
            path = [{"x": 0.3, "y": 0.3}, {"x": 0.7, "y": 0.6}]
            dragging = asyncio.ensure_future(op.execute_action("drag", path=path, seconds=50))
            while not pressed():
                assert not dragging.done(), dragging.result()
                await asyncio.sleep(0.01)
            dragging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dragging
            held = pressed()
            x11.close()
            return held

    assert run(act()) is False


# -- the arm ----------------------------------------------------------------------------------------------------------


def yaw_of(pose):
    x, y, z, w = pose.quat_xyzw
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_lifts_a_cube(seed):
    robot = RobotConnector(seed=seed)

    async def quick_start():
        async with Operator({"robot": robot}) as op:
            cube = (await op.observe("robot", CUBE))[CUBE]
            x, y, z = cube.position.tolist()
            await op.execute_action("release")
            await op.execute_action("move", position=[x, y, z + 0.06], yaw=yaw_of(cube), clearance=0.009)
            await op.execute_action("move", position=[x, y, z + 0.01], clearance=0.009)
            gripped = await op.execute_action("grasp", force=6.0)
            lifted = await op.execute_action("move", position=[x, y, z + 0.1])
            return z, gripped, lifted, float(robot.simulation.world.pose("cube").position[2])

    z, gripped, lifted, height = run(quick_start())
    assert gripped.held and gripped.force == pytest.approx(6.0, abs=1.0)
    assert lifted.held and height > z + 0.07
    assert lifted.position[2] == pytest.approx(z + 0.1, abs=0.01) and lifted.error_m < 0.01


def test_what_an_arm_cannot_do_is_refused_before_it_moves():
    robot = RobotConnector()

    async def act():
        async with Operator({"robot": robot}) as op:
            before = (await op.observe("robot"))["tool"]
            with pytest.raises(NotDoneError, match=r"UNREACHABLE: move: \[2.000, 0.000, 0.100\] m is out of reach"):
                await op.execute_action("move", position=[2, 0, 0.1])
            for wrong in ([1, 2], "there", [0, 0, float("nan")]):
                with pytest.raises(ActionError, match=r"expected \[x, y, z\] in metres"):
                    await op.execute_action("move", position=wrong)
            with pytest.raises(ActionError, match="force is 90, expected a number from 2 to 19.3"):
                await op.execute_action("grasp", force=90)
            with pytest.raises(ActionError, match="move: missing a required argument: 'position'"):
                await op.execute_action("move")
            assert (await op.observe("robot"))["tool"] == before
            with pytest.raises(NotDoneError, match="NOTHING_HELD: grasp: the jaws closed on nothing") as empty:
                await op.execute_action("grasp", force=5)
            assert not empty.value.result.held
            with pytest.raises(NotDoneError) as hit:
                await op.execute_action("move", position=[0.2, 0.0, -0.05])
            return hit.value

    refused = run(act())
    assert refused.code == "WORLD_COLLISION" and "gripper_link would come within" in str(refused)


def test_cancelled_in_mid_move_the_arm_comes_to_rest():
    robot = RobotConnector()
    moving = threading.Event()

    async def act():
        async with Operator({"robot": robot}) as op:
            await op.observe("robot")
            advance = robot._advance

            def slowly(position):
                advance(position)
                moving.set()
                time.sleep(0.005)

            robot._advance = slowly
            doing = asyncio.ensure_future(op.execute_action("move", position=[0.2, 0.15, 0.1], speed=0.05))
            await asyncio.to_thread(moving.wait)
            doing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await doing
            robot._advance = advance
            resting = np.abs(robot.simulation.world.joints().velocity).max()
            tool = (await op.observe("robot", "tool"))["tool"]
            return resting, tool, await op.execute_action("home")

    resting, tool, home = run(act())
    assert resting < 0.05 and np.linalg.norm(np.subtract(tool, (0.2, 0.15, 0.1))) > 0.03
    assert home.seconds > 0


# -- both -------------------------------------------------------------------------------------------------------------


class Parrot(Connector):
    """Repeats what it is told."""

    verbs = {"say": ("text",), "move": ()}  # noqa: RUF012

    def __init__(self):
        self.log, self.threads = [], set()

    def open(self):
        self.log.append("open")

    def execute(self, verb, arguments):
        self.threads.add(threading.get_ident())
        return f"{verb} {arguments.get('text', '')}"

    def observe(self, *keys):
        return dict.fromkeys(keys, "seen")

    def cancel(self):
        self.log.append("cancel")

    def close(self):
        self.log.append("close")


def test_several_connectors_each_act_in_a_thread_of_their_own():
    one, other = Parrot(), Parrot()

    async def act():
        async with Operator({"one": one, "other": other}) as op:
            said = await asyncio.gather(*(op.execute_action("say", on=n, text=n) for n in ("one", "other", "one")))
            with pytest.raises(ActionError, match="say can be done on one and other; say which by on="):
                await op.execute_action("say", text="x")
            return said, await op.observe("one", "it")

    assert run(act()) == (["say one", "say other", "say one"], {"it": "seen"})
    assert one.log == other.log == ["open", "close"]
    assert len(one.threads) == len(other.threads) == 1 and one.threads != other.threads


def test_what_is_not_known_is_told_with_what_is():
    async def act():
        op = Operator({"desktop": DesktopConnector(), "parrot": Parrot()})
        with pytest.raises(UnknownNameError, match=r"no action named 'clack'; there are: .*click.*, say"):
            await op.execute_action("clack")
        with pytest.raises(UnknownNameError, match="no action of parrot named 'click'; there are: move, say"):
            await op.execute_action("click", on="parrot")
        with pytest.raises(UnknownNameError, match="no connector named 'car'; there are: desktop, parrot"):
            await op.execute_action("click", on="car")
        with pytest.raises(
            ActionError, match="click has no argument colour; it has: selector, within, x, y, frame, but"
        ):
            await op.execute_action("click", colour="red")
        await op.close()

    run(act())
    with pytest.raises(ActionError, match="needs a connector"):
        Operator({})
    with pytest.raises(ActionError, match="connector 'desk' is a str"):
        Operator({"desk": "top"})


def test_the_names_are_there_and_cost_nothing_before_they_are_used():
    code = (
        "import optr, sys; before = {'numpy', 'asyncio', 'optr.facade'} & set(sys.modules); assert not before, before\n"
        "from optr import DesktopConnector, Operator, RobotConnector\n"
        "heavy = {'mujoco', 'Xlib', 'pyautogui', 'mss', 'rclpy', 'torch'} & set(sys.modules); assert not heavy, heavy\n"
        "import optr.operators; assert optr.operators.Operator is not Operator\n"
        "try:\n    optr.Opera\nexcept AttributeError as err: print(err)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "no attribute 'Opera'" in done.stdout, done.stderr
