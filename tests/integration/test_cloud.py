"""What the lab's cloud enforces, call by call, and what of moto it does not let through: labs rely on no more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from breakfix.errors import ProbeFailed, UsageError
from breakfix.grading.probes import Probes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from breakfix.probes.cloud import Answer, Cloud, Principal
    from tests.stage import Stage

pytestmark = pytest.mark.engine

ACCOUNT = "arn:aws:iam::123456789012"
BUCKET, OBJECTS = "arn:aws:s3:::logs", "arn:aws:s3:::logs/*"


@pytest.fixture(scope="module")
def desk(whole: Stage) -> Iterator[Session]:
    session = whole.start("desk")
    yield session
    whole.environment.stop((session.id,))


@pytest.fixture(scope="module")
def cloud(whole: Stage, desk: Session) -> Iterator[Cloud]:
    with Probes(whole.environment, desk) as probes:
        yield probes.cloud


def policy(*statements: tuple[str, list[str], list[str]], **more: object) -> str:
    written = [{"Effect": effect, "Action": actions, "Resource": on, **more} for effect, actions, on in statements]
    return json.dumps({"Version": "2012-10-17", "Statement": written})


def trust(*principals: str) -> str:
    written = [{"Effect": "Allow", "Principal": {"AWS": one}, "Action": "sts:AssumeRole"} for one in principals]
    return json.dumps({"Version": "2012-10-17", "Statement": written})


def somebody(cloud: Cloud, name: str, *statements: tuple[str, list[str], list[str]]) -> Principal:
    cloud.call("iam", "create_user", UserName=name)
    if statements:
        cloud.call("iam", "put_user_policy", UserName=name, PolicyName="p", PolicyDocument=policy(*statements))
    return cloud.user(name)


def tried(cloud: Cloud, who: Principal, call: tuple[str, dict[str, Any]]) -> Answer:
    return cloud.attempts(who, ("s3", *call))[0]


NOBODY: tuple[tuple[str, list[str], list[str]], ...] = ()
ON_THE_BUCKET = (("Allow", ["s3:*"], [BUCKET]),)
ON_OBJECTS = (("Allow", ["s3:GetObject", "s3:PutObject"], [OBJECTS]),)
EVERYTHING = (("Allow", ["*"], ["*"]),)
BUT_DELETING = (("Allow", ["s3:*"], ["*"]), ("Deny", ["s3:DeleteObject"], [OBJECTS]))
IN_CAPITALS = (("Allow", ["S3:GETOBJECT"], ["arn:aws:s3:::logs/?/b"]),)

LIST = ("list_objects_v2", {"Bucket": "logs"})
HEAD_BUCKET = ("head_bucket", {"Bucket": "logs"})
GET = ("get_object", {"Bucket": "logs", "Key": "a/b"})
HEAD = ("head_object", {"Bucket": "logs", "Key": "a/b"})
PUT = ("put_object", {"Bucket": "logs", "Key": "c", "Body": "x"})
COPY = ("copy_object", {"Bucket": "logs", "Key": "d", "CopySource": "logs/a/b"})
DELETE = ("delete_object", {"Bucket": "logs", "Key": "nothing"})
BUCKETS: tuple[str, dict[str, Any]] = ("list_buckets", {})
CREATE = ("create_bucket", {"Bucket": "another"})
POLICY = (
    "put_bucket_policy",
    {"Bucket": "logs", "Policy": policy(("Deny", ["s3:GetObject"], ["arn:aws:s3:::logs/no"]))},
)

MATRIX = {
    "nobody": (NOBODY, ""),
    "bucket": (ON_THE_BUCKET, "LIST HEAD_BUCKET POLICY"),
    "objects": (ON_OBJECTS, "GET HEAD PUT COPY"),
    "everything": (EVERYTHING, "LIST HEAD_BUCKET GET HEAD PUT COPY DELETE BUCKETS CREATE POLICY"),
    "but-deleting": (BUT_DELETING, "LIST HEAD_BUCKET GET HEAD PUT COPY BUCKETS CREATE POLICY"),
    "in-capitals": (IN_CAPITALS, "GET HEAD"),
}
CALLS = ("LIST", "HEAD_BUCKET", "GET", "HEAD", "PUT", "COPY", "DELETE", "BUCKETS", "CREATE", "POLICY")


@pytest.mark.parametrize("name", MATRIX)
def test_who_may_do_what_to_buckets_and_objects(cloud: Cloud, name: str) -> None:
    statements, allowed = MATRIX[name]
    who = somebody(cloud, name, *statements)
    answers = cloud.attempts(who, *(("s3", *globals()[call]) for call in CALLS))
    assert [call for call, answer in zip(CALLS, answers, strict=True) if not answer.refused] == allowed.split()


def test_objects_that_are_deleted_in_bulk_are_asked_about_one_by_one(cloud: Cloud) -> None:
    who = somebody(cloud, "bulk", ("Allow", ["s3:*"], ["*"]), ("Deny", ["s3:DeleteObject"], ["arn:aws:s3:::logs/a/*"]))
    answer = cloud.attempt(who, "s3", "delete_objects", Bucket="logs", Delete={"Objects": [{"Key": "a/b"}]})
    assert [one["Code"] for one in answer.value["Errors"]] == ["AccessDenied"]
    assert cloud.call("s3", "get_object", Bucket="logs", Key="a/b")["Body"] == "hello"


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("iam", "list_users"), ("sqs", "list_queues"), ("rds", "describe_db_instances"),
        ("secretsmanager", "list_secrets"), ("dynamodb", "list_tables"), ("s3", "list_buckets"),
    ],
)  # fmt: skip
def test_every_service_refuses_who_has_no_right(cloud: Cloud, service: str, operation: str) -> None:
    stranger = somebody(cloud, f"stranger-{service}")
    friend = somebody(cloud, f"friend-{service}", *EVERYTHING)
    assert cloud.attempt(stranger, service, operation).refused
    assert cloud.attempt(friend, service, operation).error == ""


def test_rights_on_users_are_rights_on_those_users(cloud: Cloud) -> None:
    who = somebody(cloud, "own-keys", ("Allow", ["iam:*"], [f"{ACCOUNT}:user/own-keys"]))
    somebody(cloud, "somebody-else")
    assert cloud.attempt(who, "iam", "list_access_keys", UserName="own-keys").error == ""
    assert cloud.attempt(who, "iam", "list_access_keys", UserName="somebody-else").refused


def test_a_key_counts_until_it_is_switched_off_or_gone(cloud: Cloud) -> None:
    somebody(cloud, "keys", *EVERYTHING)
    made = cloud.call("iam", "create_access_key", UserName="keys")["AccessKey"]
    key = cloud.key(made["AccessKeyId"], made["SecretAccessKey"])
    named = {"UserName": "keys", "AccessKeyId": made["AccessKeyId"]}

    def works() -> tuple[bool, bool]:
        return (not tried(cloud, key, BUCKETS).refused, not cloud.attempt(key, "iam", "list_users").refused)

    assert works() == (True, True)
    cloud.call("iam", "update_access_key", **named, Status="Inactive")
    assert works() == (False, False)
    cloud.call("iam", "update_access_key", **named, Status="Active")
    assert works() == (True, True)
    cloud.call("iam", "delete_access_key", **named)
    assert works() == (False, False)
    wrong = cloud.key(made["AccessKeyId"], "x" * 40)
    assert tried(cloud, wrong, BUCKETS).refused


def test_a_role_is_assumed_by_whom_it_trusts_and_who_may(cloud: Cloud) -> None:
    assume = ("Allow", ["sts:AssumeRole"], [f"{ACCOUNT}:role/night"])
    trusted, untrusted, without = (
        somebody(cloud, name, *rights)
        for name, rights in (("trusted", (assume,)), ("trust", (assume,)), ("trusted-without", ()))
    )
    document = trust(f"{ACCOUNT}:user/other", f"{ACCOUNT}:user/trusted", f"{ACCOUNT}:user/trusted-without")
    cloud.call("iam", "create_role", RoleName="night", AssumeRolePolicyDocument=document)
    rights = policy(("Allow", ["s3:ListBucket"], [BUCKET]))
    cloud.call("iam", "put_role_policy", RoleName="night", PolicyName="p", PolicyDocument=rights)
    # Part of a name is not the name.
    assert cloud.role("night", by=untrusted) is None
    assert cloud.role("night", by=without) is None
    night = cloud.role("night", by=trusted)
    assert night is not None
    assert tried(cloud, night, LIST).error == ""
    assert tried(cloud, night, GET).refused


def test_an_external_id_that_is_asked_for_has_to_be_said(cloud: Cloud) -> None:
    who = somebody(cloud, "agency", ("Allow", ["sts:AssumeRole"], ["*"]))
    document = json.loads(trust(f"{ACCOUNT}:user/agency"))
    document["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": ["7-11", "8-12"]}}
    cloud.call("iam", "create_role", RoleName="outside", AssumeRolePolicyDocument=json.dumps(document))
    assert cloud.role("outside", by=who) is None
    assert cloud.role("outside", by=who, external_id="9-13") is None
    assert cloud.role("outside", by=who, external_id="8-12") is not None


def test_a_role_may_trust_a_role_and_the_account(cloud: Cloud) -> None:
    who = somebody(cloud, "first", ("Allow", ["sts:AssumeRole"], ["*"]))
    for name, document in (("step", trust(f"{ACCOUNT}:root")), ("top", trust(f"{ACCOUNT}:role/step"))):
        cloud.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=document)
    onward = policy(("Allow", ["sts:AssumeRole"], [f"{ACCOUNT}:role/top"]))
    cloud.call("iam", "put_role_policy", RoleName="step", PolicyName="p", PolicyDocument=onward)
    step = cloud.role("step", by=who)
    assert step is not None
    assert cloud.role("top", by=step) is not None
    assert cloud.role("top", by=who) is None


def test_a_group_and_an_attached_policy_count_and_are_told(cloud: Cloud) -> None:
    who = somebody(cloud, "member")
    cloud.call("iam", "create_group", GroupName="readers")
    cloud.call("iam", "add_user_to_group", GroupName="readers", UserName="member")
    document = policy(("Allow", ["s3:GetObject"], [OBJECTS]))
    arn = cloud.call("iam", "create_policy", PolicyName="read", PolicyDocument=document)["Policy"]["Arn"]
    before = cloud.inventory()
    assert tried(cloud, who, GET).refused
    cloud.call("iam", "attach_group_policy", GroupName="readers", PolicyArn=arn)
    assert tried(cloud, who, GET).error == ""
    assert [one["Action"] for one in cloud.statements("users", "member")] == [["s3:GetObject"]]
    assert cloud.differences(before, new=("groups/*",)) == [f"groups/readers/attached/{arn} is new: {arn}"]


def test_a_condition_that_nobody_would_look_at_is_refused(cloud: Cloud) -> None:
    who = somebody(cloud, "careful", *EVERYTHING)
    document = policy(*EVERYTHING, Condition={"IpAddress": {"aws:SourceIp": "192.0.2.1/32"}})
    answer = cloud.attempt(who, "iam", "put_user_policy", UserName="careful", PolicyName="q", PolicyDocument=document)
    assert answer.error == "MalformedPolicyDocument"
    assert not answer.refused


def test_looking_as_somebody_leaves_them_as_they_were(cloud: Cloud) -> None:
    who = somebody(cloud, "seen", *EVERYTHING)
    before = cloud.inventory()
    assert tried(cloud, who, BUCKETS).error == ""
    assert cloud.call("iam", "list_access_keys", UserName="seen")["AccessKeyMetadata"] == []
    assert cloud.inventory() == before


def test_the_log_says_who_called_what(cloud: Cloud) -> None:
    who = somebody(cloud, "logged", ("Allow", ["s3:ListBucket"], [BUCKET]))
    cloud.attempts(who, ("s3", *LIST), ("s3", *GET))
    lines = [one for one in cloud.log() if one["principal"] == f"{ACCOUNT}:user/logged"]
    assert [(one["action"], one["resource"], one["outcome"]) for one in lines] == [
        ("s3:ListBucket", BUCKET, "allowed"),
        ("s3:GetObject", "arn:aws:s3:::logs/a/b", "refused"),
    ]


def test_the_log_has_calls_with_a_key_that_is_switched_off(cloud: Cloud) -> None:
    somebody(cloud, "forgotten", *EVERYTHING)
    made = cloud.call("iam", "create_access_key", UserName="forgotten")["AccessKey"]
    cloud.call("iam", "update_access_key", UserName="forgotten", AccessKeyId=made["AccessKeyId"], Status="Inactive")
    cloud.attempt(cloud.key(made["AccessKeyId"], made["SecretAccessKey"]), "s3", "list_buckets")
    assert [one["outcome"] for one in cloud.log() if one["key"] == made["AccessKeyId"]] == ["refused"]


def test_what_is_not_there_is_empty_and_a_wrong_call_is_our_trouble(cloud: Cloud) -> None:
    assert cloud.call("s3", "get_object", Bucket="logs", Key="none") == {}
    assert cloud.call("iam", "get_user", UserName="nobody-at-all") == {}
    with pytest.raises(ProbeFailed):
        cloud.call("s3", "get_object", Bucket="logs")
    with pytest.raises(ProbeFailed):
        cloud.call("iam", "no_such_call")


# -- from the candidate's seat --------------------------------------------------------------------------------------


def test_the_workstation_has_the_key_that_its_templates_know(whole: Stage, desk: Session, cloud: Cloud) -> None:
    variant = whole.variant(desk)
    name = str(variant.user)
    keys = (
        f"AWS_ACCESS_KEY_ID=AKIA{variant.token('key', 16).upper()} AWS_SECRET_ACCESS_KEY={variant.token('secret', 40)}"
    )
    ask = f"{keys} AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=http://cloud"
    assert name in whole.do(desk, f"{ask} aws sts get-caller-identity", "workstation")
    refused = whole.candidate(desk, f"{ask} aws s3 ls s3://logs", "workstation")
    assert "AccessDenied" in refused.error_text
    cloud.call("iam", "put_user_policy", UserName=name, PolicyName="p", PolicyDocument=policy(*EVERYTHING))
    assert "a/" in whole.do(desk, f"{ask} aws s3 ls s3://logs", "workstation")


def test_a_database_can_be_made_and_seen_with_the_settings_that_aws_has(
    whole: Stage, desk: Session, cloud: Cloud
) -> None:
    named = {"DBInstanceIdentifier": "orders", "DBInstanceClass": "db.t3.micro", "Engine": "postgres"}
    cloud.call(
        "rds", "create_db_instance", **named, AllocatedStorage=20, MasterUsername="x", MasterUserPassword="y" * 8
    )
    somebody(cloud, "dba", *EVERYTHING)
    made = cloud.call("iam", "create_access_key", UserName="dba")["AccessKey"]
    keys = f"AWS_ACCESS_KEY_ID={made['AccessKeyId']} AWS_SECRET_ACCESS_KEY={made['SecretAccessKey']}"
    ask = f"{keys} AWS_DEFAULT_REGION=us-east-1 AWS_ENDPOINT_URL=http://cloud aws"
    # Services whose address the aws command would otherwise choose by itself.
    assert "orders" in whole.do(desk, f"{ask} rds describe-db-instances", "workstation")
    whole.do(desk, f"{ask} sqs create-queue --queue-name jobs", "workstation")
    assert "jobs" in whole.do(desk, f"{ask} sqs list-queues", "workstation")


@pytest.mark.parametrize(
    "path",
    [
        "/moto-api/reset", "/moto-api/reset-auth", "//moto-api/reset", "/%6doto-api/reset-auth", "/moto-api/data.json",
        "/latest/meta-data/iam/security-credentials/", "/breakfix/call", "/breakfix/log", "/breakfix/key",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["", "moto_api", "motoapi.amazonaws.com", "s3"])
def test_the_back_doors_are_closed(whole: Stage, desk: Session, cloud: Cloud, path: str, scope: str) -> None:
    before = cloud.inventory()
    signed = (
        f"AWS4-HMAC-SHA256 Credential=AKIAX/20260101/us-east-1/{scope}/aws4_request, SignedHeaders=host, Signature=0"
    )
    header = f"-H 'Authorization: {signed}'" if scope else ""
    for method in ("GET", "POST -d 1000", "POST -d '[]'"):
        asked = f"curl -s -m 5 --path-as-is -o /dev/null -w '%{{http_code}}' -X {method} {header} 'http://cloud{path}'"
        status = whole.candidate(desk, asked, "workstation").text
        assert status >= "400", (method, status)
    assert cloud.inventory() == before
    assert tried(cloud, cloud.user("nobody"), BUCKETS).refused


@pytest.mark.parametrize(
    "host", ["motoapi.amazonaws.com", "moto_api", "cloud", "iam.amazonaws.com", "ec2.amazonaws.com"]
)
def test_no_name_of_a_host_leads_past_the_check(whole: Stage, desk: Session, host: str) -> None:
    asked = f"curl -s -m 5 -H 'Host: {host}' 'http://cloud/?Action=ListUsers&Version=2010-05-08'"
    assert "UserId" not in whole.candidate(desk, asked, "workstation").text


def test_the_administrators_door_is_not_on_the_network(whole: Stage, desk: Session) -> None:
    refused = whole.candidate(desk, "curl -s -m 5 http://cloud:8001/breakfix/log", "workstation")
    assert refused.exit_status != 0
    assert refused.text == ""


def test_nobody_logs_in_on_a_closed_host(whole: Stage, desk: Session) -> None:
    assert [one.name for one in whole.read(desk).hosts.values() if one.closed] == ["cloud"]
    with pytest.raises(UsageError, match="closed"):
        whole.environment.attach(desk, "cloud")
