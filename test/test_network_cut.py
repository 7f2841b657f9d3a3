"""Arm on one host, operator and sentinel on another, and the cable between them is cut: the arm comes to rest.

Two network namespaces with a virtual cable stand for the hosts; each has its own /dev/shm. Needs root (or
CAP_NET_ADMIN) and iproute2.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

REST_S = 0.3
_WATCH = """
import json
from optr.ros_environment import prepare
prepare()
from graph import Watcher
watch = Watcher("cable_watcher")
said = 0
while True:
    watch.spin(0.02)
    for at, msg in watch.joints[said:]:
        print(json.dumps([at, max(abs(v) for v in msg.velocity)]), flush=True)
    said = len(watch.joints)
"""


def _may_make_namespaces() -> str:
    """Why not; empty if so."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"optr{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


class Cable:
    """Two hosts and the cable between them."""

    def __init__(self, tmp_path: Path) -> None:
        self.hosts = [f"optr{os.getpid()}{x}" for x in "ab"]
        self.children: list[subprocess.Popen[bytes]] = []
        self._log = (tmp_path / "nodes.log").open("wb")
        self._environment = {
            **os.environ,
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
            "ROS_DOMAIN_ID": "42",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        for host in self.hosts:
            _run("ip", "netns", "add", host)
        ends = [f"v{h[4:]}" for h in self.hosts]
        _run(
            *("ip", "link", "add", ends[0], "netns", self.hosts[0]),
            *("type", "veth", "peer", "name", ends[1], "netns", self.hosts[1]),
        )
        for k, (host, end) in enumerate(zip(self.hosts, ends, strict=True)):
            for link in ("lo", end):
                self.on(host, "ip", "link", "set", link, "up")
            self.on(host, "ip", "addr", "add", f"10.213.0.{k + 1}/24", "dev", end)
            self.on(host, "ip", "route", "add", "224.0.0.0/4", "dev", end)
        self._end = ends[0]
        # Somebody keeps each host's /dev/shm in being; all that runs there shares it, as on a real host.
        self._keepers = {host: self._keep(host) for host in self.hosts}

    def _keep(self, host: str) -> subprocess.Popen[bytes]:
        command = "mount -t tmpfs tmpfs /dev/shm && echo ready && exec sleep 600"
        child = subprocess.Popen(["ip", "netns", "exec", host, "sh", "-c", command], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    def on(self, host: str, *command: str) -> None:
        _run("ip", "netns", "exec", host, *command)

    def start(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        """Run something on a host."""
        child = subprocess.Popen(
            ["nsenter", "-t", str(self._keepers[host].pid), "-m", "-n", sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            cwd=Path(__file__).parent,
        )
        self.children.append(child)
        return child

    def node(self, host: str, name: str, **parameters: object) -> None:
        words = [w for key, value in parameters.items() for w in ("-p", f"{key}:={value}")]
        self.start(host, "-m", f"optr.nodes.{name}", "--ros-args", *words)

    def cut(self) -> float:
        """Pull the plug; answers when."""
        self.on(self.hosts[0], "ip", "link", "set", self._end, "down")
        return time.monotonic()

    def close(self) -> None:
        for child in [*self.children, *self._keepers.values()]:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            child.wait(timeout=10)
            if child.stdout is not None:
                child.stdout.close()
        for host in self.hosts:
            subprocess.run(["ip", "netns", "del", host], check=False)
        self._log.close()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    why_not = _may_make_namespaces()
    if why_not:
        pytest.skip(why_not)
    made = Cable(tmp_path)
    yield made
    made.close()


def test_a_cut_cable_means_rest(cable: Cable, tmp_path: Path):
    arm, desk = cable.hosts
    cable.node(arm, "sim", task="pick_place", cameras="false", auto_reset="true")
    watcher = cable.start(arm, "-c", _WATCH)
    cable.node(desk, "operator", operator="scripted_pick_place", use_sim_time="true")
    cable.node(
        desk, "sentinel", authority="scripted_pick_place", use_sim_time="true", state_folder=str(tmp_path / "state")
    )
    deadline = time.monotonic() + 60
    cut = last = 0.0
    speeds: list[tuple[float, float]] = []
    lines: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in watcher.stdout or ()], daemon=True).start()
    while True:
        assert time.monotonic() < deadline, f"the arm never moved: {(tmp_path / 'nodes.log').read_text()[-2000:]}"
        try:
            at, speed = json.loads(lines.get(timeout=1.0))
        except queue.Empty:
            continue
        speeds.append((at, speed))
        recent = [s for t, s in speeds if t > at - 0.2]
        if not cut and speed > 0.4 and len(speeds) > 200 and np.mean(recent) > 0.2:
            cut = cable.cut()
        if cut and at > cut + 1.0:
            break
    assert cut, (tmp_path / "nodes.log").read_text()[-2000:]
    last = max((t - cut for t, s in speeds if t > cut and s > 0.05), default=0.0)
    print(f"rest {last:.3f} s after the cable was cut")
    assert last <= REST_S
    assert max(s for t, s in speeds if cut - 0.1 < t <= cut) > 0.2, "it was moving"
