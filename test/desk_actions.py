"""Actions of a desktop for tests: some of each kind, and any that is sound."""

from __future__ import annotations

from hypothesis import strategies as st

from optr.connectors.desktop import actions as a
from optr.connectors.desktop.codec import UNTIL

HERE = a.Point(0.25, 0.75, seen=(1280, 800))
THERE = a.Point(0.5, 0.5, frame="window:77")
LOGIN = a.Selector('role=button[name="Log in"]')
USER = a.Selector("#username", within=12)

EXAMPLES = (
    a.Move(HERE),
    a.Click(),
    a.Click(LOGIN, "right", 2, ("ctrl", "shift")),
    a.Press(HERE),
    a.Release(None, "middle"),
    a.Drag((HERE, THERE, USER), seconds=1.5),
    a.Scroll(HERE, dy=-3),
    a.Type("Grüße, 世界 🙂\n\tdone", into=USER),
    a.Key("enter", 3),
    a.KeyDown("shift"),
    a.KeyUp("shift"),
    a.Hotkey(("ctrl", "s")),
    a.Wait("text", "Saved", 2.0),
    a.Invoke(LOGIN, "click"),
    a.SetValue(USER, "alice"),
    a.Focus("Mousepad"),
    a.Launch("calculator", ("--help",)),
    a.Done("42"),
    a.Fail("no such button"),
    a.Ask("Which of the two?"),
)

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
shares = st.floats(0, 1)
points = st.builds(
    a.Point,
    shares,
    shares,
    st.sampled_from(["screen", "monitor:HDMI-1", "window:4194311"]),
    st.none() | st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
)
selectors = st.builds(a.Selector, texts, st.none() | st.integers(1, 2**32 - 1))
targets = points | selectors
buttons = st.sampled_from(a.BUTTONS)
modifiers = st.lists(st.sampled_from(a.MODIFIERS), unique=True).map(tuple)
keys = st.sampled_from(["a", "enter", "f4", "ctrl", "alt", "delete", "é", ";"])
seconds = st.floats(0, 60)

actions = st.one_of(
    st.builds(a.Move, targets),
    st.builds(a.Click, st.none() | targets, buttons, st.integers(1, 10), modifiers),
    st.builds(a.Press, st.none() | targets, buttons),
    st.builds(a.Release, st.none() | targets, buttons),
    st.builds(a.Drag, st.lists(targets, min_size=2, max_size=5).map(tuple), buttons, modifiers, seconds),
    st.builds(a.Scroll, st.none() | targets, st.integers(-9, 9), st.integers(1, 9)),
    st.builds(a.Type, texts, st.none() | targets),
    st.builds(a.Key, keys, st.integers(1, 100)),
    st.builds(a.KeyDown, keys),
    st.builds(a.KeyUp, keys),
    st.builds(a.Hotkey, st.lists(keys, min_size=1, max_size=8).map(tuple)),
    st.builds(a.Wait, st.sampled_from(UNTIL), texts, seconds, seconds),
    st.builds(a.Invoke, selectors, texts),
    st.builds(a.SetValue, selectors, texts),
    st.builds(a.Focus, texts),
    st.builds(a.Launch, texts, st.lists(texts, max_size=3).map(tuple)),
    st.builds(a.Done, texts),
    st.builds(a.Fail, texts),
    st.builds(a.Ask, texts, seconds),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can hold."""
