"""What timm's and transformers' configuration files beside weights say of them."""

import json
import re
from dataclasses import dataclass, field

from keras_deit.configs.class_names import imagenet_names
from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.configs.variants import VARIANTS
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import family_of, variant_fields
from keras_deit.utils.errors import UserError
from keras_deit.weights.keras_files import CONFIG_LIMIT
from keras_deit.weights.sources import FOLDER_FILES

# timm's vision transformers of the DeiTs' shapes.
VIT = r"vit_(tiny|small|base)_(patch16_(?:224|384))"

# timm's arguments that change no inference, and the values at which the others change nothing.
TRAINING_ARGUMENTS = r"(.*_)?drop(_path)?_rate|num_classes|dynamic_img_(size|pad)|weight_init"
NEUTRAL_ARGUMENTS = {
    "in_chans": 3,
    "qkv_bias": True,
    "class_token": True,
    "global_pool": "token",
    "pre_norm": False,
    "qk_norm": False,
    "init_values": None,
    "no_embed_class": False,
    "reg_tokens": 0,
    "fc_norm": None,
    "final_norm": True,
}

# transformers' values of what a DeiT has no argument for.
TRANSFORMERS = {"hidden_act": "gelu", "qkv_bias": True, "num_channels": 3}
LARGEST_EPSILON = 1e-5  # of a LayerNorm; 1e-12 in files, 1e-6 here, make no difference
UNNAMED = r"LABEL_\d+"  # transformers' names of classes that have none


@dataclass(frozen=True)
class LibraryConfig:
    """The configuration of a model by timm or transformers.

    Attributes:
        name: str. What errors call the architecture.
        kind: the class of our models that it is, a subclass of ``ImageClassifier``; or None.
        fields: dict of its constructor arguments, as far as they are known.
        class_names: tuple of str in output order, or None.
        preprocessing: dict of a ``Preprocessing``'s arguments, or None if the files do not say.
    """

    name: str
    kind: type | None = None
    fields: dict = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    preprocessing: dict | None = None


def read_config(path):
    """The ``LibraryConfig`` of a weights file; None if there is none, or that of another library.

    Args:
        path: a ``pathlib.Path``, of the weights. Only files with the names that the libraries give
            have configurations: another file may have any neighbor.

    Raises:
        UserError: the model has parts that a DeiT has not.
        Exception: of many types, for a corrupt or hostile file.
    """
    config = _json(path.with_name("config.json")) if path.name in FOLDER_FILES else None
    if not config:
        return None

    if isinstance(config.get("architecture"), str):
        return _of_timm(config)
    if isinstance(config.get("model_type"), str):
        return _of_transformers(config, _json(path.with_name("preprocessor_config.json")) or {})
    return None


def _json(path):
    try:
        with open(path, "rb") as file:
            text = file.read(CONFIG_LIMIT + 1)
    except OSError:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) and len(text) <= CONFIG_LIMIT else None


def _of_timm(config):
    name = config["architecture"]
    pretrained = config.get("pretrained_cfg") or {}
    variant = name
    if match := re.fullmatch(VIT, name):
        variant = f"deit_{match[1]}_{match[2]}".replace("384", "224")

    kind, fields = None, {}
    if variant in VARIANTS:
        kind = family_of(variant)
        arguments = config.get("model_args") or {}
        _check_timm_arguments(name, kind, arguments)
        renamed = kind.timm_arguments
        fields = {**variant_fields(variant)}
        if match and "384" in name:
            fields["image_size"] = 384
        fields |= {renamed[key]: value for key, value in arguments.items() if key in renamed}
        fields["num_classes"] = config.get("num_classes") or None

    return LibraryConfig(
        name=f"timm's {name}",
        kind=kind,
        fields=fields,
        class_names=_timm_names(config, pretrained),
        preprocessing=_mean_and_std(pretrained.get("mean"), pretrained.get("std")),
    )


def _check_timm_arguments(name, kind, arguments):
    for key, value in arguments.items():
        is_known = key in kind.timm_arguments or re.fullmatch(TRAINING_ARGUMENTS, key)
        if not is_known and not (key in NEUTRAL_ARGUMENTS and value == NEUTRAL_ARGUMENTS[key]):
            raise UserError(
                f"timm's {name} with {key}={value!r:.40} is another function than a"
                f" {kind.__name__}'s: expected a model without {key}"
            )


def _timm_names(config, pretrained):
    names = config.get("label_names") or pretrained.get("label_names")
    if isinstance(names, dict):
        names = _by_number(names)
    if names:
        return tuple(map(str, names))

    # Published weights for ImageNet do not list its classes.
    is_imagenet = str(pretrained.get("tag", "")).endswith("in1k")
    counts = {config.get("num_classes"), pretrained.get("num_classes")}
    return imagenet_names() if is_imagenet and counts == {1000} else None


def _of_transformers(config, processor):
    kind, fields = None, {}
    if config["model_type"] in ("deit", "vit"):
        for key, value in TRANSFORMERS.items():
            if config.get(key, value) != value:
                raise UserError(
                    f"transformers' {config['model_type']} with {key}={config[key]!r:.40}: expected"
                    f" {value!r}, as a DeiT has"
                )
        if config.get("layer_norm_eps", 0) > LARGEST_EPSILON:
            raise UserError(f"layer_norm_eps {config['layer_norm_eps']!r:.40}: expected 1e-6 or so")
        # The defaults are transformers'.
        kind, width = DeiT, config.get("hidden_size", 768)
        fields = {
            "image_size": config.get("image_size", 224),
            "patch_size": config.get("patch_size", 16),
            "width": width,
            "depth": config.get("num_hidden_layers", 12),
            "heads": config.get("num_attention_heads", 12),
            "mlp_ratio": config.get("intermediate_size", 3072) / width,
        }

    names = _by_number(config.get("id2label") or {})
    if names and all(re.fullmatch(UNNAMED, name) for name in names):
        names = None
    return LibraryConfig(
        name=f"transformers' {config['model_type']}",
        kind=kind,
        fields=fields,
        class_names=names and tuple(names),
        preprocessing=_of_processor(processor),
    )


def _of_processor(processor):
    """The normalization in a ``preprocessor_config.json``."""
    if not processor:
        return None

    # What the library does to pixels from 0 to 255, told for pixels from 0 to 1.
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1
    scale = 255 * factor
    mean, std = processor.get("image_mean"), processor.get("image_std")
    if not processor.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    if mean is None or std is None:
        return None
    if abs(scale - 1) < 1e-3:  # 0.00392156862745098 in files
        return _mean_and_std(mean, std)
    return _mean_and_std([value / scale for value in mean], [value / scale for value in std])


def _mean_and_std(mean, std):
    if mean is None or std is None:
        return None
    return {**IMAGENET.fields, "mean": list(mean), "std": list(std)}


def _by_number(names):
    """The names of a dict from numbers, as JSON has them, in their order; None if some lack."""
    numbered = {int(number): str(name) for number, name in names.items()}
    if sorted(numbered) != list(range(len(numbered))):
        return None
    return [numbered[number] for number in range(len(numbered))]
