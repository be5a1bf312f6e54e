"""Cluster `kind`: does this docstring describe a class or a function?"""

from tasks.documentation.cluster import Cluster
from tasks.metrics import accuracy
from tasks.templates import Template

KIND = Cluster(
    name="kind",
    fields=("docstring",),
    has_options=True,
    metric_fns=(accuracy,),
    templates=(
        Template("describes", "{docstring}\n\nDoes this docstring describe a class or a function?\n\n{options_}"),
        Template("question_first", "What kind of object is documented here?\n{options_}\n\n{docstring}"),
        Template("keyword", "{docstring}\n\nIs the code of this object a class or a function?\n{options_}"),
        Template("label", "Docstring: {docstring}\n{options_}\nKind of object:"),
        Template("reviewer", "A reviewer sees only this text:\n\n{docstring}\n\nWhat does it belong to?\n{options_}"),
        Template("index", "Put this entry into the right index of the manual.\n\n{options_}\n\nEntry: {docstring}"),
        Template("written_for", 'Was "{docstring}" written for a class or for a function?\n\n{options_}'),
        Template("choose", "Choose what the help text is about.\n{options_}\n\nHelp text:\n{docstring}\n\nChoice:"),
        # Held out from training:
        Template(
            "call_or_instantiate", "Here is the help of a Python object.\n{docstring}\nThe object is a\n{options_}"
        ),
        Template(
            "say_whether", "Say whether this is the help of a class or of a function.\n\n{docstring}\n\n{options_}"
        ),
    ),
)
