"""metrics.jsonl: what a resume drops, a line cut by a kill, values JSON cannot hold."""

from t5x_style.training import metrics


def test_resume_drops_later_rows(tmp_path):
    writer = metrics.Writer(tmp_path, tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 1 / step})
    writer.close()
    writer = metrics.Writer(tmp_path, resume_step=2, tensorboard=False)
    writer.write(3, "train", {"loss": 9.0})
    writer.close()
    assert [(row["step"], row["loss"]) for row in metrics.read(tmp_path)] == [(1, 1.0), (2, 0.5), (3, 9.0)]


def test_cut_line_and_values_that_are_not_finite(tmp_path):
    writer = metrics.Writer(tmp_path)
    writer.write(1, "train", {"loss": float("nan"), "rate": float("inf"), "good": 2.0})
    writer.close()
    with open(tmp_path / metrics.FILE, "a") as file:
        file.write('{"step": 2, "ki')
    (row,) = metrics.read(tmp_path)
    assert row["loss"] is None
    assert row["rate"] is None
    assert row["good"] == 2.0
    assert list((tmp_path / "tensorboard").iterdir())


def test_inactive_writer_writes_nothing(tmp_path):
    writer = metrics.Writer(tmp_path / "other", active=False)
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    assert not (tmp_path / "other").exists()
