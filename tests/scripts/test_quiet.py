"""``scripts.quiet``: what TensorFlow's import prints is shown only if it fails."""

import os
import signal
import subprocess
import sys

from tests.conftest import ROOT

IMPORT = "from scripts import quiet; quiet.import_tensorflow()"
NOISE = "import os; os.write(2, b'driver trouble\\n')\n"


def run(folder, tensorflow, code=IMPORT):
    """Runs code in a process whose TensorFlow is this text."""
    (folder / "tensorflow.py").write_text(tensorflow)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_noise_of_an_import_is_not_shown(tmp_path):
    done = run(tmp_path, NOISE, f"{IMPORT}; import sys; sys.stderr.write('after')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "after")


def test_a_failed_import_shows_everything(tmp_path):
    done = run(tmp_path, NOISE + "raise ImportError('no such library')")
    assert done.returncode == 1
    assert done.stderr.startswith("driver trouble\n")
    assert "ImportError: no such library" in done.stderr


def test_an_interrupt_before_a_command_begins_ends_quietly(tmp_path):
    interrupt = f"import os; os.kill(os.getpid(), {int(signal.SIGINT)})"
    done = run(tmp_path, interrupt)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_of_a_command_can_be_handled(tmp_path):
    code = f"""
import os, signal
from scripts import quiet
quiet.begin_command()
try:
    os.kill(os.getpid(), {int(signal.SIGINT)})
    signal.pause()
except KeyboardInterrupt:
    print("saved")
"""
    done = run(tmp_path, "", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "saved\n", "")
