"""Sessions are read back from what the engine lists, whatever a crash left of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from breakfix.engine import labels
from breakfix.model import Host, Session, SessionState

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOSTS = {"web": Host("web", "198.19.6.98"), "db": Host("db", "198.19.6.99"), "cache": Host("cache", "198.19.6.100")}
SESSION = Session(
    "toy-000001",
    "linux/toy",
    7,
    SessionState.READY,
    "me",
    AT,
    HOSTS,
    "docker",
    "198.19.6.96/28",
    "narrow-v1",
    {"n": [1]},
)

Piece = dict[str, Any]


def container(role: str, state: str = "running", **more: str) -> Piece:
    """Return what the engine's list of containers says of one; recorded, less what nobody reads."""
    return {"Id": "f00", "State": state, "Status": "Up 2 minutes", "Labels": labels.of(SESSION, role, **more)}


def host(name: str, state: str = "running") -> Piece:
    return container(labels.ROLE_HOST, state, **{labels.HOST: name, labels.ADDRESS: HOSTS[name].address})


NETWORK: Piece = {"Id": "ba5", "Driver": "bridge", "Labels": labels.of(SESSION, labels.ROLE_NETWORK)}
DISK: Piece = {"Name": "disk0", "Labels": labels.of(SESSION, labels.ROLE_DISK)}
READY: Piece = {"Name": "ready", "Labels": labels.of(SESSION, labels.ROLE_READY, **{labels.BASELINE: '{"n": [1]}'})}
CLIENT = container(labels.ROLE_CLIENT)
WHOLE = [host("cache"), CLIENT, host("web"), host("db")]


def only(containers: list[Piece], others: list[Piece]) -> Session:
    (found,) = labels.read(containers, others)
    return found


def test_what_was_written_is_read_back() -> None:
    assert only(WHOLE, [NETWORK, DISK, READY]) == SESSION


def test_the_first_host_stays_the_first_whatever_its_address() -> None:
    # As text, .100 stands before .98.
    assert list(only(WHOLE, [READY]).hosts) == ["web", "db", "cache"]


@pytest.mark.parametrize(
    ("containers", "others", "state"),
    [
        (WHOLE, [READY], SessionState.READY),
        (WHOLE, [NETWORK], SessionState.INCOMPLETE),
        ([], [NETWORK], SessionState.INCOMPLETE),
        ([], [READY, DISK], SessionState.INCOMPLETE),
        ([host("web", "created"), CLIENT], [], SessionState.INCOMPLETE),
        ([host("web", "exited"), CLIENT], [READY], SessionState.STOPPED),
        ([host("web"), container(labels.ROLE_CLIENT, "exited")], [READY], SessionState.STOPPED),
        ([host("web"), host("db", "paused"), CLIENT], [READY], SessionState.STOPPED),
    ],
)
def test_the_state_is_what_is_there(containers: list[Piece], others: list[Piece], state: SessionState) -> None:
    assert only(containers, others).state is state


def test_a_host_that_nobody_is_let_into_stays_closed() -> None:
    closed = container(
        labels.ROLE_HOST, **{labels.HOST: "db", labels.ADDRESS: HOSTS["db"].address, labels.CLOSED: "yes"}
    )
    found = only([host("web"), closed, CLIENT], [NETWORK, READY])
    assert {name: one.closed for name, one in found.hosts.items()} == {"web": False, "db": True}


def test_a_sandbox_is_no_machine_of_the_session() -> None:
    sandbox = container(labels.ROLE_SANDBOX, "exited")
    found = only([*WHOLE, sandbox], [NETWORK, READY])
    assert (set(found.hosts), found.state) == (set(HOSTS), SessionState.READY)


def test_before_it_is_ready_a_session_has_no_baseline() -> None:
    assert only(WHOLE, [NETWORK]).baseline == {}


def test_what_is_not_ours_is_nobodys() -> None:
    assert labels.read([{"Labels": {"com.docker.x": "y"}}, {"Labels": None}, {}], [{"Labels": None}]) == ()


def test_sessions_come_in_the_order_of_their_start() -> None:
    def piece(name: str, minutes: int) -> Piece:
        own = {labels.SESSION: name, labels.STARTED: (AT + timedelta(minutes=minutes)).isoformat()}
        return {"Labels": {**labels.of(SESSION, labels.ROLE_NETWORK), **own}}

    assert [one.id for one in labels.read([], [piece("b", 5), piece("a", 9), piece("c", 1)])] == ["c", "b", "a"]


@pytest.mark.parametrize("role", [labels.ROLE_HOST, labels.ROLE_CLIENT, "names", ""])
def test_a_piece_that_says_next_to_nothing_confuses_nobody(role: str) -> None:
    # What a trial of a profile leaves where it was killed.
    found = only([{"State": "running", "Labels": {labels.SESSION: "trial-1", labels.ROLE: role}}], [])
    assert (found.id, found.lab, found.owner, found.state) == ("trial-1", "?", "", SessionState.INCOMPLETE)
    assert found.hosts == {}


def test_an_owner_is_on_every_piece() -> None:
    assert {piece["Labels"][labels.OWNER] for piece in (*WHOLE, NETWORK, DISK, READY)} == {"me"}
    assert all(isinstance(value, str) for value in labels.of(SESSION, "host").values())
