"""Whole evaluations: a real tiny MODEL_DIR, and fakes for what is kept, skipped and computed again."""

import dataclasses
import functools
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
from flax import nnx

import t5x_style
from t5x_style import model_dir
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.shards import write_cache
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.evaluate import main, parse
from t5x_style.evaluation.evaluate_models import evaluate
from t5x_style.evaluation.models import Functions
from t5x_style.evaluation.run import EvaluationRun
from t5x_style.huggingface.export_model import export_model
from t5x_style.models import serialization
from t5x_style.models.presets.llama import llama
from tests import built


def make_model_dir(folder, vocabulary_file, seed=0, step=7):
    """A MODEL_DIR with random weights, as training would leave it."""
    import orbax.checkpoint as ocp

    vocabulary = Vocabulary(vocabulary_file)
    config = llama(vocab_size=vocabulary.size, embed_dim=32, layers=1, heads=2, kv_heads=1, mlp_hidden=64)
    (folder / "tokenizer").mkdir(parents=True)
    (folder / model_dir.MODEL).write_text(serialization.to_json(config))
    (folder / model_dir.TOKENIZER / "sentencepiece.model").write_bytes(vocabulary_file.read_bytes())
    _, _, params = parameters.split(built.build(config, seed))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / checkpoints.FOLDER / str(step) / "params").absolute(), params)
    return folder


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory, vocabulary_file):
    root = tmp_path_factory.mktemp("models")
    return [make_model_dir(root / name, vocabulary_file, seed) for seed, name in enumerate(("pretrain", "tune"))]


def write_documents(folder, vocabulary_file, texts):
    vocabulary = Vocabulary(vocabulary_file)
    info = VocabularyInfo("SentencePiece", "x", vocabulary.size, 0, 1, 3, 2)
    write_cache(
        folder,
        "documents",
        "test",
        [[{"targets": vocabulary.encode(text)} for text in texts]],
        features={"targets": Feature("int32", 1, True, vocabulary.fingerprint)},
        vocabularies={vocabulary.fingerprint: info},
        append_eos=["targets"],
    )


def everything(tmp_path, tasks, models):
    """A run of the tasks and the documents."""
    return EvaluationRun(
        models=tuple(f"{name}={folder}" for name, folder in models.items()),
        output=str(tmp_path / "results.json"),
        tasks=tuple(tasks),
        modules=(),
        perplexity=("documents",),
        data_dir=str(tmp_path),
        length=40,
        max_new_tokens=6,
        batch_size=4,
    )


TEXTS = ["the package of this text is numpy", "yes or no", "sum mean norm dot " * 9]


def test_real_models_end_to_end(tasks, model_dirs, vocabulary_file, tmp_path):
    write_documents(tmp_path / "cache", vocabulary_file, TEXTS)
    run = everything(tmp_path, tasks, {"base": model_dirs[0], "tuned": model_dirs[1]})
    results = evaluate(run)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["order"] == ["base", "tuned"]
    for name, folder in zip(results["order"], model_dirs):
        loaded = t5x_style.load_model(folder)
        found = results["models"][name]
        assert found["step"] == 7
        document = found["perplexity"]["documents"]["metrics"]
        expected = sum(naive_nll(loaded, text, 40) for text in TEXTS)
        tokens = sum(len(loaded.tokenizer.encode(text)) + 1 for text in TEXTS)
        assert document["tokens"] == tokens
        assert document["loss"] == pytest.approx(expected / tokens, rel=1e-5)
        assert document["bytes"] == sum(len(loaded.tokenizer.decode(loaded.tokenizer.encode(t))) for t in TEXTS)
        ranked = found["tasks"]["tiny_rank"]
        assert (ranked["examples"], ranked["rows"], ranked["cut_inputs"]) == (3, 6, 0)
        for sample in ranked["samples"]:
            for option in sample["options"]:
                prompt = loaded.tokenizer.encode(sample["inputs"])
                answer = [*loaded.tokenizer.encode(option["text"]), 1]
                assert option["score"] == pytest.approx(naive_score(loaded, prompt, answer), abs=1e-3)
        generated = found["tasks"]["tiny_generate"]
        assert generated["examples"] == 5
        assert generated["baselines"] == {"accuracy": 0.6}
        first = generated["samples"][0]
        prompt = loaded.tokenizer.encode(first["inputs"])
        assert first["prediction"] == loaded.tokenizer.decode(naive_greedy(loaded, prompt, 6))


def test_an_exported_folder_has_the_same_results(tasks, model_dirs, vocabulary_file, tmp_path):
    export_model(model_dirs[0], tmp_path / "exported")
    write_documents(tmp_path / "cache", vocabulary_file, TEXTS)
    run = everything(tmp_path, tasks, {"native": model_dirs[0], "folder": tmp_path / "exported"})
    found = evaluate(run)["models"]
    assert (found["native"]["step"], found["folder"]["step"]) == (7, 0)
    for name in tasks:
        assert found["folder"]["tasks"][name]["metrics"] == pytest.approx(found["native"]["tasks"][name]["metrics"])
    ours, theirs = (found[name]["perplexity"]["documents"]["metrics"] for name in ("native", "folder"))
    assert theirs == pytest.approx(ours)
    with pytest.raises(UserError, match="no checkpoint of step 3; it has 0"):
        evaluate(dataclasses.replace(run, step=3, models=run.models[1:]))


def naive_logits(loaded, tokens):
    row = np.zeros((1, 64), np.int32)  # what stands behind does not matter to a causal model
    row[0, : len(tokens) + 1] = [3, *tokens]
    graphdef, state = nnx.split(loaded.model)
    logits = np.asarray(_logits(graphdef, state, row), np.float64)
    return logits[0, : len(tokens) + 1, : loaded.tokenizer.size]


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, state, row):
    model = nnx.merge(graphdef, state)
    return model.head.logits(model(row))


def naive_score(loaded, prompt, answer):
    log_probs = scipy.special.log_softmax(naive_logits(loaded, [*prompt, *answer[:-1]]), axis=-1)
    return sum(float(log_probs[len(prompt) + offset, token]) for offset, token in enumerate(answer))


def naive_nll(loaded, text, length):
    tokens = [*loaded.tokenizer.encode(text), 1]
    return -sum(naive_score(loaded, [], tokens[at : at + length]) for at in range(0, len(tokens), length))


def naive_greedy(loaded, prompt, limit):
    new = []
    while len(new) < limit:
        token = int(naive_logits(loaded, [*prompt, *new])[-1].argmax())
        if token == 1:
            break
        new.append(token)
    return new


class Fake:
    """Answers with a fixed text, prefers short options, and counts what it was asked."""

    def __init__(self, vocabulary_file, answer="numpy"):
        self.vocabulary, self.answer, self.calls = Vocabulary(vocabulary_file), answer, []

    def open(self, model, batch_size):
        self.calls.append(f"open {model.name}")
        return Functions(self.predict, self.score), self.vocabulary

    def predict(self, inputs, max_new_tokens):
        self.calls.append("predict")
        self.inputs = inputs
        return [self.vocabulary.encode(self.answer)[:max_new_tokens] for _ in inputs]

    def score(self, inputs, targets):
        self.calls.append("score")
        return [-len(row) * math.log(2) for row in targets]


@pytest.fixture
def run(tasks, model_dirs, tmp_path):
    return EvaluationRun(
        models=tuple(map(str, model_dirs)), output=str(tmp_path / "r.json"), tasks=tuple(tasks), modules=()
    )


def test_fake_model_gives_hand_computed_metrics(run, vocabulary_file):
    results = evaluate(run, Fake(vocabulary_file).open)
    found = results["models"]["pretrain"]["tasks"]
    assert found["tiny_generate"]["metrics"] == {"accuracy": 0.6, "characters": 5.0}
    lengths = [len(Vocabulary(vocabulary_file).encode(option)) for option in ("yes", "no")]
    right = {True: 2 / 3, False: 1 / 3}[lengths[0] < lengths[1]] if lengths[0] != lengths[1] else 1.0
    assert found["tiny_rank"]["metrics"]["rank_accuracy"] == pytest.approx(right)
    assert found["tiny_rank"]["majority"] == {"majority": pytest.approx(2 / 3), "answer": "yes", "chance": 0.5}


def test_finished_tasks_are_skipped_and_changes_recomputed(run, vocabulary_file, caplog):
    first = Fake(vocabulary_file)
    results = evaluate(run, first.open)
    assert first.calls == ["open pretrain", "predict", "score", "open tune", "predict", "score"]
    again = Fake(vocabulary_file)
    assert evaluate(run, again.open) == results
    assert again.calls == []
    one = json.loads(Path(run.output).read_text())
    del one["models"]["tune"]["tasks"]["tiny_rank"]  # as if interrupted before the last task
    Path(run.output).write_text(json.dumps(one))
    rest = Fake(vocabulary_file)
    assert evaluate(run, rest.open)["models"].keys() == results["models"].keys()
    assert rest.calls == ["open tune", "score"]
    with caplog.at_level("INFO", logger="absl"):
        changed = Fake(vocabulary_file)
        evaluate(dataclasses.replace(run, max_new_tokens=1), changed.open)
    assert changed.calls == first.calls
    assert "computed again (max_new_tokens 64 -> 1)" in caplog.text


def test_new_weights_of_the_same_step_are_computed_again(run, vocabulary_file, model_dirs):
    evaluate(dataclasses.replace(run, models=(str(model_dirs[0]),)), Fake(vocabulary_file).open)
    metadata = model_dirs[0] / checkpoints.FOLDER / "7" / "metadata" / "metadata"
    metadata.parent.mkdir()
    metadata.write_text('{"time": 2}')
    try:
        again = Fake(vocabulary_file)
        evaluate(dataclasses.replace(run, models=(str(model_dirs[0]),)), again.open)
        assert again.calls == ["open pretrain", "predict", "score"]
    finally:
        metadata.unlink()
        metadata.parent.rmdir()


def test_long_inputs_are_cut_and_counted(run, vocabulary_file):
    fake = Fake(vocabulary_file)
    results = evaluate(dataclasses.replace(run, length=7, max_new_tokens=3, max_examples=2), fake.open)
    found = results["models"]["tune"]["tasks"]["tiny_generate"]
    assert found["examples"] == 2
    assert found["cut_inputs"] == 2
    assert all(len(row) == 4 for row in fake.inputs)
    full = [Vocabulary(vocabulary_file).encode(text) for text in ("which? a", "which? c")]
    assert fake.inputs == [row[-4:] for row in full]  # the end stays, next to the answer
    assert found["unfinished_outputs"] == sum(len(fake.vocabulary.encode("numpy")) >= 3 for _ in range(2))


def test_baselines_of_the_data_folder_come_first(run, vocabulary_file, tmp_path):
    index = {"tasks": {"tiny_generate": {"splits": {"test": {"baselines": {"majority_accuracy": 0.25}}}}}}
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "examples.json").write_text(json.dumps(index))
    results = evaluate(dataclasses.replace(run, data_dir=str(tmp_path)), Fake(vocabulary_file).open)
    assert results["models"]["tune"]["tasks"]["tiny_generate"]["baselines"] == {"accuracy": 0.25}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ()}, "no model to evaluate"),
        ({"output": ""}, "no place for the results"),
        ({"length": 64}, "length is 64, must be at least 65"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"models": ("no_such_folder",)}, "is no MODEL_DIR"),
        ({"step": 8}, "no checkpoint of step 8; it has 7"),
        ({"tasks": ("tiny_x",)}, "no seqio Task 'tiny_x'"),
        ({"tasks": (), "perplexity": ("documents",), "cache_dir": "none"}, "beam_pipelines.cache_tasks"),
    ],
)
def test_errors_are_one_clear_line(run, vocabulary_file, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate(dataclasses.replace(run, **changes), Fake(vocabulary_file).open)


def test_two_models_of_one_name(run, model_dirs):
    with pytest.raises(UserError, match="name them: --model NAME=MODEL_DIR"):
        evaluate(dataclasses.replace(run, models=(str(model_dirs[0]), str(model_dirs[0]))))


def test_a_file_that_is_no_results_file_is_not_overwritten(run, vocabulary_file):
    Path(run.output).write_text("[1, 2]")
    with pytest.raises(UserError, match="is no results file"):
        evaluate(run, Fake(vocabulary_file).open)
    assert Path(run.output).read_text() == "[1, 2]"


def test_flags_and_gin_describe_the_same_run(tmp_path):
    gin_file = tmp_path / "evaluation.gin"
    gin_file.write_text(
        "EvaluationRun.models = ('base=out/pretrain',)\nEvaluationRun.length = 256\nEvaluationRun.max_new_tokens = 32\n"
    )
    flags = ["--gin_file", str(gin_file), "--output", "x.json", "--task", "a", "--task", "b", "--length", "512"]
    expected = EvaluationRun(
        models=("base=out/pretrain",), output="x.json", tasks=("a", "b"), length=512, max_new_tokens=32
    )
    assert parse(flags) == expected
    assert parse(["--model", "m", "--step", "3", "--trim_inputs", "right"]) == EvaluationRun(
        models=("m",), step=3, trim_inputs="right"
    )
    with pytest.raises(UserError, match="unknown argument '--modle'"):
        parse(["--modle", "m"])


def test_command_line_exit_codes(tmp_path, capsys):
    assert main(["--model", str(tmp_path), "--output", str(tmp_path / "x.json")]) == 2
    errors = capsys.readouterr().err
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert "is no MODEL_DIR" in errors


def test_command_line_writes_results(tasks, model_dirs, tmp_path):
    output = tmp_path / "new folder" / "results.json"
    flags = ["--model", str(model_dirs[0]), "--task", "tiny_r*", "--max_examples", "2", "--batch_size", "4"]
    assert main([*flags, "--output", str(output)]) == 0
    found = json.loads(output.read_text())["models"]["pretrain"]["tasks"]
    assert list(found) == ["tiny_rank"]
    assert found["tiny_rank"]["examples"] == 2
