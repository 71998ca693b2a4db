"""One library's model in a separate process, which ``model_benchmark.py`` starts and times.

The process builds its model, takes a first step, prints how many seconds both took, and then waits:
for each line of its input it takes as many steps as the line says, and prints their seconds. At the
end of its input it prints the most memory that it had.

    python -m keras_deit.tools.contenders '{"library": "timm", "variant": ..., "mode": ...}'
"""

import contextlib
import dataclasses
import json
import re
import sys
import time

from keras_deit.tools.peers import import_timm

CLASSES = 1000
TEACHER = "regnety_160"
DROP_PATH = 0.1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a contender does.

    Args:
        library: str. A key of ``LIBRARIES``.
        variant: str. A published DeiT, a row of ``VARIANTS``.
        mode: str. "inference" or "training".
        precision: str. "float32" or "bfloat16". Training keeps its variables in float32.
        compiler: str. "graph" or "xla" with TensorFlow, "auto" for what a recipe would choose,
            "recompute" for the same with ``recompute=true``, "eager" or "compile" with PyTorch.
            Default "auto".
        batch: int. Images in a step. Default 16.
        teacher: str. What training learns from beside labels: "none", so that both heads learn
            labels; "live", the decisions of a RegNetY-16GF that sees the images in each step; or
            "stored", decisions that come with the images, as ``keras_deit.label`` stores them.
            Default "none".
    """

    library: str
    variant: str
    mode: str
    precision: str
    compiler: str = "auto"
    batch: int = 16
    teacher: str = "none"


def main(text):
    """Serves the protocol above for settings in JSON."""
    start = time.perf_counter()
    settings = Settings(**json.loads(text))
    step = LIBRARIES[settings.library](settings)
    step(1)
    print(f"ready {time.perf_counter() - start:.2f}", flush=True)

    for line in sys.stdin:
        start = time.perf_counter()
        step(int(line))
        print(f"{time.perf_counter() - start:.6f}", flush=True)

    # Not getrusage: its peak begins with the memory of the process that started this one.
    with open("/proc/self/status") as status:
        kibibytes = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])
    print(f"peak {kibibytes / 2**20:.3f}", flush=True)


def _batch(settings, size):
    """Images, (batch, height, width, 3), and one-hot labels, float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.standard_normal((settings.batch, *size, 3), dtype=np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, settings.batch)]
    return images, labels


def _set_policy(settings):
    """Has Keras make models of a precision; training keeps variables in float32."""
    import keras

    mixed = "mixed_" * (settings.precision == "bfloat16" and settings.mode == "training")
    keras.config.set_dtype_policy(mixed + settings.precision)


def _keras_deit(settings):
    """``keras_deit`` on the backend of KERAS_BACKEND."""
    import keras

    from keras_deit.configs.recipes import RECIPES
    from keras_deit.distillation import Distillation
    from keras_deit.evaluation.inference import predictor
    from keras_deit.models.factory import build
    from keras_deit.training import loss, optimizer

    inference = settings.mode == "inference"
    _set_policy(settings)
    recompute = settings.compiler == "recompute"
    with keras.RematScope("full") if recompute else contextlib.nullcontext():
        model = build(settings.variant, drop_path=DROP_PATH)
    images, labels = _batch(settings, model.image_size)

    if inference:
        predict = predictor(model)
        return _repeated(lambda: predict(images))

    distillation = None
    if settings.teacher == "live":
        distillation = Distillation(build(TEACHER))
    elif settings.teacher == "stored":
        distillation = Distillation(kind="hard")
    elif model.distilled:
        distillation = Distillation(kind="label")

    recipe = dataclasses.replace(RECIPES["deit_small"], variant=settings.variant)
    model.compile(
        optimizer(recipe, steps_per_epoch=1000),
        loss(recipe),
        distillation=distillation,
        jit_compile={"graph": False, "xla": True}.get(settings.compiler, "auto"),
    )
    batches = _dataset(images, labels, settings.teacher == "stored")
    return lambda steps: model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)


def _dataset(images, labels, with_targets):
    import tensorflow as tf

    from keras_deit.data.targets import decode, encode

    dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()
    if with_targets:
        stored = encode(labels, "hard", top_k=1)

        def read():
            return decode(stored, CLASSES)

        def add_targets(images, labels):
            targets = tf.ensure_shape(tf.numpy_function(read, (), tf.float32), labels.shape)
            return images, {"labels": labels, "targets": targets}

        dataset = dataset.map(add_targets)

    options = tf.data.Options()
    # The autotuner would wait at the end of each pass for as long as the pass took.
    options.autotune.enabled = False
    return dataset.with_options(options)


def _keras_hub(settings):
    """KerasHub's DeiT on the backend of KERAS_BACKEND; it has one head and no stochastic depth."""
    import keras
    import keras_hub

    from keras_deit.configs.variants import VARIANTS

    inference = settings.mode == "inference"
    _set_policy(settings)

    row = VARIANTS[settings.variant]
    size = (row.image_size, row.image_size)
    backbone = keras_hub.models.DeiTBackbone(
        image_shape=(*size, 3),
        patch_size=row.patch_size,
        num_layers=row.depth,
        num_heads=row.heads,
        hidden_dim=row.width,
        intermediate_dim=int(row.mlp_ratio * row.width),
    )
    model = keras_hub.models.DeiTImageClassifier(backbone, CLASSES, preprocessor=None)
    images, labels = _batch(settings, size)
    if inference:
        return _repeated(lambda: model.predict_on_batch(images))

    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.05),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["categorical_accuracy"],
    )
    batches = _dataset(images, labels, with_targets=False)
    return lambda steps: model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)


def _timm(settings):
    """timm, as its ``train.py`` and ``validate.py`` use it."""
    timm = import_timm()
    model = timm.create_model(settings.variant, drop_path_rate=DROP_PATH)
    teacher = timm.create_model(TEACHER) if settings.teacher == "live" else None
    return _pytorch(settings, model, teacher)


def _transformers(settings):
    """Hugging Face's transformers, which has no stochastic depth."""
    import_timm()  # transformers imports torchvision too
    import transformers

    from keras_deit.configs.variants import VARIANTS

    row = VARIANTS[settings.variant]
    config = transformers.DeiTConfig(
        hidden_size=row.width,
        num_hidden_layers=row.depth,
        num_attention_heads=row.heads,
        intermediate_size=int(row.mlp_ratio * row.width),
        image_size=row.image_size,
        patch_size=row.patch_size,
        num_labels=CLASSES,
    )
    model = transformers.DeiTForImageClassificationWithTeacher(config)
    if settings.mode == "training":
        raise SystemExit("error: transformers' DeiT with two heads has no training step")

    import torch

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images).logits

    return _pytorch(settings, Logits())


def _pytorch(settings, model, teacher=None):
    import torch

    from keras_deit.configs.variants import VARIANTS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = VARIANTS[settings.variant].image_size
    images, labels = (torch.from_numpy(x) for x in _batch(settings, (size, size)))
    images = images.permute(0, 3, 1, 2).contiguous().to(device)
    labels = labels.to(device)
    model = model.to(device)
    compiled = torch.compile(model) if settings.compiler == "compile" else model

    def finish():
        if device == "cuda":
            torch.cuda.synchronize()

    if settings.mode == "inference":
        dtype = getattr(torch, settings.precision)
        model.to(dtype).eval()

        @torch.inference_mode()
        def infer():
            # As the others do: float32 images in, logits out.
            compiled(images.to(dtype)).float().cpu()

        return _repeated(infer, finish)

    model.train()
    if hasattr(model, "set_distilled_training"):
        model.set_distilled_training(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    mixed = torch.autocast(device, torch.bfloat16, enabled=settings.precision == "bfloat16")
    if teacher is not None:
        teacher = teacher.to(device).eval()

    def targets():
        """What the last head learns: the teacher's decisions, or the labels."""
        if teacher is None:
            return labels
        with torch.no_grad():
            return teacher(images).argmax(dim=1)

    def train():
        with mixed:
            last = targets()
            heads = compiled(images)
            heads = heads if isinstance(heads, tuple) else (heads,)
            goals = [labels, last][-len(heads) :]
            losses = [
                torch.nn.functional.cross_entropy(head.float(), goal)
                for head, goal in zip(heads, goals, strict=True)
            ]
            loss = sum(losses) / len(losses)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return _repeated(train, finish)


def _repeated(step, finish=lambda: None):
    def steps(count):
        for _ in range(count):
            step()
        finish()

    return steps


LIBRARIES = {
    "keras_deit": _keras_deit,
    "keras_hub": _keras_hub,
    "timm": _timm,
    "transformers": _transformers,
}

if __name__ == "__main__":
    main(sys.argv[1])
