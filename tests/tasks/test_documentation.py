import importlib
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece

from tasks.metrics import accuracy
from tasks.splits import SPLITS
from tasks.templates import Template
from tests.lazy import Lazy

seqio, tf = Lazy("seqio"), Lazy("tensorflow")
documentation = Lazy("tasks.documentation")

SIZES = {"train": 40, "validation": 3, "test": 12}
OPTIONS = {"package": ["jax", "numpy", "scipy"], "kind": ["class", "function"], "method": ["yes", "no"]}
NAMES = ("package", "summary", "arguments", "method", "kind")
CLASSIFICATION = ("package", "method", "kind")


@pytest.fixture
def examples(data_dir):
    """Examples of every cluster; values hold braces, line breaks and non-ASCII letters."""
    for cluster in documentation.CLUSTERS:
        for split, size in SIZES.items():
            rows = []
            for number in range(size):
                options = OPTIONS.get(cluster.name)
                answer = options[number % len(options)] if options else f"answer {number}, x"
                fields = {name: f"{name} {number} {{brace}} é\nline" for name in cluster.fields}
                row = {"id": f"{split}.m.o{number}", "object": f"m.o{number}", "answer": answer, **fields}
                rows.append({**row, "options": options} if options else row)
            folder = data_dir / "examples" / cluster.task
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    return data_dir


@pytest.fixture
def cluster(request):
    """The cluster of this name."""
    return {each.name: each for each in documentation.CLUSTERS}[request.param]


def rows_of(name, split):
    return list(seqio.TaskRegistry.get(name).get_dataset(split=split, shuffle=False).as_numpy_iterator())


def test_registration_does_no_io(monkeypatch):
    """The modules imported anew into empty registries, without a data folder; any read would fail."""

    def refuse(*_, **__):
        raise AssertionError("I/O at registration")

    for owner, names in (
        (pq, ("read_table",)),
        (pq.ParquetFile, ("__init__",)),
        (tf.io.gfile, ("glob", "exists")),
        (tf.io.gfile.GFile, ("__init__",)),
        (sentencepiece.SentencePieceProcessor, ("LoadFromSerializedProto",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, refuse)
    monkeypatch.delenv("T5X_STYLE_DATA_DIR", raising=False)
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
        monkeypatch.setattr(registry, "_REGISTRY", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
        monkeypatch.delitem(sys.modules, name)
    try:
        importlib.import_module("tasks.documents")
        importlib.import_module("tasks.documentation")
        assert len(seqio.TaskRegistry.names()) == 1 + 5 * 2 + 3 * 2
    finally:  # what was imported here must not stay beside what the other tests have
        for name in [name for name in sys.modules if name.partition(".")[0] == "tasks"]:
            del sys.modules[name]


def test_five_clusters_of_ten_distinct_templates():
    assert tuple(each.name for each in documentation.CLUSTERS) == NAMES
    assert tuple(each.name for each in documentation.CLUSTERS if each.has_options) == CLASSIFICATION
    templates = [template for cluster in documentation.CLUSTERS for template in cluster.templates]
    assert len(templates) == len({template.inputs for template in templates}) == 50
    for cluster in documentation.CLUSTERS:
        assert (len(cluster.seen_templates), len(cluster.held_out_templates)) == (8, 2)
        assert not set(cluster.seen_templates) & set(cluster.held_out_templates)
        for template in cluster.templates:
            assert set(cluster.fields) <= template.fields, f"{cluster.name}/{template.name} hides a field"
            assert template.fields >= ({"options_"} if cluster.has_options else set())


@pytest.mark.parametrize("cluster", NAMES, indirect=True)
def test_every_template_shows_every_field_and_nothing_unfilled(cluster):
    fields = {name: f"<{name}>" for name in (*cluster.fields, "answer")}
    for template in cluster.templates:
        inputs, targets = template.render(fields, ["a", "b"] if cluster.has_options else [])
        assert targets == "<answer>"
        assert "<answer>" not in inputs
        assert all(f"<{name}>" in inputs for name in cluster.fields)
        assert "{" not in inputs
        assert "}" not in inputs


def test_the_held_out_cluster_is_in_no_training_mixture():
    trained = {task.name for task in seqio.MixtureRegistry.get(documentation.MIXTURE).tasks}
    assert trained == {cluster.task for cluster in documentation.TRAINING_CLUSTERS}
    assert len(trained) == 4
    assert not any(documentation.HELD_OUT_CLUSTER.name in name for name in trained)
    assert not any("heldout" in name for name in trained)


def test_evaluations_name_registered_tasks_once():
    names = [name for group in documentation.EVALUATIONS.values() for name in group]
    assert len(names) == len(set(names))
    assert set(names) | {"documents"} >= {
        name for name in seqio.TaskRegistry.names() if name.startswith("documentation_")
    }
    for name in names:
        task = seqio.TaskRegistry.get(name)
        assert "test" in task.splits
        assert bool(task.score_metric_fns) == name.endswith("_rank")
        assert bool(task.predict_metric_fns) != name.endswith("_rank")


@pytest.mark.parametrize("cluster", NAMES, indirect=True)
def test_tasks_render_and_tokenize_all_examples(examples, cluster):
    vocabulary = seqio.TaskRegistry.get(cluster.task).output_features["inputs"].vocabulary
    for split, size in SIZES.items():
        rows = rows_of(cluster.task, split)
        assert [row["id"].decode() for row in rows] == [f"{split}.m.o{number}" for number in range(size)]
        for number, row in enumerate(rows):
            inputs = row["inputs_pretokenized"].decode()
            assert f"{cluster.fields[0]} {number} {{brace}} é\nline" in inputs
            assert row["inputs"].tolist() == vocabulary.encode(inputs)  # no EOS
            assert row["targets"].tolist() == [*vocabulary.encode(row["targets_pretokenized"].decode()), 1]
            assert row["template"] < 8
    held_out = rows_of(f"{cluster.task}_template_heldout", "test")
    assert {int(row["template"]) for row in held_out} == {8, 9}
    assert len(held_out) == SIZES["test"]
    assert seqio.TaskRegistry.get(f"{cluster.task}_template_heldout").splits == ("test",)


def test_training_uses_all_seen_templates(examples):
    used = Counter(int(row["template"]) for row in rows_of("documentation_package", "train"))
    assert set(used) == set(range(8))


@pytest.mark.parametrize("suffix", ["_rank", "_template_heldout_rank"])
@pytest.mark.parametrize("cluster", CLASSIFICATION, indirect=True)
def test_rank_twins_hold_one_row_per_option(examples, cluster, suffix):
    options = OPTIONS[cluster.name]
    rows = rows_of(cluster.task + suffix, "test")
    plain = rows_of(cluster.task + suffix.removesuffix("_rank"), "test")
    assert [row["idx"].tolist() for row in rows] == [
        [example, option] for example in range(SIZES["test"]) for option in range(len(options))
    ]
    for row in rows:
        example, option = row["idx"]
        assert row["inputs"].tolist() == plain[example]["inputs"].tolist()
        assert row["targets_pretokenized"].decode() == options[option]
        assert bool(row["is_correct"]) == (plain[example]["targets_pretokenized"].decode() == options[option])


def test_rank_metric_through_the_task(examples):
    """A scorer that prefers the right option of even examples only: half of 12 examples are right."""
    task = seqio.TaskRegistry.get("documentation_method_rank")
    rows = rows_of(task.name, "test")
    targets = [task.postprocess_fn(None, example=row, is_target=True) for row in rows]
    assert targets[0] == ((0, 0), True, len(rows[0]["targets"]))
    scores = [-1.0 if row["is_correct"] == (row["idx"][0] % 2 == 0) else -9.0 for row in rows]
    (metric,) = task.score_metric_fns
    assert metric(targets, scores)["rank_accuracy"] == 0.5


class Model:
    """Answers with the target for the first half of the examples and with nothing after; scores -1 a token."""

    def predict(self, dataset):
        rows = list(dataset.as_numpy_iterator())
        nothing = np.ones_like(rows[0][1]["decoder_target_tokens"])  # EOS; the rows must have one length
        half = len(rows) // 2
        return [(int(index), row["decoder_target_tokens"] if index < half else nothing) for index, row in rows]

    def score(self, dataset):
        return [
            (int(index), -float(np.count_nonzero(row["decoder_target_tokens"])))
            for index, row in dataset.as_numpy_iterator()
        ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("documentation_kind", {"accuracy": 0.5}),
        ("documentation_summary", {"rouge1": 0.5, "rouge2": 0.5, "rougeLsum": 0.5}),
        ("documentation_arguments_template_heldout", {"set_f1": 0.5, "set_exact": 0.5}),
    ],
)
def test_seqio_evaluator_runs_the_metrics(examples, name, expected):
    evaluator = seqio.Evaluator(name, seqio.EncDecFeatureConverter(pack=False), eval_split="test")
    model = Model()
    metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=model.predict, score_fn=model.score)
    found = {key: float(getattr(value, "value", value)) for key, value in metrics.result()[name].items()}
    assert found == pytest.approx(expected)


def test_seqio_evaluator_ranks(examples):
    """A score that depends on the option's length alone is right half of the time."""
    name = "documentation_method_rank"
    evaluator = seqio.Evaluator(name, seqio.EncDecFeatureConverter(pack=False), eval_split="test")
    model = Model()
    metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=model.predict, score_fn=model.score)
    found = metrics.result()[name]
    assert set(found) == {"rank_accuracy", "rank_accuracy_per_token"}
    assert float(getattr(found["rank_accuracy"], "value", found["rank_accuracy"])) == 0.5
    # Every token scores -1, so the means tie and the credit is shared.
    assert float(getattr(found["rank_accuracy_per_token"], "value", found["rank_accuracy_per_token"])) == 0.5


def test_mixture_rates_are_example_counts(examples):
    mixture = seqio.MixtureRegistry.get(documentation.MIXTURE)
    assert [mixture.get_rate(task) for task in mixture.tasks] == [SIZES["train"]] * 4
    row = next(iter(mixture.get_dataset({"inputs": 512, "targets": 64}, split="train", seed=0).as_numpy_iterator()))
    assert row["targets"][-1] == 1


def test_bad_clusters_are_refused():
    ten = tuple(Template(str(number), f"{number} {{docstring}} {{options_}}") for number in range(10))
    arguments = {"name": "c", "fields": ("docstring",), "has_options": True, "metric_fns": (accuracy,)}
    assert documentation.cluster.Cluster(**arguments, templates=ten).task == "documentation_c"
    with pytest.raises(ValueError, match="9 templates"):
        documentation.cluster.Cluster(**arguments, templates=ten[:9])
    with pytest.raises(ValueError, match="same inputs"):
        documentation.cluster.Cluster(**arguments, templates=(*ten[:9], Template("x", ten[0].inputs)))
    with pytest.raises(ValueError, match="unknown"):
        documentation.cluster.Cluster(**{**arguments, "has_options": False}, templates=ten)


def test_splits_are_the_shared_ones(examples):
    assert tuple(seqio.TaskRegistry.get("documentation_package").splits) == SPLITS
    assert seqio.TaskRegistry.get("documentation_package_rank").splits == ("validation", "test")
