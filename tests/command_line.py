"""The command line as a user has it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from documents import text_pdf

COLSEARCHER = str(Path(sys.executable).parent / "colsearcher")
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


def call(*words, code=0):
    done = subprocess.run(
        [COLSEARCHER, *map(str, words)], capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=300
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def answer(*words):
    """The JSON document of a command; stdout holds nothing else."""
    return json.loads(call(*words, "--json").stdout)


def complaint(*words):
    done = call(*words, code=2)
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr


def write_corpus(folder):
    """Two documents of two pages in a folder."""
    text_pdf(
        folder / "ferry.pdf",
        ["The ferry to Lindholm leaves\nat nine in the morning.", "Tickets cost twelve crowns\nfor adults."],
    )
    text_pdf(folder / "garden.pdf", ["Tulips are planted in October,\nten centimetres deep.", "Roses need pruning in March."])
    return folder
