"""From a factorisation order to the masks of permutation language models (Yang et al. 2019, sections 2.2 and 2.3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError


def permutation_inputs(
    order: jax.Array, targets: jax.Array, *, visible_context: bool = False
) -> tuple[jax.Array, jax.Array]:
    """What XLNet needs to predict `targets`, each from all that comes before it in the order.

    Worked example, four tokens, factorised as x2, x1, x3, x0, of which the last two in the order are predicted:

        order [[2, 1, 3, 0]]      targets [[3, 0]]

        permutation_mask, 1: row must not see column        target_mapping
            0  1 0 0 0    x0 is last: it sees 1, 2, 3           0 0 0 1    prediction 0 is x3, given x2 and x1
            1  1 1 0 1    x1 sees 2                             1 0 0 0    prediction 1 is x0, given x2, x1 and x3
            2  1 1 1 1    x2 is first: it sees nothing
            3  1 0 0 1    x3 sees 1, 2

    The content stream sees itself besides, whatever the mask says. With `visible_context` x1 and x2, which nobody
    predicts, see each other:

            1  1 0 0 1
            2  1 0 0 1

    Args:
      order: [B, L] int; order[b, t] is the position that comes t-th, a permutation of 0 .. L - 1 (not checked).
      targets: [B, P] int positions to predict, usually the last of the order; -1 predicts nothing (its row of the
        mapping is 0, give it no loss weight).
      visible_context: positions that are no targets come before all targets and see each other both ways, as in the
        released pretraining code; it tells a target's prediction nothing about itself or later targets.

    Returns:
      (permutation_mask [B, L, L] int32, target_mapping [B, P, L] float32).

    Raises:
      UserError: arrays whose shapes do not fit.
    """
    order, targets = jnp.asarray(order), jnp.asarray(targets)
    if order.ndim != 2 or targets.ndim != 2 or order.shape[0] != targets.shape[0]:
        raise UserError(
            f"permutation_inputs: order has shape {order.shape} and targets {targets.shape}; give [batch, length] and "
            "[batch, predictions]"
        )
    mapping_BPL = targets[:, :, None] == jnp.arange(order.shape[1])
    rank_BL = jnp.argsort(order, axis=1)
    if visible_context:
        chosen_BL = jnp.any(mapping_BPL, axis=1)
        # one rank for the whole context, which sees what has its own rank
        rank_BL = jnp.where(chosen_BL, rank_BL, -1)
        hidden_BLL = (rank_BL[:, :, None] <= rank_BL[:, None, :]) & chosen_BL[:, None, :]
    else:
        hidden_BLL = rank_BL[:, :, None] <= rank_BL[:, None, :]
    return hidden_BLL.astype(jnp.int32), mapping_BPL.astype(jnp.float32)
