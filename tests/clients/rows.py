"""Rows of the table of clients: runs functions, and prints what became of each."""

import sys
import traceback


def run(tests, clients):
    """Calls those of `tests` whose names begin with that of a client, which `clients` has with what the table calls it. Ends the
    program."""
    failed = False
    for name, test in tests.items():
        client = next((client for client in clients if name.startswith(client + "_")), None)
        if client is None:
            continue
        what = name.removeprefix(client + "_").replace("_", " ")
        try:
            test()
            result = "passed"
        except Exception:
            traceback.print_exc()
            result, failed = "**failed**", True
        print(f"| {clients[client]} | {what} | {result} |", flush=True)
    sys.exit(failed)


def expect(kind, call, *words):
    """The error of this kind, in which these words are."""
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), str(error)
        return error
    raise AssertionError(f"no {kind.__name__}")
