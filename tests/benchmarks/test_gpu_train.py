"""benchmarks/gpu_train.py at its tiny size on CPU: what it imports, counts, prints and writes, and what it survives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gpu_train, gpu_train_measure

ROOT = Path(__file__).parents[2]
# In every process of the script what a GPU machine need not have is not found, as where it is not installed (a finder
# that raises would not do: etils asks find_spec for tensorflow); what was loaded is noted at the end.
SITE = """
import atexit, sys
from importlib.machinery import PathFinder
FORBIDDEN = {"grain", "gin", "tensorflow", "seqio", "tensorboardX", "array_record", "sentencepiece"}
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in FORBIDDEN else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
@atexit.register
def note():
    loaded = {name.partition(".")[0] for name in sys.modules}
    with open(NOTES, "a") as notes:
        notes.write(" ".join(["loaded", *sorted(FORBIDDEN & loaded), *sorted({"jax", "orbax"} & loaded)]) + "\\n")
"""
MEASURED = {"outcome": "measured", "flops_per_token": 2e9, "flops_per_token_palm": 3e9, "tokens_per_s": 1000.0,
            "tflops": 2.0, "tflops_palm": 3.0, "step_ms": 5.0, "steps_ms": [5.0, 4.0, 6.0], "peak_gib": 7.5,
            "program_gib": 7.25, "compile_s": 31.0, "loss": 6.5}  # fmt: skip
CEILINGS = {"outcome": "measured",
            "products": [{"shape": [8, 8, 8], "tflops": 3.0}, {"shape": [9, 9, 9], "tflops": 4.0}],
            "copies": [{"bytes": 2**20, "gb_per_s": 50.0}],
            "device": {"kind": "NVIDIA H100", "count": 1, "jax": "0.11.2", "limit_gib": 72.0},
            "model": {"name": "LLaMA 3.2 tiny", "parameters": 176448, "length": 64}}  # fmt: skip


def table_of(shown: str) -> list[dict[str, str]]:
    """The Markdown table in what a run printed, a dict a row."""
    lines = [line.strip("| ").split(" | ") for line in shown.splitlines() if line.startswith("| ")]
    assert tuple(lines[0]) == gpu_train.COLUMNS
    assert set(lines[1]) == {"---"}
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def assert_same(line: dict[str, str], row: dict) -> None:
    """A line of the table says what its row in the JSON says."""
    scan = "on" if row["scan"] else "off"
    given = [line[name] for name in ("rows", "remat", "scan", "loss chunk")]
    assert given == [str(row["rows"]), row["remat"], scan, str(row["loss_chunk"])]
    numbers = {"tokens/s": "tokens_per_s", "TFLOP/s": "tflops", "TFLOP/s (PaLM)": "tflops_palm", "step ms": "step_ms",
               "peak GiB": "peak_gib", "program GiB": "program_gib", "compile s": "compile_s"}  # fmt: skip
    for column, name in numbers.items():
        if row.get(name) is None:
            assert line[column] == "-"
        else:
            assert float(line[column].replace(",", "")) == pytest.approx(row[name], rel=0.01, abs=0.06)
    if "share" in row:
        assert float(line["of ceiling"].strip("%")) / 100 == pytest.approx(row["share"], abs=0.001)
    assert line["outcome"].startswith(row["outcome"])


def faked(steps: list[dict]) -> gpu_train.Measure:
    """Answers with these rows in turn instead of measuring."""
    rows = iter(steps)
    return lambda job, seconds: dict(CEILINGS) if job["job"] == "ceilings" else dict(next(rows))


@pytest.mark.slow
def test_the_script_runs_with_jax_alone(tmp_path):
    notes, output = tmp_path / "notes", tmp_path / "out" / "gpu.json"
    (tmp_path / "sitecustomize.py").write_text(f"NOTES = {str(notes)!r}\n{SITE}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "benchmarks.gpu_train", "--size", "tiny", "--remat", "none", "--steps", "3"]
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    # The processes of the ceilings and of the form, then the one that started them, which leaves the device alone
    assert notes.read_text().splitlines() == ["loaded jax orbax", "loaded jax orbax", "loaded"]

    report = json.loads(output.read_text())
    (row,), (line,) = report["rows"], table_of(done.stdout)
    assert_same(line, row)
    assert row["outcome"] == "measured"
    assert len(row["steps_ms"]) == 3
    assert row["step_ms"] == sorted(row["steps_ms"])[1]
    assert row["tokens_per_s"] == pytest.approx(2 * 64 / row["step_ms"] * 1e3)
    assert row["tflops"] == pytest.approx(row["tokens_per_s"] * row["flops_per_token"] / 1e12)
    assert row["tflops_palm"] == pytest.approx(row["tokens_per_s"] * row["flops_per_token_palm"] / 1e12)
    assert row["share"] == pytest.approx(row["tflops"] / report["ceilings"]["tflops"])
    assert 0 < row["program_gib"] < 1
    assert row["compile_s"] > 0
    assert row["loss"] == pytest.approx(np.log(1024), abs=0.5)  # a step of an untrained model over 1,024 ids
    ceilings = report["ceilings"]
    assert ceilings["tflops"] == ceilings["products"][0]["tflops"] > 0
    assert ceilings["gb_per_s"] == ceilings["copies"][0]["gb_per_s"] > 0
    ratio = re.fullmatch(
        r"ratio: ([0-9.]+)x \(.*; ours .* TFLOP/s; peer .* TFLOP/s; median of 3\)", done.stdout.splitlines()[-1]
    )
    assert float(ratio[1]) == pytest.approx(row["share"], abs=0.006)


def test_rows_are_full_and_packed():
    batch = gpu_train_measure.packed_batch(3, 64, 1024)
    assert all(array.shape == (1, 3, 64) for array in batch.values())
    tokens, targets, weights, segments, positions = (
        batch[f"decoder_{name}"][0]
        for name in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")
    )
    assert (weights == 1).all()
    assert targets.min() >= 4
    sizes = set()
    for row in range(3):
        ids, counts = np.unique(segments[row], return_counts=True)
        assert ids.tolist() == list(range(1, len(ids) + 1))  # no padding
        sizes |= set(counts.tolist())
        assert positions[row].tolist() == [place for count in counts for place in range(count)]
        first = positions[row] == 0
        assert (tokens[row][first] == 3).all()
        assert (tokens[row][1:] == targets[row][:-1])[~first[1:]].all()
    assert len(sizes) > 4
    fewer = gpu_train_measure.packed_batch(2, 64, 1024)
    assert all((fewer[name] == batch[name][:, :2]).all() for name in batch)


def test_operations_are_counted_by_the_keys_seen():
    batch = gpu_train_measure.packed_batch(2, 64, 1024)
    segments = batch["decoder_segment_ids"][0]
    same = segments[:, :, None] == segments[:, None, :]
    seen = (same & np.tril(np.ones((64, 64), bool))).sum() / segments.size  # keys a token
    flops = gpu_train_measure.token_flops(gpu_train_measure.SIZES["tiny"].model(), batch)
    # 2 layers of 4 query and 2 key heads of 16, an MLP of 3 x 64 x 224, a head over 1,024 ids
    matrices = 6 * (2 * (64 * 16 * (2 * 4 + 2 * 2) + 3 * 64 * 224) + 1024 * 64)
    assert flops["flops_per_token_palm"] == matrices + 2 * 12 * 4 * 16 * 64
    assert flops["flops_per_token"] == pytest.approx(matrices + 2 * 12 * 4 * 16 * seen)
    assert flops["keys_seen"] == pytest.approx(seen / 64)
    assert flops["documents"] == segments.max(axis=1).sum()


def test_out_of_memory_is_told_with_what_was_known():
    def work(row, tell, rows):
        row["program_gib"] = 95.0
        jnp.zeros((rows * 2**46,), jnp.float32).block_until_ready()

    told = []
    gpu_train_measure.measure(work, told.append, rows=2)
    assert told[-1]["outcome"] == "out of memory"
    assert told[-1]["program_gib"] == 95.0

    def broken(row, tell):
        raise ValueError("a mistake\nof two lines")

    with pytest.raises(ValueError, match="a mistake"):
        gpu_train_measure.measure(broken, told.append)
    assert told[-1] == {"outcome": "failed", "error": "ValueError: a mistake"}


def test_the_sweep_goes_on_after_a_form_that_does_not_fit(tmp_path, capsys):
    output = tmp_path / "gpu.json"
    full = {"outcome": "out of memory", "program_gib": 95.0, "compile_s": 20.0, "error": "RESOURCE_EXHAUSTED: ..."}
    failed = {"outcome": "failed", "error": "UserError: a | b"}
    better = {**MEASURED, "tflops": 2.5}
    arguments = gpu_train.parse(
        ["--size", "tiny", "--rows", "2", "4", "--remat", "full", "none", "--output", str(output)]
    )
    assert gpu_train.run(arguments, faked([MEASURED, full, failed, better])) == 0
    shown, report = capsys.readouterr().out, json.loads(output.read_text())
    assert [row["outcome"] for row in report["rows"]] == ["measured", "out of memory", "failed", "measured"]
    assert [(row["rows"], row["remat"]) for row in report["rows"]] == [
        (2, "full"), (2, "none"), (4, "full"), (4, "none")
    ]  # fmt: skip
    lines = table_of(shown)
    for line, row in zip(lines, report["rows"], strict=True):
        assert_same(line, row)
    assert lines[2]["outcome"] == "failed: UserError: a / b"
    assert (report["ceilings"]["tflops"], report["ceilings"]["gb_per_s"]) == (4.0, 50.0)
    assert report["rows"][3]["share"] == 2.5 / 4
    assert shown.splitlines()[-1].startswith("ratio: 0.62x (training step against the bf16 matmul ceiling, LLaMA 3.2 ")
    assert shown.splitlines()[-1].endswith("ours 2.5 TFLOP/s; peer 4 TFLOP/s; median of 3)")

    assert gpu_train.run(arguments, faked([full] * 4)) == 1
    assert "no ratio" in capsys.readouterr().out


def test_what_the_budget_does_not_reach_is_not_run():
    report = {"size": "tiny", "ceilings": {"tflops": 4.0}, "rows": []}
    asked = []

    def measure(job, seconds):
        asked.append((job["rows"], seconds))
        return dict(MEASURED)

    left = iter([100.0, 30.0, -1.0])
    forms = [gpu_train.Form(rows, "full", True, 64) for rows in (1, 2, 3)]
    counts = [len(report["rows"]) for _ in gpu_train.sweep(report, forms, measure, lambda: next(left), 40.0, {})]
    assert counts == [1, 2, 3]  # known after every form, for the JSON
    assert asked == [(1, 40.0), (2, 30.0)]
    assert report["rows"][2] == {**forms[2]._asdict(), "outcome": "not run"}


def test_a_process_that_takes_too_long_is_stopped():
    assert gpu_train.measure_apart({"job": "ceilings", "size": "tiny"}, 0.05) == {"outcome": "stopped after 0 s"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "0"], "--rows: '0' is no whole number above 0"),
        (["--remat", "some"], "invalid choice: 'some'"),
        (["--output", "."], "--output . is a folder"),
        (["--size", "1b"], "--size 1b needs a GPU"),
    ],
)
def test_a_bad_argument_is_one_line(arguments, message, monkeypatch, capsys):
    refusal = {"outcome": "failed", "error": "--size 1b needs a GPU, but"}
    monkeypatch.setattr(gpu_train, "measure_apart", None)
    monkeypatch.setattr(gpu_train, "main", lambda argv: gpu_train.run(gpu_train.parse(argv), lambda *_: refusal))
    assert gpu_train.run_main(gpu_train.main, arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_every_size_has_a_plan():
    assert gpu_train.PLANS.keys() == gpu_train_measure.SIZES.keys()
    assert all(len(set(plan)) == len(plan) for plan in gpu_train.PLANS.values())
