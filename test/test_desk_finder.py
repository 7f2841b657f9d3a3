"""One element for a selector, or an error that tells what there is: on a real desktop with programs of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from desk_browser import open_page
from desk_rig import Desk, until
from optr.connectors.desktop.actions import Rect, Selector
from optr.connectors.desktop.finder import Finder
from optr.connectors.desktop.free_part import largest_free
from optr.connectors.desktop.image_match import find_image, load_template
from optr.connectors.desktop.ocr import Ocr
from optr.connectors.desktop.seen import Picture
from optr.connectors.desktop.selectors import AbsentError, AmbiguousError, SelectorError
from optr.connectors.desktop.tree import Tree
from optr.errors import DesktopError

PAGE = """<!doctype html><title>Shop</title><body style="font-family: sans-serif">
<form><label for=username>User name</label> <input id=username><button type=button id=go>Login</button></form>
<p>Login is needed to go on.</p><button class=many>One</button><button class=many>Two</button>
<script>go.onclick = () => document.title = 'Logged in'</script>"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    (folder / "login.html").write_text(PAGE, encoding="utf-8")
    with Desk(folder) as desk:
        desk.launch(["galculator"])
        desk.launch(["mousepad"])
        desk.launch(["xterm", "-fa", "DejaVu Sans Mono", "-fs", "14", "-geometry", "40x6", "-e", "cat"])
        for title, x, y, width, height in (
            ("galculator", 10, 30, 331, 343), ("mousepad", 350, 30, 470, 300), ("xterm", 790, 30, 0, 0),
        ):  # fmt: skip
            desk.place(desk.window(title).id, x, y, width, height)
        yield desk


@pytest.fixture(scope="module")
def tree(desk):
    with Tree(desk.bus, desk.windows) as tree:
        yield tree


@pytest.fixture(scope="module")
def browser(desk, tree):
    """It tells its tree, because accessibility was on when it started."""
    place = ["--force-renderer-accessibility", "--window-position=420,380", "--window-size=800,400"]
    browser, _ = open_page(desk, "login.html", place)
    with browser:
        until(lambda: len(tree.programs()) == 3)
        yield browser


@pytest.fixture(scope="module")
def finder(desk, tree, browser):
    return Finder(desk.windows, tree, lambda: (browser,), Ocr(), desk.grab)


def one(finder, selector):
    """The element, as soon as it is there."""

    def found():
        try:
            return finder.find(selector)
        except AbsentError:
            return None

    return until(found, what=repr(selector))


def test_finds_by_role_and_name_and_clicks_land(desk, finder):
    desk.lift(desk.window("galculator").id)
    for name in ("AC", "1", "5", "+", "2", "7", "="):
        one(finder, f'role=button[name="{name}"]')
        desk.click(*finder.resolve(f'role=button[name="{name}"]').centre)
    inside = desk.window("galculator").id
    until(lambda: finder.find(Selector("role=textbox", inside)).value == "42")
    assert finder.find('role=textbox[value="42"]').window == inside


def test_finds_in_pages_by_role_text_and_css(desk, finder, browser):
    window = next(w for w in desk.windows() if w.pid == browser.pid)
    desk.lift(window.id)
    found = [one(finder, s) for s in ("#go", 'role=button[name="Login"]', "text=Login")]
    assert [e.source for e in found] == ["devtools", "accessibility", "accessibility"]
    assert len({e.rect.centre for e in found}) == 1 and {e.window for e in found} == {window.id}
    desk.click(*finder.resolve("text=Login").centre)
    until(lambda: browser.evaluate("document.title") == "Logged in")
    told, drawn = one(finder, 'role=textbox[name="User name"]').rect.centre, finder.find("#username").rect.centre
    assert np.abs(np.subtract(told, drawn)).max() <= 1  # the page tells accessibility whole pixels


def test_several_are_an_error_that_lists_them(finder):
    with pytest.raises(AmbiguousError, match="means 2 elements: button 'One' at .*, button 'Two' at ") as err:
        finder.find(".many")
    assert [e.name for e in err.value.candidates] == ["One", "Two"]
    with pytest.raises(AmbiguousError, match="'role=textbox' means [3-9] elements"):
        finder.find("role=textbox")
    with pytest.raises(AmbiguousError, match="means .* menu 'File' at .*, menu 'File' at "):
        finder.find('role=menu[name="File"]')


def test_which_of_several_can_be_said(desk, finder):
    editor = desk.window("mousepad")
    assert finder.find(Selector('role=menu[name="File"]', editor.id)).window == editor.id
    both = {finder.find(f'role=menu[name="File"][nth={n}]').window for n in (1, 2)}
    assert both == {editor.id, desk.window("galculator").id}
    with pytest.raises(AbsentError, match="number 3 of 2"):
        finder.find('role=menu[name="File"][nth=3]')
    window = 'role=window[name*="mousepad" i]'
    assert finder.find(f'{window} >> role=menu[name="File"]').window == editor.id
    assert finder.find(f"{window} >> text=File").window == editor.id


def test_none_is_an_error_that_lists_what_there_is(finder):
    with pytest.raises(AbsentError, match=r"""nothing is 'role=button\[name="Sevn"\]'; there are: button""") as err:
        finder.find('role=button[name="Sevn"]')
    assert "7" in {e.name for e in err.value.candidates}
    with pytest.raises(AbsentError, match="'#none' cannot be reached: no such element is drawn"):
        finder.find("#none")
    with pytest.raises(AbsentError, match="no window 99 to look in; there are: .*Mousepad"):
        finder.find(Selector("role=button", 99))


def test_states_count(finder):
    assert finder.find('role=button[name="MR"][!enabled]').name == "MR"
    with pytest.raises(AbsentError):
        finder.find('role=button[name="MR"][enabled]')


def test_what_a_window_covers_is_an_error_and_a_part_of_it_is_found(desk, finder):
    calculator, terminal = desk.window("galculator"), desk.window("xterm")
    desk.lift(calculator.id)
    button = one(finder, 'role=button[name="7"]')
    old = terminal.outer
    try:
        desk.place(terminal.id, button.rect.x - 60, button.rect.y - 60)
        desk.lift(terminal.id)
        with pytest.raises(AbsentError, match="button '7' at .* is covered by '.*'"):
            finder.find('role=button[name="7"]')
        desk.place(terminal.id, button.rect.x + 20, button.rect.y - 60)
        part = finder.resolve('role=button[name="7"]')
        assert part == Rect(button.rect.x, button.rect.y, 20, button.rect.height)
        assert finder.find('role=button[name="7"]').rect == button.rect
    finally:
        desk.place(terminal.id, old.x, old.y)


def test_what_is_in_an_open_menu_can_be_clicked(desk, finder):
    editor = desk.window("mousepad")
    desk.lift(editor.id)
    desk.click(*finder.resolve(Selector('role=menu[name="Search"]', editor.id)).centre)
    entry = Selector('role=menuitem[name^="Go to"]', editor.id)
    until(lambda: one(finder, entry).window not in (0, editor.id), what="the menu, a window of its own")
    desk.click(*finder.resolve(entry).centre)
    dialog = desk.window("go to")
    assert one(finder, Selector("role=spinbutton[nth=1]", dialog.id)).window == dialog.id
    finder.invoke(Selector('role=button[name="Cancel"]', dialog.id))
    until(lambda: all(w.id != dialog.id for w in desk.windows()))


def test_of_a_row_that_is_cut_off_only_what_is_seen_is_clicked(desk, finder, tree):
    rows = [f"row {number}" for number in range(100, 140)]
    child = desk.launch(["zenity", "--list", "--title=Rows", "--column=Name", *rows])
    window = desk.window("rows")
    desk.place(window.id, 60, 420, window.rect.width, 297)
    desk.lift(window.id)

    def cut_off():
        """The last row, if its middle is below the edge of the list."""
        table = tree.search("table", window=window).items[0].rect
        last = max(tree.search("cell", window=window).items, key=lambda cell: cell.rect.y)
        return last if tree.refresh(last).rect.centre[1] >= table.y + table.height else None

    last = until(cut_off, what="a row of which little is seen")
    part = finder.resolve(Selector(f'role=cell[name="{last.name}"]', window.id))
    assert part == last.rect and part.height < tree.refresh(last).rect.height / 2
    desk.click(*part.centre)
    until(lambda: "selected" in tree.refresh(last).states)
    desk.end(child.pid)


def test_reads_what_no_program_tells(desk, finder):
    terminal = desk.window("xterm")
    desk.lift(terminal.id)
    desk.click(*terminal.rect.centre)
    for sign in "hidden":
        desk.press(sign)
    desk.press("space")
    for sign in "treasure":
        desk.press(sign)
    desk.press("Return")
    found = until(lambda: "hidden treasure" in [e.name for e in finder.read(terminal.rect)], what="cat's echo")
    assert found
    with pytest.raises(AmbiguousError, match="means 2 elements: text 'hidden treasure'"):
        finder.find(Selector("text=hidden treasure", terminal.id))
    word = finder.find(Selector("text=treasure[nth=1]", terminal.id))
    assert word.source == "ocr" and word.confidence > 0.5 and terminal.rect.holds(*word.rect.centre)
    with pytest.raises(AbsentError, match="is 'text=treasure'"):
        finder.find(Selector("text=treasure", desk.window("galculator").id))
    ink = desk.grab(word.rect).pixels.astype(int)
    assert np.ptp(ink) > 100  # there are letters in that box


def test_what_another_window_shows_is_not_found_in_the_one_below(desk, finder):
    terminal, editor = desk.window("xterm"), desk.window("mousepad")
    old = terminal.outer
    try:
        desk.place(terminal.id, editor.outer.x, editor.outer.y + 40)
        desk.lift(terminal.id)
        until(lambda: "hidden treasure" in [e.name for e in finder.read(desk.window("xterm").rect)], what="its text")
        with pytest.raises(AbsentError, match="covered by 'cat'"):
            finder.find(Selector("text=treasure[nth=1]", editor.id))
    finally:
        desk.place(terminal.id, old.x, old.y)


def test_finds_by_looks_wherever_it_is(desk, finder, tmp_path):
    calculator = desk.window("galculator")
    desk.lift(calculator.id)
    button = one(finder, 'role=button[name="9"]')
    Image.fromarray(desk.grab(button.rect).pixels).save(tmp_path / "nine.png")
    own = Finder(desk.windows, grab=desk.grab, images=tmp_path)
    assert own.find("image=nine.png").rect == button.rect
    desk.place(calculator.id, 40, 90, 331, 343)
    try:
        moved = until(lambda: (r := one(finder, 'role=button[name="9"]').rect) != button.rect and r)
        until(lambda: own.find("image=nine.png").rect == moved)
    finally:
        desk.place(calculator.id, 10, 30, 331, 343)
    with pytest.raises(SelectorError, match=r"no picture named '../nine.png' .*there are: nine.png"):
        own.find("image=../nine.png")


def test_what_was_not_given_is_a_clear_error(desk):
    bare = Finder(desk.windows)
    with pytest.raises(AbsentError, match="no Chromium with DevTools is known here"):
        bare.find("#username")
    with pytest.raises(DesktopError, match="found by role here: there is no accessibility"):
        bare.find("role=button")
    with pytest.raises(DesktopError, match="there is no tesseract"):
        bare.read()


def test_invokes_and_sets_values(desk, finder):
    editor = desk.window("mousepad").id
    assert finder.set_value(Selector("role=textbox", editor), "written").value == "written"
    assert finder.invoke('role=button[name="AC"]') == "Click"
    with pytest.raises(DesktopError, match="comes from devtools; only accessibility can act"):
        finder.invoke("#go")


@given(
    st.lists(st.builds(Rect, *(st.integers(-3, 12) for _ in "xy"), *(st.integers(1, 8) for _ in "xy")), max_size=4),
)
def test_the_free_part_is_free_and_none_is_left_out(covers):
    rect = Rect(2, 1, 7, 6)
    free = largest_free(rect, covers)
    bare = np.ones((20, 20), bool)
    for cover in covers:
        bare[max(cover.y, 0) : max(cover.y + cover.height, 0), max(cover.x, 0) : max(cover.x + cover.width, 0)] = False
    inner = bare[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
    if free is None:
        assert not inner.any()
        return
    assert bare[free.y : free.y + free.height, free.x : free.x + free.width].all()
    rows, columns = np.indices(inner.shape)
    best = max(
        (y2 - y1 + 1) * (x2 - x1 + 1)
        for y1, x1 in zip(rows[inner], columns[inner], strict=True)
        for y2, x2 in zip(rows[inner], columns[inner], strict=True)
        if y2 >= y1 and x2 >= x1 and inner[y1 : y2 + 1, x1 : x2 + 1].all()
    )
    assert free.width * free.height == best


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(8, 14), st.integers(8, 14))
def test_correlation_is_what_its_formula_says(seed, height, width):
    """Against the sum itself, place by place."""
    from optr.connectors.desktop import image_match

    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (30, 41))
    template = rng.uniform(0, 255, (height, width))
    scores = image_match._correlation(image, template)
    assert scores.shape == (30 - height + 1, 41 - width + 1)
    for y, x in rng.integers(0, scores.shape, (5, 2)):
        part = image[y : y + height, x : x + width]
        assert scores[y, x] == pytest.approx(np.corrcoef(part.ravel(), template.ravel())[0, 1], abs=1e-9)


def picture(pixels):
    return Picture(np.ascontiguousarray(pixels, dtype=np.uint8), Rect(100, 50, pixels.shape[1], pixels.shape[0]), 1)


def test_flat_small_and_large_templates_are_refused(tmp_path):
    screen = picture(np.random.default_rng(1).integers(0, 255, (60, 80, 3)))
    with pytest.raises(DesktopError, match=r"is flat \(20x20 px"):
        find_image(screen, np.full((20, 20, 3), 77, np.uint8))
    with pytest.raises(DesktopError, match="fewer than 64 pixels"):
        find_image(screen, screen.pixels[:7, :9])
    with pytest.raises(DesktopError, match="larger than what is looked at, 80x60 px"):
        find_image(screen, np.tile(screen.pixels, (2, 1, 1)))
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(DesktopError, match="cannot be read"):
        load_template(tmp_path / "no.png")


def test_images_are_told_apart_by_colour_and_all_are_found():
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)
    template = rng.integers(0, 255, (16, 20, 3)).astype(np.uint8)
    template[..., 0] //= 4
    grey = (template @ np.array([0.299, 0.587, 0.114]))[..., None].repeat(3, axis=2).astype(np.uint8)
    for at, what in (((10, 20), template), ((70, 100), template), ((40, 60), grey)):
        pixels[at[0] : at[0] + 16, at[1] : at[1] + 20] = what
    found = find_image(picture(pixels), template)
    assert {(m.rect.x, m.rect.y) for m in found} == {(120, 60), (200, 120)}
    assert all(m.confidence > 0.999 for m in found)


def test_reads_again_only_what_changed(monkeypatch):
    ocr, blank = Ocr(), picture(np.full((40, 60, 3), 255))
    assert ocr.words(blank) == ()
    monkeypatch.setattr(ocr, "_program", "/does/not/exist")
    assert ocr.words(blank) == ()
    with pytest.raises(DesktopError, match="tesseract failed"):
        ocr.words(picture(np.full((40, 61, 3), 255)))


def test_no_tesseract_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DesktopError, match="tesseract is not installed"):
        Ocr()
