"""What the candidate's root must not reach: the toolbox, the grading shell, the client, the engine's machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.environments import Shell
    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def cell(whole: Stage) -> Iterator[Session]:
    """Return a session in which much is tried, and nothing may succeed."""
    session = whole.start("lamp")
    yield session
    whole.environment.stop((session.id,))


@pytest.fixture(scope="module")
def admin(whole: Stage) -> Iterator[Session]:
    """Return a session with a host that has NET_ADMIN: the most that a lab can give."""
    session = whole.start("pair")
    yield session
    whole.environment.stop((session.id,))


REFUSED = {
    "write into the toolbox": "echo x >/toolbox/bin/stat",
    "make a file in the toolbox": "touch /toolbox/bin/evil",
    "remove from the toolbox": "rm -f /toolbox/bin/stat",
    "rename the toolbox": "mv /toolbox /toolbox.old",
    "remove the toolbox": "rmdir /toolbox",
    "change the toolbox's modes": "chmod u+w /toolbox/bin/busybox",
    "change the toolbox's owner": "chown nobody /toolbox/bin",
    "remount the toolbox": "mount -o remount,rw /toolbox",
    "remount the toolbox, bound": "mount -o remount,bind,rw /toolbox",
    "cover the toolbox": "mount -t tmpfs none /toolbox",
    "cover the toolbox, bound": "mount --bind /srv /toolbox",
    "cover one tool": "mount --bind /bin/true /toolbox/bin/busybox",
    "take the toolbox off": "umount /toolbox",
    "take the toolbox off, lazily": "umount -l /toolbox",
    "move the toolbox": "mount --move /toolbox /mnt",
    "cover /proc": "mount -t tmpfs none /proc",
    "another /proc": "mount -t proc proc /mnt",
    "cover /etc": "mount --bind /srv /etc",
    "cover one file": "mount --bind /srv/wick /etc/passwd",
    "an overlay": "mkdir -p /opt/u /opt/w; mount -t overlay o -o lowerdir=/etc,upperdir=/opt/u,workdir=/opt/w /mnt",
    "take /proc/sys off": "umount /proc/sys",
    "a mount namespace": "unshare -m true",
    "a user namespace": "unshare -U true",
    "a user and mount namespace": "unshare -Urm mount --bind /srv /toolbox",
    "a user namespace as nobody": "setpriv --reuid 65534 --clear-groups unshare -Ur true",
    "a process namespace": "unshare -p -f true",
    "a network namespace": "unshare -n true",
    "pivot_root": "mkdir -p /mnt/old; pivot_root /mnt /mnt/old",
    "enter a namespace": "nsenter -t 1 -m true",
    "a new mount by the new calls": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None, use_errno=True);"
    ' r = c.syscall(430, b"tmpfs", 0); os._exit(0 if r >= 0 else 1)\'',
    "a detached tree": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None, use_errno=True);"
    ' r = c.syscall(428, -100, b"/srv", 1); os._exit(0 if r >= 0 else 1)\'',
    "a block device": "mknod /opt/disk b 8 0 && head -c 1 /opt/disk",
    "a character device": "mknod /opt/mem c 1 1 && head -c 1 /opt/mem",
    "the kernel's log": "dmesg -n 1",
    "sysrq": "echo h >/proc/sysrq-trigger",
    "core_pattern": "echo '|/opt/evil' >/proc/sys/kernel/core_pattern",
    "modprobe's path": "echo /opt/evil >/proc/sys/kernel/modprobe",
    "hotplug": "echo /opt/evil >/sys/kernel/uevent_helper",
    "a kernel setting": "sysctl -w kernel.panic=1",
    "another kernel setting": "echo 1 >/proc/sys/kernel/ns_last_pid",
    "a vm setting": "echo 1 >/proc/sys/vm/drop_caches",
    "a network setting": "echo 1 >/proc/sys/net/ipv4/ip_forward",
    "a setting of IPv6": "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6",
    "a binary format": "echo ':x:M::x::/opt/x:' >/proc/sys/fs/binfmt_misc/register",
    "mount binfmt_misc": "mount -t binfmt_misc none /mnt",
    "a kernel module": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None);"
    ' os._exit(0 if c.syscall(175, b"", 0, b"") >= 0 else 1)\'',
    "another kernel": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None);"
    " os._exit(0 if c.syscall(246, 0, 0, 0, 0) >= 0 else 1)'",
    "the clock": "date -s 2001-01-01",
    "the host's name": "python3 -c 'import socket; socket.sethostname(\"x\")'",
    "more memory": "echo 0 >/proc/1/oom_score_adj && echo -1000 >/proc/self/oom_score_adj",
    "swap": "swapon /srv/wick",
    "BPF": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(128);"
    " os._exit(0 if c.syscall(321, 0, b, 128) >= 0 else 1)'",
    "perf": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(128);"
    " os._exit(0 if c.syscall(298, b, -1, 0, -1, 0) >= 0 else 1)'",
    "keys of others": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None);"
    " os._exit(0 if c.syscall(250, 0, -3, 0) >= 0 else 1)'",
    "open by handle": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(128);"
    " os._exit(0 if c.syscall(304, -100, b, 0) >= 0 else 1)'",
    "limits of the kernel": "prlimit --pid $$ --nofile=99999999:99999999",
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused(whole: Stage, cell: Session, attempt: str) -> None:
    done = whole.candidate(cell, attempt)
    assert done.exit_status not in {0, 127}, done.text + done.error_text


@pytest.mark.parametrize(
    "attempt", [REFUSED["remount the toolbox"], REFUSED["a mount namespace"], REFUSED["a user namespace"]]
)
def test_net_admin_is_refused_it_too(whole: Stage, admin: Session, attempt: str) -> None:
    assert whole.candidate(admin, attempt, "db").exit_status not in {0, 127}


def test_the_toolbox_is_as_it_was(whole: Stage, cell: Session) -> None:
    every = "/toolbox/bin/find /toolbox -type f | /toolbox/bin/sort | /toolbox/bin/xargs /toolbox/bin/sha256sum"
    seen = whole.trusted(cell, every, timeout=60).text
    assert seen.count("\n") > 50
    assert seen == whole.engine.run(cell, "client", ["/toolbox/bin/sh", "-c", every]).text


@pytest.fixture(scope="module")
def grading(whole: Stage, cell: Session) -> Iterator[tuple[Shell, int]]:
    shell = whole.environment.trusted(cell, "web")
    yield shell, int(shell.run("echo $$").text)
    shell.close()


SPYING = {
    "environ": "cat /proc/{pid}/environ",
    "memory": "dd if=/proc/{pid}/mem bs=1 count=1 skip=4194304",
    "maps": 'test -n "$(cat /proc/{pid}/maps)"',
    "program": "readlink /proc/{pid}/exe",
    "folder": "readlink /proc/{pid}/cwd",
    "root": "ls /proc/{pid}/root/",
    "descriptors": "readlink /proc/{pid}/fd/0",
    "its output": "echo forged >/proc/{pid}/fd/1",
    "its input": "head -c 1 </proc/{pid}/fd/0",
    "stack": "cat /proc/{pid}/stack",
    "system call": "cat /proc/{pid}/syscall",
    "its mapped files": "ls /proc/{pid}/map_files/ | grep .",
    "strace": "timeout 3 strace -o /dev/stdout -p {pid} 2>&1 | grep -v -i 'not permitted\\|denied' | grep .",
    "its descriptors by pidfd": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None);"
    " p = os.pidfd_open({pid}); os._exit(0 if c.syscall(438, p, 1, 0) >= 0 else 1)'",
    "its memory by a call": "python3 -c 'import ctypes, os; c = ctypes.CDLL(None); b = ctypes.create_string_buffer(16);"
    " v = (ctypes.c_void_p * 2)(ctypes.addressof(b), 8); r = (ctypes.c_void_p * 2)(0x400000, 8);"
    " os._exit(0 if c.process_vm_readv({pid}, v, 1, r, 1, 0) > 0 else 1)'",
    "its limits": "prlimit --pid {pid} --nofile=3:3",
    "its namespaces": "readlink /proc/{pid}/ns/mnt",
    "its timers": "cat /proc/{pid}/timers | grep .; cat /proc/{pid}/timerslack_ns",
    "its personality": "cat /proc/{pid}/personality",
}


@pytest.mark.parametrize("attempt", SPYING.values(), ids=SPYING.keys())
def test_the_grading_shell_is_closed(whole: Stage, cell: Session, grading: tuple[Shell, int], attempt: str) -> None:
    shell, pid = grading
    done = whole.candidate(cell, attempt.format(pid=pid))
    assert done.exit_status not in {0, 127}, done.text + done.error_text
    assert shell.run("echo fine; ulimit -n").text.splitlines() != ["fine", "3"]
    assert shell.integrity == []


@pytest.mark.parametrize("name", ["environ", "program", "descriptors", "strace", "its limits"])
def test_the_same_on_a_process_of_ones_own_succeeds(whole: Stage, cell: Session, name: str) -> None:
    # Without this, an attempt that never works would prove everything.
    mine = "sleep 60 & pid=$!; (" + SPYING[name].format(pid="$pid") + "); status=$?; kill $pid; exit $status"
    if name == "strace":
        mine = mine.replace("sleep 60", "sh -c 'while :; do sleep 0.1; done'")
    assert whole.candidate(cell, mine).exit_status == 0


def test_children_of_the_grading_shell_are_closed_too(whole: Stage, cell: Session) -> None:
    shell = whole.environment.trusted(cell, "web")
    spy = whole.environment.plain(cell, "web")
    started = shell.run("sleep 20 & echo $!").text.strip()
    for attempt in ("environ", "descriptors", "strace", "its limits"):
        assert spy.run(SPYING[attempt].format(pid=started)).exit_status not in {0, 127}, attempt
    shell.run(f"kill {started}")
    shell.close()
    spy.close()


def test_no_control_group_but_the_sessions_own_is_writable(whole: Stage, cell: Session) -> None:
    tried = (
        "top=/sys/fs/cgroup\n"
        "for folder in $(find $top -maxdepth 1 -type d; find $top -mindepth 2 -maxdepth 2 -type d | head -n 80); do\n"
        "    case $folder in */breakfix-SESSION|*/breakfix-SESSION/*) continue ;; esac\n"
        "    mkdir $folder/evil 2>/dev/null && echo made $folder\n"
        "    for file in release_agent cgroup.procs notify_on_release tasks cgroup.subtree_control devices.allow; do\n"
        "        [ -e $folder/$file ] && (echo 1 >$folder/$file) 2>/dev/null && echo wrote $folder/$file\n"
        "    done\n"
        "done\ntrue"
    )
    done = whole.candidate(cell, tried.replace("SESSION", cell.id), timeout=120)
    assert (done.text, done.exit_status) == ("", 0)


def test_no_release_agent_can_be_set(whole: Stage, cell: Session) -> None:
    found = whole.candidate(cell, "find /sys/fs/cgroup -name release_agent 2>/dev/null").text.split()
    for path in found:
        assert whole.candidate(cell, f"echo /opt/evil >{path}").exit_status != 0
        assert whole.candidate(
            cell, f"mkdir -p /opt/c; mount -t cgroup -o none,name=evil{len(path)} c /opt/c"
        ).exit_status


def test_limits_can_not_be_raised(whole: Stage, cell: Session) -> None:
    script = (
        "for file in $(find /sys/fs/cgroup -name 'memory.limit_in_bytes' -o -name 'pids.max' -o -name 'memory.max'"
        " -o -name 'cpu.cfs_quota_us' -o -name 'cpu.max'); do (echo -1 >$file) 2>/dev/null && echo $file; done; true"
    )
    assert whole.candidate(cell, script).text == ""


def test_nothing_listens_in_the_client(whole: Stage, cell: Session) -> None:
    shell = whole.environment.client(cell)
    listening = shell.run("/toolbox/bin/ss -H -ltun | grep -v 127.0.0.11 || true")
    shell.close()
    assert listening.text == ""


def test_the_client_has_no_rights_and_no_secrets(whole: Stage, cell: Session) -> None:
    shell = whole.environment.client(cell)
    status = dict(line.split(":", 1) for line in shell.run("cat /proc/self/status").text.splitlines() if ":" in line)
    found = shell.run("find / -xdev \\( -name 'test_*.py' -o -name '*.sock' -o -path '*graders*' \\) 2>/dev/null").text
    shell.close()
    assert int(status["CapEff"], 16) & ~(1 << 13) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert [line for line in found.split() if "site-packages" not in line and "/python3" not in line] == []


def test_the_client_is_in_no_control_group_of_the_candidates(whole: Stage, cell: Session) -> None:
    shell = whole.environment.client(cell)
    groups = shell.run("cat /proc/1/cgroup").text
    shell.close()
    assert cell.id not in groups


def test_the_baseline_is_nowhere_inside(whole: Stage, cell: Session) -> None:
    # What the lamp showed is in /srv/wick of course; the notes of the session are not.
    before = whole.read(cell).baseline
    found = whole.candidate(
        cell, "env; mount; ls -d /var/lib/docker /run/docker* 2>/dev/null; cat /proc/1/environ; true"
    )
    assert "breakfix.baseline" not in found.text
    assert str(before["wick"]) not in found.text
    whole.candidate(cell, "echo changed >/srv/wick")
    assert whole.read(cell).baseline == before


def test_raw_packets_do_not_reach_the_engines_machine(whole: Stage, admin: Session) -> None:
    # An echo to all IPv6 nodes of the link: whoever answers can be talked to.  Only hosts of the session may.
    program = r"""
import select, socket, struct, time
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
link.bind(("eth0", 0))
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
source = bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2, mac[1], mac[2], 255, 254, mac[3], mac[4], mac[5]])
target = socket.inet_pton(socket.AF_INET6, "ff02::1")
body = b"\x80\0\0\0\x12\x34\0\1hello!"
words = struct.unpack(">%dH" % ((40 + len(body)) // 2), source + target + struct.pack(">II", len(body), 58) + body)
total = sum(words)
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
body = body[:2] + struct.pack(">H", ~total & 0xFFFF) + body[4:]
frame = b"\x33\x33\0\0\0\1" + mac + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(body), 58, 255)
frame += source + target + body
end = time.monotonic() + 2
heard = set()
while time.monotonic() < end:
    link.send(frame)
    while select.select([link], [], [], 0.2)[0]:
        seen = link.recv(2048)
        if seen[6:12] == mac or seen[12:14] != b"\x86\xdd" or seen[20] != 58:
            continue
        # An answer, or the question where to send one.  The engine's ends of the wires also speak of themselves.
        if seen[54] == 129 or (seen[54] == 135 and seen[62:78] == source):
            heard.add(seen[6:12].hex(":"))
print("sent", *sorted(heard))
"""
    # A host that needs no raw packets can send none; one that does is heard by nobody but its own session.
    assert "PermissionError" in whole.candidate(admin, f"python3 - <<'EOF'\n{program}EOF", "web").error_text
    done = whole.candidate(admin, f"python3 - <<'EOF'\n{program}EOF", "db")
    assert done.text == "sent\n", done.text + done.error_text
