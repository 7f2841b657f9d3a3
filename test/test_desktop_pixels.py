"""A click lands on the pixel that a place names: at any size of the screen, on each monitor, at any scale of a page."""

from __future__ import annotations

import random

import numpy as np
import pytest

from browser import find_browser
from desktop_pad import Pad, until
from optr.connectors.desktop.actions import Click, Point, Rect, Selector
from optr.connectors.desktop.bridge import DesktopBridge
from optr.connectors.desktop.demo import demo_desk
from optr.connectors.desktop.hand import Pace
from optr.connectors.desktop.session import DesktopSession
from optr.connectors.desktop.settle import Patience

_QUICK = {"pace": Pace(0.001, 0.001, 0.0), "patience": Patience(0.0, 0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("width", "height", "monitors"),
    [
        (800, 600, ()),
        (1024, 768, ()),
        (1280, 800, ()),
        (1366, 768, ()),
        (1920, 1080, ()),
        (2304, 800, (1280, 1024)),
    ],
)
def test_clicks_land_on_the_pixel(width, height, monitors):
    chosen = random.Random(width)
    with DesktopSession(width, height, monitors=monitors) as session:
        pad = Pad(session.display, (width, height))
        with DesktopBridge(session.display, **_QUICK) as bridge:
            frames = [(f"monitor:{m.name}", m.rect) for m in bridge.screen.monitors()] + [
                ("screen", bridge.screen.rect)
            ]
            assert len(frames) == max(1, len(monitors)) + 1
            wanted = []
            for frame, rect in frames:
                corners = [(0, 1), (rect.width - 1, rect.height - 2), (1, 0), (rect.width // 2, rect.height - 1)]
                places = [(chosen.randrange(1, rect.width), chosen.randrange(1, rect.height - 1)) for _ in range(20)]
                for x, y in [*corners, *places]:
                    result = bridge.execute(Click(Point((x + 0.5) / rect.width, (y + 0.5) / rect.height, frame)))
                    assert result.executed, result
                    wanted.append((rect.x + x, rect.y + y))
            noted = pad.wait(lambda noted: sum(n.kind == "release" for n in noted) == len(wanted))
        assert [n.at for n in noted if n.kind == "press"] == wanted
        pad.close()


PAGE = """<!doctype html><meta charset=utf-8><title>pixels</title>
<style>html, body { margin: 0; height: 100%; background: rgb(13, 57, 201); overflow: hidden }
i { position: absolute; width: 3px; height: 3px; background: #fff }</style>
<script>
const noted = [];
addEventListener("pointerdown", e => noted.push([e.clientX * devicePixelRatio, e.clientY * devicePixelRatio,
                                                 e.target.id, e.isTrusted]));
</script>
"""
MARKS = [(0, 0), (7.5, 31.25), (100.3, 80.7), (61, 119), (211.9, 13.1)]
MONITORS = (1000, 1400)


def page_rect(desk):
    """Where the page is drawn."""
    picture = desk.bridge.screen.grab()
    rows, columns = np.where((picture.pixels == (13, 57, 201)).all(-1))
    if not len(rows):
        return None
    left, top = int(columns.min()), int(rows.min())
    return Rect(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)


@pytest.mark.parametrize("scale", [1, 2])
def test_clicks_land_on_the_pixel_of_a_page(scale):
    chosen = random.Random(scale)
    with demo_desk(sum(MONITORS), 900, MONITORS) as desk:
        page = desk.session.home / "pixels.html"
        marks = "".join(f"<i id=m{n} style='left:{x}px;top:{y}px'></i>" for n, (x, y) in enumerate(MARKS))
        page.write_text(PAGE + marks, encoding="utf-8")
        place = f"--window-position={1050 // scale},{60 // scale}"
        options = [*desk.browsers.options(), f"--force-device-scale-factor={scale}", place, "--window-size=620,400"]
        desk.session.launch([find_browser(), *options, f"file://{page}"])
        until(lambda: desk.bridge.windows.matching("pixels") and desk.browsers())
        (browser,) = desk.browsers()
        until(lambda: browser.evaluate("document.readyState") == "complete" and page_rect(desk))
        assert browser.evaluate("devicePixelRatio") == scale
        window = desk.bridge.windows.find("pixels")
        assert window.rect.x >= MONITORS[0]  # it is on the second monitor
        until(lambda: desk.finder.find("#m0").rect.x == page_rect(desk).x)
        rect = page_rect(desk)
        pixels = [(chosen.randrange(40, rect.width), chosen.randrange(260, rect.height)) for _ in range(12)]
        for number, (x, y) in enumerate(pixels):
            pixel = (rect.x + x, rect.y + y)
            frame, whole = [
                ("screen", desk.bridge.screen.rect),
                (f"window:{window.id}", window.rect),
                ("monitor:M1", desk.bridge.screen.monitors()[1].rect),
            ][number % 3]
            there = Point((pixel[0] - whole.x + 0.5) / whole.width, (pixel[1] - whole.y + 0.5) / whole.height, frame)
            result = desk.execute(Click(there))
            assert result.executed and result.at == pixel, result
        for number in range(len(MARKS)):
            result = desk.execute(Click(Selector(f"#m{number}")))
            assert result.executed, result
        until(lambda: browser.evaluate("noted.length") == len(pixels) + len(MARKS))
        noted = browser.evaluate("noted")
        assert all(trusted for *_, trusted in noted)
        for (x, y), (noted_x, noted_y, *_) in zip(pixels, noted, strict=False):
            assert abs(noted_x - x) <= 1 and abs(noted_y - y) <= 1
        assert [target for _, _, target, _ in noted[len(pixels) :]] == [f"m{n}" for n in range(len(MARKS))]
