import sys

sys.path.insert(0, ".")
from app import main

assert main(["a", "b"]) == "a, b"
