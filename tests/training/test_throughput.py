"""What a run reports of its speed, by the sides of its batches."""

import types

import pytest

from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives import CausalLM
from t5x_style.models import flops_by_side, flops_per_token
from t5x_style.models.presets import llama, t5
from t5x_style.training import throughput


def speed(monkeypatch, config, lengths, frozen=()):
    """A Speed on devices of 1e9 FLOP/s together, 2 seconds after the last report."""
    now = [100.0]
    monkeypatch.setattr(throughput, "peak_flops", lambda: 1e9)
    monkeypatch.setattr(throughput.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(DataConfig, "lengths", lengths)
    shapes = {"a": 0, "b": 0}
    policy = types.SimpleNamespace(config=config, shapes=shapes, trained=frozenset(shapes) - set(frozen))
    found = throughput.Speed(policy, DataConfig("none", "none", CausalLM(), batch_size=8, length=16))
    found.restart(3)
    now[0] += 2.0
    return found


def test_an_encoder_decoder_is_credited_with_both_sides(monkeypatch):
    config, lengths = t5.t5("tiny"), {"encoder": 32, "decoder": 16}
    found = speed(monkeypatch, config, lengths)
    found.count({"encoder": 60, "decoder": 20})
    found.count({"encoder": 40, "decoder": 20})
    values = found.values(5)
    flops = flops_by_side(config, lengths)
    assert values["tokens_per_second"] == 70
    assert values["seconds_per_step"] == 1
    assert values["mfu"] == pytest.approx((50 * flops["encoder"] + 20 * flops["decoder"]) / 1e9)


def test_both_sides_of_equal_length_take_what_a_pair_of_tokens_takes():
    config = t5.t5("tiny")
    assert sum(flops_by_side(config, {"encoder": 16, "decoder": 16}).values()) == flops_per_token(config, 16)
    other = flops_by_side(config, {"encoder": 32, "decoder": 16})
    layers, heads, dim = len(config.decoder.layers), 4, 16
    assert other["decoder"] - flops_by_side(config, {"encoder": 16, "decoder": 16})["decoder"] == (
        layers * 12 * heads * dim * 16  # cross-attention looks at twice as many keys
    )


def test_time_of_evaluation_is_no_training_time_and_a_frozen_part_has_no_utilisation(monkeypatch):
    found = speed(monkeypatch, llama.llama1("tiny"), {"decoder": 16}, frozen={"a"})
    found.count({"decoder": 30})
    found.exclude(1.0)
    values = found.values(4)
    assert values["tokens_per_second"] == 30
    assert "mfu" not in values
