"""Sweeps: the paper's six tasks from their published archives, transfer of digits, results."""

import pathlib
import statistics

import keras
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.utils import tables
from tests import archives
from tests.conftest import TINY
from transfer import TASKS, results
from transfer.sweep import COLUMNS, _plan, folder_name, sweep
from transfer.tasks import PAPER, find

BASE = "deit_base_patch16_224"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(2)
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    kd.DeiT(16, 8, 12, 1, 2, num_classes=1000).save(path)
    return str(path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder of the archives, from which TFDS takes what it would download."""
    from tensorflow_datasets.core.download import download_manager
    from tensorflow_datasets.image_classification.i_naturalist2018 import i_naturalist2018

    web = tmp_path / "web"
    web.mkdir()
    for make in (archives.cifar, archives.flowers, archives.inaturalist_2019):
        make(web)
    labels = pathlib.Path(i_naturalist2018.__file__).with_name("inaturalist2018_labels.txt")
    archives.inaturalist_2018(web, labels.read_text().splitlines())

    def local_file(manager, resource):
        name = str(getattr(resource, "url", resource)).rpartition("/")[2]
        return download_manager.promise.Promise.resolve(download_manager.epath.Path(web / name))

    monkeypatch.setattr(download_manager.DownloadManager, "_download_or_get_cache", local_file)


@pytest.mark.slow
def test_the_papers_tasks_are_read_from_their_archives(published, model, tmp_path, capsys):
    """Of the archives' original layout. A failed run does not stop the others, and is what the same
    call repeats."""
    data, out = tmp_path / "data", tmp_path / "out"
    settings = ["epochs=1", "warmup_epochs=0", "run_eagerly=true"]
    with pytest.raises(kd.UserError, match=r"1 of 6 runs failed.*cars196.*Download by hand"):
        sweep(PAPER, [model], out, settings, data_dir=data)
    assert "| failed |" in capsys.readouterr().out

    files = {name: out / name / folder_name(model) / "0" / "last.keras" for name in PAPER}
    written = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}
    assert set(PAPER) - set(written) == {"cars196"}

    archives.cars(data / "downloads" / "manual")
    rows = sweep(PAPER, [model], out, settings, data_dir=data)
    assert [row["task"] for row in rows] == list(PAPER)
    assert all(row["error"] is None and 0 <= row["fused"] <= 1 for row in rows)
    assert written == {name: files[name].stat().st_mtime_ns for name in written}

    for name, path in files.items():
        tuned = kd.load(path)
        assert len(tuned.class_names) == tuned.num_classes == TASKS[name].classes
    assert kd.load(files["cifar10"]).class_names[3] == "thing 3"
    flowers = datasets.load("oxford_flowers102", "train+validation", data)
    assert sorted(flowers[i][1] for i in range(len(flowers))) == [0, *range(1, 7), 101]
    species = datasets.load("i_naturalist2018", "train", data)
    assert sorted(species[i][1] for i in range(len(species))) == sorted([7, 8141, 0])


@pytest.fixture(scope="module")
def known(tmp_path_factory, data_dir):
    """The file of a DeiT that knows five digits."""
    settings = ["epochs=8", "passes=6", "warmup_epochs=1", "jit_compile=false"]
    row = kd.override(kd.RECIPES["digits_0to4"], settings)
    folder = tmp_path_factory.mktemp("known")
    kd.train(row, folder, data_dir, quiet=True)
    return str(folder / "last.keras")


@pytest.mark.slow
def test_probes_are_kept_and_tell_one_model_from_another(known, tmp_path, data_dir, monkeypatch):
    """Features of five digits tell the other five apart better than those of a random model. A
    second call computes nothing."""
    keras.utils.set_random_seed(0)
    kd.build("deit_digits", num_classes=5).save(tmp_path / "random.keras")
    models = [str(tmp_path / "random.keras"), known]
    out = tmp_path / "out"
    rows = sweep(["digits_5to9"], models, out, seeds=2, probing=True, data_dir=data_dir)
    assert [(row["method"], row["seed"]) for row in rows[:4]] == [
        ("linear", 0),
        ("neighbors", 0),
        ("linear", 1),
        ("neighbors", 1),
    ]

    random_mean, known_mean = (
        statistics.mean(row["fused"] for row in rows if row["model"] == name) for name in models
    )
    assert known_mean > random_mean + 0.02
    assert rows[0]["fused"] != rows[2]["fused"]  # another seed chooses other images
    assert random_mean > 0.25

    (tmp_path / "random.keras").rename(tmp_path / "moved.keras")
    with pytest.raises(kd.UserError, match="no file"):
        sweep(["digits_5to9"], models, out, probing=True, data_dir=data_dir)
    (tmp_path / "moved.keras").rename(tmp_path / "random.keras")

    monkeypatch.setattr(kd.DeiT, "features", None)  # nothing may ask for them again
    again = sweep(["digits_5to9"], models, out, seeds=2, probing=True, data_dir=data_dir)
    assert again == rows
    with pytest.raises(kd.UserError, match="was written with a different recipe"):
        sweep(["digits_5to9"], models, out, ["eval_crop=0.5"], probing=True, data_dir=data_dir)


@pytest.mark.slow
def test_knowing_five_digits_helps_with_five_others(known, tmp_path, data_dir):
    """By more than the standard deviation over seeds, with ten images of each digit. The README has
    the longer run."""
    models, out = [known, "deit_digits"], tmp_path / "out"
    settings = ["epochs=5", "passes=24", "warmup_epochs=1", "jit_compile=false"]
    rows = sweep(["digits_5to9"], models, out, settings, seeds=2, data_dir=data_dir)
    tuned, scratch = ([r["fused"] for r in rows if r["model"] == model] for model in models)
    gain = statistics.mean(tuned) - statistics.mean(scratch)
    assert gain > max(statistics.stdev(tuned), statistics.stdev(scratch))

    read = tables.read_csv(out / "results.csv")
    assert list(read[0]) == list(COLUMNS)
    assert [float(row["fused"]) for row in read] == tuned + scratch
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "results.md").read_text() == results.markdown(rows)
    assert "50 training" in (out / "digits_5to9/deit_digits/0/plan.json").read_text()

    more = sweep(["digits_5to9"], [known], out, probing=True, data_dir=data_dir)
    assert more[:4] == rows  # the results of earlier calls stay
    assert [row["method"] for row in more[4:]] == ["linear", "neighbors"]
    assert len(tables.read_csv(out / "results.csv")) == 6


def test_wrong_names_fail_before_the_first_run(tmp_path, model):
    for tasks, models, settings, message in (
        (["cifar10", "cifar11"], [model], [], "unknown task 'cifar11'"),
        (["cifar10"], [model, "deit_huge"], [], "no file deit_huge"),
        (["cifar10"], [model], ["epoch=3"], "unknown field 'epoch'"),
    ):
        with pytest.raises(kd.UserError, match=message):
            sweep(tasks, models, tmp_path, settings)
    assert not list(tmp_path.iterdir())


TWO_SWEEPS = """
import os
import keras_deit as kd
from keras_deit.data import datasets
from transfer.sweep import sweep

children = []
for model in ("deit_digits", "deit_digits_distilled"):
    children.append(os.fork())
    if not children[-1]:
        assert len(datasets.load("digits/5to9", "test", "data")) == 269  # both prepare it
        try:
            sweep(["folder:missing"], [model], "out", seeds=8)  # fails at once, a row each
        except kd.UserError:
            os._exit(0)
        os._exit(1)
assert not any(os.waitpid(child, 0)[1] for child in children)
"""


@pytest.mark.slow
def test_two_sweeps_at_once_keep_the_rows_of_both(forks, tmp_path):
    done = forks.run(["-c", TWO_SWEEPS], tmp_path)
    assert done.returncode == 0, done.stderr

    rows = tables.read_csv(tmp_path / "out" / "results.csv")
    runs = {(row["model"], row["seed"]) for row in rows}
    assert len(rows) == len(runs) == 16
    (task,) = {row["task"] for row in rows}
    lines = (tmp_path / "out" / "results.md").read_text().splitlines()
    assert [line.split("|")[1:3] for line in lines[2:]] == [
        [f" `{model}` ", " - "] for model in dict.fromkeys(row["model"] for row in rows)
    ]
    assert task.startswith("folder:")
    assert not list((tmp_path / "out").glob(".partial*"))


def test_seeds_count_from_the_one_that_is_set(tmp_path, model):
    def planned(overrides, seeds):
        runs = _plan(["digits_5to9"], [model], tmp_path, overrides, seeds)
        assert [run.workdir.name for run in runs] == [str(run.seed) for run in runs]
        return [(run.seed, run.recipe.seed, run.recipe.subset) for run in runs]

    assert planned([], 2) == [(0, 0, 0), (1, 1, 1)]
    assert planned(["seed=7"], 1) == [(7, 7, 7)]
    assert planned(["seed=7", "subset=3"], 2) == [(7, 7, 3), (8, 8, 3)]


def test_failures_of_any_kind_are_kept_and_end_in_an_error(tmp_path, model):
    (tmp_path / "digits_5to9").write_text("a file in place of a folder")
    with pytest.raises(kd.UserError, match=r"2 of 2 runs failed.*cannot be kept|2 of 2.*folder"):
        sweep(["digits_5to9"], [model, "deit_digits"], tmp_path, TINY)
    assert all(row["error"] for row in tables.read_csv(tmp_path / "results.csv"))
    assert len(tables.read_csv(tmp_path / "results.csv")) == 2


def test_one_model_in_two_spellings_is_one_row(tmp_path, model, monkeypatch):
    (tmp_path / "digits_5to9").write_text("a file in place of a folder")  # every run fails
    path = pathlib.Path(model)
    monkeypatch.chdir(path.parent)
    (path.parent / "link.keras").symlink_to(path)

    for spellings in ([model, path.name, "link.keras"], [f"./{path.name}"], ["link.keras"]):
        with pytest.raises(kd.UserError, match="1 of 1 runs failed"):
            sweep(["digits_5to9"], spellings, tmp_path, TINY)
    (row,) = tables.read_csv(tmp_path / "results.csv")
    assert row["model"] == model


def test_results_of_another_program_are_rejected(tmp_path, model):
    tables.write_csv(tmp_path / "results.csv", ("task", "score"), [{"task": "a", "score": 1}])
    with pytest.raises(kd.UserError, match=r"results.csv was not written by keras_deit"):
        sweep(["digits_5to9"], [model], tmp_path)


def test_errors_of_programs_leave_their_traceback(tmp_path, model, data_dir, monkeypatch):
    (tmp_path / "digits_5to9" / folder_name(model)).mkdir(parents=True)
    monkeypatch.setattr(kd.DeiT, "features", None)
    with pytest.raises(kd.UserError, match=r"1 of 1 runs failed.*TypeError: .*error.txt\)"):
        sweep(["digits_5to9"], [model], tmp_path, probing=True, data_dir=data_dir)
    (account,) = tmp_path.rglob("error.txt")
    assert "Traceback" in account.read_text()
    assert "not callable" in account.read_text()


def row(task, model, seed, fused, method="fine-tuned", error=None):
    return {
        **dict.fromkeys(COLUMNS),
        "task": task,
        "model": model,
        "method": method,
        "seed": seed,
        "metric": TASKS[task].metric if task in TASKS else "top1",
        "fused": fused,
        "published": TASKS[task].published_score(model) if task in TASKS else None,
        "error": error,
    }


def test_the_table_has_means_deviations_and_published_scores(tmp_path):
    rows = [row("cifar10", BASE, seed, score) for seed, score in enumerate((0.98, 0.99))]
    rows += [row("cifar10", BASE, 0, 0.9, "linear"), row("cifar10", "a/b.keras", 0, 0.5)]
    rows += [row("oxford_iiit_pet", BASE, 0, 0.25)]
    rows += [row("folder:/x/birds/", "a/b.keras", 0, None, None, "no such folder")]
    assert results.markdown(rows) == (
        "| model | method | CIFAR-10, top-1 | Oxford-IIIT Pet, mean of classes | birds, top-1 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        f"| `{BASE}` | fine-tuned | 98.5 ± 0.7 (99.1) | 25.0 | - |\n"
        f"| `{BASE}` | linear probe | 90.0 (99.1) | - | - |\n"
        "| `a/b.keras` | fine-tuned | 50.0 | - | failed |\n"
    )

    rows += [row("folder:/x/a $\\{ $", "_$^$.keras", 0, 0.5)]  # no formulas
    results.chart(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_every_run_has_a_folder_of_its_own():
    names = ["cifar10", "runs/a/last.keras", "runs/b/last.keras"]
    names += ["folder:/x/birds", "folder:x/birds"]
    assert find("folder:/x/birds/").dataset == find("folder:/x/./birds").dataset

    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "cifar10"
    assert all(pathlib.PurePath(name).name == name for name in folders)
    assert folders[1].startswith("a-last-")
