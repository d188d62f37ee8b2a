//! Worlds at random: within what an action is for, with other things beside that must not change.

use anyhow::{Result, bail};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// The worlds in which a playbook plans this action.
///
/// # Errors
/// When none are known here.
pub fn worlds_for(action: &str) -> Result<BoxedStrategy<Value>> {
    Ok(match action {
        "autoscaling.detach-instance"
        | "ec2.close-interface"
        | "ec2.create-group"
        | "ec2.create-snapshots"
        | "ec2.disable-metadata-endpoint"
        | "ec2.disassociate-address"
        | "ec2.empty-group"
        | "ec2.keep-volumes"
        | "ec2.lock-snapshot"
        | "ec2.open-group"
        | "ec2.open-interface"
        | "ec2.remove-public-address"
        | "ec2.replace-instance-profile"
        | "ec2.replace-interface-groups"
        | "ec2.set-instance-attribute"
        | "ec2.tighten-connection-tracking"
        | "elasticloadbalancing.deregister-instance"
        | "elasticloadbalancing.deregister-targets" => instance(action.to_owned()),
        "iam.attach-deny-policy"
        | "iam.deactivate-access-key"
        | "iam.deactivate-service-credential"
        | "iam.deactivate-signing-certificate"
        | "iam.deactivate-ssh-key" => user(action.to_owned()),
        "iam.retire-access-key" => old_keys(),
        "iam.revoke-sessions" => role(),
        "ec2.set-ingress-rule" => group(),
        "ec2.unshare-snapshot" => snapshot(),
        "rds.unshare-db-cluster-snapshot" => db_snapshot(true),
        "rds.unshare-db-snapshot" => db_snapshot(false),
        "s3.block-public-access" => bucket(),
        "cloudtrail.start-logging" => trail("recording"),
        "cloudtrail.validate-log-files" => trail("validated"),
        _ => bail!("{action}: say in tests/tests/laws/starts/worlds.rs in which worlds it is planned"),
    })
}

fn tags() -> impl Strategy<Value = Value> {
    btree_map("[a-z][a-z0-9_.-]{0,12}", "[A-Za-z0-9 _.:/=+@-]{0,24}", 0..4).prop_map(|tags| json!(tags))
}

fn accounts() -> impl Strategy<Value = Vec<String>> {
    btree_set("4[0-9]{11}", 0..4).prop_map(|accounts| accounts.into_iter().collect())
}

/// Rules, each of a port of its own: AWS takes none twice.
fn rules(first_port: u16) -> impl Strategy<Value = Vec<Value>> {
    let peer = prop_oneof![
        Just(json!({"ipv4": ["0.0.0.0/0"]})),
        Just(json!({"ipv4": ["10.0.0.0/8", "192.0.2.0/24"]})),
        Just(json!({"ipv6": ["::/0"]})),
        Just(json!({"ipv4": ["203.0.113.0/24"], "ipv6": ["2001:db8::/32"]})),
    ];
    let one = (peer, select(vec!["tcp", "udp"]), 0_u16..9, option::of("[a-zA-Z0-9 ._-]{1,16}"));
    vec(one, 0..3).prop_map(move |rules| {
        let rule = |(n, (mut rule, protocol, wide, words)): (usize, (Value, &str, u16, Option<String>))| {
            let from = first_port + 100 * u16::try_from(n).unwrap_or(0);
            rule["protocol"] = json!(protocol);
            rule["ports"] = json!([from, from + wide]);
            if let Some(words) = words {
                rule["description"] = json!(words);
            }
            rule
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

/// An interface: which groups, how many IPv6 addresses, its timeouts, whether it goes with the instance, and whether it has
/// an Elastic IP address.
type Interface = (u8, u8, Option<(u32, u32)>, bool, bool);

fn interface() -> impl Strategy<Value = Interface> {
    (1_u8..32, 0_u8..3, option::weighted(0.4, (60_u32..432_000, 31_u32..60)), any::<bool>(), any::<bool>())
}

/// An instance and what is around it.
#[derive(Debug, Clone)]
struct Machine {
    ipv6: bool,
    groups: Vec<Vec<Value>>,
    interfaces: Vec<Interface>,
    volumes: Vec<(u8, bool, bool)>,
    public: bool,
    profile: bool,
    endpoint: bool,
    tokens: bool,
    protected: (bool, bool),
    shutdown: bool,
    tags: Value,
    target_groups: Vec<(u16, bool)>,
    classic: bool,
    scaling: bool,
    neighbour: bool,
}

fn machine() -> impl Strategy<Value = Machine> {
    let around =
        (vec((1_u16..9000, any::<bool>()), 0..3), any::<bool>(), option::weighted(0.3, Just(())), any::<bool>());
    let own =
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<(bool, bool)>(), any::<bool>(), tags());
    let parts = (vec(rules(1000), 1..6), vec(interface(), 1..4), vec((1_u8..60, any::<bool>(), any::<bool>()), 1..4));
    (any::<bool>(), parts, own, around).prop_map(|(ipv6, (groups, interfaces, volumes), own, around)| {
        let (public, profile, endpoint, tokens, protected, shutdown, tags) = own;
        let (target_groups, classic, scaling, neighbour) = around;
        Machine {
            ipv6,
            groups,
            interfaces,
            volumes,
            public,
            profile,
            endpoint,
            tokens,
            protected,
            shutdown,
            tags,
            target_groups,
            classic,
            scaling: scaling.is_some(),
            neighbour,
        }
    })
}

fn instance(action: String) -> BoxedStrategy<Value> {
    machine()
        .prop_map(move |mut machine| {
            match action.as_str() {
                "autoscaling.detach-instance" => machine.scaling = true,
                "ec2.disable-metadata-endpoint" => machine.endpoint = true,
                "ec2.disassociate-address" => (machine.public, machine.interfaces[0].4) = (false, true),
                "ec2.keep-volumes" => machine.volumes[0].1 = true,
                "ec2.remove-public-address" => machine.public = true,
                "ec2.replace-instance-profile" => machine.profile = true,
                "ec2.set-instance-attribute" => machine.protected = (false, machine.protected.1),
                "elasticloadbalancing.deregister-instance" => machine.classic = true,
                "elasticloadbalancing.deregister-targets" => machine.target_groups.push((8080, true)),
                _ => {}
            }
            seeded(&machine)
        })
        .boxed()
}

fn seeded(machine: &Machine) -> Value {
    let name = |n: usize| format!("sg_{n}");
    let eni = |n: usize| format!("eni_{}", ["a", "b", "c", "d"][n.min(3)]);
    let groups: Map<String, Value> = (machine.groups.iter().enumerate())
        .map(|(n, rules)| (name(n), json!({"vpc": "vpc", "name": format!("group-{n}"), "ingress": rules})))
        .collect();
    let has = |mask: u8, n: usize| mask & (1 << n) != 0;
    let interfaces: Vec<Value> = (machine.interfaces.iter().enumerate())
        .map(|(n, (mask, addresses, timeouts, goes, _))| {
            let mut its: Vec<String> = (0..machine.groups.len()).filter(|n| has(*mask, *n)).map(name).collect();
            if its.is_empty() {
                its.push(name(0));
            }
            let mut made = json!({
                "name": eni(n), "subnet": "subnet", "groups": its, "ipv6": if machine.ipv6 { *addresses } else { 0 },
                "delete_on_termination": goes, "public": n == 0 && machine.public,
            });
            if let Some((established, udp)) = timeouts {
                made["tracking"] = json!({"TcpEstablishedTimeout": established, "UdpTimeout": udp.min(&59)});
            }
            made
        })
        .collect();
    let devices = ["/dev/sda1", "/dev/sdf", "/dev/sdg", "/dev/sdh"];
    let volumes: Vec<Value> = (machine.volumes.iter().zip(devices).enumerate())
        .map(|(n, ((size, goes, encrypted), device))| {
            json!({"name": format!("vol_{n}"), "device": device, "size": size, "delete_on_termination": goes, "encrypted": encrypted})
        })
        .collect();
    let addressed = |(n, interface): &(usize, &Interface)| interface.4 && !(*n == 0 && machine.public);
    let addresses: Map<String, Value> = (machine.interfaces.iter().enumerate())
        .filter(addressed)
        .map(|(n, _)| (format!("eip_{n}"), json!({"interface": eni(n)})))
        .chain([("eip_spare".to_owned(), json!({}))])
        .collect();
    let victim = json!({
        "type": "m5.2xlarge", "interfaces": interfaces, "volumes": volumes, "tags": machine.tags,
        "shutdown": if machine.shutdown { "terminate" } else { "stop" },
        "disable_api_termination": machine.protected.0, "disable_api_stop": machine.protected.1,
        "metadata": {
            "HttpEndpoint": if machine.endpoint { "enabled" } else { "disabled" },
            "HttpTokens": if machine.tokens { "required" } else { "optional" },
        },
    });
    let mut world = json!({
        "target": "ec2-instance",
        "vpcs": {"vpc": {"cidr": "10.20.0.0/16", "ipv6": machine.ipv6}},
        "subnets": {"subnet": {"vpc": "vpc", "cidr": "10.20.1.0/24", "zone": "a"}},
        "groups": groups, "instances": {"victim": victim}, "addresses": addresses,
    });
    if machine.profile {
        world["profiles"] = json!({"profile": {"role": "web-server"}});
        world["instances"]["victim"]["profile"] = json!("profile");
    }
    if machine.neighbour {
        world["instances"]["neighbour"] = json!({
            "interfaces": [{"name": "eni_neighbour", "subnet": "subnet", "groups": ["sg_0"], "public": true}],
            "volumes": [{"name": "vol_neighbour", "device": "/dev/sda1", "size": 8, "delete_on_termination": true}],
        });
    }
    for (n, (port, of_instance)) in machine.target_groups.iter().enumerate() {
        let group = format!("tg_{n}");
        world["target_groups"][&group] =
            json!({"vpc": "vpc", "port": 8080, "type": if *of_instance { "instance" } else { "ip" }});
        let target = if *of_instance { json!({"instance": "victim"}) } else { json!({"interface": "eni_a"}) };
        world["targets"][&group] = json!([target]);
        world["targets"][&group][0]["port"] = json!(port);
    }
    if machine.classic {
        world["classic_load_balancers"] = json!({"clb": {"subnets": ["subnet"], "groups": ["sg_0"]}});
        world["classic_members"] = json!({"clb": ["victim"]});
    }
    if machine.scaling {
        world["launch_templates"] = json!({"launch_template": {"groups": ["sg_0"], "type": "m5.large"}});
        world["auto_scaling_groups"] = json!({"asg": {
            "launch_template": "launch_template", "subnets": ["subnet"], "min": 1, "max": 6, "desired": 1, "attach": ["victim"],
        }});
    }
    world
}

fn policies() -> impl Strategy<Value = Value> {
    let statement = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::shop/*"});
    let document = json!({"Version": "2012-10-17", "Statement": [statement]});
    btree_set("[a-z][A-Za-z0-9+=,.@_-]{0,12}", 0..3)
        .prop_map(move |names| Value::Object(names.into_iter().map(|name| (name, document.clone())).collect()))
}

fn path() -> impl Strategy<Value = &'static str> {
    select(vec!["/", "/ci/", "/people/shop/"])
}

fn status() -> impl Strategy<Value = &'static str> {
    select(vec!["Active", "Inactive"])
}

fn user(action: String) -> BoxedStrategy<Value> {
    let services = vec!["codecommit.amazonaws.com", "cassandra.amazonaws.com", "bedrock.amazonaws.com"];
    let credentials = (option::of(status()), btree_set(select(services), 0..3), vec(status(), 0..4), 0_u8..3);
    ("v[A-Za-z0-9+=,.@_-]{0,20}", path(), tags(), any::<bool>(), policies(), credentials, any::<bool>())
        .prop_map(move |(name, path, tags, password, inline, (second, services, ssh, certificates), beside)| {
            let (mut services, mut ssh, mut certificates) = (Vec::from_iter(services), ssh, certificates);
            match action.as_str() {
                "iam.deactivate-service-credential" if services.is_empty() => services.push("bedrock.amazonaws.com"),
                "iam.deactivate-ssh-key" => ssh.push("Active"),
                "iam.deactivate-signing-certificate" => certificates = certificates.max(1),
                _ => {}
            }
            let keys: Vec<&str> = ["Active"].into_iter().chain(second).collect();
            let mut world = json!({"target": "iam-user", "users": {"victim": {
                "name": name, "path": path, "tags": tags, "password": password, "inline": inline, "keys": keys,
                "service_credentials": services, "ssh_keys": ssh, "certificates": certificates,
            }}});
            if beside {
                world["users"]["neighbour"] =
                    json!({"name": "n-test", "path": path, "keys": ["Active", "Active"], "ssh_keys": ["Active"]});
            }
            world
        })
        .boxed()
}

fn old_keys() -> BoxedStrategy<Value> {
    let second = option::of((1_u16..60, any::<bool>()));
    ("v[A-Za-z0-9+=,.@_-]{0,20}", tags(), (200_u16..900, any::<bool>()), second, any::<bool>())
        .prop_map(|(name, tags, (age, used), second, password)| {
            let mut old = json!({"age_days": age});
            if used {
                old["used_days_ago"] = json!(age - 20);
            }
            let new = second
                .map(|(age, active)| json!({"age_days": age, "status": if active { "Active" } else { "Inactive" }}));
            let keys: Vec<Value> = [old].into_iter().chain(new).collect();
            json!({"target": "iam-user", "users": {
                "victim": {"name": name, "tags": tags, "keys": keys, "password": password},
                "neighbour": {"name": "n-report", "keys": [{"age_days": 400}]},
            }})
        })
        .boxed()
}

fn role() -> BoxedStrategy<Value> {
    let session = option::of("[A-Za-z0-9=,.@_-]{2,20}");
    ("v[A-Za-z0-9+=,.@_-]{0,20}", path(), tags(), session, any::<bool>(), policies())
        .prop_map(|(name, path, tags, session, profile, inline)| {
            let kind = if session.is_some() { "iam-role-session" } else { "iam-role" };
            let mut victim = json!({"name": name, "path": path, "tags": tags, "profile": profile, "inline": inline});
            if let Some(session) = session {
                victim["session"] = json!(session);
            }
            json!({"target": kind, "roles": {"victim": victim, "neighbour": {"name": "n-release", "session": "bob@example.com"}}})
        })
        .boxed()
}

fn group() -> BoxedStrategy<Value> {
    let ssh = prop_oneof![
        Just(json!({"protocol": "tcp", "ports": [22, 22], "ipv4": ["0.0.0.0/0"]})),
        Just(json!({"protocol": "tcp", "ports": [20, 25], "ipv4": ["0.0.0.0/0"], "description": "files"})),
        Just(json!({"protocol": "tcp", "ports": [22, 22], "ipv6": ["::/0"]})),
        Just(json!({"protocol": "tcp", "ports": [1, 600], "ipv4": ["0.0.0.0/0", "198.51.100.0/24"], "ipv6": ["::/0"]})),
    ];
    ("[a-z][a-zA-Z0-9 ._-]{0,20}", tags(), ssh, rules(1000), rules(3000))
        .prop_map(|(name, tags, ssh, before, after)| {
            let ingress: Vec<Value> = before.into_iter().chain([ssh]).chain(after).collect();
            json!({
                "target": "ec2-security-group", "vpcs": {"vpc": {"cidr": "10.20.0.0/16"}},
                "groups": {
                    "victim": {"vpc": "vpc", "name": format!("v{name}"), "tags": tags, "ingress": ingress},
                    "neighbour": {"vpc": "vpc", "name": "next", "ingress": [{"protocol": "tcp", "ports": [22, 22], "ipv4": ["0.0.0.0/0"]}]},
                },
            })
        })
        .boxed()
}

fn snapshot() -> BoxedStrategy<Value> {
    ("[a-zA-Z0-9 ._-]{1,30}", 1_u8..60, tags(), accounts())
        .prop_map(|(description, size, tags, accounts)| {
            json!({"target": "ec2-snapshot", "snapshots": {
                "victim": {"description": description, "size": size, "tags": tags, "accounts": accounts, "public": true},
                "neighbour": {"description": "stock", "size": 8, "accounts": ["444455556666"]},
            }})
        })
        .boxed()
}

fn db_snapshot(cluster: bool) -> BoxedStrategy<Value> {
    ("v[a-z0-9]{1,12}", tags(), accounts())
        .prop_map(move |(name, tags, accounts)| {
            let kind = if cluster { "rds-cluster-snapshot" } else { "rds-snapshot" };
            json!({"target": kind, "db_snapshots": {
                "victim": {"name": name, "cluster": cluster, "tags": tags, "accounts": accounts, "public": true},
                "neighbour": {"name": "n-stock", "cluster": cluster, "accounts": ["444455556666"]},
            }})
        })
        .boxed()
}

fn bucket() -> BoxedStrategy<Value> {
    let block = option::of(any::<(bool, bool, bool)>());
    ("v[a-z0-9]{2,20}", tags(), block)
        .prop_map(|(name, tags, block)| {
            let mut victim = json!({"name": name, "public_policy": true, "tags": tags});
            if let Some((acls, ignore, restrict)) = block {
                // With a block of public policies the policy would be refused.
                victim["block"] = json!({
                    "BlockPublicAcls": acls, "IgnorePublicAcls": ignore, "BlockPublicPolicy": false, "RestrictPublicBuckets": restrict,
                });
            }
            json!({"target": "s3-bucket", "buckets": {"victim": victim, "neighbour": {"name": "n-next", "public_policy": true}}})
        })
        .boxed()
}

fn trail(what: &'static str) -> BoxedStrategy<Value> {
    ("v[a-z0-9]{2,20}", tags(), any::<bool>())
        .prop_map(move |(name, tags, other)| {
            let mut victim = json!({"name": name, "tags": tags});
            victim[if what == "recording" { "validated" } else { "recording" }] = json!(other);
            victim[what] = json!(false);
            json!({"target": "cloudtrail-trail", "trails": {"victim": victim}})
        })
        .boxed()
}
