"""report.html of a cleaning run: one file, nothing loaded from elsewhere, made from the files that the run left."""

from __future__ import annotations

import re

from beam_pipelines.files import storage


def write_report(output: str) -> bool:
    """Writes OUTPUT/report.html from stats.json, work/configuration.json and work/samples.json.

    Returns:
      False if the page that is there shows the same; it is then left alone.

    Raises:
      UserError: one of the files is broken.
    """
    from beam_pipelines.web.report import page

    files = {"stats": "stats.json", "run": "work/configuration.json", "samples": "work/samples.json"}
    content = page.build(
        output.rstrip("/").rpartition("/")[2],
        **{name: storage.read_json(storage.join(output, file)) for name, file in files.items()},
    )
    path = storage.join(output, "report.html")
    if storage.exists(path):
        with storage.open_read(path) as file:
            if _digest(file.read(2000)) == _digest(content[:2000].encode("utf-8")):
                return False
    with storage.atomic_writer(path) as file:
        file.write(content.encode("utf-8"))
    return True


def _digest(head: bytes) -> str:
    """The fingerprint that a page carries of what it shows; '' where there is none."""
    found = re.search(rb'<meta name="digest" content="([0-9a-f]+)">', head)
    return found.group(1).decode("ascii") if found else ""
