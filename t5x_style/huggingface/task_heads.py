"""Which heads a class of transformers has over its trunk, and their labels: `architectures`, `id2label`, both ways.

A class is the family's name and a suffix: BertForTokenClassification. `finetuning_task` keeps the name of our task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from t5x_style.errors import UserError
from t5x_style.huggingface.weights.layouts import Flat, Matrix
from t5x_style.huggingface.weights.weight_map import Rule, one
from t5x_style.models.specs import SpanBoundarySpec, TaskHeadSpec, TransformerConfig

_PROBLEMS = {
    "classification": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


class Parts(NamedTuple):
    """What a class has over its trunk.

    Attributes:
      head: whether it has vocabulary scores. pooler: whether its trunk has a pooler.
      task: its head, None: none; kind, labels and name are the configuration's where it is "classification".
    """

    head: bool
    pooler: bool = False
    task: TaskHeadSpec | None = None


def _spec(kind: str, **settings: Any) -> TaskHeadSpec:
    labels = ("LABEL_0", "LABEL_1") if kind in ("classification", "tags") else ()
    return TaskHeadSpec(kind, kind, labels, **settings)  # type: ignore[arg-type]


ENCODER: dict[str, Parts] = {
    "ForMaskedLM": Parts(True),
    "Model": Parts(False, True),
    "ForSequenceClassification": Parts(False, True, _spec("classification", pool="pooler")),
    "ForTokenClassification": Parts(False, False, _spec("tags")),
    "ForQuestionAnswering": Parts(False, False, _spec("span")),
    "ForMultipleChoice": Parts(False, True, _spec("choice", pool="pooler")),
}
BERT = ENCODER | {
    "ForPreTraining": Parts(True, True, _spec("next_sentence", pool="pooler")),
    "ForNextSentencePrediction": Parts(False, True, _spec("next_sentence", pool="pooler")),
}
ALBERT = ENCODER | {"ForPreTraining": Parts(True, True, _spec("sentence_order", pool="pooler"))}
ROBERTA = ENCODER | {
    "ForSequenceClassification": Parts(False, False, _spec("classification", pool="first", transform="tanh"))
}
DECODER: dict[str, Parts] = {
    "ForCausalLM": Parts(True),
    "Model": Parts(False),
    "ForSequenceClassification": Parts(False, False, _spec("classification", pool="last", bias=False)),
    "ForTokenClassification": Parts(False, False, _spec("tags")),
}
XLNET: dict[str, Parts] = {
    "LMHeadModel": Parts(True),
    "Model": Parts(False),
    "ForSequenceClassification": Parts(False, False, _spec("classification", pool="last", transform="tanh")),
    "ForTokenClassification": Parts(False, False, _spec("tags")),
    "ForQuestionAnsweringSimple": Parts(False, False, _spec("span")),
    "ForMultipleChoice": Parts(False, False, _spec("choice", pool="last", transform="tanh")),
}


def suffix_of(settings: Mapping[str, Any], name: str, classes: Mapping[str, Parts]) -> str:
    """The suffix of a config.json's class; that of the language model where it names none.

    Args:
      name: of the family in class names, such as "Bert". classes: by suffix.

    Raises:
      UserError: a class that is not among them.
    """
    architectures = settings.get("architectures") or []
    if not architectures:
        return next(iter(classes))
    suffix = architectures[0][len(name) :]
    if architectures[0][: len(name)].lower() != name.lower() or suffix not in classes:
        known = ", ".join(name + known for known in classes)
        raise UserError(f"config.json: architecture {architectures[0]!r} is not known; known are {known}")
    return suffix


def read(settings: Mapping[str, Any], name: str, classes: Mapping[str, Parts]) -> Parts:
    """What the class of a config.json has, with its labels; arguments as of `suffix_of`.

    A classifier of one label is a regression over encoders and a reward over decoders (`pool` "last"), as both are
    trained so.
    """
    parts = classes[suffix_of(settings, name, classes)]
    pooler = settings.get("add_pooling_layer", parts.pooler)
    spec = parts.task
    if spec is None:
        return parts._replace(pooler=pooler)
    labels = _labels(settings)
    changes: dict[str, Any] = {}
    if spec.kind == "classification":
        changes["kind"] = kind = _kind(settings, len(labels), spec)
        changes["labels"] = () if kind == "reward" and labels == ("LABEL_0",) else labels
    elif spec.kind == "tags":
        changes["labels"] = labels
    changes["name"] = settings.get("finetuning_task") or changes.get("kind", spec.kind)
    return Parts(parts.head, pooler, dataclasses.replace(spec, **changes))


def _kind(settings: Mapping[str, Any], labels: int, spec: TaskHeadSpec) -> str:
    problem = settings.get("problem_type")
    if problem is None:
        return "classification" if labels > 1 else "reward" if spec.pool == "last" else "regression"
    found = next((kind for kind, theirs in _PROBLEMS.items() if theirs == problem), None)
    if found is None:
        known = ", ".join(_PROBLEMS.values())
        raise UserError(f"config.json: problem_type {problem!r} is not known; known are {known}")
    return found


def _labels(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Example: {"0": "O", "1": "B-PER"} -> ("O", "B-PER"); without names LABEL_0, LABEL_1, ..., two by default."""
    names = settings.get("id2label")
    if not names:
        return tuple(f"LABEL_{number}" for number in range(settings.get("num_labels") or 2))
    by_id = {int(key): label for key, label in names.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise UserError(f"config.json: id2label has ids {sorted(by_id)}; they must be 0 to {len(by_id) - 1}")
    return tuple(by_id[number] for number in range(len(by_id)))


def write(config: TransformerConfig, name: str, classes: Mapping[str, Parts]) -> dict[str, Any]:
    """The settings that `read` gives back: architectures, labels, problem_type.

    Raises:
      UserError: no class has these heads.
    """
    spec = _only(config)
    for suffix, parts in classes.items():
        if parts.head != (config.head is not None) or not _fits(spec, parts.task):
            continue
        settings: dict[str, Any] = {"architectures": [name + suffix]}
        pooler = getattr(config, "pooler", False)
        if pooler != parts.pooler:
            settings["add_pooling_layer"] = pooler
        return settings | ({} if spec is None else _label_settings(spec))
    held = [task.name for task in config.tasks] or ["none"]
    raise UserError(
        f"transformers has no class of {name} with task heads {', '.join(held)} and "
        f"{'no ' if config.head is None else 'a '}vocabulary head; leave out what it need not have"
    )


def _only(config: TransformerConfig) -> TaskHeadSpec | None:
    if not config.tasks:
        return None
    if len(config.tasks) > 1 or isinstance(config.tasks[0], SpanBoundarySpec):
        raise UserError(
            f"transformers has no class with task heads {', '.join(task.name for task in config.tasks)}; "
            "it has one a model, and none for span boundaries: keep one of them"
        )
    return config.tasks[0]


def _fits(ours: TaskHeadSpec | None, theirs: TaskHeadSpec | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    kinds = (*_PROBLEMS, "reward") if theirs.kind == "classification" else (theirs.kind,)
    return ours.kind in kinds and (ours.pool, ours.transform, ours.bias) == (theirs.pool, theirs.transform, theirs.bias)


def _label_settings(spec: TaskHeadSpec) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if spec.name != spec.kind:
        settings["finetuning_task"] = spec.name
    labels = spec.labels or (("LABEL_0",) if spec.kind == "reward" else ())
    if labels:
        settings["id2label"] = {str(number): label for number, label in enumerate(labels)}
        settings["label2id"] = {label: number for number, label in enumerate(labels)}
    if spec.kind in _PROBLEMS:
        settings["problem_type"] = _PROBLEMS[spec.kind]
    return settings


def complete(
    settings: Mapping[str, Any], names: Iterable[str], name: str, classes: Mapping[str, Parts], modules: Sequence[str]
) -> dict[str, Any]:
    """A config.json with what only the names of the weights tell: which pretraining heads there are, and a pooler.

    Files of BertForMaskedLM often have the pooler and next-sentence head too; SpanBERT's have no head and name no
    architecture; some that name the base model have heads.

    Args:
      names: of the tensors in the files. modules: where the vocabulary head, the sentence head and the pooler are,
        such as ("cls.predictions.", "cls.seq_relationship.", "pooler.").
    """
    held = [f".{part}" for part in names]
    vocabulary, sentence, pooler = (any(f".{module}" in part for part in held) for module in modules)
    suffix = suffix_of(settings, name, classes)
    if not settings.get("architectures") or suffix == "Model":
        suffix = "ForMaskedLM" if vocabulary else "Model"
    if suffix == "ForMaskedLM" and sentence and pooler and "ForPreTraining" in classes:
        suffix = "ForPreTraining"
    found = {**settings, "architectures": [name + suffix]}
    task = classes[suffix].task
    if pooler != classes[suffix].pooler and (task is None or task.pool != "pooler"):
        found["add_pooling_layer"] = pooler
    return found


def score_rules(config: TransformerConfig, theirs: Mapping[str, str], dense: str | None = None) -> list[Rule]:
    """The rules of the model's task head; [] without one.

    Args:
      theirs: kind -> name of the module of the scores, "" for all other kinds.
      dense: name of the module before it; None: "dense", beside the scores (RoBERTa).

    Raises:
      UserError: several heads, or span boundaries.
    """
    spec = _only(config)
    if spec is None:
        return []
    module, ours = theirs.get(spec.kind, theirs[""]), f"task_heads/{spec.name}"
    width, rules = config.embed_dim, []
    if spec.transform is not None:
        rules = linear(dense or f"{module.rpartition('.')[0]}.dense", f"{ours}/dense", width, width)
    return rules + linear(module, f"{ours}/scores", width, spec.outputs, bias=spec.bias)


def linear(theirs: str, ours: str, inputs: int, outputs: int, bias: bool = True) -> list[Rule]:
    """Weight and bias of a plain Linear."""
    rules = [one(f"{theirs}.weight", f"{ours}/kernel", Matrix((inputs,), (outputs,)))]
    return [*rules, one(f"{theirs}.bias", f"{ours}/bias", Flat((outputs,)))] if bias else rules
