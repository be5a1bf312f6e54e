"""8 devices equal 1; the compiled loss gathers and reduces the head outside its loop and has no [B, L, V] array."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MESHES = ("fsdp", "data_fsdp_tensor", "context", "zero1")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("unrolled", "data_fsdp_tensor"), id="unrolled-data_fsdp_tensor"),
        pytest.param(("scan", *MESHES), id="scan", marks=pytest.mark.slow),
        pytest.param(("unrolled", *MESHES), id="unrolled", marks=pytest.mark.slow),
    ],
)
def findings(request):
    """(scan or unrolled, findings by mesh, those of whole losses, those of heads), see sharded_checks.py."""
    script = pathlib.Path(__file__).with_name("sharded_checks.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, *request.param], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    losses, heads = found.pop("losses"), found.pop("heads")
    return request.param[0], found, losses, heads


def test_values_and_gradients(findings):
    for name, found in findings[1].items():
        assert found["value"] < 1e-6, name
        assert found["gradient"] < 2e-3, name  # gradients are sums over 512 tokens, up to 30 in size


def test_head_is_gathered_and_reduced_outside_the_loop(findings):
    form, meshes, *_ = findings
    for name, found in meshes.items():
        assert found["outside"] > 0, name  # the reading of the HLO finds collectives at all
        if form == "unrolled":  # the only loops left are those of the losses
            assert found["inside"] < found["table"] / 8, (name, found)


def test_scores_of_all_tokens_never_exist(findings):
    for name, found in findings[1].items():
        assert found["scores"] == [], name


def test_whole_losses(findings):
    """Distillation, DPO and task heads: pairs, choices and spans that lie in rows split over devices."""
    assert findings[2]["terms"] < 1e-5
    assert findings[2]["gradient"] < 1e-5


def test_a_head_is_gathered_in_the_compute_dtype_and_its_gradient_scattered(findings):
    """Once each, also where both passes need the head."""
    gathered, scattered = ["bf16", "all-gather"], ["f32", "reduce-scatter"]
    table = [[*gathered, 128, 32], [*scattered, 16, 32]]
    moved = {case: found["moved"] for case, found in findings[3].items()}
    assert moved == {
        "plain summed": table,
        "plain by_token": table,
        "masked summed": sorted([*table, [*gathered, 32, 32], [*scattered, 4, 32]]),
        "odd summed": [["f32", "all-reduce", 61, 36]],  # nothing divides: whole everywhere
        "tensor summed": [["bf16", "all-gather", 64, 32], ["f32", "all-reduce", 64, 32]],
        "zero1 summed": [["f32", "all-reduce", 128, 32]],  # ZeRO-1 has whole parameters and gradients
        "joint summed": [[*gathered, 128, 32], [*scattered, 128, 4]],
    }


def test_heads_in_bfloat16(findings):
    """Float32 gradients that equal one device's to a rounding of bfloat16, 2**-8."""
    for case, found in findings[3].items():
        assert set(found["dtypes"]) == {"float32"}, case
        assert found["gradient"] < 2**-8, case
