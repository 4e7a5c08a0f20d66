"""Is the intruder gone for good, is the evidence whole, and does everything that belongs here go on?"""

import re
import time

from breakfix.grading import baseline, check

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"
OWNERS = {"anna": "anna@laptop", "bruno": "bruno@desk", "carla": "carla@laptop"}


# -- what is known from the seed ---------------------------------------------------------------------------------------


def evidence(lab):
    return f"/root/evidence/{lab.case}"


def planted(lab):
    """Files of the intruder's own, which are there before anything of it is switched on."""
    units = "/etc/systemd/system"
    return [
        f"/usr/lib/{lab.unit}/{lab.unit}",
        f"{units}/{lab.unit}.service",
        f"/usr/lib/{lab.helper}/{lab.helper}",
        f"{units}/{lab.helper}.service",
        f"{units}/{lab.helper}.timer",
        f"/etc/profile.d/{lab.hook}.sh",
        lab.store,
    ]


def keys_file(lab):
    return f"/home/{lab.account}/.ssh/authorized_keys"


def cron_file(lab):
    return f"/etc/cron.d/{lab.app}-tidy"


def ours(lab):
    """Files of the inventory that the intruder did not touch."""
    return [
        f"/etc/nginx/conf.d/{lab.app}.conf",
        "/srv/www/index.html",
        f"/etc/profile.d/{lab.app}-prompt.sh",
        f"/etc/systemd/system/{lab.app}-report.service",
        f"/etc/systemd/system/{lab.app}-report.timer",
        f"/usr/local/bin/{lab.app}-report",
        f"/usr/local/bin/{lab.app}-tidy",
        f"/usr/local/bin/{lab.app}-probe",
        "/etc/passwd",
        "/etc/group",
        "/root/inventory.txt",
    ]


# -- how we look -------------------------------------------------------------------------------------------------------


def sums(host, paths):
    """SHA-256 by path; a file that is not there is not in the answer."""
    if not paths:
        return {}
    lines = host.run("sha256sum " + " ".join(quoted(path) for path in paths)).stdout.splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def special(host):
    """Every file with setuid, setgid or a capability, and which."""
    bits = host.run(
        "find / /tmp /run /dev/shm -xdev '(' -path /proc -o -path /sys -o -path /toolbox ')' -prune -o "
        "-type f -perm /6000 -exec stat -c '%a %n' {} +"
    ).stdout.splitlines()
    capable = host.run(
        "getcap -r /usr /etc /var /opt /root /home /srv /tmp /run /mnt /media /boot /dev/shm 2>/dev/null"
    ).stdout.splitlines()
    return sorted({*bits, *capable})


def files_below(host, folder):
    return host.run("find %s -type f", folder).stdout.splitlines()


@baseline
def before(host, client, lab):
    """What everything was like, and what the intruder's files look like; those are there and asleep."""
    found = sums(host, [*planted(lab), keys_file(lab), cron_file(lab), "/usr/bin/dash", "/usr/bin/perl"])
    assert len(found) == 11, "the intruder's files"
    assert client.run("curl -sf -m 5 %s", f"http://web:{lab.port}/").rc == 0, "the site answers"
    return {
        "planted": found,
        "special": special(host),
        "ours": sums(host, ours(lab)),
        "site": client.check_output("curl -sf -m 5 %s", f"http://web:{lab.port}/"),
    }


@check(points=20, skill="incident.triage")
def test_beacon_is_silent(client, lab):
    """Nothing on the host connects to the intruder's server any more"""
    # Each connection is one line of the listener; the beacon makes one a second.
    heard = client.run(
        "timeout 5 nc -l -k -v -n -p %s 2>&1 </dev/null | grep -c '^Connection received'", str(lab.beacon_port)
    ).stdout
    assert heard.strip() == "0", "connections to the intruder's port in 5 s"


@check(points=20, skill="incident.triage", needs="test_beacon_is_silent")
def test_nothing_comes_back(host, plain, lab):
    """Nothing that was planted is left in its place, and a login of root does not bring it back"""
    plain("timeout 5 bash -lc true")
    time.sleep(1)
    paths = [*planted(lab), lab.suid_at, lab.cap_at]
    # What is masked or emptied does no harm.
    left = [path for path in paths if host.run("find %s -maxdepth 0 -type f -size +0", path).stdout.strip()]
    assert left == [], "planted files that are there after root has logged in"
    running = host.run("systemctl is-active %s %s", f"{lab.unit}.service", f"{lab.helper}.timer").stdout.split()
    assert "active" not in running, "state of the planted units"


@check(points=10, skill="linux.permissions", needs="test_beacon_is_silent")
def test_no_special_rights(host, baseline):
    """No file has setuid, setgid or a capability that had none before"""
    more = sorted(set(special(host)) - set(baseline["special"]))
    assert more == [], "files with special rights that are new"


@check(points=10, skill="sec.audit", needs="test_beacon_is_silent")
def test_only_known_keys(client, host, lab):
    """The inventory's keys open the account, and no other"""
    asked = "sh -c 'cat /home/*/.ssh/authorized_keys* /root/.ssh/authorized_keys* 2>/dev/null'"
    text = host.run(asked).stdout
    assert text.count(lab.token("key-guest", 43)) == 0, "the intruder's key in the files of keys"
    lines = [" ".join(line.split()) for line in host.run("cat %s", keys_file(lab)).stdout.splitlines()]
    wanted = [f"{KEY}{lab.token(f'key-{owner}', 43)}" for owner in OWNERS]
    assert [key[-8:] for key in wanted if not any(line.startswith(key) for line in lines)] == [], (
        "ends of good keys that are gone"
    )
    blobs = set(re.findall(r"AAAA[0-9A-Za-z+/=]+", text))
    assert len(blobs) == len(wanted), "keys that may log in"
    # sshd passes over a file of keys that somebody else owns or may write.
    owners = {
        host.run("stat -c %%U:%%a %s", path).stdout.strip() for path in (keys_file(lab), f"/home/{lab.account}/.ssh")
    }
    wrong = sorted(
        one for one in owners if one.split(":")[0] not in (lab.account, "root") or int(one.split(":")[1], 8) & 0o022
    )
    assert wrong == [], "owners and modes with which sshd does not read the keys"


def methods(client, lab):
    """How sshd lets people in: it says so when it refuses."""
    done = client.run(
        "ssh -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        "-o PreferredAuthentications=none %s true",
        f"{lab.account}@web",
    )
    found = re.search(r"Permission denied \((.*)\)", done.stderr)
    return sorted(found[1].split(",")) if found else [done.stderr.strip()[-200:]]


@check(points=5, skill="sec.audit", needs="test_beacon_is_silent")
def test_no_passwords_over_ssh(client, lab):
    """Over ssh one gets in with a key, and not with a password"""
    assert methods(client, lab) == ["publickey"], "ways in that sshd offers"


@check(points=5, skill="sec.audit", needs="test_beacon_is_silent")
def test_cron_job_is_ours_alone(host, lab):
    """The cron file has our job in it, and nothing else; cron runs"""
    lines = [line.split() for line in host.run("cat %s", cron_file(lab)).stdout.splitlines()]
    jobs = [" ".join(line) for line in lines if line and not line[0].startswith("#")]
    assert jobs == [f"23 * * * * www-data /usr/local/bin/{lab.app}-tidy"], f"jobs in {cron_file(lab)}"
    assert host.service("cron").is_running, "cron should run"
    assert host.service("cron").is_enabled, "cron should be enabled"


@check(points=15, skill="incident.triage", needs="test_beacon_is_silent")
def test_evidence_is_whole(host, lab, baseline):
    """There is an unmodified copy of each file that was planted or changed"""
    names = {**{path: path for path in baseline["planted"]}, "/usr/bin/dash": lab.suid_at, "/usr/bin/perl": lab.cap_at}
    kept = set(sums(host, files_below(host, evidence(lab))).values())
    missing = sorted(names[path] for path, digest in baseline["planted"].items() if digest not in kept)
    assert missing == [], f"files of which there is no unmodified copy in {evidence(lab)}"


@check(points=5, skill="incident.triage", needs="test_evidence_is_whole")
def test_list_of_sums(host, lab, baseline):
    """The list of checksums agrees with the copies, and has all of them"""
    folder = evidence(lab)
    lines = host.run("cat %s", f"{folder}/SHA256SUMS").stdout.splitlines()
    listed = [found for line in lines if (found := re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line))]
    assert len(listed) == len([line for line in lines if line.strip()]), (
        "lines of SHA256SUMS that are one of sha256sum's"
    )
    paths = {(found[2] if found[2].startswith("/") else f"{folder}/{found[2]}"): found[1] for found in listed}
    real = sums(host, list(paths))
    assert [path for path, digest in paths.items() if real.get(path) != digest] == [], (
        "files that differ from their sum in SHA256SUMS"
    )
    assert len(set(baseline["planted"].values()) - set(paths.values())) == 0, (
        "planted or changed files that SHA256SUMS does not list"
    )


@check(points=5, skill="sec.audit", needs="test_beacon_is_silent")
def test_source_is_named(host, lab):
    """It is said from where the intruder came, and as whom"""
    said = host.run("cat %s", f"{evidence(lab)}/source.txt").stdout.split()
    assert said == [lab.source, lab.account], "address and account in source.txt"


@check(points=5, skill="linux.permissions", needs="test_beacon_is_silent")
def test_ours_goes_on(client, host, lab, baseline):
    """Site, timer and in-house programs are what they were"""
    page = client.run("curl -sf -m 5 %s", f"http://web:{lab.port}/").stdout.strip()
    assert page == baseline["site"], "what the site answers with"
    now = sums(host, ours(lab))
    changed = sorted(path for path, digest in baseline["ours"].items() if now.get(path) != digest)
    assert changed == [], "files of the inventory that are gone or changed"
    lost = sorted(set(baseline["special"]) - set(special(host)))
    assert lost == [], "files that had special rights before the break-in, and lost them"
    assert host.run("systemctl is-active %s", f"{lab.app}-report.timer").stdout.strip() == "active", (
        "state of our timer"
    )
    assert host.service("nginx").is_enabled, "nginx should be enabled"
