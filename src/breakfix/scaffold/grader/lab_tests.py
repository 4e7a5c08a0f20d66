"""Not written yet: nothing in the reference solution makes these checks pass."""

from breakfix.grading import check


@check(points=40, skill="linux.services", stable_for=2)
def test_it_answers(client, lab):
    """The service answers"""
    status = client.run("curl -s -m 5 -o /dev/null -w '%%{http_code}' http://web:%s/", str(lab.port)).stdout
    assert status == "200", "what / is answered with"


@check(points=15, skill="linux.services", needs="test_it_answers")
def test_nothing_is_lost(host, lab):
    """Nothing is lost"""
    assert host.file(f"/srv/{lab.service}").exists, "the service's folder should be there"


@check(points=15, skill="linux.services", needs="test_it_answers")
def test_nothing_is_weakened(host, lab):
    """Nothing is weakened"""
    found = host.run("find %s -perm -o+w ! -type l", f"/srv/{lab.service}").stdout.split()
    assert found == [], "files that anybody may write"


@check(points=15, skill="linux.services", needs="test_it_answers")
def test_service_is_on(host, lab):
    """It starts by itself at boot"""
    assert host.service(lab.service).is_enabled, "the unit should be enabled"


@check(points=15, skill="linux.services", needs="test_it_answers")
def test_no_root(host, lab):
    """It does not run as root"""
    users = host.run("ps -C %s -o user:32=", lab.service).stdout.split()
    assert "root" not in users, "users that the service runs as"
