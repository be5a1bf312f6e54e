"""Task heads over hidden states: sentences, choices, answer spans, tags, rewards, SpanBERT's span boundaries.

A head's weights are in the model under `task_heads/NAME`; `model.tasks[NAME]` puts them together with what a head
shares with the model (the pooler, the embedding table), anew each time, as `model.head` does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers.activations import ACTIVATIONS
from t5x_style.models.layers.embedding import Head, Rows
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.norms import Norm
from t5x_style.models.pooling import first_tokens, last_tokens, take
from t5x_style.models.specs import DtypePolicy, HeadSpec, SpanBoundarySpec, TaskHeadSpec, TransformerConfig
from t5x_style.models.specs.head_specs import TOKEN_KINDS


class TaskWeights(nnx.Module):
    """Weights of a TaskHeadSpec: `dense` [embed, embed] where it has a transform, `scores` [embed, outputs]."""

    def __init__(
        self, spec: TaskHeadSpec, embed_dim: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float | None
    ):
        shared: dict[str, Any] = {"axes": ("embed", None), "policy": policy, "rngs": rngs, "stddev": stddev}
        self.dense = Linear((embed_dim,), (embed_dim,), bias=True, **shared) if spec.transform else None
        self.scores = Linear((embed_dim,), (spec.outputs,), bias=spec.bias, **shared)


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """A TaskHeadSpec's head, ready to use."""

    spec: TaskHeadSpec
    weights: TaskWeights
    pooler: Linear | None
    policy: DtypePolicy

    def logits(
        self,
        hidden: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        segments: int | None = None,
        at: jax.Array | None = None,
    ) -> jax.Array:
        """Scores in the logits dtype; their shape is in TaskHeadSpec.

        Args:
          hidden: [..., L, embed]; a choice has one more dimension: [B, C, L, embed] -> [B, C].
          segment_ids: [..., L], 0 is padding. None: no padding.
          segments: most segments of a packed row: sentence-level kinds give [..., segments] answers (of each segment
            id 1, 2, ...) in place of one; those of segments that a row has not are 0. For a choice the segments of a
            row are its choices.
          at: [...] or [..., S]: which tokens to take, instead of what the spec's `pool` and segment ids say.
        """
        spec, index = self.spec, at
        if spec.kind in TOKEN_KINDS:
            self._refuse(segments is not None or at is not None, "answers for every token; leave out segments and at")
            return self._scores(hidden)
        if index is None:
            self._refuse(segments is not None and segment_ids is None, "needs segment_ids where segments are given")
            ids = jnp.ones(hidden.shape[:-1], jnp.int32) if segment_ids is None else segment_ids
            index = last_tokens(ids, segments) if spec.pool == "last" else first_tokens(ids, segments)
        taken = take(hidden, index)
        if spec.pool == "pooler":
            assert self.pooler is not None
            taken = jnp.tanh(self.pooler(taken))
        scores = jnp.where(index[..., None] >= 0, self._scores(taken), 0)
        return scores[..., 0] if spec.scalar else scores

    def _scores(self, hidden: jax.Array) -> jax.Array:
        weights, transform = self.weights, self.spec.transform
        if transform is not None:
            assert weights.dense is not None
            hidden = ACTIVATIONS[transform](weights.dense(hidden))
        return weights.scores(hidden).astype(self.policy.dtype("logits"))

    def _refuse(self, condition: bool, message: str) -> None:
        if condition:
            raise UserError(f"task head {self.spec.name!r} of kind {self.spec.kind} {message}")


class SpanBoundaryWeights(nnx.Module):
    """Weights of a SpanBoundarySpec: positions in a span, two dense layers with their norms, a vocabulary bias."""

    def __init__(self, spec: SpanBoundarySpec, config: TransformerConfig, *, policy: DtypePolicy, rngs: nnx.Rngs):
        width, stddev = config.embed_dim, config.init.stddev
        table = width if config.embedding.dim is None else config.embedding.dim
        rows = spec.position_dim**-0.5 if stddev is None else stddev
        shared: dict[str, Any] = {"policy": policy, "rngs": rngs, "stddev": stddev, "bias": True}
        self.positions = Rows(spec.max_span, spec.position_dim, policy=policy, rngs=rngs, stddev=rows)
        self.dense = Linear((2 * width + spec.position_dim,), (width,), axes=(None, "embed"), **shared)
        self.norm = Norm(spec.norm, width, axis="embed", policy=policy)
        self.output = Linear((width,), (table,), axes=("embed", None), **shared)
        self.output_norm = Norm(spec.norm, table, axis="embed", policy=policy)
        zeros = jnp.zeros((config.padded_vocab_size,), policy.dtype("params"))
        self.bias = nnx.Param(zeros, out_sharding=("vocab",)) if spec.bias else None


@dataclasses.dataclass(frozen=True)
class SpanBoundaryHead:
    """SpanBERT's objective (Joshi et al. 2020, section 3.2): `head.logits(represent(...))` are vocabulary scores."""

    spec: SpanBoundarySpec
    weights: SpanBoundaryWeights
    table: nnx.Param
    vocab_size: int
    policy: DtypePolicy

    def represent(
        self, hidden_BLD: jax.Array, left_BM: jax.Array, right_BM: jax.Array, place_BM: jax.Array
    ) -> jax.Array:
        """Representations [B, M, columns of the embedding table] of M masked tokens a row.

        Args:
          hidden_BLD: [B, L, embed] of the encoder.
          left_BM, right_BM: indices of the tokens before and behind the span that the token is in.
          place_BM: the token's place in its span, 0 for the first; beyond max_span it gives NaN.

        Example: tokens 3, 4, 5 of a row are a masked span: left [2, 2, 2], right [6, 6, 6], place [0, 1, 2].
        """
        weights, act = self.weights, ACTIVATIONS[self.spec.activation]
        parts = [take(hidden_BLD, left_BM), take(hidden_BLD, right_BM), weights.positions(place_BM)]
        x_BMD = weights.norm(act(weights.dense(jnp.concatenate(parts, axis=-1))))
        return weights.output_norm(act(weights.output(x_BMD)))

    @property
    def head(self) -> Head:
        """Scores of representations over the embedding table, for the losses in chunks."""
        spec = HeadSpec(bias=self.weights.bias is not None)
        return Head(spec, table=self.table, bias=self.weights.bias, vocab_size=self.vocab_size, policy=self.policy)


def weights_of(config: TransformerConfig, *, policy: DtypePolicy, rngs: nnx.Rngs) -> nnx.Dict:
    """Newly drawn weights of all tasks of a configuration, by name."""
    held: dict[str, nnx.Module] = {}
    for spec in config.tasks:
        if isinstance(spec, SpanBoundarySpec):
            held[spec.name] = SpanBoundaryWeights(spec, config, policy=policy, rngs=rngs)
        else:
            stddev = config.init.stddev
            held[spec.name] = TaskWeights(spec, config.embed_dim, policy=policy, rngs=rngs, stddev=stddev)
    return nnx.Dict(held)


def choice_logits(model: Any, name: str, tokens_BCL: jax.Array, **inputs_BCL: jax.Array) -> jax.Array:
    """Scores [B, C] of C choices a question, each a sequence of its own.

    Args:
      name: a task of kind "choice". tokens_BCL: [B, C, L] ids.
      inputs_BCL: further arguments of the model's call, [B, C, L] each, such as segment_ids and token_types.
    """
    rows = tokens_BCL.shape[0] * tokens_BCL.shape[1]
    flat = {key: value.reshape(rows, *value.shape[2:]) for key, value in inputs_BCL.items()}
    hidden = model(tokens_BCL.reshape(rows, -1), **flat)
    hidden_BCLD = hidden.reshape(*tokens_BCL.shape, hidden.shape[-1])
    return model.tasks[name].logits(hidden_BCLD, segment_ids=inputs_BCL.get("segment_ids"))
