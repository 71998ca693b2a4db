"""Prints the published models as a Markdown table: python -m scripts.models"""

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip


def main():
    print("| model | parameters | top-1 / top-5 | crop | ReaL | V2 | paper |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, row in kd.VARIANTS.items():
        if row.published:
            score, *_ = row.published.imagenet
            top5 = f"{score.top5:.1f}" if score.top5 else "-"
            others = (row.published.real.top1, row.published.v2.top1, row.published.paper)
            cells = [f"`{name}`", f"{row.params / 1e6:.2f} M", f"{score.top1:.1f} / {top5}"]
            cells += [f"{score.crop:g}", *(f"{top1:.1f}" for top1 in others)]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    command.run(main)
