"""Extensions by name, and those of a repository that was changed after it was installed."""

from __future__ import annotations

import pytest

from optr.errors import UnknownNameError
from optr.plugins import load_plugin, outdated, plugin_names

NEW = """
setup(name="optr", entry_points={{"optr.operators": ["hold = optr.operators.hold:Hold", {more}]}})
"""


def test_every_extension_that_is_named_can_be_found():
    assert not outdated()
    assert "hold" in plugin_names("operator")
    with pytest.raises(UnknownNameError, match=r"no operator named 'held'; there are: hold, .*worker$"):
        load_plugin("operator", "held")


def test_what_is_not_installed_yet_is_told(tmp_path):
    assert not outdated(tmp_path)
    setup = tmp_path / "setup.py"
    setup.write_text(NEW.format(more=""))
    assert not outdated(tmp_path)
    setup.write_text(NEW.format(more='"dance = optr.operators.dance:Dance"'))
    assert outdated(tmp_path) == f"{tmp_path} has more, which are not installed: dance; run make setup there"
    setup.write_text("setup(")
    assert not outdated(tmp_path)


def test_the_hint_is_part_of_the_error():
    assert str(UnknownNameError("operator", "dance", ["hold"], "run make setup")) == (
        "no operator named 'dance'; there are: hold (run make setup)"
    )
