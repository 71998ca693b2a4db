"""An example for a server: python -m scripts.serving --model=<SavedModel's folder or URL> photo.jpg

A URL is that of TensorFlow Serving's REST interface, http://host:8501/v1/models/<name>; a folder is
loaded here, by TensorFlow alone. Images are sent as they are: the model decodes them.
"""

import argparse
import base64
import json
import os
import pathlib
import sys
import urllib.request


def asked_there(url, files):
    """The outputs of each file by name, from TensorFlow Serving."""
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    body = json.dumps({"signature_name": "encoded", "instances": instances}).encode()
    request = urllib.request.Request(f"{url}:predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["predictions"]


def asked_here(folder, files):
    """The same from the model's folder."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    found = loaded.signatures["encoded"](encoded=tf.constant(files))
    found = {name: value.numpy() for name, value in found.items()}
    found["class_names"] = [[name.decode() for name in row] for row in found["class_names"]]
    return [{name: rows[i] for name, rows in found.items()} for i in range(len(files))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("images", nargs="+")
    words = parser.parse_args()
    ask = asked_there if words.model.startswith("http") else asked_here
    answers = ask(words.model, [pathlib.Path(path).read_bytes() for path in words.images])
    for path, answer in zip(words.images, answers, strict=True):
        ranked = sorted(zip(answer["probabilities"], answer["class_names"], strict=True))[::-1]
        print(f"{path}: {', '.join(f'{name} {share:.1%}' for share, name in ranked[:3])}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}")
