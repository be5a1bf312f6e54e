"""ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B (Zeng et al. 2024, section 2, and the released configurations)."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size; kv_heads: None where every head has keys and values of its own."""

    embed_dim: int
    layers: int
    heads: int
    mlp_hidden: int
    vocab_size: int
    kv_heads: int | None = None


CHATGLM = {
    "tiny": Shape(64, 2, 4, 256, 1024),
    "6b": Shape(4096, 28, 32, 16384, 130528),
}
CHATGLM2 = {
    "tiny": Shape(64, 2, 4, 192, 1024, 2),
    "6b": Shape(4096, 28, 32, 13696, 65024, 2),
}
CHATGLM3 = CHATGLM2


def chatglm(size: str = "6b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """ChatGLM-6B: residuals of scaled normalised inputs, positions in two dimensions; `size` is one of CHATGLM.

    Its 6.2 billion parameters count the vocabulary table once; the released files hold it twice, as the model here.

    Args:
      vocab_size: None is the published one.
    """
    shape = choose(CHATGLM, size, "chatglm")
    norm = parts.NormSpec("layernorm", 1e-5)
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.embed_dim // shape.heads,
        rope=parts.RopeSpec(two_dimensional=True),
        qkv_bias=True,
        output_bias=True,
    )
    mlp = parts.MlpSpec(shape.mlp_hidden, "gelu_tanh", gated=False, bias=True)
    layer = parts.LayerSpec(attention, mlp, norm, placement="normed", residual_scale=(2 * shape.layers) ** 0.5)
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=norm,
        **options,
    )


def chatglm2(size: str = "6b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """ChatGLM2: a causal gated RMSNorm decoder with two groups of keys; `size` is one of CHATGLM2."""
    return _second(choose(CHATGLM2, size, "chatglm2"), vocab_size, options)


def chatglm3(size: str = "6b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """ChatGLM3: ChatGLM2's architecture, trained on; `size` is one of CHATGLM3."""
    return _second(choose(CHATGLM3, size, "chatglm3"), vocab_size, options)


def _second(shape: Shape, vocab_size: int | None, options: Options) -> parts.DecoderConfig:
    norm, head_dim = parts.NormSpec("rmsnorm", 1e-5), shape.embed_dim // shape.heads
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.heads if shape.kv_heads is None else shape.kv_heads,
        head_dim=head_dim,
        rope=parts.RopeSpec(dim=head_dim // 2, interleaved=True),
        qkv_bias=True,
    )
    layer = parts.LayerSpec(attention, parts.MlpSpec(shape.mlp_hidden), norm)
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=norm,
        **options,
    )
