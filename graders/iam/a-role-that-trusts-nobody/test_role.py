"""Who becomes the role, who does not, and what may they do then?  Everybody really tries."""

import json

from breakfix.grading import baseline, check

ACCOUNT = "arn:aws:iam::123456789012"
FILES = ("releases/7.txt", "releases/8.txt", "customers/a.txt")
PROBE = "releases/probe-of-the-grader.txt"


@baseline
def before(cloud, lab):
    return {
        "rights": cloud.inventory(),
        "session": granted(cloud, "roles", f"deploy-{lab.app}"),
        "files": {key: content(cloud, lab, key) for key in FILES},
    }


def content(cloud, lab, key):
    return cloud.call("s3", "get_object", Bucket=f"{lab.app}-site", Key=key).get("Body")


def granted(cloud, kind, name):
    """Every right of somebody and what it is on, whatever policies it is written in."""
    found = cloud.statements(kind, name)
    return sorted({
        f"{one['Effect']} {action} on {resource}"
        for one in found
        for action in one.get("Action", [f"all but {one.get('NotAction')}"])
        for resource in one.get("Resource", [f"all but {one.get('NotResource')}"])
    })  # fmt: skip


def outcomes(cloud, who, *calls):
    """What somebody is answered, call by call: the code of the error, or ok."""
    return [one.error or "ok" for one in cloud.attempts(who, *calls)]


def becomes(cloud, lab, who, **more):
    """What somebody is answered who wants to become the role."""
    wanted = {"RoleArn": f"{ACCOUNT}:role/deploy-{lab.app}", "RoleSessionName": "breakfix", **more}
    return outcomes(cloud, who, ("sts", "assume_role", wanted))[0]


def pipeline(cloud, lab):
    """Return a session of the pipeline; None where its user does not become it."""
    return cloud.role(lab.pipeline, by=cloud.user("runner"))


def deploy(cloud, lab):
    """Return a session of the role, come by as the pipeline comes by it; None where it does not."""
    first = pipeline(cloud, lab)
    return first and cloud.role(f"deploy-{lab.app}", by=first)


def external(lab):
    return f"{lab.agency}-{lab.token('external', 12)}"


def use(lab):
    """The calls of a release."""
    site = {"Bucket": f"{lab.app}-site"}
    return (
        ("s3", "list_objects_v2", site),
        ("s3", "put_object", {**site, "Key": PROBE, "Body": "1\n"}),
        ("s3", "get_object", {**site, "Key": PROBE}),
    )


@check(points=25, skill="sec.iam")
def test_the_pipeline_deploys(cloud, lab):
    """runner becomes the pipeline, that becomes the role, and that makes a release"""
    first = pipeline(cloud, lab)
    assert first is not None, "runner does not become the pipeline"
    second = cloud.role(f"deploy-{lab.app}", by=first)
    assert second is not None, "the pipeline does not become the role"
    live = {"Bucket": f"{lab.app}-site", "Key": "live.txt"}
    was = content(cloud, lab, "live.txt")
    seen = outcomes(cloud, second, *use(lab), ("s3", "put_object", {**live, "Body": "1\n"}))
    cloud.call("s3", "delete_object", Bucket=live["Bucket"], Key=PROBE)
    cloud.call("s3", "put_object", **live, Body=was or "")
    assert seen == ["ok"] * 4, "listing, writing, reading and going live are answered with"


@check(points=20, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_nobody_else_becomes_the_role(cloud, lab):
    """Neither runner directly nor tester becomes the role, and its trust names nobody else who is there"""
    tries = {
        f"{name}{' with the ExternalId' if more else ''}": becomes(cloud, lab, cloud.user(name), **more)
        for name in ("runner", "tester")
        for more in ({}, {"ExternalId": external(lab)})
    }
    assert tries == dict.fromkeys(tries, "AccessDenied"), "becoming the role is answered with"
    found = cloud.call("iam", "get_role", RoleName=f"deploy-{lab.app}")["Role"]["AssumeRolePolicyDocument"]
    expected = {f"{ACCOUNT}:role/{lab.pipeline}", f"{ACCOUNT}:user/{lab.agency}"}
    assert sorted(named(found) & everybody(cloud) - expected) == [], "who else is named"


def named(document):
    """Everybody whom a trust policy lets in, as it names them."""
    document = json.loads(document) if isinstance(document, str) else document
    statements = document["Statement"]
    statements = [statements] if isinstance(statements, dict) else statements
    found = [one.get("Principal", {}) for one in statements if one["Effect"] == "Allow"]
    found = [one if isinstance(one, str) else one.get("AWS", []) for one in found]
    return {who for one in found for who in ([one] if isinstance(one, str) else one)}


def everybody(cloud):
    """Every way to name somebody who is there, and all of them."""
    users = cloud.call("iam", "list_users")["Users"]
    roles = cloud.call("iam", "list_roles")["Roles"]
    return {one["Arn"] for one in (*users, *roles)} | {"*", f"{ACCOUNT}:root", ACCOUNT.rpartition(":")[2]}


@check(points=15, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_the_agency_becomes_it_with_its_id(cloud, lab):
    """The agency becomes the role with its ExternalId, and with no other"""
    agency = cloud.user(lab.agency)
    tries = {
        "its own": becomes(cloud, lab, agency, ExternalId=external(lab)),
        "another": becomes(cloud, lab, agency, ExternalId="of-the-grader"),
        "half of its own": becomes(cloud, lab, agency, ExternalId=f"{lab.agency}-"),
    }
    expected = {"its own": "ok", "another": "AccessDenied", "half of its own": "AccessDenied"}
    assert tries == expected, "becoming the role with an ExternalId is answered with"


@check(points=15, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_the_pipeline_becomes_nothing_else(cloud, lab):
    """The pipeline becomes no other role that would let it in, neither today's nor tomorrow's"""
    everyone = {"Effect": "Allow", "Principal": {"AWS": f"{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [everyone]})
    tomorrow = (f"deploy-{lab.app}-of-the-grader", "of-the-grader")
    first = pipeline(cloud, lab)
    try:
        for name in tomorrow:
            if not cloud.call("iam", "get_role", RoleName=name):
                cloud.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=trust)
        into = [name for name in ("support", *tomorrow) if cloud.role(name, by=first) is not None]
    finally:
        for name in tomorrow:
            cloud.call("iam", "delete_role", RoleName=name)
    assert into == [], "roles that the pipeline becomes"


@check(points=10, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_a_session_may_do_no_more(cloud, lab, baseline):
    """A session of the role has the rights that it had, and no others"""
    site = {"Bucket": f"{lab.app}-site"}
    seen = outcomes(
        cloud,
        deploy(cloud, lab),
        ("s3", "get_object", {**site, "Key": "customers/a.txt"}),
        ("s3", "delete_object", {**site, "Key": "releases/none.txt"}),
        ("iam", "list_users", {}),
    )
    assert seen == ["AccessDenied"] * 3, "customers' files, deleting and users are answered with"
    assert granted(cloud, "roles", f"deploy-{lab.app}") == baseline["session"], "the rights of the role"


@check(points=10, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_the_steps_before_have_no_such_rights(cloud, lab):
    """Neither runner nor the pipeline has rights on the bucket or on users"""
    steps = {"runner": cloud.user("runner"), lab.pipeline: pipeline(cloud, lab)}
    calls = (*use(lab), ("iam", "list_users", {}))
    seen = {name: outcomes(cloud, who, *calls) for name, who in steps.items()}
    cloud.call("s3", "delete_object", Bucket=f"{lab.app}-site", Key=PROBE)
    assert seen == dict.fromkeys(seen, ["AccessDenied"] * 4), "listing, writing, reading and users are answered with"


@check(points=5, skill="sec.iam", needs="test_the_pipeline_deploys")
def test_nothing_else_changed(cloud, lab, baseline):
    """Nobody else's rights have changed, nobody is new, and every file is there"""
    assert {key: content(cloud, lab, key) for key in FILES} == baseline["files"], "the files that were there"
    asked = [f"roles/deploy-{lab.app}/*", *(f"roles/{lab.pipeline}/{what}*" for what in ("inline", "attached"))]
    found = cloud.differences(
        baseline["rights"], allow=(*asked, "policies/*"), new=("users/*", "roles/*", "groups/*", "buckets/*")
    )
    assert found == [], "rights of others, users and roles"
