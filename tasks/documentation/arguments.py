"""Cluster `arguments`: the names of the arguments that a docstring describes."""

from tasks.documentation.cluster import Cluster
from tasks.metrics import set_f1
from tasks.templates import Template

ARGUMENTS = Cluster(
    name="arguments",
    fields=("docstring",),
    has_options=False,
    metric_fns=(set_f1,),
    templates=(
        Template("list_names", "{docstring}\n\nList the names of the arguments described above."),
        Template("question_first", "Which arguments does this documentation describe?\n\n{docstring}"),
        Template("names_only", "{docstring}\n\nWhich arguments are explained in this help text? Names only."),
        Template("label", "Docstring: {docstring}\n\nArguments:"),
        Template("caller", "Going by this help text, what can a caller pass?\n{docstring}"),
        Template("extract", "Extract the argument names, separated by commas.\n\n{docstring}"),
        Template("checklist", "I check that no argument is undocumented.\n\n{docstring}\n\nWhich ones have an entry?"),
        Template("in_order", "Read the help and name its parameters in order.\nHelp: {docstring}\nParameters:"),
        # Held out from training:
        Template("inputs_named", "{docstring}\n\nThe inputs documented here are called"),
        Template("enumerate", "Enumerate every parameter that the following text explains:\n\n{docstring}"),
    ),
)
