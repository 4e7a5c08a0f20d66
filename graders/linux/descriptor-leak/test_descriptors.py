"""Are prices answered for good, with a flat number of open files and no reservation lost?"""

import re
import time
from hashlib import sha256

from breakfix.grading import check

BATCH = 120
DRIVE = 600
AT_ONCE = 4
NO_LIMIT = 1 << 30
NEW = f"check-{time.time_ns()}"


def url(lab, path):
    return f"http://web:{lab.port}{path}"


def until(ask, good, patience=5.0):
    """Ask until the answer is good or patience ends; return the last answer."""
    deadline = time.monotonic() + patience
    while not good(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def wait_for_port(client, lab):
    # After a restart of the host.
    until(lambda: client.run("curl -s -m 5 -o /dev/null %s", url(lab, "/status")).rc, lambda rc: rc != 7)


def asking(lab, count):
    """Return the command that asks for prices, several at a time, and prints the statuses."""
    one = f"curl -s -m 10 -o /dev/null -w '%{{http_code}}\\n' '{url(lab, '/price/')}[1-{count // AT_ONCE}]'"
    return " ".join([f"{one} &"] * AT_ONCE) + " wait"


def kept_in_file(host, lab):
    return host.run("cat %s", f"/var/lib/{lab.service}/reservations").stdout.splitlines()


def to_spare(host, pids):
    """Return how many more files the process may open that has the fewest left."""
    spare = [NO_LIMIT]
    for pid in pids:
        limit = host.run("awk '/^Max open files/ { print $4 }' /proc/%s/limits", str(pid)).stdout.strip()
        spare.append(int(limit) - open_files(host, [pid]) if limit.isdigit() else NO_LIMIT)
    return min(spare)


@check(points=25, skill="linux.processes", stable_for=2)
def test_prices_are_answered(client, lab):
    """Each question for a price is answered with 200"""
    wait_for_port(client, lab)
    statuses = client.run(asking(lab, BATCH), timeout=60).stdout.split()
    seen = {status: statuses.count(status) for status in sorted(set(statuses))}
    assert seen == {"200": BATCH}, f"answers to {BATCH} questions for a price"


@check(points=10, skill="linux.networking", needs="test_prices_are_answered")
def test_prices_are_right(client, lab):
    """The prices are those that the price list has"""
    items = [sha256(f"{NEW}/{n}".encode()).digest()[0] % 200 + 1 for n in range(6)]
    answers = [client.run("curl -s -m 5 %s", url(lab, f"/price/{item}")).stdout.strip() for item in items]
    assert answers == [f"{item} {price(lab, item)}" for item in items], "some prices"


def price(lab, item):
    cents = int(sha256(f"{lab.token('prices')}/{item}".encode()).hexdigest()[:4], 16)
    return f"{cents // 100}.{cents % 100:02}"


def listener(host, lab):
    """Return the ids of the users that listen on the port."""
    sockets = host.run(f"ss -ltneH 'sport = :{lab.port}'").stdout.splitlines()
    return sorted({(re.findall(r"uid:(\d+)", line) or ["0"])[0] for line in sockets})


def processes(host, lab):
    """Return the processes of the service, and of whoever listens on its port."""
    own = host.run("ps -o pid= -U %s", ",".join([lab.service, *(uid for uid in listener(host, lab) if uid != "0")]))
    of_root = host.run(f"ss -ltnpH 'sport = :{lab.port}' | grep -o 'pid=[0-9]*' | cut -d= -f2")
    return sorted({int(pid) for pid in (own.stdout + of_root.stdout).split()})


def open_files(host, pids):
    folders = " ".join(f"/proc/{pid}/fd" for pid in pids)
    return int(host.run(f"ls {folders} 2>/dev/null | grep -c '^[0-9]'").stdout)


@check(points=30, skill="linux.processes", needs="test_prices_are_answered")
def test_open_files_stay_flat(client, host, lab):
    """The number of open files stays where it is while six hundred requests come"""
    pids = processes(host, lab)
    assert pids, f"a process should listen on port {lab.port}"
    time.sleep(0.5)
    before = open_files(host, pids)
    done = f"/tmp/{NEW}.done"
    client.run(f"rm -f {done}; ({asking(lab, DRIVE)}; touch {done}) >/dev/null 2>&1 &")
    most, deadline = before, time.monotonic() + 40
    while client.run(f"test -e {done}").rc != 0 and time.monotonic() < deadline:
        most = max(most, open_files(host, pids))
    client.run(f"rm -f {done}")
    after = until(lambda: open_files(host, pids), lambda now: now <= before + 15, 3)
    assert processes(host, lab) == pids, "the processes of the service after the requests"
    assert most - before <= 25, f"open files more than the {before} of before, at the most"
    assert after - before <= 15, f"open files more than the {before} of before, when all was over"
    assert to_spare(host, pids) >= 10, "files that each process of the service could still open"


@check(points=15, skill="linux.services", needs="test_prices_are_answered")
def test_no_reservation_is_lost(client, host, lab):
    """All reservations that were taken are listed, and saved"""
    taken = [f"r{n} 2 of article {n}, {lab.token('customer', 8)}" for n in range(1000, 1040)]
    taken += [f"r{n} 1 of article 17, {lab.token('late', 8)}" for n in range(2000, 2009)]
    listed = client.run("curl -s -m 5 %s", url(lab, "/reservations")).stdout.splitlines()
    assert [line for line in taken if line not in listed] == [], "reservations that are not listed"
    unsaved = until(lambda: [line for line in taken if line not in kept_in_file(host, lab)], lambda lost: not lost)
    assert unsaved == [], "reservations that are not saved"


@check(points=10, skill="linux.services", needs="test_prices_are_answered")
def test_new_reservations_are_saved(client, host, lab):
    """A new reservation is taken, and saved within five seconds"""
    line = f"{NEW} 3 of article {time.time_ns()}"
    taken = "curl -s -m 5 -o /dev/null -w '%%{http_code}' -X PUT -d %s %s"
    status = client.run(taken, line.partition(" ")[2], url(lab, f"/reservations/{NEW}")).stdout
    assert status == "201", "what a new reservation is answered with"
    saved = until(lambda: line in kept_in_file(host, lab), lambda found: found)
    assert saved, f"the new reservation should be in /var/lib/{lab.service}/reservations"


@check(points=10, skill="linux.services", needs="test_prices_are_answered")
def test_users_are_their_own(host, lab):
    """The service and its backend run as their own users"""
    users = [user(host, f"{name}.service") for name in (lab.service, lab.backend)]
    assert users == [lab.service, lab.backend], f"users that {lab.service}.service and {lab.backend}.service run as"
    uid = host.run("getent passwd %s", lab.service).stdout.split(":")[2:3]
    assert listener(host, lab) == uid, f"ids of the users that listen on port {lab.port}"


def user(host, unit):
    """Return whom the main process of a unit runs as."""
    pid = host.run("systemctl show -p MainPID --value %s", unit).stdout.strip()
    return host.run("ps -o user:32= -p %s", pid).stdout.strip() if pid not in ("", "0") else "nobody: it does not run"
