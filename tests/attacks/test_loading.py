"""The candidate's library stands everywhere a loader may look.  No tool of the toolbox may load it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from breakfix.model import Outcome
from tests.stage import outcomes, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

EVIL = "/usr/lib/evil.so"
PLANT = r"""
triplet=$(basename "$(dirname "$(find /usr/lib -name libc.so.6 | head -n 1)")")
lib=/usr/lib/$triplet
# Name services: every database through a library of ours.
for place in "$lib" /usr/lib /usr/local/lib /lib64; do cp /usr/lib/evil.so $place/libnss_evil.so.2; done
for base in passwd group hosts services protocols networks ethers rpc shadow netgroup initgroups; do
    echo "$base: evil files"
done >/etc/nsswitch.conf
# The loader's cache, and folders that it prefers.
mkdir -p /opt/evil $lib/glibc-hwcaps/x86-64-v2 $lib/glibc-hwcaps/x86-64-v3 $lib/tls
for path in /toolbox/lib/*.so*; do
    for place in /opt/evil $lib/glibc-hwcaps/x86-64-v2 $lib/glibc-hwcaps/x86-64-v3 $lib/tls /usr/local/lib; do
        case $path in */libc.so*|*/ld-*) ;; *) cp /usr/lib/evil.so $place/${path##*/} ;; esac
    done
done
echo /opt/evil >/etc/ld.so.conf.d/000-evil.conf
# Engines and providers of OpenSSL.
for place in /usr/lib/ssl /etc/ssl /usr/local/ssl; do
    mkdir -p $place
    cat >$place/openssl.cnf <<'EOF'
openssl_conf = start
[start]
engines = engines
providers = providers
[engines]
evil = evil_engine
[evil_engine]
engine_id = evil
dynamic_path = /usr/lib/evil.so
init = 1
[providers]
evil = evil_provider
[evil_provider]
module = /usr/lib/evil.so
activate = 1
EOF
done
mkdir -p $lib/ossl-modules $lib/engines-3
cp /usr/lib/evil.so $lib/ossl-modules/legacy.so
cp /usr/lib/evil.so $lib/engines-3/evil.so
# Character sets, plug-ins of nft and ip, start files of shells and tools.
mkdir -p $lib/gconv $lib/xtables /usr/lib/ip /root/.config
printf 'module  INTERNAL  LATIN1//  evil  1\nmodule  LATIN1//  INTERNAL  evil  1\n' >$lib/gconv/gconv-modules
rm -f $lib/gconv/gconv-modules.cache
cp /usr/lib/evil.so $lib/gconv/evil.so
for name in libxt_tcp libipt_REJECT libxt_standard; do cp /usr/lib/evil.so $lib/xtables/$name.so; done
for name in link_veth link_dummy link_evil; do cp /usr/lib/evil.so /usr/lib/ip/$name.so; done
for file in /root/.profile /root/.bashrc /root/.shrc /etc/profile /etc/bash.bashrc /root/.bash_env; do
    echo 'echo "$0 $$" >>/var/trace.shell' >>$file
done
printf 'output = /var/trace.curl\nfail\nproxy = http://127.0.0.1:9\n' >/root/.curlrc
cp /root/.curlrc /root/.config/curlrc
printf 'LD_PRELOAD=/usr/lib/evil.so\nENV=/root/.profile\nBASH_ENV=/root/.profile\n' >>/etc/environment
systemctl set-environment LD_PRELOAD=/usr/lib/evil.so LD_LIBRARY_PATH=/opt/evil ENV=/root/.profile
echo /usr/lib/evil.so >/etc/ld.so.preload
: >/var/trace
chmod 666 /var/trace
"""

# What to ask each tool so that it does real work; others are asked for their version.
WORK = {
    "curl": "curl -s -m 2 http://127.0.0.1:9/; curl -s -m 2 https://localhost:9/; curl -s file:///etc/hostname",
    "dash": "dash -c 'echo ~root'; dash -i -c true",
    "dpkg-query": "dpkg-query -W bash; dpkg-query -L bash | head -n 1; dpkg-query -S /bin/bash",
    "findmnt": "findmnt -T /srv; findmnt -s; findmnt --verify",
    "getcap": "getcap -r /usr/bin",
    "getent": "getent passwd root; getent group root; getent passwd",
    "getfacl": "getfacl /srv/wick",
    "ip": "ip address; ip route; ip rule; ip link show type veth; ip -d link; ip neighbour;"
    " ip link add name e0 type evil",
    "journalctl": "journalctl -n 5 --no-pager; journalctl -u dbus -o json -n 1; journalctl --list-boots",
    "loginctl": "loginctl list-users",
    "lsattr": "lsattr -d /srv /etc",
    "nft": "nft list ruleset; nft -j list tables; nft describe tcp dport",
    "nsenter": "nsenter --version",
    "openssl": "openssl version -a; openssl dgst -sha256 /etc/hostname; openssl s_client -connect 127.0.0.1:9;"
    "openssl list -providers; openssl engine; openssl rand -hex 4; openssl req -new -newkey rsa:2048 -nodes"
    " -subj /CN=x -keyout /dev/null",
    "ps": "ps -A -o user:32,group,args; ps aux; ps -C systemd",
    "setpriv": "setpriv --dump; setpriv --reuid nobody --clear-groups true; setpriv --reuid root --init-groups true",
    "ss": "ss -tulpen; ss -xlp; ss -r -t -a; ss -s",
    "systemctl": "systemctl is-active dbus; systemctl show dbus; systemctl cat dbus; systemctl is-enabled ssh;"
    "systemctl list-units --all; systemctl status dbus",
}
BUSYBOX = (
    "id root; id; stat -c '%U %G' /srv/wick; ls -l /srv; ls -l /; find /srv -user root;"
    " find /etc -group root -name passwd;"
    " whoami; ps; top -b -n 1; wget -q -O /dev/null http://127.0.0.1:9/; nslookup localhost 127.0.0.1; hostname -f;"
    " ping -c 1 -W 1 localhost; chown root:root /var/trace; tar cf /dev/null /etc/hostname; date; sh -c 'echo ~root';"
    " ash -c true; who; awk 'BEGIN { print 1 }'; nc -w 1 localhost 9 </dev/null; netstat -tulpen; mount; df;"
    " getopt a b; logname; groups root"
)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: that no tool of ours loads a candidate's library stays unproven")
    target = tmp_path_factory.mktemp("evil") / "evil.so"
    source = Path(__file__).parent / "evil.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source)], check=True)
    return target.read_bytes()


@pytest.fixture(scope="module")
def planted(whole: Stage, evil: bytes) -> Iterator[Session]:
    session = whole.start("lamp")
    whole.environment.put(session, "web", {EVIL: (evil, 0o755)})
    whole.do(session, PLANT)
    yield session
    whole.environment.stop((session.id,))


def traces(stage: Stage, session: Session) -> list[str]:
    return stage.trusted(session, "cat /var/trace").text.split()


def test_the_hosts_own_programs_do_load_it(whole: Stage, planted: Session) -> None:
    # Without this, a library that works nowhere would prove everything.
    whole.engine.run(planted, "web", ["/usr/bin/ls", "/"])
    assert "/usr/bin/ls" in traces(whole, planted)


def wrappers(stage: Stage, session: Session) -> list[str]:
    listed = stage.trusted(session, "find /toolbox/bin -type f ! -name busybox | sed 's#.*/##'")
    return listed.text.split()


def test_every_tool_is_known_here(whole: Stage, planted: Session) -> None:
    assert set(wrappers(whole, planted)) <= set(WORK), "give the new tool some work to do above"


@pytest.mark.parametrize("tool", sorted(WORK))
def test_no_tool_loads_it(whole: Stage, planted: Session, tool: str) -> None:
    shell = whole.environment.trusted(planted, "web")
    shell.run(": >/var/trace")
    done = shell.run(f"( {WORK[tool]} ); ( {tool} --version )", 60)
    seen = [line for line in traces(whole, planted) if line.startswith("/toolbox")]
    shell.close()
    assert seen == [], done.text + done.error_text
    assert done.text + done.error_text, f"{tool} did nothing at all"


def test_busybox_does_not_load_it(whole: Stage, planted: Session) -> None:
    done = whole.trusted(planted, f": >/var/trace; ( {BUSYBOX} )", timeout=60)
    assert "root" in done.text
    assert [line for line in traces(whole, planted) if line.startswith("/toolbox")] == []


def test_no_start_file_is_read(whole: Stage, planted: Session) -> None:
    whole.do(planted, "rm -f /var/trace.shell /var/trace.curl")
    shell = whole.environment.trusted(planted, "web")
    shell.run("sh -c true; dash -c true; ash -c true; busybox sh -c true")
    said = shell.run("curl -s file:///etc/hostname")
    assert shell.run("ls /var/trace.shell /var/trace.curl").text == ""
    assert said.text.strip() == "web", "curl did what a file of the candidate's says"
    shell.close()


def test_the_grade_is_the_truth_all_the_same(whole: Stage, planted: Session) -> None:
    made = whole.grade(planted)
    assert not made.passed
    assert Outcome.PASSED not in outcomes(made).values(), told(made)
    whole.do(planted, "rm -f /etc/ld.so.preload; systemctl unset-environment LD_PRELOAD LD_LIBRARY_PATH ENV")
    whole.solve(planted)
    made = whole.grade(planted)
    assert made.passed, told(made)
