"""One's own attempts, kept on one's own machine in SQLite.

Losing the history never loses a grade: every method raises ``NotReady`` and nothing else, so that whoever grades can
warn and go on.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from breakfix.errors import NotReady, UsageError
from breakfix.model import Event, Grade
from breakfix.reports.record import grade_from_json, grade_to_json
from breakfix.skills import SkillRecord, shown_in

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = ["SCHEMA", "History", "SkillRecord", "data_folder"]

SCHEMA = 1
"""Version of the tables, kept in the file's ``user_version``."""

BUSY_SECONDS = 10.0
"""How long to wait for another process of ours that is writing."""

TABLES = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_session ON events (session);
CREATE TABLE IF NOT EXISTS grades (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL, lab TEXT NOT NULL, skills TEXT NOT NULL,
    gradable INTEGER NOT NULL, passed INTEGER NOT NULL, score INTEGER NOT NULL, document TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS grades_by_session ON grades (session);
CREATE INDEX IF NOT EXISTS grades_by_lab ON grades (lab);
"""


def data_folder() -> Path:
    """Return where one's own data lives: ``$BREAKFIX_DATA``, or what the system has for it."""
    from platformdirs import user_data_path  # noqa: PLC0415  # so that the command line starts fast

    chosen = os.environ.get("BREAKFIX_DATA")
    return Path(chosen).expanduser() if chosen else user_data_path("breakfix", appauthor=False)


class History:
    """All attempts of the person at this machine; ``with History() as history:`` opens and closes it."""

    _connection: sqlite3.Connection

    def __init__(self, path: Path | None = None) -> None:
        """Say which file; without one it is ``history.db`` in ``data_folder()``."""
        self.path = path or data_folder() / "history.db"

    def __enter__(self) -> Self:
        """Open the file, and make it where there is none.

        Raises:
            NotReady: the file cannot be used, or a newer breakfix has written it.

        """
        with _usable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(self.path)
        try:
            with _usable(self.path):
                _prepare(self._connection, self.path)
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what was recorded is already on the disk."""
        self._connection.close()

    def record(self, event: Event) -> None:
        """Keep one event of a session's timeline."""
        row = (event.session, event.at.isoformat(), event.kind, _storable(event.detail))
        self._write("INSERT INTO events (session, at, kind, detail) VALUES (?, ?, ?, ?)", row)

    def record_grade(self, grade: Grade, skills: Sequence[str]) -> None:
        """Keep a whole grade with its evidence, and the skills that its lab was written for."""
        document = json.dumps(grade_to_json(grade))
        answer = (grade.gradable, grade.passed, grade.score, document)
        self._write(
            "INSERT INTO grades (session, lab, skills, gradable, passed, score, document) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (grade.session, grade.lab, json.dumps(list(skills)), *answer),
        )

    def events(self, session: str) -> tuple[Event, ...]:
        """Return a session's timeline, oldest first."""
        rows = self._read("SELECT session, at, kind, detail FROM events WHERE session = ? ORDER BY id", session)
        return tuple(Event(name, datetime.fromisoformat(at), kind, detail) for name, at, kind, detail in rows)

    def hints_taken(self, session: str) -> int:
        """Count the hints that were taken in a session."""
        return len(self._read("SELECT id FROM events WHERE session = ? AND kind = 'hint'", session))

    def best_scores(self) -> dict[str, int]:
        """Return the best score by lab; a grade that could not be made has no score."""
        rows = self._read("SELECT lab, MAX(score) FROM grades WHERE gradable GROUP BY lab ORDER BY lab")
        return {lab: int(score) for lab, score in rows}

    def passed_labs(self) -> frozenset[str]:
        """Return the labs that were passed at least once."""
        return frozenset(lab for (lab,) in self._read("SELECT DISTINCT lab FROM grades WHERE passed"))

    def skills_shown(self) -> dict[str, SkillRecord]:
        """Count what was proven by skill, from the latest grade of each lab that could be made."""
        newest = "SELECT MAX(id) FROM grades WHERE gradable GROUP BY lab"
        query = f"SELECT lab, skills, document FROM grades WHERE id IN ({newest}) ORDER BY lab"  # noqa: S608  # constants
        rows = self._read(query)
        records = shown_in(self._grade(document) for _, _, document in rows)
        for lab, skills, _ in rows:
            for skill in json.loads(skills):
                records[skill] = records.get(skill, SkillRecord()).tried_in(lab)
        return records

    def latest_grade(self, session_or_lab: str) -> Grade | None:
        """Return the newest grade of a session or of a lab, or None; a lab's id has a slash, a session's has none."""
        column = "lab" if "/" in session_or_lab else "session"
        newest = f"SELECT document FROM grades WHERE {column} = ? ORDER BY id DESC LIMIT 1"  # noqa: S608  # one of two words
        rows = self._read(newest, session_or_lab)
        return self._grade(rows[0][0]) if rows else None

    def _write(self, statement: str, row: tuple[str | int, ...]) -> None:
        with _usable(self.path):
            self._connection.execute(statement, row)

    def _read(self, query: str, *values: str) -> list[tuple[str, ...]]:
        with _usable(self.path):
            return self._connection.execute(query, values).fetchall()

    def _grade(self, document: str) -> Grade:
        try:
            return grade_from_json(json.loads(document))
        except (ValueError, UsageError) as error:
            what = f"A grade in your history cannot be read: {self.path}"
            raise NotReady(what, why=str(error), next_step=_AWAY.format(path=self.path)) from error


_AWAY = "Type `mv '{path}' '{path}.old'` to begin a new history; the old one is kept."
_ELSEWHERE = "Type `export BREAKFIX_DATA=DIR` with a folder that you can write to, then try again."
_NEWER = "Type `pip install --upgrade breakfix`, or `export BREAKFIX_DATA=DIR` to keep a second history."


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn any trouble with the file into ``NotReady`` with what to type next."""
    import sqlite3  # noqa: PLC0415  # so that the command line starts fast

    try:
        yield
    except (sqlite3.Error, OSError) as error:
        what = f"Your history cannot be used: {path}"
        raise NotReady(what, why=f"The system says: {error}.", next_step=_next_step(error, path)) from error


def _next_step(error: Exception, path: Path) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return _ELSEWHERE
    import sqlite3  # noqa: PLC0415  # so that the command line starts fast

    if code == sqlite3.SQLITE_BUSY:
        return "Another breakfix is writing to it; try again in a moment."
    damaged = code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
    return _AWAY.format(path=path) if damaged else _ELSEWHERE


def _connect(path: Path) -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415  # so that the command line starts fast

    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to our schema, whoever else is doing the same right now."""
    if _version(connection, path) == SCHEMA:
        return
    _write_ahead(connection)
    with _alone(connection):
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA:
        what = f"Your history was written by a newer breakfix: {path}"
        why = f"It has schema {version}, and this breakfix knows schema {SCHEMA}."
        raise NotReady(what, why=why, next_step=_NEWER)
    return version


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side.

    SQLite does not keep its busy timeout for this one switch, so we wait ourselves.
    """
    import sqlite3  # noqa: PLC0415  # so that the command line starts fast

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def _alone(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock; all of it happens or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _storable(text: str) -> str:
    """Return text as SQLite can keep it: bytes that were no UTF-8 arrive as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
