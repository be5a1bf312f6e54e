"""Encoders and encoder-decoders: who sees whom, packed segments, every way to run a stack, embeddings."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.models import specs as parts
from t5x_style.models.serialization import from_json, to_json
from tests.models.conftest import filled, jitted

NORM = parts.NormSpec("layernorm")


def layer(causal, cross=False, mlp=None, **changes):
    attention = parts.AttentionSpec(4, 2, 6, causal=causal, rope=None, **changes)
    crossing = parts.AttentionSpec(4, 4, 6, causal=False, rope=None) if cross else None
    return parts.LayerSpec(attention, mlp or parts.MlpSpec(20), NORM, cross_attention=crossing)


def encoder(**changes):
    settings = {
        "vocab_size": 50,
        "embed_dim": 24,
        "segments": (parts.LayerGroup((layer(False),), 3),),
        "vocab_multiple": 16,
        "embedding": parts.EmbeddingSpec(dim=8, types=2, positions=parts.PositionSpec(length=40), norm=NORM),
        "init": parts.InitSpec(0.3),
        **changes,
    }
    return parts.EncoderConfig(**settings)


def encoder_decoder(**changes):
    shared = {"vocab_size": 50, "embed_dim": 24, "vocab_multiple": 16, "init": parts.InitSpec(0.3), **changes}
    return parts.EncoderDecoderConfig(
        parts.EncoderConfig(
            segments=(parts.LayerGroup((layer(False),), 2),),
            relative_bias=parts.RelativeBiasSpec(8, 20, bidirectional=True),
            **shared,
        ),
        parts.TransformerConfig(
            segments=(parts.LayerGroup((layer(True, cross=True),), 3),),
            relative_bias=parts.RelativeBiasSpec(8, 20),
            **shared,
        ),
    )


def tokens(batch, length, seed=0):
    return np.random.default_rng(seed).integers(1, 50, (batch, length))


def with_other(row, place):
    """The row with another token at one place."""
    changed = row.copy()
    changed[0, place] = row[0, place] % 49 + 1
    return changed


def pair():
    """Decoder tokens, encoder tokens, and what says that each row holds two pairs."""
    segments = {
        "segment_ids": np.array([[1, 1, 1, 2, 2]]),
        "encoder_segment_ids": np.array([[1] * 4 + [2] * 3]),
        "positions": np.array([[0, 1, 2, 0, 1]]),
        "encoder_positions": np.array([[0, 1, 2, 3, 0, 1, 2]]),
    }
    return tokens(1, 5, 2), tokens(1, 7, 1), segments


@jitted
def states(model, *rows, **inputs):
    return model(*rows, **inputs)


@pytest.mark.parametrize("config", [encoder(), encoder_decoder()])
def test_model_json_gives_the_configuration_back(config):
    assert from_json(to_json(config)) == config


def test_packed_segments_do_not_see_each_other_in_an_encoder():
    model = filled(encoder())
    segments = np.array([[1] * 6 + [2] * 5 + [0] * 2])
    first = tokens(1, 13)
    hidden = states(model, first, segment_ids=segments)
    changed = states(model, with_other(first, 8), segment_ids=segments)
    np.testing.assert_array_equal(hidden[0, :6], changed[0, :6])
    assert float(np.abs(hidden[0, 6] - changed[0, 6]).max()) > 1e-5  # before the change, in its segment


def test_packed_pairs_do_not_see_each_other():
    model = filled(encoder_decoder())
    target, source, segments = pair()
    hidden = states(model, target, source, **segments)
    changed = states(model, target, with_other(source, 5), **segments)
    np.testing.assert_array_equal(hidden[0, :3], changed[0, :3])
    assert float(np.abs(hidden[0, 3:] - changed[0, 3:]).max()) > 1e-5


def test_a_packed_pair_equals_the_pair_alone():
    model = filled(encoder_decoder())
    target, source, segments = pair()
    hidden = states(model, target, source, **segments)
    np.testing.assert_allclose(hidden[:, 3:], states(model, target[:, 3:], source[:, 4:]), atol=1e-5)


@jitted
def states_and_losses(model, row):
    return model(row, return_losses=True)


MIXED = parts.MoeSpec(3, 2, parts.MlpSpec(10))
WAYS = [parts.Execution(scan, remat) for scan in (True, False) for remat in ("none", "dots", "full")]


def stack(mlp, **changes):
    return encoder(segments=(parts.LayerGroup((layer(False), layer(False, mlp=mlp)), 2),), **changes)


def check_ways(mlp, ways):
    expected, losses = states_and_losses(filled(stack(mlp), execution=parts.Execution(False, "none")), tokens(2, 9))
    for execution in ways:
        found, other = states_and_losses(filled(stack(mlp), execution=execution), tokens(2, 9))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert set(other) == set(losses)
        for name, value in losses.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-5)


@pytest.mark.parametrize("mlp", [None, MIXED])
def test_only_experts_have_losses(mlp):
    model = models.abstract(stack(mlp))
    _, losses = nnx.eval_shape(lambda model: model(jnp.zeros((2, 9), int), return_losses=True), model)
    assert set(losses) == (set() if mlp is None else {"moe_balance", "moe_z", "moe_dropped"})


@pytest.mark.parametrize("mlp", [pytest.param(None, marks=pytest.mark.slow), MIXED])
def test_scan_and_remat_change_nothing(mlp):
    check_ways(mlp, [parts.Execution(True, "full")])


@pytest.mark.slow
@pytest.mark.parametrize("mlp", [None, MIXED])
def test_every_way_to_run_changes_nothing(mlp):
    check_ways(mlp, WAYS)


def test_token_types_and_positions_matter_and_the_table_is_narrow():
    model = filled(encoder())
    assert model.embedding.table.shape == (64, 8)
    row, steps = tokens(1, 6), np.arange(6)[None]

    @jitted
    def read(model, row, types, positions):
        given = model(row, token_types=types, positions=positions)
        return given, model(row)

    given, plain = read(model, row, 0 * row, steps)
    np.testing.assert_array_equal(given, plain)
    assert float(np.abs(plain - read(model, row, 0 * row + 1, steps)[0]).max()) > 1e-4
    assert float(np.abs(plain - read(model, row, 0 * row, steps + 3)[0]).max()) > 1e-4
    assert np.isnan(read(model, row, 0 * row, steps + 38)[0]).any()  # beyond the table: no silent reuse


def test_a_pooler_has_its_own_weights():
    model = filled(encoder(pooler=True))
    pooled = jitted(lambda model, row: model.pooled(model(row)))(model, tokens(2, 6))
    assert pooled.shape == (2, 24)
    assert float(np.abs(pooled).max()) <= 1
    assert "pooler" in {path[0] for path, _ in nnx.to_flat_state(nnx.state(model))}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: encoder(segments=(parts.LayerGroup((layer(True),)),)), "need causal=False"),
        (lambda: encoder(tied_embeddings=True), "needs HeadSpec.transform"),
        (
            lambda: parts.EncoderDecoderConfig(encoder(), encoder(embed_dim=16)),
            "encoder.embed_dim is 24, decoder.embed_dim is 16",
        ),
        (lambda: parts.EncoderDecoderConfig(encoder(), encoder()), "every decoder layer needs cross_attention"),
        (
            lambda: parts.DecoderConfig(50, 24, (parts.LayerGroup((layer(True, cross=True),)),)),
            "cross_attention needs an encoder",
        ),
    ],
)
def test_parts_that_do_not_fit_together(make, message):
    with pytest.raises(UserError, match=message):
        make()
