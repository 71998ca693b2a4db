"""``ImageClassifier``: what DeiT, RegNetY and any further model family share."""

import inspect
import os
from typing import ClassVar

import keras
from keras import ops

from keras_deit.configs.class_names import numbered, readable
from keras_deit.configs.preprocessing import as_preprocessing
from keras_deit.distillation.trainer import DistillationTrainer
from keras_deit.models.lora import adapter_settings, enable_adapters, keep_adapters
from keras_deit.models.policies import model_policy, own_policy
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_hdf5
from keras_deit.utils.keras_private import make_rematerializable
from keras_deit.utils.paths import expand_home
from keras_deit.utils.validation import class_name_tuple, keras_arguments, positive_integers

LORA = "lora"  # the key of LoRA adapters in a model's config


class ImageClassifier(DistillationTrainer, keras.Model):
    """A Keras model from normalized images, float32 (batch, height, width, 3), to logits.

    Calling it gives one float32 tensor (batch, num_classes), in training and in inference.
    ``logits`` gives a list of such tensors, one per head.

    A subclass is a family of architectures. It defines ``logits``, ``features``, ``fields`` and
    the three methods for weight files below, makes all variables in ``build``, which the
    constructor calls, gives its ``dtype_policy`` to all its layers, keeps its class head as a
    ``Dense`` layer in the attribute ``head``, names its layers as timm does, and has a row in
    ``keras_deit.models.factory.FAMILIES``. The attributes below tell the rest of the library what
    the family can do, so that nothing else asks for its type.

    Args:
        num_classes: int. Outputs of each head.
        class_names: list or tuple of str, or None. Class names in output order.
        preprocessing: ``Preprocessing``, a dict of its arguments, or None for ImageNet's. How the
            model's images are made, beside their size; it is saved with the model.
        **kwargs: ``name``, ``dtype`` and ``trainable`` of a Keras model. ``dtype`` reaches every
            layer: the name of a policy, a ``keras.DTypePolicy``, or a ``DTypePolicyMap`` by the
            layers' paths. Default None, the global policy.

    Raises:
        UserError: ``num_classes`` is not a positive integer, or not the number of ``class_names``;
            or ``preprocessing`` is invalid.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> model = kd.build("deit_digits_distilled")
        >>> tuple(model.head_features(np.zeros((1, 8, 8, 3), "float32")).shape)  # 2 tokens of 64
        (1, 128)
        >>> model.class_labels[:2]
        ('class 0', 'class 1')
    """

    # bool. Whether the gradients of micro-batches add up to those of their batch, which they do
    # not with statistics over a batch.
    supports_accumulation = False

    # bool. Whether there are a distillation token and a second head.
    distilled = False

    # (height, width) in pixels, or None if the model takes images of any size.
    image_size = None

    # bool. Whether there are attention layers, and ``attention_maps``.
    has_attention = False

    # timm's constructor arguments -> the fields with the same value.
    timm_arguments: ClassVar[dict[str, str]] = {}

    # bool. Whether Keras, which is saving a file of the model, lists its attributes next.
    _saves_model = False

    # str. How the name, in timm's naming, of a parameter ends that each block has exactly once.
    block_suffix = ""

    def __init__(self, num_classes, class_names=None, preprocessing=None, **kwargs):
        kwargs = keras_arguments(kwargs)
        kwargs["dtype"] = own_policy(kwargs.get("dtype"))
        # Without autocast: layers cast what they compute with, in ``logits`` as in a call.
        super().__init__(autocast=False, **kwargs)
        make_rematerializable(self)
        (self.num_classes,) = positive_integers(num_classes=num_classes)
        self.class_names = class_names
        self.preprocessing = preprocessing

    def logits(self, images, training=False):
        """A list of float32 (batch, num_classes) tensors, one per head."""
        raise NotImplementedError

    def features(self, images, training=False):
        """The output of the last block, normalized or pooled as the heads need it."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.num_classes

    def compute_output_spec(self, images, *args, **kwargs):
        """The shape and dtype that a call gives, by calling it. Keras would derive them from
        ``compute_output_shape``, whatever a subclass does and whichever images it refuses."""
        return keras.Operation.compute_output_spec(self, images, *args, **kwargs)

    def head_features(self, images):
        """What the heads see in inference, float32 (batch, width).

        A distilled model has the distillation token's features after the class token's:
        (batch, 2 * width).
        """
        return ops.cast(self.features(images), "float32")

    @property
    def class_names(self):
        """Class names in output order, a tuple of str, or None. They can be set, as in the
        constructor."""
        return self._class_names

    @class_names.setter
    def class_names(self, names):
        self._class_names = class_name_tuple(names, self.num_classes)

    @property
    def preprocessing(self):
        """A ``Preprocessing``. It can be set, as in the constructor."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value):
        self._preprocessing = as_preprocessing(value)

    @property
    def class_labels(self):
        """Class names to print, a tuple of str: ImageNet's in English, even of a model that knows
        them as synsets; "class 0", "class 1" ... if there are none."""
        return readable(self.class_names or numbered(self.num_classes))

    @property
    def fields(self):
        """Constructor arguments that recreate this model, a dict of JSON values."""
        raise NotImplementedError

    def get_config(self):
        dtype = keras.dtype_policies.serialize(model_policy(self))
        config = {**super().get_config(), **self.fields, "dtype": dtype}

        adapters = adapter_settings(self)
        return {**config, LORA: adapters} if adapters else config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        adapters = config.pop(LORA, {})

        model = super().from_config(config, custom_objects)
        enable_adapters(model, adapters)
        return model

    def get_compile_config(self):
        """Empty: a saved model is the function, without optimizer, losses or teacher."""
        return {}

    # Keras saves a model's variables, then, in a file of the model and not of weights, its assets,
    # and then each attribute that ``dir`` lists. A file of the model keeps LoRA adapters, which its
    # config describes, and not the optimizer's state, which no load reads.

    def save_own_variables(self, store):
        super().save_own_variables(store)
        self._saves_model = False
        keep_adapters(self, False)

    def save_assets(self, folder):
        """Nothing: there are none."""
        self._saves_model = True
        keep_adapters(self, True)

    def __dir__(self):
        names = super().__dir__()
        if self._saves_model:
            self._saves_model = False
            names = [name for name in names if name != "optimizer"]
        return names

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Keras' own, without the optimizer's state. A ``.keras`` file is written atomically.

        Raises:
            UserError: it cannot be written.
        """
        filepath = expand_home(filepath)
        options = {"overwrite": overwrite, "zipped": zipped, **kwargs}
        keras_save = super().save
        if _writes_one_file(filepath, ".keras", overwrite):
            atomic_write(filepath, lambda partial: keras_save(partial, **options))
        else:
            keras_save(filepath, **options)

    def save_weights(self, filepath, overwrite=True, max_shard_size=None):
        """Keras' own, with LoRA adapters merged, for any model of this shape. A ``.weights.h5``
        file is written atomically.

        Raises:
            UserError: it cannot be written.
        """
        filepath = expand_home(filepath)
        if max_shard_size is None and _writes_one_file(filepath, ".weights.h5", overwrite):
            atomic_write_hdf5(filepath, super().save_weights)
        else:
            super().save_weights(filepath, overwrite=overwrite, max_shard_size=max_shard_size)

    def export(
        self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs
    ):
        """Keras' own, of float32 images. Keras would want the model to have been called first,
        which training does not do.

        See ``keras_deit.export`` for files that are checked, quantized, and describe themselves.
        """
        if input_signature is None:
            height, width = self.image_size or (None, None)
            input_signature = [keras.InputSpec(shape=(None, height, width, 3), dtype="float32")]

        return super().export(
            expand_home(filepath),
            format=format,
            verbose=verbose,
            input_signature=input_signature,
            **kwargs,
        )

    # Weight files: what timm calls the model, and what a file must hold to be one.

    def timm_config(self):
        """timm's name of the architecture, a str, and its ``model_args``, a dict.

        Raises:
            UserError: timm cannot build this model.
        """
        raise UserError(
            f"timm has no name for this {type(self).__name__}: save it as a .safetensors file"
        )

    @classmethod
    def parameter_shapes(cls, fields):
        """Shapes, by timm's names and in PyTorch's layout, of a few parameters which together fix
        the memory that a model with these ``fields`` takes: a dict of tuples."""
        raise NotImplementedError

    @classmethod
    def block_count(cls, fields):
        """How many parameters of such a model end in ``block_suffix``, an int."""
        raise NotImplementedError

    @classmethod
    def constructor_arguments(cls):
        """Names of the constructor's arguments but Keras' own -> their defaults, a dict.

        A required argument has ``inspect.Parameter.empty``. A subclass of a family has the
        family's arguments too.
        """
        arguments = {}

        # From the family to the subclass, whose defaults count.
        for base in reversed(cls.__mro__):
            if base is ImageClassifier or not issubclass(base, ImageClassifier):
                continue

            # Without self, and without Keras' arguments, which are **kwargs.
            _, *parameters = inspect.signature(base.__init__).parameters.values()
            named = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            arguments |= {parameter.name: parameter.default for parameter in named}

        return arguments


def _writes_one_file(filepath, suffix, overwrite):
    """Whether Keras, asked to save to ``filepath``, writes one local file without a question."""
    is_local = isinstance(filepath, (str, os.PathLike)) and "://" not in str(filepath)
    is_named = str(filepath).endswith(suffix)
    return is_local and is_named and (overwrite or not os.path.exists(filepath))
