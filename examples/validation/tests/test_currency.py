import sys

sys.path.insert(0, "utils")
from currency import formatCurrency

assert formatCurrency(1.5) == "$1.50"
assert formatCurrency(0) == "$0.00"
assert formatCurrency(1234.25) == "$1234.25"
