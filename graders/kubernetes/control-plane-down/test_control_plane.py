"""Does the control plane work again, with all that it held, and is it as strict as it was?"""

import base64
import json
import secrets
import time

from breakfix.grading import baseline, check

API = "https://cp:6443"
ETCD = "https://cp:2379"
SAFE_DAYS = 30
KEPT = {
    "configmaps": "/api/v1/namespaces/{}/configmaps",
    "secrets": "/api/v1/namespaces/{}/secrets",
    "serviceaccounts": "/api/v1/namespaces/{}/serviceaccounts",
    "roles": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
BOOKKEEPING = ("resourceVersion", "managedFields", "annotations")
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
    if who:
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


def etcd(client, baseline, path, body=None):
    """Ask etcd over the network, with a certificate of its CA."""
    status, text = curl(client, baseline["files"], ETCD + path, body, who="etcd")
    assert status == 200, f"what etcd answers at {path} to who has a certificate of its CA: {text[:200]}"
    return text


def listed(client, files, paths):
    """What is at each path, by name, without the server's own bookkeeping: one connection for all."""
    put(client, files)
    line = "curl -sS -m 10 --cacert /tmp/ca.crt --cert /tmp/admin.crt --key /tmp/admin.key -w '\x1e%%{http_code}\x1e' "
    done = client.run(line + " ".join(["%s"] * len(paths)), *(API + path for path in paths), timeout=15)
    parts = done.stdout.split("\x1e")[:-1]
    answers = dict(zip(paths, zip(parts[::2], parts[1::2], strict=True), strict=False))
    found = {}
    for path in paths:
        text, status = answers.get(path, (done.stderr.strip(), "0"))
        assert status == "200", f"answer at {path}: {text[:200]}"
        found[path] = {one["metadata"]["name"]: essence(one) for one in json.loads(text)["items"]}
    return found


def essence(one):
    about = {key: value for key, value in one["metadata"].items() if key not in BOOKKEEPING}
    return {**one, "metadata": about}


def kept(client, files, lab):
    paths = {f"{team}/{kind}": path.format(team) for team in (lab.first, lab.second) for kind, path in KEPT.items()}
    found = listed(client, files, tuple(paths.values()))
    return {where: found[path] for where, path in paths.items()}


def until(question, seconds):
    """Ask until the answer is true; return whether it became so."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.3)
    return bool(answer)


def fresh_name():
    return f"check-{secrets.token_hex(4)}"


def written(client, baseline, kind, content):
    """Write an object into the namespace default; return its name and what the server answered."""
    name = fresh_name()
    answer = api(client, baseline, f"/api/v1/namespaces/default/{kind}", {"metadata": {"name": name}, **content})
    return name, *answer


def removed(client, baseline, kind, name):
    return api(client, baseline, f"/api/v1/namespaces/default/{kind}/{name}", method="DELETE")[0]


def argument(host, flag):
    """An argument of the API server that runs; where it is given twice, the last one counts."""
    main = host.check_output("systemctl show -p MainPID --value kube-apiserver")
    words = host.run("tr '\\000' ' ' <%s", f"/proc/{main}/cmdline").stdout.replace("=", " ").split()
    given = [value for name, value in zip(words, words[1:], strict=False) if name == flag]
    return given[-1] if given else ""


def is_starting(host):
    """Whether the API server runs, or is about to: not while systemd waits to try it again."""
    return host.check_output("systemctl show -p SubState --value kube-apiserver") in ("start", "running")


@baseline
def before(client, host, lab):
    """Authorities, visitors, what two teams keep, and who has rights everywhere."""
    files = seen_before(host)
    return {"files": files, "kept": kept(client, files, lab), "bindings": listed(client, files, (BINDINGS,))[BINDINGS]}


# -- what the teams see ------------------------------------------------------------------------------------------------


@check(points=20, skill="k8s.operations", stable_for=2)
def test_api_answers(client, host, lab, baseline):
    """The API server answers clients that trust the cluster's CA"""
    until(lambda: api(client, baseline, "/readyz")[0] == 200 or not is_starting(host), seconds=10)
    status, said = api(client, baseline, f"/api/v1/namespaces/{lab.first}")
    assert status == 200, f"what a client is answered with that has a good certificate: {said[:200]}"


@check(points=15, skill="k8s.operations", needs="test_api_answers")
def test_writes_work(client, baseline):
    """Objects can be written and deleted"""
    value = secrets.token_hex(8)
    name, status, said = written(client, baseline, "configmaps", {"data": {"value": value}})
    assert status == 201, f"answer to a new object: {said[:200]}"
    _, text = api(client, baseline, f"/api/v1/namespaces/default/configmaps/{name}")
    assert json.loads(text).get("data") == {"value": value}, "the new object, read again"
    assert removed(client, baseline, "configmaps", name) == 200, "answer to its deletion"


@check(points=10, skill="k8s.operations", needs="test_writes_work")
def test_controllers_work(client, baseline):
    """A new namespace gets its service account"""
    name = fresh_name()
    path = f"/api/v1/namespaces/{name}"
    assert api(client, baseline, "/api/v1/namespaces", {"metadata": {"name": name}})[0] == 201, "a new namespace"
    served = until(lambda: api(client, baseline, f"{path}/serviceaccounts/default")[0] == 200, seconds=15)
    api(client, baseline, path, method="DELETE")
    assert served, "a new namespace should get its service account within 15 s"


@check(points=15, skill="k8s.operations", needs="test_api_answers")
def test_nothing_is_lost(client, lab, baseline):
    """All that the teams keep is there, unchanged"""
    now = kept(client, baseline["files"], lab)
    wrong = [
        f"{where}/{name}: {'changed' if name in now[where] else 'gone'}"
        for where, objects in baseline["kept"].items()
        for name, was in objects.items()
        if now[where].get(name) != was
    ]
    assert wrong == [], "what is not as it was"


# -- the three layers --------------------------------------------------------------------------------------------------


def judged(client, certificate, ca, days):
    """Return what openssl says of a certificate: OK, or the first thing wrong."""
    put(client, {"leaf.crt": certificate})
    ask = f"openssl verify -CAfile /tmp/{ca} -attime $(($(date +%s) + {days * 86400})) /tmp/leaf.crt"
    said = client.run(f"{ask} 2>&1").stdout.strip().splitlines()
    if said == ["/tmp/leaf.crt: OK"]:
        return "OK"
    return next((line for line in said if "error " in line), "no certificate")


@check(points=10, skill="k8s.operations", needs="test_api_answers")
def test_certificates_are_good(client, host, lab, baseline):
    """The API server's certificates are the CAs' and good for 30 more days"""
    put(client, baseline["files"])
    shown = client.run(
        "openssl s_client -connect %s -servername cp </dev/null 2>/dev/null | openssl x509",
        f"{lab.hosts['cp'].address}:6443",
    ).stdout
    said = judged(client, shown, "ca.crt", SAFE_DAYS)
    assert said == "OK", f"what openssl says of the certificate that clients see, in {SAFE_DAYS} days"
    path = argument(host, "--etcd-certfile")
    mine = host.run("openssl x509 -in %s", path).stdout
    said = judged(client, mine, "etcd-ca.crt", SAFE_DAYS)
    assert said == "OK", f"what openssl says of the certificate that etcd sees, {path or 'none'}, in {SAFE_DAYS} days"


@check(points=10, skill="k8s.operations", needs="test_api_answers")
def test_etcd_has_room(client, lab, baseline):
    """etcd has no alarm, and its database takes less than half of the old quota"""
    alarms = json.loads(etcd(client, baseline, "/v3/maintenance/alarm", {"action": "GET"})).get("alarms", [])
    assert alarms == [], "etcd's alarms"
    lines = etcd(client, baseline, "/metrics").splitlines()
    quota = next((float(line.split()[1]) for line in lines if line.startswith("etcd_server_quota_backend_bytes ")), 0)
    assert quota == lab.quota * 2**20, "etcd's quota in bytes"
    size = int(json.loads(etcd(client, baseline, "/v3/maintenance/status", {}))["dbSize"])
    assert size < lab.quota * 2**19, "bytes of etcd's database"


# -- nothing weakened --------------------------------------------------------------------------------------------------


@check(points=5, skill="k8s.operations", needs="test_api_answers")
def test_etcd_is_closed(client, host, baseline):
    """etcd answers nobody without a certificate of its CA"""
    put(client, baseline["files"])
    keys = json.dumps({"key": "AA==", "range_end": "AA==", "keys_only": True, "limit": 1})
    let_in = []
    for line in host.run("ss -Hltnp").stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if '"etcd"' not in line:
            continue
        # Members have a port of their own, where no keys are read.
        path, body = ("/version", "") if port == "2380" else ("/v3/kv/range", f"-d '{keys}'")
        inside = address.startswith(("127.", "[::1]"))
        asker, name = (host, "127.0.0.1") if inside else (client, "cp")
        doors = {
            "anybody": f"-k https://{name}:{port}",
            "anybody, without TLS": f"http://{name}:{port}",
        }
        if not inside:
            doors["who is known to the API server"] = (
                f"-k --cert /tmp/admin.crt --key /tmp/admin.key https://{name}:{port}"
            )
        for who, door in doors.items():
            done = asker.run(f"curl -s --http1.1 -m 5 {body} -o /dev/null -w '%{{http_code}}' {door}{path}")
            if done.stdout.strip() == "200":
                let_in.append(f"{who}, at port {port}")
    assert let_in == [], "who may read etcd without a certificate of its CA"
    status, _ = curl(client, baseline["files"], f"{ETCD}/version", who="etcd")
    assert status == 200, "what etcd answers to who has one"


@check(points=5, skill="k8s.operations", needs="test_api_answers")
def test_rights_are_as_they_were(client, baseline):
    """Who has no rights gets none, and nobody has new ones"""
    answer = api(client, baseline, "/api/v1/secrets", who="visitor")[0]
    assert answer == 403, "answer at /api/v1/secrets to a user without rights"
    now = listed(client, baseline["files"], (BINDINGS,))[BINDINGS]
    new = [name for name, binding in now.items() if binding != baseline["bindings"].get(name)]
    assert new == [], "cluster role bindings that are new or changed"


@check(points=5, skill="k8s.operations", needs="test_writes_work")
def test_change_is_kept(client, host, baseline):
    """What the change wanted holds: no anonymous access, an audit log, no profiling"""
    assert api(client, baseline, "/version", who=None)[0] == 401, "answer at /version to who has no certificate"
    assert api(client, baseline, "/debug/pprof/cmdline")[0] == 404, "answer at /debug/pprof/cmdline"
    name, status, said = written(client, baseline, "configmaps", {})
    assert status == 201, f"answer to a new object: {said[:200]}"
    removed(client, baseline, "configmaps", name)
    noted = until(
        lambda: host.run("grep -c %s /var/log/kubernetes/audit.log", name).stdout.strip() not in ("", "0"), seconds=3
    )
    assert noted, "the audit log should tell of an object that was just written"


@check(points=5, skill="k8s.operations", needs="test_writes_work")
def test_secrets_are_encrypted(client, baseline):
    """A secret that is written now is encrypted in etcd"""
    value = secrets.token_hex(12)
    name, status, said = written(client, baseline, "secrets", {"stringData": {"value": value}})
    assert status == 201, f"answer to a new secret: {said[:200]}"
    key = base64.b64encode(f"/registry/secrets/default/{name}".encode()).decode()
    found = json.loads(etcd(client, baseline, "/v3/kv/range", {"key": key})).get("kvs", [])
    removed(client, baseline, "secrets", name)
    assert len(found) == 1, "keys in etcd that hold the new secret"
    stored = base64.b64decode(found[0]["value"])
    assert stored[:8] == b"k8s:enc:", "how the new secret begins in etcd"
    assert value.encode() not in stored, "the new secret should not be readable in etcd"
