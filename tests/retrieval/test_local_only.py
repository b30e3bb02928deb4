"""Connections to other machines, each in a process of its own because an audit hook cannot be taken away again."""

import doctest
import subprocess
import sys

import pytest

from colsearcher.retrieval import local_only

PROBE = """
import os, socket, sys
from colsearcher.retrieval.local_only import NotLocal, keep_local
keep_local()
assert os.environ["HF_HUB_OFFLINE"] == os.environ["COLSEARCHER_LOCAL"] == "1"
try:
    {attempt}
except NotLocal as error:
    print("refused", error)
except OSError as error:
    print("tried", error)
else:
    print("passed")
"""


def test_doctests():
    assert doctest.testmod(local_only).failed == 0


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        ('socket.create_connection(("example.org", 80), 1)', "refused A connection to «example.org»"),
        ('socket.socket().connect(("192.0.2.1", 80))', "refused A connection to «192.0.2.1»"),
        ('socket.socket().connect_ex(("192.0.2.1", 80))', "refused"),
        ('socket.socket(socket.AF_INET6).connect(("2001:db8::1", 80))', "refused"),
        ('socket.gethostbyname("example.org")', "refused"),
        ('socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))', "refused"),
        ('__import__("urllib.request").request.urlopen("https://example.org")', "refused"),
        ('__import__("huggingface_hub").HfApi().whoami(token="x")', "tried"),
        ('socket.create_connection(("127.0.0.1", 9), 1)', "tried"),
        ('socket.create_connection(("localhost", 9), 1)', "tried"),
        ('socket.socket(socket.AF_UNIX).connect("/nowhere/socket")', "tried"),
        ("socket.socketpair()", "passed"),
    ],
)
def test_only_this_machine_is_reached(attempt, outcome):
    done = subprocess.run([sys.executable, "-c", PROBE.format(attempt=attempt)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(outcome), done.stdout + done.stderr
