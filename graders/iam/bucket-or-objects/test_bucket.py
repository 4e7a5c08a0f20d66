from breakfix.grading import baseline, check


@baseline
def before(cloud, lab):
    kept = [
        *((lab.bucket, f"{lab.prefix}/{day}.csv") for day in ("wed", "thu", "fri")),
        *((lab.bucket, f"payroll/{month}.csv") for month in ("sep", "oct")),
        (f"{lab.bucket}-logs", "access.log"),
    ]
    return {"rights": cloud.inventory(), "files": {f"{b}/{k}": content(cloud, b, k) for b, k in kept}}


def content(cloud, bucket, key):
    return cloud.call("s3", "get_object", Bucket=bucket, Key=key).get("Body")


def outcome(cloud, lab, operation, **parameters):
    """What the job is answered: the code of the error, or ok."""
    return cloud.attempt(cloud.user(lab.job), "s3", operation, **parameters).error or "ok"


@check(points=20, skill="sec.iam")
def test_it_lists_the_bucket(cloud, lab):
    """The job can list its bucket"""
    assert outcome(cloud, lab, "list_objects_v2", Bucket=lab.bucket) == "ok", "listing is answered with"


@check(points=25, skill="sec.iam")
def test_it_writes_and_reads_reports(cloud, lab):
    """The job can write a report and read it again"""
    report = {"Bucket": lab.bucket, "Key": f"{lab.prefix}/probe-of-the-grader.csv"}
    written = outcome(cloud, lab, "put_object", **report, Body="1\n")
    read = outcome(cloud, lab, "get_object", **report)
    cloud.call("s3", "delete_object", **report)
    assert (written, read) == ("ok", "ok"), "writing and reading are answered with"


@check(points=15, skill="sec.iam", needs="test_it_writes_and_reads_reports")
def test_payroll_is_not_its_business(cloud, lab):
    """The job can neither read nor write payroll's files"""
    seen = [
        outcome(cloud, lab, "get_object", Bucket=lab.bucket, Key="payroll/oct.csv"),
        outcome(cloud, lab, "put_object", Bucket=lab.bucket, Key="payroll/probe.csv", Body="1\n"),
        outcome(cloud, lab, "get_object", Bucket=f"{lab.bucket}-logs", Key="access.log"),
    ]
    cloud.call("s3", "delete_object", Bucket=lab.bucket, Key="payroll/probe.csv")
    assert seen == ["AccessDenied"] * 3, "reading and writing what is not the job's is answered with"


@check(points=15, skill="sec.iam", needs="test_it_writes_and_reads_reports")
def test_it_can_do_no_more_than_that(cloud, lab):
    """The job deletes nothing, and its rights are those that it needs, each on what it needs it for"""
    assert outcome(cloud, lab, "delete_object", Bucket=lab.bucket, Key=f"{lab.prefix}/nothing.csv") == "AccessDenied", (
        "deleting is answered with"
    )
    granted = [one for one in cloud.statements("users", lab.job) if one["Effect"] == "Allow"]
    wild = [
        one for one in granted if "NotAction" in one or "NotResource" in one or any("*" in a for a in one["Action"])
    ]
    assert wild == [], "statements that grant more than they name"
    needed = {"s3:ListBucket", "s3:GetObject", "s3:PutObject"}
    assert {action for one in granted for action in one["Action"]} <= needed, "rights beyond the three"


@check(points=10, skill="sec.iam", needs="test_it_lists_the_bucket")
def test_it_may_not_grant_itself_rights(cloud, lab):
    """The job has no rights on users and policies"""
    answer = cloud.attempt(cloud.user(lab.job), "iam", "list_users")
    assert answer.refused, "the job may look at users"


@check(points=15, skill="sec.iam", needs=("test_it_lists_the_bucket", "test_it_writes_and_reads_reports"))
def test_nothing_else_changed(cloud, lab, baseline):
    """All files are still there, and nobody else's rights have changed"""
    files = {path: content(cloud, *path.split("/", 1)) for path in baseline["files"]}
    assert files == baseline["files"], "the files that were there"
    own = (f"users/{lab.job}/*",)
    found = cloud.differences(baseline["rights"], allow=own, new=("users/*", "roles/*", "groups/*", "buckets/*"))
    assert found == [], "other people's rights"
