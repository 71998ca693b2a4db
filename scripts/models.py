"""Prints the published models as a Markdown table: python -m scripts.models"""

from scripts import command

HEADER = ("model", "parameters", "top-1 / top-5", "crop", "ReaL", "V2", "paper")


def main():
    import keras_deit as kd
    from keras_deit.utils import tables

    rows = [_cells(name, row) for name, row in kd.VARIANTS.items() if row.published]
    print(tables.markdown(HEADER, rows))


def _cells(name, row):
    published = row.published
    score = published.imagenet[0]
    top5 = f"{score.top5:.1f}" if score.top5 else "-"
    others = (published.real.top1, published.v2.top1, published.paper)

    return [
        f"`{name}`",
        f"{row.params / 1e6:.2f} M",
        f"{score.top1:.1f} / {top5}",
        f"{score.crop:g}",
        *(f"{top1:.1f}" for top1 in others),
    ]


if __name__ == "__main__":
    command.run(main)
