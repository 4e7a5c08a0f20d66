"""Does everybody get in who should, and nobody else, now and after a restart?"""

from contextlib import contextmanager

from breakfix.grading import check

BLOCKED = ("192.0.2.0/24", "198.51.100.23", "203.0.113.64/27")
REDIS = 6379

COPIES = 5
"""Datagrams that are sent to each port, so that a stray one of somebody else doesn't count as an open port."""

SEND = """\
import socket, sys
address, source, copies, *ports = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind(("", int(source)))
    for port in ports * int(copies):
        udp.sendto(b"x", (address, int(port)))
"""


def get(prober, lab, port, path):
    """Return status and body of a request from one machine to the shop."""
    url = f"http://{lab.hosts['shop'].address}:{port}{path}"
    *body, status = prober.run("curl -s -m 4 -w '\n%%{http_code}' %s", url).stdout.split("\n")
    return status, "\n".join(body).strip()


def let_in(prober, lab, ports, connect="nc -w 2 {address} {port} -e true"):
    """Return which of these ports of the shop a machine can connect to; all are tried at the same time.

    Hosts have busybox's nc, which knows no -z; the client has that of OpenBSD, which knows no -e.
    """
    address = lab.hosts["shop"].address
    commands = [(connect.format(address=address, port=port), port) for port in ports]
    tries = " ".join(f"({command} </dev/null >/dev/null 2>&1 && echo {port}) &" for command, port in commands)
    return sorted(int(port) for port in prober.run(f"({tries} wait)").stdout.split())


FROM_CLIENT = "nc -z -w 2 {address} {port}"


def strangers(lab):
    """Two ports that nobody has: one as services have them, one as the kernel gives them to outgoing connections."""
    number = int(lab.token("port", 6), 16)
    return [2100 + number % 800, 41000 + number % 9000]


def unheard(shop):
    """Return how many datagrams the firewall of the shop let through to ports where nobody listens."""
    names, values = (line.split() for line in shop.check_output("grep ^Udp: /proc/net/snmp").splitlines())
    return int(values[names.index("NoPorts")])


def let_in_by_udp(client, shop, lab, ports, source):
    """Return how many of these ports a customer's UDP reaches, as the kernel of the shop counts it.

    A reject sends the same answer as a port where nobody listens, so the answer alone would not tell.
    """
    before = unheard(shop)
    ports = [str(port) for port in ports]
    places = " ".join(["%s"] * (len(ports) + 4))
    address = lab.hosts["shop"].address
    client.check_output(f"python3 -c {places}", SEND, address, str(source), str(COPIES), *ports)
    # The packets pass in microseconds; a busy machine gets a moment.
    shop.run("usleep 200000")
    return (unheard(shop) - before) // COPIES


@contextmanager
def listeners(shop, ports):
    """Listen on more ports of the shop for a while."""
    pids = [
        shop.check_output(f"setsid timeout 60 nc -ll -p {port} -e true </dev/null >/dev/null 2>&1 & echo $!")
        for port in ports
    ]
    try:
        for port in ports:
            listening = f"ss -Hltn sport = :{port} | grep -q ."
            shop.run(f"n=0; until {listening} || [ $n -ge 50 ]; do usleep 100000; n=$((n + 1)); done")
        yield
    finally:
        for pid in pids:
            shop.run(f"kill {pid}")


@check(points=15, skill="linux.networking", stable_for=2)
def test_customers_get_in(client, hosts, lab):
    """The shop answers, to customers and to the monitoring"""
    for where, prober in (("a customer", client), ("mon", hosts["mon"])):
        seen = get(prober, lab, lab.port, "/")
        assert seen == ("200", f"shop {lab.token('shop')}"), f"what / answers to {where}"


@check(points=15, skill="linux.networking", needs="test_customers_get_in", stable_for=2)
def test_the_shop_gets_its_rates(client, host, lab):
    """/rates is answered, and the shop itself hears the answers to what it asks of mon"""
    wanted = ("200", f"rates {lab.token('rates')}")
    assert get(client, lab, lab.port, "/rates") == wanted, "what /rates answers"
    url = f"http://{lab.hosts['mon'].address}:{lab.feed}/"
    heard = host.run("curl -s -m 4 %s", url).stdout.strip()
    assert heard == wanted[1], f"what shop hears from mon:{lab.feed}"


@check(points=10, skill="linux.networking")
def test_the_monitoring_gets_its_metrics(hosts, lab):
    """mon reads the metrics"""
    status, body = get(hosts["mon"], lab, lab.metrics, "/metrics")
    assert (status, body.split()[-1:]) == ("200", [lab.token("metrics")]), "what /metrics answers to mon"


@check(points=5, skill="linux.networking")
def test_ping_is_answered(client, lab):
    """A ping is answered"""
    assert client.run("ping -c 2 -i 0.2 -W 2 %s", lab.hosts["shop"].address).rc == 0, "exit status of ping"


@check(points=30, skill="sec.segmentation", needs="test_customers_get_in")
def test_nobody_else_gets_in(client, hosts, lab):
    """Every other port is closed to others, over TCP and UDP, whatever the source port"""
    shop, mon, unused = hosts["shop"], hosts["mon"], strangers(lab)
    with listeners(shop, unused):
        assert let_in(client, lab, [80, REDIS, lab.metrics, *unused], FROM_CLIENT) == [], "ports that let a customer in"
        seen = let_in(client, lab, [REDIS], f"nc -z -w 2 -p {lab.feed} {{address}} {{port}}")
        assert seen == [], f"ports that let a customer in who comes from port {lab.feed}"
        assert let_in(mon, lab, [80, REDIS, *unused]) == [], "ports that let mon in"
        local = [port for port in unused if shop.run(f"nc -w 2 127.0.0.1 {port} -e true </dev/null").rc != 0]
        assert local == [], "ports that shop itself can't reach over 127.0.0.1"
    for source, how in ((0, "any port"), (53, "port 53"), (lab.feed, f"port {lab.feed}")):
        seen = let_in_by_udp(client, shop, lab, [53, 123, 161, 514, *unused], source)
        assert seen == 0, f"UDP ports that let a customer in who comes from {how}"


@check(points=15, skill="sec.segmentation", needs="test_customers_get_in")
def test_the_blocked_machine_stays_out(hosts, lab):
    """bot does not get in anywhere"""
    seen = let_in(hosts["bot"], lab, [lab.port, lab.metrics, REDIS])
    assert seen == [], "ports that let bot in"
    assert hosts["bot"].run(f"ping -c 1 -W 1 {lab.hosts['shop'].address}").rc != 0, "a ping of bot is answered"


@check(points=5, skill="sec.segmentation", needs="test_customers_get_in")
def test_no_blocked_source_is_forgotten(host, lab):
    """Every source that was blocked is still in the firewall"""
    words = host.check_output("nft list ruleset").replace(",", " ").split()
    forgotten = [one for one in (*BLOCKED, lab.hosts["bot"].address) if one not in words]
    assert forgotten == [], "sources that the running firewall names no more"


@check(points=5, skill="linux.services", needs="test_customers_get_in")
def test_redis_keeps_its_sessions(host, lab):
    """redis runs, keeps its sessions, and answers the shop itself"""
    asked = "printf 'GET session:1\\r\\nDBSIZE\\r\\nQUIT\\r\\n' | nc -w 2 127.0.0.1 6379"
    seen = host.run(asked).stdout.replace("\r", "").split()
    assert seen == ["$16", lab.token("session", 16), ":40", "+OK"], "what redis answers on shop"
