"""Does what cron runs leave a dump that can be restored, and does it say so when it can't?"""

import re
import secrets
import time
from hashlib import md5
from types import SimpleNamespace

from breakfix.grading import baseline, check

BACKUP = "/srv/backup"
BACKUP_UID = "34"
WHOLE = "database dump complete"


# -- what is known from the seed ---------------------------------------------------------------------------------------


def codes(lab, name, count):
    """The rows that the setup wrote into a table."""
    return {md5(f"{lab.token(name, 12)}{n}".encode()).hexdigest() for n in range(1, count + 1)}


def all_codes(lab):
    return codes(lab, "accounts", 300) | codes(lab, "events", 500) | codes(lab, "newcomer", 120)


def sql(client, lab, query, password=None, role=None):
    """Ask the database over the network, as the application does."""
    secret = lab.token("password", 20) if password is None else password
    address = f"host=db dbname={lab.app} user={role or lab.app} connect_timeout=5"
    return client.run("PGPASSWORD=%s psql -XAtq -v ON_ERROR_STOP=1 %s -c %s", secret, address, query)


def app_sql(client, lab, query):
    done = sql(client, lab, query)
    assert done.rc == 0, f"the application's own query was refused: {done.stderr.strip()[:300]}"
    return done.stdout.strip()


def until(question, seconds=5.0):
    """Ask until the answer is true; return whether it became so."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(answer)


# -- cron, as crontab(5) has it ----------------------------------------------------------------------------------------


def cron_file(lab):
    return f"/etc/cron.d/{lab.app}-backup"


def jobs(host, lab):
    """Read the cron file as cron does: settings, five fields or a nickname, the user, the command up to the first %."""
    text = host.run("cat %s", cron_file(lab)).stdout
    settings, found = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}, []
    for line in text.splitlines():
        line = line.strip()
        setting = re.fullmatch(r"""(["']?)(\w+)\1\s*=\s*(.*)""", line)
        if not line or line.startswith("#"):
            continue
        if setting:
            value = setting[3].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            settings[setting[2]] = value[1:-1] if quoted else value
            continue
        when, user, command = schedule(line)
        parts = re.split(r"(?<!\\)%", command)
        parts = [part.replace("\\%", "%") for part in parts]
        stdin = "".join(f"{part}\n" for part in parts[1:])
        found.append(SimpleNamespace(when=when, user=user, command=parts[0], stdin=stdin, settings=dict(settings)))
    return found


def schedule(line):
    count = 1 if line.startswith("@") else 5
    fields = line.split(None, count + 1)
    fields += [""] * (count + 2 - len(fields))
    when = {"@hourly": "0 * * * *"}.get(fields[0], " ".join(fields[:count]))
    return when, fields[count], fields[count + 1]


def command_of(host, lab):
    """One line that does what cron would do at the next full minute."""
    lines = []
    for job in jobs(host, lab):
        account = host.user(job.user)
        home = account.home if account.exists else "/"
        # MAILTO is cron's own; the rest of the settings go to the command.
        about = {"HOME": home, "LOGNAME": job.user, "USER": job.user, **job.settings}
        environment = " ".join(quoted(f"{name}={value}") for name, value in about.items())
        lines.append(
            f"( cd {quoted(home)} && printf %s {quoted(job.stdin)} | runuser -u {quoted(job.user)} -- env -i {environment} "
            f"{quoted(about['SHELL'])} -c {quoted(job.command)} ) || status=$?"
        )
    return "status=0\n" + "\n".join(lines or ["status=127"]) + "\nexit $status"


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def run_job(host, plain, lab):
    """Run the job as cron would and wait for it; what it leaves is judged elsewhere, by what we can trust."""
    return plain("timeout -s KILL 20 bash -c %s", command_of(host, lab), timeout=30)


def start_job(host, plain, lab):
    """Run the job in the background; return a question that is true once it has ended."""
    mark = f"/run/check-{secrets.token_hex(4)}"
    plain(
        "setsid sh -c %s >/dev/null 2>&1 &",
        f"timeout -s KILL 20 bash -c {quoted(command_of(host, lab))}; echo $? >{mark}",
    )
    return SimpleNamespace(mark=mark, ended=lambda: host.run("cat %s", mark).stdout.strip())


# -- dumps -------------------------------------------------------------------------------------------------------------


def dumps(host, lab):
    """What the off-site copier takes."""
    return set(host.check_output("find %s -maxdepth 1 -name '*.sql.gz'", BACKUP).split("\n")) - {""}


def content(host, path):
    done = host.run("gunzip -c %s", path)
    return done.stdout if done.rc == 0 else ""


def sums(host):
    """SHA-256 of every file below the folder."""
    lines = host.run("find %s -type f -exec sha256sum {} +", BACKUP).stdout.splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


# -- trouble, made on purpose ------------------------------------------------------------------------------------------


class Blocked:
    """Holds a lock on a table, so that a dump stands still until we let go; the application's own session does it."""

    def __init__(self, client, lab):
        self.client, self.lab = client, lab
        self.name = f"check-{secrets.token_hex(4)}"

    def __enter__(self):
        self.client.run(
            "( echo 'BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE;'; sleep 30 ) | "
            "PGPASSWORD=%s PGAPPNAME=%s psql -XAtq -h db %s %s >/dev/null 2>&1 &",
            self.lab.token("password", 20),
            self.name,
            self.lab.app,
            self.lab.app,
        )
        assert until(lambda: self._count("granted AND mode = 'AccessExclusiveLock'")), (
            "the application could lock its own table"
        )
        return self

    def _count(self, what):
        return int(
            app_sql(
                self.client, self.lab, f"SELECT count(*) FROM pg_locks WHERE relation = 'accounts'::regclass AND {what}"
            )
        )

    def waiting(self):
        return self._count("NOT granted")

    def sessions(self):
        """The server processes of those who wait."""
        query = "SELECT pid FROM pg_locks WHERE relation = 'accounts'::regclass AND NOT granted"
        return app_sql(self.client, self.lab, query).split()

    def __exit__(self, *_):
        query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{self.name}'"
        sql(self.client, self.lab, query)
        until(lambda: self._count("true") == 0)


def kill_all(host):
    """What the kernel does to a run when memory is short."""
    pids = host.run("ps -u %s -o pid=", BACKUP_UID).stdout.split()
    if pids:
        host.run(f"kill -9 {' '.join(pids)}")
    until(lambda: not host.run("ps -u %s -o pid=", BACKUP_UID).stdout.split())


def alerts(host, lab):
    """How many lines the alert would have fired on."""
    lines = host.run("journalctl -q --no-pager -o cat -t %s", f"{lab.app}-backup").stdout.splitlines()
    return len([line for line in lines if line.startswith("FAILED")])


def fresh_dump(host, plain, lab):
    """Run the job once, and return the dumps that it left and that were not there before."""
    before = {path: host.run("stat -c %%Y.%%i %s", path).stdout for path in dumps(host, lab)}
    done = run_job(host, plain, lab)
    after = {path for path in dumps(host, lab) if host.run("stat -c %%Y.%%i %s", path).stdout != before.get(path)}
    return done, sorted(after)


@baseline
def under_hold(host):
    """The dumps that can still be restored."""
    found = sums(host)
    assert len(found) == 2, "dumps from when it worked"
    return {"held": sorted(found.values())}


@check(points=25, skill="code.shell")
def test_cron_leaves_a_dump(client, host, plain, lab):
    """What cron runs leaves a dump of everything that is in the database now, and it can be restored"""
    marker = f"seen-{secrets.token_hex(8)}"
    app_sql(client, lab, f"INSERT INTO events (note) VALUES ('{marker}')")
    alarms = alerts(host, lab)
    done, new = fresh_dump(host, plain, lab)
    said = (done.stdout + done.stderr).strip()[-300:]
    assert len(new) == 1, f"new dumps after a run with cron's environment, which ended with {done.rc} and said {said!r}"
    assert re.fullmatch(rf"{BACKUP}/{lab.app}-.+\.sql\.gz", new[0]), f"name of the new dump, {new[0]}"
    text = content(host, new[0])
    missing = len([code for code in (*all_codes(lab), marker) if code not in text])
    assert missing == 0, "rows of the database that are not in the new dump"
    assert WHOLE in text, "the new dump should be whole"
    assert done.rc == 0, "status of a run that went well"
    assert alerts(host, lab) == alarms, "lines FAILED in the journal, after a run that went well"
    assert restored(plain, new[0], lab) == "restored", "the new dump, read into an empty database"


def restored(plain, path, lab):
    """Read a dump into a scratch database of the host's own server.  Its content has been judged before."""
    name = f"check_{secrets.token_hex(4)}"
    script = f"""
        cd /; as() {{ runuser -u postgres -- "$@"; }}
        as createdb {name} || exit 0
        gunzip -c {quoted(path)} | as psql -Xq -v ON_ERROR_STOP=1 {name} >/dev/null || echo not
        as psql -XAtqc 'SELECT count(*) FROM accounts, {lab.newcomer}' {name} | grep -qx {300 * 120} || echo not all
        as dropdb {name}; echo restored"""
    done = plain("bash -c %s", script, timeout=30)
    return " ".join(done.stdout.split()) or done.stderr


@check(points=5, skill="linux.services", needs="test_cron_leaves_a_dump")
def test_schedule_is_kept(host, lab):
    """Cron runs it, hourly at the same minute, as backup"""
    path = cron_file(lab)
    text = host.check_output("cat %s; echo .", path)
    assert text.endswith("\n."), f"{path} should end with a newline, or cron drops its last line"
    file = host.file(path)
    assert (file.user, file.mode & 0o022) == ("root", 0), f"owner of {path}, and who else may write it"
    lines = jobs(host, lab)
    assert {job.user for job in lines} == {"backup"}, f"users in {path}"
    assert f"{lab.minute} * * * *" in {job.when for job in lines}, f"when {path} runs"
    assert host.service("cron").is_running, "cron should run"
    assert host.service("cron").is_enabled, "cron should be enabled"


@check(points=10, skill="code.shell", needs="test_cron_leaves_a_dump")
def test_one_at_a_time(client, host, plain, lab):
    """Two runs never dump at the same time"""
    with Blocked(client, lab) as blocked:
        try:
            start_job(host, plain, lab)
            assert until(lambda: blocked.waiting() > 0), "a run that is held up in the database should be waiting there"
            second = start_job(host, plain, lab)
            until(lambda: second.ended() or blocked.waiting() > 1, seconds=1.5)
            assert blocked.waiting() == 1, "dumps under way, after a second run was started"
        finally:
            kill_all(host)


@check(points=10, skill="linux.services", needs="test_cron_leaves_a_dump")
def test_killed_run_blocks_nothing(client, host, plain, lab):
    """A run that was killed half way does not stop the next one"""
    with Blocked(client, lab) as blocked:
        try:
            start_job(host, plain, lab)
            assert until(lambda: blocked.waiting() > 0), "a run that is held up in the database should be waiting there"
        finally:
            kill_all(host)
    _, new = fresh_dump(host, plain, lab)
    whole = [path for path in new if WHOLE in content(host, path)]
    assert len(whole) == 1, "good dumps by the run after the one that was killed"


@check(points=15, skill="code.shell", needs="test_cron_leaves_a_dump")
def test_failure_is_loud(client, host, plain, lab):
    """A run whose dump fails says so, ends with a status that is not 0, and takes no older dump away"""
    good, said = dumps(host, lab), alerts(host, lab)
    with Blocked(client, lab) as blocked:
        run = start_job(host, plain, lab)
        assert until(lambda: blocked.waiting() > 0), "a run that is held up in the database should be waiting there"
        deadline = time.monotonic() + 8
        while not run.ended() and time.monotonic() < deadline:
            for pid in blocked.sessions():
                host.run("kill -TERM %s", pid)
            time.sleep(0.1)
    status = run.ended()
    if not status:
        kill_all(host)
    assert status not in ("", "0"), "status of a run whose session in the database was ended"
    assert until(lambda: alerts(host, lab) > said, seconds=2), (
        f"the journal should have a new line FAILED of {lab.app}-backup"
    )
    assert sorted(good - dumps(host, lab)) == [], "older dumps that the failed run took away"


@check(points=10, skill="code.shell", needs="test_cron_leaves_a_dump")
def test_every_dump_is_whole(client, host, plain, lab):
    """Whatever became of a run, all that the copier takes can be restored"""
    with Blocked(client, lab) as blocked:
        try:
            start_job(host, plain, lab)
            assert until(lambda: blocked.waiting() > 0), "a run that is held up in the database should be waiting there"
        finally:
            kill_all(host)
    broken = sorted(path for path in dumps(host, lab) if WHOLE not in content(host, path))
    assert broken == [], f"files in {BACKUP} that look like a dump and are none"


@check(points=5, skill="code.shell", needs="test_cron_leaves_a_dump")
def test_retention_holds(host, plain, lab, baseline):
    """The newest dumps are kept, as many as agreed and no more"""
    seen = set()
    for _ in range(lab.keep + 1):
        seen |= set(fresh_dump(host, plain, lab)[1])
        time.sleep(0.6)
    digests = sums(host)
    left = {path for path in dumps(host, lab) if digests.get(path) not in baseline["held"]}
    assert len(left) <= lab.keep, f"dumps in {BACKUP} after {lab.keep + 1} more runs, beside those under legal hold"
    newest = sorted(seen)[-lab.keep :]
    assert [path for path in newest if path not in left] == [], "of the newest dumps, those that are gone"


@check(points=10, skill="linux.services", needs="test_retention_holds")
def test_legal_hold(host, baseline):
    """The dumps under legal hold are still there, unchanged"""
    lost = set(baseline["held"]) - set(sums(host).values())
    assert len(lost) == 0, f"dumps under legal hold that are no longer below {BACKUP}"


@check(points=5, skill="linux.permissions", needs="test_cron_leaves_a_dump")
def test_nothing_is_weakened(client, host, lab):
    """backup may change nothing, nobody comes in without a password, and dumps are not open to all"""
    query = """SELECT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'backup')
        OR EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public'
                   AND has_table_privilege('backup', format('%I.%I', schemaname, tablename), 'INSERT, UPDATE, DELETE, TRUNCATE'))"""
    assert app_sql(client, lab, query) == "f", "whether backup may change something in the database"
    for role in (lab.app, "backup", "postgres"):
        assert sql(client, lab, "SELECT 1", password="wrong", role=role).rc != 0, (
            f"{role} should not come in without its password"
        )
    # A folder that others may not enter protects what is in it.
    closed = host.run("find %s -maxdepth 0 ! -perm -o+x", BACKUP).stdout.strip()
    found = [] if closed else host.run("find %s -type f -name '*.gz' -perm -o+r", BACKUP).stdout.split()
    assert found == [], "dumps that anybody may read"


@check(points=5, skill="linux.services", needs="test_cron_leaves_a_dump")
def test_database_is_whole(client, lab):
    """No row is lost, and the application can still write"""
    tables = (("code", "accounts"), ("note", "events"), ("code", lab.newcomer))
    here = set(
        app_sql(client, lab, " UNION ALL ".join(f"SELECT {what} FROM {table}" for what, table in tables)).split()
    )
    assert len(all_codes(lab) - here) == 0, "rows of the database that are lost"
    app_sql(
        client,
        lab,
        f"BEGIN; INSERT INTO {lab.newcomer} (code) VALUES ('x'); UPDATE accounts SET code = code WHERE id = 1; ROLLBACK",
    )
