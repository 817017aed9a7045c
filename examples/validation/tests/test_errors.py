import sys

sys.path.insert(0, "utils")
import errors

assert errors.INVALID_INPUT == 1000
assert errors.NOT_FOUND == 1001
assert errors.INTERNAL_ERROR == 1002
