"""Is the leaked key dead, does everything work without it, and was nothing refused on the way?

The cloud's log is the witness: what counts its objects leaves a number out where one was refused.
"""

import re
import shlex
import time
from datetime import datetime, timedelta

from breakfix.grading import baseline, check

PATIENCE = 8.0
READABLE_BY_ALL = (
    "find /etc /home /opt /root /srv /tmp /usr/local/bin /usr/local/sbin /usr/local/etc /var/lib /var/tmp"
    " '(' -path /opt/aws -o -path /var/lib/dpkg -o -path /var/lib/apt -o -type d ! -perm -o+x ')' -prune"
    " -o -type f -perm -o+r -size -200k -exec grep -lF {} '{{}}' +"
)


def leaked(lab):
    return f"AKIA{lab.token('leaked', 16).upper()}"


def counting(lab):
    """What on the workstation numbers its objects."""
    return [lab.service, *([lab.third] if lab.spare == "busy" else [])]


def files(lab):
    copy = {"default": f"/etc/default/{lab.job}", "home": f"/var/lib/{lab.job}/.aws/credentials"}[lab.copy]
    return {f"/etc/{lab.service}/credentials": lab.service, copy: lab.job} | (
        {f"/etc/{lab.third}/credentials": lab.third} if lab.spare == "busy" else {}
    )


def stored(cloud, lab, name):
    """Return what the log has of a consumer's objects: what they are called, when, and what came of it."""
    below = f"arn:aws:s3:::{lab.bucket}/{name}/"
    return [
        (line["resource"].removeprefix(below), datetime.fromisoformat(line["at"]), line["outcome"])
        for line in cloud.log()
        if line["action"] == "s3:PutObject" and line["resource"].startswith(below)
    ]


def numbers(cloud, lab, name):
    """Return the numbers that were stored, in their order."""
    return [int(key) for key, _, outcome in stored(cloud, lab, name) if key.isdigit() and outcome == "allowed"]


def waited(true, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return found


def goes_on(cloud, lab, name):
    """True if a further number comes."""
    before = len(numbers(cloud, lab, name))
    return waited(lambda: len(numbers(cloud, lab, name)) > before)


def last_used(cloud, key_id):
    """Return when a key was last used, to the second; None where it never was, or is gone."""
    said = cloud.call("iam", "get_access_key_last_used", AccessKeyId=key_id)
    at = said.get("AccessKeyLastUsed", {}).get("LastUsedDate")
    return at and datetime.fromisoformat(str(at))


def has_left_it(cloud, lab):
    """True if the service has stored objects since anybody used the leaked key.

    The last use is told to the second, and the object that was stored by it is written down a moment after it: of two
    objects that come later than both, one at least was stored with another key.
    """
    objects = [at for key, at, outcome in stored(cloud, lab, lab.service) if key.isdigit() and outcome == "allowed"]
    used = last_used(cloud, leaked(lab))
    return used is None or len([at for at in objects if at >= used + timedelta(seconds=1)]) > 1


@baseline
def before(cloud):
    return {"rights": cloud.inventory()}


@check(points=20, skill="sec.secrets")
def test_the_service_left_the_leaked_key(cloud, lab):
    """The service stores objects, and not with the leaked key"""
    assert goes_on(cloud, lab, lab.service), "the service should store objects"
    assert waited(lambda: has_left_it(cloud, lab), 3.0), "the leaked key should not be in use any more"


@check(points=20, skill="sec.secrets", needs="test_the_service_left_the_leaked_key")
def test_what_runs_at_night_left_it_too(cloud, host, lab):
    """What runs at night stores its object, and not with the leaked key"""
    objects, used = len(stored(cloud, lab, lab.job)), last_used(cloud, leaked(lab))
    host.run("systemctl reset-failed %s", f"{lab.job}.service")
    host.run("systemctl start %s", f"{lab.job}.service", timeout=45)
    new = [outcome for _, _, outcome in stored(cloud, lab, lab.job)[objects:]]
    assert new == ["allowed"], f"what came of the object that {lab.job}.service stores"
    assert last_used(cloud, leaked(lab)) == used, "when the leaked key was last used"


@check(points=20, skill="sec.secrets")
def test_the_leaked_key_is_dead(cloud, lab):
    """The cloud refuses the leaked key"""
    probe = {"Bucket": lab.bucket, "Key": f"{lab.service}/probe-of-the-grader"}
    answer = cloud.attempt(
        cloud.key(leaked(lab), lab.token("leaked-secret", 40)), "s3", "put_object", **probe, Body="-"
    )
    cloud.call("s3", "delete_object", **probe)
    assert answer.refused, "the leaked key should be refused"


@check(
    points=20, skill="sec.secrets", needs=("test_the_service_left_the_leaked_key", "test_the_leaked_key_is_dead")
)  # fmt: skip
def test_not_one_number_is_missing(cloud, lab):
    """Whatever counts its objects was never refused one, was not restarted, and goes on"""
    for name in counting(lab):
        assert goes_on(cloud, lab, name), f"{name} should store objects"
        refused = [key for key, _, outcome in stored(cloud, lab, name) if outcome != "allowed" and key.isdigit()]
        assert refused == [], f"objects of {name} that were refused"
        seen = numbers(cloud, lab, name)
        # An answer that got lost is asked for again, under the same number.
        gaps = [f"{b} after {a}" for a, b in zip(seen, seen[1:], strict=False) if b not in (a, a + 1)]
        assert gaps == [], f"where the numbers of {name} do not follow each other"


@check(points=10, skill="sec.secrets", needs="test_the_service_left_the_leaked_key")
def test_keys_are_not_for_everybody(host, lab):
    """Keys can be read by root and by who needs them alone"""
    open_to = []
    secrets = set()
    for path, owner in files(lab).items():
        found = host.run("stat -c '%%a %%U %%G' %s", path).stdout.split()
        if found:
            mode, whose = int(found[0], 8), set(found[1:])
            secrets |= set(re.findall(r"[A-Za-z0-9/+]{40}", host.run("cat %s", path).stdout))
            if mode & 0o027 or whose - {"root", owner}:
                open_to.append(f"{path} is {' '.join(found)}")
    assert open_to == [], "files with a key that are for others too"
    words = " ".join(f"-e {shlex.quote(one)}" for one in sorted(secrets - {lab.token("leaked-secret", 40)}))
    copies = host.run(READABLE_BY_ALL.format(words), timeout=40).stdout.split() if words else []
    assert copies == [], "files that everybody can read, with a key that is in use"


@check(points=10, skill="sec.iam", needs="test_the_leaked_key_is_dead")
def test_rights_are_as_they_were(cloud, baseline):
    """Nobody's rights have changed, and there is nobody new"""
    found = cloud.differences(baseline["rights"], new=("*",))
    assert found == [], "rights"
