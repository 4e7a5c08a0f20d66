"""Do strict clients connect again, and is neither the neighbour nor a key the worse for it?"""

import time

from breakfix.grading import baseline, check

ROOT = "/tmp/root.pem"
ISSUING = "/tmp/issuing.pem"
KEPT = "/etc/ssl/company-root.pem"


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


@baseline
def authority(client, host, lab):
    """The company's certificates, which no candidate can have changed yet, and the neighbour's."""
    neighbour = presented(client, lab, f"{lab.neighbour}.{lab.domain}")
    assert neighbour, "the neighbour should present a certificate"
    return {
        "root": host.check_output("cat %s", KEPT) + "\n",
        "issuing": host.check_output("cat /srv/renewals/*/issuing-*.crt") + "\n",
        "neighbour": neighbour,
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
def test_keys_are_roots_alone(host):
    """No private key can be read by a user other than root"""
    where = "/etc /home /opt /root /run /srv /tmp /usr/local /var -path /var/lib/dpkg -prune -o"
    keys = "-type f -size -16k -exec grep -l -e '-----BEGIN .*PRIVATE KEY-----' {} +"
    # Others come only as far as directories let them; an owner, or a group that a key was given to, is another matter.
    open_to_all = host.run(f"find {where} -type d ! -perm -0001 -prune -o -perm -0004 {keys}").stdout.split()
    owned = host.run(f"find {where} ! -user root {keys}").stdout.split()
    lent = host.run(f"find {where} -perm /0060 ! -group root ! -group ssl-cert {keys}").stdout.split()
    assert sorted({*open_to_all, *owned, *lent}) == [], "private keys that others can read"


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
