"""Files around the code agree with it: license, changelog, CI, hooks, pages and their links."""

import re
from pathlib import Path

import pytest
import yaml

import t5x_style

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + PAGES


def test_the_license_is_the_one_that_setup_names():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license="Apache-2.0"' in (ROOT / "setup.py").read_text()


def test_the_changelog_knows_the_version():
    assert t5x_style.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_run_the_ruff_of_the_lock():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (version,) = re.findall(r"^ruff==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert repository["repo"].endswith("/ruff-pre-commit")
    assert repository["rev"] == f"v{version}"
    assert [hook["id"] for hook in repository["hooks"]] == ["ruff-check", "ruff-format"]
    (of_docs,) = re.findall(r"^ruff==(\S+)", (ROOT / "requirements-docs.lock").read_text(), re.MULTILINE)
    assert of_docs == version


def test_ci_runs_the_script_on_every_python_of_ours():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (low, high) = re.findall(r'python_requires=">=3\.(\d+),<3\.(\d+)"', (ROOT / "setup.py").read_text())[0]
    test = jobs["test"]
    assert test["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]
    checkout, *_, last = test["steps"]
    assert checkout["with"]["fetch-depth"] == 0
    assert last["run"] == "PYTHON=python${{ matrix.python }} .ci/run"
    assert all("timeout-minutes" in job for job in jobs.values())


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """`make docs` checks anchors as well; this needs no site."""
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    own = [link.partition("#")[0] for link in links if not re.match(r"https?:|#", link)]
    assert [link for link in own if not (page.parent / link).exists()] == []


def test_pages_that_are_named_are_there():
    """`docs/NAME.md` in code, configurations, tests and pages."""
    folders = ("t5x_style", "tasks", "beam_pipelines", "gin", "benchmarks", "tests", "docs")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".gin", ".md")]
    named = {(path, name) for path in files for name in re.findall(r"\bdocs/([a-z_]+\.md)\b", path.read_text())}
    assert len(named) > 10
    gone = [f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / "docs" / name).exists()]
    assert gone == []


def test_every_page_is_in_the_sites_menu():
    text = re.sub(r"!!python/name:\S+", "x", (ROOT / "mkdocs.yml").read_text())
    menu = yaml.safe_load(text)["nav"]
    pages = {page for group in menu for pages in group.values() for page in pages}
    beside = {"index.md", "changelog.md", "contributing.md"}
    assert {path.name for path in PAGES} == pages - beside
