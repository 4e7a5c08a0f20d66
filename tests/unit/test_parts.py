"""Parts are compiled in a container that reaches modules as this machine does."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from requests.exceptions import ReadTimeout

from breakfix import finishing, parts
from breakfix.errors import ImageBuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Engine:
    """Answers as the engine's API does, and remembers what it was told."""

    def __init__(self, *waits: int | None, log: str = "") -> None:
        self.waits = list(waits)
        self.log = log
        self.put: dict[str, list[tarfile.TarInfo]] = {}
        self.stored: dict[str, Any] = {}
        self.answer = '{"status": "sha256:1"}'
        self.removed: list[str] = []
        self.left = ["left"]

    def containers(self, **_: object) -> list[dict[str, str]]:
        return [{"Id": one} for one in self.left]

    def create_volume(self, name: str, labels: dict[str, str]) -> None:
        self.volume = (name, labels)

    def create_host_config(self, **config: object) -> dict[str, object]:
        return config

    def create_container(self, image: str, command: list[str], **config: object) -> dict[str, str]:
        self.container = {"image": image, "command": command, **config}
        return {"Id": "box"}

    def put_archive(self, _: str, path: str, content: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            self.put[path] = archive.getmembers()

    def start(self, _: str) -> None:
        pass

    def wait(self, _: str, **__: object) -> dict[str, int]:
        code = self.waits.pop(0)
        if code is None:
            raise ReadTimeout
        return {"StatusCode": code}

    def logs(self, _: str, tail: int) -> bytes:
        return "\n".join(self.log.splitlines()[-tail:]).encode()

    def get_archive(self, _: str, path: str) -> tuple[Iterator[bytes], dict[str, str]]:
        return iter([path.encode()]), {}

    def import_image_from_data(self, data: Iterator[bytes], **kept: object) -> str:
        self.stored = {"data": b"".join(data), **kept}
        return f'{{"status": "storing"}}\n{self.answer}\n'

    def remove_container(self, box: str, **_: object) -> None:
        self.removed.append(box)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    folder = tmp_path / "etcd"
    folder.mkdir()
    (folder / "build.sh").write_text("go build\n", encoding="utf-8")
    return folder


def compile_with(engine: Engine, part: Path) -> list[str]:
    told: list[str] = []
    labels = {"breakfix.image": "etcd"}
    parts.compile_part(engine, part, "breakfix/go:1", "breakfix/etcd:1", labels, told.append)  # type: ignore[arg-type]
    return told


def test_what_the_script_leaves_is_the_image(part: Path) -> None:
    engine = Engine(0)
    compile_with(engine, part)
    assert engine.container["image"] == "breakfix/go:1"
    assert engine.stored == {
        "data": b"/out/.",
        "repository": "breakfix/etcd",
        "tag": "1",
        "changes": ["LABEL breakfix.image=etcd"],
    }


def test_the_container_goes_and_so_do_those_of_builds_that_were_killed(part: Path) -> None:
    engine = Engine(0)
    compile_with(engine, part)
    assert engine.removed == ["left", "box"]


def test_the_folder_belongs_to_root_in_the_container(part: Path) -> None:
    engine = Engine(0)
    compile_with(engine, part)
    assert {(one.uid, one.gid) for one in engine.put["/part"]} == {(0, 0)}
    assert "./build.sh" in {one.name for one in engine.put["/part"]}


def test_while_it_takes_long_the_last_line_is_told(part: Path) -> None:
    told = compile_with(Engine(None, None, 0, log="first\nk8s.io/api\n"), part)
    assert told.count("etcd: k8s.io/api") == 2


def test_a_script_that_fails_says_why_and_stores_nothing(part: Path) -> None:
    engine = Engine(1, log="main.go:1: syntax error")
    with pytest.raises(ImageBuildFailed, match="etcd could not be compiled") as failed:
        compile_with(engine, part)
    assert "syntax error" in failed.value.why
    assert not engine.stored


def test_an_image_that_the_engine_could_not_store_is_told(part: Path) -> None:
    engine = Engine(0)
    engine.answer = '{"error": "no space left on device"}'
    with pytest.raises(ImageBuildFailed, match="could not be stored") as failed:
        compile_with(engine, part)
    assert failed.value.why == "no space left on device"
    assert "box" in engine.removed


def test_the_container_trusts_whom_this_machine_trusts(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities = tmp_path / "company.pem"
    authorities.write_text("a certificate", encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    engine = Engine(0)
    compile_with(engine, part)
    (trusted,) = engine.put["/etc/ssl/certs"]
    assert (trusted.name, trusted.size) == ("ca-certificates.crt", len("a certificate"))


def test_a_machine_without_authorities_leaves_the_containers_own(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_authorities", lambda: iter(()))
    engine = Engine(0)
    compile_with(engine, part)
    assert set(engine.put) == {"/part"}


def test_only_how_to_reach_modules_is_passed_on() -> None:
    environment = {"GOPROXY": "one", "https_proxy": "two", "NO_PROXY": "", "TOKEN": "secret", "GOFLAGS": "-mod=mod"}
    assert parts.passed_on(environment) == {"GOPROXY": "one", "HTTPS_PROXY": "two"}


def test_a_flat_image_is_started_and_stopped_as_before() -> None:
    config = {
        "Env": ["container=docker", 'QUOTED=a "b"'],
        "StopSignal": "SIGRTMIN+3",
        "Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"],
        "Cmd": None,
    }
    assert finishing.settings(config, {"breakfix.image": "node"}) == (
        'LABEL "breakfix.image"="node"',
        'ENV container="docker"',
        'ENV QUOTED="a \\"b\\""',
        "STOPSIGNAL SIGRTMIN+3",
        'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
    )


def test_an_image_that_says_nothing_needs_no_lines() -> None:
    assert finishing.settings({"Env": None}, {}) == ()


def test_a_file_is_taken_from_an_image_that_nothing_runs_in() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("kind")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"\x7fELF"))
    engine = Engine()
    engine.get_archive = lambda _, path: (iter([stream.getvalue()]), {"path": path})  # type: ignore[method-assign]
    assert parts.take_file(engine, "breakfix/kind:1", "/usr/local/bin/kind") == b"\x7fELF"  # type: ignore[arg-type]
    assert engine.removed == ["box"]
