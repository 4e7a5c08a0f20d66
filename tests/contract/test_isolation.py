"""Sessions do not see one another, nor the engine's machine; limits hold."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.stage import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from breakfix.model import Session
    from tests.stage import Stage

pytestmark = pytest.mark.engine


def reaches(stage: Stage, session: Session, host: str, address: str) -> bool:
    return stage.candidate(session, f"ping -n -c 1 -W 1 {address}", host).exit_status == 0


def test_hosts_of_one_session_reach_one_another(whole: Stage, pair: Session) -> None:
    assert reaches(whole, pair, "web", pair.hosts["db"].address)
    assert reaches(whole, pair, "db", "web")


def test_two_sessions_have_networks_of_their_own(whole: Stage, lamp: Session, pair: Session) -> None:
    assert lamp.network
    assert lamp.network != pair.network


def test_a_session_does_not_reach_another(whole: Stage, lamp: Session, pair: Session) -> None:
    for host in pair.hosts.values():
        assert not reaches(whole, lamp, "web", host.address)
    assert not reaches(whole, pair, "db", lamp.hosts["web"].address)
    route = f"ip route add {lamp.hosts['web'].address} dev eth0 && ping -n -c 1 -W 1 {lamp.hosts['web'].address}"
    assert whole.candidate(pair, route, "db").exit_status != 0
    whole.candidate(pair, f"ip route del {lamp.hosts['web'].address}", "db")


def test_names_resolve_inside_and_end_there(whole: Stage, lamp: Session, pair: Session) -> None:
    assert whole.candidate(pair, "getent hosts web", "db").text.split()[0] == pair.hosts["web"].address
    assert whole.candidate(lamp, "getent hosts db").exit_status != 0
    assert whole.candidate(lamp, "timeout 8 getent hosts debian.org").exit_status != 0


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    """Listen on every address of the machine that the tests run on, and answer with a line."""
    with socket.create_server(("", 0), backlog=16) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def answer() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(b"REACHED\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port: int = server.getsockname()[1]
        yield port
        done.set()
        thread.join()


def test_there_is_no_way_out(whole: Stage, lamp: Session, pair: Session, listener: int) -> None:
    addresses = whole.engine.addresses()
    assert addresses
    for address in addresses:
        with socket.create_connection((address, listener), 2) as here:
            assert here.recv(16) == b"REACHED\n"
    for session, host in ((lamp, "web"), (pair, "web"), (pair, "db")):
        assert "default" not in whole.trusted(session, "ip route", host).text
        gateway = ".".join([*session.network.split(".")[:3], str(int(session.network.split(".")[3].split("/")[0]) + 1)])
        for address in [*addresses, gateway]:
            tried = f"exec 3<>/dev/tcp/{address}/{listener} && timeout 1 head -n 1 <&3"
            done = whole.candidate(session, f"timeout 2 bash -c '{tried}'", host)
            assert "REACHED" not in done.text, (session.id, host, address)


def test_routes_of_ones_own_lead_nowhere(whole: Stage, pair: Session, listener: int) -> None:
    # db has NET_ADMIN: whoever may set routes still must not get out.
    for address in whole.engine.addresses():
        tried = f"exec 3<>/dev/tcp/{address}/{listener} && timeout 1 head -n 1 <&3"
        done = whole.candidate(pair, f"ip route replace {address} dev eth0 && timeout 2 bash -c '{tried}'", "db")
        whole.candidate(pair, f"ip route del {address}", "db")
        assert "REACHED" not in done.text, address


def test_no_path_of_the_engines_machine_is_inside(whole: Stage, lamp: Session, pair: Session) -> None:
    for session, host in ((lamp, "web"), (pair, "web"), (pair, "db"), (lamp, "client")):
        assert whole.engine.outside_paths(session, host) == []


def test_no_engine_socket_is_inside(whole: Stage, lamp: Session) -> None:
    found = whole.trusted(lamp, "find / -path /proc -prune -o -type s -print 2>/dev/null").text.split()
    assert "/run/systemd/private" in found
    assert [one for one in found if "docker" in one or "containerd" in one or "podman" in one] == []


def test_a_memory_limit_ends_the_hog_and_nothing_else(whole: Stage, lamp: Session) -> None:
    hog = "python3 -c 'x = bytearray(1 << 30); print(len(x))'"
    done = whole.candidate(lamp, f"{hog}; echo status $?")
    assert str(1 << 30) not in done.text
    assert "status 137" in done.text
    assert whole.trusted(lamp, "cat /proc/1/comm").text.strip() == "systemd"


def test_a_process_limit_stops_a_crowd(whole: Stage, lamp: Session) -> None:
    program = (
        "import os, signal, time\n"
        "made = []\n"
        "try:\n"
        "    for _ in range(600):\n"
        "        pid = os.fork()\n"
        "        if not pid:\n"
        "            time.sleep(20); os._exit(0)\n"
        "        made.append(pid)\n"
        "except OSError as error:\n"
        "    print('stopped', end=' ')\n"
        "for pid in made: os.kill(pid, signal.SIGKILL)\n"
        "print(len(made))\n"
    )
    done = whole.candidate(lamp, f"python3 - <<'EOF'\n{program}EOF")
    word, count = done.text.split()
    assert word == "stopped"
    assert 50 < int(count) < 160
    until(lambda: whole.trusted(lamp, "true").exit_status == 0)


def test_a_processor_limit_is_set(whole: Stage, lamp: Session, pair: Session) -> None:
    assert whole.engine.limits(lamp, "web")["cpus"] == pytest.approx(0.9)
    assert whole.engine.limits(pair, "db")["cpus"] == pytest.approx(1.0)


def test_a_disk_has_its_size_and_its_inodes(whole: Stage, pair: Session) -> None:
    sizes = whole.trusted(
        pair, "df -P -k /srv | awk 'NR == 2 { print $2 }'; df -P -i /srv | awk 'NR == 2 { print $2 }'", "db"
    )
    assert sizes.text.split() == ["8192", "100"]
    full = whole.candidate(pair, "head -c 9000000 /dev/zero >/srv/big; echo $?; rm /srv/big", "db")
    assert full.text.strip() == "1"
