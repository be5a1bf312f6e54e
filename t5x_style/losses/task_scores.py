"""What each kind of task head loses on packed rows: labels and weights of segments or tokens to sums.

    kind            label of a segment                        loss of a segment of weight w
    classification  id of its class                           w * -log softmax(scores)[label]
    next_sentence,  the same, of two
    sentence_order
    multi_label     0 or 1 a label, [..., labels]             w * mean over labels of the binary cross entropy
    regression      a number, or [..., labels]                w * mean over targets of (score - label) ** 2
    choice          1: right for its question; 0: wrong       of the right one w * -log softmax(scores of the question)
    span            first and last token, [..., 2], counted   w * half of -log softmax over the segment's tokens of the
                    from the segment's first                  start, and of the end
    tags            (of a token) id of its tag                w * -log softmax(scores)[label]

A class or tag below 0, and a span that does not lie in its segment, count as weight 0. The segments of a row are the
choices of one question; where it holds several, `piece_ids` says which segments belong together.

Array suffixes: B batch, L length, S segments of a row, K outputs of a head.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.models.pooling import first_tokens
from t5x_style.models.specs.head_specs import TaskKind

LEFT_OUT = -1e9  # score of what is no candidate


class Facts(NamedTuple):
    """What one head is to say of a batch.

    Attributes:
      labels: [B, L] or [B, L, labels]. weights: [B, L] float32. segment_ids: [B, L], 0 on padding.
      piece_ids: [B, L] or None: which segments are one question.
      segments: most segments of a row, S.
    """

    labels: jax.Array
    weights: jax.Array
    segment_ids: jax.Array
    piece_ids: jax.Array | None
    segments: int

    def of_segments(self, values: jax.Array) -> jax.Array:
        """[B, L, ...] -> [B, S, ...]: values at each segment's first token, any where a row has no such segment.

        Example, segments=3: values [7, 7, 5, 5, 0] of segment ids [1, 1, 2, 2, 0] -> [7, 5, 7], the last of no meaning.
        """
        index_BS = jnp.maximum(self.first_BS, 0)
        return jnp.take_along_axis(values, index_BS.reshape(*index_BS.shape, *(1,) * (values.ndim - 2)), axis=1)

    @property
    def first_BS(self) -> jax.Array:
        """Index of each segment's first token, -1 where a row has no such segment."""
        return first_tokens(self.segment_ids, self.segments)

    @property
    def weights_BS(self) -> jax.Array:
        """The weight of each segment, 0 where there is none."""
        return jnp.where(self.first_BS >= 0, self.of_segments(self.weights), 0)


class Scored(NamedTuple):
    """Sums over a batch: the loss, and what is reported, to be divided by the sum of `units`."""

    loss: jax.Array
    metrics: dict[str, jax.Array]


def units(kind: TaskKind, facts: Facts) -> jax.Array:
    """The weights that a term of this kind is divided by the sum of: [B, S], of tags [B, L]; no model in sight."""
    if kind == "tags":
        return jnp.where((facts.labels >= 0) & (facts.segment_ids > 0), facts.weights, 0)
    w_BS = facts.weights_BS
    if kind in ("regression", "multi_label"):
        return w_BS
    labels = facts.of_segments(facts.labels)
    if kind == "choice":
        return jnp.where(labels == 1, w_BS, 0)
    if kind == "span":
        return jnp.where(jnp.all((labels >= 0) & (labels < _lengths(facts)[..., None]), axis=-1), w_BS, 0)
    return jnp.where(labels >= 0, w_BS, 0)


def score(head: Any, hidden_BLD: jax.Array, facts: Facts) -> Scored:
    """The sums of one head (a models.heads.TaskHead) on the hidden states of a batch."""
    kind = head.spec.kind
    w = units(kind, facts)
    if kind == "tags":
        return _classes(head.logits(hidden_BLD), facts.labels, w)
    if kind == "span":
        return _span(head.logits(hidden_BLD), facts, w)
    scores = head.logits(hidden_BLD, segment_ids=facts.segment_ids, segments=facts.segments).astype(jnp.float32)
    labels = facts.of_segments(facts.labels)
    if kind == "choice":
        return _choice(scores, facts, w)
    if kind == "regression":
        return _regression(scores, labels, w)
    if kind == "multi_label":
        return _multi_label(scores, labels, w)
    return _classes(scores, labels, w)


def _classes(scores: jax.Array, labels: jax.Array, w: jax.Array) -> Scored:
    """Scores [..., K], labels and weights [...]. A label that is no class gives NaN, so that the update is left out."""
    scores = scores.astype(jnp.float32)
    right = labels[..., None] == jnp.arange(scores.shape[-1])
    nll = jax.nn.logsumexp(scores, axis=-1) - jnp.sum(jnp.where(right, scores, 0), axis=-1)
    nll = jnp.where(labels < scores.shape[-1], nll, jnp.where(w > 0, jnp.nan, 0))
    loss = jnp.sum(w * nll)
    return Scored(loss, {"nll": loss, "accuracy": jnp.sum(w * (jnp.argmax(scores, axis=-1) == labels))})


def _regression(scores: jax.Array, labels: jax.Array, w_BS: jax.Array) -> Scored:
    """Scores and labels [B, S] or [B, S, K]."""
    square = jnp.square(scores - labels.astype(jnp.float32).reshape(scores.shape))
    loss = jnp.sum(w_BS * (square if square.ndim == 2 else jnp.mean(square, axis=-1)))
    return Scored(loss, {"mse": loss})


def _multi_label(scores_BSK: jax.Array, labels_BSK: jax.Array, w_BS: jax.Array) -> Scored:
    """Accuracy is over single labels: the share that lies on the right side of 0."""
    labels_BSK = labels_BSK.astype(jnp.float32)
    nll_BSK = jax.nn.softplus(scores_BSK) - labels_BSK * scores_BSK
    loss = jnp.sum(w_BS * jnp.mean(nll_BSK, axis=-1))
    right_BS = jnp.mean(((scores_BSK > 0) == (labels_BSK > 0.5)).astype(jnp.float32), axis=-1)
    return Scored(loss, {"nll": loss, "accuracy": jnp.sum(w_BS * right_BS)})


def _choice(scores_BS: jax.Array, facts: Facts, w_BS: jax.Array) -> Scored:
    """Every segment against those of its own question."""
    there_BS = facts.first_BS >= 0
    pieces = jnp.zeros_like(facts.segment_ids) if facts.piece_ids is None else facts.piece_ids
    piece_BS = facts.of_segments(pieces)
    rivals_BSS = (piece_BS[:, :, None] == piece_BS[:, None, :]) & there_BS[:, None, :]
    against_BSS = jnp.where(rivals_BSS, scores_BS[:, None, :], LEFT_OUT)
    loss = jnp.sum(w_BS * (jax.nn.logsumexp(against_BSS, axis=-1) - scores_BS))
    return Scored(loss, {"nll": loss, "accuracy": jnp.sum(w_BS * (scores_BS >= jnp.max(against_BSS, axis=-1)))})


def _span(scores_BL2: jax.Array, facts: Facts, w_BS: jax.Array) -> Scored:
    """Start and end among the tokens of a segment; an exact match has both at their highest scores."""
    held_BSL = facts.segment_ids[:, None, :] == jnp.arange(1, facts.segments + 1)[:, None]
    index_BS2 = facts.of_segments(facts.labels) + facts.first_BS[..., None]
    loss, exact_BS = jnp.float32(0), jnp.ones_like(w_BS, bool)
    for end in (0, 1):
        scores_BSL = jnp.where(held_BSL, scores_BL2[:, None, :, end].astype(jnp.float32), LEFT_OUT)
        right_BSL = index_BS2[..., end, None] == jnp.arange(scores_BSL.shape[-1])
        nll_BS = jax.nn.logsumexp(scores_BSL, axis=-1) - jnp.sum(jnp.where(right_BSL, scores_BSL, 0), axis=-1)
        loss += 0.5 * jnp.sum(w_BS * nll_BS)
        exact_BS &= jnp.argmax(scores_BSL, axis=-1) == index_BS2[..., end]
    return Scored(loss, {"nll": loss, "exact_match": jnp.sum(w_BS * exact_BS)})


def _lengths(facts: Facts) -> jax.Array:
    """Tokens of each segment, [B, S]."""
    held_BSL = facts.segment_ids[:, None, :] == jnp.arange(1, facts.segments + 1)[:, None]
    return jnp.sum(held_BSL, axis=-1)
