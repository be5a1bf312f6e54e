"""Any function of a token's scores, run over chunks of tokens: label smoothing, distillation from a frozen teacher.

`chunked` does for a function what `chunked.token_log_probs` does for log-probabilities, inside the same shard_map: each
head is gathered once, the scores of all tokens never exist together, a trained head's gradient is added up over devices
once. Worked example, two tokens, V = 3, the entropy of a head's distribution:

    scores   [[0, 0, 0], [9, 0, 0]]     # exist a chunk at a time, in the forward and again in the backward pass
    f        lambda scores, frozen_scores: (entropy(scores[0]),)
    chunked  ([[1.0986, 0.0025]],)      # [B, L] = [1, 2]

Array suffixes: B batch, L length, D embed, V padded vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.losses import head_arrays
from t5x_style.losses.chunked import CHUNK_SIZE, accumulate, accumulators, cast_like, head_logits, over_tokens

# (scores [C, V] of each head, scores of each frozen head, *arrays [C, ...]) -> a tree of [C].
TokenFunction = Callable[..., Any]


def chunked(
    f: TokenFunction,
    heads: Sequence[Any],
    hiddens: Sequence[jax.Array],
    arrays: Sequence[jax.Array] = (),
    *,
    frozen_heads: Sequence[Any] = (),
    frozen_hiddens: Sequence[jax.Array] = (),
    chunk_size: int = CHUNK_SIZE,
) -> Any:
    """What `f` says of every token, differentiable in the parameters of `heads` and in `hiddens`, in nothing else.

    The backward pass computes the scores again, chunk by chunk; frozen heads get no gradient product, only scores.

    Args:
      f: (tuple of [C, V], tuple of [C, V], *arrays [C, ...]) -> a tree of [C]. All traced values that it needs are
        `arrays`: it runs inside shard_map and may not close over any. Rows that fill the last chunk have hidden states
        and arrays of 0; what f gives for them is dropped, but its gradient there must be finite.
      heads: modules with `logits(hidden [C, D]) -> [C, V]`; widths and vocabularies may differ.
      hiddens: [B, L, D] of each head, at least one. arrays: [B, L, ...], such as targets.
      frozen_heads, frozen_hiddens: the same, of models that do not train.
      chunk_size: tokens a device scores at once.

    Returns:
      f's tree, its leaves [B, L].
    """
    assert len(heads) == len(hiddens) >= 1, "one hidden array a head, and at least one head"
    assert len(frozen_heads) == len(frozen_hiddens), "one frozen hidden array a frozen head"
    graphs, parameters = _split(heads)
    frozen_graphs, frozen_parameters = _split(frozen_heads)
    first, second = len(hiddens), len(hiddens) + len(frozen_hiddens)

    def value(parameters: Any, xs: Any, frozen_scores: Any, rest: Any) -> Any:
        return f(_score(graphs, parameters, xs), frozen_scores, *rest)

    def forward(parameters: Any, *inputs: jax.Array) -> tuple[Any, Any, Any]:
        def chunk(inputs: Any) -> Any:
            frozen_scores = _score(frozen_graphs, parameters[1], inputs[first:second])
            return value(parameters[0], inputs[:first], frozen_scores, inputs[second:])

        return (), None, jax.lax.map(chunk, inputs)

    def backward(parameters: Any, inputs: Any, cotangents: Any) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(cotangents)

        def step(total: Any, both: Any) -> tuple[Any, Any]:
            chunk, d_values = both[: len(inputs)], both[len(inputs) :]
            frozen_scores = _score(frozen_graphs, parameters[1], chunk[first:second])

            def trained(parameters: Any, xs: Any) -> Any:
                return value(parameters, xs, frozen_scores, chunk[second:])

            _, pull = jax.vjp(trained, parameters[0], chunk[:first])
            d_parameters, d_xs = pull(jax.tree.unflatten(structure, d_values))
            return accumulate(total, d_parameters), d_xs

        def body(parameters: Any, *both: jax.Array) -> tuple[Any, ...]:
            return (), *jax.lax.scan(step, accumulators(parameters[0]), both)

        return over_tokens(body, chunk_size, parameters, *inputs, *leaves, trained=parameters[0])[1:]

    def values(applied: Any, hiddens: Any, others: Any) -> Any:
        return over_tokens(forward, chunk_size, applied, *hiddens, *others)[2]

    @jax.custom_vjp
    def apply(parameters: Any, frozen_parameters: Any, hiddens: Any, others: Any) -> Any:
        return values(_narrow((heads, frozen_heads), (parameters, frozen_parameters)), hiddens, others)

    def apply_forward(parameters: Any, frozen_parameters: Any, hiddens: Any, others: Any) -> tuple[Any, Any]:
        applied = _narrow((heads, frozen_heads), (parameters, frozen_parameters))  # both passes gather the same arrays
        return values(applied, hiddens, others), (parameters, applied, hiddens, others)

    def apply_backward(saved: Any, cotangents: Any) -> tuple[Any, None, Any, None]:
        parameters, applied, hiddens, others = saved
        d_parameters, d_hiddens = backward(applied, (*hiddens, *others), cotangents)
        return cast_like(d_parameters, parameters), None, cast_like(d_hiddens, hiddens), None

    apply.defvjp(apply_forward, apply_backward)
    return apply(parameters, frozen_parameters, tuple(hiddens), (*frozen_hiddens, *arrays))


def chunked_sum(
    f: TokenFunction,
    heads: Sequence[Any],
    hiddens: Sequence[jax.Array],
    weights: jax.Array,
    arrays: Sequence[jax.Array] = (),
    *,
    frozen_heads: Sequence[Any] = (),
    frozen_hiddens: Sequence[jax.Array] = (),
    chunk_size: int = CHUNK_SIZE,
) -> tuple[jax.Array, Any]:
    """One weighted sum over tokens, its gradient taken while a chunk's scores are at hand.

    Where `chunked` scores a token twice in a training step, this does once, as `chunked.summed_cross_entropy`: the
    gradient of a single sum is known up to a factor. For losses of one term.

    Args:
      f: as of `chunked`, giving (loss [C], a tree of [C] to report).
      weights: [B, L], 0 on padding; not differentiated. The others are as of `chunked`.

    Returns:
      (sum of weights * loss, the tree of sums of weights * what is reported, without gradient); float32 scalars.
    """
    assert len(heads) == len(hiddens) >= 1, "one hidden array a head, and at least one head"
    assert len(frozen_heads) == len(frozen_hiddens), "one frozen hidden array a frozen head"
    graphs, parameters = _split(heads)
    frozen_graphs, frozen_parameters = _split(frozen_heads)
    first, second = len(hiddens), len(hiddens) + len(frozen_hiddens)

    def value(parameters: Any, xs: Any, frozen_parameters: Any, inputs: Any) -> Any:
        frozen_scores = _score(frozen_graphs, frozen_parameters, inputs[first:second])
        return f(_score(graphs, parameters, xs), frozen_scores, *inputs[second:-1])

    def total(values: Any, weights_NC: jax.Array) -> Any:
        return jax.tree.map(lambda value_NC: jnp.sum(weights_NC * value_NC, dtype=jnp.float32), values)

    def forward(parameters: Any, *inputs: jax.Array) -> tuple[Any, Any, Any]:
        def chunk(inputs: Any) -> Any:
            return value(parameters[0], inputs[:first], parameters[1], inputs)

        return total(jax.lax.map(chunk, inputs), inputs[-1]), None, ()

    def with_gradient(parameters: Any, *inputs: jax.Array) -> tuple[Any, Any, Any]:
        def step(gradient: Any, inputs: Any) -> tuple[Any, Any]:
            def trained(own: Any, xs: Any) -> Any:
                return value(own, xs, parameters[1], inputs)

            loss_C, pull, reported = jax.vjp(trained, parameters[0], inputs[:first], has_aux=True)
            d_parameters, d_xs = pull(inputs[-1].astype(loss_C.dtype))
            return accumulate(gradient, d_parameters), (d_xs, (loss_C, reported))

        gradient, (d_xs, values) = jax.lax.scan(step, accumulators(parameters[0]), inputs)
        return total(values, inputs[-1]), gradient, d_xs

    @jax.custom_vjp
    def apply(parameters: Any, frozen_parameters: Any, hiddens: Any, others: Any) -> Any:
        return over_tokens(
            forward, chunk_size, _narrow((heads, frozen_heads), (parameters, frozen_parameters)), *hiddens, *others
        )[0]

    def apply_forward(parameters: Any, frozen_parameters: Any, hiddens: Any, others: Any) -> tuple[Any, Any]:
        applied = _narrow((heads, frozen_heads), (parameters, frozen_parameters))
        sums, d_parameters, d_hiddens = over_tokens(
            with_gradient, chunk_size, applied, *hiddens, *others, trained=applied[0]
        )
        return sums, (cast_like(d_parameters, parameters), cast_like(d_hiddens, hiddens))

    def apply_backward(gradients: Any, cotangents: Any) -> tuple[Any, None, Any, None]:
        d_parameters, d_hiddens = jax.tree.map(lambda g: (g * cotangents[0]).astype(g.dtype), gradients)
        return d_parameters, None, d_hiddens, None

    apply.defvjp(apply_forward, apply_backward)
    others = (*frozen_hiddens, *arrays, weights.astype(jnp.float32))
    loss, reported = apply(parameters, frozen_parameters, tuple(hiddens), others)
    return loss, jax.tree.map(jax.lax.stop_gradient, reported)


def _split(heads: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    pairs = [nnx.split(head) for head in heads]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _narrow(heads: Any, parameters: Any) -> tuple[Any, ...]:
    """The arrays of trained and of frozen heads as they are gathered."""
    return tuple(
        tuple(head_arrays.narrow(head, own) for head, own in zip(*each, strict=True))
        for each in zip(heads, parameters, strict=True)
    )


def _score(graphs: Any, parameters: Any, xs: Any) -> tuple[jax.Array, ...]:
    return tuple(head_logits(*each) for each in zip(graphs, parameters, xs, strict=True))
