"""Makes the resources of a SAM or CloudFormation template by boto3.

moto's CloudFormation does not know SAM, nor Object Lock and time to live. A template of ours uses few
types, so each is made by the calls that CloudFormation itself would make; a type that is not known
here is an error, never skipped in silence.
"""

import functools
import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from accounts import Accounts

NO_VALUE = object()


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags, each turned into its long form."""


def short_tag(loader: Loader, suffix: str, node: yaml.Node) -> dict:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else "Fn::" + suffix: value}


Loader.add_multi_constructor("!", short_tag)
# A version such as 2012-10-17 stays a string.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@functools.lru_cache(maxsize=None)
def parsed(path: str) -> dict:
    """A template, short tags in their long form. It is read once a process and is never written to."""
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader)  # noqa: S506 (a SafeLoader with our tags)


class Stack:
    """One template deployed into one account and Region."""

    def __init__(
        self,
        accounts: Accounts,
        account: str,
        region: str,
        path: str,
        given: dict,
        name: str,
        without: Iterable = (),
    ):
        self.template = parsed(path)
        self.account, self.region, self.name = account, region, name
        self.clients = lambda service: accounts.client(account, region, service)
        self.parameters = {
            "AWS::AccountId": account,
            "AWS::Region": region,
            "AWS::Partition": "aws",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": name,
            "AWS::StackId": f"arn:aws:cloudformation:{region}:{account}:stack/{name}/0",
            "AWS::NoValue": NO_VALUE,
        }
        for parameter, spec in self.template.get("Parameters", {}).items():
            value = given.get(parameter, spec.get("Default"))
            if value is None:
                raise ValueError(f"{path}: parameter {parameter} has no value")
            value = str(value)
            if spec.get("Type") == "CommaDelimitedList":
                value = [part.strip() for part in value.split(",") if part.strip()]
            self.parameters[parameter] = value
        unknown = set(given) - set(self.template.get("Parameters", {}))
        if unknown:
            raise ValueError(f"{path}: no such parameters: {', '.join(sorted(unknown))}")
        self.resources = {
            logical: spec
            for logical, spec in self.template["Resources"].items()
            if "Condition" not in spec or self.condition(spec["Condition"])
        }
        self.names: dict = {}
        self.functions: dict = {}
        # Types and names of what is not made, though it has its name: for whoever makes many and needs few.
        self.without = frozenset(without)

    # --- intrinsic functions ---

    def condition(self, name: str) -> bool:
        return bool(self.resolve(self.template["Conditions"][name]))

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in (self.resolve(item) for item in value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self.ref(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.condition(argument)
            if name.startswith("Fn::"):
                return getattr(self, "fn_" + name[4:].lower())(argument)
        resolved = {key: self.resolve(inner) for key, inner in value.items()}
        return {key: inner for key, inner in resolved.items() if inner is not NO_VALUE}

    def ref(self, name: str) -> Any:
        if name in self.parameters:
            return self.parameters[name]
        return self.attribute(name, "Ref")

    def fn_getatt(self, argument: list) -> str:
        return self.attribute(argument[0], argument[1])

    def fn_sub(self, argument: Any) -> str:
        text, local = (argument, {}) if isinstance(argument, str) else (argument[0], self.resolve(argument[1]))

        def value(match: re.Match) -> str:
            name = match.group(1)
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in local:
                return str(local[name])
            found = self.attribute(*name.split(".", 1)) if "." in name else self.ref(name)
            return str(found)

        return re.sub(r"\$\{([^}]+)\}", value, text)

    def fn_join(self, argument: list) -> str:
        return argument[0].join(str(part) for part in self.resolve(argument[1]))

    def fn_split(self, argument: list) -> list:
        return self.resolve(argument[1]).split(argument[0])

    def fn_select(self, argument: list) -> Any:
        return self.resolve(argument[1])[int(self.resolve(argument[0]))]

    def fn_if(self, argument: list) -> Any:
        return self.resolve(argument[1] if self.condition(argument[0]) else argument[2])

    def fn_equals(self, argument: list) -> bool:
        return self.resolve(argument[0]) == self.resolve(argument[1])

    def fn_not(self, argument: list) -> bool:
        return not self.resolve(argument[0])

    def fn_and(self, argument: list) -> bool:
        return all(self.resolve(part) for part in argument)

    def fn_or(self, argument: list) -> bool:
        return any(self.resolve(part) for part in argument)

    def fn_findinmap(self, argument: list) -> Any:
        table, first, second = (self.resolve(part) for part in argument)
        return self.template["Mappings"][table][first][second]

    # --- names: all are known before anything is made, so the order of making does not matter ---

    def physical(self, logical: str) -> str:
        if logical not in self.names:
            spec = self.resources[logical]
            properties = spec.get("Properties", {})
            named = ("TableName", "BucketName", "QueueName", "TopicName", "RoleName", "ManagedPolicyName")
            for given in (*named, "InstanceProfileName", "FunctionName", "DashboardName", "Name"):
                if given in properties:
                    self.names[logical] = str(self.resolve(properties[given]))
                    break
            else:
                # Bucket names are global, so account and Region are part of the name.
                self.names[logical] = f"{self.name}-{logical}-{self.account}-{self.region}".lower()
        return self.names[logical]

    def attribute(self, logical: str, attribute: str) -> str:
        if logical not in self.resources:
            raise ValueError(f"{logical} is no parameter and no resource of the template")
        kind, name = self.resources[logical]["Type"], self.physical(logical)
        arn = f"arn:aws:{{}}:{self.region}:{self.account}:"
        known = {
            "AWS::DynamoDB::Table": {"Ref": name, "Arn": arn.format("dynamodb") + "table/" + name},
            "AWS::S3::Bucket": {"Ref": name, "Arn": "arn:aws:s3:::" + name},
            "AWS::SQS::Queue": {
                "Ref": f"{self.clients('sqs').meta.endpoint_url}/{self.account}/{name}",
                "Arn": arn.format("sqs") + name,
                "QueueName": name,
            },
            "AWS::SNS::Topic": {"Ref": arn.format("sns") + name, "TopicArn": arn.format("sns") + name, "TopicName": name},
            "AWS::IAM::Role": {"Ref": name, "Arn": f"arn:aws:iam::{self.account}:role{self.role_path(logical)}{name}"},
            "AWS::Serverless::Function": {"Ref": name, "Arn": arn.format("lambda") + "function:" + name},
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-lambda-url.html
            "AWS::Lambda::Url": {"FunctionUrl": f"https://{name}.lambda-url.{self.region}.on.aws/"},
            "AWS::Events::EventBus": {"Ref": name, "Arn": arn.format("events") + "event-bus/" + name},
            "AWS::Events::Rule": {"Ref": name, "Arn": arn.format("events") + "rule/" + self.rule_path(logical) + name},
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-cloudwatch-dashboard.html
            "AWS::CloudWatch::Dashboard": {"Ref": name},
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-kms-key.html
            "AWS::KMS::Key": {"Ref": name, "Arn": arn.format("kms") + "key/" + name},
            "AWS::Logs::LogGroup": {"Ref": name, "Arn": arn.format("logs") + "log-group:" + name},
        }
        try:
            return known[kind][attribute]
        except KeyError:
            raise ValueError(f"{logical}: {kind} has no attribute {attribute} here") from None

    def rule_path(self, logical: str) -> str:
        bus = self.resolve(self.resources[logical].get("Properties", {}).get("EventBusName", ""))
        return f"{bus}/" if bus else ""

    def role_path(self, logical: str) -> str:
        return self.resolve(self.resources[logical].get("Properties", {}).get("Path", "/"))

    # --- making ---

    MAKERS = {
        "AWS::IAM::Role": "role",
        "AWS::IAM::ManagedPolicy": "managed_policy",
        "AWS::IAM::InstanceProfile": "instance_profile",
        "AWS::SQS::Queue": "queue",
        "AWS::SNS::Topic": "topic",
        "AWS::DynamoDB::Table": "table",
        "AWS::S3::Bucket": "bucket",
        "AWS::S3::BucketPolicy": "bucket_policy",
        "AWS::SQS::QueuePolicy": "queue_policy",
        "AWS::SNS::TopicPolicy": "topic_policy",
        "AWS::Events::EventBus": "bus",
        "AWS::Events::Rule": "rule",
        "AWS::Serverless::Function": "function",
    }
    # What only the real CloudFormation needs.
    IGNORED = (
        "AWS::Events::EventBusPolicy",
        "AWS::Logs::LogGroup",
        "AWS::Lambda::Permission",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::Url",
        # There are no metrics to watch: what a function writes in the embedded format, nobody reads here.
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        # moto encrypts nothing, so a key is its name.
        "AWS::KMS::Key",
        # Nobody is at an address here to confirm it.
        "AWS::SNS::Subscription",
    )

    def make(self) -> dict:
        for kind, maker in self.MAKERS.items():
            if kind in self.without:
                continue
            for logical, spec in self.resources.items():
                if spec["Type"] == kind and self.physical(logical) not in self.without:
                    getattr(self, "make_" + maker)(logical, self.resolve(spec.get("Properties", {})))
        for logical, spec in self.resources.items():
            if spec["Type"] not in self.MAKERS and spec["Type"] not in self.IGNORED:
                raise ValueError(f"{logical}: the emulator cannot make a {spec['Type']}")
        return {
            "resources": {logical: self.physical(logical) for logical in self.resources},
            "outputs": {
                name: self.resolve(spec["Value"])
                for name, spec in self.template.get("Outputs", {}).items()
                if "Condition" not in spec or self.condition(spec["Condition"])
            },
            "functions": self.functions,
        }

    def make_role(self, logical: str, properties: dict) -> None:
        iam, name = self.clients("iam"), self.physical(logical)
        iam.create_role(
            RoleName=name,
            Path=properties.get("Path", "/"),
            AssumeRolePolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"]),
            MaxSessionDuration=int(properties.get("MaxSessionDuration", 3600)),
        )
        for policy in properties.get("Policies", []):
            iam.put_role_policy(
                RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=json.dumps(policy["PolicyDocument"])
            )

    def make_managed_policy(self, logical: str, properties: dict) -> None:
        self.clients("iam").create_policy(
            PolicyName=self.physical(logical),
            Path=properties.get("Path", "/"),
            Description=properties.get("Description", ""),
            PolicyDocument=json.dumps(properties["PolicyDocument"]),
        )
        arn = f"arn:aws:iam::{self.account}:policy{properties.get('Path', '/')}{self.physical(logical)}"
        for role in properties.get("Roles", []):
            self.clients("iam").attach_role_policy(RoleName=role, PolicyArn=arn)

    def make_instance_profile(self, logical: str, properties: dict) -> None:
        iam, name = self.clients("iam"), self.physical(logical)
        iam.create_instance_profile(InstanceProfileName=name, Path=properties.get("Path", "/"))
        for role in properties["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)

    def make_queue(self, logical: str, properties: dict) -> None:
        self.clients("sqs").create_queue(QueueName=self.physical(logical))

    def make_topic(self, logical: str, properties: dict) -> None:
        self.clients("sns").create_topic(Name=self.physical(logical))

    def make_table(self, logical: str, properties: dict) -> None:
        dynamodb, name = self.clients("dynamodb"), self.physical(logical)
        taken = (
            "AttributeDefinitions",
            "KeySchema",
            "BillingMode",
            "GlobalSecondaryIndexes",
            "LocalSecondaryIndexes",
            "DeletionProtectionEnabled",
        )
        dynamodb.create_table(TableName=name, **{key: properties[key] for key in taken if key in properties})
        expiry = properties.get("TimeToLiveSpecification")
        if expiry:
            dynamodb.update_time_to_live(
                TableName=name,
                TimeToLiveSpecification={"Enabled": expiry["Enabled"], "AttributeName": expiry["AttributeName"]},
            )
        if properties.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled"):
            dynamodb.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )

    def make_bucket(self, logical: str, properties: dict) -> None:
        s3, name = self.clients("s3"), self.physical(logical)
        arguments: dict = {"Bucket": name}
        if self.region != "us-east-1":
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        if properties.get("ObjectLockEnabled"):
            arguments["ObjectLockEnabledForBucket"] = True
        s3.create_bucket(**arguments)
        if properties.get("VersioningConfiguration"):
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"])
        if properties.get("PublicAccessBlockConfiguration"):
            s3.put_public_access_block(
                Bucket=name, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
            )
        lock = properties.get("ObjectLockConfiguration")
        if lock and "Rule" in lock:
            retention = lock["Rule"]["DefaultRetention"]
            if "Days" in retention:
                retention = {**retention, "Days": int(retention["Days"])}
            s3.put_object_lock_configuration(
                Bucket=name,
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}},
            )

    def make_bucket_policy(self, logical: str, properties: dict) -> None:
        self.clients("s3").put_bucket_policy(
            Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"])
        )

    def make_queue_policy(self, logical: str, properties: dict) -> None:
        for queue in properties["Queues"]:
            self.clients("sqs").set_queue_attributes(
                QueueUrl=queue, Attributes={"Policy": json.dumps(properties["PolicyDocument"])}
            )

    def make_topic_policy(self, logical: str, properties: dict) -> None:
        for topic in properties["Topics"]:
            self.clients("sns").set_topic_attributes(
                TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(properties["PolicyDocument"])
            )

    def make_bus(self, logical: str, properties: dict) -> None:
        self.clients("events").create_event_bus(Name=self.physical(logical))

    def make_rule(self, logical: str, properties: dict) -> None:
        events, name = self.clients("events"), self.physical(logical)
        bus = {"EventBusName": properties["EventBusName"]} if "EventBusName" in properties else {}
        events.put_rule(Name=name, EventPattern=json.dumps(properties["EventPattern"]), **bus)
        events.put_targets(Rule=name, Targets=properties["Targets"], **bus)

    def make_function(self, logical: str, properties: dict) -> None:
        """Its rules, each with one queue as target: moto cannot start a function.

        Whoever drives the function takes the events from the queue, as Lambda would hand them over.
        """
        events, sqs = self.clients("events"), self.clients("sqs")
        shared = self.resolve(self.template.get("Globals", {})).get("Function", {})
        queue = f"{self.name}-{logical}-events"
        ruled = "AWS::Events::Rule" not in self.without
        if ruled:
            sqs.create_queue(QueueName=queue)
        url = f"{sqs.meta.endpoint_url}/{self.account}/{queue}"
        arn = f"arn:aws:sqs:{self.region}:{self.account}:{queue}"
        rules, schedules, batches = [], [], []
        for name, event in properties.get("Events", {}).items():
            if event["Type"] in ("EventBridgeRule", "CloudWatchEvent"):
                rule = f"{self.name}-{logical}-{name}"
                arguments = {"Name": rule, "EventPattern": json.dumps(event["Properties"]["Pattern"])}
                if event["Properties"].get("EventBusName"):
                    arguments["EventBusName"] = event["Properties"]["EventBusName"]
                if ruled:
                    events.put_rule(**arguments)
                    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])
                    rules.append(rule)
            elif event["Type"] in ("Schedule", "ScheduleV2"):
                given = event["Properties"].get("Input")
                schedules.append(
                    {
                        "name": name,
                        "expression": event["Properties"].get("ScheduleExpression")
                        or event["Properties"].get("Schedule"),
                        "input": json.loads(given) if isinstance(given, str) else given,
                    }
                )
            elif event["Type"] == "SQS":
                # Lambda takes from it by itself and hands over several messages at once.
                batches.append(f"{sqs.meta.endpoint_url}/{self.account}/{event['Properties']['Queue'].split(':')[-1]}")
            else:
                raise ValueError(f"{logical}.{name}: the emulator cannot make an event of type {event['Type']}")
        environment = {
            **shared.get("Environment", {}).get("Variables", {}),
            **properties.get("Environment", {}).get("Variables", {}),
        }
        self.functions[logical] = {
            "name": self.physical(logical),
            "role": properties.get("Role"),
            "environment": {name: str(value) for name, value in environment.items()},
            "timeout": int(properties.get("Timeout", shared.get("Timeout", 3))),
            "memory": int(properties.get("MemorySize", shared.get("MemorySize", 128))),
            "queue_url": url,
            "batches": batches,
            "rules": rules,
            "schedules": schedules,
        }
