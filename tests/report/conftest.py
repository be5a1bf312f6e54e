"""A quickstart folder written by hand, with everything a report shows."""

import json
import shutil

import numpy as np
import pytest

from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.shards import write_cache
from t5x_style.models import serialization
from t5x_style.models.presets.llama import llama

ATTACK = "<script>alert('x')</script> & $\\frac{1}{2}$ \x00\x1b \u2028 \ud800"
STAGES = [
    {"name": "read", "in": 9000, "kept": 8900, "rejected": {"not html": 100}, "seconds": 3.0},
    {"name": "extract", "in": 8900, "kept": 8500, "rejected": {"no text": 250, "<b>short</b>": 150}, "seconds": 21.5},
    {"name": "language", "in": 8500, "kept": 8450, "rejected": {"not en": 50}, "seconds": 2.0},
    {"name": "gopher_quality", "in": 8450, "kept": 8000, "rejected": {"few words": 300, "no stop words": 150}},
    {"name": "minhash", "in": 8000, "kept": 7400, "rejected": {"near duplicate": 600}, "seconds": 9.0},
]


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def training_rows(first, last, steps, rate):
    rows = []
    for step in range(10, steps + 1, 10):
        loss = last + (first - last) * float(np.exp(-step / steps * 5)) + 0.03 * ((step * 7919) % 13 - 6) / 6
        speed = {"tokens_per_second": rate + (step * 31) % 90, "memory_gib": 1.5, "skipped": 0.0}
        rows.append({"step": step, "kind": "train", "loss": loss, **(speed if step > 10 else {})})
        if step % 100 == 0 or step == steps:
            rows.append({"step": step, "kind": "eval", "loss": loss + 0.1})
    return rows


def task_result(metrics, baselines, samples):
    return {
        "key": "k",
        "settings": {},
        "step": 500,
        "seconds": 4.25,
        "metrics": metrics,
        "examples": 200,
        "rows": 400,
        "cut_inputs": 3,
        "unfinished_outputs": 2,
        "majority": {"majority": 0.5, "answer": "yes"},
        "baselines": baselines,
        "samples": samples,
    }


def generated_samples(prefix, right):
    prompt = "class Ridge(alpha=1.0)\n\nLinear least squares with l2 regularisation. " * 4
    return [
        {
            "example": n,
            "inputs": ATTACK
            if n == 0
            else f"{prompt}\n\nWhich package does this docstring come from?\n\nOPTIONS:\n- jax\n- numpy",
            "target": "numpy",
            "prediction": "numpy" if n < right else f"{prefix} {ATTACK}" if n == right else "",
        }
        for n in range(4)
    ]


def ranked_samples(scores):
    texts = ("class", "function")
    options = [{"text": text, "score": score, "correct": text == "class"} for text, score in zip(texts, scores)]
    return [
        {"example": n, "inputs": "Does this describe a class?", "target": "class", "options": options} for n in range(3)
    ]


GROUPS = {
    "seen tasks": ["documentation_package", "documentation_package_rank", "documentation_summary"],
    "held-out templates": ["documentation_package_template_heldout_rank"],
    "held-out cluster": ["documentation_kind_rank"],
}


def results():
    def model(path, shift, prefix, right, scores):
        summary = {"rouge1": 0.2 + shift / 4, "rouge2": 0.05 + shift / 8, "rougeLsum": 0.18 + shift / 4}
        ranked = {"rank_accuracy": 0.3 + shift, "rank_accuracy_per_token": 0.28 + shift}
        line = {"rank_accuracy": 0.25, "rank_accuracy_per_token": 0.25}
        kind = task_result({"rank_accuracy": 0.5 + shift / 5}, {"rank_accuracy": 0.5}, ranked_samples(scores))
        return {
            "path": path,
            "step": 500,
            "tasks": {
                "documentation_package": task_result(
                    {"accuracy": shift}, {"accuracy": 0.25}, generated_samples(prefix, right)
                ),
                "documentation_package_rank": task_result(ranked, line, ranked_samples(scores)),
                "documentation_summary": task_result(summary, {"rougeLsum": 0.22}, generated_samples(prefix, right)),
                "documentation_package_template_heldout_rank": task_result(ranked, line, ranked_samples(scores)),
                "documentation_kind_rank": kind,
            },
            "perplexity": {
                "documents": {
                    "settings": {"perplexity_split": "test"},
                    "metrics": {
                        "loss": 3.4 + shift / 10,
                        "perplexity": 30 + shift,
                        "word_perplexity": 900.0,
                        "byte_perplexity": 2.9,
                        "bits_per_byte": 1.54 + shift / 20,
                        "tokens": 151234,
                        "words": 90000,
                        "bytes": 520000,
                    },
                }
            },
        }

    return {
        "format": 1,
        "groups": [{"name": name, "tasks": tasks} for name, tasks in GROUPS.items()],
        "order": ["base", "tuned"],
        "models": {
            "base": model("pretrain", 0.02, "the", 0, (-3.2, -2.9)),
            "tuned": model("tune", 0.55, "scipy", 2, (-0.2, -1.9)),
        },
    }


def write_tokens(folder, task, split, examples, features=("targets",)):
    info = VocabularyInfo("SentencePiece", "x", 64, 0, 1, 3, 2)
    write_cache(
        folder / "cache",
        task,
        split,
        [examples],
        features={name: Feature("int32", 1, name == "targets", "print") for name in features},
        vocabularies={"print": info},
        append_eos=["targets"],
    )


@pytest.fixture(scope="session")
def whole_quickstart(tmp_path_factory):
    """The folder; its pretraining tokens are 5, 5, 6 and three EOS: entropy log 6 - 2 / 6 log 2 - 3 / 6 log 3.

    Not to be changed.
    """
    folder = tmp_path_factory.mktemp("whole") / "quickstart_run"
    save(folder / "web" / "stats.json", {"stages": STAGES, "records": {"response": 9000, "broken": 3}})
    save(
        folder / "tokenizer" / "tokenizer.json",
        {"vocabulary": 4096, "bytes_per_token": 3.71, "fertility": {"en": 1.42}},
    )
    write_tokens(folder, "documents", "train", [{"targets": [5, 5]}, {"targets": [6]}, {"targets": []}])
    write_tokens(folder, "documents", "test", [{"targets": [5, 9]}])
    rows = [{"inputs": [7] * (n % 90 + 5), "targets": [9] * (n % 4 + 1)} for n in range(300)]
    write_tokens(folder, "documentation_package", "train", rows, ("inputs", "targets"))
    for name, kind in (("pretrain", (8.3, 3.3, 500, 5200)), ("tune", (2.9, 0.6, 250, 4700))):
        folder.joinpath(name).mkdir()
        config = llama(vocab_size=64, embed_dim=32, layers=2, heads=2)
        folder.joinpath(name, "model.json").write_text(serialization.to_json(config))
        lines = "".join(json.dumps(row) + "\n" for row in training_rows(*kind))
        folder.joinpath(name, "metrics.jsonl").write_text(lines)
    names = ["crawl", "clean", "tokenizer", "examples", "cache", "pretrain", "tune", "evaluate", "report"]
    seconds = [80.1, 70.2, 12.0, 6.1, 33.0, 170.0, 61.5, 75.0, 4.0]
    stages = [{"name": n, "title": n, "seconds": s, "finished": True} for n, s in zip(names, seconds)]
    save(folder / "quickstart.json", {"stages": stages})
    save(folder / "evaluation.json", results())
    return folder


@pytest.fixture
def quickstart(whole_quickstart, tmp_path):
    """A copy of the folder, to change."""
    return shutil.copytree(whole_quickstart, tmp_path / "quickstart_run")
