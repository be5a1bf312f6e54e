"""Public Tasks as small local ones of the same shape: T5 (GLUE, SuperGLUE, SQuAD, translation, pretraining), T0, FLAN.

Every function is written for these tests after what the public preprocessors do with their examples; sources are rows
in memory or lines of text.
"""

import functools

import numpy as np

from tests.beam_pipelines.caching.small_tasks import placeholder_step, rows_source
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")

SENTENCES = ["the cat sat on the mat .", "a dog barked at two men !", "it rained all day , didn't it ?", "so be it ."]
OTHERS = ["a cat was sitting .", "the dog slept .", "the day was dry .", "it is so ."]


def over_examples(function, **keywords):
    """A step that maps one example to one."""

    def step(dataset):
        return dataset.map(lambda example: function(example, **keywords))

    step.__name__ = function.__name__
    return step


def glue(example, name, labels, features):
    """T5's text-to-text form: "rte sentence1: ... sentence2: ..." and the label's word."""
    parts = [name]
    for feature in features:
        parts += [f"{feature}:", example[feature]]
    label = tf.cond(
        example["label"] == -1,
        lambda: tf.constant("<unk>"),
        lambda: tf.gather(tf.constant(labels), tf.maximum(example["label"], 0)),
    )
    return {"inputs": tf.strings.join(parts, " "), "targets": label, "idx": [example["idx"]]}


def stsb(example):
    """A score to the nearest fifth, as text."""
    score = tf.strings.as_string(tf.round(example["label"] * 5) / 5, precision=1)
    text = tf.strings.join(["stsb sentence1:", example["sentence1"], "sentence2:", example["sentence2"]], " ")
    return {"inputs": text, "targets": score, "idx": [example["idx"]]}


def wsc(example):
    """The pronoun between stars."""
    words = tf.strings.split(example["text"])
    at = example["at"]
    marked = tf.concat([words[:at], [tf.strings.join(["*", words[at], "*"])], words[at + 1 :]], 0)
    return {
        "inputs": tf.strings.join(["wsc:", tf.strings.reduce_join(marked, separator=" ")], " "),
        "targets": example["noun"],
    }


def record(dataset):
    """One example for every answer, none for a question without."""

    def one(example):
        answers = example["answers"]
        count = tf.size(answers)
        passage = tf.strings.regex_replace(example["passage"], r"(\.|\?|\!)\n@highlight\n", r"\1 ")
        text = tf.strings.join(["record query:", example["query"], "passage:", passage], " ")
        return {"inputs": tf.fill([count], text), "targets": answers}

    return dataset.map(one).unbatch()


def squad(example):
    """Punctuation apart, the first answer."""

    def pad(text):
        text = tf.strings.regex_replace(text, r"([^\s\w])", r" \1 ")
        return tf.strings.regex_replace(text, r"\s+", " ")

    text = tf.strings.join(["question:", pad(example["question"]), "context:", pad(example["context"])], " ")
    return {"inputs": text, "targets": pad(example["answers"][0]), "id": example["id"]}


def translate(example, source, target):
    return {"inputs": tf.strings.join([f"translate {source} to {target}: ", example["en"]]), "targets": example["de"]}


def to_text(dataset):
    """T5's rekey for pretraining: no inputs yet."""
    return dataset.map(lambda line: {"inputs": "", "targets": line})


def reduce_concat_tokens(dataset, batch_size=2):
    """Neighbours become one long text."""
    return (
        dataset.map(lambda e: {"targets": e["targets"]})
        .padded_batch(batch_size, {"targets": [None]})
        .map(lambda e: {"targets": tf.boolean_mask(e["targets"], e["targets"] != 0)})
    )


def split_tokens(dataset, sequence_length):
    """Texts in pieces of the length, the last one short."""
    return dataset.flat_map(
        lambda e: tf.data.Dataset.from_tensor_slices(e["targets"]).batch(sequence_length["targets"])
    ).map(lambda ids: {"targets": ids})


def span_corruption(dataset, sequence_length, output_features):
    """Random tokens become sentinels; the seeds are seqio's."""

    @seqio.map_over_dataset(num_seeds=1)
    def corrupt(example, seed):
        ids = example["targets"][: sequence_length["targets"] - 1]
        hidden = tf.random.stateless_uniform(tf.shape(ids), seed) < 0.15
        sentinel = output_features["targets"].vocabulary.vocab_size - 1
        return {
            "inputs": tf.where(hidden, sentinel, ids),
            "targets": tf.concat([[sentinel], tf.boolean_mask(ids, hidden)], 0),
        }

    return corrupt(dataset)


def prefix_lm(dataset, sequence_length):
    """A random place divides a text."""

    def divide(example):
        ids = example["targets"][: sequence_length["targets"]]
        at = tf.random.uniform([], 0, tf.size(ids) + 1, tf.int32)
        return {"inputs": ids[:at], "targets": ids[at:]}

    return dataset.map(divide)


def fixed_prefix_lm(dataset, sequence_length):
    """The first tokens, as many as inputs may have, are the prefix."""
    at = sequence_length["inputs"]
    return dataset.map(lambda e: {"inputs": e["targets"][:at], "targets": e["targets"][at:]})


def t0_template(example):
    """A prompt with its choices: "premise ... Question: ... True or False?"."""
    prompt = tf.strings.join([example["sentence1"], "\nQuestion: ", example["sentence2"], " True or False?"])
    choices = tf.constant(["True", "False"])
    return {
        "inputs": prompt,
        "targets": choices[example["label"]],
        "answer_choices": choices,
        "label": example["label"],
    }


def rank_choices(dataset):
    """An example for every choice, with which of them is right."""

    def one(number, example):
        choices = example["answer_choices"]
        count = tf.size(choices)
        places = tf.range(count, dtype=tf.int32)
        return {
            "inputs": tf.fill([count], example["inputs"]),
            "targets": choices,
            "idx": tf.stack([tf.fill([count], tf.cast(number, tf.int32)), places], 1),
            "is_correct": tf.equal(places, example["label"]),
            "weight": tf.fill([count], 1.0),
        }

    return dataset.enumerate().map(one).unbatch()


def flan_options(example):
    """FLAN's list of options behind the question."""
    text = tf.strings.join([example["sentence1"], "\n\n", example["sentence2"], "\n\nOPTIONS:\n- yes\n- no"])
    return {"inputs": text, "targets": tf.constant(["yes", "no"])[example["label"]]}


def few_shot(dataset, shots):
    """Solved examples in front of the last of a group; what is left over makes none."""

    def join(group):
        solved = tf.strings.join([group["inputs"][:shots], "\n", group["targets"][:shots], "\n\n"])
        prompt = tf.strings.join([tf.strings.reduce_join(solved), group["inputs"][shots]])
        return {"inputs": prompt, "targets": group["targets"][shots]}

    return dataset.batch(shots + 1, drop_remainder=True).map(join)


def random_template(dataset):
    """One of two templates for every example; the seeds are seqio's."""

    @seqio.map_over_dataset(num_seeds=1)
    def choose(example, seed):
        first = tf.random.stateless_uniform([], seed) < 0.5
        return {**example, "inputs": tf.strings.join([tf.where(first, "Q: ", "Please answer: "), example["inputs"]])}

    return choose(dataset)


def pairs(**more):
    """Rows of two sentences and a label."""
    rows = {
        "sentence1": SENTENCES,
        "sentence2": OTHERS,
        "label": np.array([0, 1, 1, 0], np.int32),
        "idx": np.arange(4, dtype=np.int32),
    }
    return rows_source({**rows, **more})


def features_of(vocabulary, **more):
    """inputs and targets, as T5's Tasks have them."""
    own = {"inputs": seqio.Feature(vocabulary, add_eos=True, required=False), "targets": seqio.Feature(vocabulary)}
    return {**own, **more}


def register(add_task, vocabulary, lines):
    """All of them.

    Args:
      add_task: the fixture. vocabulary: of inputs and targets, with sentinels. lines: pattern of text files.

    Returns:
      name -> Task.
    """
    features = features_of(vocabulary)
    tokenize, append = seqio.preprocessors.tokenize, seqio.preprocessors.append_eos
    after_trim = seqio.preprocessors.append_eos_after_trim
    two = ["sentence1", "sentence2"]
    text = seqio.TextLineDataSource({"train": lines})

    def supervised(name, source, *steps, place=True, own=features):
        placeholder = [placeholder_step()] if place else []
        return add_task(name, [*steps, tokenize, *placeholder, append], own, source)

    def pretraining(name, *steps, last=after_trim):
        return add_task(name, [to_text, tokenize, placeholder_step(), *steps, last], features, text)

    rank = {
        "idx": seqio.ContinuousFeature(dtype=tf.int32),
        "is_correct": seqio.ContinuousFeature(dtype=tf.bool, rank=0),
        "weight": seqio.ContinuousFeature(dtype=tf.float32, rank=0),
    }
    shots = functools.partial(few_shot, shots=1)
    t0 = over_examples(t0_template)
    options = over_examples(flan_options)
    answers = tf.ragged.constant([["cat", "the cat"], [], ["rain"], ["it"]])
    record_rows = {"query": OTHERS, "passage": [f"{line}\n@highlight\n" for line in SENTENCES], "answers": answers}
    squad_rows = {
        "question": OTHERS,
        "context": SENTENCES,
        "answers": [["the cat"], ["two men"], ["didn't"], ["so"]],
        "id": list("abcd"),
    }
    made = [
        supervised("glue_cola", pairs(), over_examples(glue, name="cola", labels=["no", "yes"], features=two[:1])),
        supervised("glue_rte", pairs(), over_examples(glue, name="rte", labels=["entails", "not"], features=two)),
        supervised(
            "glue_mnli_test",
            pairs(label=np.full(4, -1, np.int32)),
            over_examples(glue, name="mnli", labels=["entailment", "neutral", "contradiction"], features=two),
        ),
        supervised("glue_stsb", pairs(label=np.array([0.0, 2.49, 4.9, 5.0], np.float32)), over_examples(stsb)),
        supervised(
            "super_glue_boolq", pairs(), over_examples(glue, name="boolq", labels=["False", "True"], features=two)
        ),
        supervised(
            "super_glue_wsc",
            rows_source({"text": SENTENCES, "at": np.array([1, 5, 6, 2], np.int32), "noun": list("abcd")}),
            over_examples(wsc),
        ),
        supervised("super_glue_record", rows_source(record_rows), record),
        supervised("squad_v010", rows_source(squad_rows), over_examples(squad)),
        supervised(
            "wmt_t2t_ende",
            rows_source({"en": SENTENCES, "de": OTHERS}),
            over_examples(translate, source="English", target="German"),
            place=False,
        ),
        supervised("t0_rte", pairs(), t0),
        supervised("t0_rte_score_eval", pairs(), t0, rank_choices, own={**features, **rank}),
        supervised("flan_rte", pairs(), options),
        supervised("flan_rte_few_shot", pairs(), options, shots),
        supervised("flan_rte_drawn_once", pairs(), options, random_template),
        supervised("flan_rte_drawn", pairs(), options, random_template, place=False),
        pretraining("c4_span_corruption", reduce_concat_tokens, span_corruption),
        pretraining("c4_prefix_lm", prefix_lm),
        pretraining("c4_fixed_prefix_lm", fixed_prefix_lm),
        pretraining("c4_lm", reduce_concat_tokens, split_tokens),
        pretraining("c4_lm_plain_eos", reduce_concat_tokens, split_tokens, last=append),
    ]
    late_shots = [options, placeholder_step(), shots, tokenize, append]
    made.append(add_task("flan_rte_late_few_shot", late_shots, features, pairs()))
    return {task.name: task for task in made}
