"""Passes if a test file accepts the real function, and does not accept one that says yes to everything."""

import pathlib
import subprocess
import sys
import tempfile

BROKEN = "def validateEmail(address):\n    return True\n"


def passes(test, source):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for path, text in ((test, pathlib.Path(test).read_text()), ("utils/email_address.py", source)):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        return subprocess.run([sys.executable, "-B", test], cwd=folder).returncode == 0


test = sys.argv[1]
if not passes(test, pathlib.Path("utils/email_address.py").read_text()):
    sys.exit("the tests fail on the real function")
if passes(test, BROKEN):
    sys.exit("the tests pass on a function that says yes to everything")
