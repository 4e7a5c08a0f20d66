"""systemctl is worth what answers it: somebody else at PID 1's socket, or other code as PID 1, must never pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from breakfix.errors import ProbeFailed
from breakfix.model import Outcome
from tests.stage import outcomes, told, until

if TYPE_CHECKING:
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine

# Speaks enough of D-Bus to tell systemctl that everything is active and enabled.
LIAR = r"""
import os, socket, struct, sys, threading

def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"

def pad(data, to):
    return data + b"\0" * (-len(data) % to)

def reply(serial, signature, body):
    fields = struct.pack("<BBBB", 5, 1, ord("u"), 0) + struct.pack("<I", serial)
    if signature:
        fields = pad(fields, 8) + struct.pack("<BBBB", 8, 1, ord("g"), 0)
        fields += bytes([len(signature)]) + signature.encode() + b"\0"
    head = struct.pack("<cBBBII", b"l", 2, 1, 1, len(body), serial + 1000) + struct.pack("<I", len(fields)) + fields
    return pad(head, 8) + body

def read(connection, buffer, size):
    while len(buffer) < size:
        chunk = connection.recv(65536)
        if not chunk:
            sys.exit()
        buffer += chunk

def talk(connection):
    buffer = bytearray()
    while b"BEGIN\r\n" not in buffer:
        chunk = connection.recv(65536)
        if not chunk:
            return
        buffer += chunk
        answers = buffer.count(b"AUTH"), buffer.count(b"NEGOTIATE"), buffer.count(b"DATA")
    lines = b"OK 0123456789abcdef0123456789abcdef\r\n"
    connection.sendall(b"DATA\r\n" * answers[2] + lines + b"AGREE_UNIX_FD\r\n" * answers[1])
    del buffer[: buffer.index(b"BEGIN\r\n") + 7]
    while True:
        read(connection, buffer, 16)
        order, kind, _, _, length, serial, fields = struct.unpack("<cBBBIII", buffer[:16])
        size = 16 + fields + (-fields % 8) + length
        read(connection, buffer, size)
        message = bytes(buffer[:size])
        del buffer[:size]
        if kind != 1:
            continue
        if b"GetUnitFileState" in message:
            connection.sendall(reply(serial, "s", string("enabled")))
        elif b"LoadUnit" in message or b"GetUnit" in message:
            connection.sendall(reply(serial, "o", string("/org/freedesktop/systemd1/unit/x")))
        elif b"GetAll" in message:
            connection.sendall(reply(serial, "a{sv}", struct.pack("<I", 0) + b"\0\0\0\0"))
        else:
            connection.sendall(reply(serial, "v", b"\1s\0\0" + string("active")))

if sys.argv[1] == "stdin":
    talk(socket.socket(fileno=0))
    sys.exit()
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(64)
if len(sys.argv) > 2:
    os.rename(sys.argv[1], sys.argv[2])
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    threading.Thread(target=talk, args=(connection,), daemon=True).start()
"""
UNIT_SOCKET = """
cat >/etc/systemd/system/liar.socket <<'EOF'
[Socket]
ListenStream={path}
Accept=yes
EOF
cat >/etc/systemd/system/liar@.service <<'EOF'
[Service]
ExecStart=/usr/bin/python3 /opt/liar.py stdin
StandardInput=socket
EOF
systemctl daemon-reload
systemctl start liar.socket
{after}
"""
BACKGROUND = "setsid python3 /opt/liar.py {arguments} >/var/liar.log 2>&1 </dev/null &\n"
UP = "until grep -q ready /var/liar.log; do sleep 0.05; done"
SOCKET = "/run/systemd/private"

ATTACKS = {
    "a socket in its place": f"rm {SOCKET}\n" + BACKGROUND.format(arguments=SOCKET) + UP,
    "a socket that was bound elsewhere": BACKGROUND.format(arguments=f"/run/elsewhere {SOCKET}") + UP,
    "a link to another socket": BACKGROUND.format(arguments="/run/elsewhere")
    + f"{UP}; mv {SOCKET} {SOCKET}.real; ln -s /run/elsewhere {SOCKET}",
    "another folder in its place": "mv /run/systemd /run/systemd.real; mkdir /run/systemd\n"
    + BACKGROUND.format(arguments=SOCKET)
    + UP,
    "a socket of PID 1's for a unit": UNIT_SOCKET.format(path=SOCKET, after=""),
    "a socket of PID 1's, moved there": UNIT_SOCKET.format(path="/run/elsewhere", after=f"mv /run/elsewhere {SOCKET}"),
    "no socket, and a liar at the other bus": f"rm {SOCKET}; mv /run/dbus/system_bus_socket /run/dbus/real\n"
    + BACKGROUND.format(arguments="/run/dbus/system_bus_socket")
    + UP,
}


@pytest.fixture
def fresh(stage: Stage) -> Session:
    session = stage.start("lamp")
    stage.environment.put(session, "web", {"/opt/liar.py": (LIAR.encode(), 0o644)})
    return session


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_whoever_answers_in_its_place_is_not_believed(stage: Stage, fresh: Session, attack: str) -> None:
    stage.do(fresh, attack)
    made = stage.grade(fresh)
    assert outcomes(made)["test_service_is_active"] is Outcome.ERROR, told(made)
    assert not made.gradable
    assert any("/run/systemd" in event for event in made.integrity), told(made)


def test_the_liar_would_be_believed_by_a_plain_systemctl(stage: Stage, fresh: Session) -> None:
    # Without this, a liar that nobody believes would prove everything.
    service = stage.service(fresh)
    stage.do(fresh, ATTACKS["a socket in its place"])
    said = stage.candidate(fresh, f"systemctl is-active {service}; systemctl is-enabled {service}")
    assert said.text.split() == ["active", "enabled"], said.error_text


def test_a_socket_that_is_moved_while_systemctl_asks(stage: Stage, fresh: Session) -> None:
    stage.do(fresh, BACKGROUND.format(arguments="/run/elsewhere") + UP)
    swap = (
        f"import os, time\nend = time.monotonic() + 8\nos.link('{SOCKET}', '/run/systemd/kept')\n"
        "while time.monotonic() < end:\n"
        f"    os.link('/run/elsewhere', '/run/systemd/new'); os.rename('/run/systemd/new', '{SOCKET}')\n"
        f"    os.link('/run/systemd/kept', '/run/systemd/new'); os.rename('/run/systemd/new', '{SOCKET}')\n"
    )
    stage.do(fresh, f"cat >/opt/swap.py <<'EOF'\n{swap}EOF\nsetsid python3 /opt/swap.py >/dev/null 2>&1 </dev/null &")
    until(lambda: stage.trusted(fresh, "test -e /run/systemd/kept").exit_status == 0)
    made = stage.grade(fresh)
    assert outcomes(made)["test_service_is_active"] is not Outcome.PASSED, told(made)


STORM = r"""
for n in 1 2 3 4; do
    printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=1ms\n' \
        >/run/systemd/system/storm$n.service
done
systemctl daemon-reload
systemctl start --no-block storm1 storm2 storm3 storm4
for n in 1 2 3 4 5 6; do (timeout 60 sh -c 'while :; do :; done') >/dev/null 2>&1 </dev/null & done
"""


def test_a_service_that_is_started_again_and_again_is_no_attack(stage: Stage, fresh: Session) -> None:
    """Each process that PID 1 forks has PID 1's socket for a moment; systemctl was refused for that once."""
    stage.do(fresh, STORM)
    for _ in range(15):
        shell = stage.environment.trusted(fresh, "web")
        try:
            shell.run("systemctl is-active multi-user.target")
            assert shell.integrity == []
        finally:
            shell.close()


def test_honest_reloads_and_executing_again_are_no_attack(stage: Stage, fresh: Session) -> None:
    stage.solve(fresh)
    stage.do(fresh, "systemctl daemon-reload; systemctl daemon-reexec; systemctl daemon-reload")
    until(lambda: stage.candidate(fresh, "systemctl is-active dbus").text.strip() == "active")
    made = stage.grade(fresh, restart=True)
    assert made.passed, told(made)
    assert made.integrity == ()


CODE = {
    "a preloaded library": "cp {library} /usr/lib/nothing.so; echo /usr/lib/nothing.so >/etc/ld.so.preload",
    "a replaced library": "cat {library} /dev/null >/opt/copy; echo x >>/opt/copy; mv /opt/copy {library}",
    "a touched library": "touch {library}; chmod g+r {library}",
    "a replaced systemd": "cp -a /lib/systemd/systemd /opt/systemd; printf x >>/opt/systemd;"
    " mv /opt/systemd /lib/systemd/systemd",
}


@pytest.mark.parametrize("attack", CODE.values(), ids=CODE.keys())
def test_other_code_as_pid_1_is_not_believed(stage: Stage, fresh: Session, attack: str) -> None:
    library = stage.do(fresh, "realpath /lib/*-linux-gnu/libapparmor.so.1").strip()
    stage.do(fresh, f"{attack.format(library=library)}\nsystemctl daemon-reexec; rm -f /etc/ld.so.preload")
    stage.solve(fresh)
    made = stage.grade(fresh)
    if attack == CODE["a preloaded library"]:
        assert outcomes(made)["test_service_is_active"] is Outcome.ERROR, told(made)
        assert any("PID 1" in event for event in made.integrity), told(made)
    # What PID 1 executes is compared in memory: a byte after the end of a file changes nothing that runs.
    else:
        assert made.passed, told(made)


@pytest.mark.parametrize("where", ["libapparmor", "[vdso]"])
def test_code_that_is_written_into_pid_1_is_noticed(stage: Stage, fresh: Session, where: str) -> None:
    # /proc/1/mem is open to the candidate, who has every right that PID 1 has: one byte of padding is enough.
    poke = (
        "import re\n"
        "for line in open('/proc/1/maps'):\n"
        f"    if ' r-xp ' in line and '{where}' in line:\n"
        "        start, end = (int(x, 16) for x in line.split()[0].split('-'))\n"
        "with open('/proc/1/mem', 'r+b', 0) as memory:\n"
        "    memory.seek(end - 16); before = memory.read(16)\n"
        "    memory.seek(end - 16); memory.write(bytes(b ^ 1 for b in before))\n"
        "print('written')\n"
    )
    done = stage.candidate(fresh, f"python3 - <<'EOF'\n{poke}EOF")
    if "written" not in done.text:
        pytest.skip("this kernel lets nobody write PID 1's memory")
    made = stage.grade(fresh)
    assert outcomes(made)["test_service_is_active"] is Outcome.ERROR, told(made)
    assert any("PID 1" in event for event in made.integrity)


def test_systemctl_runs_no_helper_of_the_hosts(stage: Stage, fresh: Session) -> None:
    # For a SysV service, systemctl would run a program of the host's: in the trusted shell, with its rights.
    stage.do(
        fresh,
        "printf '#!/bin/sh\\necho ran >>/var/helper\\nexit 0\\n' >/opt/helper; chmod 755 /opt/helper\n"
        "cp /opt/helper /etc/init.d/old; mv /opt/helper /lib/systemd/systemd-sysv-install",
    )
    assert stage.candidate(fresh, "systemctl is-enabled old; cat /var/helper").text.strip() != ""
    stage.do(fresh, "rm -f /var/helper")
    shell = stage.environment.trusted(fresh, "web")
    said = shell.run("systemctl is-enabled old")
    assert shell.run("ls /var/helper").exit_status != 0, said.text
    shell.close()


def test_a_doubt_is_an_error_for_whoever_asks(stage: Stage, fresh: Session) -> None:
    stage.do(fresh, f"rm {SOCKET}")
    shell = stage.environment.trusted(fresh, "web")
    with pytest.raises(ProbeFailed):
        shell.run("systemctl is-active dbus")
    assert shell.run("echo others still work").exit_status == 0
    assert len(shell.integrity) == 1
    shell.close()
