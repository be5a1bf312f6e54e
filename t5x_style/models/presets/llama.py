"""LLaMA 1, 2, 3, 3.1 and 3.2: pre-norm RMSNorm, gated SiLU, rotary positions, grouped queries.

Sizes: LLaMA (Touvron et al. 2023a), table 2; LLaMA 2 (Touvron et al. 2023b), table 1 and appendix A.2; The Llama 3 Herd
of Models (Dubey et al. 2024), table 3; LLaMA 3.2 as its release has them.

Alpaca and Vicuna are LLaMA 1 with instruction data: `llama1(size, vocab_size=32001)` for Alpaca and Vicuna 1.0, whose
padding token has a row of its own; Vicuna 1.1 and 1.3 have 32000, Vicuna 1.5 is `llama2`.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, arguments, choose
from t5x_style.models.specs.checks import check


class Shape(NamedTuple):
    """A published size."""

    embed_dim: int
    layers: int
    heads: int
    kv_heads: int
    mlp_hidden: int
    vocab_size: int
    norm_epsilon: float = 1e-5
    tied_embeddings: bool = False


LLAMA1 = {
    "tiny": Shape(64, 2, 4, 4, 192, 1024, 1e-6),
    "7b": Shape(4096, 32, 32, 32, 11008, 32000, 1e-6),
    "13b": Shape(5120, 40, 40, 40, 13824, 32000, 1e-6),
    "33b": Shape(6656, 60, 52, 52, 17920, 32000, 1e-6),
    "65b": Shape(8192, 80, 64, 64, 22016, 32000, 1e-5),
}
LLAMA2 = {
    "tiny": Shape(64, 2, 4, 2, 192, 1024),
    "7b": Shape(4096, 32, 32, 32, 11008, 32000),
    "13b": Shape(5120, 40, 40, 40, 13824, 32000),
    "70b": Shape(8192, 80, 64, 8, 28672, 32000),
}
LLAMA3 = {
    "tiny": Shape(64, 2, 4, 2, 224, 1024),
    "8b": Shape(4096, 32, 32, 8, 14336, 128256),
    "70b": Shape(8192, 80, 64, 8, 28672, 128256),
}
LLAMA3_1 = {**LLAMA3, "405b": Shape(16384, 126, 128, 8, 53248, 128256)}
LLAMA3_2 = {
    "tiny": Shape(64, 2, 4, 2, 224, 1024, tied_embeddings=True),
    "1b": Shape(2048, 16, 32, 8, 8192, 128256, tied_embeddings=True),
    "3b": Shape(3072, 28, 24, 8, 8192, 128256, tied_embeddings=True),
}


def llama(
    vocab_size: int,
    embed_dim: int,
    layers: int,
    heads: int,
    kv_heads: int | None = None,
    mlp_hidden: int | None = None,
    head_dim: int | None = None,
    rope_base: float = 10000.0,
    rope_scaling: parts.RopeScaling | None = None,
    norm_epsilon: float = 1e-5,
    tied_embeddings: bool = False,
    attention_bias: bool = False,
    qkv_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    window: int | None = None,
    experts: int | None = None,
    experts_per_token: int = 2,
    balance_weight: float = 0.01,
    vocab_multiple: int = 128,
    init: parts.InitSpec | None = None,
    dropout: parts.DropoutSpec = parts.NO_DROPOUT,
) -> parts.DecoderConfig:
    """The configuration of a LLaMA-style decoder.

    Args:
      kv_heads: None means `heads`. head_dim: None means embed_dim // heads.
      mlp_hidden: None means 8/3 of embed_dim rounded up to a multiple of 64 (LLaMA, section 2.2, uses 2/3 * 4d).
      attention_bias: biases on all four attention projections, as transformers' LlamaConfig has it.
      qkv_bias: biases on queries, keys and values only (Qwen2). qk_norm: RMSNorm of queries and keys (Qwen3).
      window: positions a query sees, itself included (Mistral); None: all before it.
      experts: the feed-forward block is a mixture of so many, `experts_per_token` at work (Mixtral); None: one block.
        balance_weight: of its load-balance loss.
      dropout: none was published by any of these families.

    Raises:
      UserError: numbers that do not fit together.
    """
    check(heads >= 1, f"llama: heads is {heads}; give at least 1")
    check(
        head_dim is not None or embed_dim % heads == 0,
        f"llama: embed_dim {embed_dim} does not divide over {heads} heads; give head_dim",
    )
    norm = parts.NormSpec("rmsnorm", norm_epsilon)
    mlp = parts.MlpSpec(hidden=-(-8 * embed_dim // 3 // 64) * 64 if mlp_hidden is None else mlp_hidden, bias=mlp_bias)
    layer = parts.LayerSpec(
        attention=parts.AttentionSpec(
            heads=heads,
            kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=embed_dim // heads if head_dim is None else head_dim,
            window=window,
            rope=parts.RopeSpec(rope_base, rope_scaling),
            qkv_bias=attention_bias or qkv_bias,
            output_bias=attention_bias,
            qk_norm=norm if qk_norm else None,
        ),
        mlp=mlp if experts is None else parts.MoeSpec(experts, experts_per_token, mlp, balance_weight=balance_weight),
        norm=norm,
    )
    return parts.DecoderConfig(
        vocab_size=vocab_size,
        vocab_multiple=vocab_multiple,
        embed_dim=embed_dim,
        segments=(parts.LayerGroup((layer,), layers),),
        final_norm=norm,
        tied_embeddings=tied_embeddings,
        init=parts.InitSpec() if init is None else init,
        dropout=dropout,
    )


def llama1(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """LLaMA 1; `size` is one of LLAMA1. vocab_size: None is the published one."""
    return _sized(choose(LLAMA1, size, "llama1"), vocab_size, 10000.0, None, options)


def llama2(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """LLaMA 2; `size` is one of LLAMA2. vocab_size: None is the published one."""
    return _sized(choose(LLAMA2, size, "llama2"), vocab_size, 10000.0, None, options)


def llama3(size: str = "8b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """LLaMA 3, trained on 8,192 tokens; `size` is one of LLAMA3. vocab_size: None is the published one."""
    return _sized(choose(LLAMA3, size, "llama3"), vocab_size, 500000.0, None, options)


def llama3_1(size: str = "8b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """LLaMA 3.1 and 3.3, stretched to 131,072 tokens; `size` is one of LLAMA3_1. vocab_size: None is as published."""
    return _sized(choose(LLAMA3_1, size, "llama3_1"), vocab_size, 500000.0, 8.0, options)


def llama3_2(size: str = "1b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """LLaMA 3.2's text models, with tied heads; `size` is one of LLAMA3_2. vocab_size: None is the published one."""
    return _sized(choose(LLAMA3_2, size, "llama3_2"), vocab_size, 500000.0, 32.0, options)


def _sized(
    shape: Shape, vocab_size: int | None, rope_base: float, stretched: float | None, options: Options
) -> parts.DecoderConfig:
    scaling = None if stretched is None else parts.RopeScaling("llama3", stretched)
    return llama(
        **arguments(shape, vocab_size),
        rope_base=rope_base,
        rope_scaling=scaling,
        **options,
    )
