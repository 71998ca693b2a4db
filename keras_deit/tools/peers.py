"""Other libraries that a benchmark compares with, where they are installed."""

from keras_deit.utils.errors import UserError


def import_timm():
    """The module ``timm``, also beside a torch without the compiled operators of torchvision.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError("timm to compare with is not installed: pip install timm") from error

    # timm imports torchvision, which wants these two: declare them, for as long as timm lives.
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    import timm

    timm.declared_operators = library
    return timm
