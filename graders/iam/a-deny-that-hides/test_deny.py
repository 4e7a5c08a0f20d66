"""Does the job delete what it must and nothing else, and is everybody else still kept from deleting?"""

from breakfix.grading import baseline, check

PEOPLE = ("hana", "piet", "rosa")
NEEDED = {"s3:listbucket", "s3:getobject", "s3:putobject", "s3:deleteobject"}
DELETING = ["s3:DeleteObject"]
PROBE = "probe-of-the-grader.dump"
NEWCOMER = "newcomer-of-the-grader"


@baseline
def before(cloud, lab):
    return {
        "rights": cloud.inventory(),
        "work": {name: work(cloud, lab, name) for name in PEOPLE},
        "files": {f"{bucket}/{key}": content(cloud, bucket, key) for bucket, key in stays(lab)},
    }


def stays(lab):
    """Every file that prune-dumps leaves where it is."""
    recent = [f"{lab.fresh}/2026-11-{day}.dump" for day in (27, 28, 29)]
    kept = [f"{lab.kept}/{year}.dump" for year in (2024, 2025)]
    return [
        *((lab.bucket, key) for key in (*recent, *kept, f"{lab.fresh}/keep.txt")),
        (f"{lab.bucket}-logs", "access.log"),
    ]


def content(cloud, bucket, key):
    return cloud.call("s3", "get_object", Bucket=bucket, Key=key).get("Body")


def outcomes(cloud, who, *calls):
    """What somebody is answered, call by call: the code of the error, or ok."""
    return [one.error or "ok" for one in cloud.attempts(who, *(("s3", *call) for call in calls))]


def work(cloud, lab, name):
    """What a person is answered when they do anything but delete."""
    written = [f"{lab.fresh}/{PROBE}", f"{lab.kept}/{PROBE}"]
    answers = outcomes(
        cloud,
        cloud.user(name),
        ("list_objects_v2", {"Bucket": lab.bucket}),
        ("list_object_versions", {"Bucket": lab.bucket}),
        ("get_object", {"Bucket": lab.bucket, "Key": f"{lab.fresh}/keep.txt"}),
        ("get_object", {"Bucket": lab.bucket, "Key": f"{lab.kept}/2025.dump"}),
        *(("put_object", {"Bucket": lab.bucket, "Key": key, "Body": "1\n"}) for key in written),
        ("get_object", {"Bucket": f"{lab.bucket}-logs", "Key": "access.log"}),
    )
    for key in written:
        cloud.call("s3", "delete_object", Bucket=lab.bucket, Key=key)
    return answers


def deletes(cloud, lab, name):
    """What somebody is answered when they delete a dump of either kind; none has this name."""
    where = (lab.fresh, lab.kept)
    return outcomes(
        cloud,
        cloud.user(name),
        *(("delete_object", {"Bucket": lab.bucket, "Key": f"{one}/none.dump"}) for one in where),
    )


def grants(cloud, lab):
    """Every statement that gives the job something."""
    return [one for one in cloud.statements("users", lab.job) if one["Effect"] == "Allow"]


def beyond(lab, statements):
    """What statements are about that is neither the job's bucket nor below its own folder."""
    own = f"arn:aws:s3:::{lab.bucket}"
    named = {on for one in statements for on in one.get("Resource", ["all but something"])}
    return sorted(on for on in named if on != own and not on.startswith(f"{own}/{lab.fresh}/"))


@check(points=20, skill="sec.iam")
def test_it_deletes_old_dumps(cloud, lab):
    """The job can delete a dump"""
    dump = {"Bucket": lab.bucket, "Key": f"{lab.fresh}/{PROBE}"}
    cloud.call("s3", "put_object", **dump, Body="1\n")
    seen = outcomes(cloud, cloud.user(lab.job), ("delete_object", dump))
    left = content(cloud, lab.bucket, dump["Key"])
    cloud.call("s3", "delete_object", **dump)
    assert (seen, left) == (["ok"], None), "what deleting is answered with, and what is left of the dump"


@check(points=10, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_it_still_lists_reads_and_writes(cloud, lab):
    """The job can list its bucket, and read and write where it deletes"""
    listed = {"Bucket": lab.bucket, "Prefix": f"{lab.fresh}/"}
    file = {"Bucket": lab.bucket, "Key": f"{lab.fresh}/{PROBE}"}
    seen = outcomes(
        cloud,
        cloud.user(lab.job),
        ("list_objects_v2", listed),
        ("put_object", {**file, "Body": "1\n"}),
        ("get_object", file),
    )
    cloud.call("s3", "delete_object", **file)
    assert seen == ["ok"] * 3, "listing, writing and reading are answered with"


@check(points=15, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_it_deletes_nothing_else(cloud, lab):
    """The job can delete nothing that is kept for ten years, and nothing in another bucket"""
    seen = outcomes(
        cloud,
        cloud.user(lab.job),
        ("delete_object", {"Bucket": lab.bucket, "Key": f"{lab.kept}/none.dump"}),
        ("delete_object", {"Bucket": lab.bucket, "Key": "none.dump"}),
        ("delete_object", {"Bucket": f"{lab.bucket}-logs", "Key": "none.log"}),
    )
    assert seen == ["AccessDenied"] * 3, "deleting what is not the job's is answered with"
    granted = [one for one in grants(cloud, lab) if one.get("Action") == DELETING]
    assert beyond(lab, granted) == [], "what deleting is granted on beyond its own"


@check(points=15, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_it_can_do_no_more_than_that(cloud, lab):
    """The job's rights are the four that it needs, by name, on its bucket and where its dumps lie"""
    seen = outcomes(
        cloud,
        cloud.user(lab.job),
        ("put_object", {"Bucket": lab.bucket, "Key": f"{lab.kept}/{PROBE}", "Body": "1\n"}),
        ("get_object", {"Bucket": lab.bucket, "Key": f"{lab.kept}/2025.dump"}),
        ("get_object", {"Bucket": f"{lab.bucket}-logs", "Key": "access.log"}),
    )
    cloud.call("s3", "delete_object", Bucket=lab.bucket, Key=f"{lab.kept}/{PROBE}")
    assert seen == ["AccessDenied"] * 3, "reading and writing elsewhere is answered with"
    assert cloud.attempt(cloud.user(lab.job), "iam", "list_users").refused, "the job may look at users"
    granted = grants(cloud, lab)
    assert [one for one in granted if "NotAction" in one or "NotResource" in one] == [], "grants of all but something"
    assert sorted({action.lower() for one in granted for action in one["Action"]} - NEEDED) == [], (
        "rights beyond the four"
    )
    assert beyond(lab, (one for one in granted if one["Action"] != DELETING)) == [], "what is granted on beyond its own"


@check(points=15, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_people_delete_no_dump(cloud, lab):
    """None of the three can delete a dump"""
    seen = {name: deletes(cloud, lab, name) for name in PEOPLE}
    assert seen == {name: ["AccessDenied"] * 2 for name in PEOPLE}, "what deleting is answered with"


@check(points=10, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_nor_does_a_new_colleague(cloud, lab):
    """Somebody who is put into the group tomorrow can't delete a dump, whatever else they may"""
    everything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    if not cloud.call("iam", "get_user", UserName=NEWCOMER):
        cloud.call("iam", "create_user", UserName=NEWCOMER)
    own = {"UserName": NEWCOMER, "PolicyName": "everything"}
    try:
        cloud.call("iam", "put_user_policy", **own, PolicyDocument=everything)
        cloud.call("iam", "add_user_to_group", GroupName=lab.staff, UserName=NEWCOMER)
        seen = deletes(cloud, lab, NEWCOMER)
    finally:
        cloud.call("iam", "remove_user_from_group", GroupName=lab.staff, UserName=NEWCOMER)
        cloud.call("iam", "delete_user_policy", **own)
        cloud.call("iam", "delete_user", UserName=NEWCOMER)
    assert seen == ["AccessDenied"] * 2, "what deleting is answered with"


@check(points=10, skill="sec.iam", needs="test_it_deletes_old_dumps")
def test_people_work_as_before(cloud, lab, baseline):
    """Each of the three can do all else that they could, and no more"""
    seen = {name: work(cloud, lab, name) for name in PEOPLE}
    assert seen == baseline["work"], "what listing, reading and writing are answered with"


@check(points=5, skill="sec.iam", needs=("test_it_deletes_old_dumps", "test_it_still_lists_reads_and_writes"))
def test_nothing_else_changed(cloud, lab, baseline):
    """Every dump that stays is there, nobody else's rights have changed, nobody is new"""
    files = {path: content(cloud, *path.split("/", 1)) for path in baseline["files"]}
    assert files == baseline["files"], "files that stay"
    # What groups and policies give the three, and keep from them, was tried above.
    tried = [f"users/{name}/*" for name in (lab.job, *PEOPLE)]
    found = cloud.differences(
        baseline["rights"],
        allow=(*tried, f"groups/{lab.staff}*", "policies/*"),
        new=("users/*", "roles/*", "buckets/*"),
    )
    assert found == [], "rights of others, users and roles"
