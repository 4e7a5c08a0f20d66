"""Do the two machines talk again, in any size, with the address on one of them and the fence where it belongs?"""

import ipaddress
import time
from hashlib import sha256

from breakfix.grading import baseline, check


def at(lab, last):
    """Return the address of the session's network that ends so."""
    return str(ipaddress.ip_network(lab.network)[last])


def request(prober, url, *, seconds=9, send=0):
    """Return status and body of a request; a service that is only just starting is asked again for five seconds."""
    body = f"head -c {send} /dev/zero | tr '\\0' 'x' | " if send else ""
    data = "--data-binary @-" if send else ""
    command = f"{body}curl -s -m {seconds} {data} -w '\n%%{{http_code}}' %s"
    deadline = time.monotonic() + 5
    while True:
        done = prober.run(command, url, timeout=30)
        text, _, status = done.stdout.rpartition("\n")
        if done.rc != 7 or time.monotonic() > deadline:  # 7: refused
            return status, text
        time.sleep(0.1)


def at_once(prober, url):
    """Return the body of a request that is asked once, or nothing where it is not answered."""
    return prober.run("curl -s -m 3 %s", url).stdout.strip()


def sums(host, paths):
    return host.run(f"sha256sum {paths}").stdout.split()


def settings(hosts, lab):
    """Return what the two services are, as sums."""
    return {
        "app": sums(hosts["app"], f"/usr/local/sbin/{lab.service}d /etc/{lab.service}.conf"),
        "store": sums(hosts["store"], "/usr/local/sbin/ledgerd /etc/ledger.conf"),
    }


def addresses(host):
    """Return the addresses that a machine carries, each once."""
    words = [line.split() for line in host.check_output("ip -o -4 address show").splitlines()]
    return sorted({word[word.index("inet") + 1].partition("/")[0] for word in words if "inet" in word})


@baseline
def before(hosts, lab):
    """Seen before anything was broken."""
    return {
        "settings": settings(hosts, lab),
        "addresses": {name: addresses(host) for name, host in hosts.items()},
    }


@check(points=20, skill="linux.networking", stable_for=2)
def test_the_books_are_reached(client, lab):
    """The summary of the live books is answered"""
    seen = request(client, f"http://app:{lab.port}/summary")
    assert seen == ("200", f"live {lab.token('live')}\n"), "what /summary answers"


@check(points=15, skill="linux.networking")
def test_statements_of_any_length_come_through(client, lab):
    """Statements of 10 to 20 000 lines are answered, and complete"""
    for lines in (10, 60, 100, 150, 230, 1000, 20000):
        wanted = "".join(f"{line:06} live {lab.token('live')}\n" for line in range(lines))
        status, body = request(client, f"http://app:{lab.port}/statement/{lines}")
        assert (status, len(body)) == ("200", len(wanted)), f"status and bytes of a statement of {lines} lines"
        assert body == wanted, f"a statement of {lines} lines"


@check(points=10, skill="linux.networking")
def test_orders_of_any_size_go_through(client, lab):
    """Orders of 10 bytes to 300 kB reach the live books"""
    for size in (10, 2000, 4000, 8000, 300000):
        seen = request(client, f"http://app:{lab.port}/orders", send=size)
        wanted = f"live {lab.token('live')} {sha256(b'x' * size).hexdigest()}\n"
        assert seen == ("200", wanted), f"what the books say to an order of {size} bytes"


@check(points=10, skill="linux.networking", needs="test_the_books_are_reached")
def test_large_packets_pass_both_ways(hosts, lab):
    """A ping of 4000 bytes passes between the machines, from either side"""
    for here, there in (("app", "store"), ("store", "app")):
        done = hosts[here].run("ping -c 2 -W 2 -s 4000 %s", lab.hosts[there].address)
        assert done.rc == 0, f"exit status of ping -s 4000 from {here} to {there}"


@check(points=20, skill="linux.networking", needs="test_the_books_are_reached")
def test_the_copy_stays_out_of_reach(hosts, lab):
    """app does not reach the half-restored copy, which is still up on store"""
    copy = f"http://{at(lab, lab.copy)}:{lab.books}/summary"
    for source in ("", f"--interface {lab.hosts['app'].address}", f"--interface {at(lab, lab.own)}"):
        seen = hosts["app"].run(f"curl -s -m 2 {source} {copy}").stdout.strip()
        assert seen == "", "what app hears from the copy"
    assert at_once(hosts["store"], copy) == f"half restored {lab.token('copy')}", "what the copy says on store"


@check(points=10, skill="linux.networking", needs="test_the_books_are_reached")
def test_one_machine_has_the_address(hosts, lab):
    """store carries the service address of the books, and nobody else"""
    carriers = [name for name, host in hosts.items() if at(lab, lab.live) in addresses(host)]
    assert carriers == ["store"], f"machines that carry {at(lab, lab.live)}"


@check(points=10, skill="linux.networking", needs="test_the_books_are_reached")
def test_other_addresses_and_ways_are_kept(client, hosts, lab, baseline):
    """Every other address is still there, and app reaches the backup from its service address"""
    for name, before in baseline["addresses"].items():
        now = addresses(hosts[name])
        assert [one for one in before if one not in now] == [], f"addresses that {name} has lost"
    heard = at_once(hosts["app"], f"http://{at(lab, lab.backup)}:{lab.books}/health")
    assert heard == f"ledger is up, and was asked from {at(lab, lab.own)}", "what app hears at the backup's address"
    for url in (f"http://app:{lab.port}/health", f"http://store:{lab.books}/health"):
        assert request(client, url)[0] == "200", f"status of {url} for everybody else"


@check(points=5, skill="linux.services", needs="test_the_books_are_reached")
def test_the_services_are_themselves(hosts, lab, baseline):
    """Both services run the same programs with the same settings, each as its own user"""
    assert settings(hosts, lab) == baseline["settings"], "sums of programs and settings"
    for name, service in (("app", lab.service), ("store", "ledger")):
        pid = hosts[name].check_output("systemctl show -p MainPID --value %s", service).strip()
        seen = hosts[name].run("ps -p %s -o user:32=,args=", pid).stdout.split()
        assert seen == [service, "/usr/bin/python3", f"/usr/local/sbin/{service}d"], f"user and program of {service}"
