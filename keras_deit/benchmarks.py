"""Measurements behind the figures of README.md, printed as Markdown."""

import pathlib
import subprocess
import sys
import tempfile

from keras_deit.checkpoints import save_pretrained
from keras_deit.factory import build

_CHILD = """
import resource, sys, time
import keras_deit as kd
start = time.perf_counter()
model = {call}
model.count_params()
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def loading(variant="deit_base_distilled_patch16_224"):
    """Seconds and memory to load ``variant`` from a safetensors file of random weights, each in a
    process of its own, against building it alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        save_pretrained(build(variant), path)
        size = path.stat().st_size / 2**20
        seconds, peak = _child(f"kd.load({str(path)!r}, {variant!r})")
        built, base = _child(f"kd.build({variant!r})")
    print("| model | file | build | load | memory beyond the built model, over the file |")
    print("| --- | ---: | ---: | ---: | ---: |")
    extra = (peak - base) / size
    print(f"| {variant} | {size:.0f} MiB | {built:.1f} s | {seconds:.1f} s | {extra:.2f} |")


def _child(call):
    code = _CHILD.format(call=call)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)
