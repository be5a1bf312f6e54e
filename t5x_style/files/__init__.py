"""Files by path or URL: the local disk directly, gs://, s3://, memory:// and others through fsspec, behind one seam.

paths      what a path is: local or a URL; joined as text
remote     fsspec filesystems, and their errors as one line for people
storage    list, read, write, copy and remove, wherever it is
documents  small files in one step, JSON, fingerprints
session    this process's own local folder, for what is on its way up or down
cache      remote files copied once into a bounded local folder
"""

from t5x_style.files.cache import check_room, local_copies, local_copy, local_folder, release
from t5x_style.files.documents import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    file_sha256,
    fingerprint,
    read_json,
)
from t5x_style.files.paths import is_remote, join, name, parent, path_of
from t5x_style.files.session import staging_folder
from t5x_style.files.storage import (
    check_writable,
    download,
    exists,
    file_sizes,
    file_versions,
    folder_of_files,
    is_dir,
    is_file,
    list_names,
    read_bytes,
    read_text,
    remove,
    remove_tree,
    require_local,
    require_writable,
    upload,
)

__all__ = [
    "atomic_write_bytes",
    "atomic_write_json",
    "atomic_write_text",
    "check_room",
    "check_writable",
    "download",
    "exists",
    "file_sha256",
    "file_sizes",
    "file_versions",
    "fingerprint",
    "folder_of_files",
    "is_dir",
    "is_file",
    "is_remote",
    "join",
    "list_names",
    "local_copies",
    "local_copy",
    "local_folder",
    "name",
    "parent",
    "path_of",
    "read_bytes",
    "read_json",
    "read_text",
    "release",
    "remove",
    "remove_tree",
    "require_local",
    "require_writable",
    "staging_folder",
    "upload",
]
