"""The fixture ``cloud``, over a shell that answers as the cloud's administrator does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from breakfix.errors import ProbeFailed
from breakfix.model import Completed
from breakfix.probes.cloud import ACCOUNT, Cloud

STATEMENT = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::logs/*"]}
DETAILS = {
    "UserDetailList": [
        {
            "UserName": "ship",
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": {"Statement": STATEMENT}}],
            "GroupList": ["crew"],
            "AttachedManagedPolicies": [],
        }
    ],
    "GroupDetailList": [
        {
            "GroupName": "crew",
            "GroupPolicyList": [],
            "AttachedManagedPolicies": [{"PolicyName": "all", "PolicyArn": "arn:all"}],
        }
    ],
    "RoleDetailList": [
        {"RoleName": "night", "RolePolicyList": [], "AssumeRolePolicyDocument": {"Statement": [{"Effect": "Allow"}]}}
    ],
    "Policies": [
        {
            "Arn": "arn:all",
            "PolicyVersionList": [
                {"IsDefaultVersion": False, "Document": {"Statement": []}},
                {"IsDefaultVersion": True, "Document": {"Statement": [{"Effect": "Deny", "Action": ["*"]}]}},
            ],
        }
    ],
}


class Shell:
    """Answers every call with what is next in line."""

    def __init__(self, *answers: dict[str, Any], status: int = 0) -> None:
        self.integrity: list[str] = []
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.status = status

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        assert command.startswith("curl "), "the cloud is asked with our own curl and nothing else"
        wanted = json.loads(command.split("\n")[1]) if "\n" in command else []
        self.asked += wanted
        said = [self.answers.pop(0) for _ in wanted]
        return Completed(command, self.status, json.dumps(said).encode(), b"curl: (7) refused", timeout)

    def open(self) -> None: ...

    def close(self) -> None: ...


def test_a_call_is_the_administrators_and_an_attempt_is_somebodys() -> None:
    shell = Shell({"answer": {"Users": []}}, {"answer": {"Buckets": []}})
    cloud = Cloud(shell)
    assert cloud.call("iam", "list_users", MaxItems=5) == {"Users": []}
    assert cloud.attempt(cloud.user("ship"), "s3", "list_buckets").value == {"Buckets": []}
    assert shell.asked == [
        {"service": "iam", "operation": "list_users", "parameters": {"MaxItems": 5}, "by": None},
        {"service": "s3", "operation": "list_buckets", "parameters": {}, "by": {"user": "ship"}},
    ]


@pytest.mark.parametrize("code", ["AccessDenied", "403", "InvalidClientTokenId", "AccessDeniedException"])
def test_a_refusal_is_about_who_asks(code: str) -> None:
    cloud = Cloud(Shell({"error": code, "message": "no"}))
    assert cloud.attempt(cloud.user("ship"), "s3", "list_buckets").refused


@pytest.mark.parametrize("code", ["NoSuchKey", "MalformedPolicyDocument", "EntityAlreadyExists"])
def test_another_error_is_no_refusal(code: str) -> None:
    answer = Cloud(Shell({"error": code})).attempt(Cloud.user("ship"), "s3", "get_object")
    assert (answer.refused, answer.error, answer.value) == (False, code, {})


@pytest.mark.parametrize(
    "code", ["NoSuchKey", "NoSuchEntity", "DBInstanceNotFound", "404", "ResourceNotFoundException"]
)
def test_what_is_not_there_is_empty_for_the_administrator(code: str) -> None:
    assert Cloud(Shell({"error": code})).call("s3", "get_object", Bucket="b", Key="k") == {}


def test_any_other_error_of_the_administrators_is_ours() -> None:
    with pytest.raises(ProbeFailed, match="EntityAlreadyExists"):
        Cloud(Shell({"error": "EntityAlreadyExists", "message": "there"})).call("iam", "create_user", UserName="ship")


def test_a_call_that_boto3_does_not_know_is_ours_whoever_makes_it() -> None:
    with pytest.raises(ProbeFailed, match="ParamValidationError"):
        Cloud(Shell({"broken": "ParamValidationError: x"})).attempt(Cloud.user("ship"), "s3", "get_object")


def test_a_cloud_that_is_silent_is_trouble_of_ours() -> None:
    with pytest.raises(ProbeFailed, match="does not answer"):
        Cloud(Shell(status=7)).log()


def test_a_role_is_assumed_for_real_or_not_at_all() -> None:
    given = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t"}
    shell = Shell({"answer": {"Credentials": given}}, {"error": "AccessDenied"})
    cloud = Cloud(shell)
    night = cloud.role("night", by=cloud.user("ship"))
    assert night is not None
    assert dict(night.by) == {"id": "ASIA1", "secret": "s", "token": "t"}
    assert shell.asked[0]["parameters"]["RoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/night"
    assert cloud.role("night", by=cloud.user("ship")) is None


def test_every_statement_that_counts_is_told_with_lists() -> None:
    found = Cloud(Shell({"answer": DETAILS})).statements("users", "ship")
    assert found == [{**STATEMENT, "Action": ["s3:GetObject"]}, {"Effect": "Deny", "Action": ["*"]}]


def test_the_inventory_has_every_statement_of_the_version_that_counts() -> None:
    facts = Cloud(Shell({"answer": DETAILS}, {"answer": {"Buckets": [{"Name": "logs"}]}})).inventory()
    assert facts == {
        "users/ship": "is there",
        "users/ship/inline/own/Statement/Effect": "Allow",
        "users/ship/inline/own/Statement/Action": "s3:GetObject",
        "users/ship/inline/own/Statement/Resource/arn:aws:s3:::logs/*": "arn:aws:s3:::logs/*",
        "users/ship/groups/crew": "crew",
        "groups/crew": "is there",
        "groups/crew/attached/arn:all": "arn:all",
        "roles/night": "is there",
        "roles/night/trust/Statement/0/Effect": "Allow",
        "policies/arn:all": "is there",
        "policies/arn:all/document/Statement/0/Effect": "Deny",
        "policies/arn:all/document/Statement/0/Action/*": "*",
        "buckets/logs": "is there",
    }
