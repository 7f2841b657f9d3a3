"""Is every sum and every login right on a machine that is busy with something else?

Sums by real clicks on a calculator, checked by what accessibility says that it holds; logins by real keys and clicks in
Chromium, checked by the server of the page; all under the guard, beside busy loops. And how many actions a second that
makes, against the two seconds that is commonly slept after each.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _common import Load, Processes, Result, arguments, ratio, spread, tell

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.desk import Desk
from optr.connectors.desktop.login_page import LoginPage

_LOOP = "while True: pass"
_SLEPT_S = 2.0
_COMES_S = 60.0
_AGAIN = 10
_COVERED = ("OBSERVATION_STALE", "NO_SUCH_PLACE")


def main() -> int:
    """Run it."""
    given = arguments(__doc__, 0.0, more=_more)
    load = Load()
    chosen = random.Random(given.seed)
    with demo_desk() as desk:
        _longer(desk)
        with _busy(given.busy):
            sums, took_sums = _sums(desk, given.sums, chosen)
            logins, took_logins, steps = _logins(desk, given.logins, chosen)
        with LoginPage({"ada": "calm"}) as page:
            calm = _paced(desk, page, given.calm)
    missed = [*sums, *logins]
    per_s = steps / sum(took_logins) if took_logins else None
    rows = [
        {"what": "sums", "right": given.sums - len(sums), "of": given.sums, **_seconds(took_sums)},
        {"what": "logins", "right": given.logins - len(logins), "of": given.logins, **_seconds(took_logins)},
    ]
    result = Result(
        "desktop_load",
        f"actions per second of logins, without a busy loop; sums and logins beside {given.busy} of them",
        calm,
        1 / _SLEPT_S,
        "actions/s",
        f"all {given.sums} sums and {given.logins} logins right",
        not missed,
        rows,
        {
            "missed": missed,
            "loaded_actions_per_s": per_s,
            "times_slept": ratio(calm, 1 / _SLEPT_S),
            "load": load.so_far(),
        },
    )
    for line in missed:
        print(line)
    return tell(result, given.json)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sums", type=int, default=100, help="sums on the calculator (default %(default)s)")
    parser.add_argument("--logins", type=int, default=40, help="logins on the page (default %(default)s)")
    parser.add_argument("--calm", type=int, default=5, help="logins that are timed without load (default %(default)s)")
    parser.add_argument("--busy", type=int, default=6, help="busy loops beside them (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the numbers and names (default %(default)s)")


def _seconds(took: list[float]) -> dict[str, float]:
    s = spread(took)
    return {"p50 s": s.get("p50", 0.0), "worst s": s.get("worst", 0.0)}


@contextmanager
def _busy(loops: int) -> Iterator[None]:
    with Processes() as processes:
        for _ in range(loops):
            processes.start("-S", "-c", _LOOP)
        yield


def _longer(desk: Desk) -> None:
    """Begin a task that nothing of this run uses up."""
    from dataclasses import replace

    from optr.sentinel.desk_guard import DeskGuard

    config = desk.guard.config
    desk.guard = DeskGuard(replace(config, budget=replace(config.budget, steps=1_000_000, time=1e6)))


def _done(desk: Desk, *actions: a.DesktopAction, away: a.Selector | None = None) -> str:
    """Carry them out; what went wrong, or nothing.

    What is refused because something has come over it is proposed again, after the pointer was brought `away`: nothing
    was pressed, and a tooltip goes when the pointer does.
    """
    for action in actions:
        result = desk.execute(action)
        for _ in range(_AGAIN):
            if result.refused not in _COVERED:
                break
            desk.execute(a.Move(away) if away else a.Wait("still", timeout_s=1.0))
            result = desk.execute(action)
        if not result.executed:
            return f"{action}: {result.refused} {result.text}"
    return ""


def _sums(desk: Desk, count: int, chosen: random.Random) -> tuple[list[str], list[float]]:
    launched = desk.execute(a.Launch("calculator"))
    window = int(launched.answer)
    wrong, took = [], []
    said = _done(desk, a.Wait("element", 'role=button[name="="]', _COMES_S))
    display = a.Selector("role=textbox", window)
    for _ in range(count):
        one, other = chosen.randint(10, 999), chosen.randint(10, 999)
        began = time.monotonic()
        keys = ["AC", *str(one), "+", *str(other), "="]
        clicks = [a.Click(a.Selector(f'role=button[name="{key}"]', window)) for key in keys]
        said = said or _done(desk, *clicks, away=display)
        held = _held(desk, display, str(one + other))
        took.append(time.monotonic() - began)
        if said or held != str(one + other):
            wrong.append(f"{one} + {other}: the calculator holds {held!r}; {said}")
        said = ""
    desk.session.launch(["true"])
    return wrong, took


def _held(desk: Desk, display: a.Selector, wanted: str) -> str:
    """What accessibility says that the calculator holds, once it is what is wanted, or no more is to be hoped for."""
    deadline = time.monotonic() + 5.0
    while (held := desk.finder.find(display).value.strip()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


def _logins(desk: Desk, count: int, chosen: random.Random) -> tuple[list[str], list[float], int]:
    accounts = {f"user{n}": f"{chosen.randbytes(4).hex()} Ä{n} {chosen.choice('<>&%$')}" for n in range(count)}
    wrong, took, steps = [], [], 0
    with LoginPage(accounts) as page:
        said = _done(desk, a.Launch("browser", (page.url,)))
        for name, password in accounts.items():
            began = time.monotonic()
            actions = _login(page.url, name, password)
            said = said or _done(desk, *actions)
            steps += len(actions)
            took.append(time.monotonic() - began)
            if page.signed_in[-1:] != [name] or said:
                wrong.append(f"{name}: {page.signed_in[-1:]} signed in, {page.refused[-1:]} refused; {said}")
            said = ""
        if page.signed_in != list(accounts):
            wrong.append(f"the page has {len(page.signed_in)} who signed in, and {page.refused} refused")
    return wrong, took, steps


def _login(url: str, name: str, password: str) -> list[a.DesktopAction]:
    return [
        a.Hotkey(("ctrl", "l")),
        a.Type(url + "\n"),
        a.Wait("window", "Sign in", _COMES_S),
        a.Wait("element", "#username", _COMES_S),
        a.Type(name, a.Selector("#username")),
        a.Type(password, a.Selector("#password")),
        a.Click(a.Selector('role=button[name="Sign in"]')),
        a.Wait("window", "Signed in", _COMES_S),
    ]


def _paced(desk: Desk, page: LoginPage, count: int) -> float | None:
    """Actions per second of logins."""
    if not count:
        return None
    actions: list[Any] = _login(page.url, "ada", "calm")
    _done(desk, *actions)
    began = time.monotonic()
    for _ in range(count):
        if said := _done(desk, *actions):
            raise AssertionError(said)
    return count * len(actions) / (time.monotonic() - began)


if __name__ == "__main__":
    raise SystemExit(main())
