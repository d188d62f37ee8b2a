"""The deployment rehearsed: `sam build`, `sam deploy`, an incident, its undo, and whom it turns away.

    AWS_ENDPOINT_URL=<moto> python rehearsal.py SETTINGS

SETTINGS is a JSON object: `state` (a directory), `ministack` (the Python that has it), `sam` (the directory of the commands
`sam` and `cargo-lambda`), `command` (the binary of the command `firebreak`), `quick` (build what ships in minutes, or as it
ships), `built` (take what the last build left). What is found goes to standard output, one JSON object a line (tell.py).
"""

import json
import platform
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "emulator"))

import canary  # noqa: E402
import incident  # noqa: E402
import measure  # noqa: E402
import others  # noqa: E402
import people  # noqa: E402
import refused  # noqa: E402
import scene as scenes  # noqa: E402
import tell  # noqa: E402
from accounts import Accounts, endpoint  # noqa: E402
from emulators import REGION, Emulators  # noqa: E402
from stack import MEMBER_TEMPLATE, ROOT, Sam, without_what_is_lacked  # noqa: E402


def main() -> None:
    settings = json.loads(sys.argv[1])
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    sam = Sam(settings)
    if not settings.get("built"):
        tell.say("sam build: the functions that ship, " + ("quickly" if settings["quick"] else "as they ship"))
        begun = time.monotonic()
        sam.build(settings["quick"], architecture)
        tell.figure("sam build", f"{time.monotonic() - begun:.0f} s")
    template, left_out = without_what_is_lacked(sam.built / "template.yaml", sam.built)
    _, of_member = without_what_is_lacked(MEMBER_TEMPLATE, sam.directory)
    for name, found in (("template.yaml", left_out), ("template-member.yaml", of_member)):
        for reason, names in found.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            tell.note(f"{name} is deployed without {names[0]}{more}: ministack has {reason}")
    tell.say("starting ministack")
    emulators = Emulators(settings)
    try:
        rehearse(settings, sam, template, emulators, architecture)
    finally:
        emulators.close()


def rehearse(settings: dict, sam: Sam, template: Path, emulators: Emulators, architecture: str) -> None:
    scene = scenes.prepare(emulators, Accounts(endpoint()))
    tell.say("sam deploy")
    begun = time.monotonic()
    sam.deploy(template, emulators, scenes.parameters(scene, architecture))
    tell.figure("sam deploy", f"{time.monotonic() - begun:.0f} s")
    scenes.set_up(scene)
    measure.functions(scene, architecture)

    command, given = settings["command"], people.settings(emulators, "firebreak-contain-compute")
    publisher = scene.people[people.PUBLISHER]
    policies = sam.directory / "policies.cedar"
    policies.write_text((ROOT / "policies" / "starter.cedar").read_text() + canary.POLICY)
    published = publisher.command(command, given, "policy", "publish", str(policies), "--yes")
    tell.holds("Deployed", "a publisher puts a policy set in force", published.returncode == 0, published.stdout)
    ready(scene, command, given)
    kept = refused.without_a_permission(scene, incident.finding(scene))
    before = incident.contain(scene, kept)
    incident.undo(scene, before, command, given)
    refused.at_the_door(scene, command, given)
    refused.trust(scene)
    refused.beyond(scene)
    refused.narrowed(scene)
    others.key(scene)
    others.port(scene)
    canary.drill(scene)
    measure.running(scene, sam.built, settings["quick"])


def ready(scene: scenes.Scene, command: str, given: dict) -> None:
    """An operator makes the member ready and looks whether it is."""
    operator = scene.people[people.OPERATOR]
    where = ("--regions", REGION)
    done = operator.command(command, given, "onboard", "--account", scene.member, *where)
    tell.holds("Deployed", "an operator makes quarantine groups ahead", done.returncode == 0, done.stdout)
    done = operator.command(command, given, "preflight", "--accounts", scene.member, *where)
    refusals = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("NO")]
    tell.same("Deployed", "every check of preflight is well", [], refusals)
    tell.holds("Deployed", "it says that all is ready", done.returncode == 0, done.stdout)


if __name__ == "__main__":
    main()
