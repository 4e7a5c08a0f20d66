"""Does the site answer, over the socket it always used, and will it after the next boot?"""

import time

from breakfix.grading import baseline, check

PATIENCE = 5.0
"""Seconds that a service may take after it was started."""

NURSES = (
    "find /etc/crontab /etc/cron.* /var/spool/cron /etc/anacrontab /etc/rc.local /etc/systemd/system"
    " /usr/lib/systemd/system /usr/local/lib/systemd /run/systemd/system"
    " -type f '(' -path '*cron*' -o -name '*.timer' -o -name rc.local ')' -exec sha256sum {} + 2>/dev/null | sort"
)


NEW_BOOT = 60
"""Seconds in which the look that follows a restart is made."""


def consignments(lab):
    """What was there from the beginning."""
    return [f"{n} {lab.token('consignment', 16)}" for n in range(1, 121)]


def fetch(client, lab):
    """What a depot is answered with; a service that was just started gets a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.run("curl -s -m 5 -w '\n%%{http_code}' %s", f"http://web:{lab.port}/{lab.service}").stdout
        body, _, status = answer.rpartition("\n")
        if status == "200" or time.monotonic() > deadline:
            return status, body.splitlines()
        time.sleep(0.1)


def ask_socket(host, lab, user):
    """The status that a local user gets from the socket; 000 where it may not connect."""
    command = (
        "setpriv --reuid=%s --regid=%s --clear-groups curl -s -m 5 -o /dev/null -w '%%{http_code}' --unix-socket %s %s"
    )
    uid = host.check_output("stat -c %%u %s", f"/var/lib/{lab.service}") if user == lab.service else user
    socket = f"/run/{lab.service}/{lab.socket}.sock"
    return host.run(command, uid, uid, socket, f"http://localhost/{lab.service}").stdout


def booted(host):
    """When this boot began, in seconds."""
    return int(host.check_output("systemctl show -p UserspaceTimestamp --timestamp=unix --value").removeprefix("@"))


@baseline
def before(host):
    """This boot, and what could nurse a service, before anything was broken."""
    return {
        "booted": booted(host),
        "nurses": host.run(NURSES).stdout.splitlines(),
    }


@check(points=40, skill="linux.services", stable_for=2)
def test_site_answers(client, lab):
    """The site answers with consignments, now and after a reboot"""
    status, lines = fetch(client, lab)
    assert status == "200", f"what /{lab.service} is answered with"
    assert lines[-1:] == consignments(lab)[-1:], "the newest consignment that is shown"


@check(points=15, skill="linux.services", needs="test_site_answers")
def test_socket_is_used(host, lab):
    """The service answers on its socket in /run, to its own user"""
    status = ask_socket(host, lab, lab.service)
    assert status == "200", f"what {lab.service} is answered with on /run/{lab.service}/{lab.socket}.sock"


@check(points=15, skill="linux.permissions", needs="test_socket_is_used")
def test_socket_is_private(host, lab):
    """Other local users can't connect to the socket"""
    status = ask_socket(host, lab, "65534")
    assert status == "000", "what the user nobody is answered with on the socket"


@check(points=10, skill="linux.permissions", needs="test_site_answers")
def test_users_are_their_own(host, lab):
    """The service runs as its own user, nginx's workers as www-data"""
    main = host.check_output("systemctl show -p MainPID --value %s", lab.service)
    service = set(host.run("ps -o user:32= -p %s -C %s", main, f"{lab.service}d").stdout.split())
    assert service == {lab.service}, f"users that {lab.service}.service runs as"
    nginx = host.check_output("ps -C nginx -o user:32=,args=").splitlines()
    workers = {line.split()[0] for line in nginx if "worker process" in line}
    assert workers == {"www-data"}, "users that nginx's workers run as"


@check(points=10, skill="linux.services", needs="test_site_answers")
def test_nothing_nurses_it(host, lab, baseline):
    """It starts at the first try at boot, with no new or changed cron job, timer or rc.local"""
    changed = sorted(set(host.run(NURSES).stdout.splitlines()) - set(baseline["nurses"]))
    assert [line.split()[-1] for line in changed] == [], "cron jobs, timers and rc.local that are new or changed"
    began = booted(host)
    # Only in the look that follows a restart has nobody but the boot started anything.
    if began == baseline["booted"] or int(host.check_output("date +%s")) - began > NEW_BOOT:
        return
    said = host.check_output("journalctl -q -o cat -u %s --since %s", lab.service, f"@{began}")
    assert said.count("Failed with result") == 0, "starts of the service that failed since the boot"


@check(points=10, skill="linux.services", needs="test_site_answers")
def test_no_consignment_is_lost(client, lab):
    """Every consignment is still answered for"""
    _, lines = fetch(client, lab)
    lost = [line for line in consignments(lab) if line not in lines]
    assert lost == [], "consignments that are missing"
