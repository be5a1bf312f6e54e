"""A tiny training run as a program, for tests that need a process of its own: python small_run.py FOLDER NAME=VALUE ...

Makes, once, a tokenizer and a token cache in FOLDER, then launches `t5x_style.train` on them in this process.
"""

import sys
from pathlib import Path

import numpy as np

GIN = """
include 'runs/frame.gin'
include 'objectives/causal_lm.gin'
TrainRun.model = @llama()
llama.vocab_size = 128
llama.embed_dim = 32
llama.layers = 2
llama.heads = 4
llama.kv_heads = 2
Execution.remat = 'none'
TrainRun.log_every = 1
TrainRun.tensorboard = False
TASK = 'toy'
STEPS = 12
WARMUP_STEPS = 2
PEAK_LEARNING_RATE = 1e-3
BATCH_SIZE = 8
LENGTH = 32
EVAL_EVERY = 6
CHECKPOINT_EVERY = 4
"""


def make_tokenizer(folder: Path) -> Path:
    """A SentencePiece model of 128 ids trained on made-up words."""
    import sentencepiece

    path = folder / "tokenizer" / "sentencepiece.model"
    if not path.exists():
        path.parent.mkdir(parents=True)
        rng = np.random.default_rng(0)
        words = [
            "".join(chr(97 + letter) for letter in rng.integers(0, 12, size=rng.integers(2, 6))) for _ in range(60)
        ]
        texts = [" ".join(rng.choice(words, size=12)) for _ in range(200)]
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_prefix=str(path.with_suffix("")),
            vocab_size=128,
            model_type="bpe",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=3,
            minloglevel=2,
        )
    return path


def make_cache(folder: Path) -> None:
    """Train and validation shards of a Task `toy` whose sequences count upwards: easy to learn."""
    from t5x_style.data.manifest import Feature, VocabularyInfo
    from t5x_style.data.shards import write_cache
    from t5x_style.data.vocabulary import Vocabulary

    tokenizer = make_tokenizer(folder)
    vocabulary = Vocabulary(str(tokenizer))
    info = VocabularyInfo("SentencePieceVocabulary", str(tokenizer), vocabulary.size, 0, 1, 3, 2)
    rng = np.random.default_rng(1)
    for split, count in (("train", 200), ("validation", 20)):
        if (folder / "cache" / "toy" / split / "manifest.json").exists():
            continue
        examples = []
        for _ in range(count):
            begin, length = rng.integers(4, 100), rng.integers(3, 50)
            examples.append({"targets": [int(4 + (begin + step) % 120) for step in range(length)]})
        write_cache(
            folder / "cache",
            "toy",
            split,
            [examples[: count // 3], examples[count // 3 :]],
            features={"targets": Feature("int32", 1, True, vocabulary.fingerprint)},
            vocabularies={vocabulary.fingerprint: info},
            append_eos=("targets",),
        )


def arguments(folder: Path, *bindings: str) -> list[str]:
    """Makes what is missing and returns the launcher's arguments."""
    make_cache(folder)
    file = folder / "run.gin"
    if not file.exists():
        file.write_text(GIN)
    flags = [binding for binding in bindings if binding.startswith("--")]
    given = [binding for binding in bindings if not binding.startswith("--")]
    return [
        f"--gin_file={file}",
        f"--gin.CACHE_DIR='{folder / 'cache'}'",
        f"--gin.TOKENIZER='{folder / 'tokenizer' / 'sentencepiece.model'}'",
        *(f"--gin.{binding}" for binding in given),
        *flags,
    ]


if __name__ == "__main__":
    from t5x_style.train import main

    raise SystemExit(main(arguments(Path(sys.argv[1]), *sys.argv[2:])))
