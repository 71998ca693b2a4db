"""The six tasks of the paper on archives as they are published, in one sweep; and its results."""

import csv
import pathlib
import statistics

import keras
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from tests import archives
from tests.conftest import TINY
from transfer import TASKS, results
from transfer.finetuning import find
from transfer.sweep import COLUMNS, slug, sweep
from transfer.tasks import MODELS, PAPER


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(2)
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    kd.DeiT(16, 8, 12, 1, 2, num_classes=1000).save(path)
    return str(path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """TFDS takes what it would download from a folder that holds the archives."""
    from tensorflow_datasets.core.download import download_manager
    from tensorflow_datasets.image_classification.i_naturalist2018 import i_naturalist2018

    web = tmp_path / "web"
    web.mkdir()
    for make in (archives.cifar, archives.flowers, archives.inaturalist_2019):
        make(web)
    labels = pathlib.Path(i_naturalist2018.__file__).with_name("inaturalist2018_labels.txt")
    archives.inaturalist_2018(web, labels.read_text().splitlines())

    def here(manager, resource):
        name = str(getattr(resource, "url", resource)).rpartition("/")[2]
        return download_manager.promise.Promise.resolve(download_manager.epath.Path(web / name))

    monkeypatch.setattr(download_manager.DownloadManager, "_download_or_get_cache", here)


@pytest.mark.slow
def test_the_papers_tasks_from_their_archives(published, model, tmp_path, capsys):
    """All from files in their original layout; what fails does not stop the rest, and is what the
    same command repeats."""
    data, out = tmp_path / "data", tmp_path / "out"
    settings = ["epochs=1", "warmup_epochs=0", "run_eagerly=true"]
    with pytest.raises(kd.UserError, match=r"1 of 6 runs failed.*cars196.*Download by hand"):
        sweep(PAPER, [model], out, settings, data_dir=data)
    assert "| failed |" in capsys.readouterr().out
    archives.cars(data / "downloads" / "manual")
    files = {name: out / name / slug(model) / "0" / "last.keras" for name in PAPER}
    before = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}
    assert set(PAPER) - set(before) == {"cars196"}
    rows = sweep(PAPER, [model], out, settings, data_dir=data)
    assert [row["task"] for row in rows] == list(PAPER)
    assert all(row["error"] is None and 0 <= row["fused"] <= 1 for row in rows)
    assert before == {name: files[name].stat().st_mtime_ns for name in before}
    for name, path in files.items():
        tuned = kd.load(path)
        assert len(tuned.class_names) == tuned.num_classes == TASKS[name].classes
    assert kd.load(files["cifar10"]).class_names[3] == "thing 3"
    flowers = datasets.load("oxford_flowers102", "train+validation", data)
    assert sorted(flowers[i][1] for i in range(len(flowers))) == [0, *range(1, 7), 101]
    species = datasets.load("i_naturalist2018", "train", data)
    assert sorted(species[i][1] for i in range(len(species))) == sorted([7, 8141, 0])


def rows_of(folder):
    with open(folder / "results.csv", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def known(tmp_path_factory, data_dir):
    """The file of a DeiT that knows five digits."""
    row = kd.override(kd.RECIPES["digits_0to4"], ["epochs=8", "passes=6", "warmup_epochs=1"])
    folder = tmp_path_factory.mktemp("known")
    kd.train(row, folder, data_dir, quiet=True)
    return str(folder / "last.keras")


@pytest.mark.slow
def test_probes_are_kept_and_tell_one_model_from_another(known, tmp_path, data_dir, monkeypatch):
    """Features of five digits tell the other five apart better than those of a random model; a
    second call computes nothing."""
    keras.utils.set_random_seed(0)
    kd.build("deit_digits", num_classes=5).save(tmp_path / "random.keras")
    models = [str(tmp_path / "random.keras"), known]
    out = tmp_path / "out"
    rows = sweep(["digits_5to9"], models, out, seeds=2, probing=True, data_dir=data_dir)
    assert [(row["method"], row["seed"]) for row in rows[:4]] == [
        ("linear", 0),
        ("neighbours", 0),
        ("linear", 1),
        ("neighbours", 1),
    ]
    by_model = [
        statistics.mean(row["fused"] for row in rows if row["model"] == name) for name in models
    ]
    assert by_model[1] > by_model[0] + 0.02
    assert rows[0]["fused"] != rows[2]["fused"]  # another seed chooses other images
    assert min(by_model) > 0.25
    (tmp_path / "random.keras").rename(tmp_path / "moved.keras")
    with pytest.raises(kd.UserError, match="no file"):
        sweep(["digits_5to9"], models, out, probing=True, data_dir=data_dir)
    (tmp_path / "moved.keras").rename(tmp_path / "random.keras")
    monkeypatch.setattr(kd.DeiT, "features", None)  # nothing is to ask for them again
    again = sweep(["digits_5to9"], models, out, seeds=2, probing=True, data_dir=data_dir)
    assert again == rows
    with pytest.raises(kd.UserError, match="belongs to another recipe"):
        sweep(["digits_5to9"], models, out, ["eval_crop=0.5"], probing=True, data_dir=data_dir)


@pytest.mark.slow
def test_knowing_five_digits_helps_with_five_others(known, tmp_path, data_dir):
    """At ten images of each, by more than the spread over seeds; README.md has the longer run."""
    models, out = [known, "deit_digits"], tmp_path / "out"
    settings = ["epochs=5", "passes=24", "warmup_epochs=1"]
    rows = sweep(["digits_5to9"], models, out, settings, seeds=2, data_dir=data_dir)
    tuned, scratch = ([r["fused"] for r in rows if r["model"] == model] for model in models)
    gain = statistics.mean(tuned) - statistics.mean(scratch)
    assert gain > max(statistics.stdev(tuned), statistics.stdev(scratch))
    read = rows_of(out)
    assert list(read[0]) == list(COLUMNS)
    assert [float(row["fused"]) for row in read] == tuned + scratch
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "results.md").read_text() == results.markdown(rows)
    data = (out / "digits_5to9" / "deit_digits" / "0" / "plan.json").read_text()
    assert "50 training" in data
    more = sweep(["digits_5to9"], [known], out, probing=True, data_dir=data_dir)
    assert more[:4] == rows  # what earlier calls found stays in the results
    assert [row["method"] for row in more[4:]] == ["linear", "neighbours"]
    assert len(rows_of(out)) == 6


def test_wrong_names_are_said_before_anything_is_begun(tmp_path, model):
    for tasks, models, settings, says in (
        (["cifar10", "cifar11"], [model], [], "unknown task 'cifar11'"),
        (["cifar10"], [model, "deit_huge"], [], "no file deit_huge"),
        (["cifar10"], [model], ["epoch=3"], "unknown field 'epoch'"),
    ):
        with pytest.raises(kd.UserError, match=says):
            sweep(tasks, models, tmp_path, settings)
    assert not list(tmp_path.iterdir())


def test_a_failure_of_any_kind_is_kept_and_ends_in_an_error(tmp_path, model):
    (tmp_path / "digits_5to9").write_text("a file where a folder is to be")
    with pytest.raises(kd.UserError, match=r"2 of 2 runs failed.*cannot be kept|2 of 2.*folder"):
        sweep(["digits_5to9"], [model, "deit_digits"], tmp_path, TINY)
    assert [bool(row["error"]) for row in rows_of(tmp_path)] == [True, True]


def row(task, model, seed, fused, method="fine-tuned", error=None):
    return {
        **dict.fromkeys(COLUMNS),
        "task": task,
        "model": model,
        "method": method,
        "seed": seed,
        "metric": TASKS[task].metric if task in TASKS else "top1",
        "fused": fused,
        "published": TASKS[task].score(model) if task in TASKS else None,
        "error": error,
    }


def test_the_table_has_means_spreads_and_published_scores(tmp_path):
    rows = [row("cifar10", MODELS[0], seed, score) for seed, score in enumerate((0.98, 0.99))]
    rows += [row("cifar10", MODELS[0], 0, 0.9, "linear"), row("cifar10", "a/b.keras", 0, 0.5)]
    rows += [row("oxford_iiit_pet", MODELS[0], 0, 0.25)]
    rows += [row("folder:/x/birds/", "a/b.keras", 0, None, None, "no such folder")]
    assert results.markdown(rows) == (
        "| model | method | CIFAR-10, top-1 | Oxford-IIIT Pet, mean of classes | birds, top-1 |\n"
        "| --- | --- | ---: | ---: | ---: |\n"
        f"| `{MODELS[0]}` | fine-tuned | 98.5 ± 0.7 (99.1) | 25.0 | - |\n"
        f"| `{MODELS[0]}` | linear probe | 90.0 (99.1) | - | - |\n"
        "| `a/b.keras` | fine-tuned | 50.0 | - | failed |\n"
    )
    results.chart(rows, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_every_run_has_a_folder_of_its_own():
    names = [
        "cifar10",
        "runs/a/last.keras",
        "runs/b/last.keras",
        "folder:/x/birds",
        "folder:x/birds",
    ]
    assert find("folder:/x/birds/").dataset == find("folder:/x/./birds").dataset
    folders = [slug(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[0] == "cifar10"
    assert all(pathlib.PurePath(name).name == name for name in folders)
    assert folders[1].startswith("a-last-")
