"""The short names that gin files and the command line may use, as text: module -> what is in it.

Nothing here is imported until a file names it; a test resolves every entry. A program with parts of its own hands its
table to `config.load` (beam_pipelines/web/gin_names.py does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SPECS = "t5x_style.models.specs"
_PRESETS = "t5x_style.models.presets"
MODULES: Mapping[str, Sequence[str]] = {
    # the run
    "t5x_style.training.run": ("TrainRun", "Evaluation"),
    "t5x_style.training.guard": ("GuardConfig",),
    "t5x_style.training.optimizers": ("AdamW", "Lion"),
    "t5x_style.training.schedules": ("Constant", "Cosine", "InverseSqrt", "Linear"),
    "t5x_style.training.extras": ("Ema",),
    "t5x_style.mesh": ("MeshConfig", "Tables", "zero"),
    "t5x_style.evaluation.run": ("EvaluationRun",),
    # losses
    "t5x_style.losses.cross_entropy": ("CrossEntropy",),
    "t5x_style.losses.distillation": ("Distillation",),
    "t5x_style.losses.dpo": ("DPO",),
    "t5x_style.losses.label_smoothing": ("LabelSmoothing",),
    "t5x_style.losses.loss": ("ModelSource",),
    "t5x_style.losses.task_heads": ("TaskHeads",),
    # data
    "t5x_style.data.data_config": ("DataConfig", "Source", "Stage"),
    "t5x_style.data.objectives.blank_infilling": ("BlankInfilling",),
    "t5x_style.data.objectives.causal_lm": ("CausalLM",),
    "t5x_style.data.objectives.masked_lm": ("MaskedLM",),
    "t5x_style.data.objectives.next_sentence": ("NextSentence",),
    "t5x_style.data.objectives.permutation_lm": ("PermutationLM",),
    "t5x_style.data.objectives.preference_pairs": ("PreferencePairs",),
    "t5x_style.data.objectives.prefix_lm": ("PrefixLM",),
    "t5x_style.data.objectives.seq2seq": ("Seq2Seq",),
    "t5x_style.data.objectives.span_corruption": ("SpanCorruption",),
    "t5x_style.data.objectives.ul2": ("UL2", "Denoiser"),
    # models of one's own
    f"{_SPECS}.architectures": (
        *("DecoderConfig", "EncoderConfig", "EncoderDecoderConfig"),
        *("EmbeddingSpec", "HeadSpec", "InitSpec"),
    ),
    f"{_SPECS}.dropout": ("DropoutSpec",),
    f"{_SPECS}.dtypes": ("DtypePolicy",),
    f"{_SPECS}.execution": ("Execution",),
    f"{_SPECS}.head_specs": ("SpanBoundarySpec", "TaskHeadSpec"),
    f"{_SPECS}.layer_specs": ("AttentionSpec", "LayerGroup", "LayerSpec", "MlpSpec", "MoeSpec", "NormSpec"),
    f"{_SPECS}.position_specs": ("PositionSpec", "RelativeBiasSpec", "RopeScaling", "RopeSpec"),
    f"{_SPECS}.recurrent_config": ("RecurrentConfig",),
    f"{_SPECS}.xlnet_config": ("XLNetConfig",),
    # published models
    f"{_PRESETS}.albert": ("albert",),
    f"{_PRESETS}.baichuan": ("baichuan", "baichuan2"),
    f"{_PRESETS}.bert": ("bert",),
    f"{_PRESETS}.bloom": ("bloom",),
    f"{_PRESETS}.chatglm": ("chatglm", "chatglm2", "chatglm3"),
    f"{_PRESETS}.gemma": ("gemma2", "gemma3"),
    f"{_PRESETS}.glm": ("glm", "glm4", "glm4_0414"),
    f"{_PRESETS}.gpt1": ("gpt1",),
    f"{_PRESETS}.gpt2": ("gpt2",),
    f"{_PRESETS}.gpt3": ("gpt3", "gpt_neo"),
    f"{_PRESETS}.llama": ("llama", "llama1", "llama2", "llama3", "llama3_1", "llama3_2"),
    f"{_PRESETS}.lstm": ("lstm",),
    f"{_PRESETS}.mistral": ("mistral",),
    f"{_PRESETS}.mixtral": ("mixtral",),
    f"{_PRESETS}.mt_dnn": ("mt_dnn",),
    f"{_PRESETS}.qwen": ("qwen2", "qwen2_5", "qwen3"),
    f"{_PRESETS}.roberta": ("roberta",),
    f"{_PRESETS}.spanbert": ("spanbert",),
    f"{_PRESETS}.switch": ("switch",),
    f"{_PRESETS}.t5": ("mt5", "t5", "t5_v1_1"),
    f"{_PRESETS}.ul2": ("ul2",),
    f"{_PRESETS}.xlnet": ("xlnet",),
}


def table(modules: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Short name -> full name. Example: {"a.b": ("C",)} -> {"C": "a.b.C"}.

    Raises:
      ValueError: two modules offer one name.
    """
    full: dict[str, str] = {}
    for module, names in modules.items():
        for name in names:
            if name in full:
                raise ValueError(f"the short name {name} means {full[name]} and {module}.{name}; keep one")
            full[name] = f"{module}.{name}"
    return full


NAMES = table(MODULES)
