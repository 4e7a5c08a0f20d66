"""A shell that is kept open in a container over one exec: 0.4 ms a command, where a new exec takes 44.

The engine sends standard output and error as frames on one connection.  Each command is followed by a marker with a
number that nobody can guess, on both streams, so that no output can pass for the end of a command or for its status.
"""

from __future__ import annotations

import secrets
import shlex
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, cast

from breakfix.engine.client import unreachable
from breakfix.errors import CommandTimedOut, HostUnreachable, ProbeFailed
from breakfix.model import Completed

if TYPE_CHECKING:
    from docker import APIClient

STDOUT: Final = 1
STDERR: Final = 2
FRAME: Final = 8
"""Bytes of a frame's head: which stream, and how much follows."""
MOST_OUTPUT: Final = 16 * 1024 * 1024
KILLED: Final = "killed"
OPENING: Final = 30.0
"""Seconds that a new shell may take to say its process id."""
ENGINE_FAILED: Final = "OCI runtime exec failed"
"""What the engine writes in place of the output of a process that it could not begin."""
ASIDE: Final = 8.0
"""Seconds that a script beside a shell may take, to end what the shell left or to see why it is silent."""

# Kill a process and all below it: each is stopped first, so that it makes no more while its children are looked for.
KILL_TREE: Final = (
    'kill_tree() { kill -STOP "$1" 2>/dev/null; '
    'for child in $(grep -ls "^PPid:[^0-9]*$1\\$" /proc/[0-9]*/status); do '
    'child="${child#/proc/}"; kill_tree "${child%/status}"; done; kill -KILL "$1" 2>/dev/null; }; '
)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where and as what a shell runs."""

    container: str
    host: str
    """The host's name, for messages."""
    argv: tuple[str, ...]
    privileged: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    tools: str = "/toolbox/bin"
    """Where a script beside the shell finds its tools: in the trusted toolbox, or where nobody else can enter."""
    there: tuple[str, ...] = ()
    """What leads to where the shell runs, where that is not the container: a script beside it goes the same way."""


class _Cut(Exception):  # a signal between two functions here, not an error that leaves
    """The connection ended before the answer did."""


class _NeverBegan(HostUnreachable):
    """The engine could not begin the shell: nothing of it ran."""


class ExecShell:
    """The shell, opened at the first command and again whenever it was lost."""

    def __init__(self, api: APIClient, seat: Seat) -> None:
        self.integrity: list[str] = []
        self._api = api
        self._seat = seat
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._exec = ""
        self._pid = 0

    def run(self, command: str, timeout: float = 10.0) -> Completed:
        """Run one command; see ``environments.Shell``."""
        with self._lock:
            started = time.monotonic()
            try:
                status, out, err = self._ask(command, timeout)
            except _Cut as cut:
                status, out, err = self._look_again(command, timeout, str(cut))
            return Completed(command, status, out, err, time.monotonic() - started)

    def open(self) -> None:
        """Open it now; see ``environments.Shell``."""
        with self._lock:
            self._open()

    def _look_again(self, command: str, timeout: float, how: str) -> tuple[int, bytes, bytes]:
        """Ask once more after the shell was lost.  A dead host is unreachable; a live one was interfered with."""
        self.close()
        try:
            self._open()
            self.integrity.append(f"{self._seat.host}: the grading shell was {how} from within the host")
            return self._ask(command, timeout)
        except _Cut:
            self.close()
            raise HostUnreachable(
                f"{self._seat.host}: the shell was cut off twice",
                why="The host died, or something in it ends every new process.",
                next_step="breakfix reset brings the start state back.",
            ) from None

    def _ask(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        self._open()
        nonce = secrets.token_hex(16)
        line = f"( eval {shlex.quote(command)} ) </dev/null; printf '{nonce} %d\\n' $?; printf '{nonce} 0\\n' >&2\n"
        try:
            self._send(line.encode())
            out, err = self._until(nonce.encode(), time.monotonic() + timeout)
        except TimeoutError:
            self._give_up(command, timeout)
        output, _, status = out.rpartition(nonce.encode() + b" ")
        return int(status), output, err.rpartition(nonce.encode())[0]

    def _open(self) -> None:
        if self._socket is not None:
            return
        try:
            self._begin()
        except _NeverBegan:
            # Nothing ran, so nothing is done twice.  See docs/decisions, 31.
            self._begin()

    def _begin(self) -> None:
        with unreachable(self._seat.host):
            self._exec = self._api.exec_create(
                self._seat.container,
                list(self._seat.argv),
                stdin=True,
                privileged=self._seat.privileged,
                environment=self._seat.variables,
            )["Id"]
            # Over TLS docker-py hands out the socket itself, else a reader around it.
            self._socket = connection_of(self._api.exec_start(self._exec, socket=True))
        try:
            self._pid = self._greet()
        except HostUnreachable:
            self.close()
            raise

    def _greet(self) -> int:
        """Return the process id of the new shell, in its own host."""
        nonce = secrets.token_hex(16)
        streams = {STDOUT: bytearray(), STDERR: bytearray()}
        try:
            # Where it was cut before that, why may still be there to read.
            with suppress(_Cut):
                self._send(f"printf '%d {nonce} 0\\n' $$; printf '{nonce} 0\\n' >&2\n".encode())
            self._read(streams, nonce.encode(), time.monotonic() + OPENING)
        except TimeoutError:
            raise self._refusal(f"A shell in it did not answer within {OPENING:.0f} s.") from None
        except _Cut:
            said = b" ".join(streams.values()).decode(errors="replace").strip()
            raise self._refusal(f"A shell in it ended at once: {said[:300] or 'nothing was said'}") from None
        return int(bytes(streams[STDOUT]).split()[0])

    def _refusal(self, why: str) -> HostUnreachable:
        kind = _NeverBegan if ENGINE_FAILED in why else HostUnreachable
        return kind(
            f"{self._seat.host} takes no command",
            why=why,
            next_step="breakfix sessions says whether it runs; breakfix reset brings the start state back.",
        )

    def _connection(self) -> socket.socket:
        if self._socket is None:
            raise _Cut(KILLED)
        return self._socket

    def _send(self, data: bytes) -> None:
        connection = self._connection()
        try:
            connection.settimeout(OPENING)
            connection.sendall(data)
        except OSError as error:
            raise _Cut(KILLED) from error

    def _until(self, marker: bytes, deadline: float) -> tuple[bytes, bytes]:
        """Read until both streams carry the marker and the line that it begins."""
        streams = {STDOUT: bytearray(), STDERR: bytearray()}
        self._read(streams, marker, deadline)
        return bytes(streams[STDOUT]), bytes(streams[STDERR])

    def _read(self, streams: dict[int, bytearray], marker: bytes, deadline: float) -> None:
        while not all(_ended(stream, marker) for stream in streams.values()):
            kind, size = struct.unpack(">BxxxL", self._exactly(FRAME, deadline))
            streams[kind] += self._exactly(size, deadline)
            if len(streams[kind]) > MOST_OUTPUT:
                self._kill()
                raise ProbeFailed(f"{self._seat.host}: a command printed more than {MOST_OUTPUT >> 20} MiB")

    def _exactly(self, size: int, deadline: float) -> bytes:
        connection = self._connection()
        data = bytearray()
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                connection.settimeout(left)
                chunk = connection.recv(min(size - len(data), 1 << 16))
            except TimeoutError:
                raise
            except OSError as error:
                raise _Cut(KILLED) from error
            if not chunk:
                raise _Cut(KILLED)
            data += chunk
        return bytes(data)

    def _give_up(self, command: str, timeout: float) -> NoReturn:
        stopped = self._kill() == b"T"
        if stopped:
            how = "stopped"
            raise _Cut(how)
        raise CommandTimedOut(
            f"{self._seat.host}: no answer within {timeout:g} s",
            why=f"The command was: {command.strip()[:200]}",
            next_step="Grade again; if it stays so, the host itself hangs: look at its processes with breakfix shell.",
        ) from None

    def _kill(self) -> bytes:
        """End the shell and everything below it; return the state that it was in, as in /proc/PID/stat.

        The connection stays open and is read meanwhile: an engine that cannot get rid of a flood of output handles
        nothing else of this container, and one whose client has gone kills the shell alone and leaves its children.
        """
        flood = threading.Thread(target=_drain, args=(self._socket,), daemon=True)
        flood.start()
        pid = self._pid
        state = self._aside(f"cut -d' ' -f3 /proc/{pid}/stat; {KILL_TREE} kill_tree {pid}").strip()
        self.close()
        return state

    def _aside(self, script: str) -> bytes:
        """Run a short script in an exec of its own, with the toolbox; the open shell may hang.

        It has a deadline here, not only in the host: whoever can stop our shell can stop this one and its clock too.
        """
        with suppress(HostUnreachable), unreachable(self._seat.host):
            tools = self._seat.tools
            inside = self._seat.there or (f"{tools}/sh",)
            command = [f"{tools}/timeout", "-s", "KILL", "5", *inside, "-c", script]
            new = self._api.exec_create(
                self._seat.container,
                command,
                privileged=self._seat.privileged,
                environment={"PATH": tools},
            )
            stream = self._api.exec_start(new["Id"], socket=True)
            connection = connection_of(stream)
            try:
                return _until_it_ends(connection, time.monotonic() + ASIDE)
            finally:
                connection.close()
        return b""

    def close(self) -> None:
        """End the shell; the next command opens another."""
        # Taken first: the thread that the shutdown wakes closes this shell too.
        connection, self._socket = self._socket, None
        if connection is not None:
            with suppress(OSError):
                # Not only closed: that would not wake a thread that reads it.
                connection.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                connection.close()


def connection_of(stream: object) -> socket.socket:
    """Return the connection behind what docker-py hands out for an exec, as one of our own.

    docker-py takes an exec's connection for one that is free again.  After requests to 25 other addresses it closes it,
    in the midst of our talk: so we talk over a duplicate, which that does not touch.  A TLS connection cannot be
    duplicated, and is used as it is.
    """
    connection = cast("socket.socket", getattr(stream, "_sock", stream))
    return connection.dup() if type(connection) is socket.socket else connection


def _ended(stream: bytearray, marker: bytes) -> bool:
    # The marker is looked for in the tail alone: searching megabytes again for every frame would be quadratic.
    return stream.endswith(b"\n") and marker in stream[-(len(marker) + 8) :]


def _drain(connection: socket.socket | None) -> None:
    if connection is not None:
        with suppress(OSError):
            connection.settimeout(ASIDE)
            while connection.recv(1 << 20):
                pass


def _until_it_ends(connection: socket.socket, deadline: float) -> bytes:
    """Read what one exec prints to its end or the deadline, and return what it said on standard output."""
    data = bytearray()
    with suppress(TimeoutError):
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (chunk := connection.recv(1 << 16)):
                break
            data += chunk
    said = bytearray()
    while len(data) >= FRAME:
        kind, size = struct.unpack(">BxxxL", data[:FRAME])
        said += data[FRAME : FRAME + size] if kind == STDOUT else b""
        del data[: FRAME + size]
    return bytes(said)
