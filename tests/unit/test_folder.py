import io
import tarfile

import pytest

from breakfix.probes.folder import MOST_BYTES, MOST_FILES, MOST_STATE, Refused, read


def packed(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for one in members:
            if isinstance(one, tarfile.TarInfo):
                archive.addfile(one)
            else:
                info = tarfile.TarInfo(one[0])
                info.size = len(one[1])
                archive.addfile(info, io.BytesIO(one[1]))
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_go_by_their_paths_below_the_folder() -> None:
    found = read(packed(("net/main.tf", b"a"), ("net/modules/zone/main.tf", b"b")))
    assert found.files == {"main.tf": b"a", "modules/zone/main.tf": b"b"}
    assert found.state is None


def test_a_state_is_no_code_and_a_backup_is_nothing() -> None:
    names = ("terraform.tfstate.backup", "terraform.tfstate.1795905984.backup", "old.tfstate.17.backup")
    found = read(packed(("net/terraform.tfstate", b"{}"), *((f"net/{name}", b"x") for name in names)))
    assert found.files == {}
    assert found.state == b"{}"
    assert set(found.states) == {"terraform.tfstate"}


def test_many_backups_do_not_count_against_a_folder() -> None:
    backups = ((f"net/terraform.tfstate.{number}.backup", b"x") for number in range(MOST_FILES + 1))
    assert read(packed(*backups, ("net/main.tf", b"a"))).files == {"main.tf": b"a"}


@pytest.mark.parametrize(
    "name",
    [
        "net/.terraform/providers/evil", "net/.terraform.lock.hcl", "net/terraform.d/plugins/evil", "net/.terraformrc",
        "net/sub/terraform.rc", "net/.git/hooks/post-checkout",
    ],
)  # fmt: skip
def test_what_would_tell_tofu_where_providers_come_from_stays_behind(name: str) -> None:
    assert read(packed((name, b"x"), ("net/main.tf", b"a"))).files == {"main.tf": b"a"}


def test_links_of_a_folder_that_tofu_made_are_no_links_of_the_module() -> None:
    mirror = special("net/.terraform/providers/local", tarfile.SYMTYPE, "/usr/local/share")
    assert read(packed(mirror, ("net/main.tf", b"a"))).files == {"main.tf": b"a"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_refused_by_name(kind: bytes) -> None:
    with pytest.raises(Refused, match=r"secrets\.tf is a link"):
        read(packed(special("net/secrets.tf", kind, "/etc/shadow")))


def test_the_folder_itself_may_be_no_link() -> None:
    with pytest.raises(Refused, match="is a link"):
        read(packed(special("net", tarfile.SYMTYPE, "/etc")))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_a_special_file_is_refused(kind: bytes) -> None:
    with pytest.raises(Refused, match="special file"):
        read(packed(special("net/pipe", kind)))


@pytest.mark.parametrize(
    "name",
    ["override.tf", "zz_override.tf", "override.tf.json", "a_override.tofu", "modules/x/b_override.tf.json"],
)
def test_an_override_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="overrides other files"):
        read(packed((f"net/{name}", b"")))


@pytest.mark.parametrize("name", ["overrides.tf", "override.md", "my-override.tf"])
def test_a_name_like_an_override_is_none(name: str) -> None:
    assert name in read(packed((f"net/{name}", b""))).files


def test_a_path_that_leads_out_is_refused() -> None:
    with pytest.raises(Refused, match="leads out"):
        read(packed(("net/../../etc/passwd", b"")))


def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="MiB together"):
        read(packed(("net/a", b"x" * MOST_BYTES), ("net/b", b"x")))
    with pytest.raises(Refused, match="more than 500 files"):
        read(packed(*((f"net/{number}", b"") for number in range(MOST_FILES + 1))))
    with pytest.raises(Refused, match="a state here is under 4 MiB"):
        read(packed(("net/terraform.tfstate", b"x" * (MOST_STATE + 1))))


def test_a_refusal_is_a_verdict() -> None:
    assert issubclass(Refused, AssertionError)
