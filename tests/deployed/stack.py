"""The build, and the stacks: the hub's by `sam build` and `sam deploy`, the member's by CloudFormation as a stack set has it."""

import copy
import json
import os
import subprocess
import time
from pathlib import Path

from emulators import HUB, REGION, Emulators
from template import parsed

ROOT = Path(__file__).resolve().parents[2]
STACK = "firebreak"
MEMBER_STACK = "firebreak-member"
MEMBER_TEMPLATE = ROOT / "template-member.yaml"

# The profile `release` of Cargo.toml is what ships. This rehearsal asks for the same code built in minutes instead of tens
# of them: unoptimised, in many parts, without link-time optimisation.
QUICK = {
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "256",
}


class Sam:
    """The command `sam`, with cargo-lambda on its path."""

    def __init__(self, settings: dict):
        self.directory = Path(settings["state"])
        self.binaries = settings["sam"]
        self.built = self.directory / "build"

    def run(self, arguments: list, environment: dict, what: str) -> None:
        environment = {
            **environment,
            "PATH": os.pathsep.join([self.binaries, environment.get("PATH", os.environ["PATH"])]),
            "SAM_CLI_TELEMETRY": "0",
        }
        done = subprocess.run(
            [str(Path(self.binaries) / "sam"), *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        (self.directory / f"sam-{arguments[0]}.log").write_text(done.stdout)
        if done.returncode:
            raise RuntimeError(f"{what} failed; it said: " + "\n".join(done.stdout.strip().splitlines()[-15:]))

    def build(self, quick: bool, architecture: str) -> Path:
        """The built template."""
        # Cargo and rustup want the user's home and their own variables.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment.update(QUICK if quick else {})
        arguments = ["build", "--build-dir", str(self.built), "--template-file", str(ROOT / "template.yaml")]
        self.run([*arguments, "--parameter-overrides", f"Architecture={architecture}"], environment, "sam build")
        return self.built / "template.yaml"

    def deploy(self, template: Path, emulators: Emulators, parameters: dict) -> None:
        environment = {**emulators.environment(HUB, emulators.secret), "HOME": str(self.directory)}
        given = [f"{name}={value}" for name, value in parameters.items()]
        arguments = ["deploy", "--template-file", str(template), "--stack-name", STACK, "--region", REGION]
        arguments += ["--resolve-s3", "--no-confirm-changeset", "--no-progressbar"]
        arguments += ["--capabilities", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
        self.run([*arguments, "--parameter-overrides", *given], environment, "sam deploy")


def described(emulators: Emulators, account: str, name: str) -> dict:
    """Status, outputs and resources (physical ids by logical ones) of a stack."""
    client = emulators.root(account, "cloudformation")
    stack = client.describe_stacks(StackName=name)["Stacks"][0]
    resources = client.describe_stack_resources(StackName=name)["StackResources"]
    return {
        "status": stack["StackStatus"],
        "reason": stack.get("StackStatusReason", ""),
        "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])},
        "resources": {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in resources},
        "states": {one["LogicalResourceId"]: one["ResourceStatus"] for one in resources},
        "types": {one["LogicalResourceId"]: one["ResourceType"] for one in resources},
    }


def lacked(resource: dict) -> str:
    """What of a resource ministack refuses, and with it the whole template."""
    if resource["Type"] in ("AWS::Events::EventBusPolicy", "AWS::EC2::Instance"):
        return f"no {resource['Type']}"
    if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
        return "no alarm over several metrics"
    return ""


def without_what_is_lacked(template: Path, directory: Path) -> tuple:
    """A copy of a template in a directory, but for what ministack refuses; and what was left out, by reason."""
    reduced = copy.deepcopy(parsed(str(template)))
    left_out: dict = {}
    for name, resource in list(reduced["Resources"].items()):
        reason = lacked(resource)
        if reason:
            left_out.setdefault(reason, []).append(name)
            del reduced["Resources"][name]
    path = directory / f"{template.stem}-for-ministack.json"
    path.write_text(json.dumps(reduced, default=str))
    return path, left_out


def deploy_member(emulators: Emulators, account: str, parameters: dict) -> dict:
    """template-member.yaml, but for what ministack refuses."""
    reduced, _ = without_what_is_lacked(MEMBER_TEMPLATE, Path(emulators.settings["state"]))
    client = emulators.root(account, "cloudformation")
    client.create_stack(
        StackName=MEMBER_STACK,
        TemplateBody=reduced.read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    )
    return settled(emulators, account, MEMBER_STACK)


def settled(emulators: Emulators, account: str, name: str) -> dict:
    until = time.monotonic() + 60
    while True:
        stack = described(emulators, account, name)
        if not stack["status"].endswith("_IN_PROGRESS") or time.monotonic() > until:
            return stack
        time.sleep(0.1)


def organization(emulators: Emulators) -> tuple:
    """An organization of the hub's with one more account in it: the organization's id and that account's."""
    client = emulators.root(HUB, "organizations")
    # Every account of ministack has one as soon as it is asked for; CreateOrganization is unknown.
    made = client.describe_organization()["Organization"]
    member = client.create_account(Email="member@example.com", AccountName="member")["CreateAccountStatus"]
    return made["Id"], member["AccountId"]
