"""Is all there again that was there, at the revision that watchers expect, and will the next snapshot be a good one?"""

import base64
import json
import secrets
import time

from breakfix.grading import baseline, check

API = "https://cp:6443"
ETCD = "https://cp:2379"
SNAPSHOTS = "/var/backups/etcd"
KEPT = {
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "secrets": "/api/v1/namespaces/{}/secrets",
    "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
    "roles": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}
VISITORS = ("admin", "visitor", "etcd")


# -- asking ------------------------------------------------------------------------------------------------------------


def seen_before(host):
    """The authorities, and the certificates that our visitors come in with."""
    names = {f"{name}.{kind}": f"/run/visitors/{name}.{kind}" for name in VISITORS for kind in ("crt", "key")}
    names |= {"ca.crt": "/etc/kubernetes/pki/ca.crt", "etcd-ca.crt": "/etc/kubernetes/pki/etcd/ca.crt"}
    return {name: host.check_output("cat %s", path) + "\n" for name, path in names.items()}


def put(client, files):
    words = [word for name, text in files.items() for word in (text, f"/tmp/{name}")]
    done = client.run("; ".join(["printf %%s %s >%s"] * len(files)), *words)
    assert done.rc == 0, "the client's own files"


def curl(client, files, url, body=None, *, method=None, who="admin"):
    """Return status and body of an answer; status 0 and what curl says where there is none."""
    put(client, files)
    ca = "etcd-ca.crt" if who == "etcd" else "ca.crt"
    method = method or ("GET" if body is None else "POST")
    words = ["curl", "-sS", "-m", "10", "--cacert", f"/tmp/{ca}", "-X", method, "-w", r"\n%%{http_code}"]
    words += ["--cert", f"/tmp/{who}.crt", "--key", f"/tmp/{who}.key"]
    line = " ".join(f"'{word}'" for word in words)
    if body is None:
        done = client.run(f"{line} %s", url, timeout=15)
    else:
        done = client.run(f"{line} -H 'Content-Type: application/json' -d %s %s", json.dumps(body), url, timeout=15)
    text, _, status = done.stdout.rpartition("\n")
    if done.rc != 0:
        return 0, done.stderr.strip()
    return int(status), text


def api(client, baseline, path, body=None, method=None, who="admin"):
    return curl(client, baseline["files"], API + path, body, method=method, who=who)


def etcd(client, files, path, body):
    """Ask etcd over the network, with a certificate of its CA."""
    status, text = curl(client, files, ETCD + path, body, who="etcd")
    assert status == 200, f"what etcd answers at {path} to who has a certificate of its CA: {text[:200]}"
    return json.loads(text)


def encoded(key):
    return base64.b64encode(key.encode()).decode()


def keys_below(client, files, prefix):
    """The last parts of the keys in etcd that begin with a prefix, and etcd's revision."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    asked = {"key": encoded(prefix), "range_end": encoded(end), "keys_only": True}
    found = etcd(client, files, "/v3/kv/range", asked)
    names = [base64.b64decode(one["key"]).decode().rpartition("/")[2] for one in found.get("kvs", [])]
    return sorted(names), int(found["header"]["revision"])


def listed(client, files, paths):
    """The objects at each path: one connection for all."""
    put(client, files)
    line = "curl -sS -m 10 --cacert /tmp/ca.crt --cert /tmp/admin.crt --key /tmp/admin.key -w '\x1e%%{http_code}\x1e' "
    done = client.run(line + " ".join(["%s"] * len(paths)), *(API + path for path in paths), timeout=15)
    parts = done.stdout.split("\x1e")[:-1]
    answers = dict(zip(paths, zip(parts[::2], parts[1::2], strict=True), strict=False))
    found = {}
    for path in paths:
        text, status = answers.get(path, (done.stderr.strip(), "0"))
        assert status == "200", f"answer at {path}: {text[:200]}"
        found[path] = json.loads(text)["items"]
    return found


def content(one):
    """What somebody wrote into an object."""
    parts = {key: value for key, value in one.items() if key not in ("metadata", "apiVersion", "kind")}
    return parts | {key: one["metadata"].get(key) for key in ("labels", "ownerReferences")}


def kept(client, files, lab):
    """What the two teams keep: uid and content, by team, kind and name."""
    paths = {f"{team}/{kind}": path.format(team) for team in (lab.victim, lab.other) for kind, path in KEPT.items()}
    found = listed(client, files, tuple(paths.values()))
    return {
        f"{where}/{one['metadata']['name']}": {"uid": one["metadata"]["uid"], "content": content(one)}
        for where, path in paths.items()
        for one in found[path]
    }


def homes(client, files, lab):
    """The uids of the teams' namespaces."""
    path = "/api/v1/namespaces"
    found = {one["metadata"]["name"]: one["metadata"]["uid"] for one in listed(client, files, (path,))[path]}
    return {team: found.get(team, "none") for team in (lab.victim, lab.other)}


def is_late(name):
    """Whether an object was first written after the snapshot."""
    return "-late" in name


def is_changed(name, lab):
    """Whether an older object was changed after the snapshot."""
    return name.endswith((f"/{lab.victim}-settings-2", f"/{lab.other}-settings-3"))


def until(question, seconds):
    """Ask until the answer is true; return whether it became so."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return bool(answer)


def is_starting(host):
    """Whether the API server runs, or is about to: not while systemd waits to try it again."""
    return host.check_output("systemctl show -p SubState --value kube-apiserver") in ("start", "running")


def fresh_name():
    return f"check-{secrets.token_hex(4)}"


def snapshots(host):
    """The sum of each snapshot."""
    lines = host.run("find %s -name '*.db' -exec sha256sum {} +", SNAPSHOTS).stdout.splitlines()
    return {path: digest for digest, _, path in (line.partition("  ") for line in lines)}


@baseline
def before(client, host, lab):
    """Visitors, what was there at the end, etcd's revision, and the snapshots."""
    files = seen_before(host)
    _, revision = keys_below(client, files, "/registry/namespaces/")
    seen = {"homes": homes(client, files, lab), "kept": kept(client, files, lab)}
    return {"files": files, "revision": revision, "snapshots": snapshots(host), **seen}


# -- what the teams see ------------------------------------------------------------------------------------------------


@check(points=15, skill="k8s.operations", stable_for=2)
def test_teams_are_back(client, host, lab, baseline):
    """The API server answers, and both teams' namespaces are those of before"""
    until(lambda: api(client, baseline, "/readyz")[0] == 200 or not is_starting(host), seconds=10)
    assert homes(client, baseline["files"], lab) == baseline["homes"], "uids of the teams' namespaces"


@check(points=15, skill="k8s.operations", needs="test_teams_are_back")
def test_objects_are_back(client, lab, baseline):
    """What is older than the last good snapshot is there, with its uid"""
    now = kept(client, baseline["files"], lab)
    older = {name: was for name, was in baseline["kept"].items() if not is_late(name)}
    assert sorted(set(older) - set(now)) == [], "objects that are lost"
    others = sorted(name for name, was in older.items() if now[name]["uid"] != was["uid"])
    assert others == [], "objects that have another uid than before"
    wrong = sorted(
        name for name, was in older.items() if not is_changed(name, lab) and now[name]["content"] != was["content"]
    )
    assert wrong == [], "objects with another content than before"


@check(points=10, skill="k8s.operations", needs="test_objects_are_back")
def test_later_changes_are_in(client, lab, baseline):
    """What was written after the snapshot is there, as it was at the end"""
    now = kept(client, baseline["files"], lab)
    wrong = [
        name
        for name, was in baseline["kept"].items()
        if (is_late(name) or is_changed(name, lab)) and now.get(name, {}).get("content") != was["content"]
    ]
    assert wrong == [], "later objects that are gone, or not as they were at the end"


@check(points=10, skill="k8s.operations", needs="test_objects_are_back")
def test_deleted_stays_deleted(client, lab, baseline):
    """What was deleted after the snapshot has not come back"""
    path = KEPT["secrets"].format(lab.victim)
    assert api(client, baseline, path, who="visitor")[0] == 403, f"what {lab.who} is answered with at {path}"
    gone = (("rolebindings", f"{lab.who}-reads"), ("configmaps", f"{lab.victim}-settings-5"))
    back = [name for kind, name in gone if api(client, baseline, f"{KEPT[kind].format(lab.victim)}/{name}")[0] != 404]
    assert back == [], "objects that had been deleted before"


@check(points=10, skill="k8s.operations", needs="test_teams_are_back")
def test_writes_and_controllers_work(client, baseline):
    """A new namespace gets its service account"""
    name = fresh_name()
    path = f"/api/v1/namespaces/{name}"
    status, said = api(client, baseline, "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201, f"answer to a new namespace: {said[:200]}"
    served = until(lambda: api(client, baseline, f"{path}/serviceaccounts/default")[0] == 200, seconds=15)
    api(client, baseline, path, method="DELETE")
    assert served, "a new namespace should get its service account within 15 s"


@check(points=10, skill="k8s.operations", needs="test_teams_are_back")
def test_watchers_are_safe(client, lab, baseline):
    """etcd's revision has not gone back, and lists tell what is in etcd"""
    _, revision = keys_below(client, baseline["files"], "/registry/namespaces/")
    assert revision >= baseline["revision"], "etcd's revision"
    pairs = [(team, kind) for team in (lab.victim, lab.other) for kind in ("configmaps", "secrets", "rolebindings")]
    paths = {pair: f"{KEPT[pair[1]].format(pair[0])}?resourceVersion=0" for pair in pairs}
    shown = listed(client, baseline["files"], tuple(paths.values()))
    for (team, kind), path in paths.items():
        stored, _ = keys_below(client, baseline["files"], f"/registry/{kind}/{team}/")
        names = sorted(one["metadata"]["name"] for one in shown[path])
        assert names == stored, f"{kind} of {team} that a watcher is told of"


# -- nothing weakened, nothing thrown away -----------------------------------------------------------------------------


def started_with(host, pid, name, flag):
    """A setting of etcd's: from its environment, or from its arguments, which come first."""
    environment = host.run("tr '\\000' '\\n' <%s", f"/proc/{pid}/environ").stdout.splitlines()
    words = host.run("tr '\\000' ' ' <%s", f"/proc/{pid}/cmdline").stdout.replace("=", " ").split()
    if flag in words[:-1]:
        return words[words.index(flag) + 1]
    return next((line.partition("=")[2] for line in environment if line.startswith(f"{name}=")), "")


@check(points=10, skill="k8s.operations", needs="test_teams_are_back")
def test_etcd_is_as_before(client, host, lab, baseline):
    """etcd runs as its own user, alone in its folder, as the same member, and is closed"""
    pid = host.check_output("systemctl show -p MainPID --value etcd")
    user = host.run("stat -c %%U %s", f"/proc/{pid}").stdout.strip()
    assert user == "etcd", "the user that etcd runs as"
    folder = started_with(host, pid, "ETCD_DATA_DIR", "--data-dir")
    assert host.run("stat -c '%%U %%a' %s", folder).stdout.strip() == "etcd 700", f"owner and mode of {folder}"
    strangers = host.run("find %s ! -user etcd", folder).stdout.split()
    assert strangers == [], f"what belongs to others in {folder}"
    members = etcd(client, baseline["files"], "/v3/cluster/member/list", {})["members"]
    seen = [(one.get("name"), one.get("peerURLs")) for one in members]
    assert seen == [(lab.member, [f"https://{lab.hosts['cp'].address}:2380"])], (
        "etcd's members and their peer addresses"
    )
    anything = json.dumps({"key": "AA==", "range_end": "AA==", "keys_only": True, "limit": 1})
    let_in = []
    for door in (f"-k {ETCD}", "http://cp:2379", f"-k --cert /tmp/admin.crt --key /tmp/admin.key {ETCD}"):
        done = client.run(f"curl -s -m 5 -d %s -o /dev/null -w '%%{{http_code}}' {door}/v3/kv/range", anything)
        let_in += [door] if done.stdout.strip() == "200" else []
    assert let_in == [], "doors that let somebody in who has no certificate of etcd's CA"


@check(points=5, skill="k8s.operations", needs="test_teams_are_back")
def test_snapshots_are_kept(host, baseline):
    """The snapshots of the night are there, unchanged"""
    now = snapshots(host)
    wrong = sorted(path for path, digest in baseline["snapshots"].items() if now.get(path) != digest)
    assert wrong == [], "snapshots that are gone or changed"


@check(points=5, skill="k8s.operations", needs="test_teams_are_back")
def test_evidence_is_kept(host, lab):
    """What etcd held when the page came is kept for security"""
    readers = 'cat "$f"; zcat <"$f" || xzcat <"$f" || bzcat <"$f"'
    found = host.run(
        "find /var/evidence -type f | while read -r f; do "
        f'{{ {readers}; }} 2>/dev/null | grep -qF %s && echo "$f"; done',
        lab.token("run", 32),
        timeout=30,
    ).stdout.splitlines()
    assert found != [], "files below /var/evidence that hold what etcd held at 01:24"


@check(points=10, skill="k8s.operations", needs="test_writes_and_controllers_work")
def test_next_snapshot_is_good(client, host, baseline):
    """The timer goes on, and what it starts leaves a snapshot that can be restored"""
    assert host.service("etcd-backup.timer").is_running, "etcd-backup.timer should be active"
    assert host.service("etcd-backup.timer").is_enabled, "etcd-backup.timer should be enabled"
    name, value = fresh_name(), secrets.token_hex(16)
    path = "/api/v1/namespaces/default/configmaps"
    status, said = api(client, baseline, path, {"metadata": {"name": name}, "data": {"value": value}})
    assert status == 201, f"answer to a new object: {said[:200]}"
    older = snapshots(host)
    host.run("timeout 20 systemctl start etcd-backup.service", timeout=25)
    new = sorted(set(snapshots(host)) - set(older))
    api(client, baseline, f"{path}/{name}", method="DELETE")
    assert len(new) == 1, "new snapshots after a run of etcd-backup.service"
    size = int(host.check_output("stat -c %%s %s", new[0])) - 32
    # A snapshot ends with the sum of what is before.
    counted = host.check_output("head -c %s %s | sha256sum", str(size), new[0]).split()[0]
    noted = "".join(host.check_output("tail -c 32 %s | od -An -v -tx1", new[0]).split())
    assert counted == noted, "the sum of the new snapshot, beside the one at its end"
    assert host.run("grep -qF %s %s", value, new[0]).rc == 0, "the new snapshot should hold what was just written"
