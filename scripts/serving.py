"""Example for a server: python -m scripts.serving --model=<SavedModel's folder or URL> photo.jpg

A URL is that of TensorFlow Serving's REST interface, http://host:8501/v1/models/<name>. A folder is
loaded here, which needs only TensorFlow. Image files are sent as they are: the model decodes them.
"""

import argparse
import base64
import json
import os
import pathlib
import sys
import urllib.error
import urllib.request

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # first bytes of JPEG and PNG


def read(path):
    """The bytes of an image file that the model can decode."""
    file = pathlib.Path(path).read_bytes()
    if not file.startswith(SIGNATURES):
        raise ValueError(
            f"{path} begins with {file[:12]!r}: expected a JPEG or PNG, which the model decodes:"
            " convert it"
        )
    return file


def predict_remotely(url, files):
    """The outputs by name for each encoded image, from TensorFlow Serving."""
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    body = json.dumps({"signature_name": "encoded", "instances": instances}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        raise ValueError(f"{url}: {error}: {error.read().decode()[:200]!r}") from error


def predict_here(folder, files):
    """The outputs by name for each encoded image, from a SavedModel's folder."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    try:
        outputs = model.signatures["encoded"](encoded=tf.constant(files))
    except tf.errors.InvalidArgumentError as error:
        # The reason stands between lines that say where in the graph.
        reason = error.message.split("\n\t [[")[0].splitlines()[-1]
        raise ValueError(f"{folder} cannot take these files: {reason}") from error
    outputs = {name: values.numpy() for name, values in outputs.items()}
    outputs["class_names"] = [[name.decode() for name in row] for row in outputs["class_names"]]
    return [{name: rows[i] for name, rows in outputs.items()} for i in range(len(files))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder_or_url = {"type": os.path.expanduser, "help": "a SavedModel's folder, or a URL"}
    parser.add_argument("--model", required=True, **folder_or_url)
    parser.add_argument("images", nargs="+", help="JPEG or PNG files")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are not UTF-8

    predict = predict_remotely if arguments.model.startswith("http") else predict_here
    if predict is predict_here and not pathlib.Path(arguments.model).is_dir():
        raise ValueError(f"no folder {arguments.model}: expected a SavedModel's, or a URL")
    files = [read(path) for path in arguments.images]
    for path, outputs in zip(arguments.images, predict(arguments.model, files), strict=True):
        ranked = sorted(zip(outputs["probabilities"], outputs["class_names"], strict=True))[::-1]
        best = [f"{name} {probability:.1%}" for probability, name in ranked[:3]]
        print(f"{path}: {', '.join(best)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
