import numpy as np
import pytest

from t5x_style.data.objectives import CausalLM, FeatureLengths, PrefixLM
from t5x_style.errors import UserError


def ids(*values):
    return np.array(values, np.int32)


def no_rng():
    raise AssertionError("this objective is not random")


def pieces(objective, length, **features):
    result = objective.segments({name: ids(*values) for name, values in features.items()}, length, no_rng)
    segments = [{name: value.tolist() for name, value in segment.items()} for segment in result.segments]
    return segments, result.tokens_trimmed


def test_causal_lm_splits_and_drops_nothing():
    segments, trimmed = pieces(CausalLM(), 4, targets=[5, 6, 7, 8, 9, 1])
    assert segments == [{"decoder_target_tokens": [5, 6, 7, 8]}, {"decoder_target_tokens": [9, 1]}]
    assert trimmed == 0
    assert len(pieces(CausalLM(), 4, targets=[5, 6, 7, 8])[0]) == 1
    assert len(pieces(CausalLM(), 4, targets=[5, 6, 7, 8, 9])[0]) == 2


def test_prefix_lm_weights():
    segments, trimmed = pieces(PrefixLM(), 5, inputs=[5, 6], targets=[8, 1])
    assert segments == [{"decoder_target_tokens": [5, 6, 8, 1], "decoder_loss_weights": [0, 0, 1, 1]}]
    assert trimmed == 0
    segments, _ = pieces(PrefixLM(loss_on_inputs=True), 5, inputs=[5, 6], targets=[8, 1])
    assert segments == [{"decoder_target_tokens": [5, 6, 8, 1]}]
    segments, _ = pieces(PrefixLM(bidirectional_prefix=True), 5, inputs=[5, 6], targets=[8, 1])
    assert segments[0]["decoder_causal_attention"] == [1, 1, 1, 0]


def test_prefix_lm_without_inputs():
    segments, _ = pieces(PrefixLM(bidirectional_prefix=True), 5, inputs=[], targets=[8, 1])
    assert segments == [
        {"decoder_target_tokens": [8, 1], "decoder_loss_weights": [1, 1], "decoder_causal_attention": [1, 0]}
    ]


@pytest.mark.parametrize(
    ("objective", "inputs", "targets", "expected", "trimmed"),
    [
        (PrefixLM(), [5, 6, 7], [8, 1], [6, 7, 8, 1], 1),
        (PrefixLM(trim_inputs="right"), [5, 6, 7], [8, 1], [5, 6, 8, 1], 1),
        (PrefixLM(), [5, 6], [7, 8, 9, 1], [7, 8, 9, 1], 2),
        (PrefixLM(), [5, 6], [7, 8, 9, 10, 1], [7, 8, 9, 10], 3),
        (PrefixLM(trim_inputs="right"), [5], [7, 8, 9, 1], [7, 8, 9, 1], 1),
        (PrefixLM(), [5, 6], [8, 1], [5, 6, 8, 1], 0),
    ],
)
def test_prefix_lm_trims_inputs_first(objective, inputs, targets, expected, trimmed):
    segments, count = pieces(objective, 4, inputs=inputs, targets=targets)
    assert segments[0]["decoder_target_tokens"] == expected
    assert count == trimmed
    kept_targets = min(4, len(targets))
    assert segments[0]["decoder_loss_weights"] == [0.0] * (len(expected) - kept_targets) + [1.0] * kept_targets


def test_prefix_trimmed_away_stays_causal():
    segments, _ = pieces(PrefixLM(bidirectional_prefix=True), 3, inputs=[5, 6], targets=[7, 8, 9, 1])
    assert segments[0]["decoder_causal_attention"] == [1, 0, 0]


def test_mean_tokens():
    lengths = {"inputs": FeatureLengths(3.5, 7), "targets": FeatureLengths(1.25, 3)}
    assert CausalLM().mean_tokens(lengths, 2) == 1.25
    assert PrefixLM().mean_tokens(lengths, 10) == 4.75
    assert PrefixLM().mean_tokens(lengths, 9) is None
    assert PrefixLM().mean_tokens(lengths | {"inputs": FeatureLengths(3.5, None)}, 100) is None


@pytest.mark.parametrize(
    "options",
    [{"trim_inputs": "middle"}, {"loss_on_inputs": True, "bidirectional_prefix": True}, {"start_id": -1}],
)
def test_bad_options(options):
    with pytest.raises(UserError):
        PrefixLM(**options)
