"""First on PYTHONPATH of a trainer that has no flag for its threads: makes os.cpu_count answer what the adapter wants it to hear."""

import os

_count = int(os.environ["YOLOPERF_CPU_COUNT"])
os.cpu_count = lambda: _count
