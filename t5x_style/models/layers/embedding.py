"""The token embedding table, padded to a multiple that shards, and the language-model head."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models import randomness
from t5x_style.models.layers.activations import ACTIVATIONS
from t5x_style.models.layers.linear import Linear, truncated_normal
from t5x_style.models.layers.norms import Norm
from t5x_style.models.specs import DtypePolicy, EmbeddingSpec, HeadSpec

# Logit of a padded id: exp() of it is 0 beside any real logit, and it stays finite in every float format but
# float16, in which it is clipped to the lowest finite number.
PADDED_LOGIT = -1e9
_SPLIT, _WHOLE = ("vocab", "embed"), ("act_vocab", "act_embed")  # the table as a parameter, and for look-ups


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rows(dtype: jnp.dtype, table_VD: jax.Array, tokens_BL: jax.Array) -> jax.Array:
    """Rows of the table in `dtype`; their gradients are added up in the table's own, where none is lost.

    In bfloat16 the sum of 256 equal gradients, as a frequent token has them, would not grow any more.
    """
    if dtype.itemsize < table_VD.dtype.itemsize:  # Narrow, and still split, before it is gathered from the devices.
        table_VD = mesh.constrain(table_VD.astype(dtype), _SPLIT, "parameters")
    # Whole rows before the look-up: rows split over the devices that split the batch cannot be exchanged cheaply.
    return jnp.take(mesh.constrain(table_VD, _WHOLE), tokens_BL, axis=0).astype(dtype)


def _rows_forward(
    dtype: jnp.dtype, table_VD: jax.Array, tokens_BL: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _rows(dtype, table_VD, tokens_BL), (table_VD, tokens_BL)


def _rows_backward(
    dtype: jnp.dtype, saved: tuple[jax.Array, jax.Array], d_rows_BLD: jax.Array
) -> tuple[jax.Array, None]:
    del dtype
    table_VD, tokens_BL = saved
    transpose = jax.linear_transpose(lambda table: jnp.take(table, tokens_BL, axis=0), table_VD)
    (d_table_VD,) = transpose(d_rows_BLD.astype(table_VD.dtype))
    return mesh.constrain(d_table_VD, _WHOLE), None


_rows.defvjp(_rows_forward, _rows_backward)


class Embedding(nnx.Module):
    """Rows of a table [padded vocab, embed]."""

    def __init__(self, size: int, embed_dim: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float):
        self.policy = policy
        table = truncated_normal(rngs.params(), (size, embed_dim), stddev, policy.dtype("params"))
        self.table = nnx.Param(table, out_sharding=_SPLIT)

    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """[B, L] ids -> [B, L, embed] in the compute dtype; an id beyond the table gives NaN, not a neighbour's row."""
        rows_BLD = _rows(self.policy.dtype("compute"), self.weight(), tokens_BL)
        return mesh.constrain(rows_BLD, ("act_batch", "act_length", "act_embed"))

    def weight(self) -> jax.Array:
        """The table [padded vocab, embed]: the one place that knows how it is stored."""
        return self.table[...]


class InputEmbedding(Embedding):
    """Token embedding with the parts of an EmbeddingSpec: factors, token types, positions, norm."""

    def __init__(
        self,
        size: int,
        embed_dim: int,
        spec: EmbeddingSpec,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float,
        scale: float | None = None,
        dropout: float = 0.0,
    ):
        width = embed_dim if spec.dim is None else spec.dim
        super().__init__(size, width, policy=policy, rngs=rngs, stddev=stddev)
        self.spec = spec
        self.scale = scale
        self.dropout = dropout
        learned = spec.positions is not None and spec.positions.kind == "learned"
        rows = spec.positions.length if spec.positions is not None else 0

        def rows_of(count: int) -> Rows:
            return Rows(count, width, policy=policy, rngs=rngs, stddev=stddev)

        self.types = rows_of(spec.types) if spec.types else None
        self.positions = rows_of(rows) if learned else None
        self.block_positions = rows_of(rows) if spec.positions is not None and spec.positions.blocks else None
        self.norm = None if spec.norm is None else Norm(spec.norm, width, axis="embed", policy=policy)
        dense = {"axes": (None, "embed"), "policy": policy, "rngs": rngs, "stddev": stddev}
        self.projection = Linear((width,), (embed_dim,), bias=True, **dense) if spec.dim is not None else None

    def embed(self, tokens_BL: jax.Array, positions: jax.Array, types_BL: jax.Array | None = None) -> jax.Array:
        """[B, L] ids, positions and token types (None: all 0) -> [B, L, embed].

        Args:
          positions: [B, L], or [1, L] for all rows alike; [B, L, 2] with positions within blocks, else those are 0.
        """
        pair = positions if positions.ndim == 3 else jnp.stack([positions, jnp.zeros_like(positions)], axis=-1)
        positions_BL, blocks_BL = pair[..., 0], pair[..., 1]
        x_BLD = self(tokens_BL)
        if self.scale is not None:
            x_BLD = x_BLD * jnp.asarray(self.scale, x_BLD.dtype)
        if self.types is not None:
            x_BLD = x_BLD + self.types(jnp.zeros_like(tokens_BL) if types_BL is None else types_BL)
        where = self.spec.positions
        if where is not None:
            shifted = positions_BL + where.offset
            if self.positions is not None:
                x_BLD = x_BLD + self.positions(shifted)
            else:
                x_BLD = x_BLD + sinusoidal(shifted, x_BLD.shape[-1]).astype(x_BLD.dtype)
        if self.block_positions is not None:
            x_BLD = x_BLD + self.block_positions(blocks_BL)
        if self.norm is not None:
            x_BLD = self.norm(x_BLD)
        x_BLD = randomness.dropout(x_BLD, self.dropout, "embedding")
        return x_BLD if self.projection is None else self.projection(x_BLD)


class Rows(nnx.Module):
    """A small table [rows, embed], replicated over the vocabulary's devices: positions, token types."""

    def __init__(self, rows: int, embed_dim: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float):
        self.policy = policy
        table = truncated_normal(rngs.params(), (rows, embed_dim), stddev, policy.dtype("params"))
        self.table = nnx.Param(table, out_sharding=(None, "embed"))

    def __call__(self, index: jax.Array) -> jax.Array:
        """Rows by index, in the compute dtype; an index beyond the table gives NaN."""
        return jnp.take(self.table[...], index, axis=0).astype(self.policy.dtype("compute"))


def sinusoidal(positions_BL: jax.Array, dim: int) -> jax.Array:
    """[B, L, dim] float32: sines in the first half, cosines in the second, wavelengths 2 pi to 10000 * 2 pi.

    Vaswani et al. 2017, section 3.5, with the two halves side by side as in tensor2tensor's code.
    """
    half = (dim + 1) // 2
    rates = 10000.0 ** (-jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1))
    angles = positions_BL.astype(jnp.float32)[..., None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[..., :dim]


class HeadTransform(nnx.Module):
    """The masked-LM heads' dense layer, activation and norm before the table (Devlin et al. 2019, released code)."""

    def __init__(
        self, spec: HeadSpec, embed_dim: int, width: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float | None
    ):
        assert spec.transform is not None
        self.activation = ACTIVATIONS[spec.transform]
        axes = ("embed", None)
        self.dense = Linear((embed_dim,), (width,), axes=axes, policy=policy, rngs=rngs, bias=True, stddev=stddev)
        norm = spec.transform_norm
        self.norm = None if norm is None else Norm(norm, width, axis="embed", policy=policy)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """[..., embed] -> [..., width of the table]."""
        hidden = self.activation(self.dense(hidden))
        return hidden if self.norm is None else self.norm(hidden)


class Head(nnx.Module):
    """Vocabulary scores of hidden states.

    Attributes:
      table: [padded vocab, embed]; a tied head holds the embedding's own Param, made anew on each
        `Decoder.head`, so that the model itself has no shared references.
    """

    def __init__(
        self,
        spec: HeadSpec,
        *,
        table: nnx.Param,
        bias: nnx.Param | None,
        vocab_size: int,
        policy: DtypePolicy,
        transform: HeadTransform | None = None,
    ):
        self.spec = spec
        self.transform = transform
        self.policy = policy
        self.vocab_size = vocab_size
        self.table = table
        self.bias = bias

    def weight(self) -> jax.Array:
        """The table [padded vocab, embed] in the compute dtype: the one place that knows how it is stored."""
        return self.table[...].astype(self.policy.dtype("compute"))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., embed] -> [..., padded vocab] in the logits dtype; padded ids get PADDED_LOGIT."""
        compute, dtype = self.policy.dtype("compute"), self.policy.dtype("logits")
        if self.transform is not None:
            hidden = self.transform(hidden)
        table_VD = self.weight()
        if self.spec.normalized:
            table_VD = table_VD / jnp.maximum(jnp.linalg.norm(table_VD, axis=-1, keepdims=True), 1e-12)
        contract = ((hidden.ndim - 1,), (1,))
        scores = jax.lax.dot_general(
            hidden.astype(compute), table_VD, (contract, ((), ())), preferred_element_type=dtype
        )
        if self.bias is not None:
            scores = scores + self.bias[...].astype(dtype)
        if self.spec.scale is not None:
            scores = scores * self.spec.scale
        if self.spec.softcap is not None:
            scores = self.spec.softcap * jnp.tanh(scores / self.spec.softcap)
        size = scores.shape[-1]
        if size == self.vocab_size:
            return scores
        floor = jnp.maximum(PADDED_LOGIT, jnp.finfo(dtype).min).astype(dtype)
        return jnp.where(jnp.arange(size) < self.vocab_size, scores, floor)
