"""What a run writes for each epoch: ``metrics.csv`` and TensorBoard events."""

from keras_deit.utils.errors import reason
from keras_deit.utils.files import one_line_errors_of
from keras_deit.utils.tables import write_csv


def write_metrics(rows, workdir):
    """Writes ``metrics.csv``.

    Args:
        rows: a dict for each finished epoch, all with the same keys.
        workdir: ``pathlib.Path`` of the run.
    """
    if rows:
        write_csv(workdir / "metrics.csv", list(rows[0]), rows)


def write_events(row, workdir):
    """Adds an epoch to the TensorBoard events.

    Args:
        row: a dict of the epoch's numbers, "epoch" among them.
        workdir: ``pathlib.Path`` of the run.

    Raises:
        UserError: they cannot be written.
    """
    import tensorboard  # noqa: F401 - TensorFlow's summaries need it
    import tensorflow as tf

    folder = workdir / "tensorboard"
    with one_line_errors_of(folder):
        try:
            writer = tf.summary.create_file_writer(str(folder))
            with writer.as_default(step=row["epoch"]):
                for name, value in row.items():
                    if value is not None:
                        tf.summary.scalar(name, value)
            writer.close()
        except tf.errors.OpError as error:
            raise OSError(reason(error.message)) from error
