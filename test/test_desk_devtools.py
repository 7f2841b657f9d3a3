"""CSS selectors in a real Chromium: they mean the pixels that are drawn, at any scroll, zoom and place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from desk_browser import open_page, profile_of
from desk_rig import Desk, until
from optr.connectors.desktop.actions import Rect
from optr.connectors.desktop.devtools import DevTools
from optr.errors import DesktopError

MAGENTA, GREEN, BLUE = (255, 0, 255), (0, 255, 1), (1, 0, 255)

PAGE = """<!doctype html><title>Marks</title>
<style>
  body { margin: 0; background: white; height: 6000px; width: 3000px }
  .mark { position: absolute; width: 61px; height: 37px }
  #near { left: 101px; top: 53px; background: #ff00ff }
  #far { left: 1777px; top: 4444px; background: #00ff01 }
  #box { position: absolute; left: 30px; top: 200px; width: 200px; height: 90px; overflow: auto }
  #deep { position: relative; margin: 700px 20px 20px; width: 61px; height: 37px; background: #0100ff }
</style>
<div id=near class=mark></div><div id=far class=mark></div><div id=box><div id=deep></div></div>"""

FORM = """<!doctype html><title>Form</title><body style="margin: 8px">
<label for=username>User name</label> <input id=username name=user value=ada>
<input id=secret type=password value=hunter2> <input id=agree type=checkbox checked>
<label for=agree>Agree</label> <button class=go>Save</button> <button class=go disabled>Send</button>
<button class=go style="display:none">Hid</button>
<p style="width: 130px">Some words before <a href="#x" id=link>a link on two lines</a></p>
<button id=under style="position: absolute; left: 400px; top: 200px; width: 80px; height: 30px">Under</button>
<button id=half style="position: absolute; left: 560px; top: 200px; width: 200px; height: 30px">Half</button>
<div id=cover role=dialog aria-label="Cookies"
  style="position: absolute; left: 380px; top: 190px; width: 300px; height: 90px"></div>
<iframe id=inner style="position: absolute; left: 20px; top: 300px; border: 7px solid; padding: 5px"
  srcdoc="<body style='margin: 0; height: 900px'><div id=mark
  style='position: absolute; left: 13px; top: 600px; width: 61px; height: 37px; background: #0100ff'></div>"></iframe>
<iframe id=foreign src="marks.html" style="position: absolute; left: 400px; top: 300px; width: 40px"></iframe>
<div id=host></div>
<script>
  host.attachShadow({mode: 'open'}).innerHTML = '<button id=shadowed>In the shadow</button>';
  window.heard = [];
  for (const kind of ['mousemove', 'scroll', 'focus', 'click'])
    document.addEventListener(kind, event => heard.push([kind, event.isTrusted, event.target.id]), true);
</script>"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    (folder / "marks.html").write_text(PAGE, encoding="utf-8")
    (folder / "form.html").write_text(FORM, encoding="utf-8")
    with Desk(folder) as desk:
        yield desk


@pytest.fixture(scope="module")
def marks(desk):
    browser, window = open_page(desk, "marks.html")
    with browser:
        yield browser, window


@pytest.fixture(scope="module")
def form(desk):
    browser, window = open_page(desk, "form.html")
    with browser:
        yield browser, window


def the_one(browser, *selectors):
    found = browser.find(selectors)
    assert (found.count, found.trouble, len(found.elements)) == (1, "", 1), found
    return found.elements[0]


def drawn(desk, colour, rect=None):
    """Where a colour is on the screen, or in a part of it."""
    seen = desk.grab(rect)
    rows, columns = np.where((seen.pixels == colour).all(-1))
    if not len(rows):
        return None
    left, top = int(columns.min()), int(rows.min())
    size = int(columns.max()) - left + 1, int(rows.max()) - top + 1
    return Rect(seen.rect.x + left, seen.rect.y + top, *size)


def close(a, b):
    if a is None or b is None:
        return False
    return all(
        abs(m - n) <= 1
        for m, n in zip(
            (a.x, a.y, a.x + a.width, a.y + a.height), (b.x, b.y, b.x + b.width, b.y + b.height), strict=True
        )
    )


def assert_drawn(desk, browser, colour, *selectors):
    until(
        lambda: close(the_one(browser, *selectors).rect, drawn(desk, colour)),
        what=f"{selectors} within a pixel of where it is drawn",
    )


@pytest.mark.parametrize("place", [(0, 0, 800, 600), (313, 127, 723, 511), (480, 199, 801, 601)])
def test_pixels_are_those_that_are_drawn_wherever_the_window_is(desk, marks, place):
    browser, window = marks
    desk.lift(window.id)
    desk.place(window.id, *place)
    assert_drawn(desk, browser, MAGENTA, "#near")
    assert_drawn(desk, browser, GREEN, "#far")
    assert_drawn(desk, browser, BLUE, "#deep")


@pytest.mark.parametrize("presses", [-5, -1, 1, 2, 4])
def test_pixels_are_those_that_are_drawn_at_any_zoom(desk, marks, presses):
    browser, window = marks
    desk.lift(window.id)
    ratio = browser.evaluate("devicePixelRatio")
    desk.click(*the_one(browser, "body").rect.centre)
    for _ in range(abs(presses)):
        before = browser.evaluate("devicePixelRatio")
        desk.press("Control_L", "plus" if presses > 0 else "minus")
        until(lambda: browser.evaluate("devicePixelRatio") != before)  # noqa: B023
    try:
        assert_drawn(desk, browser, MAGENTA, "#near")
        assert_drawn(desk, browser, GREEN, "#far")
    finally:
        desk.press("Control_L", "0")
        until(lambda: browser.evaluate("devicePixelRatio") == ratio)


def test_pixels_are_those_that_are_drawn_on_a_screen_of_twice_the_scale(desk):
    (desk.folder / "twice.html").write_text(PAGE, encoding="utf-8")
    browser, window = open_page(desk, "twice.html", ["--force-device-scale-factor=2"])
    with browser:
        assert browser.evaluate("devicePixelRatio") == 2
        desk.lift(window.id)
        assert_drawn(desk, browser, MAGENTA, "#near")
        assert_drawn(desk, browser, GREEN, "#far")
    desk.end(window.pid)


def test_clicks_at_these_pixels_arrive_as_trusted_events(desk, form):
    browser, window = form
    desk.lift(window.id)
    for selector in ("username", "agree", "half", "link"):
        desk.click(*the_one(browser, f"#{selector}").rect.centre)
        until(lambda: ["click", True, selector] in browser.evaluate("heard"), what=f"a click on {selector}")  # noqa: B023
    assert browser.evaluate("document.activeElement.id") == "link"


def test_tells_role_name_value_and_states(desk, form):
    browser, window = form
    entry = the_one(browser, "#username")
    assert (entry.role, entry.name, entry.value, entry.source) == ("textbox", "User name", "ada", "devtools")
    assert {"enabled", "editable", "visible"} <= set(entry.states) and entry.window == window.id
    assert the_one(browser, "button[disabled]").states == ("visible",)
    assert "hunter2" not in repr(browser.find(["#secret"]))


def test_looking_does_not_touch_the_page(desk, form):
    browser, _ = form
    browser.evaluate("heard.length = 0")
    for selector in ("#username", ".go", "#under", "#none", "#shadowed"):
        browser.find([selector])
    assert [e for e in browser.evaluate("heard") if e[0] != "scroll"] == []


def test_a_page_cannot_bend_what_is_found(desk, form):
    browser, _ = form
    honest = the_one(browser, "#username")
    browser.evaluate("document.querySelectorAll = () => []; Element.prototype.getClientRects = () => []; 1")
    assert the_one(browser, "#username") == honest


def test_several_are_counted_and_told(desk, form):
    found = form[0].find([".go"])
    assert (found.count, [e.name for e in found.elements]) == (2, ["Save", "Send"])


def test_none_is_told_with_what_is_hidden_and_what_is_in_frames(desk, form):
    browser, _ = form
    found = browser.find(["button[style*='none']"])
    assert (found.count, found.elements) == (0, ())
    assert "1 that match" in found.hints[0] and "not drawn" in found.hints[0]
    hints = browser.find(["#mark"]).hints
    assert "the frame 'inner' holds 1: write `iframe >> #mark`" in hints
    assert "the frame 'foreign' is of another origin: selectors do not reach into it" in hints


def test_a_page_that_is_not_shown_has_no_elements_and_that_is_told(desk, form):
    with DevTools(profile_of(form[0]), tuple) as blind:
        found = blind.find(["#username"])
    assert (found.count, found.hints) == (0, ("no page is shown in this Chromium; it has 1",))
    other = replace(form[1], id=1, title="Other")
    assert form[0].find(["#username"], other).hints == (
        "no page is shown in the window 'Other' in this Chromium; it has 1",
    )


def test_reaches_into_frames_of_the_same_origin_and_scrolls_there(desk, form):
    browser, window = form
    desk.lift(window.id)
    assert_drawn(desk, browser, BLUE, "#inner", "#mark")
    hints = browser.find(["#foreign", "#near"]).hints
    assert hints == ("the frame 'foreign' is of another origin: selectors do not reach into it",)


def test_reaches_into_shadows(desk, form):
    assert the_one(form[0], "#shadowed").name == "In the shadow"


def test_what_the_page_itself_covers_is_not_reached(desk, form):
    browser, window = form
    covered = browser.find(["#under"])
    assert covered.count == 1 and 'dialog "Cookies" of the page lies over it' in covered.trouble
    half = the_one(browser, "#half")
    assert half.rect.width < 200
    desk.lift(window.id)
    desk.click(*half.rect.centre)
    until(lambda: ["click", True, "half"] in browser.evaluate("heard"))


def test_what_is_no_css_is_an_error(form):
    with pytest.raises(DesktopError, match=r"no CSS selector:.*'a\[\[' is not a valid selector"):
        form[0].find(["a[["])


def test_a_page_that_is_loaded_anew_is_found_again(desk, form):
    browser, _ = form
    browser.evaluate("location.reload(); 1")
    until(lambda: browser.find(["#username"]).count == 1)


def test_tells_two_windows_of_one_chromium_apart(desk):
    (desk.folder / "first.html").write_text(PAGE.replace("<title>Marks", "<title>First"), encoding="utf-8")
    browser, first = open_page(desk, "first.html")
    with browser:
        browser.open(f"file://{desk.folder}/marks.html")
        second = until(lambda: next((w for w in desk.windows() if w.pid == first.pid and w.id != first.id), None))
        desk.place(second.id, 500, 190, 700, 500)
        desk.place(first.id, 5, 5, 700, 500)
        until(lambda: browser.find(["#near"]).count == 2)
        for number in (first.id, second.id):
            desk.lift(number)
            window = desk.windows()[-1]

            def found(window=window):
                return close(browser.find(["#near"], window).elements[0].rect, drawn(desk, MAGENTA, window.rect))

            until(found, what="the mark of that window")
        assert len({e.rect for e in browser.find(["#near"]).elements}) == 2
    desk.end(first.pid)


def test_opens_a_window_where_it_is_told_a_tab_in_it_and_closes_them_all(desk):
    browser, first = open_page(desk, "marks.html")
    with browser:
        own = lambda: [w for w in desk.windows() if w.pid == first.pid and w.visible]  # noqa: E731
        browser.open(f"file://{desk.folder}/form.html", place=Rect(100, 60, 700, 500))
        second = until(lambda: next((w for w in own() if w.id != first.id), None))
        assert abs(second.rect.x - 100) <= 12
        assert abs(second.rect.y - 60) <= 12
        assert abs(second.rect.width - 700) <= 24
        browser.open(f"file://{desk.folder}/marks.html", window=False)
        until(lambda: len(browser._pages()) == 3)
        assert len(own()) == 2
        browser.close_pages()
        until(lambda: not own(), what="windows that close")
    desk.end(first.pid)


def test_a_page_with_an_open_dialog_is_named(desk):
    (desk.folder / "alert.html").write_text(PAGE, encoding="utf-8")
    browser, window = open_page(desk, "alert.html")
    with browser:
        browser.evaluate("setTimeout(() => alert('stop'), 0); 1")
        with pytest.raises(DesktopError, match="does not answer .* is a dialog of the page open"):
            until(lambda: browser.find(["#none"]) is None)
    desk.end(window.pid)


def test_no_chromium_is_a_clear_error(tmp_path):
    with pytest.raises(DesktopError, match="start it with --remote-debugging-port=0"):
        DevTools(tmp_path, tuple)
    with pytest.raises(DesktopError, match="no Chromium answers at port 9"):
        DevTools(9, tuple)
    with pytest.raises(DesktopError, match="no Chromium answers at ws://127.0.0.1:9/x"):
        DevTools("ws://127.0.0.1:9/x", tuple)


def test_a_chromium_that_ended_is_a_clear_error(desk):
    (desk.folder / "brief.html").write_text(PAGE, encoding="utf-8")
    browser, window = open_page(desk, "brief.html")
    with browser:
        desk.end(window.pid)
        with pytest.raises(DesktopError, match="Chromium is gone"):
            browser.find(["#near"])
