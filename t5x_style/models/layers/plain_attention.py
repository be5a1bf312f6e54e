"""Attention with all scores at once, as XLA computes it: over a cache in decoding, and where a run asks for it.

Array suffixes: B batch, G key/value heads, R query heads of one key/value head, L queries, S keys, K head_dim.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from t5x_style.models import randomness
from t5x_style.models.layers import blockwise, masks


def attend(
    q_BGRLK: jax.Array,
    k_BGSK: jax.Array,
    v_BGSK: jax.Array,
    sight: masks.Sight,
    form: blockwise.Form,
    bias_GRLS: jax.Array | None = None,
    dropout: float = 0.0,
    place: str = "attention weights",
) -> jax.Array:
    """softmax(q k^T + bias) v with queries already scaled; grouped keys and values are never repeated.

    The same numbers as `blockwise.attend` to rounding, for queries and keys at any slots.

    Args:
      dropout: share of the weights that is dropped in training, at this place (see models/randomness.py).

    Returns:
      [B, G, R, L, K] in the dtype of v.
    """
    scores_BGRLS = jnp.einsum("BGRLK,BGSK->BGRLS", q_BGRLK, k_BGSK, preferred_element_type=form.softmax_dtype)
    if form.softcap is not None:
        scores_BGRLS = form.softcap * jnp.tanh(scores_BGRLS / form.softcap)
    if bias_GRLS is not None:
        scores_BGRLS = scores_BGRLS + bias_GRLS.astype(scores_BGRLS.dtype)
    mask_BLS = masks.visible(sight, causal=form.causal, window=form.window)
    if mask_BLS is not None:
        # The lowest finite number, not -inf: a padded row that sees nothing stays finite.
        scores_BGRLS = jnp.where(mask_BLS[:, None, None], scores_BGRLS, jnp.finfo(form.softmax_dtype).min)
    weights_BGRLS = randomness.dropout(jax.nn.softmax(scores_BGRLS, axis=-1), dropout, place).astype(v_BGSK.dtype)
    return jnp.einsum("BGRLS,BGSK->BGRLK", weights_BGRLS, v_BGSK)
