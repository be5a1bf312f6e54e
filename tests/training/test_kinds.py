"""What one loop trains, a tiny run each: every kind of model and loss, from drawn parameters or from folders."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import t5x_style
from t5x_style import model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.huggingface.export_model import export_model
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.distillation import Distillation
from t5x_style.losses.dpo import DPO
from t5x_style.losses.loss import ModelSource
from t5x_style.losses.task_heads import TaskHeads
from t5x_style.models import Execution, abstract
from t5x_style.models.presets import bert, llama, t5
from t5x_style.models.specs import DtypePolicy, TaskHeadSpec
from t5x_style.training import check_run, metrics, start
from t5x_style.training.extras import Ema
from t5x_style.training.loop import train
from t5x_style.training.optimizers import AdamW
from t5x_style.training.run import Evaluation, TrainRun
from t5x_style.training.schedules import Constant
from t5x_style.training.setup import set_up
from tests.training.hand_made import Source, data, packed

OLD = Path(__file__).parent.parent / "fixtures" / "model_dir_0.1"
VOCAB = 96
UNROLLED = Execution(scan=False, remat="none")
TOPIC = TaskHeadSpec("topic", "classification", ("a", "b", "c"), pool="first")
pytestmark = pytest.mark.usefixtures("quick_to_compile")


def run_of(folder, batch, **settings):
    shared = {"tokenizer": "none", "optimizer": AdamW(Constant(1e-2)), "steps": 6, "execution": UNROLLED}
    shared |= {"log_every": 1, "tensorboard": False, "checkpoint_every": 3}
    return TrainRun(model_dir=str(folder), data=data(batch), **{**shared, **settings})


def trained(run, batch, source=Source):
    """Runs it as the launcher does, but for the tokenizer; returns the losses of its steps."""
    run = check_run.resolve(run)
    check_run.check_sources(run)
    Path(run.model_dir).mkdir(parents=True, exist_ok=True)
    tokenizer = {"tokenizer/sentencepiece.model": (OLD / "tokenizer" / "sentencepiece.model").read_bytes()}
    model_dir.create(run.model_dir, run.model, "", "", tokenizer)
    train(run, lambda config, rows: source([batch]))
    return [row["loss"] for row in metrics.read(run.model_dir) if row["kind"] == "train"]


def classified(rows=4, accumulation=2):
    """Documents of an encoder with a class: the remainder of their first token."""
    batch = packed(VOCAB, "encoder", rows, accumulation)
    batch["encoder_input_tokens"] = batch["encoder_target_tokens"]
    first = np.where(
        batch["encoder_segment_ids"] == 2,
        batch["encoder_input_tokens"][..., 6:7],
        batch["encoder_input_tokens"][..., :1],
    )
    batch["encoder_topic_labels"] = (first % 3).astype(np.int32)
    batch["encoder_topic_weights"] = (batch["encoder_segment_ids"] > 0).astype(np.float32)
    return batch


def pairs(rows=4, accumulation=2):
    """Rows of one pair: the answers are the second halves of the documents."""
    batch = packed(128, "decoder", rows, accumulation)
    batch["decoder_loss_weights"] = ((batch["decoder_segment_ids"] > 0) & (batch["decoder_positions"] >= 3)).astype(
        np.float32
    )
    return batch


def test_encoder_decoder(tmp_path):
    sides = packed(VOCAB, "encoder")
    batch = packed(VOCAB, "decoder") | {
        name: sides[name] for name in sides if "target" not in name and "loss" not in name
    }
    batch["encoder_input_tokens"] = batch["decoder_target_tokens"]
    run = run_of(tmp_path, batch, model=t5.t5_v1_1("tiny", VOCAB))
    losses = trained(run, batch)
    assert losses[-1] < losses[0] - 0.3
    assert t5x_style.load_model(tmp_path).logits([[5, 6]], [[7, 8]]).shape == (1, 2, VOCAB)


def test_encoder_with_a_task_head_from_a_pretrained_encoder(tmp_path):
    """Masked words first; then a head of its own over the same trunk, of which only the head is drawn."""
    masked = packed(VOCAB, "encoder")
    config = bert.bert("tiny", VOCAB)
    losses = trained(run_of(tmp_path / "masked", masked, model=config), masked)
    assert losses[-1] < losses[0] - 0.1
    batch = classified()
    config = dataclasses.replace(config, head=None, tied_embeddings=False, tasks=(TOPIC,), pooler=False)
    loss = TaskHeads({"topic": "classification"}, segments=2)
    run = run_of(tmp_path / "topic", batch, model=config, loss=loss, init_from=str(tmp_path / "masked"))
    losses = trained(run, batch)
    assert losses[0] == pytest.approx(np.log(3), abs=0.5)
    assert losses[-1] < 0.8 * losses[0]
    rows = metrics.read(tmp_path / "topic")
    assert {"topic_nll", "topic_accuracy"} <= set(rows[0])


def test_classification_over_a_frozen_trunk(tmp_path):
    batch = classified()
    config = dataclasses.replace(
        bert.bert("tiny", VOCAB), head=None, tied_embeddings=False, tasks=(TOPIC,), pooler=False
    )
    loss = TaskHeads({"topic": "classification"}, segments=2)
    frozen = ("task_heads/*",)
    run = run_of(tmp_path, batch, model=config, loss=loss, trainable=frozen, steps=3, extras={"ema": Ema(0.5)})
    trained(run, batch)
    saved = checkpoints.stored.shapes(tmp_path / "checkpoints" / "3" / "params")
    assert set(saved) == {"task_heads/topic/scores/kernel", "task_heads/topic/scores/bias"}
    whole = checkpoints.stored.shapes(tmp_path / "frozen") | saved
    assert len(whole) == len(jax.tree.leaves(abstract(config)))
    model, average = (t5x_style.load_model(tmp_path, average=name).model for name in (None, "ema"))
    np.testing.assert_array_equal(model.embedding.table[...], average.embedding.table[...])
    assert not np.array_equal(
        model.task_heads["topic"].scores.kernel[...], average.task_heads["topic"].scores.kernel[...]
    )
    again = trained(dataclasses.replace(run, steps=4), batch)  # its frozen arrays are read, not drawn anew
    whole = trained(dataclasses.replace(run, model_dir=f"{tmp_path}-straight", steps=4), batch)
    assert again == whole
    with pytest.raises(UserError, match="is of another run: trainable was "):
        trained(
            dataclasses.replace(run, steps=5, trainable=("task_heads/*", "pooler/*", "embedding/table")[::2]), batch
        )


def compiled(run, batch):
    setup = set_up(check_run.resolve(run))
    state = setup.abstract
    shapes = {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype)
        for name, array in batch.items()
        if name in run.loss.reads({"policy": run.model})
    }
    return setup.train_step.lower(state, setup.frozen, shapes).compile()


def test_a_frozen_trunk_costs_a_third_and_no_product_of_its_kernels_gradients(tmp_path):
    batch = classified(rows=16, accumulation=1)
    config = dataclasses.replace(bert.bert("l2-h128", VOCAB), head=None, tied_embeddings=False, tasks=(TOPIC,))
    run = run_of(tmp_path, batch, model=config, loss=TaskHeads({"topic": "classification"}, segments=2))
    hidden = config.layers[0].mlp.hidden
    kernel = (f"{config.embed_dim},{hidden}", f"{hidden},{config.embed_dim}")
    flops, kernels = {}, {}
    for name, patterns in (("all", None), ("head", ("task_heads/*",))):
        program = compiled(dataclasses.replace(run, trainable=patterns), batch)
        flops[name] = program.cost_analysis()["flops"]
        products = re.findall(r"= f32\[([\d,]+)\]\S* (?:dot|custom-call)\(", program.as_text())
        kernels[name] = sum(shape in kernel for shape in products)
    assert flops["head"] / flops["all"] == pytest.approx(1 / 3, abs=0.015)
    assert kernels == {"all": 2 * len(config.layers), "head": 0}


def test_distillation_from_an_old_model_dir(tmp_path):
    batch = packed(128)
    teacher = model_dir.read_config(OLD)
    student = dataclasses.replace(llama.llama(128, 8, 1, 2, 1, mlp_hidden=16), vocab_multiple=teacher.vocab_multiple)
    run = run_of(tmp_path, batch, model=student, loss=Distillation(ModelSource(str(OLD))))
    losses = trained(run, batch)
    assert losses[-1] < losses[0] - 0.05
    setup = set_up(run)
    assert {name.split("/")[0] for name in setup.abstract.trainable} == {"policy"}
    assert {name.split("/")[0] for name in setup.frozen} == {"teacher"}


def test_preferences_from_an_old_model_dir(tmp_path):
    """The first step's loss is log 2, since the reference is where the policy starts; the run continues exactly."""
    batch = pairs()
    run = run_of(tmp_path / "straight", batch, loss=DPO(beta=1.0), init_from=str(OLD), optimizer=AdamW(Constant(1e-3)))
    losses = trained(run, batch)
    assert losses[0] == pytest.approx(np.log(2), abs=1e-6)
    assert losses[-1] < losses[0] - 0.01
    run = dataclasses.replace(run, model_dir=str(tmp_path / "stopped"))
    trained(dataclasses.replace(run, steps=3), batch)
    assert trained(run, batch) == losses


def test_a_reference_shares_what_the_policy_does_not_train(tmp_path):
    batch = pairs()
    run = run_of(tmp_path, batch, loss=DPO(beta=1.0), init_from=str(OLD), trainable=("trunk/*", "!*/attention/*"))
    losses = trained(dataclasses.replace(run, steps=2), batch)
    assert losses[0] == pytest.approx(np.log(2), abs=1e-6)
    setup = set_up(check_run.resolve(run))
    copied = {name for name in setup.frozen if name.startswith("reference/")}
    assert copied == {name.replace("policy/", "reference/") for name in setup.abstract.trainable}


def test_a_source_that_changed_is_refused_when_the_run_goes_on(tmp_path):
    batch = pairs()
    shutil.copytree(OLD, tmp_path / "old")
    run = run_of(tmp_path / "run", batch, loss=DPO(), init_from=str(tmp_path / "old"), steps=1)
    trained(run, batch)
    noted = (tmp_path / "run" / start.SOURCES).read_text()
    assert '"fingerprint"' in noted
    text = (tmp_path / "old" / "model.json").read_text()
    (tmp_path / "old" / "model.json").write_text(text.replace("}", " }", 1))
    with pytest.raises(UserError, match="has changed since"):
        trained(dataclasses.replace(run, steps=2), batch)


def test_parts_from_different_folders(tmp_path):
    """A mapping from path prefix to folder: what one of them holds is read, the rest is drawn."""
    batch = packed(128)
    config = model_dir.read_config(OLD)
    run = run_of(tmp_path, batch, model=config, steps=1, optimizer=AdamW(Constant(0.0)))
    inner = tmp_path / "trunk"
    shutil.copytree(OLD, inner)
    step = checkpoints.steps(OLD)[-1]
    place = inner / "checkpoints" / str(step) / "params"
    leaves = checkpoints.stored.shapes(place)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = {n: jax.ShapeDtypeStruct(s, np.float32, sharding=one) for n, s in leaves.items() if n.startswith("trunk/")}
    arrays = checkpoints.stored.read(place, shapes)
    checkpoints.stored.write(place, {name.removeprefix("trunk/"): array for name, array in arrays.items()})
    trained(dataclasses.replace(run, init_from={"trunk": str(inner)}), batch)
    found = t5x_style.load_model(tmp_path).model
    for name, array in arrays.items():
        node = found
        for key in name.split("/"):
            node = node[int(key)] if key.isdigit() else node[key] if isinstance(node, dict) else getattr(node, key)
        np.testing.assert_array_equal(node[...], array)
    assert not np.array_equal(found.embedding.table[...], t5x_style.load_model(OLD).model.embedding.table[...])


def test_a_run_takes_the_architecture_of_its_start_and_evaluates_an_average(tmp_path, caplog):
    batch = packed(128)
    run = run_of(tmp_path, batch, init_from=str(OLD), extras={"ema": Ema(0.999, warmup=False)}, steps=2)
    held = Evaluation(data(batch, repeat=False, shuffle=False), every=1, average="ema")
    trained(dataclasses.replace(run, evaluation=held), batch)
    assert model_dir.read_config(tmp_path) == model_dir.read_config(OLD)
    rows = [row for row in metrics.read(tmp_path) if row["kind"] == "eval"]
    assert abs(rows[1]["loss"] - rows[0]["loss"]) < 0.02  # the average hardly moves
    (tmp_path / "checkpoints" / "2" / "extra_ema").rename(tmp_path / "gone")  # as if it had not been kept before
    caplog.set_level("INFO", "absl")
    trained(dataclasses.replace(run, steps=3, execution=dataclasses.replace(UNROLLED, loss_chunk=8)), batch)
    assert "changed since the checkpoint: execution.loss_chunk was 4096, is now 8" in caplog.text
    assert "no extra 'ema': it starts from the restored parameters" in caplog.text
    export_model(tmp_path, tmp_path / "exported", average="ema")
    average = t5x_style.load_model(tmp_path, average="ema").model
    found = t5x_style.load_model(tmp_path / "exported").model
    np.testing.assert_array_equal(found.embedding.table[...][:128], average.embedding.table[...][:128])
    assert not np.array_equal(average.embedding.table[...], t5x_style.load_model(tmp_path).model.embedding.table[...])
    with pytest.raises(UserError, match="keeps no average 'other'; it has ema"):
        t5x_style.load_model(tmp_path, average="other")


class Rounds(Source):
    """Makes batches of what it is given, in rounds of two steps, as rollouts would."""

    def next(self, state, frozen):
        assert int(state.step) == self.given
        assert "policy/embedding/table" in state.trainable
        assert {name.split("/")[0] for name in frozen} == {"reference"}
        return next(self)

    @property
    def at_boundary(self):
        return self.given % 2 == 0


def test_a_source_that_samples_sees_the_model_and_is_saved_between_its_rounds(tmp_path):
    batch = pairs()
    run = run_of(tmp_path, batch, loss=DPO(), init_from=str(OLD), steps=5, checkpoint_every=1, keep_checkpoints=9)
    losses = trained(run, batch, Rounds)
    assert checkpoints.steps(tmp_path) == [2, 4, 5]
    shutil.rmtree(tmp_path / "checkpoints" / "5")
    assert trained(run, batch, Rounds) == losses


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainable": ("trnk/*",)}, "'trnk/\\*' matches no parameter"),
        ({"trainable": ()}, "nothing trains"),
        ({"model": None}, "TrainRun.model is not set"),
        ({"policy": DtypePolicy(compute="float16")}, "compute in float16 needs its gradients scaled"),
        ({"extras": {"the ema": Ema()}}, "'the ema' must be an identifier"),
        ({"evaluation": "other"}, "Evaluation.average is 'other'"),
    ],
)
def test_mistakes(tmp_path, settings, message):
    batch = packed(VOCAB)
    if settings.get("evaluation"):
        held = Evaluation(data(batch, repeat=False, shuffle=False), every=1, average=settings["evaluation"])
        settings = {"evaluation": held}
    with pytest.raises(UserError, match=message):
        set_up(run_of(tmp_path, batch, **{"model": llama.llama(VOCAB, 8, 1, 2, 1), **settings}))


def test_the_default_loss_is_cross_entropy(tmp_path):
    batch = packed(VOCAB)
    assert run_of(tmp_path, batch, model=llama.llama(VOCAB, 8, 1, 2, 1)).loss == CrossEntropy()


@pytest.mark.slow
def test_a_reference_is_split_over_devices_like_the_policy(tmp_path):
    command = [sys.executable, Path(__file__).with_name("kinds_devices.py"), tmp_path / "eight"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(told.splitlines()[-1])
    batch = pairs()
    run = run_of(tmp_path / "one", batch, loss=DPO(beta=1.0), init_from=str(OLD), steps=3)
    assert found["losses"] == pytest.approx(trained(run, batch), rel=1e-5)
    assert found["split"] > found["arrays"] / 2
