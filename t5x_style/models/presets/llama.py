"""LLaMA 1, 2 and 3: pre-norm RMSNorm, gated SiLU, rotary positions, grouped queries.

Published sizes (LLaMA, table 2; LLaMA 2, table 1; The Llama 3 Herd of Models, table 3):

    size  embed_dim  layers  heads  kv_heads  mlp_hidden  vocab    rope_base
    7B    4096       32      32     32        11008       32000    10000
    70B   8192       80      64     8         28672       32000    10000
    3-8B  4096       32      32     8         14336       128256   500000
"""

from __future__ import annotations

from typing import Literal

from t5x_style.models import config as parts


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
    mlp_bias: bool = False,
    vocab_multiple: int = 128,
    init: parts.InitSpec | None = None,
    remat: Literal["none", "full", "dots"] = "full",
    scan: bool = True,
) -> parts.DecoderConfig:
    """The configuration of a LLaMA-style decoder.

    Args:
      kv_heads: None means `heads`. head_dim: None means embed_dim // heads.
      mlp_hidden: None means 8/3 of embed_dim rounded up to a multiple of 64 (LLaMA, section 2.2, uses 2/3 * 4d).
      attention_bias: biases on all four attention projections, as transformers' LlamaConfig has it.

    Raises:
      UserError: numbers that do not fit together.
    """
    parts.check(heads >= 1, f"llama: heads is {heads}; give at least 1")
    parts.check(
        head_dim is not None or embed_dim % heads == 0,
        f"llama: embed_dim {embed_dim} does not divide over {heads} heads; give head_dim",
    )
    norm = parts.NormSpec("rmsnorm", norm_epsilon)
    layer = parts.LayerSpec(
        attention=parts.AttentionSpec(
            heads=heads,
            kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=embed_dim // heads if head_dim is None else head_dim,
            rope=parts.RopeSpec(rope_base, rope_scaling),
            qkv_bias=attention_bias,
            output_bias=attention_bias,
        ),
        mlp=parts.MlpSpec(
            hidden=-(-8 * embed_dim // 3 // 64) * 64 if mlp_hidden is None else mlp_hidden,
            bias=mlp_bias,
        ),
        norm=norm,
    )
    return parts.DecoderConfig(
        vocab_size=vocab_size,
        vocab_multiple=vocab_multiple,
        embed_dim=embed_dim,
        segments=(parts.Segment((layer,), layers),),
        final_norm=norm,
        tied_embeddings=tied_embeddings,
        init=parts.InitSpec() if init is None else init,
        remat=remat,
        scan=scan,
    )
