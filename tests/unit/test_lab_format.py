"""lab.toml: whatever an author writes is a lab, or problems that name their lines; never anything else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from breakfix.lab_format import RESERVED, LabFormat, line_of, parse
from breakfix.model import ClusterSpec, Disk, Hint, HostSpec, Lab, Level
from breakfix.skills import SKILLS

if TYPE_CHECKING:
    from collections.abc import Callable

FULL = """\
title = "The disk is full, and nothing is on it"
level = "mid"
minutes = 20
skills = ["linux.filesystems", "linux.processes"]
restart = true
seeds = [4, 5, 6]

[hosts.web]
image = "host"
memory = "192m"
cpus = 0.5
pids = 128
capabilities = ["NET_ADMIN"]
own_names = true
disks = [{ path = "/srv", size = "48m", inodes = 500 }]

[hosts.db]

[variants]
service = ["ledger", "courier"]
port = [8080, 8181]

[[hints]]
text = "df and du disagree about /srv."
cost = 5

[[hints]]
text = "Who holds a file that is gone?"
cost = 10

[[hints]]
text = "Type lsof +L1 /srv."
cost = 20
"""


def read(text: str | bytes, folder: Path) -> tuple[Lab | None, list[tuple[int, str]]]:
    path = folder / "lab.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    lab, problems = parse(path, "linux/toy", None)
    assert all(problem.path == path for problem in problems)
    assert (lab is None) == bool(problems)
    return lab, [(problem.line, problem.message) for problem in problems]


def number(text: str, start: str, nth: int = 1) -> int:
    """Return the line of ``text`` that begins with ``start``, the nth of its kind."""
    return [n for n, line in enumerate(text.splitlines(), start=1) if line.startswith(start)][nth - 1]


def test_everything_that_is_written_is_in_the_lab(tmp_path: Path) -> None:
    lab, problems = read(FULL, tmp_path)
    assert problems == []
    assert lab == Lab(
        id="linux/toy",
        title="The disk is full, and nothing is on it",
        level=Level.MID,
        minutes=20,
        skills=("linux.filesystems", "linux.processes"),
        environment="docker",
        hosts=(
            HostSpec("web", "host", "192m", 0.5, 128, ("NET_ADMIN",), True, (Disk("/srv", "48m", 500),)),
            HostSpec("db", "host"),
        ),
        variants={"service": ("ledger", "courier"), "port": (8080, 8181)},
        seeds=(4, 5, 6),
        hints=(
            Hint("df and du disagree about /srv.", 5),
            Hint("Who holds a file that is gone?", 10),
            Hint("Type lsof +L1 /srv.", 20),
        ),
        internet=False,
        restart=True,
        folder=tmp_path,
        grader=None,
    )


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    text = FULL.replace("restart = true\nseeds = [4, 5, 6]\n", "")
    lab, _ = read(text, tmp_path)
    assert lab is not None
    assert (lab.restart, lab.internet, lab.seeds, lab.environment) == (False, False, (1, 2, 3), "docker")
    assert lab.hosts[1] == HostSpec("db", "host", "256m", 1.0, 256, (), own_names=False, disks=())


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("level = ", "colour = 1\nlevel = ", 2, "colour: Extra inputs are not permitted"),
        ("memory = ", "memroy = ", 10, "hosts.web.memroy: Extra inputs are not permitted"),
        ("inodes = ", "inode = ", 15, "hosts.web.disks.0.inode: Extra inputs are not permitted"),
        ("cost = 10", "cost = 10\nprice = 1", 30, "hints.1.price: Extra inputs are not permitted"),
        ('title = "The disk is full, and nothing is on it"\n', "", 1, "title: Field required"),
        ("cost = 20\n", "", 31, "hints.2.cost: Field required"),
        ('level = "mid"', 'level = "expert"', 2, "level: Input should be 'junior', 'mid', 'senior' or 'staff'"),
        ("minutes = 20", "minutes = 4", 3, "minutes: Input should be greater than or equal to 5"),
        ('"linux.processes"', '"linux.magic"', 4, "skills: Value error, unknown skill linux.magic"),
        ("[4, 5, 6]", "[4, 5]", 6, "seeds: Tuple should have at least 3 items"),
        ("[hosts.db]", "[hosts.Db]", 17, "hosts.Db"),
        ('"NET_ADMIN"', '"SYS_ADMIN"', 13, "hosts.web.capabilities.0: String should match pattern"),
        ('"NET_ADMIN"', '"NET_ADMIN\\nSYS_ADMIN"', 13, "hosts.web.capabilities.0: String should match pattern"),
        ("cpus = 0.5", "cpus = 0", 11, "hosts.web.cpus: Input should be greater than 0"),
        ("cpus = 0.5", "cpus = nan", 11, "hosts.web.cpus"),
        ("pids = 128", "pids = 8", 12, "hosts.web.pids: Input should be greater than or equal to 32"),
        ('"192m"', '"192 MB"', 10, "hosts.web.memory: String should match pattern"),
        ('"/srv"', '"srv"', 15, "hosts.web.disks.0.path: String should match pattern"),
        ("[8080, 8181]", "[8080]", 21, "variants.port: Tuple should have at least 2 items"),
        ("port = ", "Port = ", 21, "variants.Port"),
        ("8181]", "2026-01-01]", 21, "variants.port.1"),
        ("cost = 5\n", "cost = -5\n", 25, "hints.0.cost: Input should be greater than or equal to 0"),
        ("df and du disagree about /srv.", "df!", 24, "hints.0.text: String should have at least 10 characters"),
    ],
)
def test_each_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in FULL
    _, problems = read(FULL.replace(old, new, 1), tmp_path)
    assert len(problems) == 1, problems
    assert problems[0][0] == line
    assert problems[0][1].startswith(message)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_every_template_has_cannot_be_drawn(tmp_path: Path, name: str) -> None:
    _, problems = read(FULL.replace("port = ", f"{name} = "), tmp_path)
    assert problems == [
        (19, f"variants: Value error, {name}: every template has a value of that name already"),
    ]


def test_no_host_is_called_as_the_container_beside(tmp_path: Path) -> None:
    _, problems = read(FULL.replace("[hosts.db]", "[hosts.client]"), tmp_path)
    assert [line for line, _ in problems] == [8]
    assert "client" in problems[0][1]


def test_a_host_may_be_closed_but_not_the_one_where_the_candidate_sits(tmp_path: Path) -> None:
    lab, problems = read(FULL.replace("[hosts.db]", "[hosts.db]\nclosed = true"), tmp_path)
    assert problems == []
    assert lab is not None
    assert [host.closed for host in lab.hosts] == [False, True]
    _, problems = read(FULL.replace("own_names = true", "closed = true"), tmp_path)
    assert len(problems) == 1
    assert "the first host is where the candidate sits" in problems[0][1]


def test_a_lab_without_hosts_is_told_at_the_files_top(tmp_path: Path) -> None:
    begin, end = FULL.index("[hosts.web]"), FULL.index("[variants]")
    _, problems = read(FULL[:begin] + FULL[end:], tmp_path)
    assert problems == [(1, 'file: Value error, environment "docker" runs [hosts], and has no [cluster]')]


CLUSTERED = (
    FULL[: FULL.index("[hosts.web]")]
    + """\
[cluster]
namespaces = ["shop", "bank"]

[cluster.images]
"registry.lab/shop/web:4.2.0" = "app"

"""
    + FULL[FULL.index("[variants]") :]
)
CLUSTERED = CLUSTERED.replace("restart = true", 'environment = "kind"\nrestart = true')


def test_a_lab_in_a_cluster_has_a_workstation_for_a_host(tmp_path: Path) -> None:
    lab, problems = read(CLUSTERED, tmp_path)
    assert problems == []
    assert lab is not None
    assert lab.cluster == ClusterSpec(("shop", "bank"), images={"registry.lab/shop/web:4.2.0": "app"})
    assert [(one.name, one.image) for one in lab.hosts] == [("workstation", "workstation")]
    assert lab.places == ("workstation", "cluster")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('environment = "kind"', 'environment = "docker"', 'environment "docker" runs [hosts]'),
        ('[cluster]\nnamespaces = ["shop", "bank"]', "", "Field required"),
        ('["shop", "bank"]', '["shop"]\nworkers = 1', "only a cluster of one's own has them"),
        ('["shop", "bank"]', '["shop"]\nisolation = "cluster"\nworkers = 3', "less than or equal to 2"),
        ('["shop", "bank"]', '["shop"]\nisolation = "node"', "'namespace' or 'cluster'"),
        ('["shop", "bank"]', "[]", "at least 1 item"),
        ('["shop", "bank"]', '["Shop"]', "should match pattern"),
        ('"registry.lab/shop/web:4.2.0"', '"web"', "should match pattern"),
        ("[variants]", "[hosts.cluster]\n[variants]", "cluster"),
    ],
)
def test_what_is_wrong_with_a_cluster_is_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in CLUSTERED
    _, problems = read(CLUSTERED.replace(old, new), tmp_path)
    assert any(words in message for _, message in problems), problems


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = (
        FULL.replace("minutes = 20", "minutes = 1").replace("pids = 128", "pids = 1").replace("cost = 20", "cost = 99")
    )
    _, problems = read(text, tmp_path)
    assert [line for line, _ in problems] == [3, 12, 33]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('title = "x"\nlevel = \n', 2),
        ("a = 1\na = 2\n", 2),
        ('a = 1\n\ntitle = "never ends', 3),
        ('a = 1\ntitle = """never\nends\n', 3),
        ("a = 1\nb = [1,\n2,\n", 3),
        ("", 1),
    ],
)
def test_what_is_not_toml_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    _, problems = read(text, tmp_path)
    assert problems[0][0] == line


@pytest.mark.parametrize(
    "content",
    [
        b'title = "caf\xe9"\n',
        b"\xff\xfe",
        b"a = " + b"9" * 5000,
        b"a = " + b"[" * 5000,
        b"a = " + b"{a=" * 5000,
        b"[" + b"a." * 1000 + b"a]",
        b"a = 2026-02-31",
        b"\x00",
    ],
    ids=["latin-1", "utf-16", "big number", "deep array", "deep table", "deep header", "no such day", "nul"],
)
def test_hostile_bytes_are_a_problem(tmp_path: Path, content: bytes) -> None:
    lab, problems = read(content, tmp_path)
    assert lab is None
    assert problems


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").mkdir()
    lab, problems = parse(tmp_path / "lab.toml", "linux/toy", None)
    assert lab is None
    assert [problem.line for problem in problems] == [1]


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "loc", "line"),
    [
        ("a = 1\nb = 2", ("b",), 2),
        ("# b = 0\n\na = 1\n  b = 2", ("b",), 4),
        ("hosts.web.pids = 1\nhosts.db.pids = 2", ("hosts", "db", "pids"), 2),
        ('["hosts"."web"]\n"pids" = 1', ("hosts", "web", "pids"), 2),
        ("[hosts.web]\n[hosts.db]\npids = 1", ("hosts", "db", "pids"), 3),
        ("[hosts.web]\n[hosts.db]\npids = 1", ("hosts", "db", "cpus"), 2),
        ("[hosts]\nweb = { pids = 1 }\ndb = { pids = 2 }", ("hosts", "db", "pids"), 3),
        ("[variants]\npair = [\n  [1, 2],\n  [3, 4],\n]\nbad = 1", ("variants", "bad"), 6),
        ("[variants]\na = 1\nb = [\n 1,\n 2,\n]", ("variants", "b", 1), 3),
        ('[[hints]]\ntext = """\n[Service]\ncost = 1\n"""\ncost = 99', ("hints", 0, "cost"), 6),
        ("[[hints]]\ncost = 1\n[[hints]]\ncost = 2\n[[hints]]\ncost = 3", ("hints", 1, "cost"), 4),
        ("[[hints]]\ncost = 1\n[[hints]]\ntext = 2", ("hints", 1, "cost"), 3),
        ("[[d.x.e]]\nsize = 1\n[[d.y.e]]\nsize = 2\n[[d.y.e]]\nsize = 3", ("d", "y", "e", 1, "size"), 6),
        ("hints = [\n  { cost = 1 },\n]\n", ("hints", 0, "cost"), 1),
        ("[hosts.Web]\npids = 1", ("hosts", "Web", "[key]"), 1),
        ("a = 1\r\nb = 2\r\n", ("b",), 2),
        ('a = "\u2028 \u0085"\nb = 2\n', ("b",), 2),
        ("a = 1\n[t]\nb = 2", ("nothing", "like", "it"), 1),
        ("a = 1", (), 1),
        ("", ("a",), 1),
    ],
)
def test_a_path_stands_in_its_line(text: str, loc: tuple[int | str, ...], line: int) -> None:
    assert line_of(text, loc) == line


# -- any lab at all ----------------------------------------------------------------------------------------------------


@dataclass
class Toml:
    """Writes TOML in whatever style is drawn, and notes the line of every key."""

    draw: Callable[[st.SearchStrategy[Any]], Any]
    lines: list[str] = field(default_factory=list)
    where: dict[tuple[int | str, ...], int] = field(default_factory=dict)

    def write(self, document: dict[str, Any], at: tuple[int | str, ...] = ()) -> None:
        later = []
        for key, value in document.items():
            if isinstance(value, dict) or _tables(value):
                later.append((key, value))
            else:
                self._key((*at, key), self._quoted(key), value)
        for key, value in later:
            for n, one in enumerate(value) if isinstance(value, list) else [(-1, value)]:
                path: tuple[int | str, ...] = (*at, key) if n < 0 else (*at, key, n)
                if any(not isinstance(inner, dict) for inner in one.values()) or not one or self.draw(st.booleans()):
                    name = ".".join(self._quoted(str(part)) for part in path if isinstance(part, str))
                    self._line(f"[{name}]" if n < 0 else f"[[{name}]]", path)
                self.write(one, path)

    def _key(self, path: tuple[int | str, ...], key: str, value: object) -> None:
        if isinstance(value, list) and value and self.draw(st.booleans()):
            self._line(f"{key} = [", path)
            self.lines += [f"  {_inline(one)}, # [x]" for one in value] + ["]"]
        elif isinstance(value, str) and self.draw(st.booleans()):
            self._line(f'{key} = """', path)
            self.lines.append(f"{json.dumps(value)[1:-1]}" + '"""')
        else:
            self._line(f"{key} = {_inline(value)}", path)

    def _line(self, text: str, path: tuple[int | str, ...]) -> None:
        self.lines += self.draw(st.sampled_from([[], [], [""], ["# title = 1", "#[hosts]"]]))
        self.lines.append(text)
        for depth in range(1, len(path) + 1):
            self.where.setdefault(path[:depth], len(self.lines))

    def _quoted(self, key: str) -> str:
        return f'"{key}"' if self.draw(st.booleans()) else key

    def line(self, path: tuple[int | str, ...]) -> int:
        """Return the line of a path, or of the nearest thing above it."""
        return self.where.get(path) or (self.line(path[:-1]) if path else 1)


def _tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    return json.dumps(value) if not isinstance(value, float) else repr(value)


# Drawn from a few: how a string looks matters to the writer, not to the format.
WORDS = st.sampled_from(
    ["ten letters", "a = 1 # [b]", "[hosts.web] '", "caf\u00e9 \u2603 \u0439\u0439\u0439\u0439", 'back\\slash "quoted"']
)
NAMES = st.sampled_from(["web", "db", "a-1", "cache", "host"])
KEYS = st.sampled_from(["service", "port", "_x", "title", "cost", "web"])
SIZES = st.sampled_from(["1k", "48m", "2g"])
DISKS = st.fixed_dictionaries(
    {"path": st.sampled_from(["/srv", "/var/lib/a_b-1"]), "size": SIZES},
    optional={"inodes": st.integers(0, 10_000)},
)
HOSTS = st.fixed_dictionaries(
    {},
    optional={
        "image": NAMES,
        "memory": SIZES,
        "cpus": st.sampled_from([0.5, 4.0, 1]),
        "pids": st.integers(32, 4096),
        "capabilities": st.just(["NET_ADMIN"]),
        "own_names": st.booleans(),
        "disks": st.lists(DISKS, max_size=2),
    },
)
CHOICES = st.lists(st.one_of(st.integers(-99, 99), st.booleans(), WORDS), min_size=2, max_size=4)
LABS = st.fixed_dictionaries(
    {
        "title": WORDS,
        "level": st.sampled_from([one.value for one in Level]),
        "minutes": st.integers(5, 180),
        "skills": st.lists(st.sampled_from(sorted(SKILLS)), min_size=1, max_size=3),
        "hosts": st.dictionaries(NAMES, HOSTS, min_size=1, max_size=3),
        "variants": st.dictionaries(KEYS, CHOICES, min_size=1, max_size=4),
        "hints": st.lists(st.fixed_dictionaries({"text": WORDS, "cost": st.integers(0, 50)}), min_size=3, max_size=4),
    },
    optional={
        "environment": st.just("docker"),
        "internet": st.booleans(),
        "restart": st.booleans(),
        "seeds": st.lists(st.integers(0, 2**31), min_size=3, max_size=5),
    },
)
# Shrinking a whole lab takes minutes, and the lines say enough.
FEW = hypothesis_settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def parsed(toml: Toml, folder: Path) -> tuple[Lab | None, list[tuple[int, str]]]:
    return read("\n".join(toml.lines) + "\n", folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labs")


@FEW
@given(LABS, st.data())
def test_any_valid_lab_is_read(folder: Path, document: dict[str, Any], data: st.DataObject) -> None:
    toml = Toml(data.draw)
    toml.write(document)
    lab, problems = parsed(toml, folder)
    assert problems == []
    assert lab is not None
    assert {host.name for host in lab.hosts} == document["hosts"].keys()
    assert {key: list(drawn) for key, drawn in lab.variants.items()} == document["variants"]
    assert [(hint.text, hint.cost) for hint in lab.hints] == [(one["text"], one["cost"]) for one in document["hints"]]
    assert (lab.title, lab.minutes, list(lab.skills)) == (document["title"], document["minutes"], document["skills"])


def places(document: dict[str, Any]) -> list[tuple[int | str, ...]]:
    """Return the path of every table whose keys are fixed."""
    hosts: list[tuple[int | str, ...]] = [("hosts", name) for name in document["hosts"]]
    return [(), *hosts, *(("hints", n) for n in range(len(document["hints"])))]


def at(document: Any, path: tuple[int | str, ...]) -> dict[str, Any]:  # noqa: ANN401
    for part in path:
        document = document[part]
    table: dict[str, Any] = document
    return table


@FEW
@given(LABS, st.data())
def test_a_key_too_many_is_named_in_its_line(folder: Path, document: dict[str, Any], data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places(document)))
    at(document, place)["unheard_of"] = data.draw(st.sampled_from([1, "words", [1, 2], [[1], [2]], True]))
    toml = Toml(data.draw)
    toml.write(document)
    dotted = ".".join(str(part) for part in (*place, "unheard_of"))
    expected = (toml.line((*place, "unheard_of")), f"{dotted}: Extra inputs are not permitted")
    assert parsed(toml, folder) == (None, [expected])


@FEW
@given(LABS, st.data())
def test_a_missing_key_is_named_at_its_table(folder: Path, document: dict[str, Any], data: st.DataObject) -> None:
    hints: list[tuple[int | str, ...]] = [
        ("hints", n, key) for n in range(len(document["hints"])) for key in ("text", "cost")
    ]
    top = [(key,) for key in ("title", "level", "minutes", "skills", "variants", "hints")]
    path = data.draw(st.sampled_from([*top, *hints]))
    del at(document, path[:-1])[str(path[-1])]
    toml = Toml(data.draw)
    toml.write(document)
    dotted = ".".join(str(part) for part in path)
    assert parsed(toml, folder) == (None, [(toml.line(path), f"{dotted}: Field required")])


@FEW
@given(LABS, st.data())
def test_a_wrong_value_is_named_in_its_line(folder: Path, document: dict[str, Any], data: st.DataObject) -> None:
    keys = [(*place, key) for place in places(document) for key in at(document, place)]
    path = data.draw(
        st.sampled_from([one for one in keys if one[0] != "variants" and one[-1] not in {"hosts", "hints"}])
    )
    at(document, path[:-1])[str(path[-1])] = {}
    toml = Toml(data.draw)
    toml.write(document)
    if path[-1] == "variants":
        return
    lab, problems = parsed(toml, folder)
    assert lab is None
    assert [line for line, _ in problems] == [toml.line(path)]


@hypothesis_settings(max_examples=100, deadline=None)
@example("\r0")
@given(st.one_of(st.text(max_size=80), st.text(st.sampled_from("ab=[]{}\"'\n.#,1-: \\"), max_size=60)))
def test_arbitrary_text_is_problems_and_nothing_else(folder: Path, text: str) -> None:
    lab, problems = read(text.encode(errors="surrogatepass"), folder)
    assert lab is None
    assert problems
    # As a file is read: an old Mac's line ends count too.
    lines = len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert all(1 <= line <= lines and message for line, message in problems)


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_lab_with_any_piece_cut_out_is_a_lab_or_problems(folder: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 60)))
    text = FULL[:start] + FULL[end:]
    _, problems = read(text, folder)
    assert all(1 <= line <= len(text.split("\n")) for line, _ in problems)


def test_the_format_is_what_the_docs_show(tmp_path: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs/authoring.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```toml\n(.*?)```", docs, re.DOTALL) if "title" in block]
    _, problems = read(shown, tmp_path)
    assert [message for _, message in problems] == ["hints: Tuple should have at least 3 items after validation, not 1"]
    with pytest.raises(ValidationError):
        LabFormat.model_validate({})
