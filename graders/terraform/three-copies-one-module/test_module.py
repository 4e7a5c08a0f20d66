"""Whoever a resource is, is told by what it holds and by its id, never by its address: that is the candidate's."""

import json
from functools import lru_cache
from posixpath import join, normpath

from breakfix.grading import baseline, check
from breakfix.probes.terraform import State

STACK = "/root/stack"
MODULE = "/root/stack/modules/service"
FILES = "/srv/services"
FIELDS = {
    frozenset({"service", "size"}): "disk",
    frozenset({"service", "port", "memory", "log_level"}): "service",
    frozenset({"service", "retention"}): "audit",
}


def plain(values):
    """Values as a plan has them: a state wraps what may be of any type."""
    return {
        key: value["value"] if isinstance(value, dict) and set(value) == {"value", "type"} else value
        for key, value in values.items()
    }


def who(values):
    """What a resource is, and whose: ("disk", "ledger")."""
    if "filename" in values:
        return "file", str(values["filename"]).rpartition("/")[2].removesuffix(".json")
    given = values.get("input")
    if not isinstance(given, dict):
        return "other", str(given)
    return FIELDS.get(frozenset(given), "other"), str(given.get("service"))


def state(terraform):
    content = terraform.folder(STACK).state
    assert content, f"there is no state in {STACK}"
    return State.read(content)


@lru_cache(maxsize=1)
def planned(terraform):
    """The state, and what the stack would do to it; the fixture is another one in each look, so this is asked once."""
    now = state(terraform)
    return now, terraform.configuration(STACK).plan(state=now, refresh=False)


def things(found, *kinds):
    """What a state has of these kinds, as [what, whose, its values]."""
    every = ([*who(one), one] for one in map(plain, found.resources.values()))
    return sorted((one for one in every if not kinds or one[0] in kinds), key=json.dumps)


def files(terraform, host):
    """What is in the files, when each was written, and its mode."""
    held = {name: content.decode(errors="replace") for name, content in terraform.folder(FILES).files.items()}
    written = host.run("cd %s && stat -c '%%n %%a %%y' *", FILES).stdout.splitlines()
    seen = {line.partition(" ")[0]: line.partition(" ")[2] for line in written}
    return {name: [seen.get(name, ""), content] for name, content in held.items()}


@baseline
def before(terraform, host):
    found = state(terraform)
    return {"things": things(found), "outputs": found.outputs, "files": files(terraform, host)}


def calls(module, path="", folder=""):
    """Every module that is called, and the folder its code comes from: {"module.a.module.b": "modules/b"}."""
    found = {}
    for name, call in module.get("module_calls", {}).items():
        here, source = f"{path}module.{name}", normpath(join(folder, call.get("source", "")))
        found |= {here: source, **calls(call.get("module", {}), f"{here}.", source)}
    return found


def modules(address):
    """The modules that an address leads through: module.a["x"].module.b.t.n gives module.a and module.a.module.b."""
    words, path, quoted, word = [], [], False, ""
    for letter in address:
        quoted ^= letter == '"'
        if letter == "." and not quoted:
            words.append(word)
            word = ""
        else:
            word += letter
    while len(words) > 1 and words[0] == "module":
        path.append(f"module.{words[1].partition('[')[0]}")
        words = words[2:]
    return {".".join(path[: n + 1]) for n in range(len(path))}


def outside(terraform):
    """What the state has, and what the code makes, outside of the module; each in order."""
    now, plan = planned(terraform)
    sources = calls(plan.json.get("configuration", {}).get("root_module", {}))
    ours = {path for path, source in sources.items() if source == "modules/service"}
    return tuple(sorted(one for one in found if not modules(one) & ours) for found in (now.resources, plan.resources))


@check(points=5, skill="iac.modules")
def test_the_module_is_in_use(terraform):
    """The module is in use: what the state has is, at least in part, an instance of it"""
    found = state(terraform).resources
    # Asked first, for it is cheap: where nothing stands in any module, no plan is needed.
    assert [one for one in found if modules(one)] != [], "what the state has in modules"
    assert len(outside(terraform)[0]) < len(found), "how much of the state stands outside of modules/service"


@check(points=10, skill="iac.modules", needs="test_the_module_is_in_use")
def test_all_three_are_instances_of_it(terraform, lab):
    """All three services are instances of the module, and nothing stands outside of it"""
    wanted = sorted((what, name) for name in lab.names for what in ("disk", "file", "service"))
    held = sorted((what, whose) for what, whose, _ in things(state(terraform), "disk", "file", "service"))
    assert held == wanted, "what the state has of the three services"
    assert outside(terraform) == ([], []), "what stands outside of modules/service, in the state and in the code"


@check(points=15, skill="iac.state", needs="test_the_module_is_in_use")
def test_no_disk_is_new(terraform, baseline):
    """Every disk is the one it was"""
    wanted = [one for one in baseline["things"] if one[0] == "disk"]
    assert things(state(terraform), "disk") == wanted, "disks in the state, and what they hold"


def identity(found):
    """Services without what they say of their log level."""
    rest = [[whose, {**values, "input": None, "output": None}] for _, whose, values in found]
    return [
        [*one, {key: value for key, value in values["input"].items() if key != "log_level"}]
        for one, (_, _, values) in zip(rest, found, strict=True)
    ]


@check(points=15, skill="iac.state", needs="test_the_module_is_in_use")
def test_no_service_is_new(terraform, baseline):
    """Every service is the one it was, with the same port, memory and revision"""
    wanted = [one for one in baseline["things"] if one[0] == "service"]
    seen = things(state(terraform), "service")
    assert identity(seen) == identity(wanted), "services in the state, log levels aside"


@check(points=10, skill="iac.state", needs="test_the_module_is_in_use")
def test_the_audit_trail_is_the_one(terraform, baseline):
    """The audit trail is the one it was, and nobody else got one"""
    wanted = [one for one in baseline["things"] if one[0] == "audit"]
    assert things(state(terraform), "audit") == wanted, "audit trails in the state"


@check(points=10, skill="iac.state", needs="test_the_module_is_in_use")
def test_no_file_was_written(terraform, host, baseline):
    """No settings were written again, and what they say is what they said"""
    wanted = [one for one in baseline["things"] if one[0] == "file"]
    assert things(state(terraform), "file") == wanted, "files in the state"
    now = {name: one for name, one in files(terraform, host).items() if name in baseline["files"]}
    assert now == baseline["files"], "files: mode and time, and what they hold"


@check(points=5, skill="iac.modules", needs="test_no_service_is_new")
def test_the_log_level_is_settled(terraform, lab):
    """The log level is info, for all three"""
    seen = {whose: values["input"]["log_level"] for _, whose, values in things(state(terraform), "service")}
    assert seen == dict.fromkeys(sorted(lab.names), "info"), "log levels"


@check(points=10, skill="iac.state", needs=("test_no_disk_is_new", "test_no_service_is_new"))
def test_a_plan_finds_nothing_to_do(terraform, lab):
    """A plan finds nothing to do, and the outputs are what they were"""
    now, plan = planned(terraform)
    assert plan.changes == {}, "what a plan would do"
    ids = {(what, whose): values["id"] for what, whose, values in things(now)}
    wanted = {
        "services": {name: ids.get(("service", name)) for name in lab.names},
        "disks": {name: ids.get(("disk", name)) for name in lab.names},
        "audit_trail": ids.get(("audit", lab.names[2])),
    }
    assert (now.outputs, plan.outputs) == (wanted, wanted), "outputs in the state, and by the code"


ELSEWHERE = "/tmp/services"
BARE = {"service": "parcels", "port": 6100, "size": 5}


def full(name):
    """Inputs of which none is left out, under a name that is known."""
    return {
        "service": name, "port": 6200, "size": 7, "memory": 96, "revision": 31, "labels": {"team": "x"},
        "health": "/alive", "file_mode": "0600", "retention": "99y",
    }  # fmt: skip


@lru_cache(maxsize=1)
def called(terraform, known):
    """A configuration that calls the module twice, as somebody else would, and what came of it."""
    text = ""
    for name, inputs in (("full", full(known)), ("bare", BARE)):
        given = "".join(f"  {key} = {json.dumps(value)}\n" for key, value in inputs.items())
        text += f'module "{name}" {{\n  source = "./candidate"\n  directory = "{ELSEWHERE}"\n{given}}}\n'
        ids = ", ".join(f"{one} = module.{name}.{one}" for one in ("service", "disk", "audit", "file"))
        text += f'output "{name}" {{ value = {{ {ids} }} }}\n'
    code = terraform.calling(MODULE, text)
    return code, code.apply()


def made_by(name, made):
    """What one call made, by what it is; and its ids."""
    mine = [plain(values) for address, values in made.resources.items() if address.startswith(f"module.{name}.")]
    found = {
        who(values)[0]: [values["filename"], values["file_permission"], json.loads(values["content"])]
        if "filename" in values
        else [values.get("input"), values.get("triggers_replace")]
        for values in mine
    }
    return len(mine), found, {who(values)[0]: values.get("id") for values in mine}


def expected(inputs, ids):
    """What a service with these inputs is, in the words of ``made_by``, and its outputs."""
    name, path = inputs["service"], f"{ELSEWHERE}/{inputs['service']}.json"
    retention = {"retention": inputs["retention"]} if "retention" in inputs else {}
    content = {
        "service": name, "port": inputs["port"], "disk": ids.get("disk"),
        "health": inputs.get("health", "/health"), "labels": inputs.get("labels", {}) | retention,
    }  # fmt: skip
    service = {"service": name, "port": inputs["port"], "memory": inputs.get("memory", 512), "log_level": "info"}
    found = {
        "disk": [{"service": name, "size": inputs["size"]}, None],
        "file": [path, inputs.get("file_mode", "0640"), content],
        "service": [service, inputs.get("revision", 1)],
    }
    if retention:
        found["audit"] = [{"service": name, **retention}, None]
    return found, {one: ids.get(one) for one in ("service", "disk", "audit")} | {"file": path}


@check(points=15, skill="iac.modules", needs="test_the_module_is_in_use")
def test_a_fourth_service_is_what_it_must_be(terraform, lab):
    """The module keeps its contract with inputs that nobody has seen before, and where they are left out"""
    _, made = called(terraform, lab.names[1])
    for name, inputs in (("full", full(lab.names[1])), ("bare", BARE)):
        count, seen, ids = made_by(name, made)
        wanted, outputs = expected(inputs, ids)
        assert seen == wanted, f"what is made of {json.dumps(inputs)}"
        assert count == len(wanted), f"how many things are made of {json.dumps(inputs)}"
        assert made.outputs.get(name) == outputs, f"the outputs with {json.dumps(inputs)}"


def refusal(code, made):
    """What a destroy is refused with; nothing where it goes through."""
    try:
        code.destroy(state=made)
    except AssertionError as refused:
        return str(refused)
    return ""


@check(points=5, skill="iac.modules", needs="test_the_module_is_in_use")
def test_disks_are_protected(terraform, lab):
    """To destroy the disk of a service is refused, by prevent_destroy"""
    code, made = called(terraform, lab.names[1])
    disks = [address for address, one in made.resources.items() if who(plain(one))[0] == "disk"]
    said = refusal(code, made)
    assert "prevent_destroy" in said, "what a destroy is refused with"
    assert any(disk in said for disk in disks), f"one of the disks {disks} is what is not destroyed: {said}"
