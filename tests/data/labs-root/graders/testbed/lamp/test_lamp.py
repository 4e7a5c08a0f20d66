"""Does the lamp burn, and is nothing weaker than before?"""

from breakfix.grading import baseline, check


@baseline
def wick(client, lab):
    """What the lamp showed before it went out."""
    return {"wick": client.check_output("curl -sf -m 5 http://web:%s/", str(lab.port))}


@check(points=40, skill="linux.services", stable_for=1)
def test_it_burns(client, lab, baseline):
    """The service answers with what it always showed"""
    seen = client.run("curl -s -m 5 http://web:%s/", str(lab.port)).stdout.strip()
    assert seen == baseline["wick"], "what / is answered with"


@check(points=15, skill="linux.services")
def test_service_is_active(host, lab):
    """The unit is active and enabled"""
    active = host.run("systemctl is-active %s", lab.service).stdout.strip()
    enabled = host.run("systemctl is-enabled %s", lab.service).stdout.strip()
    assert [active, enabled] == ["active", "enabled"]


@check(points=15, skill="linux.services")
def test_configuration(host, lab):
    """Its file says that it is lit"""
    written = host.run("cat /etc/%s.conf", lab.service).stdout
    assert written.splitlines() == ["lit = yes"], "lines of its file"


@check(points=15, skill="linux.services")
def test_wick_is_private(host, lab):
    """The wick is for the service alone"""
    mode = host.run("stat -c '%%a %%U' %s", "/srv/wick").stdout.strip()
    assert mode == f"600 {lab.service}", "mode and owner of /srv/wick"


@check(points=15, skill="linux.services", needs="test_it_burns")
def test_runs_as_itself(host, lab):
    """It runs as its own user"""
    owners = host.run("ps -C %s -o user:32=", f"{lab.service}d").stdout.split()
    assert set(owners) == {lab.service}, "users that it runs as"
