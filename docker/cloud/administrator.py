"""For the scripts of a lab's author: ``from administrator import aws`` and ``aws("iam").create_user(…)``.

boto3's clients, as the cloud's administrator.  ``call`` makes calls without boto3, which takes a while to load.
"""

from __future__ import annotations

import json
import time
import urllib.request
from functools import cache
from urllib.error import URLError

DOOR = "http://127.0.0.1:8001"
UP = 20.0
"""Seconds until the cloud must answer after its machine has started."""


def call(service: str, operation: str, /, **parameters: object) -> dict:
    """Make one call as the administrator; return its answer.  Raises RuntimeError where it is refused."""
    return calls((service, operation, parameters))[0]


def calls(*wanted: tuple[str, str, dict]) -> list[dict]:
    """Make many calls in one go, in order; see ``call``."""
    named = [dict(zip(("service", "operation", "parameters"), one, strict=True)) for one in wanted]
    asked = urllib.request.Request(f"{DOOR}/breakfix/call", json.dumps(named).encode())
    answers = json.load(_when_up(asked))
    for (service, operation, _), answer in zip(wanted, answers, strict=True):
        if "answer" not in answer:
            raise RuntimeError(f"{service} {operation}: {answer}")
    return [one["answer"] for one in answers]


def key(user: str, key_id: str, secret: str) -> None:
    """Give a user a key that is known beforehand: ``AKIA`` and 16 capital letters or digits, and its secret."""
    body = json.dumps({"user": user, "key": key_id, "secret": secret}).encode()
    _when_up(urllib.request.Request(f"{DOOR}/breakfix/key", body))


def _when_up(asked: urllib.request.Request):
    deadline = time.monotonic() + UP
    while True:
        try:
            return urllib.request.urlopen(asked, timeout=30)
        except URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@cache
def aws(service: str):
    """Return boto3's client of a service, as the administrator."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=DOOR,
        region_name="us-east-1",
        aws_access_key_id="administrator",
        aws_secret_access_key="none",
    )
