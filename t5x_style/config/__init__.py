"""gin at the edge: files and overrides in, one frozen dataclass out.

Order of calls: `arguments` takes the command line apart, `loading` does the rest: `statements` reads files (`find`)
with gin's parser and finds what their names mean (`resolve`, `names`), `levels` decides which bindings hold,
`type_checks` looks at their values, `build` lets gin make the root, `text` writes config.gin and operative.gin. Only
`statements` and `build` import gin, and only when called.
"""

from t5x_style.config.arguments import add_arguments, parse_arguments
from t5x_style.config.find import find_gin_file, gin_folders
from t5x_style.config.loading import Loaded, load
from t5x_style.config.names import NAMES, table
from t5x_style.config.type_checks import check_types

__all__ = [
    "NAMES",
    "Loaded",
    "add_arguments",
    "check_types",
    "find_gin_file",
    "gin_folders",
    "load",
    "parse_arguments",
    "table",
]
