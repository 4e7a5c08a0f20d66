"""What is managed is told by what it is and what it is called in the cloud, never by its address.

The state has to say what the cloud has, and a plan compares code and state: so nothing has to be asked in the sandbox.
"""

import copy
from collections import Counter

from breakfix.grading import baseline, check
from breakfix.probes.terraform import State

STACK = "/root/stack"
KEY = "settings/limits.json"


def names(lab):
    """The team's buckets."""
    return [f"{lab.team}-{lab.names[0]}", f"{lab.team}-{lab.names[1]}", f"{lab.other}-{lab.inherited}"]


def limits(lab):
    return f"object {names(lab)[0]}/{KEY}"


def mine(lab):
    """What the code has to manage."""
    return {*(f"bucket {name}" for name in names(lab)), limits(lab), f"database {lab.team}"}


def wanted(lab, found):
    return {name: one for name, one in found.items() if name in mine(lab)}


# -- the cloud ---------------------------------------------------------------------------------------------------------


def ask(cloud, *calls):
    """Many calls in one go; empty where there is no such thing."""
    return [one.value for one in cloud.attempts(cloud.user("oncall"), *calls)]


def tags(listed):
    return {one["Key"]: one["Value"] for one in listed or ()}


def survey(cloud, lab):
    """All that is in the cloud, in the words of the provider; and of each thing, which one it is."""
    made = {one["Name"]: one["CreationDate"] for one in cloud.call("s3", "list_buckets")["Buckets"]}
    questions = ("get_bucket_tagging", "get_bucket_versioning", "list_object_versions")
    databases, text, *answers = ask(
        cloud,
        ("rds", "describe_db_instances", {}),
        ("s3", "get_object", {"Bucket": names(lab)[0], "Key": KEY}),
        *(("s3", what, {"Bucket": name}) for name in made for what in questions),
    )
    found = {limits(lab): {"content": text["Body"]}} if text else {}
    for name, labels, versioning, held in zip(made, *(answers[n::3] for n in range(3)), strict=True):
        status = versioning.get("Status", "never")
        found[f"bucket {name}"] = {"tags": tags(labels.get("TagSet")), "versioning": status == "Enabled"}
        found[f"bucket {name}, made"] = made[name]
        found[f"bucket {name}, versioning"] = status
        for one in held.get("Versions", ()):
            found[f"object {name}/{one['Key']}, version {one['VersionId']}"] = f"{one['ETag']} {one['LastModified']}"
    for one in databases["DBInstances"]:
        name = f"database {one['DBInstanceIdentifier']}"
        found[name] = {
            "engine": one["Engine"],
            "storage_gb": one["AllocatedStorage"],
            "instance_class": one["DBInstanceClass"],
            "username": one["MasterUsername"],
            "deletion_protection": one["DeletionProtection"],
            "tags": tags(one.get("TagList")),
        }
        found[f"{name}, made"] = f"{one['DbiResourceId']} {one['InstanceCreateTime']}"
    return found


@baseline
def before(cloud, lab):
    return survey(cloud, lab)


# -- state and code ----------------------------------------------------------------------------------------------------

WORDS = {
    "cloud_bucket": ("bucket", ("name",), ("tags", "versioning")),
    "cloud_object": ("object", ("bucket", "key"), ("content",)),
    "cloud_database": (
        "database",
        ("identifier",),
        ("engine", "storage_gb", "instance_class", "username", "deletion_protection", "tags"),
    ),
}


def called(kind, values):
    """What a resource is, and its name in the cloud."""
    word, parts, _ = WORDS[kind]
    return f"{word} {'/'.join(str(values.get(part)) for part in parts)}"


def said(kind, values):
    """What is said of a resource that counts here: having no tags and none being asked for are the same."""
    return {name: (values.get(name) or {}) if name == "tags" else values.get(name) for name in WORDS[kind][2]}


def state(terraform):
    content = terraform.folder(STACK).state
    assert content, f"there is no terraform.tfstate in {STACK}"
    return State.read(content)


def entries(found):
    """What a state has of the cloud: of each thing its name, and what is said of it."""
    return [
        (called(one["type"], values), said(one["type"], values))
        for one in found.raw.get("resources", ())
        if one.get("mode") == "managed" and one.get("type") in WORDS
        for values in (instance.get("attributes") or {} for instance in one.get("instances", ()))
    ]


def changes(plan):
    """What a plan would do and to what, and what would be so afterwards."""
    found = {}
    for one in plan.json.get("resource_changes", ()):
        kind, (done, before, after) = one["type"], (one["change"][part] for part in ("actions", "before", "after"))
        if done in (["no-op"], ["read"]):
            continue
        name = called(kind, after or before) if kind in WORDS else one["address"]
        found[f"{'+'.join(done)} {name}"] = said(kind, after) if kind in WORDS and after else {}
    return found


@check(points=15, skill="iac.state")
def test_all_of_it_is_in_the_state(cloud, terraform, lab):
    """The state knows all that is the team's, as it is in the cloud"""
    seen = wanted(lab, dict(entries(state(terraform))))
    real = wanted(lab, survey(cloud, lab))
    # How many are missing, and not which: to find out whose a thing is, is the task.
    assert len(seen) == len(mine(lab)), "how many of them the state knows"
    wrong = {name: one for name, one in seen.items() if one != real.get(name)}
    assert wrong == {}, "what the state says and is not so"


@check(points=15, skill="iac.state", needs="test_all_of_it_is_in_the_state")
def test_nothing_else_is_in_the_state(terraform, lab):
    """The state knows each of these things once, and nothing that is not the team's"""
    counted = Counter(name for name, _ in entries(state(terraform)))
    wrong = {name: times for name, times in counted.items() if name not in mine(lab) or times > 1}
    assert wrong == {}, "what the state knows and should not, or more than once"


@check(points=15, skill="iac.state")
def test_a_plan_finds_nothing_to_do(terraform):
    """A plan finds nothing to do with what the state knows"""
    known = state(terraform)
    assert entries(known), "the state knows nothing of the cloud"
    plan = terraform.configuration(STACK).plan(state=known, refresh=False)
    assert changes(plan) == {}, "what a plan would do"


@check(points=20, skill="iac.state", needs="test_all_of_it_is_in_the_state")
def test_nothing_changed_in_the_cloud(cloud, lab, baseline):
    """All that was in the cloud is the one that it was, and as it was"""
    now = survey(cloud, lab)
    wrong = {name: now.get(name, "gone") for name, one in baseline.items() if now.get(name) != one}
    assert wrong == {}, "what is gone, changed or made anew, as it is now"
    assert sorted(now.keys() - baseline.keys()) == [], "what is new"


def one_more(terraform, cloud, lab, name, entry):
    """What a plan would do with buckets if there were one more entry."""
    things = survey(cloud, lab)
    today = {bucket: things[f"bucket {bucket}"] for bucket in names(lab)}
    plan = terraform.configuration(STACK).plan({"buckets": {**today, name: entry}}, state(terraform), refresh=False)
    return {what: one for what, one in changes(plan).items() if " bucket " in what}


@check(points=15, skill="iac.modules", needs="test_all_of_it_is_in_the_state")
def test_one_more_entry_is_one_more_bucket(cloud, terraform, lab):
    """One more entry in the variable is one more bucket, with its tags and versioning"""
    entry = {"versioning": True, "tags": {"team": lab.team, "cost": "probe"}}
    name = f"zz-{lab.team}-probe"
    assert one_more(terraform, cloud, lab, name, entry) == {
        f"create bucket {name}": {"tags": entry["tags"], "versioning": True}
    }, "what one more entry would do"


@check(points=10, skill="iac.modules", needs="test_one_more_entry_is_one_more_bucket")
def test_it_touches_no_other(cloud, terraform, lab):
    """An entry that comes before all others, with nothing but a name, touches no other bucket"""
    name = f"aa-{lab.team}-probe"
    assert one_more(terraform, cloud, lab, name, {}) == {f"create bucket {name}": {"tags": {}, "versioning": False}}, (
        "what one more entry at the front would do"
    )


@check(points=10, skill="iac.state", needs="test_a_plan_finds_nothing_to_do")
def test_a_change_by_hand_would_show(cloud, terraform, lab):
    """Whatever is changed by hand, a plan would take it back"""
    known = state(terraform)
    real = {name: one for name, one in wanted(lab, survey(cloud, lab)).items() if name in dict(entries(known))}
    raw = copy.deepcopy(dict(known.raw))
    for one in raw["resources"]:
        if one.get("mode") == "managed" and one["type"] in WORDS:
            for instance in one["instances"]:
                values = instance["attributes"]
                values.update(by_hand(said(one["type"], values)))
    plan = terraform.configuration(STACK).plan(state=State(raw), refresh=False)
    seen = changes(plan)
    wrong = {
        name: seen.get(f"update {name}", "left as it is") for name in real if seen.get(f"update {name}") != real[name]
    }
    assert wrong == {}, "what a plan would make of changes by hand"


def by_hand(one):
    """The same with everything changed that an apply can take back."""
    how = {
        "tags": lambda tags: {**tags, "by": "hand"},
        "versioning": lambda on: not on,
        "deletion_protection": lambda on: not on,
        "storage_gb": lambda size: size - 1,
        "instance_class": lambda _: "db.x2g.large",
        "content": lambda text: f"{text} ",
    }
    return {name: how[name](value) if name in how else value for name, value in one.items()}
