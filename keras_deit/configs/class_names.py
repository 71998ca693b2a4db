"""Names of classes: ImageNet's, those of unnamed classes, and one order of two lists of names."""

import functools
import pathlib
import unicodedata

from keras_deit.utils.errors import UserError

# ImageNet's classes in the order of their labels: the synset of WordNet 3.0, the name that we
# print, and all words of the synset. The first of the words is the name, except in two cases of
# equal ones. Source: timm's imagenet_synsets.txt and imagenet_synset_to_lemma.txt.
FILE = pathlib.Path(__file__).with_name("imagenet_classes.tsv")
SHOWN = 3  # names of each sort in an error


def numbered(count):
    """The names of ``count`` classes that have none: "class 0", "class 1" ..."""
    return tuple(f"class {number}" for number in range(count))


def imagenet_names():
    """The English names of ImageNet's 1000 classes, in the order of their labels.

    Example:
        >>> from keras_deit.configs.class_names import imagenet_names
        >>> imagenet_names()[207]
        'golden retriever'
    """
    return tuple(name for _, name, _ in _imagenet())


def imagenet_synsets():
    """The WordNet synsets of ImageNet's 1000 classes, which TFDS and the original folders have for
    names, in the order of their labels: "n01440764" ..."""
    return tuple(synset for synset, _, _ in _imagenet())


def readable(names):
    """Names to print, a tuple: ImageNet's synsets in English, all other names as they are.

    Example:
        >>> from keras_deit.configs.class_names import readable
        >>> readable(("n02099601", "my dog"))
        ('golden retriever', 'my dog')
    """
    english = dict(zip(imagenet_synsets(), imagenet_names(), strict=True))
    return tuple(english.get(name, name) for name in names)


def class_order(model_names, data_names, model="the model", data="the data"):
    """Where a model's classes are among those of a dataset.

    ImageNet's classes may have their synset or any form of their name. Names are compared in
    Unicode's form NFC, because folders on a Mac may have another one.

    Args:
        model_names, data_names: sequences of str in the order of outputs and of labels; None, or
            ``numbered``, of classes without names.
        model, data: str. What errors call the two.

    Returns:
        For each class of the dataset, the number of the model's output: a list. None if the order
        is the same, or one of the two has no names.

    Raises:
        UserError: the classes are not the same.

    Example:
        >>> from keras_deit.configs.class_names import class_order
        >>> class_order(("cat", "dog"), ("dog", "cat"))
        [1, 0]
        >>> class_order(("tench", "goldfish"), ("n01440764", "n01443537")) is None
        True
    """
    model_names, data_names = _composed(model_names), _composed(data_names)
    own, others = model_names, data_names
    if own == numbered(len(own)) or others == numbered(len(others)):
        return None

    if set(own) != set(others):
        own, others = _with_synsets(own), _with_synsets(others)
    if own == others:
        return None

    if set(own) != set(others) or len(set(own)) < len(own) or len(own) != len(others):
        only_model = [name for name in model_names if name not in data_names] or own
        only_data = [name for name in data_names if name not in model_names] or others
        raise UserError(
            f"{model} has {len(own)} classes ({_some(only_model)}) and {data} {len(others)}"
            f" ({_some(only_data)}): expected the same names; rename the classes if they are the"
            " same ones, or fine-tune it on these"
        )
    number_of = {name: number for number, name in enumerate(own)}
    return [number_of[name] for name in others]


def _composed(names):
    return tuple(unicodedata.normalize("NFC", name) for name in names or ())


@functools.cache
def _imagenet():
    """A tuple of (synset, name, words) for each class."""
    _, *lines = FILE.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines)


@functools.cache
def _synsets_by_form():
    """The synsets that a name can stand for, a list, by its simplified form."""
    synsets = {}
    for synset, name, words in _imagenet():
        for form in {_simplified(text) for text in (synset, name, words, words.split(", ")[0])}:
            synsets.setdefault(form, []).append(synset)
    return synsets


def _with_synsets(names):
    """Names, with the synset in place of those that are ImageNet's and stand for one class."""
    candidates = [_synsets_by_form().get(_simplified(name), []) for name in names]

    # A list of all classes in their order: then "crane" is a bird first, and a machine later.
    in_order = zip(candidates, imagenet_synsets(), strict=False)
    if len(names) == len(_imagenet()) and all(synset in found for found, synset in in_order):
        return imagenet_synsets()

    by_name = dict(zip(imagenet_names(), imagenet_synsets(), strict=True))  # "cardigan" is exact
    only = [found[0] if len(found) == 1 else None for found in candidates]
    return tuple(
        by_name.get(name) or synset or name for name, synset in zip(names, only, strict=True)
    )


def _simplified(name):
    return name.replace("_", " ").lower()


def _some(names):
    """The first names as text, each without what a terminal acts on."""
    texts = [name if name.isprintable() else repr(name) for name in names[:SHOWN]]
    return ", ".join(texts) + ", ..." * (len(names) > SHOWN)
