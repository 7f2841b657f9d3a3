"""The words in which people say what they mean on a screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optr.connectors.desktop.roles import KNOWN, ROLES, STATES, state_names
from optr.connectors.desktop.selectors import Has, SelectorError, Step, parse_selector


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ('role=button[name="Save"]', (Step("role", "button", (Has("name", "=", "Save"),)),)),
        ("role=button", (Step("role", "button"),)),
        (" role = Button [ name = Save ] ", (Step("role", "button", (Has("name", "=", "Save"),)),)),
        ("role=textbox[name*='user' i]", (Step("role", "textbox", (Has("name", "*=", "user", True),)),)),
        (r'role=link[name="a \"b\" >> c]"]', (Step("role", "link", (Has("name", "=", 'a "b" >> c]'),)),)),
        ("role=checkbox[checked][!enabled]", (Step("role", "checkbox", (Has("checked"), Has("enabled", "!"))),)),
        ("role=button[nth=2]", (Step("role", "button", nth=2),)),
        ("role=slider[value=3]", (Step("role", "slider", (Has("value", "=", "3"),)),)),
        ("text=Login", (Step("text", "Login"),)),
        ("text=Log   in  here", (Step("text", "Log in here"),)),
        ('text="Log in"', (Step("text", "Log in", exact=True),)),
        ("text=Don't save", (Step("text", "Don't save"),)),
        ("text=a = b", (Step("text", "a = b"),)),
        ("text=OK[nth=3]", (Step("text", "OK", nth=3),)),
        ("image=save.png", (Step("image", "save.png"),)),
        ("image='my save.png'[confidence=0.9][nth=2]", (Step("image", "my save.png", nth=2, confidence=0.9),)),
        ("#username", (Step("css", "#username"),)),
        ('input[name="q"]', (Step("css", 'input[name="q"]'),)),
        ("css=form > button", (Step("css", "form > button"),)),
        ("a[href='x>>y']", (Step("css", "a[href='x>>y']"),)),
        ("iframe >> #name", (Step("css", "iframe"), Step("css", "#name"))),
        ("role=dialog >> text=OK", (Step("role", "dialog"), Step("text", "OK"))),
    ],
)
def test_reads(text, steps):
    assert parse_selector(text) == steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty selector"),
        ("   ", "an empty selector"),
        (None, "an empty selector"),
        ("xpath=//a", "no kind of selector named 'xpath'.*role, text, image, css"),
        ("role=", "says nothing after the ="),
        ("role=buton", "no role named 'buton'.*button, "),
        ("role=button[", r"is not like \[name="),
        ('role=button[name="Save]', "not closed"),
        ("role=button[name=Save] x", "is not like"),
        ("role=button[colour=red]", "nothing named 'colour'.*name, value, nth"),
        ("role=button[green]", "nothing named 'green'.*checked"),
        ("role=button[!name=x]", "a ! stands before states only"),
        ("role=button[nth=0]", "a whole number from 1"),
        ("role=button[nth=x]", "a whole number from 1"),
        ('text=""', "looks for an empty text"),
        ("image=a.png[confidence=2]", "a number from 0 to 1"),
        ("image=a.png[name=b]", "nothing named 'name'"),
        ("image=''", "names no picture"),
        ("role=dialog >> ", "an empty part"),
        (">> #a", "an empty part"),
        ("role=dialog >> #a", "mixes CSS with other kinds"),
        ("text=a\nb", "control characters"),
        ("#" + 1000 * "a", "at most 1000"),
    ],
)
def test_says_what_it_cannot_read(text, said):
    with pytest.raises(SelectorError, match=said):
        parse_selector(text)


@given(st.text(max_size=60) | st.from_regex(r"\A(role|text|image|css)=[\[\]\"'=>a-z ]{0,30}\Z"))
def test_answers_every_text(text):
    try:
        steps = parse_selector(text)
    except SelectorError:
        return
    assert steps and all(s.text for s in steps)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=40))
def test_any_name_can_be_asked_for(name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    (step,) = parse_selector(f'role=button[name="{quoted}"]')
    assert step.has == (Has("name", "=", " ".join(name.split())),)


def test_numbers_of_accessibility_have_words():
    assert (len(ROLES), len(STATES)) == (130, 44)
    assert ROLES[43] == "button" and ROLES[35] == "menuitem" and ROLES[79] == "textbox" and ROLES[88] == "link"
    assert set(ROLES) <= KNOWN
    shown_and_sensitive = 1 << 25 | 1 << 30 | 1 << 24 | 1 << 12
    assert state_names(shown_and_sensitive) == ("enabled", "focused", "visible")
