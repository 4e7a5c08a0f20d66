"""Is there room again, for good, and is every entry still there?"""

from breakfix.grading import baseline, check


def entries_url(lab):
    return f"http://web:{lab.port}/entries"


def post(client, lab):
    answer = client.run("curl -s -m 5 -o /dev/null -w '%%{http_code}' -d checked %s", entries_url(lab))
    return answer.stdout


@baseline
def accepted(client, lab):
    """What had been accepted before the fault."""
    return {"entries": client.check_output("curl -sf -m 5 %s", entries_url(lab)).splitlines()}


@check(points=30, skill="linux.filesystems", stable_for=3)
def test_entries_are_taken(client, lab):
    """A new entry is accepted, each time"""
    status = post(client, lab)
    assert status == "201", "status of a POST to /entries"


@check(points=25, skill="linux.filesystems", needs="test_entries_are_taken", stable_for=3)
def test_space_is_back(host):
    """/srv is less than 60 % full, and stays so"""
    used = int(host.check_output("df -P /srv | awk 'NR == 2 { print $5 + 0 }'"))
    assert used < 60, "percent of /srv in use"


@check(points=15, skill="linux.processes", needs="test_entries_are_taken")
def test_nothing_deleted_is_held(host):
    """No process holds a deleted file on /srv any more"""
    held = host.run("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c ' /srv/.*(deleted)'").stdout.strip()
    assert held == "0", "deleted files on /srv that are still open"


@check(points=15, skill="linux.filesystems", needs="test_entries_are_taken")
def test_no_entry_is_lost(client, lab, baseline):
    """Every entry that was accepted before is still there"""
    now = client.check_output("curl -sf -m 5 %s", entries_url(lab)).splitlines()
    before = baseline["entries"]
    lost = len([line for old, line in enumerate(before) if old >= len(now) or now[old] != line])
    assert lost == 0, f"entries lost of {len(before)}"


@check(points=15, skill="linux.processes", needs="test_entries_are_taken")
def test_service_is_itself(host, lab):
    """The service still runs as its own user and keeps its data on /srv"""
    owner = host.run("ps -C %s -o user:32=", f"{lab.service}d").stdout.split()
    assert owner, f"no process {lab.service}d runs"
    assert set(owner) == {lab.service}, "users that the service runs as"
    entries = f"/srv/{lab.service}/entries.log"
    where = host.check_output("stat -L -c %%d %s", entries)
    assert where == host.check_output("stat -c %d /srv"), f"the device that {entries} is on"
