"""The decoders' and T5's presets with their tables of sizes, and the model_type that holds each in transformers."""

from t5x_style.models.presets import bloom, gemma, gpt1, gpt2, gpt3, llama, mistral, mixtral, qwen, t5, ul2

PRESETS = {
    llama.llama1: llama.LLAMA1,
    llama.llama2: llama.LLAMA2,
    llama.llama3: llama.LLAMA3,
    llama.llama3_1: llama.LLAMA3_1,
    llama.llama3_2: llama.LLAMA3_2,
    mistral.mistral: mistral.SIZES,
    mixtral.mixtral: mixtral.SIZES,
    qwen.qwen2: qwen.QWEN2,
    qwen.qwen2_5: qwen.QWEN2_5,
    qwen.qwen3: qwen.QWEN3,
    gemma.gemma2: gemma.GEMMA2,
    gemma.gemma3: gemma.GEMMA3,
    gpt1.gpt1: gpt1.SIZES,
    gpt2.gpt2: gpt2.SIZES,
    gpt3.gpt3: gpt3.GPT3,
    gpt3.gpt_neo: gpt3.GPT_NEO,
    bloom.bloom: bloom.SIZES,
    t5.t5: t5.T5,
    t5.t5_v1_1: t5.V1_1,
    t5.mt5: t5.V1_1,
    ul2.ul2: ul2.SIZES,
}
# Family module and model_type; the function's own name where it is not here.
_FAMILIES = {
    "llama1": ("llama", "llama"),
    "llama2": ("llama", "llama"),
    "llama3": ("llama", "llama"),
    "llama3_1": ("llama", "llama"),
    "llama3_2": ("llama", "llama"),
    "mistral": ("llama", "mistral"),
    "mixtral": ("llama", "mixtral"),
    "qwen2": ("llama", "qwen2"),
    "qwen2_5": ("llama", "qwen2"),
    "qwen3": ("llama", "qwen3"),
    "gemma2": ("gemma", "gemma2"),
    "gemma3": ("gemma", "gemma3_text"),
    "gpt1": ("gpt1", "openai-gpt"),
    "gpt_neo": ("gpt3", "gpt_neo"),
    "t5_v1_1": ("t5", "t5"),
    "mt5": ("t5", "mt5"),
    "ul2": ("t5", "t5"),
}
FAMILIES = {preset: _FAMILIES.get(preset.__name__, (preset.__name__,) * 2) for preset in PRESETS}
EVERY = [(preset, size) for preset, sizes in PRESETS.items() for size in sizes]
# The first published size of each: what `make test` looks at where every size says the same again.
ONE_EACH = {preset: next(size for size in sizes if size != "tiny") for preset, sizes in PRESETS.items()}
IDS = [f"{preset.__name__}-{size}" for preset, size in EVERY]
