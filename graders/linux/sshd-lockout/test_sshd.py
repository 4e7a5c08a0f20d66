"""Do those who should get in, and nobody else?  Asked with real logins; the keys never leave the client."""

import ipaddress
import itertools
import re
import secrets
import time
from fnmatch import fnmatchcase

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


def conditions(host):
    """Return the words of all Match lines, in the files that sshd reads: read by us, not by the host's tools."""
    todo, words = ["/etc/ssh/sshd_config"], []
    for _ in range(50):
        if not todo:
            break
        path = todo.pop()
        path = path if path.startswith("/") else f"/etc/ssh/{path}"
        # Include takes patterns, so those stay patterns for the shell.
        quoted = re.sub(r"[^\w./*?\[\]-]", lambda found: "\\" + found[0], path)
        for line in host.run(f"cat {quoted} 2>/dev/null").stdout.splitlines():
            key, *rest = re.split(r"[\s=\"']+", line.strip(" \t\"'"))
            if key.lower() == "include":
                todo += filter(None, rest)
            elif key.lower() == "match":
                words += [word.lstrip("!") for word in ",".join(rest).split(",")]
    return sorted(set(filter(None, words)))


def an_address(word):
    """Return an address that a word of a Match line is true of, or nothing where it is no address."""
    stars = 4 - len(word.split("."))
    whole = word.replace("*", ".".join(["1"] * (stars + 1)), 1) if stars >= 0 and word != "*" else word
    try:
        network = ipaddress.ip_network(whole.replace("*", "1").replace("?", "1"), strict=False)
    except ValueError:
        return None
    return str(network[1] if network.num_addresses > 1 else network[0])


def accounts(host):
    """Return each account's groups, by name."""
    lines = [line.split(":") for line in host.check_output("cat /etc/passwd").splitlines()]
    groups = [line.split(":") for line in host.check_output("cat /etc/group").splitlines()]
    return {
        user[0]: {group[0] for group in groups if len(group) > 3 and (group[2] == user[3] or user[0] in group[3].split(","))}
        for user in lines
        if len(user) > 3
    }  # fmt: skip


def named_in_conditions(host):
    """Return the accounts that a Match line names, by themselves or by a group of theirs."""
    words = conditions(host)
    return sorted(
        user
        for user, groups in accounts(host).items()
        if any(word != "*" and fnmatchcase(name, word) for word in words for name in (user, *groups))
    )[:20]


def connections(host, lab):
    """Return what to ask sshd about: who comes from where, with something that each Match line is true of."""
    words = conditions(host)
    gate = lab.hosts["gate"].address
    # Strangers are drawn anew, so that no exception is made for them alone.
    one, two, three = (secrets.randbelow(200) + 20 for _ in range(3))
    outside = f"{one}.{two}.{three}.7"
    who = sorted({*users(lab), f"u{secrets.token_hex(4)}", *named_in_conditions(host)})
    named = [address for word in words if (address := an_address(word))]
    plain_words = [word.replace("*", "x").replace("?", "x") for word in words if not an_address(word)]
    sources = ["127.0.0.1", f"10.{one}.{two}.{three}", outside, f"2001:db8:{one}:{two}::7", *named]
    ports = sorted({str(lab.port), *(word for word in words if word.isdecimal())})
    seen = [
        *((source, source, gate, port) for source in sources for port in ports),
        *((outside, word, gate, ports[0]) for word in plain_words),
        *((outside, outside, address, ports[0]) for address in ("127.0.0.1", *named)),
    ]
    return [
        f"user={user},host={name},addr={source},laddr={local},lport={port}"
        for user, (source, name, local, port) in itertools.product(who, dict.fromkeys(seen))
    ]


def in_force(plain, asked):
    """Return the settings that sshd would use for each connection."""
    keys = "passwordauthentication|kbdinteractiveauthentication|authenticationmethods|permitrootlogin|allowgroups|allowusers"
    said = plain(
        f"printf '%%s\\n' %s | while read -r c; do echo \"@ $c\"; {SSHD} -T -C \"$c\" 2>/dev/null; done | grep -E '^(@|{keys}) '",
        "\n".join(asked),
        timeout=60,
    ).stdout
    found = {connection: {} for connection in asked}
    for block in said.split("@ ")[1:]:
        connection, *lines = block.splitlines()
        found[connection] = settings = {}
        for line in lines:
            key, _, value = line.partition(" ")
            settings[key] = [*settings.get(key, []), *value.split()]
    return found


def takes_a_password(settings):
    """Say whether a password alone opens, or is asked for first: what the client is offered as a way in."""
    on = {
        method
        for method, key in (("password", "passwordauthentication"), ("keyboard-interactive", "kbdinteractiveauthentication"))
        if settings.get(key) != ["no"]
    }  # fmt: skip
    lists = settings.get("authenticationmethods", ["any"])
    return bool(on) and (lists == ["any"] or any(way.split(",")[0].split(":")[0] in on for way in lists))


def lets_root_in(settings, groups):
    """Say whether root is not refused for being root, nor for not being on a list."""

    def on_list(key, names):
        return key not in settings or any(fnmatchcase(name, word) for word in settings[key] for name in names)

    return (
        settings.get("permitrootlogin") != ["no"] and on_list("allowgroups", groups) and on_list("allowusers", ["root"])
    )


def assert_sshd_speaks_for_itself(host, baseline):
    """What sshd makes of its files only sshd can say; so it must be Debian's, started without a setting of its own."""
    assert host.check_output("sha256sum %s", SSHD) == baseline["sshd"], "sshd itself"
    started = [line for line in host.run("ps -C sshd -o args=").stdout.splitlines() if re.search(r"\s-[of]", line)]
    assert started == [], "sshd started with settings that are not in its files"


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
def test_no_passwords(client, host, plain, lab, baseline):
    """Nobody is offered a password, wherever they come from"""
    offered = {}
    tried = sorted({*users(lab), *named_in_conditions(host)})
    for user in tried:
        heard = attempt(client, lab, user, [user], "-o PreferredAuthentications=none")
        named = re.search(r"Permission denied \((.*)\)", heard)
        offered[user] = named[1] if named else heard
    assert offered == dict.fromkeys(tried, "publickey"), "ways to log in that are offered to each user"
    # The client has one address; what is offered to others, sshd says.
    assert_sshd_speaks_for_itself(host, baseline)
    asked = connections(host, lab)
    assert len(asked) <= 400, f"sshd should tell apart fewer connections than can be asked for (seen: {len(asked)})"
    taken = [connection for connection, settings in in_force(plain, asked).items() if takes_a_password(settings)]
    assert taken[:5] == [], "connections from elsewhere for which sshd takes a password"


@check(points=10, skill="linux.services", needs="test_deploy_gets_in")
def test_root_stays_out(client, host, plain, lab, baseline):
    """Root can't log in over SSH, wherever it comes from"""
    heard = attempt(client, lab, "root", ["root", lab.deploy, lab.oncall])
    assert heard != "root", "what is heard when root logs in with a key"
    assert "Permission denied" in heard, f"sshd should refuse root (heard: {heard})"
    assert_sshd_speaks_for_itself(host, baseline)
    asked = [connection for connection in connections(host, lab) if connection.startswith("user=root,")][:400]
    groups = accounts(host).get("root", set())
    opened = [connection for connection, settings in in_force(plain, asked).items() if lets_root_in(settings, groups)]
    assert opened[:5] == [], "connections from elsewhere for which sshd lets root in"


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
    assert_sshd_speaks_for_itself(host, baseline)
    who = f"user={lab.deploy},host=client,addr={lab.hosts['gate'].address}"
    modes = re.findall(r"^strictmodes (.*)$", plain(f"{SSHD} -T -C %s", who).stdout, re.MULTILINE)
    assert modes == ["yes"], "StrictModes, as sshd reads it"
