"""What do the two accounts get through sudo, and is it what they need and no more?

The host's own sudo runs, at low trust; whether it had an effect is looked at from outside, with trusted tools. A file
that somebody other than the account owns can't have been made by the account.
"""

import secrets
import time

from breakfix.grading import baseline, check

PROGRAMS = "/usr/bin/sudo /usr/sbin/runuser /usr/libexec/sudo/sudoers.so"
OTHER_UNIT = "systemd-user-sessions.service"


def release(lab):
    return f"/usr/local/sbin/{lab.service}-release"


def log(lab):
    return f"/var/log/{lab.service}/access.log"


def secret(lab):
    return f"/etc/{lab.service}/secret.key"


def ask(plain, user, script, timeout=20):
    return plain("/usr/sbin/runuser -u %s -- /bin/sh -c %s </dev/null", user, script, timeout=timeout)


def escapes(host, plain, user, uid, attempts):
    """Run each attempt as the user, each told a file to make; return those whose file is another's, and what was said.

    ``attempts`` is {name: command}, with FILE for the file's path and DIR for the folder that it is in.
    """
    # Not /tmp: nothing can be executed there.
    folder = f"/var/tmp/{secrets.token_hex(8)}"
    lines = [f"umask 022; mkdir {folder}; cd {folder}"]
    lines += [
        "timeout 8 sh -c '"
        + command.replace("FILE", f"{folder}/{name}").replace("DIR", folder).replace("'", "'\\''")
        + "'"
        for name, command in attempts.items()
    ]
    said = ask(plain, user, "\n".join(lines))
    found = host.run("find %s -type f ! -user %s -maxdepth 1", folder, str(uid)).stdout.split()
    host.run("rm -rf %s", folder)
    return sorted(path.rpartition("/")[2] for path in found), said.stdout + said.stderr


def unit(host, name, what):
    return host.check_output("systemctl show -p %s --value %s", what, name)


def shown(client, lab):
    return client.run("curl -s -m 2 http://%s:%s/", lab.hosts["app"].address, str(lab.port)).stdout.strip()


def put_in_place(host, lab):
    """Return the version that is in place now."""
    words = host.run("cat %s", f"/opt/{lab.service}/app.txt").stdout.split()
    return words[1] if len(words) > 1 else "1.9"


@baseline
def before(host, lab):
    """The accounts' numbers, and sudo as it is shipped."""
    uids = {
        user: int(host.check_output("stat -c %%u %s", f"/home/{user}"))
        for user in (lab.deploy, lab.backup_user, lab.admin)
    }
    return {"uids": uids, "programs": host.check_output(f"sha256sum {PROGRAMS}")}


@check(points=15, skill="linux.permissions")
def test_no_command_of_their_own(host, plain, lab, baseline):
    """Neither account can run a command of its own as somebody else"""
    assert host.run(f"sha256sum {PROGRAMS}").stdout.strip() == baseline["programs"], "sudo, as Debian ships it"
    done = {}
    for user in (lab.deploy, lab.backup_user):
        password = lab.token("deploy", 16)
        attempts = {
            "touch": "sudo -n touch FILE",
            "shell": 'sudo -n sh -c "touch FILE"',
            "bash": 'sudo -n bash -c "touch FILE"',
            "su": 'sudo -n su -c "touch FILE"',
            "login": "sudo -n -i touch FILE",
            "env": "sudo -n env touch FILE",
            f"as-{lab.service}": f"chmod 777 .; sudo -n -u {lab.service} touch FILE; chmod 755 .",
            f"as-{lab.admin}": f"chmod 777 .; sudo -n -u {lab.admin} touch FILE; chmod 755 .",
            "with-password": f"echo {password} | sudo -S -k -p '' touch FILE",
        }
        done[user], _ = escapes(host, plain, user, baseline["uids"][user], attempts)
    assert done == {lab.deploy: [], lab.backup_user: []}, "ways in which a command of their own ran as somebody else"


@check(points=20, skill="linux.permissions", needs="test_no_command_of_their_own")
def test_release_goes_out(host, plain, client, lab):
    """The deploy user puts a release in place and restarts the service, and users see it"""
    wanted = next(version for version in ("2.0", "1.8", "1.9") if version != put_in_place(host, lab))
    was = unit(host, f"{lab.service}.service", "MainPID")
    said = ask(plain, lab.deploy, f"sudo -n {release(lab)} {wanted} && sudo -n systemctl restart {lab.service}")
    words = f"{lab.service} {wanted} {lab.token('release', 12)}"
    deadline = time.monotonic() + 5
    while (seen := shown(client, lab)) != words and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen == words, f"what the service shows after the release of {wanted} ({said.stderr.strip()[:200]})"
    assert unit(host, f"{lab.service}.service", "MainPID") not in (was, "0"), "the service should be a new process"


@check(points=5, skill="linux.permissions", needs="test_release_goes_out")
def test_log_can_be_read(plain, host, lab):
    """The deploy user reads the service's log"""
    said = ask(plain, lab.deploy, f"sudo -n cat {log(lab)}")
    assert said.stdout == host.check_output("cat %s", log(lab)) + "\n", "what the deploy user reads in the log"
    assert lab.token("log", 12) in said.stdout, "the log should still hold what was in it"


@check(points=10, skill="linux.permissions", needs="test_no_command_of_their_own")
def test_backup_runs(host, plain, lab):
    """The backup account writes its backup"""
    written = f"/var/backups/{lab.service}.tgz"
    before = host.run("stat -c '%%u %%z' %s", written).stdout.strip()
    said = ask(plain, lab.backup_user, f"sudo -n /usr/local/sbin/{lab.service}-backup")
    after = host.run("stat -c '%%u %%z' %s", written).stdout.strip()
    assert after.split()[:1] == ["0"], f"whose {written} is ({said.stderr.strip()[:200]})"
    assert after != before, f"when {written} was written"
    inside = host.run("tar -tzf %s", written).stdout.split()
    assert {f"opt/{lab.service}/app.txt", secret(lab)[1:]} <= set(inside), "what the backup holds"


@check(points=10, skill="linux.permissions", needs="test_no_command_of_their_own")
def test_admin_keeps_sudo(host, plain, lab, baseline):
    """The administrator on call keeps full sudo, with a password"""
    attempts = {
        "asked": f"echo {lab.token('admin', 16)} | sudo -S -k -p '' touch FILE",
        "unasked": "sudo -n -k touch FILE",
    }
    done, said = escapes(host, plain, lab.admin, baseline["uids"][lab.admin], attempts)
    assert done == ["asked"], f"how the administrator got a command run as root ({said.strip()[:200]})"


@check(points=10, skill="sec.iam", needs="test_release_goes_out")
def test_only_a_restart_of_this_unit(host, plain, lab, baseline):
    """The deploy user gets nothing from systemctl but a restart of this unit"""
    evil = f"{secrets.token_hex(6)}.service"
    text = "[Service]\\nType=oneshot\\nExecStart=/bin/touch FILE\\n[Install]\\nWantedBy=multi-user.target\\n"
    units = (lab.service, OTHER_UNIT)
    was = [unit(host, units[0], "MainPID"), unit(host, units[1], "InvocationID")]
    attempts = {
        "unit-of-ones-own": f'printf "{text}" >{evil}; sudo -n systemctl --runtime enable --now DIR/{evil} {lab.service}',
        "unit-and-no-more": f"sudo -n systemctl --runtime enable --now DIR/{evil}",
        "another-unit": f"sudo -n systemctl restart {OTHER_UNIT}",
        "another-unit-before": f"sudo -n systemctl restart {OTHER_UNIT} {lab.service}",
        "another-unit-behind": f"sudo -n systemctl restart {lab.service} {OTHER_UNIT}",
        "another-verb": f"sudo -n systemctl reload-or-restart {lab.service}",
        "an-option": f"sudo -n systemctl --no-block try-restart {lab.service}",
    }
    done, _ = escapes(host, plain, lab.deploy, baseline["uids"][lab.deploy], attempts)
    host.run(f"find /run/systemd/system /etc/systemd/system -name {evil} -delete")
    assert done == [], "ways in which a unit of the deploy user's own ran"
    now = [unit(host, units[0], "MainPID"), unit(host, units[1], "InvocationID")]
    assert now == was, (
        f"process of {units[0]} and last start of {units[1]}, after other words to systemctl than the one"
    )


def somebody_else(host, lab, user):
    """Return everybody but root and the user, and groups that are worth something, as sudo takes them."""
    worth = {"adm", "disk", "nogroup", "shadow", "sudo", "users", lab.group, lab.service, lab.admin}
    people = [line.split(":") for line in host.check_output("cat /etc/passwd").splitlines()]
    groups = [line.split(":") for line in host.check_output("cat /etc/group").splitlines()]
    own = next(person[3] for person in people if person[0] == user)
    return [f"-u {p[0]}" for p in people if len(p) > 3 and p[2] != "0" and p[0] != user] + [
        f"-g {g[0]}" for g in groups if g[0] in worth and len(g) > 3 and g[2] != own and user not in g[3].split(",")
    ]


@check(points=5, skill="sec.iam", needs=("test_release_goes_out", "test_backup_runs"))
def test_as_root_and_nobody_else(host, plain, lab):
    """The four commands can be run as root, and as nobody else"""
    promised = {
        lab.deploy: (
            f"/usr/bin/systemctl restart {lab.service}",
            f"{release(lab)} {put_in_place(host, lab)}",
            f"/usr/bin/cat {log(lab)}",
        ),
        lab.backup_user: (f"/usr/local/sbin/{lab.service}-backup",),
    }
    # A command that fails for others leaves no trace; that it ran at all is heard from itself.
    others = (lab.service, lab.backup_user, lab.admin, "nobody", "www-data")
    tried = ask(
        plain, lab.deploy, f"for who in {' '.join(others)}; do sudo -n -u $who cat {log(lab)} 2>&1; done", timeout=30
    ).stdout
    heard = [line for line in tried.splitlines() if line.startswith("cat: ") or lab.token("log", 12) in line]
    assert heard[:3] == [], f"what cat said when {lab.deploy} ran it as somebody else"
    # Root asks for them, so that rules which want a password show up as well.
    allowed = []
    for user, commands in promised.items():
        ways = "\n".join(["-u root", *somebody_else(host, lab, user)])
        for command in commands:
            said = plain(
                "printf '%%s\\n' %s | while read -r as who; do "
                f'sudo -l -U {user} $as "$who" {command} >/dev/null 2>&1 </dev/null && echo "$as $who"; done',
                ways,
                timeout=30,
            )
            allowed += [f"{user}: sudo {who} {command}" for who in said.stdout.splitlines()]
    wanted = [f"{user}: sudo -u root {command}" for user, commands in promised.items() for command in commands]
    assert allowed == wanted, "as whom sudo allows the four commands"


@check(points=10, skill="sec.iam", needs="test_log_can_be_read")
def test_no_other_file(host, plain, lab, baseline):
    """Neither account reads another file, or has a tool run a command"""
    key, logs = secret(lab), f"/var/log/{lab.service}"
    reads = [
        f"{tool} {words}"
        for tool in ("cat", "less", "tail", "head")
        for words in (
            key, f"{logs}/../../..{key}", f"{log(lab)} {key}", f"{key} {log(lab)}", f"{log(lab)} {key} {log(lab)}",
            f"{logs}/../../..{key} {log(lab)}",
        )
    ]  # fmt: skip
    attempts = {f"read{n}": f"sudo -n {words}" for n, words in enumerate(reads)} | {
        "find": f"sudo -n find /opt/{lab.service} -maxdepth 0 -exec touch FILE +",
        "find-reads": f"sudo -n find /opt/{lab.service} -maxdepth 0 -exec cat {key} +",
        "tar": 'sudo -n tar -cf /dev/null /dev/null --checkpoint=1 --checkpoint-action=exec="touch FILE"',
        "tar-reads": f"sudo -n tar -cf - {key}",
        "sudoedit": f"SUDO_EDITOR=cat sudo -n -e {key}",
        "release": f"sudo -n {release(lab)} ../..{key}",
    }
    done, leaked = {}, {}
    for user in (lab.deploy, lab.backup_user):
        done[user], said = escapes(host, plain, user, baseline["uids"][user], attempts)
        leaked[user] = lab.token("secret", 32) in said
    assert leaked == {lab.deploy: False, lab.backup_user: False}, f"who can read {key}"
    assert done == {lab.deploy: [], lab.backup_user: []}, "tools that ran a command as somebody else"


@check(points=5, skill="sec.iam", needs="test_release_goes_out")
def test_no_variable_gets_through(host, plain, lab, baseline):
    """No variable and no path of theirs reaches what runs as root"""
    done, loaded = {}, {}
    ways = {
        lab.deploy: f"{release(lab)} {put_in_place(host, lab)}",
        lab.backup_user: f"/usr/local/sbin/{lab.service}-backup",
    }
    for user, command in ways.items():
        hook = 'for t in install tar mv; do printf "#!/bin/sh\\ntouch FILE\\nexec /usr/bin/$t \\"\\$@\\"\\n" >DIR/$t; chmod +x DIR/$t; done'
        attempts = {
            "kept": f'echo "touch FILE" >DIR/e1; BASH_ENV=DIR/e1 sudo -n {command}',
            "kept-by-option": f'echo "touch FILE" >DIR/e2; BASH_ENV=DIR/e2 sudo -n -E {command}',
            "given": f'echo "touch FILE" >DIR/e3; sudo -n BASH_ENV=DIR/e3 {command}',
            "path-kept": f"{hook}; PATH=DIR:$PATH sudo -n {command}",
            "path-given": f"{hook}; sudo -n PATH=DIR:/usr/bin:/bin {command}",
            "library-kept": f"LD_PRELOAD=/tmp/none.so sudo -n {command}",
            "library-given": f"sudo -n LD_PRELOAD=/tmp/none.so {command}",
            "library-by-option": f"LD_PRELOAD=/tmp/none.so sudo -n -E {command}",
        }
        done[user], said = escapes(host, plain, user, baseline["uids"][user], attempts)
        # Only what runs as root says so of a library: the loader of sudo itself, which is setuid, is silent.
        loaded[user] = said.count("none.so' from LD_PRELOAD cannot be preloaded")
    assert done == {lab.deploy: [], lab.backup_user: []}, "ways in which a variable ran a command as root"
    allowed = {user: said_by_the_way(plain, user) for user in ways}
    assert loaded == allowed, "times that LD_PRELOAD reached a program"


def said_by_the_way(plain, user):
    """Return how often the loader complains where sudo runs nothing: of sh, timeout and sudo's own start."""
    said = ask(plain, user, "for e in '' -E; do LD_PRELOAD=/tmp/none.so sudo -n $e -l /bin/none; done")
    return (said.stdout + said.stderr).count("none.so' from LD_PRELOAD cannot be preloaded")


@check(points=10, skill="linux.permissions", needs="test_release_goes_out")
def test_what_root_runs_is_roots(host, lab):
    """What runs as root, and what decides it, can be written by root alone"""
    ours = f"{release(lab)} /usr/local/sbin/{lab.service}-backup /etc/sudoers /usr/local/sbin /etc/systemd/system/{lab.service}.service"
    top = host.run(f"find -L {ours} -maxdepth 0 \\( -perm /0022 -o ! -user root \\)").stdout.split()
    rules = host.run("find /etc/sudoers.d \\( -perm /0022 -o ! -user root \\)").stdout.split()
    assert sorted(top + rules) == [], "files that others than root may write"
