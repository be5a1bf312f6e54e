"""What of a model may change between two runs: how its parameters are drawn, and dropout."""

import pytest

from t5x_style.errors import UserError
from t5x_style.models.presets import bert, llama, lstm, t5
from t5x_style.models.serialization import to_json
from t5x_style.models.specs import NO_DROPOUT, DropoutSpec, InitSpec
from t5x_style.training.architecture import check_same, starting_config

OTHER = {"init": InitSpec(0.5), "dropout": DropoutSpec(embedding=0.3)}


def check(folder, found, wanted):
    (folder / "model.json").write_text(to_json(found))
    check_same(str(folder), wanted)


@pytest.mark.parametrize("preset", [llama.llama2, bert.bert, t5.t5, lstm.lstm])
def test_initialisation_and_dropout_may_differ(preset, tmp_path):
    check(tmp_path, preset("tiny"), preset("tiny", **OTHER))
    check(tmp_path, preset("tiny", dropout=NO_DROPOUT), preset("tiny"))


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        (llama.llama2("tiny"), llama.llama2("tiny", 50), "vocab_size is 50, not 1024; use another folder"),
        (t5.t5("tiny"), t5.t5("tiny", 50, **OTHER), "encoder.vocab_size is 50, not 1024"),
        (bert.bert("tiny"), llama.llama2("tiny"), "it is a EncoderConfig, configured is a DecoderConfig"),
    ],
)
def test_all_else_must_be_equal(found, wanted, message, tmp_path):
    with pytest.raises(UserError, match=f"holds a run of another model: .*{message}"):
        check(tmp_path, found, wanted)


def test_a_table_of_another_size_is_refused(tmp_path):
    other = llama.llama2("tiny", 1000, vocab_multiple=1)
    message = "holds a token table of 1024 rows, configured are 1000; use its vocab_multiple"
    with pytest.raises(UserError, match=message):
        check(tmp_path, llama.llama2("tiny", 1000), other)
    with pytest.raises(UserError, match=message):
        starting_config(str(tmp_path), other, "TrainRun.init_from")
