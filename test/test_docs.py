"""What the documents say is run as it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graph import Watcher, fresh_domain

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package of docs/add-an-operator.md, installed beside optr; answers the folder of its source."""
    text = (ROOT / "docs" / "add-an-operator.md").read_text(encoding="utf-8")
    blocks = re.findall(r"`(\w+\.py)`.*?```python\n(.*?)```", text, flags=re.DOTALL)
    assert [name for name, _ in blocks] == ["wave.py", "setup.py", "test_wave.py"]
    folder = tmp_path_factory.mktemp("wave")
    for name, block in blocks:
        (folder / name).write_text(block, encoding="utf-8")
    target = folder / "site"
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--target", str(target), str(folder)]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def environment(package):
    return {**os.environ, "PYTHONPATH": str(package / "site")}


def test_the_operator_takes_ten_lines(package):
    lines = [x for x in (package / "wave.py").read_text().splitlines() if x.strip() and not x.strip().startswith('"""')]
    assert len(lines) <= 10


def test_it_is_found_without_an_edit(environment):
    command = [sys.executable, "-m", "optr.cli", "operators", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = {o["name"]: o for o in json.loads(done.stdout)["operators"]}
    assert found["wave"]["about"].startswith("Waves: the first joint swings")


def test_it_passes_the_contract(package, environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package / "test_wave.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 8


def test_it_moves_the_arm_in_the_real_graph(environment, tmp_path):
    domain = fresh_domain()
    command = [sys.executable, "-m", "optr.cli", "up", "sim", "operator:=wave", "task:=", "cameras:=false"]
    with (tmp_path / "log").open("wb") as log:
        stack = subprocess.Popen(
            [*command, f"bags:={tmp_path / 'bags'}"],
            env={**environment, "ROS_DOMAIN_ID": str(domain)},
            stdout=log,
            stderr=log,
        )
    watch = Watcher()
    try:

        def swing() -> float:
            pan = [m.position[0] for _, m in watch.joints]
            return max(pan) - min(pan) if pan else 0.0

        watch.until(lambda: swing() > 0.5, 30, "the first joint swings by 0.6 rad")
        watch.until(lambda: any(v.outcome == 0 for v in watch.verdicts), 10, "proposals are sent as they are")
    finally:
        watch.close()
        stack.send_signal(signal.SIGINT)
        assert stack.wait(timeout=20) == 0, (tmp_path / "log").read_text()


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_rule_of_the_sentinel_document_works(tmp_path):
    text = (ROOT / "docs" / "sentinel.md").read_text(encoding="utf-8")
    rule, _, kit = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "test_gentle.py").write_text(rule + kit, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_gentle.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 8


def test_the_configurations_of_the_sentinel_document_are_read(tmp_path):
    from optr.sentinel import Guard, load_config
    from optr.sentinel.desk_config import load_desk
    from optr.spec import load_spec

    text = (ROOT / "docs" / "sentinel.md").read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL) if "gentle" not in b]
    assert len(blocks) == 3
    spec, path = load_spec("so101_tabletop"), tmp_path / "rules.yaml"
    for block in blocks:
        path.write_text(block)
        if block.startswith("desk:"):
            (duty,) = load_desk(path).tasks.values()
            assert duty.before and duty.after and duty.recover and duty.retries == 2
        else:
            Guard(spec, load_config(spec, path))


def test_the_sentinel_document_names_every_code_and_rule():
    from optr.plugins import plugin_names
    from optr.sentinel import Code

    text = (ROOT / "docs" / "sentinel.md").read_text(encoding="utf-8")
    assert [c.value for c in Code if c.value not in text] == []
    assert [n for n in plugin_names("rule") if f"`{n}`" not in text] == []
