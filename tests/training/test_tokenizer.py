"""Which tokenizer a run has: named in any form, else its cache's; never another than the data and the model have."""

import json
import shutil
from pathlib import Path

import pytest

from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives import CausalLM
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer
from t5x_style.models.presets.llama import llama
from t5x_style.training import tokenizer
from t5x_style.training.optimizers import AdamW
from t5x_style.training.run import Evaluation, TrainRun
from t5x_style.training.schedules import Constant
from tests.training.text_caches import TEMPLATE, write_plain_cache, write_text_cache, write_tokenizer

PIECES = Path(__file__).parent.parent / "fixtures" / "model_dir_0.1" / "tokenizer" / "sentencepiece.model"
OTHER = [f"other{number}" for number in range(90)]


@pytest.fixture
def folder(tmp_path):
    return write_tokenizer(tmp_path / "hf")


def run_of(tmp_path, cache, name=None, vocab_size=95, evaluated=None, **settings):
    data = DataConfig(str(cache), "data", CausalLM(), batch_size=8, length=16)
    evaluation = None
    if evaluated is not None:
        held = DataConfig(
            str(evaluated), "data", CausalLM(), batch_size=8, length=16, split="validation", repeat=False, shuffle=False
        )
        evaluation = Evaluation(held, every=1)
    return TrainRun(
        model_dir=str(tmp_path / "model"),
        data=data,
        tokenizer=None if name is None else str(name),
        optimizer=AdamW(Constant(1e-3)),
        steps=1,
        model=llama(vocab_size, 16, 1, 2),
        evaluation=evaluation,
        **settings,
    )


def refused(run):
    with pytest.raises(UserError) as caught:
        tokenizer.of_run(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_caches_own_whatever_form_it_has(folder, tmp_path):
    for number, source in enumerate((folder, PIECES)):
        made = open_tokenizer(source)
        cache = write_text_cache(tmp_path / f"cache{number}", made)
        run = run_of(tmp_path, cache, vocab_size=200)  # rows for more ids, as Qwen's table has
        found = tokenizer.of_run(run)
        assert found.fingerprint == made.fingerprint
        assert found.own_files() == made.own_files()
    assert isinstance(found, Vocabulary)


@pytest.mark.parametrize("name", ["hf", "hf/tokenizer.json", "kept", "run", "pieces.model", "run_of_pieces"])
def test_every_name_that_a_tokenizer_has(folder, tmp_path, name):
    for place in ("kept", "run/tokenizer"):
        shutil.copytree(folder, tmp_path / place)
    (tmp_path / "run_of_pieces" / "tokenizer").mkdir(parents=True)
    shutil.copyfile(PIECES, tmp_path / "run_of_pieces" / "tokenizer" / "sentencepiece.model")
    shutil.copyfile(PIECES, tmp_path / "pieces.model")
    made = open_tokenizer(PIECES if "pieces" in name else folder)
    cache = write_text_cache(tmp_path / "cache", made, facts=False)
    assert tokenizer.of_run(run_of(tmp_path, cache, tmp_path / name, 200)).own_files() == made.own_files()


def test_an_older_cache_takes_that_of_the_models_start(folder, tmp_path):
    cache = write_text_cache(tmp_path / "cache", open_tokenizer(folder), facts=False)
    message = refused(run_of(tmp_path, cache))
    assert (
        "holds no tokenizer (older caches do not); name the one that it was made with as TrainRun.tokenizer" in message
    )
    for start in (str(folder), {"": str(folder), "embedding": "elsewhere"}):
        found = tokenizer.of_run(run_of(tmp_path, cache, init_from=start))
        assert found.own_files()["chat_template.jinja"] == TEMPLATE.encode()


def test_a_run_that_goes_on_has_its_own(folder, tmp_path):
    cache = write_text_cache(tmp_path / "cache", open_tokenizer(folder), facts=False)
    run = run_of(tmp_path, cache)
    shutil.copytree(folder, tmp_path / "model" / "tokenizer")
    refused(run)  # left by a start without a checkpoint
    saved = tmp_path / "model" / "checkpoints" / "3"
    shutil.copytree(next((PIECES.parents[1] / "checkpoints").iterdir()), saved)
    assert tokenizer.of_run(run).path == tmp_path / "model" / "tokenizer"


def test_the_files_of_the_start_are_kept_where_they_say_more(folder, tmp_path):
    made = open_tokenizer(folder)
    cache = write_text_cache(tmp_path / "cache", made)
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        (next((cache / "vocabularies").iterdir()) / "tokenizer" / name).unlink()
    assert set(tokenizer.of_run(run_of(tmp_path, cache)).own_files()) == {"tokenizer.json"}
    assert tokenizer.of_run(run_of(tmp_path, cache, init_from=str(folder))).own_files() == made.own_files()


def test_a_class_that_only_the_models_config_tells_goes_with_the_files(tmp_path):
    """T5's spiece.model is another tokenizer with T5's extra ids behind it, of which its folder says nothing else."""
    folder = tmp_path / "t5"
    folder.mkdir()
    shutil.copyfile(PIECES, folder / "spiece.model")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    made = open_tokenizer(folder)
    cache = write_text_cache(tmp_path / "cache", made)
    found = tokenizer.of_run(run_of(tmp_path, cache, vocab_size=made.size))
    assert found.path != folder
    assert (found.fingerprint, found.size) == (made.fingerprint, made.size)
    assert found.size == Vocabulary(PIECES).size + 100
    assert set(found.own_files()) == {"spiece.model", "tokenizer_config.json"}
    assert set(made.own_files()) == {"spiece.model", "tokenizer_config.json"}


def test_another_tokenizer_than_the_caches_is_refused(folder, tmp_path):
    other = open_tokenizer(write_tokenizer(tmp_path / "other", OTHER))
    made = open_tokenizer(folder)
    cache, second = write_text_cache(tmp_path / "cache", made), write_text_cache(tmp_path / "second", other)
    message = refused(run_of(tmp_path, cache, other.path))
    assert f"was tokenised with another tokenizer ({made.fingerprint[:12]}) than '{other.path}'" in message
    assert f"({other.fingerprint[:12]}); cache it again with that one, or leave TrainRun.tokenizer out" in message
    message = refused(run_of(tmp_path, cache, evaluated=second))
    assert f"cache 'data' in {second} was tokenised with another tokenizer" in message
    assert "use caches of one tokenizer" in message


def test_a_cache_of_another_tokenizer_than_the_models_own_is_refused(folder, tmp_path):
    """Its ids would mean other words to the model: training goes on from nonsense without a word."""
    other = open_tokenizer(write_tokenizer(tmp_path / "other", OTHER))
    cache = write_text_cache(tmp_path / "cache", other)
    message = refused(run_of(tmp_path, cache, init_from=str(folder)))
    assert f"({other.fingerprint[:12]}) than the model's own '{folder}'" in message
    assert "name the one that you want as TrainRun.tokenizer" in message
    assert tokenizer.of_run(run_of(tmp_path, cache, other.path, init_from=str(folder))).path == other.path


def test_never_more_ids_than_rows(folder, tmp_path):
    cache = write_text_cache(tmp_path / "cache", open_tokenizer(folder))
    assert "the tokenizer has 95 ids, the model only 94" in refused(run_of(tmp_path, cache, vocab_size=94))
    plain = write_plain_cache(tmp_path / "plain")
    assert "the tokenizer has 95 ids, the model only 94" in refused(run_of(tmp_path, plain, folder, vocab_size=94))
    counted = write_plain_cache(tmp_path / "counted", 60)
    assert "has ids up to 59, the model only 59 rows for them" in refused(run_of(tmp_path, counted, vocab_size=59))


@pytest.mark.parametrize("size", [None, 60])
def test_ids_of_no_text_need_none(tmp_path, folder, size):
    cache = write_plain_cache(tmp_path / "cache", size)
    assert tokenizer.of_run(run_of(tmp_path, cache)) is None
    if size is None:  # they are taken for the model's own
        assert tokenizer.of_run(run_of(tmp_path, cache, folder)).size == 95
        assert tokenizer.of_run(run_of(tmp_path, cache, init_from=str(folder))).size == 95
        assert tokenizer.of_run(run_of(tmp_path, cache, init_from=str(folder), vocab_size=94)) is None


def test_ids_as_they_came_with_an_eos_are_of_no_text_too(tmp_path, folder):
    """seqio's PassThroughVocabulary(size, eos_id) has a fingerprint that no tokenizer can have."""
    cache = write_plain_cache(tmp_path / "cache", 60, kind="seqio.vocabularies.PassThroughVocabulary")
    assert tokenizer.of_run(run_of(tmp_path, cache)) is None
    for settings in ({"name": folder}, {"init_from": str(folder)}):
        assert tokenizer.of_run(run_of(tmp_path, cache, **settings)).path == folder


def test_what_is_no_tokenizer_is_one_line(tmp_path, folder):
    cache = write_text_cache(tmp_path / "cache", open_tokenizer(folder))
    assert "does not exist; give a SentencePiece model, or a folder" in refused(run_of(tmp_path, cache, "/no/such"))
    (tmp_path / "empty").mkdir()
    assert "holds no tokenizer" in refused(run_of(tmp_path, cache, tmp_path / "empty"))
    (tmp_path / "config.json").write_text(json.dumps({}))
    assert "is not a SentencePiece model" in refused(run_of(tmp_path, cache, tmp_path / "config.json"))


def test_a_broken_tokenizer_of_the_start_counts_only_where_it_is_needed(folder, tmp_path):
    made = open_tokenizer(folder)
    held = write_text_cache(tmp_path / "cache", made)
    older = write_text_cache(tmp_path / "older", made, facts=False)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text('{"model": 3}')
    assert tokenizer.of_run(run_of(tmp_path, held, init_from=str(broken))).fingerprint == made.fingerprint
    assert "the tokenizer cannot be read" in refused(run_of(tmp_path, older, init_from=str(broken)))
