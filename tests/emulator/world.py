"""Makes a starting state out of a world (`tests/worlds/README.md` describes the form)."""

import ipaddress
import json
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from accounts import Accounts

ASSUME_EC2 = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


def seed(accounts: Accounts, account: str, region: str, world: dict) -> dict:
    """Create everything in `world`; the answer maps its symbolic names to ids."""
    return Seeder(accounts, account, region).run(world)


def certificate() -> str:
    """A certificate that signs itself, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    signed = builder.not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def days_ago(days: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(days=days)).isoformat()


def tag_list(tags: dict) -> list:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class Seeder:
    def __init__(self, accounts: Accounts, account: str, region: str):
        self.region, self.account, self.door = region, account, accounts.door
        self.accounts = accounts
        self.world: dict = {}
        self.ids: dict = {}
        self.zones: dict = {}
        self.next_host: dict = {}
        self.blocks: dict = {}
        self.addresses: dict = {}
        self.clients = lambda service: accounts.client(account, region, service)
        self.ec2 = self.clients("ec2")

    def run(self, world: dict) -> dict:
        self.world = world
        for kind in (
            "vpcs",
            "subnets",
            "groups",
            "profiles",
            "users",
            "roles",
            "launch_templates",
            "target_groups",
            "classic_load_balancers",
            "instances",
            "snapshots",
            "db_snapshots",
            "addresses",
            "auto_scaling_groups",
            "targets",
            "classic_members",
            "buckets",
            "trails",
            "end_states",
            "trail",
        ):
            for name, spec in world.get(kind, {}).items():
                getattr(self, "make_" + kind)(name, spec)
        return {"ids": self.ids}

    def make_vpcs(self, name: str, spec: dict) -> None:
        vpc = self.ec2.create_vpc(
            CidrBlock=spec["cidr"],
            AmazonProvidedIpv6CidrBlock=spec.get("ipv6", False),
            TagSpecifications=[{"ResourceType": "vpc", "Tags": tag_list({"Name": name})}],
        )["Vpc"]
        self.ids[name] = vpc["VpcId"]
        if spec.get("ipv6"):
            self.blocks[name] = list(
                ipaddress.ip_network(vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]).subnets(new_prefix=64)
            )

    def make_subnets(self, name: str, spec: dict) -> None:
        more = {}
        if spec["vpc"] in self.blocks:
            block = self.blocks[spec["vpc"]].pop(0)
            more["Ipv6CidrBlock"] = str(block)
        subnet = self.ec2.create_subnet(
            VpcId=self.ids[spec["vpc"]],
            CidrBlock=spec["cidr"],
            AvailabilityZone=self.region + spec.get("zone", "a"),
            **more,
        )["Subnet"]
        self.ids[name] = subnet["SubnetId"]
        # Addresses are given out in order and from high up, so that no two collide and those which
        # the emulator gives to instances of an Auto Scaling group stay free.
        hosts = ipaddress.ip_network(spec["cidr"]).network_address + 100
        self.next_host[name] = [hosts, block.network_address + 100 if more else None]

    def host(self, subnet: str) -> str:
        self.next_host[subnet][0] += 1
        return str(self.next_host[subnet][0])

    def ipv6_hosts(self, subnet: str, count: int) -> list:
        found = []
        for _ in range(count):
            self.next_host[subnet][1] += 1
            found.append({"Ipv6Address": str(self.next_host[subnet][1])})
        return found

    def permissions(self, rules: list) -> list:
        """Our short form of rules as `IpPermissions`."""
        made = []
        for rule in rules:
            made.append({"IpProtocol": rule.get("protocol", "-1")})
            if "ports" in rule:
                made[-1]["FromPort"], made[-1]["ToPort"] = rule["ports"]
            more = {"Description": rule["description"]} if "description" in rule else {}
            if "ipv4" in rule:
                made[-1]["IpRanges"] = [{"CidrIp": cidr, **more} for cidr in rule["ipv4"]]
            if "ipv6" in rule:
                made[-1]["Ipv6Ranges"] = [{"CidrIpv6": cidr, **more} for cidr in rule["ipv6"]]
            if "groups" in rule:
                made[-1]["UserIdGroupPairs"] = [{"GroupId": self.ids[group]} for group in rule["groups"]]
        return made

    def make_groups(self, name: str, spec: dict) -> None:
        more = {}
        if spec.get("tags"):
            more["TagSpecifications"] = [{"ResourceType": "security-group", "Tags": tag_list(spec["tags"])}]
        group = self.ec2.create_security_group(
            GroupName=spec.get("name", name),
            Description=spec.get("description", name),
            VpcId=self.ids[spec["vpc"]],
            **more,
        )["GroupId"]
        self.ids[name] = group
        if spec.get("ingress"):
            self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=self.permissions(spec["ingress"]))
        if "egress" in spec:
            rules = self.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
            outward = [r["SecurityGroupRuleId"] for r in rules["SecurityGroupRules"] if r["IsEgress"]]
            if outward:
                self.ec2.revoke_security_group_egress(GroupId=group, SecurityGroupRuleIds=outward)
            if spec["egress"]:
                self.ec2.authorize_security_group_egress(GroupId=group, IpPermissions=self.permissions(spec["egress"]))

    def make_profiles(self, name: str, spec: dict) -> None:
        iam = self.clients("iam")
        role = spec["role"]
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=ASSUME_EC2)
        made = iam.create_instance_profile(InstanceProfileName=role)["InstanceProfile"]
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        self.ids[name] = made["Arn"]

    def make_users(self, name: str, spec: dict) -> None:
        iam, title = self.clients("iam"), spec.get("name", name)
        user = iam.create_user(UserName=title, Path=spec.get("path", "/"), Tags=tag_list(spec.get("tags", {})))["User"]
        self.ids[name], self.ids[name + ".name"] = user["UserId"], title
        for number, key in enumerate(spec.get("keys", ["Active"])):
            made = iam.create_access_key(UserName=title)["AccessKey"]["AccessKeyId"]
            self.ids[name + ".key" + (str(number + 1) if number else "")] = made
            status = key
            if isinstance(key, dict):
                status = key.get("status", "Active")
                self.date_key(made, key)
            if status == "deleted":
                iam.delete_access_key(UserName=title, AccessKeyId=made)
            elif status != "Active":
                iam.update_access_key(UserName=title, AccessKeyId=made, Status=status)
        if spec.get("password"):
            iam.create_login_profile(UserName=title, Password="not-a-secret-1A")
            if "password_used_days_ago" in spec:
                used = days_ago(spec["password_used_days_ago"])
                self.put("iam/passwords", account=self.account, user=title, used=used)
        for number, service in enumerate(spec.get("service_credentials", [])):
            made = iam.create_service_specific_credential(UserName=title, ServiceName=service)
            identifier = made["ServiceSpecificCredential"]["ServiceSpecificCredentialId"]
            self.ids[f"{name}.service{number + 1}"] = identifier
        for number, status in enumerate(spec.get("ssh_keys", [])):
            made = iam.upload_ssh_public_key(UserName=title, SSHPublicKeyBody=f"ssh-ed25519 {number}")["SSHPublicKey"]
            self.ids[f"{name}.ssh{number + 1}"] = made["SSHPublicKeyId"]
            if status != "Active":
                iam.update_ssh_public_key(UserName=title, SSHPublicKeyId=made["SSHPublicKeyId"], Status=status)
        for number in range(spec.get("certificates", 0)):
            made = iam.upload_signing_certificate(UserName=title, CertificateBody=certificate())["Certificate"]
            self.ids[f"{name}.certificate{number + 1}"] = made["CertificateId"]
        for policy, document in spec.get("inline", {}).items():
            iam.put_user_policy(UserName=title, PolicyName=policy, PolicyDocument=json.dumps(document))
        if spec.get("renamed"):
            iam.update_user(UserName=title, NewUserName=spec["renamed"])
        if spec.get("deleted"):
            for key in iam.list_access_keys(UserName=title)["AccessKeyMetadata"]:
                iam.delete_access_key(UserName=title, AccessKeyId=key["AccessKeyId"])
            iam.delete_user(UserName=title)

    def date_key(self, key: str, spec: dict) -> None:
        """Makes a key as old as the world says, and says when and where it was used last."""
        self.put(
            "iam/keys",
            account=self.account,
            region=self.region,
            access_key=key,
            created=days_ago(spec.get("age_days", 0)),
            used=days_ago(spec["used_days_ago"]) if "used_days_ago" in spec else None,
            service=spec.get("used_by", "s3"),
        )

    def put(self, door: str, **given: Any) -> None:
        self.door(door, "POST", json.dumps(given).encode())

    def make_roles(self, name: str, spec: dict) -> None:
        iam, title = self.clients("iam"), spec.get("name", name)
        trust = json.dumps(spec["trust"]) if "trust" in spec else ASSUME_EC2

        def make() -> str:
            made = iam.create_role(
                RoleName=title,
                Path=spec.get("path", "/"),
                AssumeRolePolicyDocument=trust,
                Tags=tag_list(spec.get("tags", {})),
            )
            return made["Role"]["RoleId"]

        role = make()
        self.ids[name + ".role"], self.ids[name + ".name"] = role, title
        self.ids[name] = f"{role}:{spec['session']}" if "session" in spec else role
        if spec.get("made_anew"):
            iam.delete_role(RoleName=title)
            make()
        if spec.get("profile"):
            iam.create_instance_profile(InstanceProfileName=title)
            iam.add_role_to_instance_profile(InstanceProfileName=title, RoleName=title)
        for policy, document in spec.get("inline", {}).items():
            iam.put_role_policy(RoleName=title, PolicyName=policy, PolicyDocument=json.dumps(document))

    def make_trail(self, region: str, spec: list) -> None:
        """CloudTrail records with ids by their symbolic names, `{like this}`, and times in minutes before now."""
        events = []
        for event in spec:
            text = json.dumps(event)
            for symbol, identifier in self.ids.items():
                text = text.replace("{" + symbol + "}", identifier)
            made = json.loads(text)
            ago = timedelta(minutes=made.pop("minutes_ago"))
            made["eventTime"] = (datetime.now(timezone.utc) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
            events.append(made)
        self.put("cloudtrail/events", account=self.account, region=region, events=events)

    def make_launch_templates(self, name: str, spec: dict) -> None:
        made = self.ec2.create_launch_template(
            LaunchTemplateName=spec.get("name", name),
            LaunchTemplateData={
                "ImageId": spec.get("image", "ami-0c0ffee0c0ffee001"),
                "InstanceType": spec.get("type", "t3.small"),
                "SecurityGroupIds": [self.ids[group] for group in spec["groups"]],
            },
        )
        self.ids[name] = made["LaunchTemplate"]["LaunchTemplateId"]

    def make_target_groups(self, name: str, spec: dict) -> None:
        made = self.clients("elbv2").create_target_group(
            Name=spec.get("name", name.replace("_", "-")),
            Protocol=spec.get("protocol", "HTTP"),
            Port=spec["port"],
            VpcId=self.ids[spec["vpc"]],
            TargetType=spec.get("type", "instance"),
        )
        self.ids[name] = made["TargetGroups"][0]["TargetGroupArn"]

    def make_classic_load_balancers(self, name: str, spec: dict) -> None:
        title = spec.get("name", name.replace("_", "-"))
        self.clients("elb").create_load_balancer(
            LoadBalancerName=title,
            Listeners=[
                {"Protocol": "HTTP", "LoadBalancerPort": 80, "InstanceProtocol": "HTTP", "InstancePort": 8080}
            ],
            Subnets=[self.ids[subnet] for subnet in spec["subnets"]],
            SecurityGroups=[self.ids[group] for group in spec["groups"]],
        )
        self.ids[name] = title

    def interface(self, spec: dict) -> dict:
        subnet = spec["subnet"]
        made = {
            "SubnetId": self.ids[subnet],
            "PrivateIpAddress": self.host(subnet),
            "Groups": [self.ids[group] for group in spec["groups"]],
        }
        if spec.get("ipv6"):
            made["Ipv6Addresses"] = self.ipv6_hosts(subnet, spec["ipv6"])
        if spec.get("tracking"):
            made["ConnectionTrackingSpecification"] = spec["tracking"]
        if spec.get("type"):
            made["InterfaceType"] = spec["type"]
        return made

    def make_instances(self, name: str, spec: dict) -> None:
        first, *others = spec["interfaces"]
        primary = {
            **self.interface(first),
            "DeviceIndex": 0,
            "DeleteOnTermination": first.get("delete_on_termination", True),
            "AssociatePublicIpAddress": first.get("public", False),
        }
        arguments = {
            "ImageId": spec.get("image", "ami-0c0ffee0c0ffee001"),
            "InstanceType": spec.get("type", "m5.large"),
            "MinCount": 1,
            "MaxCount": 1,
            "NetworkInterfaces": [primary],
            "BlockDeviceMappings": [
                {
                    "DeviceName": volume["device"],
                    "Ebs": {
                        "VolumeSize": volume.get("size", 8),
                        "VolumeType": "gp3",
                        "DeleteOnTermination": volume.get("delete_on_termination", False),
                        "Encrypted": volume.get("encrypted", False),
                    },
                }
                for volume in spec["volumes"]
            ],
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": tag_list({"Name": name, **spec.get("tags", {})})}
            ],
            "InstanceInitiatedShutdownBehavior": spec.get("shutdown", "stop"),
        }
        if spec.get("profile"):
            arguments["IamInstanceProfile"] = {"Arn": self.ids[spec["profile"]]}
        if spec.get("spot"):
            arguments["InstanceMarketOptions"] = {"MarketType": "spot"}
        if spec.get("operator"):
            arguments["Operator"] = {"Principal": spec["operator"]}
        if spec.get("metadata"):
            arguments["MetadataOptions"] = spec["metadata"]
        if spec.get("disable_api_termination"):
            arguments["DisableApiTermination"] = True
        if spec.get("disable_api_stop"):
            arguments["DisableApiStop"] = True
        made = self.ec2.run_instances(**arguments)["Instances"][0]
        self.ids[name] = made["InstanceId"]
        self.keep_interface(first, made["NetworkInterfaces"][0])
        for mapping in made["BlockDeviceMappings"]:
            volume = next(v for v in spec["volumes"] if v["device"] == mapping["DeviceName"])
            if "name" in volume:
                self.ids[volume["name"]] = mapping["Ebs"]["VolumeId"]
        for index, other in enumerate(others, start=1):
            created = self.ec2.create_network_interface(**self.interface(other))["NetworkInterface"]
            attached = self.ec2.attach_network_interface(
                NetworkInterfaceId=created["NetworkInterfaceId"], InstanceId=made["InstanceId"], DeviceIndex=index
            )
            if other.get("delete_on_termination"):
                self.ec2.modify_network_interface_attribute(
                    NetworkInterfaceId=created["NetworkInterfaceId"],
                    Attachment={"AttachmentId": attached["AttachmentId"], "DeleteOnTermination": True},
                )
            self.keep_interface(other, created)

    def keep_interface(self, spec: dict, made: dict) -> None:
        if "name" in spec:
            self.ids[spec["name"]] = made["NetworkInterfaceId"]
            self.addresses[spec["name"]] = made["PrivateIpAddress"]

    def make_snapshots(self, name: str, spec: dict) -> None:
        zone, tags = self.region + "a", tag_list(spec.get("tags", {}))
        volume = self.ec2.create_volume(AvailabilityZone=zone, Size=spec.get("size", 8), VolumeType="gp3")["VolumeId"]
        more = {"TagSpecifications": [{"ResourceType": "snapshot", "Tags": tags}]} if tags else {}
        made = self.ec2.create_snapshot(VolumeId=volume, Description=spec.get("description", name), **more)
        self.ids[name] = made["SnapshotId"]
        # A snapshot outlives its volume, and a volume that is no instance's would be in every state.
        self.ec2.delete_volume(VolumeId=volume)
        shared = {"GroupNames": ["all"] if spec.get("public") else [], "UserIds": spec.get("accounts", [])}
        if any(shared.values()):
            self.ec2.modify_snapshot_attribute(
                SnapshotId=made["SnapshotId"],
                Attribute="createVolumePermission",
                OperationType="add",
                **{member: values for member, values in shared.items() if values},
            )

    def make_db_snapshots(self, name: str, spec: dict) -> None:
        rds, title, of_cluster = self.clients("rds"), spec.get("name", name.replace("_", "-")), spec.get("cluster", False)
        database = {"MasterUsername": "shop", "MasterUserPassword": "not-a-secret-1A"}
        database["StorageEncrypted"] = spec.get("encrypted", False)
        tags = tag_list(spec.get("tags", {}))
        which = {"AttributeName": "restore"}
        # A manual snapshot outlives its database, and a database that nobody asked for is not left.
        if of_cluster:
            rds.create_db_cluster(DBClusterIdentifier=title, Engine="aurora-postgresql", **database)
            made = rds.create_db_cluster_snapshot(
                DBClusterIdentifier=title, DBClusterSnapshotIdentifier=title, Tags=tags
            )["DBClusterSnapshot"]
            rds.delete_db_cluster(DBClusterIdentifier=title, SkipFinalSnapshot=True)
            identifier, arn = made["DBClusterSnapshotIdentifier"], made["DBClusterSnapshotArn"]
            which["DBClusterSnapshotIdentifier"] = identifier
        else:
            rds.create_db_instance(
                DBInstanceIdentifier=title,
                DBInstanceClass="db.t4g.micro",
                Engine="postgres",
                AllocatedStorage=20,
                **database,
            )
            made = rds.create_db_snapshot(DBInstanceIdentifier=title, DBSnapshotIdentifier=title, Tags=tags)["DBSnapshot"]
            rds.delete_db_instance(DBInstanceIdentifier=title, SkipFinalSnapshot=True)
            identifier, arn = made["DBSnapshotIdentifier"], made["DBSnapshotArn"]
            which["DBSnapshotIdentifier"] = identifier
        self.ids[name], self.ids[name + ".arn"] = identifier, arn
        shared = (["all"] if spec.get("public") else []) + spec.get("accounts", [])
        if shared:
            modify = rds.modify_db_cluster_snapshot_attribute if of_cluster else rds.modify_db_snapshot_attribute
            modify(**which, ValuesToAdd=shared)

    def make_addresses(self, name: str, spec: dict) -> None:
        made = self.ec2.allocate_address(Domain="vpc")
        self.ids[name] = made["AllocationId"]
        self.ids[name + ".public"] = made["PublicIp"]
        if spec.get("interface"):
            self.ec2.associate_address(
                AllocationId=made["AllocationId"],
                NetworkInterfaceId=self.ids[spec["interface"]],
                PrivateIpAddress=self.addresses[spec["interface"]],
            )

    def make_auto_scaling_groups(self, name: str, spec: dict) -> None:
        scaling = self.clients("autoscaling")
        title = spec.get("name", name.replace("_", "-"))
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=title,
            LaunchTemplate={"LaunchTemplateId": self.ids[spec["launch_template"]]},
            MinSize=spec["min"],
            MaxSize=spec["max"],
            DesiredCapacity=spec.get("desired", 0),
            VPCZoneIdentifier=",".join(self.ids[subnet] for subnet in spec["subnets"]),
            TargetGroupARNs=[self.ids[group] for group in spec.get("target_groups", [])],
            LoadBalancerNames=[self.ids[balancer] for balancer in spec.get("classic_load_balancers", [])],
        )
        self.ids[name] = title
        if spec.get("attach"):
            scaling.attach_instances(
                AutoScalingGroupName=title, InstanceIds=[self.ids[instance] for instance in spec["attach"]]
            )

    def make_targets(self, name: str, spec: list) -> None:
        targets = []
        for target in spec:
            made = {"Id": self.addresses[target["interface"]] if "interface" in target else self.ids[target["instance"]]}
            if "port" in target:
                made["Port"] = target["port"]
            targets.append(made)
        self.clients("elbv2").register_targets(TargetGroupArn=self.ids[name], Targets=targets)

    def make_classic_members(self, name: str, spec: list) -> None:
        self.clients("elb").register_instances_with_load_balancer(
            LoadBalancerName=self.ids[name], Instances=[{"InstanceId": self.ids[instance]} for instance in spec]
        )

    def make_buckets(self, name: str, spec: dict) -> None:
        s3, title = self.clients("s3"), f"{spec.get('name', name)}-{self.account}"
        s3.create_bucket(Bucket=title, CreateBucketConfiguration={"LocationConstraint": self.region})
        self.ids[name] = title
        if spec.get("public_policy"):
            statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{title}/*"}
            s3.put_bucket_policy(Bucket=title, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        if "acl" in spec:
            s3.put_bucket_acl(Bucket=title, ACL=spec["acl"])
        if "block" in spec:
            s3.put_public_access_block(Bucket=title, PublicAccessBlockConfiguration=spec["block"])
        if spec.get("website"):
            s3.put_bucket_website(Bucket=title, WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
        if spec.get("tags"):
            s3.put_bucket_tagging(Bucket=title, Tagging={"TagSet": tag_list(spec["tags"])})

    def cloudtrail(self, spec: dict) -> Any:
        return self.accounts.client(self.account, spec.get("region", self.region), "cloudtrail")

    def make_trails(self, name: str, spec: dict) -> None:
        title = spec.get("name", name)
        bucket = f"{title}-logs-{self.account}"
        self.clients("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": self.region})
        cloudtrail = self.cloudtrail(spec)
        made = cloudtrail.create_trail(
            Name=title,
            S3BucketName=bucket,
            IsMultiRegionTrail=spec.get("multi_region", True),
            EnableLogFileValidation=spec.get("validated", True),
            IsOrganizationTrail=spec.get("organization", False),
            TagsList=tag_list(spec.get("tags", {})),
        )
        self.ids[name], self.ids[name + ".arn"] = title, made["TrailARN"]
        if spec.get("recording", True):
            cloudtrail.start_logging(Name=title)

    def make_end_states(self, name: str, spec: str) -> None:
        trail = self.world.get("trails", {}).get(name)
        of_database = self.world.get("db_snapshots", {}).get(name)
        if spec == "deleted" and trail is not None:
            self.cloudtrail(trail).delete_trail(Name=self.ids[name])
        elif spec == "deleted" and of_database is not None and of_database.get("cluster"):
            self.clients("rds").delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=self.ids[name])
        elif spec == "deleted" and of_database is not None:
            self.clients("rds").delete_db_snapshot(DBSnapshotIdentifier=self.ids[name])
        elif spec == "deleted" and self.ids[name].startswith("snap-"):
            self.ec2.delete_snapshot(SnapshotId=self.ids[name])
        elif spec == "deleted" and self.ids[name].startswith("sg-"):
            self.ec2.delete_security_group(GroupId=self.ids[name])
        elif spec == "deleted":
            self.clients("s3").delete_bucket(Bucket=self.ids[name])
        elif spec == "stopped":
            self.ec2.stop_instances(InstanceIds=[self.ids[name]])
        elif spec == "terminated":
            self.ec2.terminate_instances(InstanceIds=[self.ids[name]])
