"""Cluster `summary`: the first line of a docstring, given the rest of it."""

from tasks.documentation.cluster import Cluster
from tasks.metrics import rouge
from tasks.templates import Template

SUMMARY = Cluster(
    name="summary",
    fields=("body",),
    has_options=False,
    metric_fns=(rouge,),
    templates=(
        Template("first_line", "{body}\n\nThis docstring lost its first line. Write it."),
        Template("summarize", "Summarize the following documentation in one sentence.\n\n{body}"),
        Template("one_line", "{body}\n\nIn one line, what does it do?"),
        Template("label", "Details: {body}\n\nSummary:"),
        Template("colleague", "A colleague asks what this is for. Answer in one short sentence.\n\n{body}"),
        Template("heading", "Write the sentence that should stand above this text:\n{body}"),
        Template(
            "index_entry", "Text for the manual:\n\n{body}\n\nGive the one-sentence entry for the manual's index."
        ),
        Template("restore", "The summary line of this help text is missing:\n{body}\nThe summary line was:"),
        # Held out from training:
        Template("in_short", "{body}\n\nIn short:"),
        Template("short_description", "Give a short description of the object whose details follow.\n\n{body}"),
    ),
)
