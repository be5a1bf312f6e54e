"""What ran: parameters, code version, inputs, records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from t5x_style.report import markup
from t5x_style.report.markup import Markup

INPUTS_SHOWN = 50


def section(stats: Mapping[str, Any], run: Mapping[str, Any]) -> Markup:
    """The stages' parameters, the code's version, the largest inputs."""
    parts = [markup.paragraph(f"Code: {run['code']}")]
    for stage in run["configuration"]:
        written = json.dumps(stage, indent=1, ensure_ascii=False)
        parts.append(
            markup.element("details", markup.element("summary", str(stage.get("name"))), markup.element("pre", written))
        )
    inputs = sorted(stats["inputs"], key=lambda item: (-item["bytes"], item["path"]))
    parts.append(markup.element("h3", "Inputs"))
    shown = inputs[:INPUTS_SHOWN]
    size = sum(item["bytes"] for item in inputs)
    words = f"{len(inputs):,} files, {size / 1e6:,.1f} MB" + (
        f"; the {len(shown)} largest:" if len(inputs) > len(shown) else ":"
    )
    parts.append(markup.paragraph(words))
    parts.append(markup.table(["file", "bytes"], [[item["path"], markup.count(item["bytes"])] for item in shown]))
    parts.append(markup.element("h3", "Records read"))
    parts.append(markup.table(["kind", "records"], [[kind, markup.count(n)] for kind, n in stats["records"].items()]))
    return markup.join(parts)
