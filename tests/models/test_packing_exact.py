"""Packed documents never see each other, to the bit: hidden states and gradients, every kind of layer and position.

A row holds two documents and padding, each with token ids of its own. Other tokens in one document leave the hidden
states of the other as they are, bit for bit; and a loss over one document has a gradient of exactly 0 in those rows of
the embedding table that only the other uses.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.models import specs as parts
from tests.models.execution_checks import drawn

WIDTH, IDS = 24, 20  # ids of one document: 0 to 19, of the other: 20 to 39, of padding: 40 to 59
LENGTHS = (30, 33, 7)  # two documents, padding; the row is longer than one block of attention
SOURCES = (45, 20, 9)  # what the encoder is given of them
DOCUMENTS = range(3)


def layer(placement="pre", mlp=None, norm=None, cross=False, **attention):
    settings = {"heads": 4, "kv_heads": 2, "head_dim": 8, **attention}
    crossing = parts.AttentionSpec(4, 2, 8, causal=False, rope=None) if cross else None
    return parts.LayerSpec(
        parts.AttentionSpec(**settings), mlp or parts.MlpSpec(40), norm or parts.NormSpec(), placement, crossing
    )


def stack(kind, layers, **changes):
    settings = {"vocab_size": 3 * IDS, "embed_dim": WIDTH, "segments": (parts.LayerGroup(tuple(layers), 2),)}
    return kind(**{**settings, "vocab_multiple": 16, "init": parts.InitSpec(0.3), **changes})


def decoder(*layers, **changes):
    return stack(parts.DecoderConfig, layers, **changes)


def encoder(*layers, **changes):
    return stack(parts.EncoderConfig, layers, **changes)


def rope(scaling=None, **changes):
    return decoder(layer(rope=parts.RopeSpec(scaling=scaling, **changes)))


def added(kind):
    return parts.EmbeddingSpec(positions=parts.PositionSpec(kind, 80), norm=parts.NormSpec("layernorm"))


def scaling(kind):
    return parts.RopeScaling(kind, 4.0, 1.0, 4.0, original_length=16)


MOE = {"experts": 4, "top_k": 2, "mlp": parts.MlpSpec(20)}
APART = parts.MoeSpec(**MOE, mode="capacity", capacity_factor=0.6, per_document=True)
NUMBER = parts.MoeSpec(**{**MOE, "top_k": 1}, mode="capacity", capacity=3, per_document=True, normalize=False)
CONFIGS = {
    "causal": decoder(layer()),
    "multi-head": decoder(layer(kv_heads=4)),
    "multi-query": decoder(layer(kv_heads=1)),
    "window": decoder(layer(window=6)),
    "window-beyond-documents": decoder(layer(window=40)),
    "window-and-wide": decoder(layer(window=9), layer()),
    "bidirectional": encoder(layer(causal=False)),
    "alibi": decoder(layer(rope=None, alibi=True)),
    "alibi-6-heads": decoder(layer(rope=None, alibi=True, heads=6, kv_heads=6)),
    "relative-bias": decoder(layer(rope=None), relative_bias=parts.RelativeBiasSpec(8, 20)),
    "relative-bias-encoder": encoder(
        layer(rope=None, causal=False), relative_bias=parts.RelativeBiasSpec(8, 20, bidirectional=True)
    ),
    "learned-positions": decoder(layer(rope=None), embedding=added("learned")),
    "sinusoidal-positions": decoder(layer(rope=None), embedding=added("sinusoidal")),
    "no-positions": decoder(layer(rope=None)),
    "rope-linear": rope(scaling("linear")),
    "rope-dynamic": rope(scaling("dynamic")),
    "rope-llama3": rope(scaling("llama3")),
    "rope-yarn": rope(scaling("yarn")),
    "rope-partial-interleaved": rope(dim=4, interleaved=True),
    "softcap": decoder(layer(logit_softcap=2.0)),
    "qk-norm": decoder(layer(qk_norm=parts.NormSpec())),
    "biases-odd-heads": decoder(layer(qkv_bias=True, output_bias=True, head_dim=6, heads=3, kv_heads=3)),
    "post-norm": decoder(layer("post", norm=parts.NormSpec("layernorm")), final_norm=None),
    "sandwich": decoder(layer("sandwich")),
    "normed-residual": decoder(layer("normed")),
    "experts-dropless": decoder(layer(mlp=parts.MoeSpec(**MOE))),
    "experts-capacity": decoder(layer(mlp=APART)),
    "experts-capacity-number": encoder(layer(causal=False, mlp=NUMBER)),
    "every-kind": decoder(layer(window=9), layer(mlp=parts.MoeSpec(**MOE), rope=None, alibi=True)),
    "shared-layer": decoder(layer(), segments=(parts.LayerGroup((layer(),), 3, shared=True),)),
}


def owners(lengths):
    """Which document a place belongs to, [L]; the last is padding."""
    return np.repeat(DOCUMENTS, lengths)


def packed(lengths, changed=None):
    """[1, L] tokens; those of document `changed` are others."""
    owner = owners(lengths)
    local = np.random.default_rng(0).integers(0, IDS, len(owner))
    return jnp.asarray((local + 7 * (owner == changed)) % IDS + IDS * owner)[None]


def segments(lengths):
    """[1, L]: 1, 2 and 0 on padding."""
    return jnp.asarray((owners(lengths) + 1) % 3)[None]


def positions(lengths):
    """[1, L], from 0 in each document."""
    return jnp.concatenate([jnp.arange(length) for length in lengths])[None]


def check_apart(model, run):
    """`run(model, changed)` gives hidden states [1, L, width]; see the top of this file for what is checked."""
    graphdef, state = nnx.split(model)
    owner = owners(LENGTHS)

    def loss(state, tokens, weights):
        hidden = run(nnx.merge(graphdef, state), *tokens)
        return jnp.sum(jnp.sin(hidden) * weights[None, :, None]), hidden

    @jax.jit
    def probe(state, tokens, weights):
        gradient, hidden = jax.grad(loss, has_aux=True)(state, tokens, weights)
        return gradient["embedding"]["table"][...], hidden

    def result(changed, counted):
        tokens = [packed(LENGTHS, changed)] + ([packed(SOURCES, changed)] if model_has_encoder(model) else [])
        gradient, hidden = probe(state, tokens, jnp.asarray(owner == counted, jnp.float32))
        return np.asarray(gradient), np.asarray(hidden)[0]

    first = result(None, 0)[1]
    for document in DOCUMENTS:
        gradient, hidden = result(document, document)
        own_rows = slice(IDS * document, IDS * (document + 1))
        np.testing.assert_array_equal(hidden[owner != document], first[owner != document])
        assert np.any(hidden[owner == document] != first[owner == document], axis=-1).all()
        np.testing.assert_array_equal(np.delete(gradient, own_rows, axis=0), 0)
        assert np.abs(gradient[own_rows]).max() > 1e-6


def model_has_encoder(model):
    return hasattr(model, "encoder_trunk")


def inputs_of(prefix=False):
    inputs = {"segment_ids": segments(LENGTHS), "positions": positions(LENGTHS)}
    if prefix:  # the first document ends in causal tokens, the second begins with tokens that see each other
        inputs["causal_attention"] = jnp.asarray([[1] * 10 + [0] * 20 + [1] * 20 + [0] * 20])
    return inputs


def two_dimensional():
    plain = positions(LENGTHS)
    return {**inputs_of(prefix=True), "positions": jnp.stack([plain, jnp.maximum(plain - 19, 0)], axis=-1)}


CASES = {name: (config, inputs_of()) for name, config in CONFIGS.items()}
CASES |= {
    "prefix": (CONFIGS["causal"], inputs_of(prefix=True)),
    "prefix-window": (CONFIGS["window"], inputs_of(prefix=True)),
    "prefix-alibi": (CONFIGS["alibi"], inputs_of(prefix=True)),
    "two-dimensional-rope": (rope(two_dimensional=True), two_dimensional()),
}


# Each compiles a program of its own; these run in `make test` too. "t5" has layers that see both ways and relative
# biases; "every-kind" has a layer of each kind that the others lack.
QUICK = ("every-kind", "prefix", "t5")


def by_speed(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", by_speed(CASES))
def test_documents_of_a_row_are_apart(name):
    config, inputs = CASES[name]
    check_apart(drawn(config), lambda model, tokens: model(tokens, **inputs))


@pytest.mark.slow
@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("remat", ["full", "dots"])
def test_documents_are_apart_however_layers_run(scan, remat):
    config = decoder(layer(window=9), layer(mlp=parts.MoeSpec(**MOE)))
    model = drawn(config, execution=parts.Execution(scan, remat))
    check_apart(model, lambda model, tokens: model(tokens, **inputs_of()))


def test_documents_are_apart_where_all_scores_exist():
    model = drawn(decoder(layer(window=9), layer()), execution=parts.Execution(attention="xla"))
    check_apart(model, lambda model, tokens: model(tokens, **inputs_of()))


def encoder_decoder(mlp=None, placement="pre", **changes):
    def bias(both):
        return parts.RelativeBiasSpec(8, 20, bidirectional=both)

    return parts.EncoderDecoderConfig(
        encoder(layer(placement, mlp, causal=False, rope=None), relative_bias=bias(True), **changes),
        stack(
            parts.TransformerConfig,
            [layer(placement, mlp, rope=None, cross=True)],
            relative_bias=bias(False),
            **changes,
        ),
    )


PAIRS = {
    "t5": encoder_decoder(),
    "t5-sandwich": encoder_decoder(placement="sandwich"),
    "t5-experts-dropless": encoder_decoder(parts.MoeSpec(**MOE)),
    "switch": encoder_decoder(NUMBER),
    "sinusoidal": encoder_decoder(embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("sinusoidal"))),
}


@pytest.mark.parametrize("name", by_speed(PAIRS))
def test_pairs_of_a_row_are_apart(name):
    def run(model, tokens, sources):
        return model(
            tokens,
            sources,
            segment_ids=segments(LENGTHS),
            positions=positions(LENGTHS),
            encoder_segment_ids=segments(SOURCES),
            encoder_positions=positions(SOURCES),
        )

    check_apart(drawn(PAIRS[name]), run)
