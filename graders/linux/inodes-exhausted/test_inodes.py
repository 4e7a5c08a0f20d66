"""Is the shop open again, for good, with every order and every customer still there?"""

import json
import time
from hashlib import sha256

from breakfix.grading import check

ORDER = f"check-{time.time_ns()}"
CUSTOMERS = 24
PATIENCE = 5.0
"""Seconds that a service may need after a restart, or a receipt after its order."""


def url(lab, path):
    return f"http://web:{lab.port}{path}"


def until(ask, good):
    """Ask until the answer is good or patience ends; return the last answer."""
    deadline = time.monotonic() + PATIENCE
    while not good(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def get(client, lab, path):
    """Return the lines of a page; none where there is no such page."""
    return client.run("curl -sf -m 5 %s", url(lab, path)).stdout.splitlines()


def put(client, lab):
    # The same order each time: taking it again needs a new file, and keeps none.
    wanted = "curl -s -m 5 -o /dev/null -w '%%{http_code}' -X PUT -d '2 lamps' %s"
    return client.run(wanted, url(lab, f"/orders/{ORDER}")).stdout


def known(lab, name, length):
    """Return what the setup called a thing of this name."""
    return sha256(f"{lab.token('world')}/{name}".encode()).hexdigest()[:length]


def carts(client, lab):
    """Return the answer that each customer of the setup gets for their cart."""
    sids = " ".join(known(lab, f"session {n}", 32) for n in range(CUSTOMERS))
    each = f"for sid in {sids}; do curl -s -m 5 -b sid=$sid {url(lab, '/cart')}; done"
    return client.run(each, timeout=60).stdout.splitlines()


def orders_before(lab):
    """Return the orders that the setup made, as the shop lists them."""
    early = [f"o{n + 1000} {n % 5 + 1} of article {known(lab, f'article {n}', 8)}" for n in range(160)]
    return early + [f"o{n + 2000} {n + 1} of article {known(lab, f'late {n}', 8)}" for n in range(3)]


def carts_before(lab):
    """Return the carts that the setup made."""
    return [{"user": f"customer-{n}", "cart": [known(lab, f"cart {n}", 8)]} for n in range(CUSTOMERS)]


@check(points=25, skill="linux.filesystems", stable_for=2)
def test_orders_are_taken(client, lab):
    """A new order is taken, each time"""
    status = until(lambda: put(client, lab), lambda answer: answer != "000")
    assert status == "201", "what a new order is answered with"


@check(points=10, skill="linux.filesystems", needs="test_orders_are_taken")
def test_there_is_room(host):
    """/srv has room for 1500 more files"""
    left = int(host.check_output("df -i /srv | awk 'NR == 2 { print $4 }'"))
    assert left >= 1500, "files that may still be made on /srv"


@check(points=15, skill="linux.permissions", needs="test_orders_are_taken")
def test_each_order_has_its_receipt(client, lab):
    """Each order has its receipt, old and new"""

    def without():
        orders = {line.split()[0] for line in get(client, lab, "/orders")}
        return sorted(orders - set(get(client, lab, "/receipts")))

    missing = until(without, lambda found: not found)
    assert missing == [], "orders without a receipt after five seconds"
    text = "".join(get(client, lab, f"/orders/{ORDER}/receipt"))
    assert "2 lamps" in text, "the receipt of an order that was just taken"


@check(points=20, skill="linux.processes", needs="test_orders_are_taken")
def test_nothing_piles_up(host, lab):
    """While nobody orders or signs in, no new files appear on /srv"""
    # Each name that was not there in the first look counts, also when it is gone again in the next.
    seen = host.check_output(
        f"sleep 0.7; n=0; while [ $n -lt 50 ]; do find -L /srv/{lab.service} -type f; echo =; sleep 0.05; "
        """n=$((n + 1)); done | awk '$0 == "=" { looks++; next } !looks { old[$0]; next } """
        "!($0 in old) && !($0 in new) { new[$0]; count++ } END { print count + 0 }'",
        timeout=60,
    )
    # One file may be a health check's own session, begun anew.
    assert int(seen) <= 1, "new files within three seconds of quiet"


@check(points=10, skill="linux.filesystems", needs="test_orders_are_taken")
def test_no_order_is_lost(client, lab):
    """No order and no receipt is lost"""
    orders, receipts = get(client, lab, "/orders"), get(client, lab, "/receipts")
    lost = [line for line in orders_before(lab) if line not in orders]
    lost += [f"receipt of o{n + 1000}" for n in range(160) if f"o{n + 1000}" not in receipts]
    assert lost == [], "orders and receipts that are lost"


@check(points=10, skill="linux.filesystems", needs="test_orders_are_taken")
def test_customers_keep_their_carts(client, host, lab):
    """Customers stay signed in with their carts, and others can sign in"""
    found = carts(client, lab)
    lost = [cart for cart in carts_before(lab) if json.dumps(cart) not in found]
    assert lost == [], "carts that are lost"
    answer = client.run("curl -s -m 5 -i -d user=checker %s", url(lab, "/login")).stdout
    sid = answer.partition("sid=")[2].partition(";")[0].strip()
    cart = client.run("curl -s -m 5 -b sid=%s %s", sid, url(lab, "/cart")).stdout
    assert "checker" in cart, "the cart of somebody who has just signed in"
    kept = [f"/srv/{lab.service}/{lab.sessions}/sess_{sid}", f"/srv/{lab.service}/orders/{ORDER}"]
    devices = host.run("stat -L -c %%d %s %s /srv", *kept).stdout.split()
    assert len(devices) == len(kept) + 1, "files that there should be: a new session, a new order, and /srv"
    assert devices[:2] == devices[2:] * 2, "file systems that the new session and the new order are on"


@check(points=5, skill="linux.processes", needs="test_orders_are_taken")
def test_health_is_still_watched(client, host, lab):
    """The health check asks the shop at least once a second, and says that it is up"""
    ask = "cat %s; date +%%s"
    state = f"/run/{lab.probe}/state"
    until(lambda: host.run(ask, state).stdout, lambda text: text.startswith("up "))
    first, begun = asked(client, lab), time.monotonic()
    time.sleep(2.5)
    per_second = (asked(client, lab) - first - 1) / (time.monotonic() - begun)
    word, _, rest = host.run(ask, state).stdout.partition(" ")
    assert word == "up", f"the first word of {state}"
    written, now = (rest.split() or ["0"])[-2:][0], (rest.split() or ["0"])[-1]
    assert int(now) - int(written) <= 2, f"age in seconds of what {state} says"
    assert per_second >= 0.9, "questions a second that the shop gets while nobody uses it"


def asked(client, lab):
    """Return how many requests the shop has had."""
    return int((get(client, lab, "/status") or ["well, 0 requests"])[0].split()[1])


@check(points=5, skill="linux.permissions", needs="test_orders_are_taken")
def test_nothing_is_weakened(host, lab):
    """The services run as their own user, and nothing of theirs may be written by everybody"""
    found = host.run("find %s -perm -o+w ! -type l", f"/srv/{lab.service}").stdout.split()
    assert found == [], "what everybody may write"
    units = [f"{lab.service}.service", f"{lab.service}-{lab.receipts}.service"]
    users = [user(host, unit) for unit in units]
    assert users == [lab.service, lab.service], f"users that {units[0]} and {units[1]} run as"


def user(host, unit):
    """Return whom the main process of a unit runs as."""
    pid = host.run("systemctl show -p MainPID --value %s", unit).stdout.strip()
    return host.run("ps -o user:32= -p %s", pid).stdout.strip() if pid not in ("", "0") else "nobody: it does not run"
