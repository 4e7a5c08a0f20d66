"""Does web find db again?"""

from breakfix.grading import check


@check(points=60, skill="linux.networking")
def test_web_finds_db(host, lab):
    """web knows db's address"""
    found = host.run("awk '$2 == \"db\" { print $1 }' /etc/hosts").stdout.split()
    assert found == [lab.hosts["db"].address], "addresses of db in /etc/hosts"


@check(points=40, skill="linux.networking", needs="test_web_finds_db")
def test_word_is_kept(hosts, lab):
    """db still has its word"""
    assert hosts["db"].run("cat /srv/word").stdout.strip() == lab.word
