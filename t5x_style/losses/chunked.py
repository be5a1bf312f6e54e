"""Per-token log-probabilities and summed cross-entropy without a [batch, length, vocab] array.

The head runs over chunks of tokens inside `jax.shard_map`, manual over the mesh axes that split the batch and the
length, automatic over the rest (tensor): each device gathers the head once, in the compute dtype, loops over its own
tokens, and the head's gradient is added up over devices once, after the loop, and stays split (see head_arrays.py).

Array suffixes: B batch, L length, D embed, V padded vocabulary, T tokens of one device, C tokens of a chunk, N chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from t5x_style import mesh
from t5x_style.losses.head_arrays import gradient_specs, narrow, reduce_scattered

# Tokens a device scores at once. Measured on 2 CPU cores with V = 4096 (benchmarks/models_train_step.py --chunks):
# 512 keeps a chunk of scores (8 MB) within the last-level cache; larger chunks spill, smaller ones add loop overhead.
CHUNK_SIZE = 512

Body = Callable[..., tuple[Any, Any, Any]]


class TokenLogProbs(NamedTuple):
    """Per token, each [B, L] in the logits dtype.

    Attributes:
      log_probs: of the target. log_normalizer: log-sum-exp of the scores. entropy: of the distribution, or None.
    """

    log_probs: jax.Array
    log_normalizer: jax.Array
    entropy: jax.Array | None


class SummedCrossEntropy(NamedTuple):
    """Weighted sums over tokens, scalars; only `loss` has a gradient.

    Attributes:
      loss: nll + z_loss + max_z_loss. nll: -log p(target). z_loss: coefficient * log_normalizer ** 2.
      max_z_loss: coefficient * highest score ** 2.
      correct: weight of the tokens whose target has the highest score.
    """

    loss: jax.Array
    nll: jax.Array
    z_loss: jax.Array
    max_z_loss: jax.Array
    correct: jax.Array


def token_log_probs(
    head: Any,
    hidden_BLD: jax.Array,
    targets_BL: jax.Array,
    *,
    chunk_size: int = CHUNK_SIZE,
    entropy: bool = False,
) -> TokenLogProbs:
    """Log-probability of each target under `head`, differentiable in the head's parameters and in hidden.

    Equal to jax.nn.log_softmax(head.logits(hidden)) at the targets, up to rounding. The backward pass computes the
    scores again, chunk by chunk.

    Args:
      head: a module with `logits(hidden [..., D]) -> [..., V]`.
      chunk_size: tokens a device scores at once. entropy: also compute the entropy of every distribution.
    """
    graphdef, parameters = nnx.split(head)

    def logits(parameters: Any, hidden: jax.Array) -> jax.Array:
        return head_logits(graphdef, parameters, hidden)

    def forward(parameters: Any, x_TD: jax.Array, targets_T: jax.Array) -> tuple[Any, Any, Any]:
        def chunk(x_CD: jax.Array, targets_C: jax.Array) -> tuple[jax.Array, ...]:
            scores_CV = logits(parameters, x_CD)
            log_z_C, target_C, _ = _normalizer(scores_CV, targets_C)
            if not entropy:
                return target_C - log_z_C, log_z_C
            return target_C - log_z_C, log_z_C, _entropy(scores_CV, log_z_C)

        return (), None, jax.lax.map(lambda pair: chunk(*pair), (x_TD, targets_T))

    def backward(parameters: Any, x_TD: jax.Array, targets_T: jax.Array, *cotangents: jax.Array) -> tuple[Any, ...]:
        def step(total: Any, inputs: Any) -> tuple[Any, jax.Array]:
            x_CD, targets_C, cotangents_C = inputs
            scores_CV, pull = jax.vjp(logits, parameters, x_CD)
            log_z_C, _, _ = _normalizer(scores_CV, targets_C)
            p_CV = jnp.exp(scores_CV - log_z_C[:, None])
            to_target, to_log_z, *to_entropy = (c[:, None] for c in cotangents_C)
            d_CV = to_target * (_one_hot(scores_CV, targets_C) - p_CV) + to_log_z * p_CV
            for to_h in to_entropy:  # dH/dscore = -p (log p + H)
                log_p_CV = scores_CV - log_z_C[:, None]
                d_CV -= to_h * p_CV * (log_p_CV + _entropy(scores_CV, log_z_C)[:, None])
            d_parameters, d_x_CD = pull(d_CV.astype(scores_CV.dtype))
            return accumulate(total, d_parameters), d_x_CD

        return (), *jax.lax.scan(step, accumulators(parameters), (x_TD, targets_T, cotangents))

    def scored(applied: Any, hidden: jax.Array, targets: jax.Array) -> tuple[jax.Array, ...]:
        return over_tokens(forward, chunk_size, applied, hidden, targets)[2]

    @jax.custom_vjp
    def apply(parameters: Any, hidden: jax.Array, targets: jax.Array) -> tuple[jax.Array, ...]:
        return scored(narrow(head, parameters), hidden, targets)

    def apply_forward(parameters: Any, *arrays: jax.Array) -> tuple[Any, Any]:
        applied = narrow(head, parameters)  # kept, so that both passes gather the same array: once
        return scored(applied, *arrays), (parameters, applied, *arrays)

    def apply_backward(saved: Any, cotangents: Any) -> tuple[Any, Any, None]:
        parameters, applied, hidden, targets = saved
        _, d_parameters, d_hidden = over_tokens(
            backward, chunk_size, applied, hidden, targets, *cotangents, trained=applied
        )
        return cast_like(d_parameters, parameters), d_hidden.astype(hidden.dtype), None

    apply.defvjp(apply_forward, apply_backward)
    log_probs, log_z, *rest = apply(parameters, hidden_BLD, targets_BL)
    return TokenLogProbs(log_probs, log_z, rest[0] if rest else None)


def summed_cross_entropy(
    head: Any,
    hidden_BLD: jax.Array,
    targets_BL: jax.Array,
    weights_BL: jax.Array,
    *,
    z_loss: float = 0.0,
    max_z_loss: float = 0.0,
    chunk_size: int = CHUNK_SIZE,
) -> SummedCrossEntropy:
    """sum(weights * (-log p + z_loss * log_normalizer ** 2 + max_z_loss * highest score ** 2)), gradient in one pass.

    The loss is a scalar, so its gradient is known up to a factor while a chunk's scores are at hand: a training
    step scores each token once, where differentiating `token_log_probs` scores it twice.

    Args:
      weights_BL: loss weights, 0 on padding; differentiable as well.
      z_loss: coefficient of the squared log-normalizer (Chowdhery et al. 2022, section 5, use 1e-4).
      max_z_loss: coefficient of the squared highest score (Yang et al. 2023, Baichuan 2, section 2.5, use 2e-4).
    """
    graphdef, parameters = nnx.split(head)

    def logits(parameters: Any, hidden: jax.Array) -> jax.Array:
        return head_logits(graphdef, parameters, hidden)

    def sums(scores_CV: jax.Array, targets_C: jax.Array, weights_C: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        log_z_C, target_C, best_C = _normalizer(scores_CV, targets_C)
        nll_C, z_C = log_z_C - target_C, z_loss * jnp.square(log_z_C)
        max_z_C = max_z_loss * jnp.square(best_C)
        loss_C = nll_C + z_C + max_z_C
        parts = (loss_C, nll_C, z_C, max_z_C, (target_C >= best_C).astype(nll_C.dtype))
        return SummedCrossEntropy(*(jnp.sum(weights_C * part) for part in parts)), loss_C, log_z_C

    def forward(parameters: Any, x_TD: jax.Array, targets_T: jax.Array, weights_T: jax.Array) -> tuple[Any, ...]:
        def step(total: Any, inputs: Any) -> tuple[Any, None]:
            x_CD, targets_C, weights_C = inputs
            return accumulate(total, sums(logits(parameters, x_CD), targets_C, weights_C)[0]), None

        zeros = SummedCrossEntropy(*(jnp.zeros((), jnp.float32) for _ in SummedCrossEntropy._fields))
        total, _ = jax.lax.scan(step, zeros, (x_TD, targets_T, weights_T))
        return total, None, ()

    def with_gradient(parameters: Any, x_TD: jax.Array, targets_T: jax.Array, weights_T: jax.Array) -> tuple[Any, ...]:
        def step(total: Any, inputs: Any) -> tuple[Any, Any]:
            x_CD, targets_C, weights_C = inputs
            scores_CV, pull = jax.vjp(logits, parameters, x_CD)
            part, loss_C, log_z_C = sums(scores_CV, targets_C, weights_C)
            d_CV = _score_gradient(scores_CV, targets_C, weights_C, log_z_C, z_loss, max_z_loss)
            d_parameters, d_x_CD = pull(d_CV.astype(scores_CV.dtype))
            return (accumulate(total[0], part), accumulate(total[1], d_parameters)), (d_x_CD, loss_C)

        zeros = SummedCrossEntropy(*(jnp.zeros((), jnp.float32) for _ in SummedCrossEntropy._fields))
        both, per_token = jax.lax.scan(step, (zeros, accumulators(parameters)), (x_TD, targets_T, weights_T))
        return *both, per_token

    @jax.custom_vjp
    def apply(parameters: Any, hidden: jax.Array, targets: jax.Array, weights: jax.Array) -> SummedCrossEntropy:
        return over_tokens(forward, chunk_size, narrow(head, parameters), hidden, targets, weights)[0]

    def apply_forward(parameters: Any, hidden: jax.Array, targets: jax.Array, weights: jax.Array) -> tuple[Any, Any]:
        applied = narrow(head, parameters)
        total, d_parameters, (d_hidden, loss) = over_tokens(
            with_gradient, chunk_size, applied, hidden, targets, weights, trained=applied
        )
        return total, (cast_like(d_parameters, parameters), d_hidden, loss.astype(weights.dtype))

    def apply_backward(gradients: Any, cotangent: SummedCrossEntropy) -> tuple[Any, Any, None, Any]:
        d_parameters, d_hidden, d_weights = jax.tree.map(lambda g: (g * cotangent.loss).astype(g.dtype), gradients)
        return d_parameters, d_hidden, None, d_weights

    apply.defvjp(apply_forward, apply_backward)
    total = apply(parameters, hidden_BLD, targets_BL, weights_BL.astype(jnp.float32))
    return SummedCrossEntropy(total.loss, *map(jax.lax.stop_gradient, total[1:]))


def head_logits(graphdef: Any, parameters: Any, hidden: jax.Array) -> jax.Array:
    """Scores [C, V] of a head that nnx.split took apart."""
    return mesh.constrain(nnx.merge(graphdef, parameters).logits(hidden), (None, "act_vocab"))


def _score_gradient(
    scores_CV: jax.Array,
    targets_C: jax.Array,
    weights_C: jax.Array,
    log_z_C: jax.Array,
    z_loss: float,
    max_z_loss: float,
) -> jax.Array:
    """d loss / d score = weight * (p * (1 + 2 z log_normalizer) - one_hot(target) + 2 m best * one_hot(best))."""
    factor_C = weights_C * (1 + 2 * z_loss * log_z_C)
    p_CV = jnp.exp(scores_CV - log_z_C[:, None])
    d_CV = factor_C[:, None] * p_CV - weights_C[:, None] * _one_hot(scores_CV, targets_C)
    if not max_z_loss:
        return d_CV
    pull_down_C = 2 * max_z_loss * weights_C * jnp.max(scores_CV, axis=-1)
    return d_CV + pull_down_C[:, None] * _one_hot(scores_CV, jnp.argmax(scores_CV, axis=-1))


def _one_hot(scores_CV: jax.Array, targets_C: jax.Array) -> jax.Array:
    # A comparison fuses into its neighbours and splits along a sharded vocabulary; a gather would collect the scores.
    return targets_C[:, None] == jnp.arange(scores_CV.shape[-1], dtype=targets_C.dtype)


def _normalizer(scores_CV: jax.Array, targets_C: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Log-sum-exp, the target's score and the highest score, each [C]."""
    best_C = jnp.max(scores_CV, axis=-1)
    log_z_C = best_C + jnp.log(jnp.sum(jnp.exp(scores_CV - best_C[:, None]), axis=-1))
    target_C = jnp.sum(jnp.where(_one_hot(scores_CV, targets_C), scores_CV, 0), axis=-1)
    return log_z_C, target_C, best_C


def _entropy(scores_CV: jax.Array, log_z_C: jax.Array) -> jax.Array:
    log_p_CV = scores_CV - log_z_C[:, None]
    return -jnp.sum(jnp.exp(log_p_CV) * log_p_CV, axis=-1)


def accumulators(tree: Any) -> Any:
    """Zeros of the same shapes, float32 at least: sums over chunks."""
    return jax.tree.map(lambda a: jnp.zeros(a.shape, jnp.promote_types(a.dtype, jnp.float32)), tree)


def accumulate(total: Any, part: Any) -> Any:
    """The sum of two trees in the first one's dtypes."""
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, part)


def cast_like(tree: Any, like: Any) -> Any:
    """A tree in the dtypes of another."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)


def over_tokens(
    body: Body, chunk_size: int, parameters: Any, *arrays: jax.Array, trained: Any = None
) -> tuple[Any, Any, Any]:
    """Runs `body` on every device's own tokens in chunks.

    Args:
      body: (parameters, *arrays [N, C, ...]) -> (sums over tokens, the gradient of `trained` over tokens or None,
        per-token arrays [N, C, ...]).
      parameters: every device gets them whole but for what automatic axes split, in the format given (see `narrow`).
      arrays: [B, L, ...]; padded chunks hold zeros, so weights and cotangents of padding are zero.
      trained: the part of `parameters` whose gradient body gives.

    Returns:
      (sums over all devices, the gradient over all devices, split as the table of gradients has it, per-token arrays
      [B, L, ...]).
    """

    def local(parameters: Any, *arrays: jax.Array) -> tuple[Any, Any, Any]:
        rows, length = arrays[0].shape[:2]
        tokens = rows * length
        size = min(chunk_size, tokens)
        padding = -tokens % size

        def split(array: jax.Array) -> jax.Array:
            flat = array.reshape((tokens, *array.shape[2:]))
            flat = jnp.pad(flat, ((0, padding),) + ((0, 0),) * (flat.ndim - 1)) if padding else flat
            return flat.reshape((-1, size, *flat.shape[1:]))

        def join(array: jax.Array) -> jax.Array:
            return array.reshape((-1, *array.shape[2:]))[:tokens].reshape((rows, length, *array.shape[2:]))

        sums, gradient, per_token = body(parameters, *map(split, arrays))
        return sums, gradient, jax.tree.map(join, per_token)

    spec, axes = mesh.token_axes(arrays[0].shape[:2])
    if not axes:
        return local(parameters, *arrays)

    leaving = gradient_specs(trained, axes)

    def manual(parameters: Any, *arrays: jax.Array) -> tuple[Any, Any, Any]:
        sums, gradient, per_token = local(parameters, *arrays)
        return jax.lax.psum(sums, axes), reduce_scattered(gradient, leaving, axes), per_token

    # check_vma=False: the sums are reduced by hand above, once, instead of where the checker would place it.
    return jax.shard_map(
        manual,
        in_specs=(PartitionSpec(), *(spec for _ in arrays)),
        out_specs=(PartitionSpec(), leaving, spec),
        axis_names=set(axes),
        check_vma=False,
    )(parameters, *arrays)
