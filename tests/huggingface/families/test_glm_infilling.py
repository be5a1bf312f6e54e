"""The first GLM with blocks to fill in: bidirectional context and two positions a token, against slow numpy."""

import numpy as np
from flax import nnx

from tests.parity import pairs
from tests.parity.cases.glm_infilling import CASES
from tests.parity.references import glm_infilling as reference

CONTEXT, LENGTH = 7, 15


def test_filled_in_blocks_equal_the_reference():
    pair = pairs.make(CASES["glm-infilling"])
    random = np.random.default_rng(1)
    tokens = random.integers(3, 99, (1, LENGTH))
    # two masked spans, at 2 and 5 of the context, filled in behind it in another order (Du et al. 2022, figure 2)
    positions = [*range(CONTEXT), 5, 5, 5, 2, 2, 2, 2, 2]
    blocks = [0] * CONTEXT + [1, 2, 3, 1, 2, 3, 4, 5]
    places = np.stack([positions, blocks], axis=-1)
    prefix = np.arange(LENGTH)[None] < CONTEXT

    @nnx.jit
    def logits_of(model, tokens, places, prefix):
        return model.head.logits(model(tokens, positions=places, causal_attention=prefix))

    logits = np.asarray(logits_of(pair.model, tokens, places[None], prefix))
    weights = {name.removeprefix("glm."): np.asarray(value, np.float64) for name, value in pair.tensors.items()}
    expected = reference.infilled(pair.settings, weights, tokens[0].tolist(), places.tolist(), CONTEXT)
    np.testing.assert_allclose(logits[0, :, :99], expected, atol=2e-4, rtol=2e-4)
