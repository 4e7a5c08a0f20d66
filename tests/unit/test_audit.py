"""What a candidate did, from the API server's log."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from breakfix.cluster import audit

WHO = audit.user("breakfix-toy-1", "candidate")


def line(second: int, verb: str = "patch", code: int = 200, who: str = WHO, **what: str) -> str:
    return json.dumps(
        {
            "stage": "ResponseComplete", "verb": verb, "user": {"username": who}, "responseStatus": {"code": code},
            "requestReceivedTimestamp": f"2026-03-02T09:00:{second:02}.000001Z",
            "objectRef": what or {"resource": "deployments", "name": "web", "namespace": "shop-1"},
        }
    )  # fmt: skip


def details(*lines: str) -> list[str]:
    return [one.detail for one in audit.read("\n".join(lines), "toy-1", WHO)]


def test_changes_are_told_in_their_order() -> None:
    later, earlier = line(9, "delete", resource="pods", name="a", namespace="n"), line(3)
    assert details(later, earlier) == ["patch deployments/web in shop-1", "delete pods/a in n"]


def test_what_was_refused_is_told_as_refused() -> None:
    assert details(line(1, "create", 403, resource="clusterroles")) == ["create clusterroles, refused (403)"]


def test_a_part_of_an_object_is_named() -> None:
    assert details(line(1, "create", resource="pods", name="a", namespace="n", subresource="exec")) == [
        "create pods/a/exec in n"
    ]


def test_others_what_kubectl_asks_by_itself_and_broken_lines_are_left_out() -> None:
    others = line(1, who=audit.user("breakfix-toy-2", "candidate"))
    asked = line(2, "create", resource="selfsubjectaccessreviews")
    begun = json.dumps({**json.loads(line(3)), "stage": "ResponseStarted"})
    assert details(others, asked, begun, line(4)[:50], "[1]", "", line(5)) == ["patch deployments/web in shop-1"]


def test_what_is_known_already_is_not_told_again() -> None:
    log = "\n".join([line(1), line(2), line(3)])
    found = audit.read(log, "toy-1", WHO, datetime(2026, 3, 2, 9, 0, 2, 1, tzinfo=UTC))
    assert [one.at.second for one in found] == [3]


def test_a_script_without_end_is_cut() -> None:
    assert len(details(*[line(n % 60) for n in range(audit.MOST + 9)])) == audit.MOST
