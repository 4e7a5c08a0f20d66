"""Does every name lead where it should, at once, and does the machine still listen to its resolver?"""

import time
from contextlib import contextmanager

from breakfix.grading import baseline, check

RECORDS = "/etc/company.records"
REFUSED = 7
"""What curl exits with where nobody listens."""
SOON = 5.0
"""Seconds that a changed record may take, as the brief promises."""


def ask(client, lab, path):
    """Return status, body and seconds of one request; a service that is only just starting is asked again."""
    url = f"http://app:{lab.port}/{path}"
    deadline = time.monotonic() + SOON
    while True:
        done = client.run("curl -s -m 9 -w '\n%%{http_code} %%{time_total}' %s", url)
        *lines, last = done.stdout.splitlines()
        if done.rc != REFUSED or time.monotonic() > deadline:
            status, seconds = last.split()
            return status, "\n".join(lines).strip(), float(seconds)
        time.sleep(0.1)


def addresses(client, lab, name):
    """Return what the service finds for a name: its addresses, or what it says instead."""
    status, body, _ = ask(client, lab, f"lookup/{name}")
    return sorted(body.split()) if status == "200" else body


def names_of(text):
    """Return every name in a hosts file with the address that comes first for it."""
    found = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if "." in address:
            for name in names:
                found.setdefault(name, address)
    return found


def options_of(text):
    """Return every option of a resolv.conf."""
    return sorted({word for line in text.splitlines() if line.startswith("options") for word in line.split()[1:]})


def switch_of(text):
    """Return what a nsswitch.conf says of everything but hosts."""
    pairs = [line.partition("#")[0].partition(":") for line in text.splitlines()]
    return {key.strip(): rest.split() for key, colon, rest in pairs if colon and key.strip() != "hosts"}


def neighbours(hosts):
    """Return what the machines of the other team were told to do, as sums."""
    files = {
        "util": f"{RECORDS} /etc/dnsmasq.conf /etc/dnsmasq.d/company.conf /etc/nginx/conf.d/partners.conf",
        "store": "/etc/nginx/conf.d/partners.conf",
    }
    sums = {name: hosts[name].run(f"sha256sum {paths}").stdout.split() for name, paths in files.items()}
    return {f"{name}:{path}": digest for name, words in sums.items() for digest, path in zip(*[iter(words)] * 2)}


@baseline
def before(hosts, lab):
    """Seen before anything was broken."""
    app = hosts["app"]
    return {
        "names": names_of(app.check_output("cat /etc/hosts")),
        "options": options_of(app.check_output("cat /etc/resolv.conf")),
        "switch": switch_of(app.check_output("cat /etc/nsswitch.conf")),
        "program": app.check_output("sha256sum %s %s", f"/usr/local/sbin/{lab.service}d", f"/etc/{lab.service}.conf"),
        "neighbours": neighbours(hosts),
    }


@check(points=15, skill="linux.networking")
def test_full_names_are_found(client, lab):
    """Names that only the resolver knows are found by their full name"""
    for name in ("stock", "rates"):
        found = addresses(client, lab, f"{name}.{lab.domain}")
        assert found == [lab.hosts["store"].address], f"addresses that {lab.service} finds for {name}.{lab.domain}"
    status, body, _ = ask(client, lab, "partners/stock")
    assert (status, body) == ("200", f"stock {lab.token('stock')}"), "what stock answers"


@check(points=15, skill="linux.networking")
def test_short_names_are_found(client, lab):
    """The same names are found without the domain"""
    for name in ("stock", "rates"):
        found = addresses(client, lab, name)
        assert found == [lab.hosts["store"].address], f"addresses that {lab.service} finds for {name}"
    status, body, _ = ask(client, lab, "partners/rates")
    assert (status, body) == ("200", f"rates {lab.token('rates')}"), "what rates answers"


@check(points=20, skill="linux.networking", stable_for=2)
def test_the_moved_one_is_live(client, lab):
    """The service that moved is asked where it is now"""
    status, body, _ = ask(client, lab, f"partners/{lab.moved}")
    assert (status, body) == ("200", f"{lab.moved}, live {lab.token('moved')}"), f"what {lab.moved} answers"
    for name in (lab.moved, f"{lab.moved}.{lab.domain}"):
        assert addresses(client, lab, name) == [lab.hosts["store"].address], f"addresses of {name}"


@check(points=15, skill="linux.networking", needs="test_full_names_are_found", stable_for=2)
def test_no_answer_takes_a_second(client, lab):
    """Every answer comes within a second"""
    for path in (f"lookup/rates.{lab.domain}", "lookup/stock", "partners/stock", f"partners/{lab.moved}"):
        *_, seconds = ask(client, lab, path)
        assert seconds < 1.0, f"seconds that /{path} took"


@contextmanager
def records(util, text):
    """Let the resolver have other records for a while."""
    before = util.check_output("cat %s", RECORDS)
    try:
        read_again(util, text)
        yield
    finally:
        read_again(util, before)


def read_again(util, text):
    pid = util.check_output("systemctl show -p MainPID --value dnsmasq").strip()
    assert pid != "0", "the process of the resolver on util"
    util.check_output(f"printf '%%s\\n' %s >{RECORDS} && kill -HUP {pid}", text)


def soon(look, wanted):
    """Look until it is as wanted, for as long as it may take; return what was seen last."""
    deadline = time.monotonic() + SOON
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen


@check(points=15, skill="linux.networking", needs="test_the_moved_one_is_live")
def test_a_changed_record_is_followed(client, hosts, lab):
    """A record that changes or is added on the resolver is found within five seconds"""
    util, store = lab.hosts["util"].address, lab.hosts["store"].address
    new = f"n{lab.token('new', 10)}"
    moved = [lab.moved, f"{lab.moved}.{lab.domain}", "stock", f"stock.{lab.domain}", new, f"{new}.{lab.domain}"]
    text = "".join(f"{util} {name}.{lab.domain}\n" for name in (lab.moved, "stock", new, "billing"))
    with records(hosts["util"], text):
        wanted = {name: [util] for name in moved}
        found = soon(lambda: {name: addresses(client, lab, name) for name in moved}, wanted)
    # What is asked after this finds the records as they were.
    soon(lambda: addresses(client, lab, lab.moved), [store])
    wrong = {name: found[name] for name in moved if found[name] != [util]}
    assert wrong == {}, "names that do not follow their record, and what is found for them"


@check(points=10, skill="linux.networking", needs="test_full_names_are_found")
def test_other_entries_still_count(client, lab, baseline):
    """Every other name in /etc/hosts gives the address that it gave there"""
    mine = (lab.moved, f"{lab.moved}.{lab.domain}")
    kept = {name: address for name, address in baseline["names"].items() if name not in mine}
    found = {name: addresses(client, lab, name) for name in kept}
    wrong = {name: found[name] for name in kept if set(found[name]) != {kept[name]}}
    assert wrong == {}, "names that give something else now"
    for name in ("archive", "billing"):
        status, body, _ = ask(client, lab, f"partners/{name}")
        assert (status, body.split()[-1:]) == ("200", [lab.token(name)]), f"what {name} answers"


@check(points=5, skill="linux.networking", needs="test_full_names_are_found")
def test_other_settings_are_kept(host, baseline):
    """The options of /etc/resolv.conf and the other lines of /etc/nsswitch.conf are still there"""
    options = options_of(host.check_output("cat /etc/resolv.conf"))
    lost = [option for option in baseline["options"] if option not in options]
    assert lost == [], "options that /etc/resolv.conf has lost"
    assert switch_of(host.check_output("cat /etc/nsswitch.conf")) == baseline["switch"], "nsswitch.conf without hosts"


@check(points=5, skill="linux.services", needs="test_full_names_are_found")
def test_the_service_and_its_neighbours_are_untouched(hosts, lab, baseline):
    """The service runs the same program with the same settings, as its own user; util and store are as they were"""
    app, program = hosts["app"], f"/usr/local/sbin/{lab.service}d"
    assert app.check_output("sha256sum %s %s", program, f"/etc/{lab.service}.conf") == baseline["program"], "sums"
    pid = app.check_output("systemctl show -p MainPID --value %s", lab.service).strip()
    seen = app.run("ps -p %s -o user:32=,args=", pid).stdout.split()
    assert seen == [lab.service, "/usr/bin/python3", program], f"user and program of {lab.service}.service"
    assert neighbours(hosts) == baseline["neighbours"], "sums of the other team's files"
