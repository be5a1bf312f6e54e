"""docker/beam_worker.Dockerfile holds what the lock and the packages say; nothing is built here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "beam_worker.Dockerfile"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]


def locked(package: str) -> str:
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return version


def copied(lines: list[str]) -> list[str]:
    """Sources of COPY lines that come from the checkout."""
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from=" not in line]
    return [source for sources in copies for source in sources]


def test_beam_is_that_of_the_lock_and_of_the_packages(lines):
    text = "\n".join(lines)
    version = locked("apache-beam")
    assert re.findall(r"apache/beam_python[\d.]+_sdk:(\S+)", text) == [version]
    assert re.findall(r"'apache-beam\[gcp\]==([^']+)'", text) == [version]
    assert f'"apache-beam[gcp]=={version}"' in (ROOT / "setup.py").read_text()


def test_python_is_one_of_ours_and_the_same_for_beams_parts(lines):
    text = "\n".join(lines)
    python = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.MULTILINE)
    assert python == re.findall(r"apache/beam_python([\d.]+)_sdk", text)
    (low, high) = re.findall(r'python_requires=">=3\.(\d+),<3\.(\d+)"', (ROOT / "setup.py").read_text())[0]
    assert int(low) <= int(python[0].removeprefix("3.")) < int(high)


def test_what_is_copied_is_there_and_is_all_that_a_wheel_is_made_of(lines):
    sources = copied(lines)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    packaged = re.findall(r'"(\w+)\.\*"', (ROOT / "setup.py").read_text())
    assert {"t5x_style", "tasks", "beam_pipelines"} <= set(packaged)
    assert {*packaged, "gin", "setup.py", "pyproject.toml", "README.md", "requirements.lock"} <= set(sources)


def test_packages_are_installed_by_hash_and_the_container_starts_beam(lines):
    assert any("--no-deps --require-hashes -r requirements.lock" in line for line in lines)
    assert lines[-1] == 'ENTRYPOINT ["/opt/apache/beam/boot"]'
    (beam,) = [line.split() for line in lines if line.startswith("COPY --from=")]
    assert beam[-2:] == ["/opt/apache/beam", "/opt/apache/beam"]


def test_the_page_names_the_file():
    page = (ROOT / "docs" / "web_dataflow.md").read_text()
    assert f"docker build --file {DOCKERFILE.relative_to(ROOT)} " in page
    assert "FROM python" not in page  # the file is the only copy
