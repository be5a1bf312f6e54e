"""A tiny vocabulary and three tiny seqio Tasks with known examples."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SENTENCES = [
    "the package of this text is numpy or jax",
    "yes or no: does the class define the method?",
    "a summary of the first line <b>of</b> & the rest",
    "sum mean norm dot exp log sin cos 0 1 2 3 4 5 6 7 8 9",
]


@pytest.fixture(scope="session")
def vocabulary_file(tmp_path_factory):
    """A SentencePiece BPE model of 400 pieces: pad 0, eos 1, unk 2, bos 3, byte fallback."""
    import sentencepiece

    path = tmp_path_factory.mktemp("vocabulary") / "sentencepiece"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(path),
        vocab_size=330,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=3,
        minloglevel=2,
    )
    return path.with_suffix(".model")


GENERATED = [("which? a", "numpy"), ("which? b", "jax"), ("which? c", "numpy"), ("which? d", "jax"), ("e", "numpy")]
OPTIONS = ["yes", "no"]
RANKED = [("is it? 0", "yes"), ("is it? 1", "no"), ("is it? 2", "yes")]


def accuracy(targets, predictions):
    """Share of equal texts."""
    return {"accuracy": sum(a == b for a, b in zip(targets, predictions)) / len(targets)}


def answer_length(targets, predictions):
    """Mean characters of the predictions."""
    return {"characters": sum(map(len, predictions)) / len(targets)}


def rank(targets, scores):
    """Share of examples whose correct option has the highest score."""
    best = {}
    for ((example, _), correct), score in zip(targets, scores):
        best.setdefault(example, []).append((float(score), correct))
    return {"rank_accuracy": sum(max(rows)[1] for rows in best.values()) / len(best)}


def ranked_target(_, example, is_target=False):
    """((example, option), is_correct) of a row."""
    return (tuple(map(int, example["idx"])), bool(example["is_correct"])) if is_target else None


@pytest.fixture(scope="session")
def tasks(vocabulary_file):
    """Registers tiny_generate, tiny_rank, tiny_both and tiny_without_metrics; returns the names of the first three."""
    import seqio
    import tensorflow as tf

    vocabulary = seqio.SentencePieceVocabulary(str(vocabulary_file))
    features = {
        "inputs": seqio.Feature(vocabulary, add_eos=False),
        "targets": seqio.Feature(vocabulary, add_eos=True),
    }

    def generated(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices(
            {"inputs": [text for text, _ in GENERATED], "targets": [answer for _, answer in GENERATED]}
        )

    def ranked(split, shuffle_files, seed=None):
        rows = [
            (text, option, [index, number], option == answer)
            for index, (text, answer) in enumerate(RANKED)
            for number, option in enumerate(OPTIONS)
        ]
        names = ("inputs", "targets", "idx", "is_correct")
        return tf.data.Dataset.from_tensor_slices(dict(zip(names, map(list, zip(*rows)))))

    def add(name, function, count, **task):
        seqio.TaskRegistry.add(
            name,
            source=seqio.FunctionDataSource(function, splits=["test"], num_input_examples={"test": count}),
            preprocessors=[
                seqio.preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos,
            ],
            output_features=features,
            **task,
        )

    add("tiny_generate", generated, len(GENERATED), metric_fns=[accuracy, answer_length])
    add("tiny_rank", ranked, len(RANKED), metric_fns=[rank], postprocess_fn=ranked_target)
    add("tiny_without_metrics", generated, len(GENERATED), metric_fns=[])
    return ["tiny_generate", "tiny_rank"]
