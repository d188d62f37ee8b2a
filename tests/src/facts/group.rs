//! A security group, and whom it lets in to SSH.

use crate::compare::list;
use crate::emulator::world;
use crate::in_process::Case;
use anyhow::Result;
use serde_json::{Value, json};

use super::Open;

const SSH: i64 = 22;

/// The rules by which everywhere is let in to SSH.
pub(super) fn open(case: &Case, state: &Value) -> Open {
    let everywhere = |rule: &Value| rule["peer"] == "0.0.0.0/0" || rule["peer"] == "::/0";
    let about_ssh = |rule: &Value| match rule["protocol"].as_str() {
        Some("-1") => true,
        Some("tcp") => {
            let port = |name: &str| rule[name].as_i64().unwrap_or_default();
            (port("from")..=port("to")).contains(&SSH)
        }
        _ => false,
    };
    list(&state["security_groups"][&case.target.id]["rules"])
        .filter(|rule| rule["egress"] == false && everywhere(rule) && about_ssh(rule))
        .map(|rule| (rule["id"].to_string(), [case.target.id.clone()].into()))
        .collect()
}

/// SSH stands open again.
pub(super) async fn reopen(case: &Case) -> Result<()> {
    let everywhere =
        json!({"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]});
    let params = json!({"GroupId": case.target.id, "IpPermissions": [everywhere]});
    case.call("ec2", "authorize_security_group_ingress", params).await.map(|_| ())
}

pub(super) fn hostile(evil: &str, secret: &str) -> Result<Value> {
    let mut world = world("open-ranges")?;
    let group = &mut world["groups"]["victim"];
    group["tags"] = json!({"Name": evil, "secret": secret});
    // EC2 takes few characters there.
    group["ingress"][0]["description"] = json!("$(reboot); {{a}} [b] sg-0a1b2c3d");
    Ok(world)
}
