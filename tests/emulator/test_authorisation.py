"""What roles may do and who takes them on, seen through boto3; and the table of what requests ask for.

    python -m unittest test_authorisation

uses the server at AWS_ENDPOINT_URL, or starts one.
"""

import json
import re
import unittest
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from authorisation.asks import ALWAYS, ROWS, WITHOUT_RESOURCE, Call, UnknownOperation, asked
from test_extension import REGION, Emulated

ORGANIZATION = "o-firebreak01"


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, on="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": on, **more}


class Authorised(Emulated):
    """An account in which it is on, and a role of it."""

    def setUp(self):
        super().setUp()
        self.iam = self.client("iam")
        self.enforce(self.account)
        self.addCleanup(self.enforce, self.account, organization=None)

    def enforce(self, *accounts, organization=ORGANIZATION):
        body = json.dumps({"accounts": accounts, "organization": organization}).encode()
        self.accounts.door("enforce", "POST", body)

    def role(self, name, *statements, trust=None, path="/", **more):
        trusting = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}
        document = policy({**trusting, **(trust or {})})
        made = self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument=document, **more)
        if statements:
            self.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy(*statements))
        return made["Role"]["Arn"]

    def held(self, service, given):
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.accounts.endpoint,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def administrator(self, service, account=None):
        held = self.accounts.credentials(account or self.account)
        names = {"AccessKeyId": "access_key_id", "SecretAccessKey": "secret_access_key", "SessionToken": "session_token"}
        return self.held(service, {name: held[field] for name, field in names.items()})

    def session(self, service, role, **more):
        taken = self.administrator("sts").assume_role(RoleArn=role, RoleSessionName="session", **more)
        return self.held(service, taken["Credentials"])

    def denied(self, action, call, code="AccessDenied", **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code)
        self.assertIn(f"is not authorized to perform: {action} ", error["Message"])
        return error["Message"]


class Sessions(Authorised):
    def test_a_session_may_do_what_its_role_may_and_no_more(self):
        role = self.role("reader", allow("ec2:DescribeInstances"))
        ec2 = self.session("ec2", role)
        self.assertEqual(ec2.describe_instances()["Reservations"], [])
        said = self.denied("ec2:DescribeAddresses", ec2.describe_addresses, "UnauthorizedOperation")
        self.assertIn("because no identity-based policy allows the ec2:DescribeAddresses action", said)
        self.denied("iam:ListUsers", self.session("iam", role).list_users)
        # What is taken away is gone at once.
        self.iam.delete_role_policy(RoleName="reader", PolicyName="own")
        self.denied("ec2:DescribeInstances", ec2.describe_instances, "UnauthorizedOperation")

    def test_every_protocol_has_its_own_answer(self):
        role = self.role("nobody")
        for service, code, call in (
            ("ec2", "UnauthorizedOperation", lambda client: client.describe_instances()),
            ("iam", "AccessDenied", lambda client: client.list_users()),
            ("s3", "AccessDenied", lambda client: client.list_objects_v2(Bucket="b")),
            ("sns", "AuthorizationError", lambda client: client.publish(TopicArn="arn:aws:sns:eu-west-1:1:t", Message="m")),
            ("dynamodb", "AccessDeniedException", lambda client: client.get_item(TableName="t", Key={"k": {"S": "v"}})),
            ("cloudtrail", "AccessDeniedException", lambda client: client.describe_trails()),
            ("guardduty", "AccessDeniedException", lambda client: client.list_detectors()),
            ("cloudfront", "AccessDenied", lambda client: client.list_distributions()),
        ):
            with self.subTest(service), self.assertRaises(ClientError) as caught:
                call(self.session(service, role))
            error = caught.exception.response["Error"]
            self.assertEqual(error["Code"], code, service)
            self.assertIn("is not authorized to perform: ", error["Message"], service)

    def test_a_session_policy_and_a_boundary_narrow_and_give_nothing(self):
        self.iam.create_user(UserName="one", Path="/team/")
        self.iam.create_user(UserName="two", Path="/team/")
        one = f"arn:aws:iam::{self.account}:user/team/one"
        role = self.role("keys", allow("iam:GetUser", f"arn:aws:iam::{self.account}:user/*"))
        narrowed = self.session("iam", role, Policy=policy(allow(["iam:GetUser", "iam:ListUsers"], ["*", one])))
        self.assertEqual(narrowed.get_user(UserName="one")["User"]["Path"], "/team/")
        self.denied("iam:ListUsers", narrowed.list_users)
        narrow = self.session("iam", role, Policy=policy(allow("iam:GetUser", one)))
        narrow.get_user(UserName="one")
        said = self.denied("iam:GetUser", narrow.get_user, UserName="two")
        self.assertIn("because no session policy allows", said)
        self.assertIn(f"on resource: arn:aws:iam::{self.account}:user/team/two ", said)
        bound = self.iam.create_policy(PolicyName="bound", PolicyDocument=policy(allow("ec2:*")))["Policy"]["Arn"]
        bounded = self.role("bounded", allow("iam:GetUser"), PermissionsBoundary=bound)
        said = self.denied("iam:GetUser", self.session("iam", bounded).get_user, UserName="one")
        self.assertIn("because no permissions boundary allows", said)

    def test_a_denial_wins_and_a_name_that_is_a_pattern_matches_itself(self):
        buckets = ["arn:aws:s3:::a/${*}", "arn:aws:s3:::a"]
        s3 = self.session("s3", self.role("objects", allow(["s3:PutObject", "s3:ListBucket"], buckets)))
        self.client("s3").create_bucket(Bucket=f"a{self.account}", CreateBucketConfiguration={"LocationConstraint": REGION})
        self.denied("s3:PutObject", s3.put_object, Bucket="a", Key="other", Body=b"")
        with self.assertRaises(s3.exceptions.NoSuchBucket):
            s3.put_object(Bucket="a", Key="*", Body=b"")
        forbids = {"Effect": "Deny", "Action": "iam:List*", "Resource": "*"}
        iam = self.session("iam", self.role("denied", allow("iam:*"), forbids))
        said = self.denied("iam:ListUsers", iam.list_users)
        self.assertIn("with an explicit deny in an identity-based policy", said)

    def test_sessions_that_were_issued_before_a_time_can_be_denied(self):
        older = {"Effect": "Deny", "Action": "*", "Resource": "*"}
        for before, allowed in (("2020-01-01T00:00:00Z", True), ("2100-01-01T00:00:00Z", False)):
            condition = {"Condition": {"DateLessThan": {"aws:TokenIssueTime": before}}}
            role = self.role(f"older-{before[:4]}", allow("iam:ListUsers"), {**older, **condition})
            iam = self.session("iam", role)
            iam.list_users() if allowed else self.denied("iam:ListUsers", iam.list_users)

    def test_where_it_is_not_on_anybody_may_do_anything(self):
        self.enforce(self.account, organization=None)
        self.session("iam", self.role("nobody")).list_users()


class Trust(Authorised):
    def test_a_role_is_taken_on_by_whom_it_trusts(self):
        sts = self.administrator("sts")
        administrator = f"arn:aws:iam::{self.account}:role/OrganizationAccountAccessRole"
        for name, condition, trusted in (
            ("by-arn", {"ArnEquals": {"aws:PrincipalArn": administrator}}, True),
            ("by-another", {"ArnEquals": {"aws:PrincipalArn": administrator + "-2"}}, False),
            ("by-organization", {"StringEquals": {"aws:PrincipalOrgID": ORGANIZATION}}, True),
            ("by-another-organization", {"StringEquals": {"aws:PrincipalOrgID": "o-another0001"}}, False),
        ):
            role = self.role(name, trust={"Condition": condition})
            with self.subTest(name):
                if trusted:
                    sts.assume_role(RoleArn=role, RoleSessionName="session")
                else:
                    said = self.denied("sts:AssumeRole", sts.assume_role, RoleArn=role, RoleSessionName="session")
                    self.assertIn("because no resource-based policy allows", said)
        absent = f"arn:aws:iam::{self.account}:role/absent"
        self.denied("sts:AssumeRole", sts.assume_role, RoleArn=absent, RoleSessionName="session")

    def test_a_source_identity_is_an_action_of_its_own(self):
        role = self.role("plain", trust={"Action": "sts:AssumeRole"})
        sts = self.administrator("sts")
        sts.assume_role(RoleArn=role, RoleSessionName="session")
        arguments = {"RoleArn": role, "RoleSessionName": "session", "SourceIdentity": "someone"}
        self.denied("sts:SetSourceIdentity", sts.assume_role, **arguments)


class Table(unittest.TestCase):
    """Of the table itself."""

    def test_every_action_of_the_templates_is_one_that_the_table_can_ask_for(self):
        templates = Path(__file__).parents[2]
        text = "".join((templates / name).read_text() for name in ("template.yaml", "template-member.yaml"))
        named = set(re.findall(r"^\s+(?:- |Action: )([a-z0-9]+:[A-Z]\w+)$", text, re.MULTILINE))
        known = set(ROWS) | WITHOUT_RESOURCE | ALWAYS
        # Asked for by calls of other names, or by Lambda for a function.
        by_others = {"dynamodb:ConditionCheckItem", "ec2:CreateTags", "iam:PassRole", "s3:GetBucketPublicAccessBlock",
                     "s3:ListBucket", "s3:PutBucketPublicAccessBlock", "sts:SetSourceIdentity"}
        # And what a key's own policy says, which is not looked at.
        elsewhere = {name for name in named if name.split(":")[0] in ("kms", "lambda", "logs", "sqs")}
        self.assertEqual(named - known - by_others - elsewhere, set())
        self.assertGreater(len(named), 80)

    def test_an_operation_without_a_row_is_not_guessed(self):
        with self.assertRaises(UnknownOperation):
            asked(Call("111111111111", REGION, "ec2", "TerminateInstances", "", "/", b""))

    def test_every_resource_of_a_call_is_asked_for(self):
        def asks(service, operation, body, path="/"):
            call = Call("111111111111", REGION, service, operation, "", path, body)
            return [(ask.action, ask.resource.split(":", 5)[-1]) for ask in asked(call)]

        body = b"Action=X&NetworkInterfaceId=eni-1&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2"
        name = "ec2:ModifyNetworkInterfaceAttribute"
        expected = [(name, "network-interface/eni-1"), (name, "security-group/sg-1"), (name, "security-group/sg-2")]
        self.assertEqual(asks("ec2", "ModifyNetworkInterfaceAttribute", body), expected)
        body = b"Action=X&VpcId=vpc-1&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b"
        expected = [("ec2:CreateSecurityGroup", "security-group/*"), ("ec2:CreateSecurityGroup", "vpc/vpc-1"),
                    ("ec2:CreateTags", "security-group/*")]
        self.assertEqual(asks("ec2", "CreateSecurityGroup", body), expected)
        items = [{"Put": {"TableName": "a", "Item": {}}}, {"ConditionCheck": {"TableName": "b", "Key": {}}}]
        expected = [("dynamodb:PutItem", "table/a"), ("dynamodb:ConditionCheckItem", "table/b")]
        self.assertEqual(asks("dynamodb", "TransactWriteItems", json.dumps({"TransactItems": items}).encode()), expected)
        expected = [("dynamodb:Query", "table/a/index/i")]
        self.assertEqual(asks("dynamodb", "Query", b'{"TableName": "a", "IndexName": "i"}'), expected)
        expected = [("s3:GetObject", "b/k/l"), ("s3:ListBucket", "b")]
        self.assertEqual(asks("s3", "GetObject", b"", "/b/k/l"), expected)
        expected = [("rds:DescribeDBSnapshots", "db:*"), ("rds:DescribeDBSnapshots", "snapshot:s")]
        self.assertEqual(asks("rds", "DescribeDBSnapshots", b"Action=X&DBSnapshotIdentifier=s"), expected)


if __name__ == "__main__":
    unittest.main()
