"""Measurements: one runnable file per claim, `report` for all of them.

Every number of threads is pinned to one here, before numpy is imported.
"""

import os

for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
