"""The report of a run: one HTML file with its plots and tables inside, made from the files that the run left."""

from __future__ import annotations

from pathlib import Path


def write_report(
    model_dir: str | Path | None = None,
    *,
    quickstart: str | Path | None = None,
    evaluation: str | Path | None = None,
    output: str | Path | None = None,
) -> Path | str:
    """Writes the report; parts whose files are missing say so.

    Args:
      model_dir: the run; None takes the last one of the quickstart's folder.
      quickstart: folder with web/, tokenizer/, cache/, pretrain/, tune/, quickstart.json.
      evaluation: results file; None looks for evaluation.json in both folders.
      output: the HTML file; None is MODEL_DIR/report.html.

    Returns:
      Where it is: a Path, or the URL.

    Raises:
      UserError: a folder or file that was named is not there, or a file is broken.
    """
    from t5x_style import files
    from t5x_style.report import page, sources

    found = sources.find(model_dir, quickstart, evaluation)
    return page.write(found, files.join(found.shown, "report.html") if output is None else output)
