"""Do strict clients connect again, and is neither the neighbour nor a key the worse for it?"""

import re
import shlex
import time

from breakfix.grading import baseline, check

ROOT = "/tmp/root.pem"
ISSUING = "/tmp/issuing.pem"
KEPT = "/etc/ssl/company-root.pem"
# A number that no account has.
NOBODYS = "64999"


def main_name(lab):
    return f"{lab.site}.{lab.domain}"


def put(client, path, text):
    client.run_test("printf %%s %s >%s", text, path)


def page(client, lab, baseline, name):
    """Return what a client reads that trusts the root alone, or why it refuses."""
    put(client, ROOT, baseline["root"])
    place = f"{name}:{lab.port}"
    answer = client.run(
        "curl -sS -m 5 --cacert %s --resolve %s https://%s/", ROOT, f"{place}:{lab.hosts['edge'].address}", place
    )
    return answer.stdout.strip() or answer.stderr.partition("\n")[0]


def presented(client, lab, name):
    """Return the first certificate that the server sends for a name, in PEM."""
    return client.run(
        "openssl s_client -connect %s -servername %s </dev/null 2>/dev/null | openssl x509 2>/dev/null",
        f"{lab.hosts['edge'].address}:{lab.port}",
        name,
    ).stdout.strip()


def judged(client, certificate, days):
    """Return what openssl says of a certificate, with the intermediate in hand: OK, or the first thing wrong."""
    put(client, "/tmp/leaf.pem", certificate)
    ask = f"openssl verify -CAfile {ROOT} -untrusted {ISSUING} -attime $(($(date +%s) + {days * 86400})) /tmp/leaf.pem"
    said = client.run(f"{ask} 2>&1").stdout.strip().splitlines()
    return (
        "OK" if said == ["/tmp/leaf.pem: OK"] else next((line for line in said if "error " in line), "no certificate")
    )


def groups(host):
    """Return every group: its name, its number, and who was put into it."""
    lines = [line.split(":") for line in host.check_output("cat /etc/group").splitlines()]
    return [(line[0], line[2], line[3].split(",")) for line in lines if len(line) > 3]


def members(host, group):
    return next((inside for name, _, inside in groups(host) if name == group), [])


def accounts(host, baseline):
    """Return every user but root as uid, gid and groups, and for each group somebody who is in no other."""
    lines = [line.split(":") for line in host.check_output("cat /etc/passwd").splitlines()]
    # Debian's own service is in the group that keys are given to.
    shipped = baseline["ssl_cert"]
    every = groups(host)
    found = [
        (
            name, uid, gid,
            [g for group, g, inside in every if name in inside and not (group == "ssl-cert" and name in shipped)],
        )
        for name, _, uid, gid, *_ in (line for line in lines if len(line) > 3)
        if uid.isdecimal() and int(uid) != 0
    ]  # fmt: skip
    found += [(f"group {name}", NOBODYS, gid, []) for name, gid, _ in every if gid != "0" and name != "ssl-cert"]
    return [(name, uid, gid, ",".join([gid, *more])) for name, uid, gid, more in found if gid.isdecimal()]


@baseline
def authority(client, host, lab):
    """The company's certificates, which no candidate can have changed yet, and the neighbour's."""
    neighbour = presented(client, lab, f"{lab.neighbour}.{lab.domain}")
    assert neighbour, "the neighbour should present a certificate"
    return {
        "root": host.check_output("cat %s", KEPT) + "\n",
        "issuing": host.check_output("cat /srv/renewals/*/issuing-*.crt") + "\n",
        "neighbour": neighbour,
        "ssl_cert": members(host, "ssl-cert"),
    }


@check(points=20, skill="linux.networking")
def test_certificate_is_good(client, lab, baseline):
    """The site presents a certificate of the company's that is good for 30 more days"""
    put(client, ROOT, baseline["root"])
    put(client, ISSUING, baseline["issuing"])
    # A reload that was asked for a moment ago may still be under way.
    deadline = time.monotonic() + 1.5
    found = presented(client, lab, main_name(lab))
    while judged(client, found, days=0) != "OK" and time.monotonic() < deadline:
        time.sleep(0.1)
        found = presented(client, lab, main_name(lab))
    assert found != "", "the certificate that is presented"
    assert judged(client, found, days=0) == "OK", "what a client that knows the company's CA says of it, today"
    assert judged(client, found, days=30) == "OK", "what a client that knows the company's CA says of it, in 30 days"


@check(points=30, skill="linux.networking", stable_for=2)
def test_strict_clients_connect(client, lab, baseline):
    """A client that trusts the company's root alone reads the site's page"""
    read = page(client, lab, baseline, main_name(lab))
    assert read == f"{lab.site} {lab.token('page', 24)}", f"the page of {main_name(lab)}"


@check(points=15, skill="linux.networking", stable_for=2)
def test_second_name_works(client, lab, baseline):
    """The same client reads it under the site's second name"""
    name = f"api.{main_name(lab)}"
    assert page(client, lab, baseline, name) == f"{lab.site} {lab.token('page', 24)}", f"the page of {name}"


@check(points=15, skill="linux.services", needs="test_strict_clients_connect", stable_for=2)
def test_neighbour_is_unharmed(client, lab, baseline):
    """The neighbour answers as before, with its own certificate"""
    name = f"{lab.neighbour}.{lab.domain}"
    assert page(client, lab, baseline, name) == f"{lab.neighbour} {lab.token('neighbour', 24)}", f"the page of {name}"
    assert presented(client, lab, name) == baseline["neighbour"], f"the certificate of {name}"


@check(points=10, skill="linux.networking", needs="test_strict_clients_connect")
def test_keys_are_roots_alone(host, baseline):
    """No private key can be read by a user other than root"""
    where = "/etc /home /opt /root /run /srv /tmp /usr/local /var -path /var/lib/dpkg -prune -o"
    keys = "-type f -size -16k -exec grep -l -e '-----BEGIN .*PRIVATE KEY-----' {} +"
    # Others come only as far as directories let them; an owner, or a group that a key was given to, is another matter.
    open_to_all = host.run(f"find {where} -type d ! -perm -0001 -prune -o -perm -0004 {keys}").stdout.split()
    owned = host.run(f"find {where} ! -user root {keys}").stdout.split()
    lent = host.run(f"find {where} -perm /0060 ! -group root ! -group ssl-cert {keys}").stdout.split()
    assert sorted({*open_to_all, *owned, *lent}) == [], "private keys that others can read"
    # The mode bits are not all: an access list opens a file, or the way to it, to one user or group.
    every = host.run(f"find {where} {keys}", timeout=30).stdout.splitlines()
    assert every != [], "private keys on the host"
    names = " ".join(shlex.quote(key) for key in every)
    trusted = {"user:0", "group:0", *(f"group:{gid}" for name, gid, _ in groups(host) if name == "ssl-cert")}
    given = []
    for part in host.run(f"getfacl -nspe {names} 2>/dev/null").stdout.split("# file: ")[1:]:
        entries = re.findall(r"^((?:user|group):\d+):.*#effective:r", part, re.MULTILINE)
        given += [f"{part.splitlines()[0]} ({entry})" for entry in entries if entry not in trusted]
    assert given == [], "private keys that an access list opens"
    look = shlex.quote('for key; do [ ! -r "$key" ] || echo "$key"; done')
    asked = "\n".join(
        f"setpriv --reuid={uid} --regid={gid} --groups={more} sh -c {look} {shlex.quote(name)} {names}"
        " | while read -r key; do echo "
        f'{shlex.quote(name)} reads "$key"; done'
        for name, uid, gid, more in accounts(host, baseline)
    )
    assert host.run(asked, timeout=60).stdout.splitlines()[:5] == [], "who can read a private key"


@check(points=10, skill="linux.networking", needs="test_strict_clients_connect")
def test_old_tls_stays_off(client, lab):
    """Nothing older than TLS 1.2 is spoken"""
    names = [main_name(lab), f"{lab.neighbour}.{lab.domain}"]
    spoken = [
        f"{name} {version}"
        for name in names
        for version in ("-tls1", "-tls1_1")
        if "Cipher is (NONE)"
        not in client.run(
            "openssl s_client %s -cipher ALL:@SECLEVEL=0 -connect %s -servername %s </dev/null 2>&1",
            version,
            f"{lab.hosts['edge'].address}:{lab.port}",
            name,
        ).stdout
    ]
    assert spoken == [], "old versions of TLS that are answered"
