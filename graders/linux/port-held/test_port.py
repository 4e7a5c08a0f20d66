"""Does the service have its port, for good, and does the feed beside it go on?"""

import time

from breakfix.grading import baseline, check

PATIENCE = 5.0
"""Seconds that a service may take after it was started."""

NURSES = (
    "find /etc/crontab /etc/cron.* /var/spool/cron /etc/anacrontab /etc/rc.local /etc/systemd/system"
    " /usr/lib/systemd/system /usr/local/lib/systemd /run/systemd/system"
    " -type f '(' -path '*cron*' -o -name '*.timer' -o -name rc.local ')' -exec grep -H '^[^#]' {} + 2>/dev/null"
)


def table(lab, what, count):
    """What the service or the feed had from the beginning."""
    return [f"{n} {lab.token(what, 16)}" for n in range(1, count + 1)]


def fetch(client, url):
    """What is answered; a service that was just started gets a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.run("curl -s -m 2 -w '\n%%{http_code}' %s", url).stdout
        body, _, status = answer.rpartition("\n")
        if status == "200" or time.monotonic() > deadline:
            return status, body.splitlines()
        time.sleep(0.1)


def listeners(host, port):
    """User ids of those who listen on a port; ss says none where it is root."""
    lines = host.check_output("ss -H -ltne 'sport = :%s'", str(port)).splitlines()
    return [next((word[4:] for word in line.split() if word.startswith("uid:")), "0") for line in lines]


def holders(host, lab):
    """Process ids of the old keeper's helpers."""
    return set(host.run("ps -C %s -o pid=", lab.holder).stdout.split())


@baseline
def before(host, lab):
    """Users, and what could nurse a service, before anything was broken."""
    users = {name: host.user(name).uid for name in (lab.service, lab.feed)}
    return {"nurses": host.run(NURSES).stdout.splitlines(), "uids": users}


@check(points=35, skill="linux.services", stable_for=3)
def test_service_answers(client, lab):
    """The service answers, now and after a reboot"""
    status, lines = fetch(client, f"http://web:{lab.port}/{lab.service}")
    assert status == "200", f"what /{lab.service} on port {lab.port} is answered with"
    assert lines[-1:] == table(lab, "entry", 150)[-1:], "the newest entry that is shown"


@check(points=20, skill="linux.processes", needs="test_service_answers", stable_for=2)
def test_feed_goes_on(client, lab):
    """The feed beside it goes on"""
    status, lines = fetch(client, f"http://web:{lab.feed_port}/{lab.feed}")
    assert status == "200", f"what /{lab.feed} on port {lab.feed_port} is answered with"
    assert lines == table(lab, "feed", 40), "the feed's table"


@check(points=10, skill="linux.services", needs="test_service_answers")
def test_unit_has_the_port(host, lab, baseline):
    """The service's own unit has the port, as the service's own user"""
    state = host.check_output("systemctl show -p ActiveState --value %s", lab.service)
    assert state == "active", f"state of {lab.service}.service"
    main = host.check_output("systemctl show -p MainPID --value %s", lab.service)
    own = str(baseline["uids"][lab.service])
    assert host.run("ps -o uid= -p %s", main).stdout.split() == [own], f"user ids of {lab.service}.service's process"
    assert listeners(host, lab.port) == [own], f"user ids that listen on port {lab.port}"


@check(points=15, skill="linux.processes", needs="test_service_answers")
def test_nothing_is_left_of_the_old(host, lab):
    """Nothing is defunct, and nobody waits for the port or is started again and again"""
    deadline = time.monotonic() + PATIENCE
    before, now = set(), holders(host, lab)
    while before != now and time.monotonic() < deadline:
        time.sleep(1)
        before, now = now, holders(host, lab)
    assert before == now, f"process ids of {lab.holder}, a second later"
    names = host.check_output("ps -e -o stat=,comm=").splitlines()
    defunct = [line.split()[1] for line in names if line.startswith("Z") and line.split()[1].startswith(lab.service)]
    assert defunct == [], "processes that are defunct"
    # Each job that the old keeper has keeps one of these; the feed may go on having its own.
    assert len(now) <= 1, f"processes {lab.holder} that are left"


@check(points=5, skill="linux.permissions", needs="test_feed_goes_on")
def test_feed_is_its_own_user(host, lab, baseline):
    """The feed still runs as its own user"""
    uids = set(host.run("ps -C %s -o uid=", f"{lab.feed}d").stdout.split())
    assert uids <= {str(baseline["uids"][lab.feed])}, f"user ids that {lab.feed}d runs as"


@check(points=5, skill="linux.services", needs="test_service_answers")
def test_nothing_nurses_it(host, baseline):
    """No cron job, timer or line in rc.local was added"""
    added = sorted(set(host.run(NURSES).stdout.splitlines()) - set(baseline["nurses"]))
    assert added == [], "lines in cron jobs, timers and rc.local that are new"


@check(points=10, skill="linux.services", needs="test_service_answers")
def test_no_entry_is_lost(client, lab):
    """Every entry is still answered with"""
    _, lines = fetch(client, f"http://web:{lab.port}/{lab.service}")
    lost = [line for line in table(lab, "entry", 150) if line not in lines]
    assert lost == [], "entries that are missing"
