"""The tables of cost.md, computed from cost.json. Run: python docs/cost.py

With --write it puts them into the page; a test looks that they are there.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = json.loads((HERE / "cost.json").read_text(encoding="utf-8"))
GIVEN = {name: entry["value"] for name, entry in DATA["assumed"].items()}
SCENARIOS = DATA["measured"]["scenarios"]
KB_IN_GB = 1e6


def price(name: str, amount: float) -> float:
    entry = DATA["prices"][name]
    return amount * entry["usd"] / entry["per"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def usd(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.005 else f"{amount:.4f}"


def unit(entry: dict) -> str:
    return entry["unit"] if entry["per"] == 1 else f"{entry['per']:,.0f} {entry['unit']}"


def of_lambda(invocations: float, ms: float) -> float:
    return price("lambda_request", invocations) + price("lambda_gb_second", invocations * ms / 1000 * GIVEN["memory_gb"])


def of_finding(counted: dict) -> dict[str, float]:
    """What one finding costs, by service."""
    times, again = GIVEN["afterwards"], GIVEN["deliveries"]
    # A run's row is written whole, and a second time into the index; a transaction counts twice.
    run = GIVEN["run_kb"] * 2
    writes = counted["ledger_updates"] * run + counted["ledger_transactions"] * run * 2 + counted["ledger_rows"]
    reads = counted["ledger_reads"] * times + GIVEN["delivery_reads"] * again
    messages = counted["messages"] * times
    return {
        "Lambda": of_lambda(1, counted["answered_ms"] * times) + of_lambda(again, GIVEN["delivery_ms"]),
        "DynamoDB": price("dynamodb_write", writes * times) + price("dynamodb_read", reads),
        "S3": price("s3_put", counted["s3_puts"] * times) + price("s3_get", counted["s3_gets"] * times),
        "SNS, EventBridge": price("sns_publish", messages)
        + price("sns_email", messages * GIVEN["emails"])
        + price("event", counted["events"] * times),
        "CloudWatch": price("log_gb", GIVEN["log_kb"] * (times + again) / KB_IN_GB)
        + price("metric_month", GIVEN["metric_hours"] / 730),
    }


def standing() -> dict[str, float]:
    """What a month costs in which nothing happens."""
    invocations = GIVEN["functions"] * GIVEN["minutes"]
    return {
        "Schedules: Lambda": of_lambda(invocations, GIVEN["schedule_ms"]),
        "Schedules: reads of the ledger": price("dynamodb_read", invocations * GIVEN["schedule_reads"]),
        "Schedules: logs": price("log_gb", invocations * GIVEN["schedule_log_kb"] / KB_IN_GB),
        "The queue of `harden`": price("sqs_request", GIVEN["empty_receives"]),
        "Custom metrics": price("metric_month", GIVEN["standing_metrics"]),
        "Alarms": price("alarm_month", GIVEN["alarms"]),
        "Dashboard": price("dashboard_month", GIVEN["dashboards"]),
    }


def month(accounts: int) -> dict[str, float]:
    cost = {name: sum(of_finding(counted).values()) for name, counted in SCENARIOS.items()}
    # One instance, one key or session, three controls.
    mix = cost["compromised-instance"] + (cost["compromised-key"] + cost["stolen-role-session"]) / 2
    mix += 3 * (cost["open-port"] + cost["public-bucket"]) / 2
    share = GIVEN["findings"] / 5
    kept_gb = accounts * GIVEN["findings"] * GIVEN["run_kb"] * GIVEN["months_kept"] / KB_IN_GB
    stored = price("dynamodb_gb_month", kept_gb * 2) + price("s3_gb_month", kept_gb)
    snapshots = price("snapshot_gb_month", accounts * share * GIVEN["snapshot_gb"] * GIVEN["snapshot_months"])
    return {**standing(), "Findings": accounts * share * mix, "What is kept": stored, "Snapshots": snapshots}


def tables() -> dict[str, str]:
    services = list(of_finding(next(iter(SCENARIOS.values()))))
    thousand = []
    for counted in SCENARIOS.values():
        by_service = {name: 1000 * cost for name, cost in of_finding(counted).items()}
        thousand.append([counted["what"], *(usd(by_service[name]) for name in services), usd(sum(by_service.values()))])
    names = {
        "ledger_reads": "Ledger: reads", "ledger_updates": "journal", "ledger_transactions": "transactions",
        "ledger_rows": "rows", "s3_puts": "S3: puts", "s3_gets": "gets", "messages": "SNS", "events": "events",
        "free_calls": "free", "answered_ms": "ms",
    }
    calls = [[counted["what"], *(str(counted[key]) for key in names)] for counted in SCENARIOS.values()]
    months = {accounts: month(accounts) for accounts in (10, 100, 1000)}
    rows = [[name, *(usd(months[accounts][name]) for accounts in months)] for name in months[10]]
    rows.insert(-1, ["**Without snapshots**", *(f"**{usd(sum(m.values()) - m['Snapshots'])}**" for m in months.values())])
    rows.append(["**All**", *(f"**{usd(sum(m.values()))}**" for m in months.values())])
    return {
        "calls": table(["One finding", *names.values()], calls),
        "thousand": table(["1,000 findings, USD", *services, "All"], thousand),
        "month": table(["A month, USD", *(f"{accounts:,} accounts" for accounts in months)], rows),
        "assumed": "\n".join(
            ["| | | |", "|---|---:|---|"]
            + [f"| `{name}` | {entry['value']:,} | {entry['why']} |" for name, entry in DATA["assumed"].items()]
        ),
        "prices": "\n".join(
            ["| USD | for | Source |", "|---:|---|---|"]
            + [f"| {entry['usd']:.10g} | {unit(entry)} | {entry['source']} |" for entry in DATA["prices"].values()]
        ),
    }


def filled(page: str) -> str:
    """The page with each table in its place, between its marks."""
    for name, body in tables().items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        page, found = mark.subn(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", page)
        if found != 1:
            raise ValueError(f"cost.md has {found} places for the table {name}")
    return page


if __name__ == "__main__":
    if "--write" in sys.argv:
        path = HERE / "cost.md"
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for name, body in tables().items():
            print(f"{name}\n\n{body}\n")
