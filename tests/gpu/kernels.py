#!/usr/bin/env python3
"""A table of GB/s by kernel from what `ncu --csv --metrics …` printed (see gpu.sh), on standard input."""
import csv
import sys
from collections import defaultdict

UNITS = {"": 1.0, "byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "ns": 1e-9, "nsecond": 1e-9, "us": 1e-6,
         "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "%": 1.0}

rows = [line for line in sys.stdin if line.startswith('"')]
totals = defaultdict(lambda: defaultdict(float))
for row in csv.DictReader(rows):
    name = row["Kernel Name"].split("(")[0]
    value = float(row["Metric Value"].replace(",", "")) * UNITS[row["Metric Unit"]]
    totals[name][row["Metric Name"]] += value
print("| kernel | ms | GB/s of memory |")
print("|---|---|---|")
for name, t in sorted(totals.items(), key=lambda it: -it[1]["gpu__time_duration.sum"]):
    seconds = t["gpu__time_duration.sum"]
    print(f"| {name} | {seconds * 1e3:.3f} | {t['dram__bytes.sum'] / seconds / 1e9 if seconds else 0:.0f} |")
