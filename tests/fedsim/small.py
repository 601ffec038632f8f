"""Settings of a run that takes a second: a tiny model, few short texts, two rounds."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

EXAMPLES = 120


@cache
def small_data() -> str:
    """A file of a few real examples, gone when the process ends."""
    from drdp.fedsim.data import read_rows

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rows = read_rows("dolly-sample").rows[:EXAMPLES]
    lines = [
        json.dumps(
            {
                "instruction": row.instruction,
                "context": row.context,
                "response": row.response,
                "category": row.category,
            }
        )
        for row in rows
    ]
    file = folder / "data.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(file)


def small() -> dict[str, dict[str, Any]]:
    """The tables of a run file."""
    return {
        "run": {"rounds": 2},
        "model": {"name": "tiny"},
        "lora": {"rank": 2, "targets": ["q_proj"]},
        "data": {
            "source": small_data(),
            "clients": 12,
            "max_length": 32,
            "public": 24,
            "held_out": 8,
        },
        "local": {"steps": 1, "batch": 2},
        "cohort": {"rate": 0.25},
        "code": {"fit_steps": 3, "fit_samples": 10},
    }
