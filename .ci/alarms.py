"""Holds the alarms of the templates, docs/alarms.md and the code against each other.

Whatever the code raises an alarm for has a kind, each kind has one alarm, and each alarm has a line in the page, a
runbook that is there, and a count that the code makes. Prints what is not so; the exit status says whether all is.
"""

import json
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ("template.yaml", "template-region.yaml")
problems: list = []


class Loader(yaml.SafeLoader):
    """YAML in which a short tag of CloudFormation's is its argument."""


def untagged(loader: Loader, _suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


Loader.add_multi_constructor("!", untagged)


def require(holds: bool, problem: str) -> None:
    if not holds:
        problems.append(problem)


def same(what: str, one: set, other: set) -> None:
    for extra in sorted(one - other):
        problems.append(f"{what}: {extra} is in the first only")
    for missing in sorted(other - one):
        problems.append(f"{what}: {missing} is in the second only")


def sources() -> dict:
    """The code that ships, by file, without its tests."""
    found = {}
    for folder in ("shared/src", "functions"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            if path.name != "tests.rs" and "target" not in path.parts:
                text = path.read_text(encoding="utf-8").split("#[cfg(test)]\nmod tests {")[0]
                found[path.relative_to(ROOT).as_posix()] = text
    return found


def kinds(telemetry: str) -> dict:
    """What is of which kind, as `KINDS` has it."""
    table = re.search(r"const KINDS: .*?= &\[\n(.*?)\n\];", telemetry, re.S)
    if not table:
        raise SystemExit("shared/src/telemetry.rs: there is no table KINDS")
    of: dict = {}
    for kind, whats in re.findall(r'\(\s*"([a-z-]+)",\s*&\[(.*?)\],?\s*\)', table.group(1), re.S):
        for what in re.findall(r'"([a-z-]+)"', whats):
            require(what not in of, f"KINDS: {what} has two kinds")
            of[what] = kind
    return of


def alarms() -> dict:
    """The alarms of the templates, by the part of the name that is after the stack's."""
    found = {}
    for file in TEMPLATES:
        template = yaml.load((ROOT / file).read_text(encoding="utf-8"), Loader)  # noqa: S506 (a SafeLoader)
        for logical, resource in template["Resources"].items():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                properties = resource["Properties"]
                prefix, _, name = str(properties.get("AlarmName")).partition("${AWS::StackName}-")
                require(prefix == "" and name != "", f"{file}: {logical}: its name does not carry the stack's")
                require("AlarmActions" in properties, f"{file}: {logical}: it tells nobody")
                require(name not in found, f"{file}: {logical}: another alarm has its name")
                found[name] = {"logical": logical, "file": file, **properties}
    return found


def queries(alarm: dict) -> str:
    return " ".join(metric.get("Expression", "") for metric in alarm.get("Metrics", []))


def rows(page: str, heading: str) -> list:
    """The cells of the table under a heading of the page."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.S | re.M)
    lines = section.group(1).splitlines() if section else []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    require(bool(cells), f"docs/alarms.md: there is no table under {heading!r}")
    return cells


def check_kinds(code: dict, page: str, found: dict) -> None:
    raised: set = set()
    for file, text in code.items():
        raised.update(re.findall(r'telemetry::alarm\(\s*"([a-z-]+)"', text))
        computed = re.findall(r"telemetry::alarm\(\s*[^\s\"]", text)
        require(not computed, f"{file}: an alarm's name is not written out")
    of = kinds(code["shared/src/telemetry.rs"])
    same("alarms raised in the code, and sorted in KINDS", raised, set(of))
    watched = [kind for alarm in found.values() for kind in re.findall(r"\"kind\" = '([a-z-]+)'", queries(alarm))]
    require(len(watched) == len(set(watched)), "template.yaml: a kind has two alarms")
    same("kinds in KINDS, and those that an alarm watches", set(of.values()), set(watched))
    described = rows(page, "What the code raises")
    same(
        "KINDS, and what docs/alarms.md says of each",
        {f"{what} ({kind})" for what, kind in of.items()},
        {f"{cells[0].strip('`')} ({cells[1].strip('`')})" for cells in described},
    )


def check_pages(page: str, found: dict) -> None:
    described = {cells[0].strip("`"): cells for cells in rows(page, "Alarms")}
    same("alarms of the templates, and of docs/alarms.md", set(found), set(described))
    for name, alarm in found.items():
        runbook = re.search(r"Runbook: (docs/runbooks/[a-z-]+\.md)$", alarm["AlarmDescription"].strip())
        if runbook is None:
            problems.append(f"{alarm['file']}: {alarm['logical']}: its description does not end with a runbook")
            continue
        path = runbook.group(1)
        require((ROOT / path).is_file(), f"{alarm['file']}: {alarm['logical']}: there is no {path}")
        link = f"({path.removeprefix('docs/')})"
        require(link in described.get(name, [""])[-1], f"docs/alarms.md: the line of {name} does not link {path}")


def check_counts(code: dict, found: dict) -> None:
    text = "".join(code.values())
    for name, alarm in found.items():
        counted = re.findall(r"SELECT [A-Z]+\(([a-z_]+)\)", queries(alarm))
        if alarm.get("Namespace") == "Firebreak":
            counted.append(alarm["MetricName"])
        for metric in counted:
            require(f'"{metric}"' in text, f"{name}: nothing counts {metric}")


def arms(code: str, function: str) -> set:
    """What a function that names things answers with: its texts."""
    body = re.search(rf"{re.escape(function)}\(.*?\n    }}\n", code, re.S)
    return set(re.findall(r'=> "([a-z_-]+)"', body.group(0))) if body else set()


# What rings. Everything else that there is has to be named in the query as what does not.
RING = {
    "not-contained": {"not_contained", "failed"},
    "refused-finding": {"about-hub", "not-authenticated", "other-account", "wrong-sender"},
}


def check_left_out(code: dict, found: dict) -> None:
    outcomes = re.search(r"impl Outcome \{.*?\n}\n", code["shared/src/run.rs"], re.S)
    told = {reason for text in code.values() for reason in re.findall(r'telemetry::turned_away\("([a-z-]+)"\)', text)}
    there = {
        "not-contained": arms(outcomes.group(0) if outcomes else "", "fn as_str"),
        "refused-finding": arms(code["shared/src/screen.rs"], "pub fn as_str") | told,
    }
    for name, all_of_them in there.items():
        left_out = set(re.findall(r"!= '([a-z_-]+)'", queries(found[name])))
        same(f"{name}: what there is, and what the query leaves out or rings for", all_of_them, left_out | RING[name])


def check_dashboard() -> None:
    template = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader)  # noqa: S506 (a SafeLoader)
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    widgets = json.loads(re.sub(r"\$\{[^}]+\}", "x", body))["widgets"]
    shown = set(re.findall(r"\$\{(\w+Alarm)\.Arn\}", body))
    resources = template["Resources"].items()
    always = {
        logical
        for logical, resource in resources
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Condition" not in resource
    }
    same("alarms on the dashboard, and those that there always are", shown, always)
    require(len(widgets) > 1, "the dashboard is empty")


def main() -> int:
    code, found = sources(), alarms()
    page = (ROOT / "docs/alarms.md").read_text(encoding="utf-8")
    check_kinds(code, page, found)
    check_pages(page, found)
    check_counts(code, found)
    check_left_out(code, found)
    check_dashboard()
    for problem in problems:
        print(problem)
    print(f"alarms: {len(found)} in the templates, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
