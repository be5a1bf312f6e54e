import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import PrefixLM
from t5x_style.errors import UserError
from tests.data.objectives.make import check_counts, fields, ids_of, pieces

ENDED = ids_of(append_eos=frozenset({"targets"}))


def of(objective, length, inputs, targets, ids=ENDED):
    (piece,) = pieces(objective, length, ids=ids, inputs=[inputs], targets=[targets])
    return piece


def test_weights_and_sight():
    found = of(PrefixLM(), 5, [5, 6], [8])
    assert fields(found) == {"decoder_target_tokens": [5, 6, 8, 1], "decoder_loss_weights": [0, 0, 1, 1]}
    assert (found.raw, found.cut) == (3, 0)
    assert fields(of(PrefixLM(loss_on_inputs=True), 5, [5, 6], [8])) == {"decoder_target_tokens": [5, 6, 8, 1]}
    both = PrefixLM(bidirectional_prefix=True)
    assert fields(of(both, 5, [5, 6], [8]))["decoder_causal_attention"] == [1, 1, 1, 0]
    assert fields(of(both, 5, [], [8])) == {
        "decoder_target_tokens": [8, 1],
        "decoder_loss_weights": [1, 1],
        "decoder_causal_attention": [1, 0],
    }


@pytest.mark.parametrize(
    ("objective", "inputs", "targets", "expected", "trimmed"),
    [
        (PrefixLM(), [5, 6, 7], [8], [6, 7, 8, 1], 1),
        (PrefixLM(trim_inputs="right"), [5, 6, 7], [8], [5, 6, 8, 1], 1),
        (PrefixLM(), [5, 6], [7, 8, 9], [7, 8, 9, 1], 2),
        (PrefixLM(), [5, 6], [7, 8, 9, 10], [7, 8, 9, 10], 2),
        (PrefixLM(trim_inputs="right"), [5], [7, 8, 9], [7, 8, 9, 1], 1),
        (PrefixLM(), [5, 6], [8], [5, 6, 8, 1], 0),
    ],
)
def test_inputs_are_trimmed_first(objective, inputs, targets, expected, trimmed):
    found = of(objective, 4, inputs, targets)
    assert fields(found)["decoder_target_tokens"] == expected
    assert found.cut == trimmed
    kept_targets = min(4, len(targets) + 1)
    assert fields(found)["decoder_loss_weights"] == [0.0] * (len(expected) - kept_targets) + [1.0] * kept_targets


def test_prefix_trimmed_away_stays_causal():
    found = of(PrefixLM(bidirectional_prefix=True), 3, [5, 6], [7, 8, 9])
    assert fields(found)["decoder_causal_attention"] == [1, 0, 0]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(1, 12),
    st.integers(2, 20),
    st.sampled_from(["left", "right"]),
    st.sampled_from([(), ("targets",), ("inputs", "targets")]),
)
def test_counts_add_up(inputs, targets, length, trim, ended):
    objective = PrefixLM(trim_inputs=trim)
    ids = ids_of(append_eos=frozenset(ended))
    tokens = list(range(10, 10 + inputs)), list(range(40, 40 + targets))
    found = of(objective, length, *tokens, ids=ids)
    check_counts(objective, [found], inputs + targets, length)
    assert found.raw == sum(token != 1 for token in fields(found)["decoder_target_tokens"])
    if found.cut:
        assert objective.may_cut({"inputs": inputs, "targets": targets}, {"decoder": length})


@pytest.mark.parametrize(
    "options",
    [{"trim_inputs": "middle"}, {"loss_on_inputs": True, "bidirectional_prefix": True}, {"start_id": -1}],
)
def test_bad_options(options):
    with pytest.raises(UserError):
        PrefixLM(**options)
