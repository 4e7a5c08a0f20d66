"""Are prices answered, also after a boot, and is the service as strict as it was?"""

import hmac
import time
from contextlib import contextmanager

from breakfix.grading import baseline, check

PATIENCE = 5.0
"""Seconds that a service may take after it was started."""

NEW_BOOT = 60
"""Seconds in which the look that follows a restart is made."""

HELD = 6
"""Seconds that the store takes longer to be filled, once: a wait that fits today's filling is then too short."""

SLOW_BOOT = """\
timeout 20 systemctl stop %s %s redis-server
systemctl reset-failed %s
systemctl start --no-block multi-user.target
n=0
until [ "$(systemctl show -p ActiveState --value %s)" = activating ] || [ $n -ge 50 ]; do
    usleep 100000
    n=$((n + 1))
done
systemctl kill -s STOP %s
sleep %s
systemctl kill -s CONT %s
n=0
until systemctl -q is-active %s || [ $n -ge 80 ]; do
    usleep 100000
    n=$((n + 1))
done
"""
"""Everything is started anew, as a boot does: with an empty store, and with whatever the boot would start."""

START_AGAIN = """\
timeout 20 systemctl stop %s
systemctl reset-failed %s
systemctl start --no-block %s
n=0
until systemctl -q is-active %s || [ $n -ge 100 ]; do
    usleep 100000
    n=$((n + 1))
done
"""

NURSES = (
    "find /etc/crontab /etc/cron.* /var/spool/cron /etc/anacrontab /etc/rc.local /etc/systemd/system"
    " /usr/lib/systemd/system /usr/local/lib/systemd /run/systemd/system"
    " -type f '(' -path '*cron*' -o -name '*.timer' -o -name rc.local ')' -exec sha256sum {} + 2>/dev/null | sort"
)


def price(lab, item):
    """The line that the service must answer with."""
    said = f"{item} {int(lab.token('price', 8), 16) % 700 + item * 3}"
    return f"{said} {hmac.new(lab.token('signing', 48).encode(), said.encode(), 'sha256').hexdigest()}"


def ask(client, lab, item):
    """What a partner is answered with; a service that was just started gets a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.run("curl -s -m 5 %s", f"http://app:{lab.port}/price/{item}")
        if answer.rc == 0 or time.monotonic() > deadline:
            return answer.stdout.strip()
        time.sleep(0.1)


def shown(host, unit, *names):
    """Properties of a unit, as systemd has them."""
    lines = host.check_output("systemctl show %s -p %s", unit, ",".join(names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def status(host, lab):
    """What the kernel says of the service's main process."""
    main = shown(host, lab.service, "MainPID")["MainPID"]
    lines = host.run("cat %s", f"/proc/{main}/status").stdout.splitlines()
    return dict(line.split(":", 1) for line in lines)


def booted(host):
    """When this boot began, in seconds."""
    shown = host.check_output("systemctl show -p UserspaceTimestamp --timestamp=unix --value")
    return int(shown.removeprefix("@"))


def just_booted(host, baseline):
    """Whether this is the look that follows a restart, so that nobody but the boot can have started anything."""
    began = booted(host)
    return began != baseline["booted"] and int(host.check_output("date +%s")) - began <= NEW_BOOT


def failures(host, lab):
    """Starts that failed since the boot."""
    said = host.check_output("journalctl -q -o cat -u %s --since %s", lab.service, f"@{booted(host)}")
    return said.count("Failed with result")


def start(host, lab):
    """How often systemd restarted the service, and how long it took to start, once the store was filled."""
    seen = shown(host, lab.service, "NRestarts", "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    filled = shown(host, f"{lab.service}-{lab.table}", "ActiveEnterTimestampMonotonic")
    began = max(int(seen["InactiveExitTimestampMonotonic"]), int(filled["ActiveEnterTimestampMonotonic"]))
    return int(seen["NRestarts"]), (int(seen["ActiveEnterTimestampMonotonic"]) - began) / 1e6


@contextmanager
def slow_boot(host, lab):
    """Start everything with a store that is filled late, and leave the service running, whatever came of it."""
    filler = f"{lab.service}-{lab.table}"
    host.run(SLOW_BOOT, lab.service, filler, lab.service, filler, filler, str(HELD), filler, lab.service, timeout=60)
    try:
        yield
    finally:
        if host.run("systemctl -q is-active %s", lab.service).rc != 0:
            host.run(START_AGAIN, *[lab.service] * 4, timeout=60)


@baseline
def before(host, lab):
    """Users, this boot, and what could nurse a service, before anything was broken."""
    stranger = host.user(lab.stranger)
    return {
        "booted": booted(host),
        "nurses": host.run(NURSES).stdout.splitlines(),
        "uid": host.user(lab.service).uid,
        "stranger": {"uid": stranger.uid, "gid": stranger.gid},
    }


@check(points=35, skill="linux.services", stable_for=2)
def test_prices_are_answered(client, lab):
    """Signed prices are answered, now and after a reboot"""
    for item in (1, 77, 200):
        assert ask(client, lab, item) == price(lab, item), f"what /price/{item} is answered with"


@check(points=15, skill="linux.services", needs="test_prices_are_answered")
def test_starts_once_and_in_time(host, lab, baseline):
    """It starts at the first attempt, and soon after the store was filled, however long that takes"""
    restarts, took = start(host, lab)
    assert restarts == 0, "times that systemd has restarted the service"
    assert took < 3, "seconds that the service took to start, once the store was filled"
    if not just_booted(host, baseline):
        return
    assert failures(host, lab) == 0, "starts of the service that failed since the boot"
    with slow_boot(host, lab):
        state = shown(host, lab.service, "ActiveState")["ActiveState"]
        assert state == "active", f"state of the service, when the store is filled {HELD} s later than usual"
        restarts, took = start(host, lab)
        assert restarts == 0, f"times that it was restarted, when the store is filled {HELD} s later than usual"
        assert took < 3, f"seconds that it took to start, when the store is filled {HELD} s later than usual"


@check(points=10, skill="linux.services", needs="test_prices_are_answered")
def test_limit_on_starts_is_kept(host, lab):
    """A broken service still comes to rest"""
    limit = shown(host, lab.service, "StartLimitBurst", "StartLimitIntervalUSec")
    assert limit["StartLimitIntervalUSec"] not in ("0", "infinity"), "the interval of the limit on starts"
    assert 0 < int(limit["StartLimitBurst"]) <= 10, "starts that are allowed within the interval"


@check(points=10, skill="linux.permissions", needs="test_prices_are_answered")
def test_runs_as_its_own_user(host, lab, baseline):
    """The service runs as its own user"""
    uids = status(host, lab).get("Uid", "").split()
    assert set(uids) == {str(baseline["uid"])}, f"user ids of the service's process, beside that of {lab.service}"


@check(points=10, skill="linux.permissions", needs="test_prices_are_answered")
def test_key_is_secret(host, lab, baseline):
    """The signing key is the same, and nobody else can read it"""
    path = f"/etc/{lab.service}/signing.key"
    same = host.file(path).content_string.strip() == lab.token("signing", 48)
    assert same, "the signing key should be the one that was there before"
    others = {"nobody": [65534, 65534], f"the group {lab.stranger}": [65534, baseline["stranger"]["gid"]],
              f"the user {lab.stranger}": [baseline["stranger"]["uid"], baseline["stranger"]["gid"]]}  # fmt: skip
    command = "setpriv --reuid=%s --regid=%s --clear-groups cat %s"
    readers = [who for who, (uid, gid) in others.items() if host.run(command, str(uid), str(gid), path).rc == 0]
    assert readers == [], "others who can read the signing key"


@check(points=10, skill="linux.permissions", needs="test_prices_are_answered")
def test_hardening_is_kept(host, lab):
    """The process still can't gain privileges, and leaves nothing for others"""
    seen = status(host, lab)
    assert seen.get("NoNewPrivs", "").strip() == "1", "NoNewPrivs of the service's process"
    mask = int(seen.get("Umask", "0").strip(), 8)
    assert f"{mask & 0o027:04o}" == "0027", "what the umask of the service's process has of 0027"


@check(points=5, skill="linux.services", needs="test_prices_are_answered")
def test_nothing_nurses_it(host, baseline):
    """No cron job, timer or rc.local was added or changed to make it work"""
    changed = sorted(set(host.run(NURSES).stdout.splitlines()) - set(baseline["nurses"]))
    assert [line.split()[-1] for line in changed] == [], "cron jobs, timers and rc.local that are new or changed"


@check(points=5, skill="linux.services", needs="test_prices_are_answered")
def test_no_issued_price_is_lost(host, lab):
    """Every price that was issued is still noted"""
    now = set(host.file(f"/var/lib/{lab.service}/issued.log").content_string.splitlines())
    lost = [n for n in range(1, 91) if f"{n} {n * 7} {lab.token('issued', 32)}" not in now]
    assert lost == [], "issued prices that are missing"
