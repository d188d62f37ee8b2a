"""What the pages for people name is there: tests, files, commands, examples.

Run beside `test_extension`: python -m unittest test_docs
"""

import importlib.util
import json
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> set[str]:
    """The subcommands of `firebreak`, two words where there are two, as clap names the variants."""
    source = text("cli/src/main.rs")
    enums = dict(re.findall(r"^enum (\w+) \{\n(.*?)^\}", source, re.S | re.M))
    assert "Command" in enums, "cli/src/main.rs has no enum Command"

    def kebab(name: str) -> str:
        return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()

    def variants(body: str) -> list[str]:
        # A variant stands alone on the first level of indentation.
        return re.findall(r"^    ([A-Z]\w*)(?:[ ,({]|$)", body, re.M)

    found = set()
    for variant in variants(enums["Command"]):
        below = enums.get(f"{variant}Command")
        names = [kebab(variant)] if below is None else [f"{kebab(variant)} {kebab(one)}" for one in variants(below)]
        found.update(names)
    return found


class Pages(unittest.TestCase):
    def test_every_test_that_the_threat_model_names_is_there(self) -> None:
        page = text("SECURITY.md")
        attacks = re.split(r"^### (A\d+): ", page, flags=re.M)[1:]
        self.assertEqual(attacks[::2], [f"A{n}" for n in range(1, 17)])
        named = 0
        for attack, body in zip(attacks[::2], attacks[1::2]):
            for part in ("**Stopped by:**", "**Left:**"):
                self.assertIn(part, body, attack)
            shown = re.findall(r"^- `([^`]+)`: `([^`]+)`$", body, re.M)
            self.assertTrue(shown, f"{attack} names no test")
            self.assertEqual(len(shown), len(re.findall(r"^- ", body, re.M)), f"{attack}: a line that is no test")
            for file, test in shown:
                source = text(file)
                self.assertRegex(source, rf"\b(?:fn|def) {test}\(", f"{attack}: {file} has no {test}")
                named += 1
        self.assertGreater(named, 50)

    def test_no_link_is_broken(self) -> None:
        for page in pages():
            body = page.read_text(encoding="utf-8")
            for link in re.findall(r"\]\(([^)\s]+)\)", body):
                if "://" in link or link.startswith("#"):
                    continue
                name, _, anchor = link.partition("#")
                target = page.parent / name
                self.assertTrue(target.exists(), f"{page.relative_to(ROOT)} points to {link}")
                if anchor and target.suffix == ".md":
                    heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
                    ids = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                    self.assertIn(anchor, ids, f"{page.relative_to(ROOT)} points to {link}")

    def test_every_command_of_ours_exists(self) -> None:
        known = commands()
        self.assertIn("policy publish", known)
        first = {command.split()[0] for command in known}
        for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "SECURITY.md"]:
            body = page.read_text(encoding="utf-8")
            # In a line of a code block, or in `…`.
            said = re.findall(r"^(?:    )+firebreak ([a-z-]+)(?: ([a-z-]+))?", body, re.M)
            said += re.findall(r"`firebreak ([a-z-]+)(?: ([a-z-]+))?[^`]*`", body)
            for word, second in said:
                what = f"{page.relative_to(ROOT)}: firebreak {word} {second}"
                self.assertIn(word, first | {"help"}, what)
                if word not in known and word != "help":
                    # A bare `firebreak policy` is about all of its commands.
                    self.assertTrue(not second or f"{word} {second}" in known, what)

    def test_each_runbook_is_listed_and_has_the_parts_of_one(self) -> None:
        index = text("docs/runbooks/README.md")
        for page in (ROOT / "docs/runbooks").glob("*.md"):
            if page.name == "README.md":
                continue
            self.assertIn(f"]({page.name})", index)
            heads = re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.M)
            self.assertEqual(heads, ["When", "Look", "Do", "Over when", "Tell"], page.name)

    def test_each_alarm_is_named_in_its_runbook(self) -> None:
        alarm = re.compile(r"AlarmName: !Sub \$\{AWS::StackName\}-(\S+)\n +AlarmDescription: >-\n(?:.*\n)*? +Runbook: (\S+)\n")
        found = [pair for name in ("template.yaml", "template-region.yaml") for pair in alarm.findall(text(name))]
        self.assertGreater(len(found), 20)
        for name, runbook in found:
            # One a function, and the runbook speaks of all.
            shown = "…-silent" if name.endswith("-silent") else name
            self.assertIn(f"`{shown}`", text(runbook), f"{name} in {runbook}")

    def test_the_examples_of_events_are_complete(self) -> None:
        """Whether they satisfy the schema is tested in Rust; here, that each has exactly the fields that it asks for."""
        schema = json.loads(text("docs/events.schema.json"))["$defs"]
        shown = re.findall(r"<!-- event: (\w+) -->\n```json\n(.*?)```", text("docs/events.md"), re.S)
        self.assertGreater(len(shown), 2)
        for name, body in shown:
            event = json.loads(body)
            kind = schema["unanswered" if name == "unanswered" else "answered"]
            self.assertEqual(sorted(event), sorted(kind["required"]), name)
            self.assertIn(event["outcome"], schema["outcome"]["enum"])

    def test_the_page_of_events_has_every_field_and_word(self) -> None:
        schema, page = json.loads(text("docs/events.schema.json"))["$defs"], text("docs/events.md")
        words = [*schema["answered"]["properties"], *schema["outcome"]["enum"]]
        words += filter(None, schema["answered"]["properties"]["topic"]["enum"])
        for word in words:
            self.assertRegex(page, rf"`{re.escape(word)}[`.]", word)

    def test_the_page_of_costs_has_the_tables_that_its_script_computes(self) -> None:
        spec = importlib.util.spec_from_file_location("cost", ROOT / "docs/cost.py")
        cost = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(cost)
        page = text("docs/cost.md")
        self.assertEqual(cost.filled(page), page, "run: python docs/cost.py --write")


if __name__ == "__main__":
    unittest.main()
