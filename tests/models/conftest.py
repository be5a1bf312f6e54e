"""Small configurations shared by the model tests."""

import dataclasses

import pytest

from t5x_style.models import specs as parts


def small_config(**changes):
    """A three-layer decoder of width 32 over 61 ids, with grouped queries and a padded vocabulary."""
    attention = parts.AttentionSpec(heads=4, kv_heads=2, head_dim=8)
    layer = parts.LayerSpec(attention, parts.MlpSpec(hidden=48))
    layer_changes = {name: changes.pop(name) for name in ("placement", "norm", "mlp") if name in changes}
    attention_changes = changes.pop("attention", {})
    layer = dataclasses.replace(layer, attention=dataclasses.replace(attention, **attention_changes), **layer_changes)
    settings = {"vocab_size": 61, "vocab_multiple": 16, "embed_dim": 32, "remat": "none", "scan": False}
    settings["segments"] = (parts.LayerGroup((layer,), 3),)
    return parts.DecoderConfig(**{**settings, **changes})


@pytest.fixture
def make_config():
    return small_config


@pytest.fixture(scope="module", autouse=True)
def _compile_quickly(quick_to_compile):
    """These tests compile many small models."""
