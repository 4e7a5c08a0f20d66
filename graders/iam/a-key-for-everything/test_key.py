"""What the pipeline's key can do, tried call by call with the key itself, and what it must not."""

from breakfix.grading import baseline, check

ROLE = "arn:aws:iam::123456789012:role/account-admin"
FILES = ("app.js", "style.css", "index.html")
ACTIONS = {"s3:listbucket", "s3:getobject", "s3:putobject", "sqs:sendmessage"}


class Account:
    """The lab's names, and the calls that are tried."""

    def __init__(self, lab):
        self.lab = lab
        self.builds, self.web, self.staging = lab.builds, f"{lab.project}-web", f"{lab.project}-web-staging"
        self.last, self.staged = lab.token("release-10", 7), lab.token("staged-13", 7)
        self.coming = lab.token("a-release-to-come", 7)

    def build(self, release):
        return (self.builds, f"{self.lab.project}/{release}/site.tar.gz")

    def kept(self):
        """Objects that must still be there, with what is in them."""
        return [
            self.build(self.last),
            (self.builds, f"{self.lab.project}-signing/key.pem"),
            (self.builds, f"billing/{self.lab.token('staged-0', 7)}/site.tar.gz"),
            (self.builds, "shared/ca-bundle.pem"),
            (self.builds, "shared/licence.key"),
            (self.web, f"releases/{self.last}/index.html"),
            (self.web, self.lab.pinned),
            (self.web, "index.html"),
            (self.web, "accounts/export.csv"),
            (self.staging, f"releases/{self.staged}/index.html"),
        ]

    def queue(self, name=""):
        return f"http://127.0.0.1/123456789012/{self.lab.queue}{name}"


def content(cloud, bucket, key):
    return cloud.call("s3", "get_object", Bucket=bucket, Key=key).get("Body")


def pipeline(cloud, lab):
    return cloud.key(f"AKIA{lab.token('robot', 16).upper()}", lab.token("robot-secret", 40))


def split(cloud, lab, calls):
    """Make named calls with the pipeline's key; return which were refused, and which were not."""
    answers = cloud.attempts(pipeline(cloud, lab), *calls.values())
    named = list(zip(calls, answers, strict=True))
    return [name for name, one in named if one.refused], [name for name, one in named if not one.refused]


def read(bucket, key, operation="get_object"):
    return ("s3", operation, {"Bucket": bucket, "Key": key})


def written(cloud, lab, paths):
    """Write objects with the pipeline's key, each as it is where it is there; say which were refused and which not."""
    was = {path: content(cloud, *path) for path in paths}
    bodies = {path: {"Bucket": path[0], "Key": path[1], "Body": was[path] or "-"} for path in paths}
    calls = {f"write {'/'.join(path)}": ("s3", "put_object", body) for path, body in bodies.items()}
    refused, allowed = split(cloud, lab, calls)
    for bucket, key in (path for path in paths if was[path] is None):
        cloud.call("s3", "delete_object", Bucket=bucket, Key=key)
    return refused, allowed


@baseline
def before(cloud, lab):
    return {
        "rights": cloud.inventory(),
        "files": {"/".join(path): content(cloud, *path) for path in Account(lab).kept()},
    }


@check(points=15, skill="sec.iam")
def test_it_no_longer_rules_the_account(cloud, lab):
    """The key can neither look at users and roles nor become administrator"""
    calls = {
        "list users": ("iam", "list_users", {}),
        "look at itself": ("iam", "get_user", {"UserName": lab.robot}),
        "list its keys": ("iam", "list_access_keys", {"UserName": lab.robot}),
        "list roles": ("iam", "list_roles", {}),
        "become account-admin": ("sts", "assume_role", {"RoleArn": ROLE, "RoleSessionName": "probe"}),
    }
    _, allowed = split(cloud, lab, calls)
    assert allowed == [], "what the key can still do"


@check(points=20, skill="sec.iam", needs="test_it_no_longer_rules_the_account")
def test_a_release_goes_out(cloud, lab):
    """The key reads builds and writes releases, those of last week and those to come"""
    it = Account(lab)
    reads = {
        f"read {'/'.join(path)}": read(*path)
        for path in (
            it.build(lab.token("release-0", 7)), it.build(it.last), it.build(it.coming),
            (it.builds, "shared/ca-bundle.pem"), (it.web, lab.pinned),
        )
    }  # fmt: skip
    reads[f"list {it.web}"] = ("s3", "list_objects_v2", {"Bucket": it.web})
    refused, _ = split(cloud, lab, reads)
    releases = [(it.web, f"releases/{one}/{name}") for one in (it.last, it.coming) for name in (*FILES, "media.tar")]
    refused += written(cloud, lab, [*releases, (it.web, lab.pinned)])[0]
    assert refused == [], "calls of a release that are refused"


@check(points=10, skill="sec.audit", needs="test_it_no_longer_rules_the_account")
def test_it_asks_whether_a_release_is_there(cloud, lab):
    """The key is told whether a release is there already"""
    it = Account(lab)
    calls = {
        f"look for {key}": read(it.web, key, "head_object")
        for key in (f"releases/{it.coming}/index.html", f"releases/{it.last}/index.html")
    }
    refused, _ = split(cloud, lab, calls)
    assert refused == [], "calls that are refused"


@check(points=10, skill="sec.audit", needs="test_it_no_longer_rules_the_account")
def test_what_comes_once_a_week(cloud, lab):
    """The call that the pipeline makes once a week succeeds"""
    answer = cloud.attempt(
        pipeline(cloud, lab), "sqs", "send_message", QueueUrl=Account(lab).queue(), MessageBody="probe"
    )
    assert answer.error == "", "what the call is answered with"


@check(points=15, skill="sec.iam", needs="test_a_release_goes_out")
def test_nothing_else_can_be_read(cloud, lab):
    """The key reads and lists nothing else: what others or the intruder read, and what was always refused"""
    it = Account(lab)
    theirs = [
        (it.builds, f"{lab.project}-signing/key.pem"),
        (it.builds, f"billing/{lab.token('staged-0', 7)}/site.tar.gz"),
        (it.builds, "shared/licence.key"),
        (it.web, "accounts/export.csv"),
        (it.web, "index.html"),
        (it.staging, f"releases/{it.staged}/index.html"),
    ]
    calls = {f"read {'/'.join(path)}": read(*path) for path in theirs}
    calls |= {f"list {name}": ("s3", "list_objects_v2", {"Bucket": name}) for name in (it.builds, it.staging)}
    calls |= {
        "list all buckets": ("s3", "list_buckets", {}),
        f"take messages from {lab.queue}": ("sqs", "receive_message", {"QueueUrl": it.queue()}),
        f"take messages from {lab.queue}-failed": ("sqs", "receive_message", {"QueueUrl": it.queue("-failed")}),
        "read the secret deploy-webhook": ("secretsmanager", "get_secret_value", {"SecretId": "deploy-webhook"}),
        "list databases": ("rds", "describe_db_instances", {}),
    }
    _, allowed = split(cloud, lab, calls)
    assert allowed == [], "what the key can do beside what is needed"


@check(points=10, skill="sec.iam", needs="test_a_release_goes_out")
def test_nothing_else_can_be_written_or_deleted(cloud, lab):
    """The key writes nowhere else, and deletes nothing"""
    it = Account(lab)
    theirs = [
        it.build(it.last), it.build(it.coming), (it.builds, "shared/ca-bundle.pem"),
        (it.web, "index.html"), (it.web, "accounts/export.csv"), (it.web, f"{lab.pinned}.before"), (it.web, "releases"),
        (it.staging, f"releases/{it.staged}/index.html"),
    ]  # fmt: skip
    _, allowed = written(cloud, lab, theirs)
    calls = {
        "delete a release": read(it.web, f"releases/{it.coming}/nothing", "delete_object"),
        "delete a build": read(it.builds, f"{lab.project}/{it.coming}/nothing", "delete_object"),
        f"read the policy of {it.web}": ("s3", "get_bucket_policy", {"Bucket": it.web}),
        f"send to {lab.queue}-failed": ("sqs", "send_message", {"QueueUrl": it.queue("-failed"), "MessageBody": "-"}),
        f"empty {lab.queue}": ("sqs", "purge_queue", {"QueueUrl": it.queue()}),
    }
    allowed += split(cloud, lab, calls)[1]
    assert allowed == [], "what the key can do beside what is needed"


@check(points=10, skill="sec.iam", needs="test_a_release_goes_out")
def test_statements_grant_what_they_name(cloud, lab):
    """Statements name the actions that are needed, with wildcards for ids of builds and releases alone"""
    it = Account(lab)
    ids = tuple(f"arn:aws:s3:::{path}/" for path in (f"{it.builds}/{lab.project}", f"{it.web}/releases"))
    granted = [one for one in cloud.statements("users", lab.robot) if one["Effect"] == "Allow"]
    beyond = [one for one in granted if "NotAction" in one or "NotResource" in one]
    assert beyond == [], "statements that grant all but what they name"
    actions = {action for one in granted for action in one["Action"] if action.lower() not in ACTIONS}
    assert actions == set(), "actions that nothing of the recording needs"
    wild = {on for one in granted for on in one["Resource"] if set(on) & set("*?") and not on.startswith(ids)}
    assert wild == set(), "wildcards that stand for more than ids of builds and releases"


@check(points=10, skill="sec.iam", needs="test_it_no_longer_rules_the_account")
def test_nobody_else_lost_or_gained(cloud, lab, baseline):
    """Nobody else's rights have changed, and all files are still there"""
    found = cloud.differences(
        baseline["rights"], allow=(f"users/{lab.robot}/*",), new=("users/*", "roles/*", "buckets/*")
    )
    assert found == [], "other people's rights"
    files = {path: content(cloud, *path.split("/", 1)) for path in baseline["files"]}
    assert files == baseline["files"], "the files that were there"
