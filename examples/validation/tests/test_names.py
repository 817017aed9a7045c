import sys

sys.path.insert(0, "utils")
import names

assert names.getBar(["a", "b"]) == "a, b"
assert not hasattr(names, "getFoo")
