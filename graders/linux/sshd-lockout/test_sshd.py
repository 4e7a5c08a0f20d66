"""Do those who should get in, and nobody else?  Asked with real logins; the keys never leave the client."""

import re
import time

from breakfix.grading import baseline, check

KEYS = "/root/keys"
SSHD = "/usr/sbin/sshd"


def users(lab):
    return (lab.deploy, lab.oncall, lab.gone, "root")


def keys_of_the_one_who_left(lab):
    """Their own, which only their account takes, and the revoked one, which once opened the deploy user's."""
    return (lab.gone, f"{lab.gone}-laptop")


def attempt(client, lab, user, keys, *options):
    """Try to log in with each of the keys; return what was heard: the user's name from within, or the refusal."""
    offered = " ".join(f"-i {KEYS}/{key}" for key in keys)
    answer = client.run(
        f"ssh -F none {offered} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=20 "
        f"-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {' '.join(options)} -p %s %s id -un",
        str(lab.port),
        f"{user}@{lab.hosts['gate'].address}",
        timeout=30,
    )
    heard = (answer.stdout if answer.rc == 0 else answer.stderr).strip().splitlines()
    return heard[-1] if heard else f"nothing (status {answer.rc})"


def logged_in(client, lab, user):
    """Try until it works or two seconds are over: a reload may still be under way."""
    deadline = time.monotonic() + 2
    while (heard := attempt(client, lab, user, [user])) != user and time.monotonic() < deadline:
        time.sleep(0.1)
    return heard


def host_keys(client, lab):
    seen = client.run(
        "ssh-keyscan -T 20 -p %s -t ed25519,ecdsa %s 2>/dev/null",
        str(lab.port),
        lab.hosts["gate"].address,
        timeout=50,
    )
    return sorted(line.split(" ", 1)[1] for line in seen.stdout.splitlines() if not line.startswith("#"))


@baseline
def keys(client, plain, host, lab):
    """Make everybody's keys where no candidate comes, and give the host the public halves."""
    other = {"ed25519": "ecdsa", "ecdsa": "ed25519"}[lab.deploy_kind]
    names = (*users(lab), f"{lab.gone}-laptop")
    make = "".join(
        f"ssh-keygen -q -t {lab.deploy_kind if name == lab.deploy else other} -N '' -C {name} -f {KEYS}/{name} && "
        for name in names
    )
    files = " ".join(f"{KEYS}/{name}.pub" for name in names)
    made = client.check_output(f"rm -rf {KEYS}; mkdir -m 700 {KEYS} && {make} cat {files}").splitlines()
    public = dict(zip(names, made, strict=True))
    # The one who left once had a key in the deploy user's file as well, as teams do.
    laptop = public[f"{lab.gone}-laptop"]
    held = {**public, lab.deploy: f"{laptop}\n{public[lab.deploy]}"}
    places = {user: "/root/.ssh" if user == "root" else f"/home/{user}/.ssh" for user in users(lab)}
    give = "".join(
        f"install -d -m 700 -o {user} -g {user} {place} && printf '%s\\n' '{held[user]}' >{place}/authorized_keys && "
        f"chown {user}: {place}/authorized_keys && "
        for user, place in places.items()
    )
    done = plain(f"{give} echo '{laptop}' >/etc/ssh/revoked_keys")
    assert done.rc == 0, f"everybody's key should be in place: {done.stderr}"
    known = host.check_output("cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    return {
        "host_keys": sorted(" ".join(line.split()[:2]) for line in known),
        "sshd": host.check_output(f"sha256sum {SSHD}"),
    }


@check(points=25, skill="linux.permissions", stable_for=2)
def test_deploy_gets_in(client, lab):
    """The deploy user logs in with the key it always had"""
    assert logged_in(client, lab, lab.deploy) == lab.deploy, f"what {lab.deploy} hears"


@check(points=20, skill="linux.permissions", stable_for=2)
def test_on_call_gets_in(client, lab):
    """The engineer on call logs in with the key they always had"""
    assert logged_in(client, lab, lab.oncall) == lab.oncall, f"what {lab.oncall} hears"


@check(points=20, skill="linux.permissions", needs=("test_deploy_gets_in", "test_on_call_gets_in"))
def test_the_one_who_left_stays_out(client, lab):
    """No key of the one who left opens an account"""
    keys = keys_of_the_one_who_left(lab)
    opened = [user for user in users(lab) if attempt(client, lab, user, keys) == user]
    assert opened == [], f"accounts that a key of {lab.gone} opens"


@check(points=10, skill="linux.services", needs="test_deploy_gets_in")
def test_no_passwords(client, lab):
    """Nobody is offered a password"""
    offered = {}
    for user in users(lab):
        heard = attempt(client, lab, user, [user], "-o PreferredAuthentications=none")
        named = re.search(r"Permission denied \((.*)\)", heard)
        offered[user] = named[1] if named else heard
    assert offered == dict.fromkeys(users(lab), "publickey"), "ways to log in that are offered to each user"


@check(points=10, skill="linux.services", needs="test_deploy_gets_in")
def test_root_stays_out(client, lab):
    """Root can't log in over SSH"""
    heard = attempt(client, lab, "root", ["root", lab.deploy, lab.oncall])
    assert heard != "root", "what is heard when root logs in with a key"
    assert "Permission denied" in heard, f"sshd should refuse root (heard: {heard})"


@check(points=5, skill="linux.services", needs="test_deploy_gets_in")
def test_host_is_the_same(client, lab, baseline):
    """The host presents the host keys that its clients know"""
    assert host_keys(client, lab) == baseline["host_keys"], "host keys that are presented"


@check(points=10, skill="linux.permissions", needs="test_deploy_gets_in")
def test_only_deploy_writes_its_keys(host, plain, lab, baseline):
    """The deploy user's home and keys can be written by itself and root alone, and StrictModes is on"""
    home = f"/home/{lab.deploy}"
    ours = f"! -user root ! -user {lab.deploy}"
    places = f"{home} {home}/.ssh {home}/.ssh/authorized_keys"
    loose = host.run(f"find {places} -maxdepth 0 \\( -perm /0022 -o {ours} \\) 2>/dev/null").stdout.split()
    assert loose == [], "places that others may write"
    # What sshd makes of its files only sshd can say; so it must be Debian's, started without a setting of its own.
    assert host.check_output("sha256sum %s", SSHD) == baseline["sshd"], "sshd itself"
    started = [line for line in host.run("ps -C sshd -o args=").stdout.splitlines() if re.search(r"\s-[of]", line)]
    assert started == [], "sshd started with settings that are not in its files"
    who = f"user={lab.deploy},host=client,addr={lab.hosts['gate'].address}"
    modes = re.findall(r"^strictmodes (.*)$", plain(f"{SSHD} -T -C %s", who).stdout, re.MULTILINE)
    assert modes == ["yes"], "StrictModes, as sshd reads it"
