"""Python programs, each in a separate process that need not import TensorFlow again.

A server process imports what every program does, once. It then forks for each program: the child
has its own environment, flags, signals and exit code, like a program that a user starts, 4 seconds
earlier. Each Keras backend has its own server.
"""

import contextlib
import gc
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).absolute().parents[1]
LONGEST_REQUEST = 2**18  # in bytes


class Forks:
    """Starts programs; a context manager.

    Args:
        **environ: str. Environment variables of all programs, also while they import.
    """

    def __init__(self, **environ):
        self._environ = environ
        self._servers = {}
        self._resources = contextlib.ExitStack()

    def __enter__(self):
        # JAX's programs that are the same are compiled once.
        cache = self._resources.enter_context(tempfile.TemporaryDirectory())
        self._environ = {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            # Two devices of one busy CPU have waited for each other in two different steps.
            "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",  # the commands' default
            **self._environ,
        }
        return self

    def __exit__(self, *_):
        self._resources.close()

    def start(self, arguments, folder=ROOT, environ=None, output=None):
        """Starts ``python <arguments>``; a ``Fork``.

        Args:
            arguments: list of str, of which the first is ``-m`` or ``-c``.
            folder: where it runs.
            environ: dict. Environment variables of this program, which it has once TensorFlow,
                Keras and this library are imported. ``KERAS_BACKEND`` is TensorFlow if missing.
            output: int. A descriptor for what it prints. Default None: files that ``wait`` reads.
        """
        environ = {"KERAS_BACKEND": "tensorflow", **(environ or {})}
        server = self._server(environ["KERAS_BACKEND"])
        files, outputs = [], [output, output]
        if output is None:
            files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115 - wait closes
            outputs = [file.fileno() for file in files]

        status, child_status = os.pipe()
        request = {"arguments": list(arguments), "folder": str(folder), "environ": environ}
        message = json.dumps(request).encode()
        assert len(message) < LONGEST_REQUEST
        socket.send_fds(server, [message], [*outputs, child_status])
        os.close(child_status)
        fork = Fork(arguments, os.fdopen(status), files)
        self._resources.callback(fork.stop)
        return fork

    def run(self, arguments, folder=ROOT, environ=None, timeout=300):
        """Runs ``python <arguments>``; a ``subprocess.CompletedProcess`` with text."""
        return self.start(arguments, folder, environ).wait(timeout)

    def _server(self, backend):
        """The connection to the server of a backend, which is started if there is none."""
        if backend not in self._servers:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                    cwd=ROOT,
                    env={**os.environ, **self._environ, "KERAS_BACKEND": backend},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            self._resources.callback(process.wait)
            self._resources.callback(ours.close)  # first: it ends the server
            self._servers[backend] = ours
        return self._servers[backend]


class Fork:
    """A process that ``Forks`` started."""

    def __init__(self, arguments, status, files):
        self.arguments = arguments
        self._status, self._files = status, files
        self.pid = int(status.readline())

    def send_signal(self, number):
        """Sends it a signal, if it has not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self):
        """Ends it, if nobody has waited for it."""
        if not self._status.closed:
            self.send_signal(signal.SIGKILL)
            self._status.close()

    def wait(self, timeout):
        """Waits for its end, at most so many seconds; a ``subprocess.CompletedProcess``, with the
        text of both outputs if they are files."""
        if not select.select([self._status], [], [], timeout)[0]:
            self.stop()
            raise subprocess.TimeoutExpired(self.arguments, timeout)

        with self._status:
            code = int(self._status.readline())
        texts = []
        for file in self._files:
            with file:
                file.seek(0)
                texts.append(file.read())
        return subprocess.CompletedProcess(self.arguments, code, *texts)


def serve(connection):
    """Reads requests until there is no client any more, and starts a process for each."""
    from scripts import command, quiet  # noqa: F401

    quiet.import_tensorflow()
    import tensorflow_datasets  # noqa: F401

    import keras_deit  # noqa: F401
    import transfer  # noqa: F401

    # The garbage collector of a child, which looks at all objects when it ends, would copy them.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for what it forks
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
        if not message:
            return
        if not os.fork():
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(json.loads(message), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(request, stdout, stderr, status):
    """Runs a program in a process, whose number and exit code are written to ``status``."""
    child = os.fork()
    if not child:
        os.close(status)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        # Python's own were made for what the server prints to.
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        _run(**request)
        return

    os.write(status, f"{child}\n".encode())
    _, code = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _run(arguments, folder, environ):
    """Runs a program in this process, which then ends as Python does."""
    os.chdir(folder)
    os.environ.update(environ)
    kind, program, *rest = arguments
    sys.argv = [program if kind == "-m" else kind, *rest]
    if kind == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
