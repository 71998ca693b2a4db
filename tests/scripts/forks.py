"""Commands and Python code, each in a separate process that need not import TensorFlow again.

A server process imports what every command does, once. It then forks for each command: the child
has its own flags, signals and exit code, like a command that a user types, 5 seconds earlier.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import traceback

from tests.conftest import ROOT


class Forks:
    """Runs commands; a context manager.

    Args:
        **environ: str. Environment variables of the server, and so of all commands.
    """

    def __init__(self, **environ):
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.scripts.forks"],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.communicate()

    def run(self, words, folder=ROOT):
        """Runs ``python -m <words>`` in ``folder``; a ``subprocess.CompletedProcess`` with text."""
        return self._run({"words": words, "folder": str(folder)})

    def execute(self, code, folder):
        """Runs Python code, a str, in ``folder``; a ``subprocess.CompletedProcess`` with text."""
        return self._run({"words": ["README"], "code": code, "folder": str(folder)})

    def _run(self, task):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("stdout", "stderr")]
            print(json.dumps({**task, "outputs": paths}), file=self.server.stdin, flush=True)
            code = self.server.stdout.readline()
            assert code, "the server has ended"
            outputs = [pathlib.Path(path).read_text() for path in paths]
        return subprocess.CompletedProcess(task["words"], int(code), *outputs)


def serve():
    """Reads tasks from stdin, one JSON line each, and writes their exit codes to stdout."""
    from scripts import command  # noqa: F401 - before TensorFlow, to keep it quiet

    import tensorflow_datasets  # noqa: F401 # isort: skip

    import keras_deit  # noqa: F401
    import transfer  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run_and_exit(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run_and_exit(words, folder, outputs, code=None):
    """Runs a task in this process and ends it."""
    os.chdir(folder)
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = list(words)

    exit_code = 0
    try:
        if code is None:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            exec(compile(code, words[0], "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        exit_code = 1

    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    serve()
