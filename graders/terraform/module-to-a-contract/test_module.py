import json

from breakfix.grading import baseline, check

MODULE = "/root/modules/service"
WHERE = "/tmp/settings"


@baseline
def before(terraform):
    return {name: content.decode() for name, content in terraform.folder("/root/stack").files.items()}


CALL = """
variable "name" { default = "probe" }
variable "entries" { default = { a = { port = 8080 } } }
variable "labels" { default = {} }
module "it" {
  source    = "./candidate"
  name      = var.name
  directory = "WHERE"
  ENTRIES   = var.entries
  LABELS
}
output "files" { value = module.it.files }
output "ports" { value = module.it.ports }
output "total" { value = module.it.total_SIZE }
"""


def calling(terraform, lab, *, labels=False):
    """A configuration that calls the module as somebody else would; with labels, or leaving them out."""
    words = {
        "WHERE": WHERE,
        "ENTRIES": lab.entries,
        "LABELS": "labels = var.labels" if labels else "",
        "SIZE": lab.size,
    }
    text = CALL
    for word, value in words.items():
        text = text.replace(word, value)
    return terraform.calling(MODULE, text)


def written(state):
    """What the files hold, by their paths."""
    return {one["filename"]: json.loads(one["content"]) for one in state.resources.values() if "filename" in one}


@check(points=20, skill="iac.modules")
def test_it_writes_what_the_contract_says(terraform, lab):
    """One file for each entry, with the content that the contract says"""
    entries = {"north": {"port": 9100, lab.size: 7}, "south": {"port": 9200}}
    inputs = {"name": "probe-7", "labels": {"team": "x", "managed_by": "me"}, "entries": entries}
    state = calling(terraform, lab, labels=True).apply(inputs)
    labels = {"team": "x", "managed_by": lab.owner}
    assert written(state) == {
        f"{WHERE}/probe-7-{key}.json": {
            "name": "probe-7", "key": key, "port": one["port"], lab.size: one.get(lab.size, lab.normal), "labels": labels
        }
        for key, one in entries.items()
    }, "the files and what is in them"  # fmt: skip


@check(points=10, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_outputs_are_as_the_contract_says(terraform, lab):
    """The outputs are there, and true"""
    entries = {"north": {"port": 9100, lab.size: 7}, "south": {"port": 9200}}
    outputs = calling(terraform, lab).plan({"entries": entries}).outputs
    assert outputs == {
        "files": {key: f"{WHERE}/probe-{key}.json" for key in entries},
        "ports": {key: one["port"] for key, one in entries.items()},
        "total": 7 + lab.normal,
    }, "the outputs"


@check(points=10, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_a_second_plan_is_empty(terraform, lab):
    """After it was applied, a second plan finds nothing to do, and a destroy leaves nothing"""
    code = calling(terraform, lab)
    state = code.apply()
    assert code.plan(state=state).changes == {}, "what a second plan would do"
    assert code.destroy(state=state).resources == {}, "what is left after a destroy"


@check(points=15, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_one_entry_less_touches_no_other(terraform, lab):
    """An entry that goes takes its own file and no other"""
    three = {key: {"port": 9000 + n} for n, key in enumerate(("a", "b", "c"))}
    code = calling(terraform, lab)
    state = code.apply({"entries": three})
    two = {key: three[key] for key in ("b", "c")}
    plan = code.plan({"entries": two}, state, refresh=False)
    gone = {state.resources[address]["filename"] for address in plan.destroyed}
    assert (gone, len(plan.changes)) == ({f"{WHERE}/probe-a.json"}, 1), (
        "files that would be destroyed, and all that changes"
    )


@check(points=15, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_wrong_inputs_are_refused(terraform, lab):
    """Names and ports that the contract refuses are refused, and good ones are not"""
    names = ("Courier", "ab", "7up", "a" * 21, "a_b")
    ports = ({}, {"a": {"port": 8080}, "b": {"port": lab.lowest - 1}}, {"a": {"port": 65536}})
    wrong = [*({"name": one} for one in names), *({"entries": one} for one in ports)]
    right = [{"name": "a-7"}, {"name": "a" * 20}, {"entries": {"a": {"port": lab.lowest}, "b": {"port": 65535}}}]
    code = calling(terraform, lab)
    let_in = [inputs for inputs in wrong if not code.refuses(inputs)]
    kept_out = [inputs for inputs in right if code.refuses(inputs)]
    assert let_in == [], "what should be refused and is not"
    assert kept_out == [], "what should not be refused and is"


REFERENCE = """
variable "name" {
  type = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name))
    error_message = "A name has 3 to 20 letters, digits and dashes."
  }
}
variable "directory" { type = string }
variable "labels" {
  type    = map(string)
  default = {}
}
variable "ENTRIES" {
  type = map(object({ port = number, SIZE = optional(number, NORMAL) }))
  validation {
    condition     = length(var.ENTRIES) > 0 && alltrue([for one in var.ENTRIES : one.port >= LOWEST && one.port <= 65535])
    error_message = "Entries have ports from LOWEST to 65535."
  }
}
resource "local_file" "it" {
  for_each = var.ENTRIES
  filename = "${var.directory}/${var.name}-${each.key}.json"
  content = jsonencode({
    name = var.name, key = each.key, port = each.value.port, SIZE = each.value.SIZE
    labels = merge(var.labels, { managed_by = "OWNER" })
  })
}
output "files" { value = { for key, one in local_file.it : key => one.filename } }
output "ports" { value = { for key, one in var.ENTRIES : key => one.port } }
output "total_SIZE" { value = sum([for one in var.ENTRIES : one.SIZE]) }
"""


def reference(lab, lowest=None, normal=None):
    """The grader's own module; with other numbers, a broken one."""
    numbers = {"LOWEST": str(lab.lowest if lowest is None else lowest), "NORMAL": str(normal or lab.normal)}
    text = REFERENCE
    for word, value in {"ENTRIES": lab.entries, "SIZE": lab.size, "OWNER": lab.owner, **numbers}.items():
        text = text.replace(word, value)
    return text


@check(points=10, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_its_own_tests_pass(terraform):
    """The module has tests of its own, and they pass"""
    results = terraform.with_own_tests(MODULE).test()
    assert {name: how for name, how in results.items() if how != "pass"} == {}, "runs that do not pass"


@check(points=10, skill="iac.modules", needs="test_its_own_tests_pass")
def test_its_own_tests_would_notice(terraform, lab):
    """Its tests fail on a module that lets a low port through, and on one with another number where none is given"""
    low = terraform.with_own_tests(MODULE, instead=reference(lab, lowest=1)).test()
    other = terraform.with_own_tests(MODULE, instead=reference(lab, normal=lab.normal + 1)).test()
    unnoticed = [
        what for what, how in (("a low port", low), ("another number", other)) if set(how.values()) == {"pass"}
    ]
    assert unnoticed == [], "what its tests do not notice"


@check(points=10, skill="iac.modules", needs="test_it_writes_what_the_contract_says")
def test_the_stack_is_served_as_it_is(terraform, lab, baseline):
    """The stack that waits for the module can be planned, and is as it was"""
    files = {name: content.decode() for name, content in terraform.folder("/root/stack").files.items()}
    assert files == baseline, "the files of the stack"
    main = files["main.tf"].replace("../modules/service", "./candidate")
    outputs = terraform.calling(MODULE, main).plan().outputs
    assert outputs[lab.size] == lab.normal * 2 + 3, f"the stack's {lab.size}"
