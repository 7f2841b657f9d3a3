"""The guard at work in the simulated cell: unnoticed by a good operator, and there for every fault.

A few of what `benchmarks/sentinel_episodes.py` runs by the hundred.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import sentinel_episodes as bench


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(bench.RULES)
    return path


def test_a_good_operator_does_not_notice_it(tmp_path):
    shipped = tmp_path / "rules.yaml"
    shipped.write_text("sentinel: 1\n")
    got = bench.run_clean(6, shipped)
    assert got["outcomes"]["REFUSED"] == got["outcomes"]["STOPPED"] == 0, got["codes"]
    assert got["outcomes"]["ALLOWED"] > 500
    assert got["successes"] == 6
    assert got["violations"] == 0
    assert got["worst_difference_where_no_limit_is_near"] <= 1e-9
    assert got["proposals_near_a_limit"] < 0.1 * got["outcomes"]["ALLOWED"], "or nothing was compared"


KINDS = [make().name for make in bench.faults()]


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_every_fault_is_caught_and_ends_in_rest(kind, rules):
    got = bench.run_faults(1, rules, first=kind)
    assert list(got["rest_s_by_kind"]) == [KINDS[kind]]
    assert not got["missed"]
    assert not got["never_at_rest"]
    assert got["violations"] == 0
