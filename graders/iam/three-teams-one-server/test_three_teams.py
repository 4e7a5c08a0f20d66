"""What can each person do in each folder, and with which rights does the service run?

Everything is tried as the person, with the groups that /etc/group gives at that moment, by the trusted toolbox's own
tools. What is tried on files that are there changes nothing in them.
"""

import re
import secrets
from contextlib import contextmanager
from shlex import quote

from breakfix.grading import baseline, check

FOLDERS = ("drafts", "handover", "books")
RIGHTS = {"drafts": ("write", "read", "nothing"), "handover": ("put", "write", "nothing"), "books": ("nothing", "nothing", "write")}  # fmt: skip
UMASKS = ("022", "027", "077")
STRANGER = ("65534", "65534", "65534")
NET_RAW = 1 << 13
CAPABILITIES = {0: "chown", 1: "dac_override", 3: "fowner", 5: "kill", 6: "setgid", 7: "setuid", 10: "net_bind_service", 12: "net_admin", 13: "net_raw", 21: "sys_admin"}  # fmt: skip


# -- who is who --------------------------------------------------------------------------------------------------------


def members(lab, place):
    """The two of a team who have always been in it."""
    return lab.people[2 * place : 2 * place + 2]


def everybody(lab):
    """Each person of a team with the place of the team, but for the one who moved."""
    return [(person, place) for place in range(3) for person in members(lab, place)]


def identity(host, name):
    """Return user, group and groups of an account, as a login would give them."""
    found = host.run("getent passwd %s", name)
    assert found.rc == 0, f"the account {name} should be there"
    uid, gid = found.stdout.split(":")[2:4]
    groups = [line.split(":") for line in host.check_output("cat /etc/group").splitlines()]
    mine = [gid, *(group[2] for group in groups if len(group) > 3 and name in group[3].split(","))]
    return uid, gid, ",".join(mine)


def as_user(host, who, script):
    """Run a script of the toolbox's tools with the rights of an account, and no others."""
    who = identity(host, who) if isinstance(who, str) else who
    return host.run("setpriv --reuid=%s --regid=%s --groups=%s sh -c %s", *who, script, timeout=30)


def able(host, who, attempts):
    """Return which of the attempts, {what: command}, succeed as an account."""
    lines = [f"({command}) </dev/null >/dev/null 2>&1 && echo {quote(what)}" for what, command in attempts.items()]
    return set(as_user(host, who, "\n".join(lines)).stdout.splitlines())


# -- what may be tried -------------------------------------------------------------------------------------------------


def found(host, folder, kind):
    return [path for path in host.check_output("find %s -type %s", folder, kind).splitlines() if path]


def looking(dirs, files):
    """Attempts to see and read."""
    return {f"list {path}": f"ls {quote(path)}" for path in dirs} | {
        f"read {path}": f"cat {quote(path)}" for path in files
    }


def changing(dirs, files):
    """Attempts to change, which leave all as it was."""
    mark = f"check-{secrets.token_hex(4)}"
    return {f"change {path}": f": >>{quote(path)}" for path in files} | {
        f"make something in {path}": f"cd {quote(path)} && mkdir {mark} && rmdir {mark} && : >{mark} && rm {mark}" for path in dirs
    }  # fmt: skip


def wanted(right, top, dirs, files):
    """Return the attempts that must succeed."""
    if right == "put":
        name = quote(f"{top}/check-{secrets.token_hex(4)}")
        return {f"put a file into {top}": f"echo x >{name}"}
    looks = looking(dirs, files) if right in ("read", "write") else {}
    return looks | (changing(dirs, files) if right == "write" else {})


def refused(right, top, dirs, files):
    """Return the attempts that must fail."""
    looks = looking(dirs, files) if right in ("put", "nothing") else {}
    changes = changing(dirs, files) if right in ("read", "nothing") else {}
    if right == "put":
        changes = {
            what: command for what, command in changing(dirs, files).items() if what != f"make something in {top}"
        }
    return looks | changes


def beyond(host, who, right, top, dirs, files):
    """Return what an account can do that it should not."""
    if right == "put":
        # Who has put a file there still owns it.
        who = identity(host, who) if isinstance(who, str) else who
        others = host.run("find %s -type f ! -user %s", top, who[0]).stdout.splitlines()
        files = [path for path in files if path in others]
    return sorted(re.sub(r"check-[0-9a-f]+", "…", what) for what in able(host, who, refused(right, top, dirs, files)))


@contextmanager
def made(host, who, top, umask, *, folders=True):
    """Have an account make files below a folder, as any program would; yield the folders and the files, or nothing."""
    base = f"{top}/check-{secrets.token_hex(6)}"
    dirs, files = ([base, f"{base}/in"], [f"{base}/one", f"{base}/in/two"]) if folders else ([], [base])
    lines = [f"umask {umask}", *(f"mkdir {quote(path)} || exit 1" for path in dirs), *(f"echo x >{quote(path)} || exit 1" for path in files)]  # fmt: skip
    try:
        yield (dirs, files) if as_user(host, who, "\n".join(lines)).rc == 0 else None
    finally:
        host.run("rm -rf %s", base)


def all_of(host, lab):
    return {name: (f"{lab.share}/{name}", found(host, f"{lab.share}/{name}", "d"), found(host, f"{lab.share}/{name}", "f")) for name in FOLDERS}  # fmt: skip


def tidy(host, lab):
    """What was put into the hand-over by an attempt can't be taken away by who put it."""
    host.run("rm -f %s/handover/check-*", lab.share)


def sums(host, lab):
    lines = host.run("find %s -type f -exec sha256sum {} +", lab.share).stdout.splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines) if "/check-" not in path}


def program(lab):
    return f"/usr/local/sbin/{lab.watch}d"


def special(host):
    """Programs that give their caller another's rights: setuid and setgid, and those with capabilities."""
    ids = host.run("find / -xdev -type f -perm /6000", timeout=30).stdout.splitlines()
    caps = host.run("getcap -r /usr /opt /srv /etc /home /root /var 2>/dev/null", timeout=30).stdout.splitlines()
    return {"ids": sorted(ids), "caps": sorted(caps)}


@baseline
def before(host, lab):
    """The files, and the programs that give rights, of the healthy world."""
    return {"sums": sums(host, lab), "program": host.check_output("sha256sum %s", program(lab)), **special(host)}


@check(points=20, skill="sec.iam")
def test_teams_can_work(host, lab):
    """Each team can do what it should with what is there"""
    unable = []
    for name, (top, dirs, files) in all_of(host, lab).items():
        for person, place in everybody(lab):
            attempts = wanted(RIGHTS[name][place], top, dirs, files)
            unable += [f"{person}: {what}" for what in sorted(set(attempts) - able(host, person, attempts))]
    tidy(host, lab)
    assert unable == [], "what somebody can't do"


@check(points=20, skill="linux.permissions")
def test_new_files_are_shared(host, lab):
    """The same holds for files and folders that anybody makes from now on, whatever the umask"""
    unable = []
    for name, (top, dirs, _) in all_of(host, lab).items():
        rights = RIGHTS[name]
        for maker, place in everybody(lab):
            if rights[place] not in ("write", "put"):
                continue
            puts = rights[place] == "put"
            for umask, where in [(umask, top) for umask in UMASKS] + [("077", deep) for deep in dirs[1:] if not puts]:
                with made(host, maker, where, umask, folders=not puts) as what:
                    if what is None:
                        unable.append(f"{maker}: make a file in {where}")
                        continue
                    unable += shared(host, lab, maker, umask, rights, what)
    assert unable == [], "what somebody can't do with what somebody else has just made"


def shared(host, lab, maker, umask, rights, what):
    """Return what others can't do with what was made, though they should."""
    dirs, files = what
    unable = []
    # Who may only read comes first: who may write ends with moving and removing.
    order = sorted(everybody(lab), key=lambda one: rights[one[1]] == "write")
    for person, place in order:
        right = rights[place]
        if person == maker or right not in ("read", "write"):
            continue
        attempts = looking(dirs, files)
        if right == "write":
            attempts |= changing(dirs, files)
            attempts |= {f"rename {path}": f"mv {quote(path)} {quote(path + '-')} && mv {quote(path + '-')} {quote(path)}" for path in files}  # fmt: skip
        can = able(host, person, attempts)
        unable += [f"{person}: {one} of {maker} with umask {umask}" for one in attempts if one not in can]
    return [re.sub(r"check-[0-9a-f]+", "…", line) for line in unable]


@check(points=15, skill="sec.iam", needs="test_teams_can_work")
def test_what_is_refused(host, lab):
    """No team can do more than it should, neither with what is there nor with what is made now"""
    can = []
    for name, (top, dirs, files) in all_of(host, lab).items():
        rights = RIGHTS[name]
        for person, place in everybody(lab):
            can += [f"{person}: {what}" for what in beyond(host, person, rights[place], top, dirs, files)]
        maker = next(
            person for person, place in everybody(lab) if rights[place] == ("put" if name == "handover" else "write")
        )
        with made(host, maker, top, "022", folders=name != "handover") as what:
            if what is None:
                can.append(f"{maker} can't make a file in {top}")
                continue
            for person, place in everybody(lab):
                if person != maker:
                    can += [f"{person}: {one}" for one in beyond(host, person, rights[place], top, *what)]
    tidy(host, lab)
    assert sorted(can) == [], "what somebody can do who should not"


@check(points=10, skill="sec.iam", stable_for=2)
def test_service_has_one_capability(client, host, hosts, lab, baseline):
    """The service answers, as its own account, with the capability for raw sockets and no other"""
    word = secrets.token_hex(6)
    echoes = asked(hosts["uplink"])
    said = client.run("curl -s -m 6 http://files:%s/line/%s", str(lab.port), word).stdout.strip()
    assert said == f"{lab.hosts['uplink'].address} says {word}", f"what /line/{word} answers"
    assert asked(hosts["uplink"]) > echoes, "uplink should have been asked"
    assert host.check_output("sha256sum %s", program(lab)) == baseline["program"], f"sum of {program(lab)}"
    pids = set(re.findall(r"pid=(\d+)", host.run("ss -Hltnp sport = :%s", str(lab.port)).stdout))
    assert len(pids) == 1, f"processes that listen on {lab.port}"
    status = host.check_output("cat /proc/%s/status", pids.pop())
    seen = {key: value.split() for key, _, value in (line.partition(":") for line in status.splitlines())}
    uid = identity(host, lab.watch)[0]
    assert seen["Uid"] == [uid] * 4, f"user ids of the process that listens on {lab.port}"
    assert "0" not in (*seen["Gid"], *seen["Groups"]), f"root's group among those of the process: {seen['Groups']}"
    held = sorted(names(int(seen["CapPrm"][0], 16) | int(seen["CapEff"][0], 16)))
    assert held == ["net_raw"], "capabilities of that process"


def asked(uplink):
    """Return how many pings the far end has seen."""
    keys, values = (line.split() for line in uplink.check_output("grep ^Icmp: /proc/net/snmp").splitlines())
    return int(values[keys.index("InEchos")])


def names(bits):
    return {CAPABILITIES.get(n, str(n)) for n in range(64) if bits >> n & 1}


@check(points=10, skill="linux.permissions")
def test_no_program_gives_rights(host, plain, lab, baseline):
    """No program gives others a right that it did not give before"""
    read = "import os\ntry: os.setuid(0)\nexcept OSError: pass\nprint(open('/etc/shadow').read()[:5])"
    person = members(lab, 1)[0]
    got = [
        python
        for python in ("/usr/bin/python3", f"/usr/local/lib/{lab.watch}/python3")
        if "root" in plain("runuser -u %s -- %s -c %s", person, python, read).stdout
    ]
    assert got == [], f"programs by which {person} reads /etc/shadow"
    now = special(host)
    assert [path for path in now["ids"] if path not in baseline["ids"]] == [], "new setuid and setgid programs"
    others = [identity(host, name) for name in (*lab.people, lab.keeper)] + [STRANGER]
    open_to_all = []
    for line in now["caps"]:
        path = line.rpartition(" ")[0]
        if line not in baseline["caps"] and any(able(host, who, {"run": f"test -x {quote(path)}"}) for who in others):
            open_to_all.append(line)
    assert open_to_all == [], "programs with capabilities that others can run"


@check(points=10, skill="sec.iam")
def test_who_moved_has_moved(host, lab):
    """Who moved can do what the new team can, and nothing of the old one's"""
    person = lab.people[6]
    unable, can = [], []
    for name, (top, dirs, files) in all_of(host, lab).items():
        attempts = wanted(RIGHTS[name][0], top, dirs, files)
        unable += sorted(set(attempts) - able(host, person, attempts))
        can += beyond(host, person, RIGHTS[name][0], top, dirs, files)
    tidy(host, lab)
    assert unable == [], f"what {person} can't do, as the new team can"
    assert can == [], f"what {person} can do, and should not"


@check(points=5, skill="sec.iam", needs="test_teams_can_work")
def test_backup_reads_all(host, lab):
    """The backup's account reads all of it, also what is made now, and changes nothing"""
    unable, can = [], []
    for name, (top, dirs, files) in all_of(host, lab).items():
        rights = RIGHTS[name]
        maker = next(person for person, place in everybody(lab) if rights[place] in ("write", "put"))
        with made(host, maker, top, "077", folders=rights[0] != "put") as what:
            new_dirs, new_files = what or ([], [])
            attempts = looking(dirs + new_dirs, files + new_files)
            unable += sorted(set(attempts) - able(host, lab.keeper, attempts))
            can += sorted(able(host, lab.keeper, changing(dirs + new_dirs, files + new_files)))
    assert unable == [], f"what {lab.keeper} can't do"
    assert can == [], f"what {lab.keeper} can do, and should not"


@check(points=5, skill="sec.iam", needs="test_teams_can_work")
def test_strangers_stay_out(host, lab):
    """All others can do nothing there, and nothing can be written by everybody"""
    writable = host.check_output("find %s -perm -o+w ! -type l", lab.share).splitlines()
    assert writable == [], "what everybody may write"
    can = []
    for top, dirs, files in all_of(host, lab).values():
        for name, who in (("nobody", STRANGER), (lab.watch, identity(host, lab.watch))):
            can += [f"{name}: {what}" for what in beyond(host, who, "nothing", top, dirs, files)]
    assert can == [], "what others can do"


@check(points=5, skill="linux.permissions", needs="test_teams_can_work")
def test_nothing_is_lost(host, lab, baseline):
    """Every file is still there, unchanged"""
    now = sums(host, lab)
    changed = [path for path, digest in baseline["sums"].items() if now.get(path) != digest]
    assert sorted(changed) == [], "files that are gone or changed"
    new = {
        "drafts/2024/spring/new-1.txt": f"new 1 {lab.token('new', 12)}",
        "drafts/2024/new-2.txt": f"new 2 {lab.token('new', 12)}",
        "handover/late-1.txt": f"late 1 {lab.token('late', 12)}",
        "handover/late-2.txt": f"late 2 {lab.token('late', 12)}",
        "books/2024/june.csv": f"1,{lab.token('june', 12)}",
    }
    gone = [path for path, text in new.items() if host.run("cat %s/" + path, lab.share).stdout.strip() != text]
    assert gone == [], f"files of the last days below {lab.share} that are gone or changed"
