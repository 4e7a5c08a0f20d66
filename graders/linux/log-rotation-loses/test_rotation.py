"""Does the log turn by itself, with every line exactly once, for those who may read it?"""

import time

import pytest

from breakfix.grading import check

HISTORY = 26000
ENOUGH = 1_000_000
STEP = 200
MOST_STEPS = 80

# Everything in the files of the log, whatever they were compressed with.
READ_ALL = (
    "for file in LOG*; do case $file in *.gz) zcat $file ;; *.xz) xzcat $file ;; *.bz2) bzcat $file ;; "
    "*) cat $file ;; esac; done"
)


def log_file(lab):
    return f"/var/log/web/{lab.site}/{lab.log}"


def url(lab, query):
    return f"http://web:{lab.port}/checked?m={query}"


def size(host, lab):
    return int(host.run("stat -c %%s %s", log_file(lab)).stdout.strip() or 0)


def rotate(host):
    """Let the host rotate; return how the service ended.  Starts of a moment ago do not count against it."""
    host.run("systemctl reset-failed logrotate.service")
    host.run("systemctl start logrotate.service", timeout=60)
    return host.run("systemctl show -p Result --value logrotate.service").stdout.strip()


def lines(host, lab, pattern):
    """Return how many lines hold the pattern, and how many different matches there are."""
    counted = host.check_output(
        READ_ALL.replace("LOG", log_file(lab)) + f" | grep -o '{pattern}'"
        " | awk '{ all++; if (!($0 in seen)) { seen[$0]; different++ } } END { print all + 0, different + 0 }'",
        timeout=60,
    )
    return tuple(int(number) for number in counted.split())


@pytest.fixture(scope="module")
def rotation(client, host, lab):
    """Fill the log, rotate it while requests come in, and note what became of all."""
    tag = f"t{time.time_ns()}"
    wait_for_nginx(client, lab)
    before, result, after = size(host, lab), "", None
    if before > ENOUGH:
        result, after = rotate(host), size(host, lab)
        if after >= before:
            return {"before": before, "after": after, "result": result}
    fill = fill_up(client, host, lab, tag)
    before = size(host, lab)
    # Requests go on in the background until the rotation is over.
    client.run(
        f"(n=0; while [ ! -e /tmp/{tag}.stop ] && [ $n -lt {MOST_STEPS} ]; do n=$((n + 1)); curl -s -o /dev/null -m 60 "
        f"-w '%{{http_code}}\\n' \"{url(lab, tag)}-$n-[1-{STEP}]\" >>/tmp/{tag}.codes; done; echo $n >/tmp/{tag}.end) "
        ">/dev/null 2>&1 &"
    )
    wait_for(lambda: number(client, f"cat /tmp/{tag}.codes | wc -l") > 0)
    result, after = rotate(host), size(host, lab)
    time.sleep(0.5)
    client.run(f"touch /tmp/{tag}.stop")
    wait_for(lambda: number(client, f"cat /tmp/{tag}.end") > 0, 60)
    sent = number(client, f"cat /tmp/{tag}.end") * STEP + fill
    codes = client.run(f"sort /tmp/{tag}.codes | uniq -c").stdout.split()
    client.run(f"rm -f /tmp/{tag}.*")
    pattern = f"m={tag}-[a-z0-9]*-[0-9]*"
    wait_for(lambda: lines(host, lab, pattern) == (sent, sent), 3)
    logged, different = lines(host, lab, pattern)
    turn_once_more(client, host, lab)
    return {
        "before": before,
        "after": after,
        "result": result,
        "codes": dict(zip(codes[1::2], codes[::2], strict=True)),
        "lost": sent - different,
        "double": logged - different,
    }


def fill_up(client, host, lab, tag):
    """Let the log take three fifths of what is free, so that there is no room for a second one; return the requests."""
    free = int(host.check_output("df -Pk /var/log/web | awk 'NR == 2 { print $4 }'")) * 1024
    count = max(free * 6 // 10, 2 * ENOUGH) // 7300
    client.run("curl -s -o /dev/null %s", url(lab, f"{tag}-fill-[1-{count}]") + "&pad=" + padding(7000), timeout=120)
    return count


def turn_once_more(client, host, lab):
    """Where a log is compressed a turn later, do not leave the big one behind."""
    client.run("curl -s -o /dev/null %s", url(lab, "more-[1-200]") + "&pad=" + padding(7000), timeout=60)
    rotate(host)


def number(client, command):
    return int(client.run(command).stdout.strip() or 0)


def padding(length):
    return "".join(f"{n * 2654435761 % 4294967296:08x}" for n in range(length // 8))


def wait_for(ready, patience=10.0):
    """Wait until something is so, or patience ends."""
    deadline = time.monotonic() + patience
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.05)


def wait_for_nginx(client, lab):
    # After a restart of the host.
    wait_for(lambda: client.run("curl -s -o /dev/null -m 5 %s", url(lab, "up")).rc == 0, 5)


@check(points=25, skill="linux.permissions")
def test_log_is_rotated(rotation, lab):
    """logrotate.service succeeds, and rotates the log when it has more than 1 MB"""
    assert rotation["before"] > ENOUGH, f"bytes in {lab.log} after requests for more than 1 MB of lines"
    assert rotation["after"] < rotation["before"], f"bytes in {lab.log} after logrotate.service was started"
    assert rotation["result"] == "success", "how logrotate.service ended"


@check(points=15, skill="linux.services", needs="test_log_is_rotated", stable_for=2)
def test_requests_are_logged_after_it(client, host, lab):
    """A request that comes after a rotation is found in the log at once"""
    # A worker that a reload is sending home may still take a request, and log it where it always did: then another is made.
    deadline = time.monotonic() + 4
    while (seen := lines_about_a_request(client, host, lab)) == "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen == "1", f"lines in {lab.log} about a request that was just made"


def lines_about_a_request(client, host, lab):
    """Make a request; return how many lines the log has about it a moment later."""
    mark = f"live-{time.time_ns()}-"
    client.run("curl -s -o /dev/null -m 5 %s", url(lab, mark))
    wait_for(lambda: found(host, lab, mark) != "0", 0.5)
    return found(host, lab, mark)


def found(host, lab, mark):
    return host.run("grep -c %s %s", mark, log_file(lab)).stdout.strip()


@check(points=20, skill="linux.services", needs="test_log_is_rotated")
def test_no_request_is_lost(rotation):
    """Each request that comes before and during a rotation is logged exactly once"""
    assert rotation["lost"] == 0, "requests that are in no file of the log"
    assert rotation["double"] == 0, "lines too many about one request"


@check(points=5, skill="linux.services", needs="test_log_is_rotated")
def test_no_request_is_refused(rotation):
    """All requests during a rotation are answered with 200"""
    assert list(rotation["codes"]) == ["200"], "answers to requests during a rotation"


@check(points=10, skill="linux.filesystems", needs="test_log_is_rotated")
def test_history_is_kept(host, lab):
    """Each line that was logged before is still there, exactly once"""
    logged, different = lines(host, lab, f"GET /item/{lab.token('item', 10)}-[0-9]* HTTP/1.1. 200 [0-9]* .-. .Mozilla")
    assert different == HISTORY, "lines of the past weeks"
    assert logged == HISTORY, "lines of the past weeks, with those that are there twice"


@check(points=10, skill="linux.filesystems", needs="test_log_is_rotated")
def test_there_is_room(host):
    """/var/log/web is less than half full, and nothing deleted is held open there"""
    used = int(host.check_output("df -P /var/log/web | awk 'NR == 2 { print $5 + 0 }'"))
    assert used < 50, "percent of /var/log/web in use"
    held = host.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c ' /var/log/web/.*(deleted)'").stdout.strip()
    assert held == "0", "deleted files below /var/log/web that are still open"


@check(points=5, skill="linux.services", needs="test_log_is_rotated")
def test_it_turns_by_itself(host):
    """logrotate.timer starts logrotate.service every hour"""
    # While the service runs, at each full hour, the timer is not due at all.
    host.run(
        'for n in 1 2 3 4 5 6; do [ -z "$(systemctl show -p NextElapseUSecRealtime --value logrotate.timer)" ] || break; '
        "sleep 1; done"
    )
    shown = host.run("systemctl show -p Unit -p NextElapseUSecRealtime logrotate.timer").stdout
    seen = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    assert seen.get("Unit") == "logrotate.service", "what logrotate.timer starts"
    due = seen.get("NextElapseUSecRealtime", "").split()
    assert len(due) == 4, "when logrotate.timer is due next: day, date, time, zone"
    in_seconds = host.check_output("echo $(($(date -d %s +%%s) - $(date +%%s)))", " ".join(due[1:3]))
    assert int(in_seconds) <= 3660, "seconds until logrotate.timer is due"


def as_user(host, lab, command):
    """Run a command of the toolbox with all the rights of the accountants' user, and no others; return its status."""
    name, _, uid, gid = host.check_output("getent passwd %s", lab.reader).split(":")[:4]
    groups = [line.split(":") for line in host.check_output("cat /etc/group").splitlines()]
    mine = [gid, *(group[2] for group in groups if len(group) > 3 and name in group[3].split(","))]
    return host.run(f"setpriv --reuid={uid} --regid={gid} --groups={','.join(mine)} {command}", timeout=30).rc


@check(points=5, skill="linux.permissions", needs="test_log_is_rotated")
def test_accountants_can_work(host, lab):
    """The accountants' user can read every file of the log, and make files beside them"""
    assert host.run("getent passwd %s", lab.reader).rc == 0, f"the user {lab.reader} should exist"
    files = host.check_output("find %s -name %s", f"/var/log/web/{lab.site}", f"{lab.log}*").split()
    unread = [file for file in files if as_user(host, lab, f"head -c 1 {file}") != 0]
    assert unread == [], f"files that {lab.reader} can not read"
    note = f"/var/log/web/{lab.site}/.note-{time.time_ns()}"
    assert as_user(host, lab, f"sh -c 'echo 1 >{note} && rm {note}'") == 0, f"{lab.reader} makes a file beside the log"


@check(points=5, skill="linux.permissions", needs="test_log_is_rotated")
def test_log_is_not_for_everybody(host, lab):
    """Nobody else may read or write the files of the log, or write their directory"""
    folder = f"/var/log/web/{lab.site}"
    opened = host.run("find %s -name %s -perm /006; find %s -type d -perm -o+w", folder, f"{lab.log}*", folder)
    assert opened.stdout.split() == [], "what is open to everybody"
