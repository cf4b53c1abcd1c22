"""What every benchmark here is built of: processes, sessions, load, accounts of CPU and memory, tables and charts.

Python's standard library only. Nothing needs root, and everything listens on free ports of 127.0.0.1.
"""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS = HERE.parent / "results"
