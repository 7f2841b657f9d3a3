"""The endpoint of OSWorld's guests, in front of a real desktop: what is asked for is read, guarded, and never run."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.guest_server import GuestServer
from optr.connectors.desktop.opening import open_desk
from optr.errors import DesktopError

PREFIX = "import pyautogui; import time; pyautogui.FAILSAFE = False; "
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def desk():
    with open_desk(settings="demo", own=(1000, 700)) as made:
        yield made


@pytest.fixture(scope="module")
def server(desk):
    with GuestServer(desk, port=0) as made:
        yield made


@pytest.fixture(scope="module")
def calculator(desk, server):
    """Id of its window, started by the endpoint."""
    status, text = ask(server, "/setup/launch", {"command": ["galculator"], "shell": False})
    assert (status, text) == (200, "galculator launched successfully")
    assert desk.execute(a.Wait("element", 'role=button[name="="]', PATIENCE_S)).executed
    return desk.bridge.windows.find("galculator").id


def ask(server, path, data=None, headers=None, method=None):
    """Status, and the JSON or text that is answered."""
    body = None if data is None else json.dumps(data).encode() if not isinstance(data, bytes) else data
    kind = {"Content-Type": "application/json"} if data is not None else {}
    request = urllib.request.Request(server.url + path, body, {**kind, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            status, kind, raw = response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as err:
        status, kind, raw = err.code, err.headers["Content-Type"], err.read()
    if kind == "application/json":
        return status, json.loads(raw)
    return status, raw if kind.startswith("image/") else raw.decode()


def run(server, code):
    status, said = ask(server, "/execute", {"command": ["python", "-c", PREFIX + code], "shell": False})
    assert status == 200, said
    return said


def pixels(raw):
    """A PNG of RGB without filters, as an array."""
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", raw[16:24])
    packed = b"".join(
        raw[at + 4 : at + 4 + size] for at, size in ((m.start(), struct.unpack(">I", raw[m.start() - 4 : m.start()])[0])
                                                      for m in re.finditer(b"IDAT", raw))
    )  # fmt: skip
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * 3)
    return rows[:, 1:].reshape(height, width, 3)


def place_of(desk, name, window):
    return desk.finder.resolve(a.Selector(f'role=button[name="{name}"]', window)).centre


def shown(desk, window):
    return desk.finder.find(a.Selector("role=textbox", window)).value.strip()


def test_it_adds_by_clicks_that_arrive_as_code(desk, server, calculator):
    for name in ("1", "5", "+", "2", "7", "="):
        x, y = place_of(desk, name, calculator)
        said = run(server, f"pyautogui.moveTo({x}, {y}, 0.5, pyautogui.easeInQuad); pyautogui.click({x}, {y})")
        assert (said["status"], said["returncode"], said["error"]) == ("success", 0, "")
        assert [r["executed"] for r in said["results"]] == [True, True]
    assert desk.execute(a.Wait("still", timeout_s=PATIENCE_S)).executed
    assert shown(desk, calculator) == "42"
    assert ask(server, "/cursor_position") == (200, [x, y])


def test_a_screenshot_shows_the_screen_and_the_pointer(desk, server, calculator):
    x, y = place_of(desk, "5", calculator)
    run(server, f"pyautogui.moveTo({x}, {y})")
    assert desk.execute(a.Wait("still", timeout_s=PATIENCE_S)).executed
    status, raw = ask(server, "/screenshot")
    bare, seen = desk.bridge.screen.grab().pixels, pixels(raw)
    assert status == 200 and seen.shape == bare.shape == (700, 1000, 3)
    differing = np.argwhere((seen != bare).any(axis=2))
    assert len(differing) > 20, "no pointer in it"
    assert np.abs(differing - (y, x)).max() < 40


def test_what_the_guard_refuses_comes_back_as_an_error_of_the_code(desk, server, calculator):
    said = run(server, "pyautogui.hotkey('alt', 'f4'); pyautogui.press('a')")
    assert said["returncode"] == 1 and said["error"].startswith("action 1 of 2, hotkey: KEY_FORBIDDEN")
    assert len(said["results"]) == 1 and desk.bridge.windows.matching(str(calculator))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["rm", "-rf", "/"], "'rm -rf /' is not run; only PyAutoGUI code"),
        (["python", "-c", "import os; os.system('id')"], "not understood: line 1: expected a call"),
        (["python", "-c", PREFIX + "open('/etc/passwd').read()"], "not understood"),
        (["python", "-c", "pyautogui.FAILSAFE = __import__('os')"], "expected a literal argument"),
        (["python", "-c", "pyautogui.screenshot('x.png')"], "pyautogui.screenshot: is not understood"),
        (["python", "-m", "http.server"], "only PyAutoGUI code"),
        ("python -c 'pyautogui.click(5000, 5000)'", "pixel .* lies outside"),
    ],
)
def test_whatever_is_no_code_of_pyautogui_is_not_run(server, command, why):
    status, said = ask(server, "/execute", {"command": command})
    assert (status, said["status"]) == (403, "error")
    assert re.search(why, said["message"])


def test_no_shell_is_run(server):
    assert ask(server, "/execute", {"command": "id", "shell": True}) == (
        403, {"status": "error", "message": "no shell is run"},
    )  # fmt: skip


def test_only_programs_of_the_desk_are_launched(server):
    status, said = ask(server, "/setup/launch", {"command": ["xterm", "-e", "id"]})
    assert (
        status == 403 and "no program 'xterm -e id' in the settings of this desk; there are: browser" in said["message"]
    )
    status, said = ask(server, "/setup/launch", {"command": "chromium --no-sandbox http://example.org"})
    assert status == 403 and said["message"].startswith("PROGRAM_FORBIDDEN: browser may not get")


def test_names_of_headers_have_no_capitals(server):
    body = json.dumps({"command": ["python", "-c", "import time; time.sleep(0.01)"]})
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("POST", "/execute", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["returncode"]) == (200, 0)
    connection.close()


def test_what_it_tells(desk, server, calculator):
    assert ask(server, "/platform") == (200, "Linux")
    assert ask(server, "/screen_size", method="POST") == (200, {"width": 1000, "height": 700})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    window = desk.bridge.windows.get(calculator).rect
    assert ask(server, "/window_size", b"app_class_name=Galculator", form) == (
        200, {"width": window.width, "height": window.height},
    )  # fmt: skip
    assert ask(server, "/setup/activate_window", {"window_name": "galculator"}) == (
        200,
        "Window activated successfully",
    )
    status, said = ask(server, "/accessibility")
    tree = ElementTree.fromstring(said["AT"])
    button = next(n for n in tree.iter("button") if n.get("name") == "=")
    space = "{https://accessibility.ubuntu.example.org/ns/component}"
    left, top, width, height = map(
        int, re.findall(r"\d+", button.get(f"{space}screencoord") + button.get(f"{space}size"))
    )
    assert status == 200 and (left + width // 2, top + height // 2) == place_of(desk, "=", calculator)


@pytest.mark.parametrize("path", ["/file", "/run_python", "/run_bash_script", "/setup/upload", "/terminal"])
def test_what_reaches_past_the_desk_is_refused(server, path):
    status, said = ask(server, path, {"code": "1"})
    assert status == 403 and said["message"].startswith(f"{path} is refused here: ")


def test_requests_that_make_no_sense_are_told_why(server):
    assert ask(server, "/clack")[0] == 404
    assert "there are: /accessibility" in ask(server, "/clack")[1]["message"]
    assert ask(server, "/execute", b"{")[0] == 400
    assert ask(server, "/execute", b"[]")[0] == 400
    assert ask(server, "/execute", {})[1]["message"] == "command is required, a list of texts"
    assert ask(server, "/execute", b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "/window_size", {"app_class_name": "nothing"})[0] == 404


def test_pages_and_names_that_lead_here_are_not_admitted(server):
    assert ask(server, "/screen_size", headers={"Host": "evil.example:80"})[0] == 403
    assert ask(server, "/execute", {}, {"Origin": "http://127.0.0.1"})[1]["message"] == "pages may not ask"


def test_a_body_is_bounded(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE_S)
    connection.putrequest("POST", "/execute")
    connection.putheader("Content-Length", "99999999999")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE_S)
    connection.request("POST", "/execute", iter([b"{}"]), {"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 411
    connection.close()


def test_others_than_this_machine_need_a_token(desk):
    with pytest.raises(DesktopError, match=r"whoever reaches 0.0.0.0 could act on this desktop: that needs a token"):
        GuestServer(desk, "0.0.0.0", 0)
    with GuestServer(desk, port=0, token="s3cret") as server:
        assert ask(server, "/platform")[0] == 401
        assert ask(server, "/platform?token=other")[0] == 401
        assert ask(server, "/platform?token=s3cret")[0] == 200
        assert ask(server, "/platform", headers={"Authorization": "Bearer s3cret"})[0] == 200
        with pytest.raises(DesktopError, match="cannot listen at 127.0.0.1 port"):
            GuestServer(desk, port=int(server.url.rpartition(":")[2]))


def test_the_command_serves_until_a_signal_comes():
    command = [sys.executable, "-m", "optr.cli", "desktop", "serve", "--port", "0", "--own", "640", "480"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        said = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{said['url']}/platform", timeout=PATIENCE_S) as response:
            assert response.read() == b"Linux"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
