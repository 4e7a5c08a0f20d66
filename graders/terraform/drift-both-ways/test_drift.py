"""The code, the state and the cloud are three.  Each check says which of them it compares.

What is managed is told by what it is and what it is called in the cloud, never by its address.
"""

import copy

from breakfix.grading import baseline, check
from breakfix.probes.terraform import State

STACK = "/root/stack"


def config(lab):
    return f"{lab.service}-config"


def kept(lab):
    return f"bucket {lab.service}-{lab.kept}"


def switches(lab):
    return f"object {config(lab)}/switches.json"


def database(lab):
    return f"database {lab.service}"


# -- the cloud ---------------------------------------------------------------------------------------------------------


def ask(cloud, *calls):
    """Many calls in one go; empty where there is no such thing."""
    return [one.value for one in cloud.attempts(cloud.user("oncall"), *calls)]


def tags(listed):
    return {one["Key"]: one["Value"] for one in listed or ()}


def things(cloud, lab):
    """What the code is about, as it is in the cloud, in the words of the provider."""
    names = [one["Name"] for one in cloud.call("s3", "list_buckets")["Buckets"]]
    keys = ("allowed.json", "switches.json")
    databases, *answers = ask(
        cloud,
        ("rds", "describe_db_instances", {}),
        *(("s3", "get_object", {"Bucket": config(lab), "Key": key}) for key in keys),
        *(("s3", what, {"Bucket": name}) for name in names for what in ("get_bucket_tagging", "get_bucket_versioning")),
    )
    texts, about = answers[:2], answers[2:]
    found = {
        f"object {config(lab)}/{key}": {"content": one["Body"]} for key, one in zip(keys, texts, strict=True) if one
    }
    for name, labels, versioning in zip(names, about[::2], about[1::2], strict=True):
        is_on = versioning.get("Status") == "Enabled"
        found[f"bucket {name}"] = {"tags": tags(labels.get("TagSet")), "versioning": is_on}
    for one in databases["DBInstances"]:
        found[f"database {one['DBInstanceIdentifier']}"] = {
            "engine": one["Engine"],
            "storage_gb": one["AllocatedStorage"],
            "instance_class": one["DBInstanceClass"],
            "username": one["MasterUsername"],
            "deletion_protection": one["DeletionProtection"],
            "tags": tags(one.get("TagList")),
        }
    return found


def identities(cloud, lab):
    """What is another one when it was made anew: databases, buckets, and all versions of all objects but the state."""
    buckets = {one["Name"]: one["CreationDate"] for one in cloud.call("s3", "list_buckets")["Buckets"]}
    databases, *held = ask(
        cloud,
        ("rds", "describe_db_instances", {}),
        *(("s3", "list_object_versions", {"Bucket": name}) for name in buckets),
    )
    found = {f"bucket {name}": made for name, made in buckets.items()}
    for one in databases["DBInstances"]:
        found[f"database {one['DBInstanceIdentifier']}"] = f"{one['DbiResourceId']} {one['InstanceCreateTime']}"
    for name, versions in zip(buckets, held, strict=True):
        for one in versions.get("Versions", ()) if name != f"{lab.service}-tofu" else ():
            found[f"object {name}/{one['Key']} {one['VersionId']}"] = one["ETag"]
    return found


@baseline
def before(cloud, lab):
    return {"things": things(cloud, lab), "identities": identities(cloud, lab)}


def managed(lab, found):
    """What the code has always managed."""
    names = {kept(lab), f"bucket {config(lab)}", f"object {config(lab)}/allowed.json", switches(lab), database(lab)}
    return {name: one for name, one in found.items() if name in names}


def without_text(lab, found):
    """All but what the service writes."""
    return {name: {"content": "…"} if name == switches(lab) else one for name, one in found.items()}


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
    """What a resource is, and its name in the cloud; nothing where it is none of the cloud's."""
    word, names, _ = WORDS.get(kind, ("", (), ()))
    return f"{word} {'/'.join(str(values.get(name)) for name in names)}" if word else ""


def said(kind, values):
    """What is said of a resource that counts here: having no tags and none being asked for are the same."""
    return {name: (values.get(name) or {}) if name == "tags" else values.get(name) for name in WORDS[kind][2]}


def state(cloud, lab):
    body = cloud.call("s3", "get_object", Bucket=f"{lab.service}-tofu", Key="stack.tfstate").get("Body")
    assert body, f"there is no stack.tfstate in {lab.service}-tofu"
    return State.read(body.encode())


def instances(found):
    for one in found.raw.get("resources", ()):
        if one.get("mode") == "managed" and one["type"] in WORDS:
            for instance in one["instances"]:
                yield one["type"], instance["attributes"]


def in_state(found):
    return {called(kind, values): said(kind, values) for kind, values in instances(found)}


def as_if(found, real):
    """The state as it would be if it were refreshed, and the cloud were like this."""
    raw = copy.deepcopy(dict(found.raw))
    for one in raw.get("resources", ()):
        if one.get("mode") == "managed" and one["type"] in WORDS:
            there = [each for each in one["instances"] if called(one["type"], each["attributes"]) in real]
            for each in there:
                new = real[called(one["type"], each["attributes"])]
                if said(one["type"], each["attributes"]) != new:
                    each["attributes"].update(new)
            one["instances"] = there
    return State(raw)


def planned(plan):
    """What everything would be after an apply."""
    found = [(one["type"], one["change"]["after"]) for one in plan.json.get("resource_changes", ())]
    return {called(kind, after): said(kind, after) for kind, after in found if kind in WORDS and after}


@check(points=15, skill="iac.state")
def test_code_and_cloud_agree(cloud, terraform, lab):
    """A plan of the code finds nothing to do in the cloud"""
    seen = as_if(state(cloud, lab), things(cloud, lab))
    plan = terraform.configuration(STACK).plan(state=seen, refresh=False)
    assert plan.changes == {}, "what a plan would do"


@check(points=15, skill="iac.state", needs="test_code_and_cloud_agree")
def test_what_was_decided_stays(cloud, lab):
    """The database has the storage that it was grown to, and the bucket keeps versions"""
    found = things(cloud, lab)
    size = found.get(database(lab), {}).get("storage_gb")
    assert (size, found.get(kept(lab), {}).get("versioning")) == (lab.size["now"], True), (
        f"storage of {lab.service}, and versioning of {lab.service}-{lab.kept}"
    )


@check(points=15, skill="iac.state", needs="test_code_and_cloud_agree")
def test_nothing_was_made_anew_or_lost(cloud, lab, baseline):
    """The database and all buckets are those that they were, with all versions of all objects"""
    now = identities(cloud, lab)
    gone = {name: one for name, one in baseline["identities"].items() if now.get(name) != one}
    assert gone == {}, "what is gone, or is another one than before"


@check(points=15, skill="iac.state")
def test_what_nobody_decided_is_taken_back(cloud, lab, baseline):
    """All else that was changed by hand is as it was before"""

    def undecided(found):
        apart = {switches(lab): {"content"}, kept(lab): {"versioning"}, database(lab): {"storage_gb"}}
        return {
            name: {key: value for key, value in one.items() if key not in apart.get(name, ())}
            for name, one in found.items()
            if name != switches(lab)
        }

    was, now = undecided(baseline["things"]), undecided(things(cloud, lab))
    wrong = {name: now.get(name) for name, one in was.items() if now.get(name) != one}
    assert wrong == {}, "what is not as it was"


@check(points=10, skill="iac.state")
def test_the_switches_are_back(cloud, lab, baseline):
    """switches.json holds what the service wrote last"""
    now = things(cloud, lab).get(switches(lab))
    # What it should hold is not told: it is to be found.
    is_last = now == baseline["things"][switches(lab)]
    assert is_last, f"switches.json holds {now['content']}" if now else "there is no switches.json"


@check(points=15, skill="iac.state", needs=("test_what_was_decided_stays", "test_nothing_was_made_anew_or_lost"))
def test_the_state_says_what_there_is(cloud, lab):
    """The state knows all that it knew, as it is in the cloud now"""
    seen = without_text(lab, in_state(state(cloud, lab)))
    real = managed(lab, without_text(lab, things(cloud, lab)))
    wrong = {name: seen.get(name, "unknown") for name, one in real.items() if seen.get(name) != one}
    assert wrong == {}, "what the state says and is not so"


@check(points=15, skill="iac.state", needs=("test_what_was_decided_stays", "test_nothing_was_made_anew_or_lost"))
def test_the_next_change_by_hand_would_show(cloud, terraform, lab):
    """Whatever is changed by hand next, a plan would take it back, but for what the service writes"""
    real = managed(lab, things(cloud, lab))
    changed = {name: by_hand(one) for name, one in real.items()}
    plan = terraform.configuration(STACK).plan(state=as_if(state(cloud, lab), changed), refresh=False)
    wanted = real | {switches(lab): changed.get(switches(lab))}
    wrong = {name: one for name, one in planned(plan).items() if one != wanted.get(name, one)}
    assert wrong == {}, "changes by hand that an apply would leave as they are, or make of them what is not so"


def by_hand(one):
    """The same with everything changed that an apply can take back."""
    how = {
        "tags": lambda tags: {**tags, "by": "hand"},
        "versioning": lambda on: not on,
        "deletion_protection": lambda on: not on,
        "storage_gb": lambda size: size - 1,
        "instance_class": lambda _: "db.r5.large",
        "content": lambda text: f"{text} ",
    }
    return {name: how[name](value) if name in how else value for name, value in one.items()}
