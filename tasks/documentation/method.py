"""Cluster `method`: does the class on this page define this method?"""

from tasks.documentation.cluster import Cluster
from tasks.metrics import accuracy
from tasks.templates import Template

METHOD = Cluster(
    name="method",
    fields=("page", "class_name", "method"),
    has_options=True,
    metric_fns=(accuracy,),
    templates=(
        Template("defines", "{page}\n\nDoes the class {class_name} define a method named {method}?\n\n{options_}"),
        Template(
            "question_first", "Is there a method {method} on this page of the class {class_name}?\n{options_}\n\n{page}"
        ),
        Template(
            "can_call", "Page: {page}\n\nAccording to the page, {class_name} has the method {method}.\n{options_}"
        ),
        Template("lookup", "Look for {method} in the documentation of {class_name}.\n\n{page}\n\nFound?\n{options_}"),
        Template("label", "Class: {class_name}\n{page}\nMethod: {method}\n{options_}\nListed:"),
        Template("colleague", "Someone says that {class_name} defines {method}. Its page:\n{page}\nRight?\n{options_}"),
        Template("would_work", "{page}\n\nDoes the page above list {class_name}.{method}?\n{options_}"),
        Template(
            "member", "Given the page of {class_name}, is {method} one of its methods?\n{options_}\n\n{page}\n\nAnswer:"
        ),
        # Held out from training:
        Template("documented_under", "{page}\n\nIs {method} documented among the methods of {class_name}?\n{options_}"),
        Template("check", "Check the claim that the class {class_name} offers {method}.\n\n{page}\n\n{options_}"),
    ),
)
