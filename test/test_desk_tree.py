"""What programs tell of themselves, on a real desktop: a calculator, an editor, a dialog."""

from __future__ import annotations

import os
import signal

import pytest

from desk_rig import Desk, until
from optr.connectors.desktop.accessibility_bus import Bus, Call, NoCache, Reference, read_cache
from optr.connectors.desktop.roles import role_name
from optr.connectors.desktop.tree import Limits, Tree
from optr.errors import DesktopError


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with Desk(tmp_path_factory.mktemp("desk")) as desk:
        desk.launch(["galculator"])
        desk.launch(["mousepad"])
        desk.launch(["zenity", "--entry", "--title=Question", "--text=Your name:", "--entry-text=Ada"])
        for title in ("galculator", "mousepad", "question"):
            desk.window(title)
        yield desk


@pytest.fixture(scope="module")
def tree(desk):
    with Tree(desk.bus, desk.windows) as tree:
        until(lambda: len(tree.programs()) == 3)
        until(lambda: tree.search("button", lambda _, name: name == "OK").items)
        yield tree


def only(tree, role, name=None, window=None):
    """The element of that role and name, as soon as there is one."""

    def found():
        items = tree.search(role, lambda _, its: name is None or its == name, window).items
        return items[0] if len(items) == 1 else None

    return until(found, what=f"one {role} {name!r}")


def test_tells_every_button_of_a_calculator(desk, tree):
    window = desk.window("galculator")
    buttons = tree.search("button", window=window)
    assert buttons.truncated == ""
    assert {b.name for b in buttons.items} >= {*"0123456789", "+", "-", "*", "/", "="}
    for button in buttons.items:
        assert window.rect.holds(*button.rect.centre) and button.window == window.id
        assert {"visible"} <= set(button.states) and button.actions == ("Click",)


def test_knows_the_window_of_each_element(desk, tree):
    entry = only(tree, "textbox", window=desk.window("question"))
    assert (entry.window, entry.value) == (desk.window("question").id, "Ada")
    texts = [e.window for e in tree.search("textbox").items]
    assert sorted(texts) == sorted(desk.window(t).id for t in ("galculator", "mousepad", "question"))


def test_places_are_those_where_clicks_land(desk, tree):
    window = desk.window("galculator")
    desk.lift(window.id)
    only(tree, "button", "AC", window)
    for name in ("AC", "4", "2", "+", "1", "="):
        desk.click(*only(tree, "button", name, window).rect.centre)
    until(lambda: only(tree, "textbox", window=window).value == "43")


def test_places_follow_a_window_that_is_moved(desk, tree):
    before = only(tree, "button", "OK").rect
    window = desk.window("question")
    desk.place(window.id, 31, 47, window.rect.width, window.rect.height)
    after = until(lambda: (r := only(tree, "button", "OK").rect) != before and r)
    moved = desk.window("question").rect
    assert (after.x - before.x, after.y - before.y) == (moved.x - window.rect.x, moved.y - window.rect.y)


def test_a_label_beside_an_element_is_its_name(desk, tree):
    entry = only(tree, "textbox", window=desk.window("question"))
    assert entry.name == "Your name"
    assert only(tree, "textbox", "Your name") == entry


def test_reads_in_the_order_of_the_tree_with_all_that_is_shown(desk, tree):
    seen = tree.read(desk.window("mousepad"))
    assert seen.stamp_ns > 0 and seen.truncated == ""
    names = [e.name for e in seen.items if e.role == "menu"]
    assert names == ["File", "Edit", "Search", "View", "Document", "Help"]
    assert seen.items[0].role == "window"


def test_invokes_what_an_element_offers(desk, tree):
    window = desk.window("galculator")
    for name in ("AC", "7"):
        assert tree.invoke(only(tree, "button", name, window)) == "Click"
    until(lambda: only(tree, "textbox", window=window).value == "7")


def test_refuses_to_invoke_what_is_not_offered_or_is_insensitive(desk, tree):
    with pytest.raises(DesktopError, match="button '7'.*has no action 'fly'; it offers: Click"):
        tree.invoke(only(tree, "button", "7"), "fly")
    with pytest.raises(DesktopError, match="button 'MR'.*is insensitive"):
        tree.invoke(only(tree, "button", "MR"))
    label = next(e for e in tree.read(desk.window("mousepad")).items if e.role == "label")
    with pytest.raises(DesktopError, match="it offers: nothing"):
        tree.invoke(label)


def test_sets_a_text_and_reads_it_back(desk, tree):
    entry = only(tree, "textbox", window=desk.window("mousepad"))
    assert tree.set_value(entry, "naïve 漢字 😀\nsecond line").value == "naïve 漢字 😀\nsecond line"
    assert tree.refresh(entry).value == "naïve 漢字 😀\nsecond line"


def test_refuses_to_set_what_takes_nothing(tree):
    with pytest.raises(DesktopError, match="button 'OK'.*takes no value"):
        tree.set_value(only(tree, "button", "OK"), "1")


def test_gives_the_keyboard_to_an_element(desk, tree):
    desk.lift(desk.window("question").id)
    button = only(tree, "button", "Cancel")
    tree.focus(button)
    until(lambda: "focused" in tree.refresh(button).states)


def test_an_element_that_is_gone_is_an_error(desk, tree):
    desk.launch(["zenity", "--info", "--title=Brief", "--text=soon gone"])
    window = desk.window("brief")
    button = only(tree, "button", "OK", window)
    tree.invoke(button)
    until(lambda: all(w.id != window.id for w in desk.windows()))
    with pytest.raises(DesktopError, match="is gone"):
        tree.invoke(button)


def test_finds_cells_that_a_program_makes_only_when_asked(desk, tree):
    child = desk.launch(["zenity", "--list", "--title=Pick", "--column=Name", "--column=Age", "Ada", "36", "Bob", "41"])
    window = desk.window("pick")
    cell = only(tree, "cell", "Bob", window)
    assert window.rect.holds(*cell.rect.centre) and cell.window == window.id
    assert [e.name for e in tree.search("columnheader", window=window).items] == ["Name", "Age"]
    desk.end(child.pid)


def test_what_is_beyond_the_limits_is_said(desk, tree):
    with Tree(desk.bus, desk.windows, Limits(elements=20)) as small:
        seen = small.read(desk.window("mousepad"))
        assert len(seen.items) <= 20 and "has more than 20 elements" in seen.truncated


def test_walks_where_there_is_no_cache_and_finds_the_same(desk, tree, monkeypatch):
    def no_cache(self, patience):
        return {name: NoCache("it has none") for name in patience}

    window = desk.window("galculator")
    wanted = {(e.role, e.name, e.rect) for e in tree.search("button", window=window).items}
    monkeypatch.setattr(Bus, "cache_items", no_cache)
    assert {(e.role, e.name, e.rect) for e in tree.search("button", window=window).items} == wanted
    with Tree(desk.bus, desk.windows, Limits(depth=2)) as shallow:
        assert "more than 2 levels of elements" in shallow.read(window).truncated


def test_a_program_that_hangs_is_left_out_and_named(desk, tree):
    window = desk.window("galculator")
    os.kill(window.pid, signal.SIGSTOP)
    try:
        with Tree(desk.bus, desk.windows, Limits(seconds=0.5)) as patient:
            seen = patient.search("button")
            assert seen.truncated == f"process {window.pid} does not answer"
            assert "OK" in {e.name for e in seen.items}  # the others are not held up
    finally:
        os.kill(window.pid, signal.SIGCONT)
    until(lambda: not tree.search("button", window=window).truncated)


def test_roles_are_those_that_programs_name(desk, tree):
    """The bus tells a role by number and by name: the words here have to mean the same."""
    same = {"push button": "button", "toggle button": "button", "frame": "window", "menu bar": "menubar"}
    same |= {"menu": "menu", "text": "textbox", "label": "label", "filler": "generic", "dialog": "dialog"}
    seen = set()
    for element in tree.read().items:
        reference = Reference(*element.reference.split("/", 1))._replace(path="/" + element.reference.split("/", 1)[1])
        name = tree._bus.call(Call(reference, "org.a11y.atspi.Accessible", "GetRoleName"))[0]
        if name in same:
            seen.add(name)
            assert element.role == same[name]
    assert {"push button", "frame", "menu", "text"} <= seen


def test_reads_both_forms_of_a_cache():
    from jeepney import DBusAddress, new_method_return
    from jeepney.low_level import Header, Message

    node, parent = (":1.7", "/a/bc"), (":1.7", "/root")
    faces = ["org.a11y.atspi.Accessible", "org.a11y.atspi.Action"]
    forms = {
        "a((so)(so)(so)iiassusau)": (node, parent, parent, -1, 3, faces, "Sävê", 43, "about", [1 << 25, 1]),
        "a((so)(so)(so)a(so)assusau)": (node, parent, parent, [parent] * 3, faces, "Sävê", 43, "", [1 << 25, 1]),
    }
    for signature, item in forms.items():
        call = Message.from_buffer(_call(DBusAddress).serialise(serial=1))
        raw = new_method_return(call, signature, ([item, item],)).serialise(serial=2)
        start = Header.from_buffer(raw)[1]
        first, second = read_cache(raw, start + -start % 8, old="a(so)a" in signature)
        assert first == second and first.reference == node and first.parent == parent
        assert (first.children, first.name, role_name(first.role)) == (3, "Sävê", "button")
        assert first.interfaces == {"Accessible", "Action"} and first.states == 1 << 25 | 1 << 32


def _call(address):
    from jeepney import new_method_call

    return new_method_call(address("/x", "a.b", "a.b"), "Get")


def test_no_bus_is_a_clear_error(tmp_path):
    with pytest.raises(DesktopError, match="no message bus answers at"):
        Tree(f"unix:path={tmp_path}/none")
