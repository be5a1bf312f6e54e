"""Cluster `package`: which package does this docstring come from?"""

from tasks.documentation.cluster import Cluster
from tasks.metrics import accuracy
from tasks.templates import Template

PACKAGE = Cluster(
    name="package",
    fields=("docstring",),
    has_options=True,
    metric_fns=(accuracy,),
    templates=(
        Template("which_package", "{docstring}\n\nWhich package does this docstring come from?\n\n{options_}"),
        Template(
            "question_first", "Which Python package is documented by the text below?\n{options_}\n\nText: {docstring}"
        ),
        Template("documentation_of", "Documentation: {docstring}\nThis is part of the documentation of\n\n{options_}"),
        Template("search_result", "A search for help returned this:\n\n{docstring}\n\nName the package. {options_}"),
        Template("label", "{docstring}\n\n{options_}\n\nPackage:"),
        Template(
            "install",
            "I want to use what is described here:\n{docstring}\n\nWhat do I have to install or import?\n{options_}",
        ),
        Template("sort_into", "Sort this help text into one of the packages.\n\n{options_}\n\n{docstring}"),
        Template("author", 'The authors of which package wrote the following? "{docstring}"\n\n{options_}'),
        # Held out from training:
        Template("belongs_to", "Read this description of an object.\n\n{docstring}\n\nIt belongs to:\n{options_}"),
        Template("guess_origin", "Guess the origin of a help page.\n{options_}\nHelp page: {docstring}\nOrigin:"),
    ),
)
