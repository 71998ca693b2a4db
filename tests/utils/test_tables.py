"""Markdown and CSV tables, and scores over seeds."""

import pytest

from keras_deit.utils import tables


def test_a_markdown_table_aligns_text_left_and_numbers_right():
    rows = [["DeiT-Ti", "class", 72.2], ["DeiT-S", "fused", None]]
    assert tables.markdown(["model", "head", "top-1"], rows, left=2) == (
        "| model | head | top-1 |\n"
        "| --- | --- | ---: |\n"
        "| DeiT-Ti | class | 72.2 |\n"
        "| DeiT-S | fused | None |"
    )


def test_a_markdown_table_takes_iterators_and_no_rows():
    assert tables.markdown(iter(["a", "b"]), iter([])) == "| a | b |\n| --- | ---: |"
    assert tables.markdown(["a"], (iter([x]) for x in (1, 2))).splitlines()[2:] == [
        "| 1 |",
        "| 2 |",
    ]


def test_csv_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "metrics.csv"
    rows = [
        {"epoch": "1", "loss": "0.5", "note": 'commas, "quotes" and\nlines'},
        {"epoch": "2", "loss": None, "note": "81.4 ± 3.1"},
    ]
    tables.write_csv(path, ["epoch", "loss", "note"], rows)
    assert path.read_bytes().startswith(b"epoch,loss,note\n1,0.5,")
    assert b"\r" not in path.read_bytes()
    assert tables.read_csv(path) == rows


def test_csv_cells_are_empty_if_a_row_lacks_them(tmp_path):
    tables.write_csv(tmp_path / "a.csv", ["method", "class", "fused"], [{"method": "none"}])
    assert (tmp_path / "a.csv").read_text() == "method,class,fused\nnone,,\n"
    assert tables.read_csv(tmp_path / "a.csv") == [{"method": "none", "class": None, "fused": None}]


def test_a_csv_row_with_an_unknown_column_writes_nothing(tmp_path):
    tables.write_csv(tmp_path / "a.csv", ["epoch"], [{"epoch": 1}])
    with pytest.raises(ValueError, match="loss"):
        tables.write_csv(tmp_path / "a.csv", ["epoch"], [{"epoch": 1, "loss": 2}])
    assert (tmp_path / "a.csv").read_text() == "epoch\n1\n"


def test_deviation_is_that_of_a_sample():
    assert tables.deviation([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx((32 / 7) ** 0.5)
    assert tables.deviation([0.3]) == 0.0


@pytest.mark.parametrize(
    ("fractions", "text"),
    [
        ([], "-"),
        ([0.8149], "81.5"),
        ([0.5, 0.6], "55.0 ± 7.1"),
        ([0.25, 0.25, 0.25], "25.0 ± 0.0"),
        ([1.0], "100.0"),
    ],
)
def test_scores_over_seeds_are_percent(fractions, text):
    assert tables.mean_and_deviation(fractions) == text
