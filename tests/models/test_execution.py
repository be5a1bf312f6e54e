"""Logits and gradients do not depend on how a model runs: scanned or unrolled, recomputed or kept, 1 or 8 devices."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.models import abstract
from t5x_style.models.specs import Execution
from tests.models import execution_checks as checks
from tests.models import stream_checks as streams

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Sums in another order; found: at most 6e-6 of logits and 1.5e-5 of gradients, relative to their largest entries.
LOGITS, GRADIENTS = 1e-4, 2e-4


def compare(name, ways):
    expected = checks.result(checks.CONFIGS[name])
    assert np.abs(expected[0]).max() > 0.5
    assert min(np.abs(leaf).max() for leaf in expected[1]) > 0 or name == "bert"  # its second token type is unused
    for execution in ways:
        found = checks.result(checks.CONFIGS[name], execution)
        logits, gradients = checks.differences(found, expected)
        assert logits < LOGITS, execution
        assert gradients < GRADIENTS, execution


@pytest.mark.slow
@pytest.mark.parametrize("name", checks.CONFIGS)
def test_scan_and_remat_change_nothing(name):
    compare(name, [*checks.WAYS[1:], checks.AT_ONCE])


def test_the_losses_of_scanned_experts_are_those_of_unrolled_ones():
    """A decoder of many kinds of layers, in each way, is in test_decoder.py."""
    compare("mixtral", [Execution(True, "full")])


def test_attention_at_once_has_the_bias_and_looks_at_the_encoder():
    """Its masks are in test_attention.py."""
    compare("t5", [checks.AT_ONCE])


def test_a_difference_would_show():
    config = checks.CONFIGS["mixtral"]
    expected = checks.result(config)
    layers = len(config.layers)

    def in_other_order(state):
        return jax.tree.map(lambda leaf: np.asarray(leaf)[::-1] if leaf.shape[0] == layers else leaf, state)

    other = checks.result(config, change=in_other_order)[0]
    assert np.abs(other - expected[0]).max() > 100 * LOGITS
    gradients = [leaf.copy() for leaf in expected[1]]
    gradients[3] *= 1.001
    assert checks.differences((expected[0], gradients), expected)[1] > GRADIENTS


@pytest.mark.slow
def test_8_devices_equal_1():
    script = pathlib.Path(__file__).with_name("execution_checks.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    findings = json.loads(done.stdout.splitlines()[-1])
    assert len(findings) == len(checks.CONFIGS) * len(checks.SPREAD) + 1
    for way, (logits, gradients) in findings.items():
        assert logits < LOGITS, way
        assert gradients < GRADIENTS, way


@pytest.mark.parametrize("name", [*checks.CONFIGS, *streams.CONFIGS])
def test_every_kind_of_model_says_how_it_runs(name):
    execution = Execution(scan=False, remat="dots", loss_chunk=7)
    model = abstract({**checks.CONFIGS, **streams.CONFIGS}[name], execution=execution)
    assert model.execution == execution


def test_two_streams_have_no_blockwise_attention():
    with pytest.raises(UserError, match="'blockwise', which XLNet's two streams have not; choose auto or xla"):
        abstract(streams.CONFIGS["xlnet"], execution=Execution(attention="blockwise"))
