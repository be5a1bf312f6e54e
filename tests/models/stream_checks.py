"""As execution_checks, for XLNet's two streams and for recurrent models: on 8 devices as a program of its own."""

import json
import os
import sys

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # see quick_to_compile in tests/conftest.py
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style import mesh as meshes
from t5x_style.models import specs as parts
from t5x_style.models.permutation import permutation_inputs
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig
from tests.models import execution_checks as checks


def xlnet(**changes):
    causal = changes.pop("causal", False)
    layer = parts.LayerSpec(
        parts.AttentionSpec(4, 4, 8, causal=causal, rope=None),
        parts.MlpSpec(32, "gelu", gated=False, bias=True),
        parts.NormSpec("layernorm"),
        "post",
    )
    settings = {"final_norm": None, "tied_embeddings": True, "head": parts.HeadSpec(bias=True)}
    return checks.stack(XLNetConfig, parts.LayerGroup((layer,), 3), **{**settings, **changes})


def recurrent(cell, **changes):
    settings = {"vocab_size": checks.VOCAB, "vocab_multiple": 8, "init": parts.InitSpec(0.3), **changes}
    return RecurrentConfig(embed_dim=checks.WIDTH, hidden_sizes=(32, 32), cell=cell, **settings)


CONFIGS = {"lstm": recurrent("lstm", projection=24), "gru": recurrent("gru"), "xlnet": xlnet()}


def value_and_gradient(graphdef):
    """(state, tokens, others, segments) -> ((scalar, logits), gradient); XLNet predicts the last ten of an order."""
    order = np.argsort(np.random.default_rng(2).normal(size=(checks.BATCH, checks.LENGTH)), axis=1)
    mask, mapping = permutation_inputs(order, order[:, -10:])

    def loss(state, tokens, others, segments):
        model = nnx.merge(graphdef, state)
        extra, weights = {}, (segments != 0)[..., None]
        if isinstance(model.config, XLNetConfig):
            extra = {"permutation_mask": mask, "target_mapping": mapping, "token_types": others % 2}
            weights = jnp.einsum("BPL,BLX->BPX", mapping, weights)
        logits = model.head.logits(model(tokens, segment_ids=segments, **extra))[..., : checks.VOCAB]
        return jnp.sum(jnp.sin(logits) * weights), logits * weights

    return jax.value_and_grad(loss, has_aux=True)


def result(config, execution=checks.PLAIN, mesh_config=None):
    """As execution_checks.result, with this file's loss."""
    return checks.result(config, execution, mesh_config, value_and_gradient)


def main():
    mesh_config = meshes.MeshConfig(data=2, fsdp=2, tensor=2)
    findings = {}
    for name, config in CONFIGS.items():
        findings[name] = checks.differences(result(config, parts.DEFAULT_EXECUTION, mesh_config), result(config))
    sys.stdout.write(json.dumps(findings) + "\n")


if __name__ == "__main__":
    main()
