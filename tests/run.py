"""The main of every Bazel test: runs pytest on its arguments.

Run by Python, a test file would define its tests, run none and pass. pytest fails without tests.
"""

import sys

import pytest

if __name__ == "__main__":
    # No cache: Bazel's test folder cannot be written to.
    sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
