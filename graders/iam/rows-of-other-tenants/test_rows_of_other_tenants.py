"""What does each account get over the network, reading and writing, and is it what the table of the brief says?

Everything is asked by real connections from the client, each with the account's own password, in a transaction that is
rolled back. What must be refused may be refused by a right or by a policy that lets no row through.
"""

import secrets
from hashlib import md5
from types import SimpleNamespace

from breakfix.grading import baseline, check

DENIED = "42501"
PLANS = ["large 9900", "medium 2900", "small 900"]


# -- what is known from the seed ---------------------------------------------------------------------------------------


def owner_of(lab):
    return f"{lab.app}_owner"


def accounts(lab):
    return [*lab.tenants, lab.job, lab.report, lab.gate, owner_of(lab)]


def rows_of(lab, tenant):
    """The rows that the setup wrote for a customer, as `note amount`."""
    place = lab.tenants.index(tenant) + 1
    text = lab.token(f"{tenant}-rows", 12)
    return {f"{md5(f'{text}{n}'.encode()).hexdigest()} {n * 7 + place}" for n in range(1, 41 + 15 * place)}


def invoices_of(lab, tenant):
    place = lab.tenants.index(tenant) + 1
    return {f"2024-03 {1000 + 111 * place}", f"2024-04 {2000 + 111 * place}"}


# -- asking ------------------------------------------------------------------------------------------------------------


def address(lab, role, password):
    return f"host=db dbname={lab.app} user={role} password='{password}' connect_timeout=20 options='-c statement_timeout=20s'"


def ask_each(client, lab, statements, end="ROLLBACK"):
    """Ask as several roles, {role: statements}, each in a connection and a transaction of its own.

    Return for each statement its SQLSTATE, how many rows it touched, and the rows that came back.
    """
    first, *_ = statements
    lines = ["\\set ON_ERROR_ROLLBACK on"]
    for role, asked in statements.items():
        lines += [f'\\connect "{address(lab, role, lab.token(role, 20))}"'] if role != first else []
        lines += ["BEGIN;"]
        for statement in asked:
            lines += [f"{statement};", f"\\echo @@ {role} :SQLSTATE :ROW_COUNT"]
        lines += [f"{end};"]
    where = address(lab, first, lab.token(first, 20))
    done = client.run("printf '%%s\n' %s | psql -XAtqw -F ' ' %s", "\n".join(lines), where, timeout=60)
    answers, rows = {role: [] for role in statements}, []
    for line in done.stdout.splitlines():
        if line.startswith("@@ "):
            _, role, state, count = line.split()
            answers[role].append(SimpleNamespace(state=state, ok=state == "00000", count=int(count), rows=rows))
            rows = []
        else:
            rows.append(line)
    said = done.stderr.strip()[-200:]
    for role, asked in statements.items():
        assert len(answers[role]) == len(asked), f"{role} should connect with its password, and be answered ({said})"
    return answers


def ask(client, lab, role, *statements, end="ROLLBACK"):
    """Ask as one role."""
    return ask_each(client, lab, {role: statements}, end)[role]


def seen(answer):
    """What a SELECT gave: its rows in order, or why there were none."""
    return sorted(answer.rows) if answer.ok else [f"error {answer.state}"]


def by_customer(client, lab):
    """What each customer sees of its own: how many rows, and their sum."""
    query = f"SELECT tenant, count(*), sum(amount) FROM {lab.thing} WHERE tenant = current_user GROUP BY 1"
    answers = ask_each(client, lab, {tenant: [query] for tenant in lab.tenants})
    return sorted(row for tenant in lab.tenants for row in seen(answers[tenant][0]))


def of_customers(lab, answer):
    """What a SELECT gave, of the three customers; a row that somebody left while trying is none of theirs."""
    return [row for row in seen(answer) if row.split()[0] in (*lab.tenants, "error")]


def effects(client, lab, statements):
    """Return those of the statements, {role: statements}, that had an effect."""
    answers = ask_each(client, lab, statements)
    return [
        f"{role}: {statement}"
        for role, asked in statements.items()
        for statement, answer in zip(asked, answers[role], strict=True)
        if answer.ok and (answer.count or not statement.startswith(("SELECT 1", "UPDATE", "DELETE")))
    ]


def reads(*relations):
    return [f"SELECT 1 FROM {relation} LIMIT 1" for relation in relations]


def memberships(client, lab, known=None):
    """Return which account is a member of which role, directly or not: of those known before, where they are given."""
    names = ", ".join(f"'{name}'" for name in accounts(lab))
    query = (
        "SELECT a.rolname, b.rolname FROM pg_roles a, pg_roles b "
        f"WHERE a.rolname IN ({names}) AND a.oid <> b.oid AND pg_has_role(a.oid, b.oid, 'MEMBER')"
    )
    found = seen(ask(client, lab, owner_of(lab), query)[0])
    return [row for row in found if known is None or row.split()[1] in known]


@baseline
def before(client, lab):
    """The roles that there were, and who was a member of which."""
    roles = seen(ask(client, lab, owner_of(lab), "SELECT rolname FROM pg_roles")[0])
    return {"roles": roles, "memberships": memberships(client, lab)}


@check(points=15, skill="sec.iam")
def test_customers_see_their_own(client, lab):
    """Each customer sees rows of its own in the table, the view and the invoices, and nobody else's"""
    places = (lab.thing, "statement", "invoices")
    questions = [f"SELECT DISTINCT tenant FROM {place}" for place in places]
    answers = ask_each(client, lab, dict.fromkeys(lab.tenants, questions))
    found = {tenant: [seen(answer) for answer in answers[tenant]] for tenant in lab.tenants}
    wanted = {tenant: [[tenant]] * len(places) for tenant in lab.tenants}
    assert found == wanted, f"whose rows each customer sees in {', '.join(places)}"


@check(points=10, skill="sec.iam")
def test_customers_write_their_own(client, lab):
    """Each customer inserts, updates and deletes rows of its own"""
    mark = f"check-{secrets.token_hex(4)}"
    statements = {}
    for tenant in lab.tenants:
        old = f"note = (SELECT min(note) FROM {lab.thing} WHERE tenant = '{tenant}')"
        statements[tenant] = [
            f"INSERT INTO {lab.thing} (tenant, note, amount) VALUES ('{tenant}', '{mark}', 5)",
            f"UPDATE {lab.thing} SET amount = amount + 1 WHERE note = '{mark}'",
            f"UPDATE {lab.thing} SET amount = amount + 1 WHERE {old}",
            f"DELETE FROM {lab.thing} WHERE {old}",
        ]
    answers = ask_each(client, lab, statements)
    found = {
        tenant: [answer.count if answer.ok else f"error {answer.state}" for answer in answers[tenant]]
        for tenant in lab.tenants
    }
    wanted = {tenant: [1, 1, 1, 1] for tenant in lab.tenants}
    assert found == wanted, f"rows that an insert, two updates and a delete in {lab.thing} touched"


@check(points=10, skill="sec.iam", stable_for=2)
def test_the_job_brings_rows_in(client, lab):
    """The job inserts rows for every customer"""
    statements = [f"INSERT INTO {lab.thing} (tenant, note, amount) VALUES ('{name}', 'x', 1)" for name in lab.tenants]
    found = [answer.state for answer in ask(client, lab, lab.job, *statements)]
    assert found == ["00000"] * 3, f"SQLSTATE of inserts by {lab.job} for {', '.join(lab.tenants)}"


@check(points=10, skill="sec.iam", needs="test_customers_write_their_own")
def test_no_row_in_anothers_name(client, lab):
    """No customer writes a row in another's name, gives one away, or changes another's"""
    tried = {}
    for tenant in lab.tenants:
        statements = [f"TRUNCATE {lab.thing}"]
        for other in (*(name for name in lab.tenants if name != tenant), "nobody"):
            for place in (lab.thing, "statement"):
                statements += [
                    f"INSERT INTO {place} (tenant, note, amount) VALUES ('{other}', 'x', 1)",
                    f"UPDATE {place} SET tenant = '{other}' WHERE tenant = '{tenant}'",
                    f"UPDATE {place} SET amount = 0 WHERE tenant = '{other}'",
                    f"DELETE FROM {place} WHERE tenant = '{other}'",
                ]
        tried[tenant] = statements
    assert effects(client, lab, tried) == [], "what had an effect"


@check(points=10, skill="sec.iam", needs="test_the_job_brings_rows_in")
def test_month_is_closed_over_all(client, lab):
    """The closing bills each customer what its rows come to; the owner sees every row and can change tables"""
    truth = by_customer(client, lab)
    wanted = [f"{tenant} {amount}" for tenant, _, amount in (row.split() for row in truth if "error" not in row)]
    month = f"check-{secrets.token_hex(3)}"
    billed = of_customers(lab, ask(client, lab, lab.job, f"SELECT * FROM close_month('{month}')")[0])
    assert billed == wanted, "what close_month billed"
    owner = ask(
        client, lab, owner_of(lab),
        f"SELECT tenant, count(*), sum(amount) FROM {lab.thing} GROUP BY 1",
        f"UPDATE {lab.thing} SET amount = amount",
        "UPDATE invoices SET amount = amount",
        f"ALTER TABLE {lab.thing} ADD COLUMN checked int",
    )  # fmt: skip
    assert of_customers(lab, owner[0]) == truth, f"customers, rows and sums that {owner_of(lab)} sees in {lab.thing}"
    rows = sum(int(row.split()[1]) for row in truth)
    assert owner[1].count >= rows, f"rows of {lab.thing} that {owner_of(lab)} may update"
    assert [answer.state for answer in owner[1:]] == ["00000"] * 3, f"SQLSTATE of two updates and ALTER TABLE by {owner_of(lab)}"  # fmt: skip
    assert owner[2].count > 0, f"rows of invoices that {owner_of(lab)} may update"


@check(points=10, skill="sec.iam")
def test_report_reads_totals_alone(client, lab):
    """The reporting account reads the totals of all customers, and no single row"""
    found = of_customers(lab, ask(client, lab, lab.report, "SELECT tenant, entries, amount FROM totals")[0])
    assert found == by_customer(client, lab), f"what {lab.report} reads in totals"
    had = effects(client, lab, {lab.report: reads(lab.thing, "statement", "invoices")})
    assert had == [], f"what else {lab.report} can read"


@check(points=10, skill="sec.iam")
def test_keys_are_the_gateways(client, lab):
    """The keys are read by the account of the gateway, and by nobody else but the owner"""
    wanted = sorted(f"{tenant} {lab.token(f'{tenant}-key', 24)}" for tenant in lab.tenants)
    assert seen(ask(client, lab, lab.gate, "SELECT tenant, key FROM api_keys")[0]) == wanted, f"what {lab.gate} reads"
    others = [role for role in accounts(lab) if role not in (lab.gate, owner_of(lab))]
    had = effects(client, lab, dict.fromkeys(others, reads("api_keys")))
    assert had == [], "who else can read the keys"


@check(points=5, skill="sec.iam")
def test_new_tables_are_closed(client, lab):
    """A table that the owner makes now is closed to all others"""
    name = f"check_{secrets.token_hex(4)}"
    try:
        made = ask(
            client, lab, owner_of(lab), f"CREATE TABLE {name} (x int)", f"INSERT INTO {name} VALUES (1)", end="COMMIT"
        )
        assert [answer.state for answer in made] == ["00000"] * 2, f"SQLSTATE of CREATE TABLE by {owner_of(lab)}"
        statements = [*reads(name), f"INSERT INTO {name} VALUES (2)", f"DELETE FROM {name}"]
        had = effects(client, lab, dict.fromkeys(accounts(lab)[:-1], statements))
        assert had == [], "what had an effect on a table that was made just now"
    finally:
        ask(client, lab, owner_of(lab), f"DROP TABLE IF EXISTS {name}", end="COMMIT")


@check(points=5, skill="sec.iam", needs="test_customers_see_their_own")
def test_nobody_is_more(client, lab, baseline):
    """No account may do anything else, goes past row security, or is a member of more roles than before"""
    flags = ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication")
    names = ", ".join(f"'{name}'" for name in (*accounts(lab), lab.group))
    query = f"SELECT rolname FROM pg_roles WHERE rolname IN ({names}) AND ({' OR '.join(flags)})"
    assert seen(ask(client, lab, owner_of(lab), query)[0]) == [], f"roles that have one of {', '.join(flags)}"
    now = memberships(client, lab, baseline["roles"])
    assert now == baseline["memberships"], "which account is a member of which role"
    any_table = [lab.thing, "invoices", "api_keys", "plans"]
    changes = ["CREATE TABLE mine (x int)", f"ALTER TABLE {lab.thing} DISABLE ROW LEVEL SECURITY"]
    changes += [f"TRUNCATE {table}" for table in any_table]
    for table in ("invoices", "api_keys", "plans"):
        column = "tenant = tenant" if table != "plans" else "name = name"
        changes += [f"UPDATE {table} SET {column}", f"DELETE FROM {table}"]
    changes += [
        "INSERT INTO invoices VALUES ('x', '1999-01', 1)",
        "INSERT INTO api_keys VALUES ('x', 'x')",
        "INSERT INTO plans VALUES ('x', 1)",
    ]
    rows = [f"UPDATE {lab.thing} SET amount = amount", f"DELETE FROM {lab.thing}"]
    insert = f"INSERT INTO {lab.thing} (tenant, note, amount) VALUES ('{lab.tenants[0]}', 'x', 1)"
    close = "SELECT * FROM close_month('1999-01')"
    more = {
        **{tenant: [*reads("totals"), close] for tenant in lab.tenants},
        lab.job: [*reads(lab.thing, "statement", "invoices", "totals"), *rows],
        lab.report: [*rows, insert, close],
        lab.gate: [*reads(lab.thing, "statement", "invoices", "totals"), *rows, insert, close],
    }
    had = effects(client, lab, {role: [*statements, *changes] for role, statements in more.items()})
    assert had == [], "what had an effect, beyond the table of the brief"


@check(points=5, skill="sec.iam", needs="test_customers_see_their_own")
def test_nothing_is_lost(client, lab):
    """Every row of every table is still there, and everybody reads the plans"""
    own = [f"SELECT note, amount FROM {lab.thing}", "SELECT month, amount FROM invoices"]
    plans = "SELECT name, price FROM plans"
    answers = ask_each(client, lab, {role: [plans, *(own if role in lab.tenants else ())] for role in accounts(lab)})
    for tenant in lab.tenants:
        _, rows, invoices = answers[tenant]
        lost = rows_of(lab, tenant) - set(seen(rows))
        assert len(lost) == 0, f"rows of {tenant} that are lost, or changed, in {lab.thing}"
        assert sorted(invoices_of(lab, tenant) - set(seen(invoices))) == [], f"invoices of {tenant} that are lost"
    plans = {role: seen(answers[role][0]) for role in accounts(lab)}
    assert plans == dict.fromkeys(accounts(lab), PLANS), "what each account reads in plans"


@check(points=5, skill="sec.iam", needs="test_customers_see_their_own")
def test_accounts_need_their_passwords(client, lab):
    """Nobody gets in over the network without the account's password"""
    came_in = [
        role
        for role in (*accounts(lab), lab.group, "postgres")
        if client.run("psql -XAtqw %s -c 'SELECT 1'", address(lab, role, "wrong"), timeout=60).rc == 0
    ]
    assert came_in == [], "who came in with a wrong password"


@check(points=5, skill="sec.iam", needs=("test_customers_see_their_own", "test_the_job_brings_rows_in"))
def test_the_file_brings_it_back(client, host, lab):
    """A restart of the access service brings back what is missing, and nothing of what was wrong"""
    service = f"{lab.app}-access.service"
    taken = [("SELECT", "totals", lab.report), ("SELECT", "statement", lab.group), ("INSERT", lab.thing, lab.job)]
    taken += [("SELECT", "api_keys", lab.gate), ("UPDATE", lab.thing, lab.group)]
    try:
        revoked = ask(
            client, lab, owner_of(lab), *(f"REVOKE {right} ON {on} FROM {role}" for right, on, role in taken), end="COMMIT"
        )  # fmt: skip
        assert [answer.state for answer in revoked] == ["00000"] * len(taken), f"SQLSTATE of REVOKE by {owner_of(lab)}"
        assert host.run("systemctl restart %s", service, timeout=30).rc == 0, f"status of systemctl restart {service}"
        tenant = lab.tenants[0]
        update = f"UPDATE {lab.thing} SET amount = amount"
        back = effects(
            client, lab,
            {
                lab.report: reads("totals"),
                lab.gate: reads("api_keys"),
                lab.job: [f"INSERT INTO {lab.thing} (tenant, note, amount) VALUES ('{tenant}', 'x', 1)"],
                tenant: [*reads("statement"), update],
            },
        )  # fmt: skip
        assert len(back) == 5, (
            f"of five rights that were taken, those that were back when {service} had restarted: {back}"
        )
    finally:
        ask(
            client, lab, owner_of(lab), *(f"GRANT {right} ON {on} TO {role}" for right, on, role in taken), end="COMMIT"
        )
    whose = f"SELECT DISTINCT tenant FROM {lab.thing} UNION SELECT DISTINCT tenant FROM statement"
    answers = ask_each(client, lab, {name: [whose] for name in lab.tenants})
    found = {name: seen(answers[name][0]) for name in lab.tenants}
    assert found == {name: [name] for name in lab.tenants}, (
        f"whose rows each customer sees after {service} was restarted"
    )
    enabled = host.run("systemctl is-enabled %s", service).stdout.strip()
    assert enabled == "enabled", f"{service} at the next start of the host"
