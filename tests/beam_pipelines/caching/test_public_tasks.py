"""Tasks of the shape of T5's, T0's and FLAN's: cached exactly, or refused with advice that is followed here."""

import pytest

from t5x_style.data.manifest import read_manifest
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.data.vocabulary_facts import tokenizer_folder
from t5x_style.errors import UserError
from tests.beam_pipelines.caching import public_tasks
from tests.beam_pipelines.caching.small_tasks import (
    assert_as_seqio,
    assert_same,
    read_cache,
    run,
    with_eos,
    write_lines,
)
from tests.lazy import Lazy

seqio = Lazy("seqio")
EXACT = (
    "glue_cola",
    "glue_rte",
    "glue_mnli_test",
    "glue_stsb",
    "super_glue_boolq",
    "super_glue_wsc",
    "super_glue_record",
    "squad_v010",
    "wmt_t2t_ende",
    "t0_rte",
    "t0_rte_score_eval",
    "flan_rte",
    "flan_rte_few_shot",
    "flan_rte_late_few_shot",
)
LENGTHS = "inputs=6,targets=9"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import sentencepiece

    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text("\n".join([*public_tasks.SENTENCES, *public_tasks.OTHERS] * 5))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "m"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return folder / "m.model"


@pytest.fixture
def tasks(add_task, model, tmp_path):
    lines = [[f"{a} {b}" for a, b in zip(public_tasks.SENTENCES, public_tasks.OTHERS)], ["so it is .", "no ."]]
    vocabulary = seqio.SentencePieceVocabulary(str(model), extra_ids=10)
    return public_tasks.register(add_task, vocabulary, write_lines(tmp_path / "text", lines))


def test_ordinary_tasks_are_exact(tasks, model, tmp_path):
    run(tmp_path, *EXACT)
    for name in EXACT:
        examples = assert_as_seqio(tmp_path, tasks[name])
        assert len(examples) == {"t0_rte_score_eval": 8}.get(name, 2 if "few_shot" in name else 4), name
        manifest = read_manifest(tmp_path, name, "train")
        assert manifest.append_eos == ("inputs", "targets"), name
    vocabulary = Vocabulary(model, extra_ids=10)
    assert list(manifest.vocabularies) == [vocabulary.fingerprint]
    kept = Vocabulary(tokenizer_folder(tmp_path, vocabulary.fingerprint))
    assert (kept.fingerprint, kept.size) == (vocabulary.fingerprint, vocabulary.size)


REFUSED = {
    "c4_span_corruption": "'span_corruption' after CacheDatasetPlaceholder is random.*the objective SpanCorruption",
    "c4_prefix_lm": "'prefix_lm' after CacheDatasetPlaceholder is random.*the objective PrefixLM",
    "c4_fixed_prefix_lm": "'fixed_prefix_lm' depends on the sequence length.*--sequence_length.*the objective PrefixLM",
    "c4_lm": "'split_tokens' depends on the sequence length.*--sequence_length.*the objective CausalLM",
    "flan_rte_drawn": r"'random_template'.*is random.*or put CacheDatasetPlaceholder\(\) behind it, where",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_others_are_refused_with_advice(tasks, tmp_path, name):
    with pytest.raises(UserError, match=REFUSED[name]) as error:
        run(tmp_path, name)
    assert "\n" not in str(error.value)


def test_any_pretraining_task_up_to_its_placeholder(tasks, tmp_path):
    names = [name for name in tasks if name.startswith("c4_")]
    run(tmp_path, *names, stop=True)
    texts = read_cache(tmp_path, names[0])
    assert len(texts) == 6
    vocabulary = tasks[names[0]].output_features["targets"].vocabulary
    assert vocabulary.decode(texts[-1]["targets"].tolist()) == "no ."
    for name in names:
        assert_same(read_cache(tmp_path, name), texts, ("inputs", "targets"))
        assert "without" in read_manifest(tmp_path, name, "train").code


def test_deterministic_steps_at_one_length(tasks, tmp_path):
    names = ("c4_fixed_prefix_lm", "c4_lm", "c4_lm_plain_eos")
    run(tmp_path, *names, lengths=LENGTHS)
    for name in names:
        examples = assert_as_seqio_or_without_inputs(tmp_path, tasks[name])
        assert max(len(example["targets"]) for example in examples) == 9
    with pytest.raises(UserError, match=r"'prefix_lm'.*is random.*--stop_at_placeholder"):
        run(tmp_path, "c4_prefix_lm", lengths=LENGTHS)


def assert_as_seqio_or_without_inputs(output, task):
    """As `assert_as_seqio`, for a Task whose late steps leave no inputs."""
    manifest = read_manifest(output, task.name, "train")
    expected = list(task.get_dataset({"inputs": 6, "targets": 9}, "train", shuffle=False).as_numpy_iterator())
    assert_same(with_eos(read_cache(output, task.name), manifest), expected, manifest.features)
    assert set(manifest.features) == set(expected[0])
    return expected


def test_what_is_drawn_before_the_placeholder_stays(tasks, tmp_path):
    for folder in ("a", "b"):
        run(tmp_path / folder, "flan_rte_drawn_once")
    assert_same(*(read_cache(tmp_path / each, "flan_rte_drawn_once") for each in "ab"), ("inputs", "targets"))
