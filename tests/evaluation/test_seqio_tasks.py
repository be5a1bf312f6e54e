"""Task data, thinning, and metrics equal to hand-computed ones and to seqio.Evaluator's."""

import numpy as np
import pytest

from t5x_style.data.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.evaluation import seqio_tasks
from tests.lazy import Lazy

seqio = Lazy("seqio")

SCORES = [-1.0, -2.0, -0.5, -0.1, -3.0, -2.5]  # right, right, wrong
ANSWERS = ["numpy", "numpy", "", "jax", "x"]  # two of five right; 5 + 5 + 0 + 3 + 1 characters


def test_generated_metrics_by_hand(tasks, vocabulary_file):
    data = seqio_tasks.load("tiny_generate", "test", None)
    assert data.kinds == {seqio_tasks.PREDICTION}
    assert [row[-1] for row in data.targets] == [1] * 5  # EOS
    outputs = [Vocabulary(vocabulary_file).encode(answer) for answer in ANSWERS]
    computed = seqio_tasks.compute(data, {seqio_tasks.PREDICTION: outputs})
    assert computed.metrics == pytest.approx({"accuracy": 0.4, "characters": 14 / 5})
    assert list(computed.predictions) == ANSWERS
    assert list(computed.targets) == ["numpy", "jax", "numpy", "jax", "numpy"]


def test_rank_metrics_by_hand(tasks):
    data = seqio_tasks.load("tiny_rank", "test", None)
    assert data.kinds == {seqio_tasks.SCORE}
    assert data.groups == [0, 0, 1, 1, 2, 2]
    computed = seqio_tasks.compute(data, {seqio_tasks.SCORE: SCORES})
    assert computed.metrics == pytest.approx({"rank_accuracy": 2 / 3})


def test_same_numbers_as_seqio_evaluator(tasks, vocabulary_file):
    vocabulary = Vocabulary(vocabulary_file)
    padded = [(vocabulary.encode(answer) + [1] + [0] * 9)[:9] for answer in ANSWERS]
    for name in tasks:
        evaluator = seqio.Evaluator(
            name, seqio.EncDecFeatureConverter(pack=False), eval_split="test", async_compute_metrics=False
        )

        def predict(dataset):
            return [(int(index), padded[int(index)]) for index, _ in dataset.as_numpy_iterator()][::-1]

        def score(dataset):
            return [(int(index), SCORES[int(index)]) for index, _ in dataset.as_numpy_iterator()][::-1]

        metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict, score_fn=score)
        data = seqio_tasks.load(name, "test", None)
        outputs = {
            seqio_tasks.PREDICTION: [vocabulary.encode(answer) for answer in ANSWERS],
            seqio_tasks.SCORE: SCORES,
        }
        ours = seqio_tasks.compute(data, {kind: outputs[kind] for kind in data.kinds}).metrics
        assert ours == pytest.approx(metrics.result()[name], abs=1e-12)


@pytest.mark.parametrize(
    ("limit", "generated", "ranked"),
    [
        (None, [0, 1, 2, 3, 4], [0, 0, 1, 1, 2, 2]),
        (2, [0, 2], [0, 0, 1, 1]),
        (1, [0], [0, 0]),
        (9, [0, 1, 2, 3, 4], [0, 0, 1, 1, 2, 2]),
    ],
)
def test_thinning_is_spread_and_keeps_all_options(tasks, limit, generated, ranked):
    assert seqio_tasks.load("tiny_generate", "test", limit).groups == generated
    assert seqio_tasks.load("tiny_rank", "test", limit).groups == ranked


def test_empty_predictions_are_scored(tasks):
    data = seqio_tasks.load("tiny_generate", "test", None)
    computed = seqio_tasks.compute(data, {seqio_tasks.PREDICTION: [[]] * 5})
    assert computed.metrics == {"accuracy": 0.0, "characters": 0.0}


def test_resolve_patterns_and_close_names(tasks):
    assert seqio_tasks.resolve(["tiny_rank", "tiny_*"]) == ["tiny_rank", "tiny_generate", "tiny_without_metrics"]
    with pytest.raises(UserError, match="near names: tiny_generate"):
        seqio_tasks.resolve(["tiny_generat"])


def test_errors_name_the_remedy(tasks, tmp_path):
    with pytest.raises(UserError, match="has no metric functions"):
        seqio_tasks.load("tiny_without_metrics", "test", None)
    with pytest.raises(UserError, match="no split 'train'; it has test"):
        seqio_tasks.load("tiny_rank", "train", None)
    with pytest.raises(UserError, match="cannot be imported"):
        seqio_tasks.load_modules(["no_such_module_anywhere"])


def test_another_vocabulary_is_refused(tasks, vocabulary_file):
    data = seqio_tasks.load("tiny_generate", "test", None)
    vocabulary = Vocabulary(vocabulary_file)
    seqio_tasks.check_vocabulary(data, vocabulary)
    vocabulary.fingerprint = "another"
    with pytest.raises(UserError, match="another vocabulary"):
        seqio_tasks.check_vocabulary(data, vocabulary)


def test_padding_rows_is_eos():
    class WithEos:
        pad_id, eos_id = 0, 1

    array = seqio_tasks._padded([[5, 6], [], [7]], WithEos())
    np.testing.assert_array_equal(array, [[5, 6, 1], [1, 1, 1], [7, 1, 1]])
