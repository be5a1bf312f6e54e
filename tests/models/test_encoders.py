"""Encoders and encoder-decoders: who sees whom, packed segments, every way to run a stack, embeddings."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models import build
from t5x_style.models import specs as parts
from t5x_style.models.serialization import from_json, to_json

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
    return jnp.asarray(np.random.default_rng(seed).integers(1, 50, (batch, length)))


@pytest.mark.parametrize("config", [encoder(), encoder_decoder()])
def test_model_json_gives_the_configuration_back(config):
    assert from_json(to_json(config)) == config


def test_packed_segments_do_not_see_each_other_in_an_encoder():
    model = build(encoder())
    segments = jnp.array([[1] * 6 + [2] * 5 + [0] * 2])
    first = tokens(1, 13)
    hidden = model(first, segment_ids=segments)
    changed = model(first.at[0, 8].set(first[0, 8] % 49 + 1), segment_ids=segments)
    np.testing.assert_array_equal(hidden[0, :6], changed[0, :6])
    assert float(jnp.abs(hidden[0, 6] - changed[0, 6]).max()) > 1e-5  # before the change, in its segment


def test_packed_pairs_do_not_see_each_other():
    model = build(encoder_decoder())
    decoder_segments, encoder_segments = jnp.array([[1, 1, 1, 2, 2]]), jnp.array([[1] * 4 + [2] * 3])
    source, target = tokens(1, 7, 1), tokens(1, 5, 2)
    segments = {"segment_ids": decoder_segments, "encoder_segment_ids": encoder_segments}
    hidden = model(target, source, **segments)
    changed = model(target, source.at[0, 5].set(source[0, 5] % 49 + 1), **segments)
    np.testing.assert_array_equal(hidden[0, :3], changed[0, :3])
    assert float(jnp.abs(hidden[0, 3:] - changed[0, 3:]).max()) > 1e-5


def test_a_packed_pair_equals_the_pair_alone():
    model = build(encoder_decoder())
    source, target = tokens(1, 7, 1), tokens(1, 5, 2)
    segments = {
        "segment_ids": jnp.array([[1, 1, 1, 2, 2]]),
        "encoder_segment_ids": jnp.array([[1] * 4 + [2] * 3]),
        "positions": jnp.array([[0, 1, 2, 0, 1]]),
        "encoder_positions": jnp.array([[0, 1, 2, 3, 0, 1, 2]]),
    }
    hidden = model(target, source, **segments)
    alone = model(target[:, 3:], source[:, 4:])
    np.testing.assert_allclose(hidden[:, 3:], alone, atol=1e-5)


@pytest.mark.parametrize("mlp", [None, parts.MoeSpec(3, 2, parts.MlpSpec(10))])
def test_scan_and_remat_change_nothing(mlp):
    config = encoder(segments=(parts.LayerGroup((layer(False), layer(False, mlp=mlp)), 2),))
    expected, losses = build(config)(tokens(2, 9), return_losses=True)
    assert set(losses) == (set() if mlp is None else {"moe_balance", "moe_z", "moe_dropped"})
    for scan in (True, False):
        for remat in ("none", "dots", "full"):
            changed = dataclasses.replace(config, scan=scan, remat=remat)
            found, other = build(changed)(tokens(2, 9), return_losses=True)
            np.testing.assert_allclose(found, expected, atol=1e-5)
            for name, value in losses.items():
                np.testing.assert_allclose(other[name], value, rtol=1e-5)


def test_token_types_and_positions_matter_and_the_table_is_narrow():
    model = build(encoder())
    assert model.embedding.table.shape == (64, 8)
    row = tokens(1, 6)
    plain = model(row)
    np.testing.assert_array_equal(plain, model(row, token_types=jnp.zeros((1, 6), int)))
    assert float(jnp.abs(plain - model(row, token_types=jnp.ones((1, 6), int))).max()) > 1e-4
    assert float(jnp.abs(plain - model(row, positions=jnp.arange(6)[None] + 3)).max()) > 1e-4
    assert bool(jnp.isnan(model(row, positions=jnp.arange(6)[None] + 38)).any())  # beyond the table: no silent reuse


def test_a_pooler_has_its_own_weights():
    model = build(encoder(pooler=True))
    pooled = model.pooled(model(tokens(2, 6)))
    assert pooled.shape == (2, 24)
    assert float(jnp.abs(pooled).max()) <= 1
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
