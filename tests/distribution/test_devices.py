"""The kind of the devices, and GPUs that are present and not used."""

import pytest

from keras_deit.distribution import Strategy
from keras_deit.distribution.devices import device_kind, unused_gpu


def test_the_devices_are_named_by_their_kind():
    assert device_kind() == "CPU"
    assert Strategy("single").describe() == "1 CPU device"


@pytest.fixture
def host(tmp_path):
    """A root folder whose devices include an NVIDIA GPU."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    return tmp_path


def test_an_unused_gpu_is_reported_with_what_to_install(host, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert unused_gpu(host) == (
        "an NVIDIA GPU is present, and tensorflow cannot use it, so training runs on the CPU:"
        ' pip install "tensorflow[and-cuda]"'
    )


def test_a_hidden_gpu_is_reported(host, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES hides it: unset that" in unused_gpu(host)


def test_a_host_without_gpus_has_none_unused(tmp_path):
    assert unused_gpu(tmp_path) is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()  # the driver's, without a device
    assert unused_gpu(tmp_path) is None
