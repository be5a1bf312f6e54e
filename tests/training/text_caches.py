"""Small tokenizers, token caches of text made with them without the pipelines, and fine-tuning on those."""

import json

from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.shards import write_cache
from t5x_style.data.vocabulary_facts import write_facts

SPANS = Feature("int64", kind="numbers")
WORDS = [f"w{number}" for number in range(90)]
QUICK = [
    "STEPS = 4",
    "EVAL_EVERY = 4",
    "WARMUP_STEPS = 1",
    "BATCH_SIZE = 8",
    "LENGTH = 16",
    "TrainRun.tensorboard = False",
]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}"


def write_tokenizer(folder, words=WORDS, **config):
    """A tokenizer.json of whole words with <pad> </s> <unk> <s>, a chat template and an added token."""
    import tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    names = ["<pad>", "</s>", "<unk>", "<s>", *words]
    pipeline = tokenizers.Tokenizer(tokenizers.models.WordLevel({n: k for k, n in enumerate(names)}, unk_token="<unk>"))
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    pipeline.add_special_tokens(["<pad>", "</s>", "<unk>", "<s>"])
    pipeline.add_special_tokens([tokenizers.AddedToken("<|turn|>", special=True, normalized=False)])
    pipeline.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    pipeline.save(str(folder / "tokenizer.json"))
    roles = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **roles, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def texts(count, start=0):
    """Sentences that count on: easy to learn."""
    return [" ".join(WORDS[(start + k + step) % len(WORDS)] for step in range(3 + k % 9)) for k in range(count)]


def write_text_cache(folder, tokenizer, name="data", splits=(("train", 60), ("validation", 12)), facts=True):
    """What `cache_tasks --input` makes of `texts`; without `facts` what older versions made."""
    print_ = tokenizer.fingerprint
    special = (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id, tokenizer.unk_id)
    for number, (split, count) in enumerate(splits):
        encoded = tokenizer.encode_batch(texts(count, number))
        examples = [{"targets": ids, "response_spans": [0, len(ids)]} for ids in encoded]
        write_cache(
            folder,
            name,
            split,
            [examples[: count // 3], examples[count // 3 :]],
            features={"targets": Feature("int32", 1, True, print_, "ids", "uint16"), "response_spans": SPANS},
            vocabularies={print_: VocabularyInfo(type(tokenizer).__name__, "", tokenizer.size, *special)},
            append_eos=("targets",),
        )
    if facts:
        write_facts(folder, print_, tokenizer.facts(), tokenizer.own_files())
    return folder


def write_plain_cache(folder, size=None, name="data", splits=(("train", 40), ("validation", 8)), kind="Bytes"):
    """Ids of no text: a feature without a vocabulary, or with one (`size` ids) that no tokenizer belongs to."""
    vocabularies = {} if size is None else {"f" * 64: VocabularyInfo(kind, "", size, 0, 1, None, 2)}
    for split, count in splits:
        lengths = [3 + k % 9 for k in range(count)]
        examples = [
            {"targets": [4 + (k + step) % 50 for step in range(length)], "response_spans": [0, length]}
            for k, length in enumerate(lengths)
        ]
        feature = Feature("int32", 1, False, "f" * 64 if vocabularies else None, "ids", "uint16")
        features = {"targets": feature, "response_spans": SPANS}
        write_cache(folder, name, split, [examples], features=features, vocabularies=vocabularies)
    if size is not None:
        from t5x_style.data.vocabulary_facts import VocabularyFacts

        write_facts(folder, "f" * 64, VocabularyFacts())
    return folder


def finetune(*bindings):
    """gin/runs/finetune.gin."""
    from t5x_style import train

    return train.main(["--gin_file=runs/finetune.gin", *(f"--gin.{binding}" for binding in [*QUICK, *bindings])])
