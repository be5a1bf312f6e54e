"""Vocabularies by their content: fingerprints, special ids, what a cache keeps, one that is changed in place."""

import functools
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest

from t5x_style.data.manifest import read_manifest
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.data.vocabulary_facts import ENDS_SENTENCE, SPECIAL, STARTS_WORD, read_facts, tokenizer_folder
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer
from tests.beam_pipelines.caching.small_tasks import (
    assert_as_seqio,
    placeholder_step,
    read_cache,
    rows_source,
    run,
    to_targets,
    tokenize,
)
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")
vocabularies = Lazy("beam_pipelines.caching.vocabularies")
kept = Lazy("beam_pipelines.caching.kept_vocabularies")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", ".", "Über", "uber", "##ing", "[", "]"]


def write_pieces(path, pieces=PIECES):
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return str(path)


def wordpiece(path, **options):
    settings = {"token_out_type": tf.int32, "start_of_sequence_id": 2, "end_of_sequence_id": 3, **options}
    return seqio.BertWordPieceVocabulary(path, **settings)


def flat_wordpiece(dataset, output_features):
    """seqio's own step keeps words apart, in a padded matrix."""
    vocabulary = output_features["targets"].vocabulary
    return dataset.map(lambda e: {"targets": vocabulary.tf_tokenizer.tokenize([e["targets"]]).flat_values})


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory):
    import sentencepiece

    folder = tmp_path_factory.mktemp("model")
    text = folder / "text.txt"
    text.write_text("one two three. four five six seven\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "m"),
        vocab_size=40,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return folder / "m.model"


def test_all_of_seqio_s_vocabularies_have_a_fingerprint_of_their_content(tmp_path, sentencepiece_model):
    path = write_pieces(tmp_path / "vocab.txt")
    other = write_pieces(tmp_path / "other.txt", [*PIECES[:-1], "}"])
    modules = seqio.vocabularies
    made = [
        seqio.ByteVocabulary(),
        seqio.ByteVocabulary(extra_ids=1),
        seqio.PassThroughVocabulary(259, eos_id=1),
        seqio.PassThroughVocabulary(259, eos_id=2),
        modules.FullCodepointVocabulary(),
        modules.PartialCodepointVocabulary([65, 66]),
        modules.PartialCodepointVocabulary([66, 65]),
        modules.UnigramVocabulary(["a", "b"]),
        modules.UnigramVocabulary(["b", "a"]),
        wordpiece(path),
        wordpiece(path, lower_case=True),
        wordpiece(path, end_of_sequence_id=4),
        wordpiece(other),
        wordpiece(path, split_unknown_characters=True),
        seqio.SentencePieceVocabulary(str(sentencepiece_model)),
        seqio.SentencePieceVocabulary(str(sentencepiece_model), extra_ids=3),
        seqio.SentencePieceVocabulary(str(sentencepiece_model), extra_ids=3, reverse_extra_ids=False),
    ]
    found = [vocabularies.vocabulary_fingerprint(vocabulary) for vocabulary in made]
    assert len(set(found)) == len(made)
    again = [vocabularies.vocabulary_fingerprint(wordpiece(path)), vocabularies.vocabulary_fingerprint(made[0])]
    assert again == [found[9], found[0]]
    assert vocabularies.vocabulary_fingerprint(seqio.PassThroughVocabulary(259)) is None
    for vocabulary in made:
        info, (facts, _) = vocabularies.vocabulary_info(vocabulary), kept.facts_and_files(vocabulary)
        assert info.size == vocabulary.vocab_size - isinstance(vocabulary, seqio.BertWordPieceVocabulary)
        assert facts.classes is None or len(facts.classes) == info.size
    assert vocabularies.vocabulary_info(made[9]).bos_id == 2
    assert vocabularies.vocabulary_info(wordpiece(path, end_of_sequence_id=102)).eos_id is None


def test_a_class_of_ones_own_is_told_by_what_it_holds(tmp_path):
    class Words(seqio.vocabularies.UnigramVocabulary):
        def __init__(self, words, path=None):
            super().__init__(words)
            self.path = path

    path = tmp_path / "words"
    path.write_text("one")
    first, second = (vocabularies.vocabulary_fingerprint(Words(words)) for words in (["a", "b"], ["b", "a"]))
    assert first != second
    before = vocabularies.vocabulary_fingerprint(Words(["a"], str(path)))
    path.write_text("two")
    assert vocabularies.vocabulary_fingerprint(Words(["a"], str(path))) != before


def test_sentencepiece_is_the_tokenizer_that_we_train_with(sentencepiece_model):
    for extra_ids in (0, 3):
        vocabulary = seqio.SentencePieceVocabulary(str(sentencepiece_model), extra_ids=extra_ids)
        ours = Vocabulary(sentencepiece_model, extra_ids=extra_ids)
        assert vocabularies.vocabulary_fingerprint(vocabulary) == ours.fingerprint
        facts, own = kept.facts_and_files(vocabulary)
        assert facts.special == ours.facts().special
        assert own == ours.own_files()
    upwards = seqio.SentencePieceVocabulary(str(sentencepiece_model), extra_ids=3, reverse_extra_ids=False)
    facts, own = kept.facts_and_files(upwards)
    assert [facts.special[f"<extra_id_{k}>"] for k in range(3)] == [40, 41, 42]
    assert upwards.encode("one <extra_id_1> two") == upwards.tokenizer.encode("one <extra_id_1> two")


def test_a_vocabulary_changed_while_its_ids_were_cached(tmp_path):
    with pytest.raises(UserError, match="ByteVocabulary was changed while its ids were cached; run the same command"):
        kept.keep(str(tmp_path), {"0" * 64: seqio.ByteVocabulary()})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there(add_task, tmp_path):
    features = {"targets": seqio.Feature(seqio.SentencePieceVocabulary(str(tmp_path / "none.model")))}
    add_task("unread", [*tokenize(), placeholder_step(), seqio.preprocessors.append_eos], features)
    with pytest.raises(UserError, match=r"none.model: no tokenizer can be read here"):
        run(tmp_path, "unread")


def test_wordpiece_cache_opens_as_the_same_tokenizer(add_task, tmp_path):
    texts = ["Hello worlds.", "ÜBER hello", "hello[MASK]xyz world"]
    path = write_pieces(tmp_path / "vocab.txt")
    for lower in (False, True):
        vocabulary = wordpiece(path, lower_case=lower)
        features = {"targets": seqio.Feature(vocabulary)}
        steps = [to_targets, flat_wordpiece, placeholder_step(), seqio.preprocessors.append_eos]
        task = add_task(f"pieces_{lower}", steps, features, source=rows_source(texts))
        output = tmp_path / f"cache{lower}"
        run(output, task.name)
        assert_as_seqio(output, task)
        ((fingerprint, info),) = read_manifest(output, task.name, "train").vocabularies.items()
        assert (info.size, info.pad_id, info.eos_id, info.bos_id, info.unk_id) == (14, 0, 3, 2, 1)
        tokenizer = open_tokenizer(tokenizer_folder(output, fingerprint))
        assert tokenizer.fingerprint == fingerprint
        assert (tokenizer.size, tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (14, 0, 3, 1)
        cached = [example["targets"].tolist() for example in read_cache(output, task.name)]
        assert [tokenizer.encode(text) for text in texts[:2]] == cached[:2]
        assert cached[0] == ([5, 6, 7, 8] if lower else [1, 6, 7, 8])
        assert cached[1] == ([10, 5] if lower else [1, 5])
        facts = read_facts(output, fingerprint)
        assert facts.special == {name: token for token, name in enumerate(PIECES[:5])}
        assert {role: facts.roles[role] for role in ("mask", "cls", "sep", "pad", "unk", "eos")} == {
            "mask": 4,
            "cls": 2,
            "sep": 3,
            "pad": 0,
            "unk": 1,
            "eos": 3,
        }
        assert facts.classes[[4, 5, 7, 8]].tolist() == [SPECIAL, STARTS_WORD, 0, STARTS_WORD | ENDS_SENTENCE | 8]


def test_kept_facts_of_bytes_and_words(add_task, tmp_path):
    facts, own = kept.facts_and_files(seqio.ByteVocabulary(extra_ids=2))
    assert facts.special == {"<pad>": 0, "</s>": 1, "<unk>": 2, "<extra_id_1>": 259, "<extra_id_0>": 260}
    assert (facts.roles, own, len(facts.classes)) == ({"pad": 0, "eos": 1, "unk": 2}, {}, 261)
    assert facts.classes[[0, 3 + ord("."), 3 + ord(" "), 3 + ord("a"), 260]].tolist() == [4, 10, 1, 0, 4]
    facts, _ = kept.facts_and_files(seqio.vocabularies.UnigramVocabulary(["yes", "no."]))
    # the last is the unknown word, which stands for text
    assert facts.classes.tolist() == [SPECIAL, STARTS_WORD, STARTS_WORD | ENDS_SENTENCE | 8, 0]
    facts, _ = kept.facts_and_files(seqio.vocabularies.PartialCodepointVocabulary([65, 33], extra_ids=1))
    assert (facts.special["<extra_id_0>"], facts.classes.tolist()) == (5, [4, 4, 0, 0, 10, 4])
    run_of_bytes = add_task("bytes", [*tokenize(), placeholder_step(), seqio.preprocessors.append_eos])
    run(tmp_path, run_of_bytes.name, splits=("validation",))
    manifest = read_manifest(tmp_path, "bytes", "validation")
    assert read_facts(tmp_path, manifest.features["targets"].vocabulary).roles["eos"] == 1


def test_a_vocabulary_changed_in_place_is_another_one(add_task, tmp_path):
    path = tmp_path / "vocab.txt"

    def register():
        features = {"targets": seqio.Feature(wordpiece(str(path)), add_eos=False)}
        return add_task("pieces", [to_targets, flat_wordpiece, placeholder_step()], features, rows_source(["hello"]))

    write_pieces(path)
    register()
    run(tmp_path / "cache", "pieces")
    (before,) = read_manifest(tmp_path / "cache", "pieces", "train").vocabularies
    seqio.TaskRegistry.remove("pieces")
    write_pieces(path, [*PIECES[:5], "world", "hello", *PIECES[7:]])  # of the same size
    register()
    with pytest.raises(UserError, match="other code, features, vocabulary"):
        run(tmp_path / "cache", "pieces")
    run(tmp_path / "new", "pieces")
    (after,) = read_manifest(tmp_path / "new", "pieces", "train").vocabularies
    assert after != before
    # (its ids cannot be looked at here: TensorFlow shares a table between all who name its file)
    content = json.loads((tmp_path / "new/vocabularies" / after / "tokenizer/tokenizer.json").read_text())
    assert content["model"]["vocab"]["hello"] == 6
    seqio.TaskRegistry.remove("pieces")
    register()


def test_a_vocabulary_inside_a_step_belongs_to_the_code(add_task, tmp_path):
    def encode(dataset, vocabulary):
        return dataset.map(lambda line: {"targets": vocabulary.encode_tf(line)})

    def register(words):
        vocabulary = seqio.vocabularies.UnigramVocabulary(words)
        steps = [functools.partial(encode, vocabulary=vocabulary), placeholder_step()]
        features = {"targets": seqio.Feature(seqio.PassThroughVocabulary(10), add_eos=False)}
        add_task("hidden", steps, features, rows_source(["a", "b"]))

    register(["a", "b"])
    run(tmp_path, "hidden")
    assert [example["targets"].tolist() for example in read_cache(tmp_path, "hidden")] == [[1], [2]]
    seqio.TaskRegistry.remove("hidden")
    register(["b", "a"])
    with pytest.raises(UserError, match="other code"):
        run(tmp_path, "hidden")
    seqio.TaskRegistry.remove("hidden")
    register(["a", "b"])


def lookup_of(rows):
    """A step that makes ids of whole rows."""

    def step(dataset):
        return dataset.map(lambda row: {"targets": row})

    return step, rows_source(np.array(rows, np.int32))


def test_an_eos_of_a_vocabulary_without_one(add_task, tmp_path):
    step, source = lookup_of([[3, 4], [5, 6]])
    steps = [step, placeholder_step(), seqio.preprocessors.append_eos]
    add_task("none", steps, {"targets": seqio.Feature(seqio.PassThroughVocabulary(10))}, source)
    with pytest.raises(UserError, match=r"EOS is appended to feature 'targets'.*add_eos=False.*eos_id=\.\.\."):
        run(tmp_path, "none")
    # the advice, both ways
    add_task("given", steps, {"targets": seqio.Feature(seqio.PassThroughVocabulary(10, eos_id=9))}, source)
    run(tmp_path, "given")
    expected = assert_as_seqio(tmp_path, seqio.TaskRegistry.get("given"))
    assert expected[0]["targets"].tolist() == [3, 4, 9]
    add_task("not_wanted", steps, {"targets": seqio.Feature(seqio.PassThroughVocabulary(10), add_eos=False)}, source)
    run(tmp_path, "not_wanted")
    assert_as_seqio(tmp_path, seqio.TaskRegistry.get("not_wanted"))
    # seqio's default of 102 is no id of a small file
    vocabulary = seqio.BertWordPieceVocabulary(write_pieces(tmp_path / "v.txt"), token_out_type=tf.int32)
    steps = [to_targets, flat_wordpiece, seqio.preprocessors.append_eos]
    add_task("small", steps, {"targets": seqio.Feature(vocabulary)}, rows_source(["hello"]))
    with pytest.raises(UserError, match=r"BertWordPieceVocabulary has none.*end_of_sequence_id"):
        run(tmp_path, "small")


def test_the_bert_task_of_the_docs(tmp_path):
    """The block in docs/cache_tasks.md, with a small vocab.txt and texts in the place of its paths."""
    page = (Path(__file__).parents[3] / "docs/cache_tasks.md").read_text(encoding="utf-8")
    block = page.split("    # my_bert_tasks.py\n")[1].split("\n\n")[0]
    # [CLS] and [SEP] are 101 and 102, as in BERT's own files.
    unused = [f"[unused{number}]" for number in range(99)]
    pieces = ["[PAD]", "[UNK]", *unused, "[CLS]", "[SEP]", "[MASK]", *PIECES[5:]]
    write_pieces(tmp_path / "vocab.txt", pieces)
    (tmp_path / "lines-0.txt").write_text("Hello worlds.\n\nÜber\n")
    try:
        exec(textwrap.dedent(block).replace("/data/bert/", f"{tmp_path}/").replace("/data/", f"{tmp_path}/"), {})
        task = seqio.TaskRegistry.get("my_bert_lines")
        run(tmp_path / "cache", task.name)
        assert_as_seqio(tmp_path / "cache", task)
    finally:
        seqio.TaskRegistry.remove("my_bert_lines")
    cached = [example["targets"].tolist() for example in read_cache(tmp_path / "cache", "my_bert_lines")]
    assert cached == [[pieces.index(piece) for piece in ("hello", "world", "##s", ".")], [], [pieces.index("uber")]]
    ((fingerprint, info),) = read_manifest(tmp_path / "cache", "my_bert_lines", "train").vocabularies.items()
    assert (info.bos_id, info.eos_id) == (101, 102)
    assert open_tokenizer(tokenizer_folder(tmp_path / "cache", fingerprint)).encode("Hello worlds.") == cached[0]
