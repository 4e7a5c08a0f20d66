"""Who can connect to whom, asked from every machine with real connections?

Ports where nobody listens get a listener of ours while we ask, so that nothing passes for closed because it is empty.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from breakfix.grading import baseline, check

TIERS = ("web", "app", "db")
STRANGER = "a stranger"
PATIENCE = 6
"""Seconds for a connection that should be made and was not at once: on a busy machine two may be few."""
DATABASE = "test_only_the_app_gets_at_the_database"
SEEN = {}

CONNECT = """\
import errno, select, socket, sys, time
# Seconds, and then ADDRESS:PORT:SOURCE_PORT each; those that answer are printed.
pending = {}
seconds, *words = sys.argv[1:]
for word in words:
    address, port, source = word.split(":")
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Closed with a reset: nothing of it stays, here or there.
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    tcp.setblocking(False)
    tcp.bind(("", int(source)))
    if tcp.connect_ex((address, int(port))) in (0, errno.EINPROGRESS):
        pending[tcp] = word
deadline = time.monotonic() + float(seconds)
while pending and (left := deadline - time.monotonic()) > 0:
    for tcp in select.select([], list(pending), [], left)[1]:
        word = pending.pop(tcp)
        if not tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            print(word)
        tcp.close()
"""

COPIES = 5
"""Datagrams that are sent each way, so that a stray one of somebody else doesn't count as a way in."""

SEND = """\
import socket, sys
copies, *words = sys.argv[1:]
for word in words:
    address, port, source = word.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("", int(source)))
        for _ in range(int(copies)):
            udp.sendto(b"x", (address, int(port)))
"""


def address(lab, name, client=None):
    """Return the address of a host, or of the client."""
    if name == "client":
        return client.check_output("hostname -i").split()[0]
    return lab.hosts[name].address


def unused(lab):
    """Return two ports that nobody has: one as services have them, one as the kernel gives them to outgoing ones."""
    number = int(lab.token("port", 6), 16)
    return [2100 + number % 800, 41000 + number % 9000]


def doors(lab):
    """Return the ports of each tier that somebody listens on."""
    both = [22, lab.health]
    return {"web": [lab.port, lab.inner, *both], "app": [lab.api, *both], "db": [5432, 6379, *both]}


def meant(lab, target, source):
    """Return the ports of a tier that are open to a machine."""
    found = [22, lab.health] if source == "ops" else []
    if target == "web" and source in (STRANGER, "ops"):
        found.append(lab.port)
    found += {("app", "web"): [lab.api], ("db", "app"): [5432, 6379]}.get((target, source), [])
    return sorted(found)


def words(script, *arguments):
    """Return a command that runs a Python script of ours in the client, and its arguments."""
    return " ".join(["python3 -c %s", *["%s"] * len(arguments)]), (script, *arguments)


def run_here(client, script, *arguments):
    """Run a script of ours in the client; that it can't run is our trouble and no verdict."""
    command, given = words(script, *arguments)
    done = client.run(command, *given, timeout=30)
    if done.rc != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def client_connects(client, targets, seconds=2):
    """Return which of (address, port, source port) the client can connect to, all tried at the same time."""
    found = run_here(client, CONNECT, str(seconds), *[":".join(map(str, one)) for one in targets]).split()
    return {tuple(int(part) if part.isdigit() else part for part in one.split(":")) for one in found}


def host_connects(host, targets, users=(0,), seconds=2):
    """Return which of (user, address, port) can connect from a host, all tried at the same time."""
    found = []
    for user in users:
        tries = " ".join(
            f"(nc -w {seconds} {where} {port} -e true </dev/null >/dev/null 2>&1 && echo {user} {where} {port}) &"
            for where, port in targets
        )
        change = f"setpriv --reuid={user} --regid={user} --clear-groups " if user else ""
        found.append(f"{change}sh -c '{tries} wait'")
    done = host.run(f"({' & '.join(found)} & wait)", timeout=30)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {(int(user), where, int(port)) for user, where, port in lines}


@contextmanager
def listening(prober, ports, command):
    """Listen on more ports of a machine for a while."""
    pids = [prober.check_output(f"setsid timeout 60 {command.format(port=one)} & echo $!") for one in ports]
    try:
        for port in ports:
            there = f"grep -q ':{port:04X} 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"
            prober.run(f"n=0; until {there} || [ $n -ge 40 ]; do sleep 0.05; n=$((n + 1)); done")
        yield
    finally:
        prober.run(f"kill {' '.join(pids)}")


HOST_LISTENS = "nc -ll -p {port} -e true </dev/null >/dev/null 2>&1"
CLIENT_LISTENS = "nc -lk {port} </dev/null >/dev/null 2>&1"


def wait_for_services(host, ports):
    """After a restart services are called started before they listen."""
    there = " && ".join(f"grep -q ':{one:04X} 0*:0000 0A' /proc/net/tcp /proc/net/tcp6" for one in ports)
    host.run(f"n=0; until {{ {there}; }} || [ $n -ge 20 ]; do sleep 0.2; n=$((n + 1)); done", timeout=30)


def look(client, hosts, lab, users):
    """Return who can connect to which ports of each tier, as {target: {source: ports}}."""
    more, sources = unused(lab), (STRANGER, *hosts)
    targets = {name: [*ports, *more] for name, ports in doors(lab).items()}
    places = {lab.hosts[name].address: name for name in TIERS}
    for name in TIERS:
        # What web's customers come to is redirected: that is no port that somebody listens on.
        wait_for_services(hosts[name], [port for port in doors(lab)[name] if port not in (lab.port, lab.inner)])

    def connects(source, tried, seconds, who=(0,)):
        if source == STRANGER:
            return {one[:2] for one in client_connects(client, [(*one, 0) for one in tried], seconds)}
        return {one[1:] for one in host_connects(hosts[source], tried, who, seconds)}

    def ask(source):
        others = [name for name in TIERS if name != source]
        found = connects(source, [(lab.hosts[name].address, port) for name in others for port in targets[name]], 2)
        missing = {(lab.hosts[name].address, port) for name in others for port in meant(lab, name, source)} - found
        # What is to be let through may be let through for the services alone.
        who = (0, *users.get(source, []))
        return found | (connects(source, sorted(missing), PATIENCE, who) if missing else set())

    with ExitStack() as stack:
        for name in TIERS:
            stack.enter_context(listening(hosts[name], more, HOST_LISTENS))
        client.run("true")
        with ThreadPoolExecutor(len(sources)) as pool:
            answers = dict(zip(sources, pool.map(ask, sources), strict=True))
    found = {name: {source: [] for source in sources if source != name} for name in TIERS}
    for source, seen in answers.items():
        for where, port in sorted(seen):
            found[places[where]][source].append(port)
    return found


def reached(client, hosts, lab, baseline, target):
    """Return who can connect to which ports of a tier; one look serves a check for each tier once."""
    if "flows" not in SEEN or target in SEEN["told"]:
        SEEN.update(flows=look(client, hosts, lab, baseline["uids"]), told=set())
    SEEN["told"].add(target)
    return SEEN["flows"][target]


def wanted(lab, target, hosts):
    return {source: meant(lab, target, source) for source in (STRANGER, *hosts) if source != target}


def pid_of(host, unit):
    return host.run("systemctl show -p MainPID --value %s", unit).stdout.strip()


def boots(hosts):
    """Return when PID 1 of each host began."""
    return {name: one.check_output("cut -d ' ' -f 22 /proc/1/stat") for name, one in hosts.items()}


def sessions(db, lab):
    """Return the connections of app to the database: its port there, and the bytes received so far."""
    said = db.run("ss -Htin state established '( sport = :5432 )' dst %s", lab.hosts["app"].address).stdout.split()
    found, port = {}, None
    for word in said:
        if word.startswith(("198.", "[::ffff:198.")) and not word.endswith(":5432"):
            port = int(word.rpartition(":")[2])
            found[port] = 0
        elif word.startswith("bytes_received:") and port is not None:
            found[port] = int(word.partition(":")[2])
    return found


def services(lab):
    """Return the services of each tier."""
    return {
        "web": ("nginx", "ssh"),
        "app": (lab.service, "ssh"),
        "db": ("postgresql@15-main", "redis-server", "db-health", "ssh"),
    }


def settings(hosts, lab):
    """Return sums of what the services are made of."""
    files = {
        "web": "/etc/nginx/nginx.conf /etc/nginx/conf.d/*",
        "app": f"/usr/local/sbin/{lab.service}d /etc/systemd/system/{lab.service}.service",
        "db": "/etc/postgresql/15/main/*.conf /etc/postgresql/15/main/conf.d/* /etc/redis/redis.conf "
        "/usr/local/sbin/db-health /etc/systemd/system/db-health.service",
    }
    return {name: hosts[name].run(f"sha256sum {files[name]} /etc/ssh/sshd_config").stdout.split() for name in TIERS}


def listens(host):
    """Return the addresses and ports where services of a host listen."""
    lines = (line.split() for line in host.check_output("ss -Hltn").splitlines())
    return sorted({line[3] for line in lines if not line[3].startswith(("127.", "[::1]"))})


def uids(hosts, lab):
    """Return the users of each tier that its services have, as numbers."""
    names = {"web": ["www-data"], "app": [lab.service], "db": ["postgres", "redis"]}
    return {
        tier: [int(hosts[tier].check_output("awk -F: -v u=%s '$1 == u { print $3 }' /etc/passwd", one)) for one in who]
        for tier, who in names.items()
    }


@baseline
def before(client, hosts, lab):
    """Seen before anything was broken: the run's connection, the services, and when the hosts were booted."""
    said = client.check_output("curl -sf -m 5 http://app:%s/run", str(lab.api))
    return {
        "run": int(said.partition('"port": ')[2].rstrip("}")),
        "boots": boots(hosts),
        "settings": settings(hosts, lab),
        "listens": {name: listens(hosts[name]) for name in TIERS},
        "uids": uids(hosts, lab),
    }


@check(points=15, skill="sec.segmentation")
def test_only_the_app_gets_at_the_database(client, hosts, lab, baseline):
    """db can be connected to as the table says, from everywhere, and at no other port"""
    assert reached(client, hosts, lab, baseline, "db") == wanted(lab, "db", hosts), (
        "ports of db that each machine gets at"
    )


@check(points=10, skill="sec.segmentation")
def test_only_web_gets_at_the_app(client, hosts, lab, baseline):
    """app can be connected to as the table says, from everywhere, and at no other port"""
    assert reached(client, hosts, lab, baseline, "app") == wanted(lab, "app", hosts), (
        "ports of app that each machine gets at"
    )


@check(points=15, skill="sec.segmentation")
def test_web_has_one_door(client, hosts, lab, baseline):
    """web can be connected to as the table says, from everywhere, and at no other port"""
    seen = reached(client, hosts, lab, baseline, "web")
    # What app and db open themselves is another check's question.
    for source in ("app", "db"):
        seen = {**seen, source: [port for port in seen[source] if port != lab.port]}
    assert seen == wanted(lab, "web", hosts), "ports of web that each machine gets at"


@check(points=10, skill="sec.segmentation", needs=DATABASE)
def test_no_source_port_opens_a_door(client, hosts, lab):
    """No source port opens a door that is shut"""
    sources = sorted({lab.port, lab.api, lab.health, lab.inner, 20, 22, 53, 80, 123, 443, 5432, 6379})
    more = unused(lab)
    shut = {"web": [22], "app": [lab.api, 22], "db": [5432, 6379]}
    tried = [
        (lab.hosts[name].address, port, source) for name in TIERS for port in (*shut[name], *more) for source in sources
    ]
    with ExitStack() as stack:
        for name in TIERS:
            stack.enter_context(listening(hosts[name], more, HOST_LISTENS))
        found = client_connects(client, tried)
    names = {lab.hosts[name].address: name for name in TIERS}
    said = sorted(f"{names[where]}:{port} from port {source}" for where, port, source in found)
    assert said == [], "doors that opened to the client"


def unheard(machine):
    """Return how many datagrams came through to ports of a machine where nobody listens, as its kernel counts them.

    A reject sends the same answer as a port where nobody listens, so the answer alone would not tell.
    """
    lines = (line.split() for line in machine.check_output("grep ^Udp: /proc/net/snmp").splitlines())
    names, values = lines
    return int(values[names.index("NoPorts")])


def datagrams(targets, port):
    """Return a shell line that sends datagrams to a port of each address: curl's TFTP does it where there's no Python."""
    tries = [f"curl -s -m 1 tftp://{where}:{port}/x & " for where in targets for _ in range(COPIES)]
    return f"({''.join(tries)}wait) >/dev/null 2>&1"


@check(points=10, skill="sec.segmentation", needs=DATABASE)
def test_no_datagram_gets_in(client, hosts, lab):
    """No UDP gets in anywhere, whatever the source port"""
    was = {name: unheard(hosts[name]) for name in TIERS}
    ports = unused(lab)
    tried = [
        f"{lab.hosts[name].address}:{port}:{source}"
        for name in TIERS
        for port in (53, 161, 514, *ports)
        for source in (0, 53, 123, lab.api)
    ]
    run_here(client, SEND, str(COPIES), *tried)
    hosts["ops"].run(datagrams([lab.hosts[name].address for name in TIERS], ports[0]), timeout=30)
    # The packets pass in microseconds; a busy machine gets a moment.
    client.run("sleep 0.2")
    got_in = [name for name in TIERS if unheard(hosts[name]) - was[name] >= COPIES]
    assert got_in == [], "hosts that UDP gets into"


def answers_inside(web, lab):
    """Return whether nginx, asked on web itself, gets its answers from app, and app from db."""
    return any(
        all(
            web.run("curl -s -m 6 -o /dev/null -w '%%{http_code}' %s", f"http://127.0.0.1:{port}{path}").stdout == "200"
            for path in ("/orders", "/cart")
        )
        for port in (lab.inner, lab.port)
    )


@check(points=15, skill="sec.segmentation")
def test_nothing_goes_out(client, hosts, lab, baseline):
    """web, app and db open the connections that the table has, and no other, whoever tries"""
    assert answers_inside(hosts["web"], lab), "web and app get the answers that they ask for"
    outside = {address(lab, "client", client): "the world", lab.hosts["ops"].address: "ops"}
    ports = [443, unused(lab)[0]]
    tried = {name: [(where, port) for where in outside for port in ports] for name in TIERS}
    for name in ("app", "db"):
        tried[name].append((lab.hosts["web"].address, lab.port))

    def ask(name):
        return host_connects(hosts[name], tried[name], (0, *baseline["uids"][name]))

    with (
        listening(client, ports, CLIENT_LISTENS),
        listening(hosts["ops"], ports, HOST_LISTENS),
        ThreadPoolExecutor(len(TIERS)) as pool,
    ):
        answers = dict(zip(TIERS, pool.map(ask, TIERS), strict=True))
    places = {**outside, lab.hosts["web"].address: "web"}
    found = [
        f"{name} to {places[where]}:{port} as user {user}" for name in TIERS for user, where, port in answers[name]
    ]
    assert sorted(found) == [], "connections that could be opened"
    was = {name: unheard(one) for name, one in (("the world", client), ("ops", hosts["ops"]))}
    with ThreadPoolExecutor(len(TIERS)) as pool:
        list(pool.map(lambda name: hosts[name].run(datagrams(outside, ports[1]), timeout=30), TIERS))
    client.run("sleep 0.2")
    heard = [name for name, one in (("the world", client), ("ops", hosts["ops"])) if unheard(one) - was[name] >= COPIES]
    assert heard == [], "who hears datagrams of the three"


def page(prober, lab, path):
    """Return status and body of a page of the shop."""
    url = f"http://{lab.hosts['web'].address}:{lab.port}{path}"
    *body, status = prober.run("curl -s -m 6 -w '\n%%{http_code}' %s", url).stdout.split("\n")
    return status, "\n".join(body).strip()


@check(points=10, skill="linux.networking", needs=DATABASE, stable_for=2)
def test_the_shop_works(client, lab):
    """The shop answers, through all three tiers"""
    pages = {
        "/": f"shop {lab.token('shop')}",
        "/orders": f"orders 240 {lab.token('order')}",
        "/cart": f"cart {lab.token('cart')}",
    }
    seen = {path: page(client, lab, path) for path in pages}
    assert seen == {path: ("200", body) for path, body in pages.items()}, "what the shop answers"


@check(points=5, skill="linux.networking", needs=DATABASE)
def test_the_run_goes_on(hosts, lab, baseline):
    """The month-end run goes on in the session that it has"""
    # Where all hosts were restarted there is a new session; one alone is no excuse.
    anew = not set(boots(hosts).items()) & set(baseline["boots"].items())
    before = sessions(hosts["db"], lab)
    time.sleep(1.5)
    after = sessions(hosts["db"], lab)
    alive = [port for port in before if after.get(port, 0) > before[port]]
    if anew:
        assert len(alive) >= 1, "sessions of app at which the database works"
    else:
        assert baseline["run"] in after, f"the run's connection, from port {baseline['run']} of app, is there"
        assert baseline["run"] in alive, f"the run's connection, from port {baseline['run']} of app, is at work"


@check(points=5, skill="linux.networking", needs=DATABASE)
def test_the_health_checks_go_on(hosts, lab):
    """ops hears from all three that they are well, and pings them"""
    places = {name: lab.hosts[name].address for name in TIERS}
    seen = {
        name: hosts["ops"].run("curl -s -m 4 %s", f"http://{where}:{lab.health}/health").stdout.strip()
        for name, where in places.items()
    }
    assert seen == {name: f"{name} ok" for name in TIERS}, "what /health answers to ops"
    pinged = [name for name in TIERS if hosts["ops"].run("ping -c 1 -W 2 %s", places[name]).rc == 0]
    assert pinged == list(TIERS), "hosts that answer the ping of ops"


@check(points=5, skill="linux.services", needs=DATABASE)
def test_the_services_are_themselves(hosts, lab, baseline):
    """Every service runs, with its settings, and listens where it did"""
    assert settings(hosts, lab) == baseline["settings"], "sums of settings"
    for name, units in services(lab).items():
        down = [unit for unit in units if pid_of(hosts[name], unit) in ("", "0")]
        assert down == [], f"services of {name} that don't run"
        now = listens(hosts[name])
        lost = [one for one in baseline["listens"][name] if one not in now]
        assert lost == [], f"where {name} no longer listens"
