"""Joining a Ray cluster, or starting one of this machine alone: quietly, without a dashboard, and telling nobody."""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from colsearcher.indexes.errors import MissingExtra, UserError

# Shared memory of a cluster that is started here: pages on their way are small, and few are.
STORE_BYTES = 1 << 30
_CONNECT_SECONDS = 10.0
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


@dataclass(frozen=True)
class Cluster:
    """What a cluster has to offer, all its machines together."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return f"{self.cpus} CPUs" + (f", {self.gpus} GPUs" if self.gpus else "")


class ClusterProblem(UserError):
    """The cluster lost what was at work on it."""


@contextmanager
def losses_told() -> Iterator[None]:
    """Say in a sentence that machines or actors are gone for good. What their code itself raises stays as it is.

    Raises:
        ClusterProblem: they are.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayError as problem:
        if isinstance(problem, RayTaskError):
            raise
        first = next((line for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
        raise ClusterProblem(
            f"The cluster lost its workers again and again ({first.strip()}). What has been stored stays; see to the memory of "
            "its machines, then run the same command again."
        ) from problem


def check_address(address: str) -> None:
    """
    Raises:
        UserError: it is not "local", "auto" or host:port.
    """
    if address not in ("local", "auto") and not re.fullmatch(r"[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", address):
        raise UserError(
            f"«{address}» is not the address of a Ray cluster; write --ray local, --ray auto or --ray host:port, "
            "or --ray alone at the end of the line."
        )


@contextmanager
def ray_cluster(
    address: str, *, gpus: bool = True, cpus: int | None = None, store_bytes: int = STORE_BYTES
) -> Iterator[Cluster]:
    """A cluster for the time of the `with`. One that this process has joined already is used, and not left.

    Args:
        address: "local" starts one on this machine, "auto" joins the one that runs here, "host:port" that of a head node.
        gpus: whether the work wants its GPUs; if not, the cluster is one of none.
        cpus: of one that is started here, how many it may use; None for all.
        store_bytes: of one that is started here, the shared memory.

    Raises:
        MissingExtra: Ray is not installed.
        UserError: the address is none, or no cluster answers there.
    """
    check_address(address)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Ray warns of settings of its own that nobody here has made.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtra(
                f"Work on a Ray cluster needs a package that is not installed ({error.name}); "
                "run pip install 'colsearcher[ray]'."
            ) from None
        joined = ray.is_initialized()
        if not joined:
            _require_listener(address)
            own: dict[str, Any] = (
                {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": store_bytes} if address == "local" else {}
            )
            try:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
            except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
                raise _no_cluster(address, str(error).strip().split("\n")[0].rstrip(".")) from None
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars = False
        settings.print_on_execution_start = False
        # Hours may pass before a long file's first page, or until an autoscaler has found a machine.
        settings.execution_no_progress_timeout_s = -1
    try:
        found = ray.cluster_resources()
        yield Cluster(max(1, int(found.get("CPU", 1))), int(found.get("GPU", 0)) if gpus else 0)
    finally:
        if not joined:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Ray itself would try for more than a minute."""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(getattr(error, "strerror", None) or error).lower()) from None


def _no_cluster(address: str, why: str) -> UserError:
    # Where an address is named Ray shows no token unless told to, and a cluster that wants one then refuses the connection.
    token = ", set RAY_AUTH_MODE=token if it has one" if address != "auto" and "RAY_AUTH_MODE" not in os.environ else ""
    fix = f"start one with `ray start --head`{token}, or use --ray local."
    return UserError(f"There is no Ray cluster to work on at {address} ({why}); {fix}")
