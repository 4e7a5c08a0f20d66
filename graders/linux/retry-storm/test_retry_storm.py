"""Is the API well, did each order arrive once, and does the job keep its promises against an API of our own?"""

import secrets
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from breakfix.grading import baseline, check

OURS = 8099
"""Port of our own API, in the client."""
PLACE = "/tmp/breakfix-api"  # in the client
RUN_DEADLINE = 8


def url(lab, path):
    return f"http://api:{lab.port}{path}"


def until(question, seconds=5.0):
    """Ask until the answer is true; return the last answer."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def body(lab, n):
    """Content of the nth order of the backlog; spaces as the API keeps them."""
    return f'{{"customer": "{lab.customer}-{n % 9}", "item": "{lab.token("item", 10)}", "quantity": {n % 9 + 1}}}'


def backlog(lab):
    return Counter(body(lab, n) for n in range(1, 13))


def taken(client, lab):
    """What the API took, and how often."""
    done = client.run("curl -sf -m 5 %s", url(lab, "/orders"))
    assert done.rc == 0, "the API should say what it took"
    return Counter(done.stdout.splitlines())


# -- our own API -------------------------------------------------------------------------------------------------------

# Written with sockets alone: the client's Python has no more. What it does is read from a file, call by call.
API = r"""
import os, socket, threading, time
lock, known, tries = threading.Lock(), set(), {}
def note(*what):
    with lock, open("log", "a") as log:
        log.write("\t".join(map(str, what)) + "\n")
def serve(connection):
    try:
        connection.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if fields.get("expect"):
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(body) < int(fields.get("content-length", 0)):
            body += connection.recv(65536)
        text, key = " ".join(body.decode("utf-8", "replace").split()), fields.get("idempotency-key", "")
        begun = time.monotonic()
        mode, run = open("mode").read().split()
        status = 404
        if lines[0].startswith("POST /orders"):
            status = answer(mode, run, key, text)
        note(run, "call", begun, time.monotonic(), text, status)
        if status:
            connection.sendall(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    except OSError:
        pass
    finally:
        connection.close()
def take(run, key, text):
    with lock:
        if key and (run, key) in known:
            return 200
        known.add((run, key))
    note(run, "taken", 0, 0, text, key)
    return 201
def answer(mode, run, key, text):
    if mode == "down":
        return 503
    if mode == "lost":      # it takes the order, and its answer never arrives
        take(run, key, text)
        return 0
    if mode == "flaky":     # first it sheds, then an answer is lost, then it is well; order by order
        with lock:
            n = tries[run] = tries.get(run, 0) + 1
        if n % 3 == 1:
            return 503
        if n % 3 == 2:
            take(run, key, text)
            return 0
    if mode == "slow":
        time.sleep(0.25)
    return take(run, key, text)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", PORT))
listener.listen(64)
open("ready", "w").close()
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"""


class OwnApi:
    """Our API in the client, and a configuration and an outbox on the host that lead to it."""

    def __init__(self, client, host, plain, lab, mode, bodies):
        self.client, self.host, self.plain, self.lab = client, host, plain, lab
        self.name = f"check-{secrets.token_hex(4)}"
        self.folder = f"/run/{self.name}"
        self.numbers = [f"{7000 + n}" for n in range(len(bodies))]
        self._serve()
        self.mode(mode)
        self._prepare(bodies)

    def _serve(self):
        if self.client.run(f"kill -0 $(cat {PLACE}/pid) 2>/dev/null").rc == 0:
            return
        self.client.run(f"rm -rf {PLACE}; mkdir -p {PLACE}; touch {PLACE}/log")
        self.client.run(f"cat >{PLACE}/api.py <<'END-OF-API'\n{API.replace('PORT', str(OURS))}\nEND-OF-API")
        self.client.run(f"cd {PLACE}; timeout 900 python3 api.py >err 2>&1 & echo $! >{PLACE}/pid")
        if not until(lambda: self.client.run(f"test -e {PLACE}/ready").rc == 0, seconds=10):
            raise RuntimeError(f"our own API did not start: {self.client.run(f'cat {PLACE}/err').stdout}")

    def mode(self, mode):
        self.client.check_output(f"echo {mode} {self.name} >{PLACE}/mode.new && mv {PLACE}/mode.new {PLACE}/mode")

    def _prepare(self, bodies):
        address = self.client.check_output("hostname -i").split()[0]
        lines = "\n".join(
            [
                f"API_URL=http://{address}:{OURS}",
                f"OUTBOX={self.folder}/outbox",
                f"SENT={self.folder}/sent",
                f"STATE={self.folder}/state",
                "TIMEOUT_MS=1000",
                "ATTEMPTS=7",
                "BACKOFF_MS=100",
                "BACKOFF_MAX_MS=400",
            ]
        )
        script = [
            f"mkdir -p {self.folder}/outbox {self.folder}/sent {self.folder}/state",
            f"cat >{self.folder}/conf <<'END'\n{lines}\nEND",
        ]
        script += [
            f"printf '%s\\n' '{text}' >{self.folder}/outbox/{number}.json" for number, text in zip(self.numbers, bodies)
        ]
        owner = self.host.run("getent passwd %s", self.lab.job).stdout.split(":")
        assert len(owner) > 3, f"user {self.lab.job}"
        script += [f"chown -R {owner[2]}:{owner[3]} {self.folder}", f"chmod 755 {self.folder}"]
        self.host.check_output("\n".join(script))

    def command(self):
        return f"cd /; runuser -u {self.lab.job} -- /usr/local/bin/{self.lab.job} {self.folder}/conf"

    def run(self):
        """One run, as the job's user; ends with 137 where it would not end by itself."""
        begun = time.monotonic()
        done = self.plain(
            "setsid timeout -s KILL %s bash -c %s", str(RUN_DEADLINE), self.command(), timeout=RUN_DEADLINE + 15
        )
        status = "did not end" if time.monotonic() - begun >= RUN_DEADLINE and done.rc in (124, 137) else done.rc
        return SimpleNamespace(status=status, stderr=done.stderr.strip())

    def start(self):
        """Begin a run, and leave it; it is the leader of a session of its own."""
        mark = f"{self.folder}/{secrets.token_hex(4)}"
        inner = f"echo $$ >{mark}; timeout -s KILL {RUN_DEADLINE} bash -c '{self.command()}'; echo $? >{mark}.ended"
        self.plain("setsid sh -c %s >/dev/null 2>&1 &", inner)
        return mark

    def ended(self, mark):
        return self.host.run("cat %s", f"{mark}.ended").stdout.strip()

    def kill(self, mark):
        """Kill a run with all that it started."""
        leader = self.host.run("cat %s", mark).stdout.strip()
        pids = lambda: self.host.run("ps -s %s -o pid=", leader).stdout.split()  # noqa: E731
        # Children first: what is begun later is found by the next round.
        until(lambda: not (found := pids()) or (self.host.run(f"kill -9 {' '.join(found)}") and False))

    def _log(self):
        lines = self.client.check_output(f"cat {PLACE}/log").splitlines()
        return [fields for line in lines if (fields := line.split("\t"))[0] == self.name]

    def calls(self):
        """When each call began and ended, in the order of their beginning."""
        return sorted((float(f[2]), float(f[3])) for f in self._log() if f[1] == "call")

    def taken(self):
        return Counter(f[4] for f in self._log() if f[1] == "taken")

    def left(self):
        return sorted(self.host.run("ls %s", f"{self.folder}/outbox").stdout.split())

    def sent(self):
        return sorted(self.host.run("ls %s", f"{self.folder}/sent").stdout.split())


# Two customers order the same, so that nobody takes the content for the order's name.
TWINS = ['{"customer": "a", "item": "tea", "quantity": 1}'] * 2 + ['{"customer": "b", "item": "salt", "quantity": 3}']


def api_files(hosts):
    """What the other team owns."""
    files = "/usr/local/sbin/orders-api /etc/systemd/system/orders-api.service"
    extra = "/etc/systemd/system/orders-api.service.d /run/systemd/system/orders-api.service.d"
    api = hosts["api"]
    return api.run(f"sha256sum {files}").stdout.split()[::2] + api.run(f"ls -A {extra}").stdout.split()


@baseline
def other_team(client, lab, hosts):
    assert client.run("curl -sf -m 5 %s", url(lab, "/healthz")).rc == 0, "the API answers before the storm"
    return {"api": api_files(hosts)}


def health(client, lab):
    return client.run("curl -s -m 5 -o /dev/null -w '%%{http_code}' %s", url(lab, "/healthz")).stdout


@pytest.fixture(scope="module")
def breather(client, lab):
    """Give the API the moment that it needs once nobody storms it; asked once, before the first look."""
    until(lambda: health(client, lab) == "200", seconds=6)


@check(points=15, skill="design.failure-modes", stable_for=2)
def test_api_is_well(client, lab, breather):
    """The API is well again, and stays so"""
    assert health(client, lab) == "200", "what /healthz is answered with"


@check(points=10, skill="design.failure-modes", needs="test_api_is_well")
def test_backlog_has_arrived(client, lab):
    """Each order of the backlog has arrived"""
    missing = lambda: sum((backlog(lab) - taken(client, lab)).values())  # noqa: E731
    until(lambda: not missing(), seconds=10)
    assert missing() == 0, "orders of the backlog that the API does not have"


@check(points=5, skill="linux.services", needs="test_api_is_well")
def test_new_order_arrives(client, host, lab):
    """A new order arrives within 10 seconds, once"""
    number = secrets.token_hex(4)
    text = f'{{"check": "{number}"}}'
    outbox = f"/var/spool/{lab.job}/outbox"
    owner = host.check_output("stat -c %%u:%%g %s", outbox)
    host.check_output(
        f"cd {outbox} && echo '{text}' >.{number} && chown {owner} .{number} && mv .{number} 9{number}.json"
    )
    until(lambda: taken(client, lab)[text] > 0, seconds=10)
    assert taken(client, lab)[text] == 1, "times that a new order was taken within 10 s"


@check(points=10, skill="design.failure-modes", needs="test_api_is_well")
def test_no_order_twice(client, lab):
    """The API took no order of ours more than once"""
    extra = taken(client, lab) - backlog(lab)
    # Our own new orders of this look and of those before it may be there once each.
    twice = sum(count - ('"check"' in text) for text, count in extra.items())
    assert twice == 0, "orders that the API took once too often"


@check(points=15, skill="code.shell", needs="test_api_is_well")
def test_gives_up_loudly(client, host, plain, lab):
    """With the API down, a run makes as many calls as agreed, leaves the orders, says so, and ends with an error"""
    api = OwnApi(client, host, plain, lab, "down", TWINS)
    done = api.run()
    assert len(api.calls()) >= 2, "calls to an API that is down (7 are allowed)"
    assert len(api.calls()) <= 7, "calls to an API that is down (7 are allowed)"
    assert done.status not in (0, "did not end"), "status of a run that could not deliver"
    assert done.stderr != "", "what it said on standard error"
    assert api.left() == [f"{number}.json" for number in api.numbers], "orders in the outbox afterwards"


@check(points=10, skill="design.failure-modes", needs="test_gives_up_loudly")
def test_waits_grow(client, host, plain, lab):
    """The waits between failed calls grow as configured, up to the greatest"""
    api = OwnApi(client, host, plain, lab, "down", TWINS[:1])
    api.run()
    calls = api.calls()
    gaps = [round((later[0] - earlier[1]) * 1000) for earlier, later in zip(calls, calls[1:])]
    agreed = [100, 200, 400, 400, 400, 400][: len(gaps)]
    early = [(gap, wait) for gap, wait in zip(gaps, agreed) if gap < wait * 0.5]
    assert early == [], f"waits that were shorter than half of what was agreed (ms, agreed), of {gaps}"
    # A loaded machine makes every wait longer; one that goes on doubling waits 1600 and 3200 in the end.
    assert min(gaps[4:] or [0]) <= 1300, f"shortest of the last waits, of {gaps} ms (at most 400 are agreed)"


@check(points=10, skill="design.failure-modes", needs="test_api_is_well")
def test_lost_answers(client, host, plain, lab):
    """Where calls fail and answers get lost, each order is taken exactly once"""
    api = OwnApi(client, host, plain, lab, "flaky", TWINS)
    done = api.run()
    assert sorted(api.taken().elements()) == sorted(TWINS), "what a flaky API took in one run"
    assert api.sent() == [f"{number}.json" for number in api.numbers], "orders in SENT afterwards"
    assert done.status == 0, "status of a run that delivered everything"


@check(points=5, skill="design.failure-modes", needs="test_lost_answers")
def test_later_run_knows(client, host, plain, lab):
    """An order whose answer was lost is not taken again by a later run"""
    api = OwnApi(client, host, plain, lab, "lost", TWINS)
    api.run()
    api.mode("well")
    api.run()
    assert sorted(api.taken().elements()) == sorted(TWINS), "what the API took in both runs"


@check(points=5, skill="code.shell", needs="test_api_is_well")
def test_one_copy_works(client, host, plain, lab):
    """Of two copies only one works"""
    api = OwnApi(client, host, plain, lab, "slow", TWINS)
    marks = [api.start(), api.start()]
    until(lambda: all(api.ended(mark) for mark in marks), seconds=RUN_DEADLINE)
    calls = api.calls()
    overlaps = sum(later[0] < earlier[1] for earlier, later in zip(calls, calls[1:]))
    assert len(calls) == len(TWINS), f"calls by two copies for {len(TWINS)} orders"
    assert overlaps == 0, "calls that were made while another was under way"


@check(points=5, skill="code.shell", needs="test_one_copy_works")
def test_killed_copy_blocks_nothing(client, host, plain, lab):
    """A copy that was killed does not stop the next one, and nothing is taken twice"""
    api = OwnApi(client, host, plain, lab, "slow", TWINS)
    mark = api.start()
    until(lambda: len(api.taken()) > 0 or api.ended(mark))
    api.kill(mark)
    api.mode("well")
    done = api.run()
    assert sorted(api.taken().elements()) == sorted(TWINS), "what the API took"
    assert done.status == 0, "status of the run after the one that was killed"


@check(points=5, skill="linux.services", needs="test_new_order_arrives")
def test_host_is_calm(host):
    """With nothing to send, the host does not spin"""
    # Process ids are given out in turn: their difference is how many were started.
    script = "a=$(sh -c 'echo $$'); sleep 2; b=$(sh -c 'echo $$'); echo $((b - a))"
    spun = int(host.check_output(script))
    assert spun / 2 < 25, "processes that are started each second"


@check(points=5, skill="design.failure-modes", needs="test_api_is_well")
def test_api_is_theirs(hosts, baseline):
    """Nothing was changed in what belongs to the API's team"""
    assert api_files(hosts) == baseline["api"], "checksums of the API and its unit"
    assert hosts["api"].service("orders-api").is_running, "the API should run"
