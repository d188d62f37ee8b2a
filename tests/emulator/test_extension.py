"""Every addition to moto, seen through boto3.

    python -m unittest test_extension

uses the server at AWS_ENDPOINT_URL, or starts one.
"""

import fnmatch
import json
import os
import subprocess
import sys
import threading
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from botocore.exceptions import ClientError

from accounts import Accounts
from client import Observer
from state import state
from template import Stack, parsed
from world import seed

HERE = Path(__file__).parent
WORLDS = HERE.parent / "worlds"
REGION = "eu-west-1"
FREE_NAME = "not-taken"


class Emulated(unittest.TestCase):
    """Each test has an account of its own."""

    server = None
    number = os.getpid() % 100000 * 1000

    @classmethod
    def setUpClass(cls):
        if "AWS_ENDPOINT_URL" not in os.environ:
            Emulated.server = subprocess.Popen(
                [sys.executable, str(HERE / "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            port = json.loads(Emulated.server.stdout.readline())["port"]
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        cls.accounts = Accounts(os.environ["AWS_ENDPOINT_URL"])

    def setUp(self):
        Emulated.number += 1
        self.account = f"9{Emulated.number:011d}"
        self.ec2 = self.client("ec2")

    def client(self, service):
        return self.accounts.client(self.account, REGION, service)

    def seed(self, name):
        return seed(self.accounts, self.account, REGION, json.loads((WORLDS / f"{name}.json").read_text()))["ids"]

    def state(self):
        return state(self.accounts, self.account, REGION)

    def refused(self, code, call, **arguments):
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)


class Documents(unittest.TestCase):
    def test_a_document_is_written_as_it_was(self):
        import extension.speed  # noqa: F401
        import xmltodict

        documents = [
            {"a": None},
            {"a": ""},
            {"a": {"@xmlns": 'http://x"&/', "b": ["<1>", None, {"c": 2}], "d": [], "e": True, "f": {}}},
            {"a": {"#text": "x & y", "@n": None, "b": "ü"}},
            {"a": {"b": {"c": [{"d": "1"}, {"d": 1.5}]}, "g": b"bytes"}},
        ]
        for document in documents:
            for full in (True, False):
                for short in (True, False):
                    how = {"full_document": full, "short_empty_elements": short}
                    with self.subTest(document=document, **how):
                        # What is asked for in an unusual way is moto's own.
                        usual = xmltodict.unparse(document, comment_key="#comment", **how)
                        self.assertEqual(xmltodict.unparse(document, **how), usual)
        with self.assertRaises(ValueError):
            xmltodict.unparse({"a": {"b c": 1}})


class Interfaces(Emulated):
    def test_groups_are_exactly_what_was_set(self):
        ids = self.seed("web-server")
        for interface in ("eni_a", "eni_b", "eni_c"):
            self.ec2.modify_network_interface_attribute(
                NetworkInterfaceId=ids[interface], Groups=[ids["sg_lb"]]
            )
        seen = self.ec2.describe_network_interfaces(
            Filters=[{"Name": "attachment.instance-id", "Values": [ids["victim"]]}]
        )["NetworkInterfaces"]
        self.assertEqual([[g["GroupId"] for g in i["Groups"]] for i in seen], [[ids["sg_lb"]]] * 3)
        instance = self.ec2.describe_instances(InstanceIds=[ids["victim"]])["Reservations"][0]["Instances"][0]
        self.assertEqual([g["GroupId"] for g in instance["SecurityGroups"]], [ids["sg_lb"]])
        for interface in instance["NetworkInterfaces"]:
            self.assertEqual([g["GroupId"] for g in interface["Groups"]], [ids["sg_lb"]])
        found = self.ec2.describe_network_interfaces(Filters=[{"Name": "group-id", "Values": [ids["sg_lb"]]}])
        self.assertEqual(len(found["NetworkInterfaces"]), 3)

    def test_groups_must_exist_in_the_vpc(self):
        ids = self.seed("squatted-group")
        modify = self.ec2.modify_network_interface_attribute
        self.refused("InvalidGroup.NotFound", modify, NetworkInterfaceId=ids["eni_a"], Groups=["sg-0123456789abcdef0"])
        self.refused(
            "InvalidGroup.NotFound", modify, NetworkInterfaceId=ids["eni_a"], Groups=[ids["sg_squatted_other"]]
        )
        self.refused(
            "InvalidNetworkInterfaceID.NotFound",
            modify,
            NetworkInterfaceId="eni-0123456789abcdef0",
            Groups=[ids["sg_web"]],
        )
        self.refused(
            "InvalidParameterCombination",
            modify,
            NetworkInterfaceId=ids["eni_a"],
            Groups=[ids["sg_web"]],
            AssociatePublicIpAddress=False,
        )

    def test_groups_of_an_instance_only_with_one_interface(self):
        ids = self.seed("squatted-group")
        modify = self.ec2.modify_instance_attribute
        self.refused("InvalidInstanceID", modify, InstanceId=ids["victim"], Groups=[ids["sg_web"]])
        self.refused("InvalidInstanceID.NotFound", modify, InstanceId="i-0123456789abcdef0", Groups=[ids["sg_web"]])

    def test_groups_of_an_instance_are_those_of_its_interface(self):
        ids = self.seed("single-interface")
        group = self.ec2.create_security_group(GroupName="other", Description="other", VpcId=ids["vpc"])["GroupId"]
        self.ec2.modify_instance_attribute(InstanceId=ids["victim"], Groups=[group])
        self.assertEqual(self.state()["interfaces"][ids["eni_a"]]["groups"], [group])
        self.assertEqual(self.state()["instances"][ids["victim"]]["security_groups"], [group])

    def test_connection_tracking(self):
        ids = self.seed("web-server")
        modify = self.ec2.modify_network_interface_attribute
        modify(NetworkInterfaceId=ids["eni_a"], ConnectionTrackingSpecification={"TcpEstablishedTimeout": 60})
        modify(NetworkInterfaceId=ids["eni_a"], ConnectionTrackingSpecification={"UdpTimeout": 30})
        self.assertEqual(
            self.state()["interfaces"][ids["eni_a"]]["tracking"], {"TcpEstablishedTimeout": 60, "UdpTimeout": 30}
        )
        instance = self.ec2.describe_instances(InstanceIds=[ids["victim"]])["Reservations"][0]["Instances"][0]
        shown = {i["NetworkInterfaceId"]: i.get("ConnectionTrackingConfiguration") for i in instance["NetworkInterfaces"]}
        self.assertEqual(shown[ids["eni_c"]], {"TcpEstablishedTimeout": 86400})
        self.assertIsNone(shown[ids["eni_b"]])
        self.refused(
            "InvalidParameterValue",
            modify,
            NetworkInterfaceId=ids["eni_a"],
            ConnectionTrackingSpecification={"TcpEstablishedTimeout": 1},
        )


class PublicAddresses(Emulated):
    def public(self, ids, interface):
        return self.state()["interfaces"][ids[interface]]["addresses"][0]

    def test_automatic_address_is_removed_and_given_again(self):
        ids = self.seed("web-server")
        before = self.public(ids, "eni_a")
        self.assertEqual(before["kind"], "automatic")
        modify = self.ec2.modify_network_interface_attribute
        modify(NetworkInterfaceId=ids["eni_a"], AssociatePublicIpAddress=False)
        self.assertIsNone(self.public(ids, "eni_a")["public"])
        instance = self.ec2.describe_instances(InstanceIds=[ids["victim"]])["Reservations"][0]["Instances"][0]
        self.assertNotIn("PublicIpAddress", instance)
        modify(NetworkInterfaceId=ids["eni_a"], AssociatePublicIpAddress=True)
        after = self.public(ids, "eni_a")
        self.assertEqual(after["kind"], "automatic")
        self.assertNotEqual(after["public"], before["public"])
        modify(NetworkInterfaceId=ids["eni_c"], AssociatePublicIpAddress=True)
        self.assertIsNone(self.public(ids, "eni_c")["public"])

    def test_elastic_address_of_an_interface(self):
        ids = self.seed("web-server")
        for name, value in (("instance-id", ids["victim"]), ("network-interface-id", ids["eni_b"])):
            found = self.ec2.describe_addresses(Filters=[{"Name": name, "Values": [value]}])["Addresses"]
            self.assertEqual([a["AllocationId"] for a in found], [ids["eip_b"]])
        associate = self.ec2.associate_address
        self.refused(
            "Resource.AlreadyAssociated",
            associate,
            AllocationId=ids["eip_b"],
            NetworkInterfaceId=ids["eni_c"],
            AllowReassociation=False,
        )
        self.refused(
            "Resource.AlreadyAssociated", associate, AllocationId=ids["eip_spare"], NetworkInterfaceId=ids["eni_b"]
        )
        before = self.state()
        self.ec2.disassociate_address(AssociationId=found[0]["AssociationId"])
        self.assertIsNone(self.public(ids, "eni_b")["public"])
        self.assertIsNone(self.state()["addresses"][ids["eip_b"]]["interface"])
        self.refused(
            "InvalidAssociationID.NotFound", self.ec2.disassociate_address, AssociationId=found[0]["AssociationId"]
        )
        associate(
            AllocationId=ids["eip_b"],
            NetworkInterfaceId=ids["eni_b"],
            PrivateIpAddress=found[0]["PrivateIpAddress"],
            AllowReassociation=False,
        )
        self.assertEqual(self.state(), before)

    def test_elastic_address_of_a_secondary_private_address(self):
        ids = self.seed("web-server")
        self.ec2.assign_private_ip_addresses(NetworkInterfaceId=ids["eni_a"], PrivateIpAddresses=["10.20.1.200"])
        self.ec2.associate_address(
            AllocationId=ids["eip_spare"], NetworkInterfaceId=ids["eni_a"], PrivateIpAddress="10.20.1.200"
        )
        kinds = {a["private"]: a["kind"] for a in self.state()["interfaces"][ids["eni_a"]]["addresses"]}
        self.assertEqual(kinds, {"10.20.1.101": "automatic", "10.20.1.200": "elastic"})
        self.assertEqual(self.state()["addresses"][ids["eip_spare"]]["private"], "10.20.1.200")


class Instances(Emulated):
    def attributes(self, ids):
        return self.state()["instances"][ids["victim"]]["attributes"]

    def test_protection(self):
        ids = self.seed("single-interface")
        modify = self.ec2.modify_instance_attribute
        modify(InstanceId=ids["victim"], DisableApiTermination={"Value": True})
        self.refused("OperationNotPermitted", self.ec2.terminate_instances, InstanceIds=[ids["victim"]])
        modify(InstanceId=ids["victim"], DisableApiTermination={"Value": False})
        modify(InstanceId=ids["victim"], DisableApiStop={"Value": True})
        self.refused("OperationNotPermitted", self.ec2.stop_instances, InstanceIds=[ids["victim"]])
        self.refused("OperationNotPermitted", self.ec2.terminate_instances, InstanceIds=[ids["victim"]])
        modify(InstanceId=ids["victim"], InstanceInitiatedShutdownBehavior={"Value": "terminate"})
        self.assertEqual(
            self.attributes(ids),
            {
                "disableApiTermination": False,
                "disableApiStop": True,
                "instanceInitiatedShutdownBehavior": "terminate",
            },
        )
        self.refused(
            "InvalidParameterCombination",
            modify,
            InstanceId=ids["victim"],
            DisableApiStop={"Value": False},
            DisableApiTermination={"Value": False},
        )

    def test_launched_with_protection(self):
        ids = self.seed("no-profile")
        self.assertTrue(self.attributes(ids)["disableApiTermination"])
        self.assertTrue(self.attributes(ids)["disableApiStop"])

    def test_spot_refuses_protection(self):
        ids = self.seed("spot")
        self.assertEqual(self.state()["instances"][ids["victim"]]["lifecycle"], "spot")
        modify = self.ec2.modify_instance_attribute
        for attribute in ("DisableApiTermination", "DisableApiStop"):
            self.refused("UnsupportedOperation", modify, InstanceId=ids["victim"], **{attribute: {"Value": True}})
            modify(InstanceId=ids["victim"], **{attribute: {"Value": False}})

    def test_managed_by_an_operator(self):
        ids = self.seed("managed-by-operator")
        shown = self.state()["instances"][ids["victim"]]["operator"]
        self.assertEqual(shown, {"Managed": True, "Principal": "eks.amazonaws.com"})
        self.refused(
            "OperationNotPermitted",
            self.ec2.modify_instance_attribute,
            InstanceId=ids["victim"],
            DisableApiStop={"Value": True},
        )
        self.refused(
            "OperationNotPermitted",
            self.ec2.modify_network_interface_attribute,
            NetworkInterfaceId=ids["eni_b"],
            Groups=[ids["sg_web"]],
        )

    def test_delete_on_termination_of_a_device(self):
        ids = self.seed("single-interface")
        modify = self.ec2.modify_instance_attribute
        modify(
            InstanceId=ids["victim"],
            BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": False}}],
        )
        self.assertEqual(
            self.state()["instances"][ids["victim"]]["delete_on_termination"], {"/dev/sda1": False, "/dev/sdf": False}
        )
        self.refused(
            "InvalidInstanceAttributeValue",
            modify,
            InstanceId=ids["victim"],
            BlockDeviceMappings=[{"DeviceName": "/dev/sdz", "Ebs": {"DeleteOnTermination": False}}],
        )

    def test_replaced_profile_is_shown(self):
        ids = self.seed("single-interface")
        iam = self.client("iam")
        other = iam.create_instance_profile(InstanceProfileName="deny-all")["InstanceProfile"]
        instance = [{"Name": "instance-id", "Values": [ids["victim"]]}]
        association = self.ec2.describe_iam_instance_profile_associations(Filters=instance)[
            "IamInstanceProfileAssociations"
        ][0]
        replaced = self.ec2.replace_iam_instance_profile_association(
            AssociationId=association["AssociationId"], IamInstanceProfile={"Arn": other["Arn"]}
        )["IamInstanceProfileAssociation"]
        self.assertNotEqual(replaced["AssociationId"], association["AssociationId"])
        shown = self.ec2.describe_instances(InstanceIds=[ids["victim"]])["Reservations"][0]["Instances"][0]
        self.assertEqual(
            shown["IamInstanceProfile"], {"Arn": other["Arn"], "Id": other["InstanceProfileId"]}
        )

    def test_metadata_options_keep_what_is_not_given(self):
        ids = self.seed("web-server")
        self.ec2.modify_instance_metadata_options(InstanceId=ids["victim"], HttpEndpoint="disabled")
        shown = self.state()["instances"][ids["victim"]]["metadata"]
        self.assertEqual((shown["HttpEndpoint"], shown["HttpPutResponseHopLimit"]), ("disabled", 2))

    def test_terminated_instance_has_no_interfaces(self):
        ids = self.seed("terminated")
        shown = self.state()
        self.assertEqual(shown["instances"][ids["victim"]]["interfaces"], [])
        self.assertNotIn(ids["eni_a"], shown["interfaces"])
        self.assertEqual(list(shown["volumes"]), [ids["vol_data"]])
        self.refused(
            "InvalidInstanceID.NotFound", self.ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"]
        )

    def test_paging(self):
        self.seed("web-server")
        pages = self.ec2.get_paginator("describe_network_interfaces").paginate(PaginationConfig={"PageSize": 5})
        sizes = [len(page["NetworkInterfaces"]) for page in pages]
        self.assertEqual(sizes, [5, 1])


class SecurityGroups(Emulated):
    def test_a_new_group_allows_everything_out(self):
        ids = self.seed("squatted-group")
        self.refused(
            "InvalidGroup.Duplicate",
            self.ec2.create_security_group,
            GroupName="firebreak-quarantine",
            Description="x",
            VpcId=ids["vpc"],
        )
        group = self.ec2.create_security_group(GroupName=FREE_NAME, Description="x", VpcId=ids["vpc"])["GroupId"]
        filters = [{"Name": "group-id", "Values": [group]}]
        rules = self.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        self.assertEqual(
            sorted(rule.get("CidrIpv4") or rule["CidrIpv6"] for rule in rules), ["0.0.0.0/0", "::/0"]
        )
        self.ec2.revoke_security_group_egress(
            GroupId=group, SecurityGroupRuleIds=[rule["SecurityGroupRuleId"] for rule in rules]
        )
        self.assertEqual(self.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"], [])
        shown = self.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
        self.assertEqual((shown["IpPermissions"], shown["IpPermissionsEgress"]), ([], []))

    def test_a_group_that_is_used_or_referred_to_cannot_be_deleted(self):
        ids = self.seed("single-interface")
        make = lambda name: self.ec2.create_security_group(GroupName=name, Description="x", VpcId=ids["vpc"])["GroupId"]
        group, other = make("one"), make("two")
        delete = lambda: self.ec2.delete_security_group(GroupId=group)
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=ids["eni_a"], Groups=[group])
        self.refused("DependencyViolation", delete)
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=ids["eni_a"], Groups=[ids["sg_web"]])
        refers = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": group}]}]
        self.ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=refers)
        self.refused("DependencyViolation", delete)
        self.ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=refers)
        delete()
        self.refused("InvalidGroup.NotFound", delete)


class Snapshots(Emulated):
    def make(self, ids, **spec):
        return self.ec2.create_snapshots(
            InstanceSpecification={"InstanceId": ids["victim"], **spec},
            Description="case",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "case", "Value": "one"}]}],
        )["Snapshots"]

    def test_all_volumes_with_tags(self):
        ids = self.seed("web-server")
        made = self.make(ids)
        self.assertEqual({s["VolumeId"] for s in made}, {ids["vol_root"], ids["vol_data"], ids["vol_logs"]})
        self.assertEqual(made[0]["Tags"], [{"Key": "case", "Value": "one"}])
        self.assertEqual({s["VolumeId"] for s in self.make(ids, ExcludeBootVolume=True)}, {ids["vol_data"], ids["vol_logs"]})
        self.assertEqual(
            {s["VolumeId"] for s in self.make(ids, ExcludeDataVolumeIds=[ids["vol_data"]])},
            {ids["vol_root"], ids["vol_logs"]},
        )
        found = self.ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:case", "Values": ["one"]}])
        self.assertEqual(len(found["Snapshots"]), 7)
        self.assertEqual(self.ec2.describe_snapshots(OwnerIds=["111111111111"])["Snapshots"], [])
        volumes = self.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [ids["victim"]]}])
        self.assertEqual(len(volumes["Volumes"]), 3)

    def test_lock(self):
        ids = self.seed("single-interface")
        snapshot = self.make(ids)[0]["SnapshotId"]
        lock = self.ec2.lock_snapshot
        locked = lock(SnapshotId=snapshot, LockMode="governance", LockDuration=30)
        self.assertEqual((locked["LockState"], locked["LockDuration"]), ("governance", 30))
        self.assertEqual(locked["LockExpiresOn"].date().toordinal() - locked["LockCreatedOn"].date().toordinal(), 30)
        self.refused("OperationNotPermitted", self.ec2.delete_snapshot, SnapshotId=snapshot)
        self.ec2.unlock_snapshot(SnapshotId=snapshot)
        lock(SnapshotId=snapshot, LockMode="compliance", LockDuration=7, CoolOffPeriod=2)
        shown = self.ec2.describe_locked_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        self.assertEqual((shown["LockState"], shown["CoolOffPeriod"]), ("compliance-cooloff", 2))
        lock(SnapshotId=snapshot, LockMode="compliance", LockDuration=7)
        self.refused("UnsupportedOperation", self.ec2.unlock_snapshot, SnapshotId=snapshot)
        self.refused("UnsupportedOperation", lock, SnapshotId=snapshot, LockMode="compliance", LockDuration=6)
        lock(SnapshotId=snapshot, LockMode="compliance", LockDuration=8)
        self.refused(
            "InvalidSnapshot.NotFound",
            lock,
            SnapshotId="snap-0123456789abcdef0",
            LockMode="governance",
            LockDuration=1,
        )
        self.refused("InvalidParameterCombination", lock, SnapshotId=snapshot, LockMode="compliance")


class SnapshotStates(Emulated):
    def test_a_snapshot_is_in_the_state_that_ec2_brings_about(self):
        volume = self.ec2.create_volume(AvailabilityZone=REGION + "a", Size=1)["VolumeId"]
        snapshot = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        for state, message in (("pending", None), ("error", "the key is disabled"), ("completed", None)):
            given = {"account": self.account, "region": REGION, "snapshot": snapshot, "state": state, "message": message}
            self.accounts.door("ec2/snapshots", "POST", json.dumps(given).encode())
            seen = self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
            self.assertEqual((seen["State"], seen.get("StateMessage") or None), (state, message))


class SharedSnapshots(Emulated):
    def of(self, snapshot):
        answer = self.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
        return answer["CreateVolumePermissions"]

    def public(self, **more):
        answer = self.ec2.describe_snapshots(OwnerIds=["self"], RestorableByUserIds=["all"], **more)
        return [s["SnapshotId"] for s in answer["Snapshots"]], answer.get("NextToken")

    def test_public_ones_are_those_of_all(self):
        ids = self.seed("public-snapshot")
        self.assertEqual(self.public(), ([ids["victim"]], None))
        describe = self.ec2.describe_snapshots
        to_one = describe(OwnerIds=["self"], RestorableByUserIds=["444455556666"])["Snapshots"]
        self.assertEqual([s["SnapshotId"] for s in to_one], [ids["neighbour"]])
        self.assertEqual(len(describe(OwnerIds=["self"], RestorableByUserIds=["self"])["Snapshots"]), 2)
        self.assertEqual(len(describe(OwnerIds=["self"])["Snapshots"]), 2)
        self.assertEqual(self.ec2.describe_volumes()["Volumes"], [])

    def test_public_ones_in_pages(self):
        ids = self.seed("many-public-snapshots")
        first, token = self.public(MaxResults=5)
        rest, end = self.public(MaxResults=5, NextToken=token)
        self.assertEqual((len(first), len(rest), end), (5, 2, None))
        self.assertEqual(set(first + rest), set(ids.values()))

    def test_permissions_are_added_and_removed(self):
        snapshot, every = self.seed("public-and-shared-snapshot")["victim"], {"Group": "all"}
        modify, one = self.ec2.modify_snapshot_attribute, {"UserId": "444455556666"}
        which = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
        self.assertCountEqual(self.of(snapshot), [every, one])
        modify(**which, OperationType="remove", GroupNames=["all"])
        self.assertEqual(self.of(snapshot), [one])
        self.assertEqual(self.state()["snapshots"][snapshot]["shared"], {"public": False, "accounts": ["444455556666"]})
        self.assertEqual(self.public(), ([], None))
        modify(**which, OperationType="remove", GroupNames=["all"])
        modify(**which, OperationType="add", GroupNames=["all"])
        modify(**which, OperationType="add", UserIds=["111122223333"])
        modify(**which, OperationType="remove", UserIds=["444455556666"])
        self.assertCountEqual(self.of(snapshot), [every, {"UserId": "111122223333"}])
        modify(**which, CreateVolumePermission={"Remove": [every, {"UserId": "111122223333"}]})
        self.assertEqual(self.of(snapshot), [])
        modify(**which, CreateVolumePermission={"Add": [every]})
        self.assertEqual(self.of(snapshot), [every])
        codes = self.ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="productCodes")
        self.assertNotIn("CreateVolumePermissions", codes)

    def test_a_snapshot_that_is_gone(self):
        which = {"SnapshotId": self.seed("gone-snapshot")["victim"], "Attribute": "createVolumePermission"}
        code = "InvalidSnapshot.NotFound"
        self.refused(code, self.ec2.describe_snapshots, SnapshotIds=[which["SnapshotId"]])
        self.refused(code, self.ec2.describe_snapshot_attribute, **which)
        self.refused(code, self.ec2.modify_snapshot_attribute, **which, OperationType="remove", GroupNames=["all"])
        self.assertEqual(self.state()["snapshots"], {})


class DatabaseSnapshots(Emulated):
    """Of an instance, and of a cluster: the same calls under two names."""

    def setUp(self):
        super().setUp()
        self.rds = rds = self.client("rds")
        self.kinds = {
            "DBSnapshot": (
                rds.describe_db_snapshots, rds.describe_db_snapshot_attributes, rds.modify_db_snapshot_attribute,
            ),
            "DBClusterSnapshot": (
                rds.describe_db_cluster_snapshots,
                rds.describe_db_cluster_snapshot_attributes,
                rds.modify_db_cluster_snapshot_attribute,
            ),
        }

    def make(self, kind, **spec):
        spec = {"cluster": kind == "DBClusterSnapshot", **spec}
        world = {"db_snapshots": {"victim": {"name": "shop-" + kind.lower(), **spec}}}
        return seed(self.accounts, self.account, REGION, world)["ids"]["victim"]

    def values(self, kind, name):
        result = self.kinds[kind][1](**{f"{kind}Identifier": name})[f"{kind}AttributesResult"]
        self.assertEqual(result[f"{kind}Identifier"], name)
        (one,) = result[f"{kind}Attributes"]
        self.assertEqual(one["AttributeName"], "restore")
        return one["AttributeValues"]

    def database(self, kind):
        login = {"MasterUsername": "shop", "MasterUserPassword": "not-a-secret-1A"}
        if kind == "DBClusterSnapshot":
            self.rds.create_db_cluster(DBClusterIdentifier="shop", Engine="aurora-postgresql", **login)
        else:
            size = {"DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20}
            self.rds.create_db_instance(DBInstanceIdentifier="shop", Engine="postgres", **size, **login)
        (automated,) = self.kinds[kind][0](SnapshotType="automated")[f"{kind}s"]
        return automated[f"{kind}Identifier"]

    def test_a_world_leaves_a_snapshot_and_no_database(self):
        ids = self.seed("public-db-snapshot")
        self.assertEqual(ids["victim"], "shop-before-move")
        self.assertEqual(ids["victim.arn"], f"arn:aws:rds:{REGION}:{self.account}:snapshot:shop-before-move")
        (shown,) = self.rds.describe_db_snapshots(DBSnapshotIdentifier=ids["victim"])["DBSnapshots"]
        self.assertEqual((shown["DBSnapshotArn"], shown["SnapshotType"]), (ids["victim.arn"], "manual"))
        self.assertCountEqual(shown["TagList"], [{"Key": "team", "Value": "shop"}, {"Key": "service", "Value": "orders"}])
        self.assertEqual(self.rds.describe_db_instances()["DBInstances"], [])
        manual = {"cluster": False, "encrypted": False, "type": "manual"}
        tags = {"team": "shop", "service": "orders"}
        self.assertEqual(
            self.state()["db_snapshots"],
            {
                "shop-before-move": {**manual, "shared": {"public": True, "accounts": []}, "tags": tags},
                "stock-before-move": {**manual, "shared": {"public": False, "accounts": ["444455556666"]}, "tags": {}},
            },
        )

    def test_a_world_leaves_a_snapshot_and_no_cluster(self):
        ids = self.seed("public-db-cluster-snapshot")
        self.assertEqual(ids["victim.arn"], f"arn:aws:rds:{REGION}:{self.account}:cluster-snapshot:shop-before-move")
        self.assertEqual(self.rds.describe_db_clusters()["DBClusters"], [])
        (shown,) = self.rds.describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=ids["victim"])["DBClusterSnapshots"]
        self.assertCountEqual(shown["TagList"], [{"Key": "team", "Value": "shop"}, {"Key": "service", "Value": "orders"}])
        state = self.state()["db_snapshots"]
        self.assertEqual(list(state), ["shop-before-move", "stock-before-move"])
        self.assertTrue(state["shop-before-move"]["cluster"] and state["shop-before-move"]["shared"]["public"])
        self.assertEqual(state["stock-before-move"]["shared"], {"public": False, "accounts": ["444455556666"]})

    def test_values_are_added_and_removed_and_nothing_else_changes(self):
        for kind, (describe, _, modify) in self.kinds.items():
            with self.subTest(kind):
                name = self.make(kind, tags={"team": "shop"})
                which = {f"{kind}Identifier": name, "AttributeName": "restore"}
                before = describe(**{f"{kind}Identifier": name})[f"{kind}s"]
                self.assertEqual(self.values(kind, name), [])
                modify(**which, ValuesToAdd=["all", "444455556666"])
                modify(**which, ValuesToAdd=["all", "111122223333", "111122223333"])
                self.assertCountEqual(self.values(kind, name), ["all", "444455556666", "111122223333"])
                answer = modify(**which, ValuesToRemove=["all"])[f"{kind}AttributesResult"]
                self.assertCountEqual(answer[f"{kind}Attributes"][0]["AttributeValues"], ["444455556666", "111122223333"])
                modify(**which, ValuesToRemove=["all"])
                modify(**which, ValuesToAdd=["all"], ValuesToRemove=["444455556666", "111122223333"])
                self.assertEqual(self.values(kind, name), ["all"])
                self.assertEqual(describe(**{f"{kind}Identifier": name})[f"{kind}s"], before)
                both = {**which, "ValuesToAdd": ["all"], "ValuesToRemove": ["all"]}
                self.refused("InvalidParameterCombination", modify, **both)
                self.refused("InvalidParameterValue", modify, **{**which, "AttributeName": "copy"}, ValuesToAdd=["all"])

    def test_an_encrypted_snapshot_is_not_for_all(self):
        codes = {"DBSnapshot": "InvalidDBSnapshotState", "DBClusterSnapshot": "InvalidDBClusterSnapshotStateFault"}
        for kind, (_, _, modify) in self.kinds.items():
            with self.subTest(kind):
                name = self.make(kind, encrypted=True, accounts=["444455556666"])
                which = {f"{kind}Identifier": name, "AttributeName": "restore"}
                self.refused(codes[kind], modify, **which, ValuesToAdd=["all", "111122223333"])
                self.assertEqual(self.values(kind, name), ["444455556666"])
                modify(**which, ValuesToRemove=["all"])
                self.assertTrue(self.state()["db_snapshots"][name]["encrypted"])

    def test_an_automated_snapshot_is_not_shared(self):
        codes = {"DBSnapshot": "InvalidParameterValue", "DBClusterSnapshot": "InvalidDBClusterSnapshotStateFault"}
        for kind, (_, _, modify) in self.kinds.items():
            with self.subTest(kind):
                name = self.database(kind)
                self.assertTrue(name.startswith("rds:shop-"))
                for values in ({"ValuesToAdd": ["444455556666"]}, {"ValuesToRemove": ["all"]}):
                    self.refused(codes[kind], modify, **{f"{kind}Identifier": name}, AttributeName="restore", **values)
                self.assertEqual(self.values(kind, name), [])

    def test_the_state_knows_an_automated_one(self):
        name = self.database("DBSnapshot")
        nobody = {"public": False, "accounts": []}
        automated = {"cluster": False, "shared": nobody, "encrypted": False, "type": "automated", "tags": {}}
        self.assertEqual(self.state()["db_snapshots"], {name: automated})

    def test_automated_snapshots_go_with_their_cluster(self):
        for kept in (False, True):
            name = self.database("DBClusterSnapshot")
            self.rds.create_db_cluster_snapshot(DBClusterIdentifier="shop", DBClusterSnapshotIdentifier=f"kept-{kept}")
            delete = {"DBClusterIdentifier": "shop", "SkipFinalSnapshot": True}
            self.rds.delete_db_cluster(**delete, **({"DeleteAutomatedBackups": False} if kept else {}))
            left = self.rds.describe_db_cluster_snapshots()["DBClusterSnapshots"]
            names = [s["DBClusterSnapshotIdentifier"] for s in left]
            self.assertEqual((name in names, f"kept-{kept}".lower() in names), (kept, True))

    def test_a_snapshot_that_is_gone(self):
        for kind, world, code in (
            ("DBSnapshot", "gone-db-snapshot", "DBSnapshotNotFound"),
            ("DBClusterSnapshot", "gone-db-cluster-snapshot", "DBClusterSnapshotNotFoundFault"),
        ):
            with self.subTest(kind):
                which = {f"{kind}Identifier": self.seed(world)["victim"]}
                describe, attributes, modify = self.kinds[kind]
                self.refused(code, describe, **which)
                self.refused(code, attributes, **which)
                self.refused(code, modify, **which, AttributeName="restore", ValuesToRemove=["all"])
                self.assertEqual(describe()[f"{kind}s"], [])
        self.assertEqual(self.state()["db_snapshots"], {})


class Trails(Emulated):
    def setUp(self):
        super().setUp()
        self.trail = self.client("cloudtrail")

    def test_a_trail_is_changed_by_its_arn_and_in_nothing_else(self):
        ids = self.seed("stopped-and-unsigned-trail")
        arn, before = ids["victim.arn"], self.state()["trails"]
        self.assertFalse(self.trail.get_trail_status(Name=arn)["IsLogging"])
        self.trail.start_logging(Name=arn)
        self.assertTrue(self.trail.get_trail_status(Name=arn)["IsLogging"])
        self.assertTrue(self.trail.update_trail(Name=arn, EnableLogFileValidation=True)["LogFileValidationEnabled"])
        after = {**before["audit"], "recording": True, "validated": True}
        self.assertEqual(self.state()["trails"], {"audit": after})
        self.trail.update_trail(Name=arn, EnableLogFileValidation=False)
        self.trail.stop_logging(Name=arn)
        self.assertEqual(self.state()["trails"], before)

    def test_trails_are_described_by_name_or_arn(self):
        ids = self.seed("another-records")
        arn, describe = ids["victim.arn"], self.trail.describe_trails

        def names(**which):
            return sorted(t["Name"] for t in describe(**which)["trailList"])

        self.assertEqual(names(includeShadowTrails=False), ["audit", "everywhere"])
        self.assertEqual(names(trailNameList=[arn]), ["audit"])
        self.assertEqual(names(trailNameList=["everywhere"], includeShadowTrails=False), ["everywhere"])
        self.assertEqual(names(trailNameList=[arn + "-2"]), [])
        self.assertEqual(names(trailNameList=["audit", arn + "-2"]), ["audit"])
        (shown,) = describe(trailNameList=[arn])["trailList"]
        self.assertEqual((shown["TrailARN"], shown["HomeRegion"]), (arn, REGION))
        self.assertNotIn("KmsKeyId", shown)

    def test_a_trail_is_changed_at_home_only(self):
        ids = self.seed("another-records")
        arn, away = ids["victim.arn"], self.accounts.client(self.account, "us-east-1", "cloudtrail")
        self.assertEqual(len(away.describe_trails()["trailList"]), 2)
        self.assertEqual(away.describe_trails(includeShadowTrails=False)["trailList"], [])
        self.assertEqual(away.describe_trails(trailNameList=["audit"])["trailList"], [])
        self.assertEqual(len(away.describe_trails(trailNameList=[arn])["trailList"]), 1)
        self.assertFalse(away.get_trail_status(Name=arn)["IsLogging"])
        self.refused("TrailNotFoundException", away.get_trail_status, Name="audit")
        for call in (away.start_logging, away.stop_logging, away.update_trail, away.delete_trail):
            self.refused("InvalidHomeRegionException", call, Name=arn)
            self.refused("TrailNotFoundException", call, Name="audit")
        self.assertEqual(state(self.accounts, self.account, "us-east-1")["trails"], {})

    def test_a_trail_that_is_gone(self):
        arn, trail = self.seed("gone-trail")["victim.arn"], self.trail
        self.assertEqual(trail.describe_trails(trailNameList=[arn])["trailList"], [])
        for call in (trail.get_trail_status, trail.start_logging, trail.stop_logging, trail.delete_trail):
            self.refused("TrailNotFoundException", call, Name=arn)
        self.refused("TrailNotFoundException", trail.update_trail, Name=arn, EnableLogFileValidation=True)
        self.refused("ResourceNotFoundException", trail.list_tags, ResourceIdList=[arn])

    def test_tags_of_a_trail(self):
        ids = self.seed("stopped-trail")
        arn = ids["victim.arn"]
        (listed,) = self.trail.list_tags(ResourceIdList=[arn])["ResourceTagList"]
        self.assertEqual(listed, {"ResourceId": arn, "TagsList": [{"Key": "team", "Value": "security"}]})
        self.trail.delete_trail(Name=arn)
        self.trail.create_trail(Name=ids["victim"], S3BucketName=f"audit-logs-{self.account}")
        self.assertEqual(self.trail.list_tags(ResourceIdList=[arn])["ResourceTagList"][0]["TagsList"], [])


class InterfaceTypes(Emulated):
    def test_a_trunk_is_a_trunk(self):
        ids = self.seed("single-interface")
        made = self.ec2.create_network_interface(SubnetId=ids["subnet_a"], InterfaceType="trunk")["NetworkInterface"]
        seen = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[made["NetworkInterfaceId"]])
        self.assertEqual(seen["NetworkInterfaces"][0]["InterfaceType"], "trunk")
        self.refused(
            "InvalidParameterValue",
            self.ec2.create_network_interface,
            SubnetId=ids["subnet_a"],
            InterfaceType="other",
        )


class Scaling(Emulated):
    def setUp(self):
        super().setUp()
        self.scaling = self.client("autoscaling")

    def detach(self, ids, decrement):
        return self.scaling.detach_instances(
            AutoScalingGroupName=ids["asg"], InstanceIds=[ids["victim"]], ShouldDecrementDesiredCapacity=decrement
        )["Activities"]

    def test_detached_instance_is_replaced_and_deregistered(self):
        ids = self.seed("web-server")
        before = self.state()
        self.assertEqual(len(self.detach(ids, False)), 1)
        after = self.state()
        group, was = after["auto_scaling_groups"]["asg"], before["auto_scaling_groups"]["asg"]
        self.assertNotIn(ids["victim"], group["instances"])
        self.assertEqual((group["desired"], len(group["instances"])), (was["desired"], len(was["instances"])))
        self.assertEqual(after["instances"][ids["victim"]]["state"], "running")
        targets = after["target_groups"][ids["tg_instance"]]["targets"]
        # The registration on another port was not made by the group, so it is still there.
        self.assertEqual([t for t in targets if t[0] == ids["victim"]], [[ids["victim"], 8443]])
        self.assertEqual(
            {t[0] for t in targets if t[1] == 8080}, set(group["instances"]), "the replacement is registered"
        )
        self.scaling.attach_instances(AutoScalingGroupName=ids["asg"], InstanceIds=[ids["victim"]])
        group = self.state()["auto_scaling_groups"]["asg"]
        self.assertEqual((group["desired"], len(group["instances"])), (was["desired"] + 1, len(was["instances"]) + 1))
        self.assertIn([ids["victim"], 8080], self.state()["target_groups"][ids["tg_instance"]]["targets"])
        self.refused(
            "ValidationError",
            self.scaling.attach_instances,
            AutoScalingGroupName=ids["asg"],
            InstanceIds=[ids["victim"]],
        )

    def test_attaching_beyond_the_maximum_is_refused(self):
        ids = self.seed("asg-at-maximum")
        self.assertIn(ids["victim"], self.state()["classic_load_balancers"]["clb"])
        self.detach(ids, False)
        self.assertNotIn(ids["victim"], self.state()["classic_load_balancers"]["clb"])
        before = self.state()
        self.refused(
            "ValidationError",
            self.scaling.attach_instances,
            AutoScalingGroupName=ids["asg"],
            InstanceIds=[ids["victim"]],
        )
        self.assertEqual(self.state(), before)
        with self.assertRaises(ClientError) as caught:
            self.detach(ids, False)
        self.assertEqual(caught.exception.response["Error"]["Code"], "ValidationError")

    def test_detach_with_decrement_makes_room(self):
        ids = self.seed("asg-at-maximum")
        before = self.state()
        self.detach(ids, True)
        self.scaling.attach_instances(AutoScalingGroupName=ids["asg"], InstanceIds=[ids["victim"]])
        self.assertEqual(self.state(), before)

    def test_instances_in_pages(self):
        ids = self.seed("web-server")
        pages = self.scaling.get_paginator("describe_auto_scaling_instances").paginate(PaginationConfig={"PageSize": 2})
        found = [i["InstanceId"] for page in pages for i in page["AutoScalingInstances"]]
        self.assertEqual(len(found), 3)
        one = self.scaling.describe_auto_scaling_instances(InstanceIds=[ids["victim"]])["AutoScalingInstances"]
        self.assertEqual([i["AutoScalingGroupName"] for i in one], ["asg"])


class Balancing(Emulated):
    def test_targets_by_id_and_port(self):
        ids = self.seed("web-server")
        elb = self.client("elbv2")
        before = self.state()
        address = before["interfaces"][ids["eni_b"]]["addresses"][0]["private"]
        for group, targets in (
            ("tg_instance", [{"Id": ids["victim"]}, {"Id": ids["victim"], "Port": 8443}]),
            ("tg_ip", [{"Id": address, "Port": 9000}]),
        ):
            elb.deregister_targets(TargetGroupArn=ids[group], Targets=targets)
            elb.deregister_targets(TargetGroupArn=ids[group], Targets=targets)
            health = elb.describe_target_health(TargetGroupArn=ids[group], Targets=targets)["TargetHealthDescriptions"]
            self.assertEqual({h["TargetHealth"]["State"] for h in health}, {"unused"})
            self.assertEqual(
                [t for t in self.state()["target_groups"][ids[group]]["targets"] if t[0] in (ids["victim"], address)],
                [],
            )
            elb.register_targets(TargetGroupArn=ids[group], Targets=targets)
        self.assertEqual(self.state(), before)

    def test_classic(self):
        ids = self.seed("web-server")
        elb = self.client("elb")
        before = self.state()
        one = {"LoadBalancerName": ids["clb"], "Instances": [{"InstanceId": ids["victim"]}]}
        elb.deregister_instances_from_load_balancer(**one)
        self.assertEqual(self.state()["classic_load_balancers"]["clb"], [ids["neighbour"]])
        elb.register_instances_with_load_balancer(**one)
        elb.register_instances_with_load_balancer(**one)
        self.assertEqual(self.state(), before)


class Findings(Emulated):
    DETAIL = {
        "schemaVersion": "2.0",
        "accountId": "222222222222",
        "region": REGION,
        "id": "a" * 32,
        "arn": f"arn:aws:guardduty:{REGION}:222222222222:detector/d/finding/{'a' * 32}",
        "type": "Backdoor:EC2/C&CActivity.B!DNS",
        "severity": 8,
        "title": "Text with <id> and $.detail",
        "description": "",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "resource": {
            "resourceType": "Instance",
            "instanceDetails": {"instanceId": "i-1", "networkInterfaces": [{"privateIpAddress": "10.0.0.1"}], "iamInstanceProfile": None},
        },
        "service": {"serviceName": "guardduty", "count": "3", "additionalInfo": {"threatListName": "x"}, "notOfTheModel": 1},
    }

    def put(self, detail):
        body = json.dumps({"account": self.account, "region": REGION, "detail": detail}).encode()
        return json.loads(self.accounts.door("guardduty/findings", "POST", body))["detectorId"]

    def test_a_finding_of_a_member_in_the_administrators_detector(self):
        detector = self.put(self.DETAIL)
        guardduty = self.client("guardduty")
        self.assertEqual(guardduty.list_detectors()["DetectorIds"], [detector])
        found = guardduty.get_findings(DetectorId=detector, FindingIds=["b" * 32, "a" * 32])["Findings"]
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["AccountId"], found[0]["Severity"], found[0]["Service"]["Count"]), ("222222222222", 8.0, 3))
        self.assertEqual(found[0]["Service"]["Archived"], False)
        self.assertEqual(json.loads(found[0]["Service"]["AdditionalInfo"]["Value"]), {"threatListName": "x"})
        self.assertEqual(guardduty.get_findings(DetectorId=detector, FindingIds=["b" * 32])["Findings"], [])
        self.refused("BadRequestException", guardduty.get_findings, DetectorId="f" * 32, FindingIds=["a" * 32])

    def test_archive_and_list(self):
        detector = self.put(self.DETAIL)
        guardduty = self.client("guardduty")
        active = {"Criterion": {"service.archived": {"Eq": ["false"]}}}

        def ids():
            return guardduty.list_findings(DetectorId=detector, FindingCriteria=active)["FindingIds"]

        self.assertEqual(ids(), ["a" * 32])
        guardduty.archive_findings(DetectorId=detector, FindingIds=["a" * 32])
        self.assertEqual(ids(), [])
        guardduty.unarchive_findings(DetectorId=detector, FindingIds=["a" * 32])
        self.assertEqual(ids(), ["a" * 32])

    def test_samples(self):
        guardduty = self.client("guardduty")
        detector = guardduty.create_detector(Enable=True)["DetectorId"]
        guardduty.create_sample_findings(DetectorId=detector, FindingTypes=["Trojan:EC2/DNSDataExfiltration"])
        ids = guardduty.list_findings(DetectorId=detector)["FindingIds"]
        found = guardduty.get_findings(DetectorId=detector, FindingIds=ids)["Findings"]
        self.assertEqual([f["Type"] for f in found], ["Trojan:EC2/DNSDataExfiltration"])


class Members(Emulated):
    def status(self, detector, account):
        answer = self.client("guardduty").get_members(DetectorId=detector, AccountIds=[account])
        return [m["RelationshipStatus"] for m in answer["Members"]], [u["AccountId"] for u in answer["UnprocessedAccounts"]]

    def test_an_account_is_a_member_once_the_administrator_has_made_it_one(self):
        guardduty = self.client("guardduty")
        detector = guardduty.create_detector(Enable=True)["DetectorId"]
        member = {"AccountId": "222222222222", "Email": "member@example.com"}
        self.assertEqual(self.status(detector, "222222222222"), ([], ["222222222222"]))
        # Not as an organization's administrator: the account would still have to be invited.
        guardduty.create_members(DetectorId=detector, AccountDetails=[member])
        self.assertEqual(self.status(detector, "222222222222"), (["Created"], []))
        manager = self.accounts.client(f"8{self.number:011d}", REGION, "guardduty")
        manager.enable_organization_admin_account(AdminAccountId=self.account)
        guardduty.create_members(DetectorId=detector, AccountDetails=[member])
        self.assertEqual(self.status(detector, "222222222222"), (["Enabled"], []))
        self.refused("BadRequestException", guardduty.get_members, DetectorId=detector, AccountIds=["1" * 12] * 51)


class Subscriptions(Emulated):
    def test_a_topic_counts_them(self):
        sns, sqs = self.client("sns"), self.client("sqs")
        topic = sns.create_topic(Name="t")["TopicArn"]

        def confirmed():
            return sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsConfirmed"]

        self.assertEqual(confirmed(), "0")
        sqs.create_queue(QueueName="q")
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{self.account}:q")
        self.assertEqual(confirmed(), "1")


class Delivery(Emulated):
    def test_the_whole_envelope_and_the_text_as_it_is(self):
        sqs, events = self.client("sqs"), self.client("events")
        queue = sqs.create_queue(QueueName="events")["QueueUrl"]
        events.put_rule(Name="r", EventPattern=json.dumps({"source": ["aws.guardduty"]}))
        events.put_rule(Name="off", EventPattern=json.dumps({"source": ["aws.guardduty"]}), State="DISABLED")
        for rule in ("r", "off"):
            events.put_targets(
                Rule=rule, Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{REGION}:{self.account}:events"}]
            )
        put = events.put_events(
            Entries=[
                {
                    "Source": "aws.guardduty",
                    "DetailType": "GuardDuty Finding",
                    "Detail": json.dumps(Findings.DETAIL),
                    "Resources": ["arn:aws:ec2:x"],
                }
            ]
        )
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
        self.assertEqual(len(messages), 1)
        event = json.loads(messages[0]["Body"])
        self.assertEqual(event["detail"], Findings.DETAIL)
        self.assertEqual(event["account"], self.account)
        self.assertEqual(event["id"], put["Entries"][0]["EventId"])
        self.assertEqual(
            set(event),
            {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"},
        )
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def test_a_pattern_looks_into_a_list_of_objects_one_by_one(self):
        sqs, events = self.client("sqs"), self.client("events")
        queue = sqs.create_queue(QueueName="events")["QueueUrl"]
        pattern = {"detail": {"findings": {"a": ["1"], "b": {"c": [{"suffix": "::x"}]}}}, "resources": [{"suffix": "/y"}]}
        events.put_rule(Name="r", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": f"arn:aws:sqs:{REGION}:{self.account}:events"}])

        def delivered(*findings, resources=("x", "x/y")):
            detail = json.dumps({"findings": list(findings)})
            entry = {"Source": "s", "DetailType": "t", "Detail": detail, "Resources": list(resources)}
            events.put_events(Entries=[entry])
            return len(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))

        wanted, other = {"a": "1", "b": {"c": "arn::x"}}, {"a": "2", "b": {"c": "arn::x"}}
        self.assertEqual(delivered(wanted), 1)
        self.assertEqual(delivered(other, wanted), 1)
        self.assertEqual(delivered(), 0)
        self.assertEqual(delivered(other), 0)
        self.assertEqual(delivered({"a": "1", "b": {"c": "arn:x"}}, other), 0, "each is in another object")
        self.assertEqual(delivered({"a": "1", "b": "arn::x"}), 0)
        self.assertEqual(delivered(wanted, resources=["x"]), 0)


    def test_what_another_account_forwards_says_so(self):
        sqs, events = self.client("sqs"), self.client("events")
        queue = sqs.create_queue(QueueName="events")["QueueUrl"]
        target = {"Id": "q", "Arn": f"arn:aws:sqs:{REGION}:{self.account}:events"}
        for rule, account in (("all", None), ("own", self.account)):
            pattern = {"source": ["somebody"], **({"account": [account]} if account else {})}
            events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
            events.put_targets(Rule=rule, Targets=[target])
        elsewhere = self.accounts.client("343434343434", "eu-central-1", "events")
        elsewhere.put_rule(Name="forward", EventPattern=json.dumps({"source": ["somebody"]}))
        bus = f"arn:aws:events:{REGION}:{self.account}:event-bus/default"
        elsewhere.put_targets(Rule="forward", Targets=[{"Id": "bus", "Arn": bus}])

        def delivered(client):
            client.put_events(Entries=[{"Source": "somebody", "DetailType": "x", "Detail": "{}"}])
            messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
            bodies = [json.loads(message["Body"]) for message in messages]
            return [(body["account"], body["region"]) for body in bodies]

        self.assertEqual(delivered(elsewhere), [("343434343434", "eu-central-1")])
        self.assertEqual(delivered(events), [(self.account, REGION)] * 2)


class Calls(Emulated):
    def test_calls_before_an_index_are_forgotten_and_indexes_go_on(self):
        dynamodb = self.client("dynamodb")
        dynamodb.list_tables()
        since = json.loads(self.accounts.door("calls"))["next"]
        dynamodb.list_tables()
        self.accounts.door(f"calls?before={since}", "DELETE")
        kept = json.loads(self.accounts.door("calls"))
        self.assertEqual([call["index"] for call in kept["calls"]][:1], [since])
        self.assertGreaterEqual(kept["next"], since + 1)
        # What is forgotten already is not forgotten twice.
        self.accounts.door(f"calls?before={since}", "DELETE")
        self.assertEqual(json.loads(self.accounts.door("calls"))["calls"][0]["index"], since)

    def test_every_call_is_recorded(self):
        ids = self.seed("single-interface")
        start = json.loads(self.accounts.door("calls"))["next"]
        self.ec2.describe_instances(InstanceIds=[ids["victim"]])
        self.refused("InvalidInstanceID.NotFound", self.ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])
        self.client("guardduty").list_detectors()
        self.client("dynamodb").list_tables()
        self.client("s3").list_buckets()
        calls = json.loads(self.accounts.door(f"calls?since={start}&account={self.account}"))["calls"]
        self.assertEqual(
            [(c["service"], c["operation"], c["status"]) for c in calls],
            [
                ("ec2", "DescribeInstances", 200),
                ("ec2", "DescribeInstances", 400),
                ("guardduty", "ListDetectors", 200),
                ("dynamodb", "ListTables", 200),
                ("s3", "ListBuckets", 200),
            ],
        )
        self.assertTrue(all(c["end"] >= c["start"] for c in calls))


class Paces(Emulated):
    def somebody_elses(self):
        """A client that is not the observer's: that one's calls are never held up."""
        held = self.accounts.credentials(self.account)
        return self.accounts.session.client(
            "ec2",
            region_name=REGION,
            endpoint_url=self.accounts.endpoint,
            aws_access_key_id=held["access_key_id"],
            aws_secret_access_key=held["secret_access_key"],
            aws_session_token=held["session_token"],
        )

    def test_calls_are_held_side_by_side(self):
        ec2 = self.somebody_elses()
        since = json.loads(self.accounts.door("calls"))["next"]
        self.accounts.door("delay", "POST", json.dumps({"seconds": 1}).encode())
        together = [threading.Thread(target=ec2.describe_vpcs) for _ in range(2)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        self.client("ec2").describe_addresses()
        self.accounts.door("delay", "POST", json.dumps({"seconds": 0}).encode())
        calls = json.loads(self.accounts.door(f"calls?since={since}&account={self.account}"))["calls"]
        (one, other), observed = calls[:2], calls[2]
        self.assertTrue(all(call["end"] - call["start"] >= 1 for call in (one, other)))
        self.assertLess(max(one["start"], other["start"]), min(one["end"], other["end"]))
        self.assertLess(observed["end"] - observed["start"], 1)

    def test_calls_side_by_side_are_one_round(self):
        ec2 = self.somebody_elses()
        since = json.loads(self.accounts.door("calls"))["next"]
        pace = {"accounts": [self.account], "quiet": 0.2}
        self.accounts.door("pace", "POST", json.dumps(pace).encode())
        together = [threading.Thread(target=ec2.describe_vpcs) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        ec2.describe_subnets()
        self.client("ec2").describe_addresses()
        self.accounts.door("pace", "POST", json.dumps({**pace, "quiet": 0}).encode())
        ec2.describe_volumes()
        calls = json.loads(self.accounts.door(f"calls?since={since}&account={self.account}"))["calls"]
        self.assertEqual([call["round"] for call in calls], [1, 1, 1, 2, 0, 0])


class BucketPolicies(Emulated):
    def test_a_demand_for_tls_concerns_no_request_on_loopback(self):
        s3, name = self.client("s3"), f"bucket-{self.account}"
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        everything = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{name}/*"}
        tls = {**everything, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls]}))
        s3.put_object(Bucket=name, Key="key", Body=b"text")
        self.assertEqual(s3.get_object(Bucket=name, Key="key")["Body"].read(), b"text")
        s3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [tls, everything]}))
        with self.assertRaises(ClientError):
            s3.put_object(Bucket=name, Key="key", Body=b"text")


class Speed(Emulated):
    """What is done in a shorter way has the same end."""

    def setUp(self):
        super().setUp()
        self.dynamodb = self.client("dynamodb")
        keys = ("pk", "sk")
        self.dynamodb.create_table(
            TableName="rows",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"))],
        )
        self.put("a", "1", "old")

    def key(self, pk, sk):
        return {"pk": {"S": pk}, "sk": {"S": sk}}

    def put(self, pk, sk, value):
        self.dynamodb.put_item(TableName="rows", Item={**self.key(pk, sk), "value": {"S": value}})

    def rows(self):
        found = self.dynamodb.scan(TableName="rows")["Items"]
        return {(row["pk"]["S"], row["sk"]["S"]): row.get("value", {}).get("S") for row in found}

    def update(self, pk, sk, condition):
        return {
            "Update": {
                "TableName": "rows",
                "Key": self.key(pk, sk),
                "UpdateExpression": "SET #v = :new",
                "ConditionExpression": condition,
                "ExpressionAttributeNames": {"#v": "value"},
                "ExpressionAttributeValues": {":new": {"S": "new"}},
            }
        }

    def test_a_transaction_that_fails_changes_no_row(self):
        self.put("a", "2", "old")
        before = self.rows()
        writes = [
            {"Put": {"TableName": "rows", "Item": {**self.key("b", "1"), "value": {"S": "new"}}}},
            {"Put": {"TableName": "rows", "Item": {**self.key("a", "1"), "value": {"S": "new"}}}},
            {"Delete": {"TableName": "rows", "Key": self.key("a", "2")}},
            self.update("c", "1", "attribute_not_exists(pk)"),
            self.update("d", "1", "attribute_exists(pk)"),
        ]
        self.refused("TransactionCanceledException", self.dynamodb.transact_write_items, TransactItems=writes)
        self.assertEqual(self.rows(), before)
        self.dynamodb.transact_write_items(TransactItems=writes[:-1])
        self.assertEqual(self.rows(), {("a", "1"): "new", ("b", "1"): "new", ("c", "1"): "new"})

    def test_a_query_finds_the_rows_of_its_partition_in_their_order(self):
        for pk, sk in (("b", "1"), ("a", "3"), ("a", "2")):
            self.put(pk, sk, "new")

        def found(condition, **values):
            answer = self.dynamodb.query(
                TableName="rows", KeyConditionExpression=condition, ExpressionAttributeValues={
                    f":{name}": {"S": value} for name, value in values.items()
                },
            )
            return [row["sk"]["S"] for row in answer["Items"]]

        self.assertEqual(found("pk = :pk", pk="a"), ["1", "2", "3"])
        self.assertEqual(found("pk = :pk AND sk > :sk", pk="a", sk="1"), ["2", "3"])
        self.assertEqual(found("pk = :pk", pk="none"), [])

    def test_a_key_acts_in_the_account_that_it_was_given_in(self):
        other = self.accounts.client(f"8{Emulated.number:011d}", REGION, "dynamodb")
        self.assertEqual(other.list_tables()["TableNames"], [])
        self.assertEqual(self.dynamodb.list_tables()["TableNames"], ["rows"])


class Organizations(Emulated):
    def test_a_delegated_administrator_sees_where_an_account_stands(self):
        management, member, outsider = (str(int(self.account) + n * 10**9) for n in (1, 2, 3))
        observer = Observer()
        made = observer.do_organization(management, self.account, {member: "prod/web", outsider: ""})
        units = made["units"]
        describe = self.client("organizations").describe_account
        (path,) = describe(AccountId=member)["Account"]["Paths"]
        organization, *above, account = path.rstrip("/").split("/")
        self.assertRegex(organization, "^o-[a-z0-9]{10,32}$")
        self.assertEqual((above, account), ([units[""], units["prod"], units["prod/web"]], member))
        self.assertTrue(path.endswith("/"))
        (flat,) = describe(AccountId=outsider)["Account"]["Paths"]
        self.assertEqual(flat, f"{organization}/{units['']}/{outsider}/")
        # A member that is no administrator, and an account in no organization.
        for account, code in ((member, "AccessDeniedException"), ("111122223333", "AWSOrganizationsNotInUseException")):
            stranger = self.accounts.client(account, REGION, "organizations")
            self.refused(code, stranger.describe_account, AccountId=member)


class ControlFindings(Emulated):
    def setUp(self):
        super().setUp()
        self.hub = self.client("securityhub")
        self.hub.enable_security_hub()

    def put(self, identity, product, **more):
        finding = {
            "SchemaVersion": "2018-10-08",
            "Id": identity,
            "ProductArn": product,
            "GeneratorId": "a",
            "AwsAccountId": self.account,
            "Types": ["a/b/c"],
            "CreatedAt": "2026-11-03T09:12:41.000Z",
            "UpdatedAt": "2026-11-03T09:12:41.000Z",
            "Severity": {"Label": "HIGH"},
            "Title": "a",
            "Description": "a",
            "Resources": [{"Type": "Other", "Id": "a"}],
            **more,
        }
        self.assertEqual(self.hub.batch_import_findings(Findings=[finding])["SuccessCount"], 1)

    def found(self, **wanted):
        filters = {field: [{"Value": value, "Comparison": "EQUALS"}] for field, value in wanted.items()}
        return self.hub.get_findings(Filters=filters)["Findings"]

    def test_findings_are_found_by_their_text(self):
        ours, theirs = (f"arn:aws:securityhub:{REGION}::product/{name}" for name in ("aws/securityhub", "a/b"))
        for identity, product in (("one", ours), ("one", theirs), ("two", ours)):
            self.put(identity, product)
        self.put("one", ours, Title="again")
        self.assertEqual(len(self.hub.get_findings()["Findings"]), 3)
        self.assertEqual(len(self.found(Id="one")), 2)
        (one,) = self.found(Id="one", ProductArn=ours)
        self.assertEqual((one["Title"], one["AwsAccountId"]), ("again", self.account))
        self.assertEqual(self.found(Id="one", AwsAccountId="111122223333"), [])
        prefix = {"Id": [{"Value": "o", "Comparison": "PREFIX"}]}
        self.refused("InvalidInputException", self.hub.get_findings, Filters=prefix)


    def test_what_a_customer_says_of_a_finding(self):
        ours, theirs = (f"arn:aws:securityhub:{REGION}::product/{name}" for name in ("aws/securityhub", "a/b"))
        self.put("one", ours, Workflow={"Status": "NEW"}, Severity={"Label": "HIGH", "Original": "HIGH"})
        self.put("one", theirs)
        one, unknown = {"Id": "one", "ProductArn": ours}, {"Id": "two", "ProductArn": ours}
        note = {"Text": "contained", "UpdatedBy": "us"}
        answer = self.hub.batch_update_findings(
            FindingIdentifiers=[one, unknown],
            Note=note,
            Workflow={"Status": "NOTIFIED"},
            UserDefinedFields={"case": "7"},
            Severity={"Label": "LOW"},
            Confidence=40,
        )
        self.assertEqual(answer["ProcessedFindings"], [one])
        (failed,) = answer["UnprocessedFindings"]
        self.assertEqual((failed["FindingIdentifier"], failed["ErrorCode"]), (unknown, "FindingNotFound"))
        (found,) = self.found(**one)
        self.assertEqual({**note, "UpdatedAt": found["Note"]["UpdatedAt"]}, found["Note"])
        self.assertRegex(found["Note"]["UpdatedAt"], r"^\d{4}-\d\d-\d\dT[\d:.]+Z$")
        self.assertEqual((found["Workflow"]["Status"], found["UserDefinedFields"]), ("NOTIFIED", {"case": "7"}))
        self.assertEqual(found["Severity"], {"Label": "LOW", "Normalized": 1, "Original": "HIGH"})
        self.assertEqual((found["Confidence"], found["UpdatedAt"]), (40, "2026-11-03T09:12:41.000Z"))
        self.assertNotIn("Note", self.found(Id="one", ProductArn=theirs)[0])
        self.hub.batch_update_findings(FindingIdentifiers=[one], Severity={"Normalized": 89})
        self.assertEqual(self.found(**one)[0]["Severity"]["Label"], "HIGH")
        self.assertEqual(self.found(**one)[0]["Note"], found["Note"])

    def test_an_update_that_is_not_valid_changes_nothing(self):
        ours = f"arn:aws:securityhub:{REGION}::product/aws/securityhub"
        self.put("one", ours)
        one, update = {"Id": "one", "ProductArn": ours}, self.hub.batch_update_findings
        before = self.found(Id="one")
        for wrong in (
            {"Note": {"Text": "x" * 513, "UpdatedBy": "us"}},
            {"Note": {"Text": " ", "UpdatedBy": "us"}},
            {"Note": {"Text": "x"}},
            {"Workflow": {"Status": "DONE"}},
            {"Confidence": 101},
            {"UserDefinedFields": {"case": "x" * 1025}},
        ):
            with self.subTest(wrong=wrong):
                body = {"FindingIdentifiers": [one], "Workflow": {"Status": "RESOLVED"}, **wrong}
                self.refused("InvalidInputException", update, **body)
        many = [{"Id": str(number), "ProductArn": ours} for number in range(101)]
        self.refused("InvalidInputException", update, FindingIdentifiers=many, Workflow={"Status": "NEW"})
        self.assertEqual(len(update(FindingIdentifiers=many[:100])["UnprocessedFindings"]), 100)
        twice = update(FindingIdentifiers=[one, one], Workflow={"Status": "RESOLVED"})["UnprocessedFindings"]
        self.assertEqual({failed["ErrorCode"] for failed in twice}, {"DuplicatedFindingIdentifier"})
        update(FindingIdentifiers=[one], Note={"Text": "x" * 512, "UpdatedBy": "us"})
        self.assertEqual([{**found, "Note": None} for found in self.found(Id="one")], [{**before[0], "Note": None}])

    def test_what_a_customer_says_outlives_an_import(self):
        ours = f"arn:aws:securityhub:{REGION}::product/aws/securityhub"
        one, note = {"Id": "one", "ProductArn": ours}, {"Text": "contained", "UpdatedBy": "us"}

        def seen(compliance, **more):
            self.put("one", ours, Compliance={"Status": compliance}, Workflow={"Status": "NEW"}, **more)
            (found,) = self.found(**one)
            return found["Workflow"]["Status"], found.get("Note", {}).get("Text"), found["Title"]

        self.assertEqual(seen("FAILED"), ("NEW", None, "a"))
        self.hub.batch_update_findings(FindingIdentifiers=[one], Note=note, Workflow={"Status": "NOTIFIED"})
        self.assertEqual(seen("FAILED", Title="b"), ("NOTIFIED", "contained", "b"))
        self.assertEqual(seen("PASSED")[0], "NOTIFIED")
        self.assertEqual(seen("FAILED")[0], "NEW")
        self.hub.batch_update_findings(FindingIdentifiers=[one], Workflow={"Status": "SUPPRESSED"})
        seen("PASSED")
        self.assertEqual(seen("FAILED")[0], "SUPPRESSED")

    def test_a_control_comes_with_its_workflow_status(self):
        ours = f"arn:aws:securityhub:{REGION}::product/aws/securityhub"
        self.put("one", ours, Workflow={"Status": "NEW"})
        (finding,) = self.found(Id="one")
        Observer().do_control(self.account, REGION, {**finding, "Workflow": {"Status": "SUPPRESSED"}})
        self.assertEqual(self.found(Id="one")[0]["Workflow"], {"Status": "SUPPRESSED"})


class SessionPolicies(Emulated):
    def test_a_session_policy_has_at_most_2048_characters(self):
        sts, role = self.client("sts"), f"arn:aws:iam::{self.account}:role/any"

        def assume(length):
            policy = json.dumps(self.policy(["ec2:RunInstances"], ["*"])).ljust(length)
            return sts.assume_role(RoleArn=role, RoleSessionName="session", Policy=policy)

        self.assertIn("Credentials", assume(2048))
        with self.assertRaises(ClientError) as refused:
            assume(2049)
        self.assertEqual(refused.exception.response["Error"]["Code"], "ValidationError")

    def test_a_session_policy_names_an_action_and_a_resource(self):
        sts, role = self.client("sts"), f"arn:aws:iam::{self.account}:role/any"
        for actions, resources in [(["ec2:RunInstances"], []), ([], ["*"])]:
            policy = json.dumps(self.policy(actions, resources))
            arguments = {"RoleArn": role, "RoleSessionName": "session", "Policy": policy}
            self.refused("MalformedPolicyDocument", sts.assume_role, **arguments)

    @staticmethod
    def policy(actions, resources):
        statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
        return {"Version": "2012-10-17", "Statement": [statement]}


class ForeignSessions(Emulated):
    def test_a_session_that_another_emulator_gave_is_of_its_account_and_role(self):
        role = f"arn:aws:iam::{self.account}:role/firebreak/isolate-instance"
        body = {"account": self.account, "access_key": "ASIAFOREIGNFOREIGN00", "role": role, "session": "x", "policy": ""}
        body = json.dumps(body).encode()
        since = json.loads(self.accounts.door("calls"))["next"]
        for _ in range(2):
            self.accounts.door("sts/sessions", "POST", body)
        keys = {"aws_access_key_id": "ASIAFOREIGNFOREIGN00", "aws_secret_access_key": "x", "aws_session_token": "x"}
        ec2 = self.accounts.session.client("ec2", region_name=REGION, endpoint_url=self.accounts.endpoint, **keys)
        ec2.create_vpc(CidrBlock="10.99.0.0/16")
        blocks = [vpc["CidrBlock"] for vpc in self.ec2.describe_vpcs()["Vpcs"]]
        self.assertIn("10.99.0.0/16", blocks)
        calls = json.loads(self.accounts.door(f"calls?since={since}&access_key=ASIAFOREIGNFOREIGN00"))["calls"]
        self.assertEqual([(self.account, role)], [(call["account"], call["role"]) for call in calls])


class Identities(Emulated):
    def setUp(self):
        super().setUp()
        self.iam = self.client("iam")

    def test_a_user_has_a_unique_id_that_a_new_name_does_not_change(self):
        user = self.iam.create_user(UserName="deploy")["User"]["UserId"]
        self.assertRegex(user, "^AIDA[A-Z0-9]{17}$")
        key = self.iam.create_access_key(UserName="deploy")["AccessKey"]["AccessKeyId"]
        self.iam.update_user(UserName="deploy", NewUserName="printer")
        self.assertEqual(self.iam.get_user(UserName="printer")["User"]["UserId"], user)
        self.assertEqual(self.iam.get_access_key_last_used(AccessKeyId=key)["UserName"], "printer")
        self.refused("NoSuchEntity", self.iam.get_user, UserName="deploy")
        self.iam.create_user(UserName="deploy")
        self.assertNotEqual(self.iam.get_user(UserName="deploy")["User"]["UserId"], user)

    def test_a_key_has_no_owner_in_another_account(self):
        self.iam.create_user(UserName="deploy")
        key = self.iam.create_access_key(UserName="deploy")["AccessKey"]["AccessKeyId"]
        other = self.accounts.client("900000000001", REGION, "iam")
        self.refused("NoSuchEntity", other.get_access_key_last_used, AccessKeyId=key)

    def test_a_key_is_as_old_and_as_used_as_the_world_says(self):
        now, ids = datetime.now(timezone.utc), self.seed("old-keys")
        made = {k["AccessKeyId"]: k for k in self.iam.list_access_keys(UserName="deploy")["AccessKeyMetadata"]}
        ages = [(now - made[ids[key]]["CreateDate"]) / timedelta(days=1) for key in ("victim.key", "victim.key2")]
        self.assertEqual([round(age) for age in ages], [400, 10])
        never = self.iam.get_access_key_last_used(AccessKeyId=ids["victim.key"])
        self.assertEqual(never["UserName"], "deploy")
        self.assertEqual(never["AccessKeyLastUsed"], {"ServiceName": "N/A", "Region": "N/A"})
        used = self.iam.get_access_key_last_used(AccessKeyId=ids["victim.key2"])["AccessKeyLastUsed"]
        self.assertEqual((used["ServiceName"], used["Region"]), ("s3", REGION))
        self.assertEqual(round((now - used["LastUsedDate"]) / timedelta(days=1)), 1)
        user = self.iam.get_user(UserName="deploy")["User"]
        self.assertLessEqual(user["CreateDate"], made[ids["victim.key"]]["CreateDate"])
        self.refused("NoSuchEntity", self.iam.get_access_key_last_used, AccessKeyId="AKIAIOSFODNN7EXAMPLE")

    def test_a_password_was_used_when_the_world_says(self):
        users = {
            "never": {"password": True},
            "used": {"password": True, "password_used_days_ago": 3, "keys": [{"status": "Inactive", "age_days": 2}]},
        }
        ids = seed(self.accounts, self.account, REGION, {"users": users})["ids"]
        self.assertNotIn("PasswordLastUsed", self.iam.get_user(UserName="never")["User"])
        used = self.iam.get_user(UserName="used")["User"]["PasswordLastUsed"]
        self.assertEqual(round((datetime.now(timezone.utc) - used) / timedelta(days=1)), 3)
        listed = {user["UserName"]: user.get("PasswordLastUsed") for user in self.iam.list_users()["Users"]}
        self.assertEqual(listed, {"never": None, "used": used})
        self.assertEqual(self.state()["users"]["used"]["keys"], {ids["used.key"]: "Inactive"})

    def test_users_come_in_pages(self):
        for number in range(5):
            self.iam.create_user(UserName=f"user-{number}")
        first = self.iam.list_users(MaxItems=2)
        self.assertEqual((len(first["Users"]), first["IsTruncated"]), (2, True))
        pages = self.iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 2})
        self.assertEqual(sum(len(one["Users"]) for one in pages), 5)

    def test_service_specific_credentials(self):
        self.iam.create_user(UserName="deploy")
        made = self.iam.create_service_specific_credential(UserName="deploy", ServiceName="codecommit.amazonaws.com")
        made = made["ServiceSpecificCredential"]
        self.assertIn("ServicePassword", made)
        of_bedrock = self.iam.create_service_specific_credential(
            UserName="deploy", ServiceName="bedrock.amazonaws.com", CredentialAgeDays=30
        )["ServiceSpecificCredential"]
        self.assertIn("ServiceCredentialSecret", of_bedrock)
        self.assertIn("ExpirationDate", of_bedrock)
        one = {"UserName": "deploy", "ServiceSpecificCredentialId": made["ServiceSpecificCredentialId"]}
        self.iam.update_service_specific_credential(**one, Status="Inactive")
        listed = self.iam.list_service_specific_credentials(UserName="deploy")["ServiceSpecificCredentials"]
        self.assertEqual(sorted(c["Status"] for c in listed), ["Active", "Inactive"])
        self.assertNotIn("ServicePassword", listed[0])
        by_service = self.iam.list_service_specific_credentials(
            UserName="deploy", ServiceName="bedrock.amazonaws.com"
        )["ServiceSpecificCredentials"]
        self.assertEqual(len(by_service), 1)
        self.iam.delete_service_specific_credential(**one)
        self.refused("NoSuchEntity", self.iam.update_service_specific_credential, **one, Status="Active")
        self.refused("NoSuchEntity", self.iam.list_service_specific_credentials, UserName="nobody")

    def test_keys_and_certificates_are_made_inactive(self):
        ids = self.seed("ci-user")
        who = {"UserName": "ci-deploy"}
        self.iam.update_ssh_public_key(**who, SSHPublicKeyId=ids["victim.ssh1"], Status="Inactive")
        self.iam.update_signing_certificate(**who, CertificateId=ids["victim.certificate1"], Status="Inactive")
        self.iam.update_access_key(**who, AccessKeyId=ids["victim.key"], Status="Inactive")
        user = self.state()["users"]["ci-deploy"]
        self.assertEqual(user["ssh_keys"][ids["victim.ssh1"]], "Inactive")
        self.assertEqual(user["certificates"][ids["victim.certificate1"]], "Inactive")
        self.assertEqual(user["keys"][ids["victim.key"]], "Inactive")
        self.assertEqual(user["keys"][ids["victim.key2"]], "Active")

    def test_the_event_history_is_looked_up(self):
        ids = self.seed("ci-user")
        trail = self.accounts.client(self.account, "us-east-1", "cloudtrail")
        key = [{"AttributeKey": "AccessKeyId", "AttributeValue": ids["victim.key"]}]
        found = trail.lookup_events(LookupAttributes=key)["Events"]
        self.assertEqual(found[0]["EventName"], "ListUsers")
        self.assertEqual([event["EventName"] for event in found].count("CreateUser"), 1)
        record = json.loads(found[-1]["CloudTrailEvent"])
        self.assertEqual(record["responseElements"]["user"]["userId"], ids["made"])
        paged = trail.get_paginator("lookup_events").paginate(
            LookupAttributes=key, PaginationConfig={"PageSize": 2}
        )
        self.assertEqual(sum(len(one["Events"]) for one in paged), 5)
        oldest = found[-1]["EventTime"]
        self.assertEqual(len(trail.lookup_events(LookupAttributes=key, EndTime=oldest)["Events"]), 1)
        self.assertEqual(len(trail.lookup_events(LookupAttributes=key, StartTime=oldest)["Events"]), 5)
        elsewhere = self.client("cloudtrail").lookup_events(LookupAttributes=key)["Events"]
        self.assertEqual([event["EventName"] for event in elsewhere], ["AssumeRole"])
        self.refused("InvalidLookupAttributesException", trail.lookup_events, LookupAttributes=key * 2)


class Templates(Emulated):
    """The templates at the root of the project can be made here."""

    def make(self, name, **parameters):
        stack = Stack(self.accounts, self.account, REGION, str(HERE.parents[1] / name), parameters, "firebreak")
        return stack.make()

    def test_hub(self):
        made = self.make("template.yaml", OrganizationId="o-abcdefghij", BreakGlassPrincipals="none")
        function = made["functions"]["ContainCompute"]
        tables = set(self.client("dynamodb").list_tables()["TableNames"])
        named = {made["outputs"]["LedgerTable"], made["outputs"]["DecisionsTable"], made["resources"]["DrillTable"]}
        self.assertEqual(named, tables)
        self.assertEqual(function["environment"]["FIREBREAK_LEDGER_TABLE"], made["outputs"]["LedgerTable"])
        self.assertEqual(function["environment"]["FIREBREAK_HUB_ACCOUNT"], self.account)
        lock = self.client("s3").get_object_lock_configuration(Bucket=made["outputs"]["EvidenceBucket"])
        self.assertEqual(lock["ObjectLockConfiguration"]["ObjectLockEnabled"], "Enabled")

        def deliver(detail):
            self.client("events").put_events(
                Entries=[
                    {"Source": "aws.guardduty", "DetailType": "GuardDuty Finding", "Detail": json.dumps(detail)}
                ]
            )
            return self.client("sqs").receive_message(QueueUrl=function["queue_url"]).get("Messages", [])

        self.assertEqual(len(deliver(Findings.DETAIL)), 1)
        self.assertEqual(deliver({**Findings.DETAIL, "type": "Discovery:S3/AnomalousBehavior"}), [])

    def test_hub_with_everything_that_is_optional(self):
        principal = f"arn:aws:iam::{self.account}:role/responder"
        made = self.make(
            "template.yaml",
            OrganizationId="o-abcdefghij",
            BreakGlassPrincipals=f"{principal}, arn:aws:iam::{self.account}:user/glass",
            OperatorPrincipals=principal,
            PublisherPrincipals=principal,
            NotifyEmail="somebody@example.com",
            CustomerKey="yes",
            ReservedConcurrency=20,
            OperateConcurrency=5,
            DrillHeartbeatDays=7,
        )
        named = f"{principal},arn:aws:iam::{self.account}:user/glass"
        self.assertEqual(made["outputs"]["BreakGlass"], named)
        self.assertEqual(made["functions"]["Harden"]["environment"]["FIREBREAK_BREAK_GLASS"], named)
        self.assertIn("DrillHeartbeatAlarm", made["resources"])
        self.assertIn("NotifyEmailSubscription", made["resources"])
        attached = self.client("iam").list_attached_role_policies(RoleName="operate")["AttachedPolicies"]
        self.assertEqual([policy["PolicyName"] for policy in attached], ["use-notify-key"])

    def test_nobody_is_forgotten_where_none_is_said(self):
        with self.assertRaisesRegex(ValueError, "BreakGlassPrincipals has no value"):
            self.make("template.yaml", OrganizationId="o-abcdefghij")
        made = self.make("template.yaml", OrganizationId="o-abcdefghij", BreakGlassPrincipals="none")
        self.assertNotIn("BreakGlass", made["outputs"])
        self.assertEqual(made["functions"]["Harden"]["environment"]["FIREBREAK_BREAK_GLASS"], "")
        for optional in ("DrillHeartbeatAlarm", "NotifyEmailSubscription", "NotifyKey", "OperatorRole"):
            self.assertNotIn(optional, made["resources"])

    def test_a_further_region(self):
        made = self.make("template.yaml", OrganizationId="o-abcdefghij", BreakGlassPrincipals="none")
        function = made["functions"]["ContainCompute"]
        elsewhere = "eu-central-1"
        path = str(HERE.parents[1] / "template-region.yaml")
        Stack(self.accounts, self.account, elsewhere, path, {"HubRegion": REGION}, "firebreak-region").make()
        events = self.accounts.client(self.account, elsewhere, "events")

        def forwarded(source, detail):
            entry = {"Source": source, "DetailType": "GuardDuty Finding", "Detail": json.dumps(detail)}
            events.put_events(Entries=[entry])
            return self.client("sqs").receive_message(QueueUrl=function["queue_url"]).get("Messages", [])

        detail = {**Findings.DETAIL, "region": elsewhere}
        delivered = forwarded("aws.guardduty", detail)
        self.assertEqual([json.loads(message["Body"])["detail"] for message in delivered], [detail])
        self.assertEqual(forwarded("somebody", detail), [])

    def test_member(self):
        made = self.make("template-member.yaml", HubAccount="111111111111", OrganizationId="o-abcdefghij")
        roles = {r["Arn"] for r in self.client("iam").list_roles(PathPrefix="/firebreak/")["Roles"]}
        self.assertIn(f"arn:aws:iam::{self.account}:role/firebreak/isolate-instance", roles)
        deny = self.client("iam").get_policy(PolicyArn=f"arn:aws:iam::{self.account}:policy/firebreak/deny-all")
        self.assertEqual(deny["Policy"]["AttachmentCount"], 0)
        self.assertEqual(made["functions"], {})

    def test_member_in_a_further_region(self):
        bus = f"arn:aws:events:{REGION}:111111111111:event-bus/config"
        parameters = {"HubAccount": "111111111111", "OrganizationId": "o-abcdefghij", "ConfigBusArn": bus}
        for home, expected in (("eu-central-1", {"ForwardConfig"}), (REGION, None)):
            made = self.make("template-member.yaml", HomeRegion=home, **parameters)
            roles = {r["RoleName"] for r in self.client("iam").list_roles(PathPrefix="/firebreak/")["Roles"]}
            if expected is None:
                self.assertLessEqual({"forward-config", "isolate-instance", "plan"}, roles)
                self.assertIn("IsolateInstanceRole", made["outputs"])
                continue
            self.assertEqual((set(made["resources"]), made["outputs"], roles), (expected, {}, set()))
            events = self.client("events")
            (rule,) = events.list_rules(NamePrefix=made["resources"]["ForwardConfig"])["Rules"]
            (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
            role = f"arn:aws:iam::{self.account}:role/firebreak/forward-config"
            self.assertEqual((target["Arn"], target["RoleArn"]), (bus, role))
            events.remove_targets(Rule=rule["Name"], Ids=["hub"])
            events.delete_rule(Name=rule["Name"])


class LockPolicy(unittest.TestCase):
    """docs/lock-policy.json is a service control policy about the very names that template-member.yaml makes."""

    POLICY = HERE.parents[1] / "docs/lock-policy.json"

    def statements(self):
        return {one["Sid"]: one for one in json.loads(self.POLICY.read_text(encoding="utf-8"))["Statement"]}

    def covers(self, sid, arn):
        resources = self.statements()[sid]["Resource"]
        return any(fnmatch.fnmatchcase(arn, one) for one in ([resources] if isinstance(resources, str) else resources))

    def test_it_denies_and_is_not_too_long(self):
        # https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
        self.assertLessEqual(len(self.POLICY.read_text(encoding="utf-8")), 5120)
        for one in self.statements().values():
            self.assertEqual(one["Effect"], "Deny")
            self.assertLessEqual(set(one), {"Sid", "Effect", "Action", "Resource", "Condition"})

    def test_it_is_about_all_that_the_member_template_makes(self):
        resources = parsed(str(HERE.parents[1] / "template-member.yaml"))["Resources"].values()
        of = {
            "AWS::IAM::Role": ("Roles", "RoleName", "role"),
            "AWS::IAM::ManagedPolicy": ("PoliciesAndProfiles", "ManagedPolicyName", "policy"),
            "AWS::IAM::InstanceProfile": ("PoliciesAndProfiles", "InstanceProfileName", "instance-profile"),
        }
        for partition in ("aws", "aws-cn", "aws-us-gov"):
            for resource in resources:
                # What drills are held on is nobody's to protect.
                if resource.get("Condition") == "HasCanary":
                    continue
                if resource["Type"] == "AWS::Events::Rule":
                    # CloudFormation names it for the stack, and the stack for its set.
                    arn = f"arn:{partition}:events:eu-west-1:111111111111:rule/StackSet-firebreak-1-ForwardConfig-2"
                    self.assertTrue(self.covers("Forwarding", arn))
                    continue
                sid, key, kind = of[resource["Type"]]
                properties = resource["Properties"]
                arn = f"arn:{partition}:iam::111111111111:{kind}{properties['Path']}{properties[key]}"
                self.assertTrue(self.covers(sid, arn), arn)
                self.assertFalse(self.covers(sid, arn.replace("/firebreak/", "/another/")), arn)

    def test_our_own_roles_may_detach_and_nobody_else(self):
        condition = self.statements()["DenyAllStaysAttached"]["Condition"]
        deny = "arn:aws:iam::111111111111:policy/firebreak/deny-all"
        self.assertTrue(fnmatch.fnmatchcase(deny, condition["ArnLike"]["iam:PolicyARN"]))
        excepted = condition["ArnNotLike"]["aws:PrincipalArn"]
        for role, is_ours in (("firebreak/contain-user", True), ("admin", False), ("stacksets-exec-1", False)):
            self.assertEqual(fnmatch.fnmatchcase(f"arn:aws:iam::111111111111:role/{role}", excepted), is_ours)


def tearDownModule():
    if Emulated.server:
        Emulated.server.stdin.close()
        Emulated.server.wait(10)


if __name__ == "__main__":
    unittest.main()
