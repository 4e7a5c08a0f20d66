"""Whoever a resource is, is told by what it holds and by its id, never by its address: that is the candidate's."""

import json
from functools import lru_cache

from breakfix.grading import baseline, check
from breakfix.probes.terraform import State

STACK = "/root/stack"
PLACES = (4, 1, 9, 2, 7, 5)


def leaver(lab):
    return lab.names[lab.leaves]


def entries(lab):
    """The list as it must be now."""
    full = [
        {"name": name, "port": lab.lowest + PLACES[n], "archive": lab.archived[n]} for n, name in enumerate(lab.names)
    ]
    return [one for one in full if one["name"] != leaver(lab)]


def where(lab):
    return f"/srv/{lab.noun['many']}"


def plain(values):
    """Values as a plan has them: a state wraps what may be of any type."""
    return {
        key: value["value"] if isinstance(value, dict) and set(value) == {"value", "type"} else value
        for key, value in values.items()
    }


def who(values):
    """What a resource is, and whose: ("number", "maple")."""
    if "filename" in values:
        return "file", str(values["filename"]).rpartition("/")[2].removesuffix(".json")
    given = values.get("input")
    if not isinstance(given, dict):
        return "other", str(given)
    return "archive" if "days" in given else "number", str(given.get("name"))


def state(terraform):
    content = terraform.folder(STACK).state
    assert content, f"there is no state in {STACK}"
    return State.read(content)


@lru_cache(maxsize=1)
def code(terraform):
    """The stack in a sandbox; the fixture is another one in each look, so this is made once for each."""
    return terraform.configuration(STACK)


def things(found):
    """Everything in a state, as [what, whose, its values]."""
    return sorted(([*who(one), one] for one in map(plain, found.resources.values())), key=json.dumps)


def of(found, what):
    return [one for one in found if one[0] == what]


def touched(plan):
    """What a plan would do, to what, and whose it is."""
    changes = plan.json.get("resource_changes", ())
    done = [
        (*who(one["change"]["before"] or one["change"]["after"]), "+".join(one["change"]["actions"]))
        for one in changes
        if one.get("mode") == "managed" and one["change"]["actions"] != ["no-op"]
    ]
    return sorted(done)


def files(terraform, host, lab):
    """What is in the files, and when each was written."""
    held = {name: content.decode(errors="replace") for name, content in terraform.folder(where(lab)).files.items()}
    written = host.run("cd %s && stat -c '%%y %%n' *", where(lab)).stdout.splitlines()
    times = {line.rpartition(" ")[2]: line.rpartition(" ")[0] for line in written}
    return {name: [times.get(name, ""), content] for name, content in held.items()}


@baseline
def before(terraform, host, lab):
    found = state(terraform)
    return {"things": things(found), "outputs": found.outputs, "files": files(terraform, host, lab)}


@check(points=10, skill="iac.state")
def test_it_is_gone(terraform, lab):
    """Who has left is gone, from the state and from the disk"""
    left = [[what, whose] for what, whose, _ in things(state(terraform)) if whose == leaver(lab)]
    assert left == [], "what the state still has of it"
    assert f"{leaver(lab)}.json" not in terraform.folder(where(lab)).files, "its file is gone"


def unchanged(terraform, lab, baseline, what):
    wanted = [one for one in of(baseline["things"], what) if one[1] != leaver(lab)]
    return of(things(state(terraform)), what), wanted


@check(points=20, skill="iac.state", needs="test_it_is_gone")
def test_no_number_is_new(terraform, lab, baseline):
    """Everybody else has the number they had"""
    seen, wanted = unchanged(terraform, lab, baseline, "number")
    assert seen == wanted, "numbers in the state, and what they hold"


@check(points=10, skill="iac.state", needs="test_it_is_gone")
def test_no_archive_is_new(terraform, lab, baseline):
    """Everybody else's archive is the one it was"""
    seen, wanted = unchanged(terraform, lab, baseline, "archive")
    assert seen == wanted, "archives in the state, and what they hold"


@check(points=10, skill="iac.state", needs="test_it_is_gone")
def test_no_file_was_written(terraform, host, lab, baseline):
    """Everybody else's file is in the state, and was not written again"""
    seen, wanted = unchanged(terraform, lab, baseline, "file")
    assert seen == wanted, "files in the state"
    kept = {name: one for name, one in baseline["files"].items() if name != f"{leaver(lab)}.json"}
    now = {name: one for name, one in files(terraform, host, lab).items() if name in kept}
    assert now == kept, "files, when each was written, and what it holds"


@check(points=10, skill="iac.state", needs="test_no_number_is_new")
def test_a_plan_finds_nothing_to_do(terraform):
    """A plan of the stack as it stands finds nothing to do"""
    plan = code(terraform).plan(state=state(terraform), refresh=False)
    changed = {name for name, one in plan.json.get("output_changes", {}).items() if one["actions"] != ["no-op"]}
    assert (touched(plan), changed) == ([], set()), "what a plan would do, and outputs that it would change"


@check(points=15, skill="iac.modules", needs="test_no_number_is_new")
def test_the_list_may_change_anywhere(terraform, lab):
    """An entry that goes, comes in, loses its archive or changes its place touches nobody else"""
    listed = entries(lab)
    going, changing = [one for one in listed if one["archive"]][:2]
    new = {"name": "aardvark", "port": 6001, "archive": True}
    kept = [{**one, "archive": one["archive"] and one != changing} for one in listed if one != going]
    plan = code(terraform).plan({lab.noun["many"]: [new, *reversed(kept)]}, state(terraform), refresh=False)
    wanted = [("archive", changing["name"], "delete")]
    wanted += [(kind, going["name"], "delete") for kind in ("archive", "file", "number")]
    wanted += [(kind, "aardvark", "create") for kind in ("archive", "file", "number")]
    assert touched(plan) == sorted(wanted), (
        f"what would be done if {going['name']} left, aardvark came in at the front, {changing['name']} had no archive "
        "any more, and all others stood in another order"
    )


@check(points=5, skill="iac.modules", needs="test_no_number_is_new")
def test_a_changed_port_still_arrives(terraform, lab):
    """A changed port reaches the number in place, and the file"""
    listed = entries(lab)
    name = listed[2]["name"]
    changed = [{**one, "port": 6002} if one["name"] == name else one for one in listed]
    plan = code(terraform).plan({lab.noun["many"]: changed}, state(terraform), refresh=False)
    assert touched(plan) == [("file", name, "delete+create"), ("number", name, "update")], (
        f"what would be done if {name} had another port"
    )


NEW = (
    {"name": "zebra", "port": 6100, "archive": False},
    {"name": "lynx", "port": 6300, "archive": True},
    {"name": "badger", "port": 6200, "archive": True},
)


@lru_cache(maxsize=1)
def made(terraform, many):
    """What the stack makes of a list that nobody has seen before, in another directory."""
    return code(terraform).apply({many: NEW, "directory": "/tmp/elsewhere"})


def expected(found, listed):
    """The outputs of a state, as they have to be."""
    ids = {(what, whose): values.get("id") for what, whose, values in things(found)}
    return {
        "numbers": {one["name"]: ids.get(("number", one["name"])) for one in listed},
        "ports": [one["port"] for one in listed],
        "archives": [ids.get(("archive", one["name"])) for one in listed if one["archive"]],
    }


@check(points=10, skill="iac.modules", needs="test_no_number_is_new")
def test_any_list_will_do(terraform, lab):
    """The stack makes what it must of a list that nobody has seen before, in another directory"""
    found = things(made(terraform, lab.noun["many"]))
    wanted = [(kind, one["name"]) for one in NEW for kind in ("archive", "file", "number")]
    assert [(what, whose) for what, whose, _ in found] == sorted(
        one for one in wanted if one != ("archive", "zebra")
    ), "what is made, and for whom"
    numbers = {whose: values["id"] for _, whose, values in of(found, "number")}
    held = {values["filename"]: json.loads(values["content"]) for _, _, values in of(found, "file")}
    assert held == {
        f"/tmp/elsewhere/{one['name']}.json": {
            "name": one["name"], "port": one["port"], "number": numbers[one["name"]]
        }
        for one in NEW
    }, "the files and what is in them"  # fmt: skip


@check(points=10, skill="iac.modules", needs="test_no_number_is_new")
def test_outputs_are_what_they_were(terraform, lab):
    """The outputs have their form and the order of the list, without who has left, and for another list too"""
    now = state(terraform)
    assert now.outputs == expected(now, entries(lab)), "the outputs in the state"
    other = made(terraform, lab.noun["many"])
    assert other.outputs == expected(other, NEW), "the outputs for a list that nobody has seen before"
