"""The short names that web recipes may use: what the files of gin/web call their stages."""

from __future__ import annotations

from t5x_style.config import table

_WEB = "beam_pipelines.web"
NAMES = table(
    {
        f"{_WEB}.recipe": ("CleanWeb",),
        f"{_WEB}.archives.read_warc": ("ReadWarc",),
        f"{_WEB}.decontamination.decontaminate": ("Decontaminate",),
        f"{_WEB}.dedup.exact_dedup": ("ExactDedup",),
        f"{_WEB}.dedup.minhash": ("MinHashDedup",),
        f"{_WEB}.dedup.simhash": ("SimHashDedup",),
        f"{_WEB}.dedup.url_dedup": ("UrlDedup",),
        f"{_WEB}.extraction.extract": ("Extract",),
        f"{_WEB}.filters.blocked_words": ("BlockedWords",),
        f"{_WEB}.filters.c4": ("C4", "LongLines"),
        f"{_WEB}.filters.fasttext_quality": ("FastTextQuality",),
        f"{_WEB}.filters.fineweb": ("FineWebQuality",),
        f"{_WEB}.filters.gopher_quality": ("GopherQuality",),
        f"{_WEB}.filters.gopher_repetition": ("GopherRepetition",),
        f"{_WEB}.filters.line_wise": ("LineWise",),
        f"{_WEB}.filters.perplexity": ("PerplexityBuckets",),
        f"{_WEB}.filters.symbols": ("Markup", "Symbols"),
        f"{_WEB}.pii.anonymise": ("AnonymisePii",),
        f"{_WEB}.substring.exact_substring": ("ExactSubstring",),
        f"{_WEB}.substring.line_dedup": ("LineDedup",),
        f"{_WEB}.text.chinese": ("SimplifyChinese",),
        f"{_WEB}.text.language": ("Language",),
        f"{_WEB}.text.language_parameters": ("ByLanguage",),
        f"{_WEB}.text.normalise": ("NormaliseText",),
        f"{_WEB}.text.tidy": ("TidyText",),
        f"{_WEB}.urls.url_filter": ("UrlFilter",),
    }
)
