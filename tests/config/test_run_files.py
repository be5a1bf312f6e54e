"""Run files read like recipes: any order, whole parts replaced, mistakes said where they stand."""

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from t5x_style import config
from t5x_style.errors import UserError
from t5x_style.models.presets.gpt3 import gpt3
from t5x_style.models.presets.llama import llama2
from t5x_style.training.optimizers import AdamW, Lion
from t5x_style.training.run import TrainRun
from t5x_style.training.schedules import Cosine, InverseSqrt

RECIPE = """
MODEL_DIR = 'out'
CACHE_DIR = 'cache'
TOKENIZER = 'sentencepiece.model'
TASK = 'documents'
STEPS = 10
WARMUP_STEPS = 1
PEAK_LEARNING_RATE = 1e-3
BATCH_SIZE = 8
LENGTH = 64
EVAL_EVERY = 5
"""
INCLUDES = ("include 'models/llama2_tiny.gin'", "include 'runs/frame.gin'", "include 'objectives/causal_lm.gin'")
GIN = config.gin_folders()[0]
# gin/models is loaded by tests/models/presets, gin/web by tests/beam_pipelines/web
FILES = sorted({str(path.relative_to(GIN)) for path in GIN.rglob("*.gin") if path.parent.name not in ("models", "web")})
FILES.remove("optimizers/macros.gin")  # others include it
# what an objective needs that is not the recipe's model, a decoder
NEEDS = {
    **{name: ["include 'models/t5_tiny.gin'"] for name in ("seq2seq", "span_corruption", "ul2")},
    "masked_lm": ["include 'models/bert_tiny.gin'"],
    "next_sentence": [
        "include 'models/bert_tiny.gin'",
        "bert.tasks = (@TaskHeadSpec(),)",
        "TaskHeadSpec.name = 'next_sentence'",
        "TaskHeadSpec.kind = 'next_sentence'",
        "TaskHeadSpec.pool = 'pooler'",
    ],
    "blank_infilling": ["include 'models/glm_tiny.gin'"],
}


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="run.gin"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


@pytest.fixture
def recipe(write):
    """Loads a run file of the recipe's lines and these; overrides as keywords of the command line."""

    def load(*lines, files=(), before=(), bindings=()):
        return config.load(TrainRun, [*before, write(*INCLUDES, RECIPE, *lines), *files], bindings).root

    return load


def refused(load, *arguments, **keywords):
    with pytest.raises(UserError) as caught:
        load(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_order_of_lines_does_not_matter(write):
    runs = []
    lines = [*INCLUDES, RECIPE, "TrainRun.optimizer = @Lion()", "include 'mesh/data_parallel.gin'"]
    for order in itertools.islice(itertools.permutations(lines), None, None, 17):
        runs.append(config.load(TrainRun, [write(*order)]).root)
    assert all(run == runs[0] for run in runs)
    assert isinstance(runs[0].optimizer, Lion)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("optimizers/lion.gin", Lion(Cosine(2e-3, 550, 50))),
        ("optimizers/adamw_inverse_sqrt.gin", AdamW(InverseSqrt(2e-3, 50))),
        ("optimizers/adamw_cosine.gin", AdamW(Cosine(2e-3, 550, 50))),
    ],
)
def test_an_optimizer_replaces_the_frames_before_and_after_it(file, expected, order):
    files = ["runs/quickstart_pretrain.gin", file][::order]
    assert config.load(TrainRun, files, ["MODEL_DIR = 'x'"]).root.optimizer == expected


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("file", "stage"), [("data_parallel", 0), ("zero1", 1), ("zero2", 2), ("fsdp", 3)])
def test_a_mesh_replaces_the_frames_before_and_after_it(file, stage, order):
    files = ["runs/quickstart_pretrain.gin", f"mesh/{file}.gin"][::order]
    mesh = config.load(TrainRun, files, ["MODEL_DIR = 'x'"]).root.mesh
    assert mesh.zero_stage == stage
    assert (mesh.data, mesh.fsdp) == ((-1, 1) if stage == 0 else (1, -1))


@pytest.mark.parametrize("order", [1, -1])
def test_a_model_replaces_the_runs_before_and_after_it(order):
    files = ["runs/quickstart_pretrain.gin", "models/llama2_tiny.gin"][::order]
    assert config.load(TrainRun, files, ["MODEL_DIR = 'x'"]).root.model == llama2("tiny")


@pytest.mark.parametrize("where", ["before", "files"])
def test_a_named_file_replaces_what_the_users_file_includes(recipe, where):
    include = "include 'mesh/fsdp.gin'"
    run = recipe(include, **{where: ["models/gpt3_125m.gin", "mesh/data_parallel.gin"]})
    assert run.model == gpt3("125m")
    assert (run.mesh.zero_stage, run.mesh.data) == (0, -1)
    assert recipe(include).mesh.zero_stage == 3


@pytest.mark.parametrize("where", ["before", "files"])
def test_a_named_file_of_which_nothing_holds_is_an_error(recipe, where):
    own = "MeshConfig.data = 1", "MeshConfig.fsdp = 8", "MeshConfig.zero_stage = 2"
    message = refused(recipe, *own, **{where: ["mesh/data_parallel.gin"]})
    assert "mesh/data_parallel.gin holds: " in message
    assert "run.gin:16 says otherwise of MeshConfig.data; leave the file out" in message
    message = refused(recipe, "TrainRun.optimizer = @AdamW()", **{where: ["optimizers/lion.gin"]})
    assert "optimizers/lion.gin holds: " in message
    run = recipe(bindings=["TrainRun.optimizer = @AdamW()"], **{where: ["optimizers/lion.gin"]})
    assert isinstance(run.optimizer, AdamW)


def test_a_model_file_leaves_everything_but_the_model(recipe):
    """The quickstart's loss_chunk came with its model file and stayed under another model."""
    quickstart = recipe(files=["models/quickstart.gin"])
    assert quickstart.model != recipe().model
    assert dataclasses.replace(quickstart, model=recipe().model) == recipe()


def test_parts_are_replaced_on_the_command_line():
    def run(*bindings):
        return config.load(TrainRun, ["runs/quickstart_pretrain.gin"], ["MODEL_DIR = 'x'", *bindings]).root

    assert run("TrainRun.optimizer = @Lion()").optimizer == Lion(Cosine(2e-3, 550, 50))
    assert run("AdamW.schedule = @InverseSqrt()").optimizer == AdamW(InverseSqrt(2e-3, 50))
    assert run("TrainRun.evaluation = None").evaluation is None
    assert run("MeshConfig.zero_stage = 1").mesh.zero_stage == 1
    assert run("DtypePolicy.compute = 'bfloat16'").policy.compute == "bfloat16"
    assert run("CrossEntropy.z_loss = 1e-4").loss.z_loss == 1e-4
    assert run("TrainRun.extras = {'ema': @Ema()}", "Ema.decay = 0.5").extras["ema"].decay == 0.5
    model = run("TrainRun.model = @llama2()", "llama2.size = 'tiny'").model
    assert model == llama2("tiny")


def test_evaluation_is_switched_off_in_the_run_file(recipe):
    """EVAL_EVERY, which only the evaluation used, may stay."""
    assert recipe("TrainRun.evaluation = None").evaluation is None


def test_what_other_files_say_of_a_replaced_part_goes_with_it(recipe, write):
    base = write("AdamW.weight_decay = 0.3", "Cosine.final_fraction = 0.2", name="base.gin")
    assert recipe(files=[base]).optimizer == AdamW(Cosine(1e-3, 10, 1, 0.2), weight_decay=0.3)
    run = recipe(files=[base], bindings=["TrainRun.optimizer = @Lion()"])
    assert run.optimizer == Lion(Cosine(1e-3, 10, 1, 0.2))  # Lion uses Cosine too: what was said of it stays
    run = recipe(files=[base], bindings=["TrainRun.optimizer = @Lion()", "Lion.schedule = @InverseSqrt()"])
    assert run.optimizer == Lion(InverseSqrt(1e-3, 1))


def test_what_the_replacing_file_says_of_the_old_part_is_an_error(recipe):
    message = refused(recipe, "TrainRun.optimizer = @Lion()", "AdamW.weight_decay = 0.3")
    assert "nothing uses the binding AdamW.weight_decay (" in message
    assert "run.gin:17)" in message


def test_a_binding_that_another_scope_hides_everywhere_is_an_error(recipe):
    message = refused(recipe, "DataConfig.split = 'test'")
    assert "nothing uses the binding DataConfig.split (" in message
    assert "; eval/DataConfig.split and train/DataConfig.split hold instead)" in message


def test_a_file_of_the_project_that_is_named_must_be_used_up(monkeypatch, write):
    """Who writes a run file into gin/runs of a checkout is told of mistakes as well."""
    path = write(*INCLUDES, RECIPE, "LENGHT = 4")
    monkeypatch.setattr("t5x_style.config.statements.is_library_file", lambda path: True)
    assert "nothing uses the binding LENGHT (" in refused(config.load, TrainRun, [path])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("AdamV.beta1 = 0.8", "run.gin:16: nothing is called 'AdamV'; did you mean AdamW?"),
        ("AdamW.beta = 0.8", "run.gin:16: AdamW has no parameter 'beta'; did you mean beta2, beta1?"),
        ("TrainRun.optimizer = @Adam()", "run.gin:16: nothing is called 'Adam'; did you mean AdamW?"),
        ("evla/DataConfig.batch_size = 4", "nothing uses the binding evla/DataConfig.batch_size"),
        ("STEPZ = 4", "nothing uses the binding STEPZ ("),
        ("TrainRun.seed = %SEEED", "macro SEEED is not set; pass --gin.SEEED=VALUE or set it in a gin file"),
        ("TrainRun.profile_steps = (5,)", "TrainRun.profile_steps is (5,), must be tuple[int, int] | None ("),
        (
            "train/DataConfig.sources = [1, 2]",
            "DataConfig.sources is [1, 2], must be dict[str, float | Source] | None (",
        ),
        (
            "train/DataConfig.sources = {'a': 'b'}",
            "DataConfig.sources is {'a': 'b'}, must be dict[str, float | Source] |",
        ),
        ("train/DataConfig.rates = {'a': 1.0}", "DataConfig has no parameter 'rates'; did you mean"),
        ("llama2.size = 7", "llama2.size is 7, must be str ("),
        ("llama2.vocab_multiple = 'x'", "llama2.vocab_multiple is 'x', must be int ("),
        ("TrainRun.optimizer = @Cosine()", "TrainRun.optimizer is @Cosine(), must be Optimizer ("),
        ("TrainRun.loss = CrossEntropy()", "(a text stands in quotes, a part is written @Name())"),
        ("TrainRun.optimizer = @Lion", "TrainRun.optimizer is @Lion, must be Optimizer ("),
        ("OPTIMIZER = @Lion\nTrainRun.optimizer = %OPTIMIZER", "run.gin:16); did you mean @Lion()?"),
        ("TrainRun.seed = @Lion()", "TrainRun.seed is @Lion(), must be int ("),
        ("A = %B\nB = %A\nTrainRun.seed = %A", "A -> B -> A is a circle ("),
        ("AdamW.beta1 = @AdamW()", "AdamW.beta1 -> AdamW.beta1 is a circle ("),
        ("MeshConfig.tables = @zero()\nMeshConfig.zero_stage = 1", "both zero_stage = 1 and tables"),
    ],
)
def test_mistakes_are_one_line_that_says_where(recipe, line, message):
    assert message in refused(recipe, line)


def test_a_wrong_macro_is_placed_where_it_was_set(recipe):
    assert "TrainRun.steps is 'many', must be int (--gin.STEPS='many')" in refused(recipe, bindings=["STEPS = 'many'"])


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_comes_with_the_project_loads_in_a_run(file, recipe):
    if file == "runs/finetune.gin":
        places = ["MODEL_DIR = 'x'", "INIT_FROM = 'folder'", "CACHE_DIR = 'cache'"]
        run = config.load(TrainRun, [file], places).root
        assert (run.model, run.tokenizer, run.init_from, run.data.name) == (None, None, "folder", "data")
        assert config.load(TrainRun, [file], [*places, "NAME = 'mine'"]).root.evaluation.data.name == "mine"
        for left_out in places:
            with pytest.raises(UserError, match=f"{left_out.split()[0]} is not set"):
                config.load(TrainRun, [file], [place for place in places if place != left_out])
    elif file.startswith("runs/quickstart"):
        extra = ["INIT_FROM = 'out'"] if file.endswith("instruct.gin") else []
        assert config.load(TrainRun, [file], ["MODEL_DIR = 'x'", *extra]).root.model_dir == "x"
    elif file == "objectives/permutation_lm.gin":  # no loss reads its fields yet
        assert "makes those of a" in refused(recipe, files=[file])
    else:
        assert recipe(*NEEDS.get(Path(file).stem, []), files=[file]).steps == 10


@pytest.mark.parametrize(
    "extra",
    [
        [],
        [
            "train/DataConfig.sources = {'a': 1.0, 'b': @b/Source()}",
            "b/Source.weight = 0.5",
            "TrainRun.evaluation = None",
        ],
    ],
)
def test_the_operative_configuration_is_a_run_file_by_itself(tmp_path, extra):
    loaded = config.load(TrainRun, ["runs/quickstart_pretrain.gin"], ["MODEL_DIR = 'x'", *extra])
    path = tmp_path / "operative.gin"
    path.write_text(loaded.operative)
    assert "include" not in loaded.operative
    assert "import" not in loaded.operative
    again = config.load(TrainRun, [str(path)])
    assert again.root == loaded.root
    assert again.operative == loaded.operative
    assert config.load(TrainRun, [str(path)], ["STEPS = 600"]).root.steps == 600


def test_the_recipe_of_the_documentation_loads(write):
    page = (GIN.parent / "docs" / "training.md").read_text(encoding="utf-8")
    block = re.search(r"```gin\n(.*?)```", page, re.DOTALL)[1]  # the first: "A run file is a recipe"
    run = config.load(TrainRun, [write(block)]).root
    assert run.model == llama2("7b")
    assert run.optimizer == Lion(Cosine(3e-5, 100_000, 2000), weight_decay=0.5)
    assert (run.mesh.zero_stage, run.evaluation, run.policy.compute) == (2, None, "bfloat16")


def test_files_beside_the_including_one_are_found(write, tmp_path, recipe):
    write("PEAK_LEARNING_RATE = 5e-3", name="rate.gin")
    run = recipe("include 'rate.gin'")
    assert run.optimizer.schedule.peak == 1e-3  # the including file has the last word
    assert not Path("rate.gin").exists()


def test_a_required_macro_that_is_misspelt_is_recognised():
    with pytest.raises(UserError, match=r"macro MODEL_DIR is not set.*similar names: MODLE_DIR\)"):
        config.load(TrainRun, ["runs/quickstart_pretrain.gin"], ["MODLE_DIR = 'x'"])
