//! A peer as it is deployed: in a security account, with a role in each member account that something happens in.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use firebreak_tests::deployment::REGION;
use firebreak_tests::emulator;
use firebreak_tests::lab::{Function, Lab, Program, Setup};
use serde_json::{Value, json};

use crate::kit::{Incident, Kit, Peer};

/// The name of a peer's role, in the security account and in each member account.
const ROLE: &str = "peer";
/// The group that the peers isolate with, made ahead as their users do.
const GROUP: &str = "quarantine";
/// What stands for the member account in Cloud Custodian's policies: its `set-policy` takes one ARN.
const MEMBER: &str = "000000000000";
/// What stands there for the folder that it writes to, which is `/tmp` of a sandbox on Lambda.
const OUTPUT: &str = "OUTPUT";
/// What a peer may do in a member account.
const LEAVES: [&str; 9] = [
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroups",
    "ec2:CreateSecurityGroup",
    "ec2:RevokeSecurityGroupEgress",
    "ec2:ModifyNetworkInterfaceAttribute",
    "ec2:CreateSnapshots",
    "iam:GetUser",
    "iam:UpdateAccessKey",
    "iam:AttachUserPolicy",
];

/// A peer, deployed for one kind of incident.
#[derive(Debug)]
pub struct Stage<'k> {
    /// Who it is.
    pub peer: Peer,
    /// What happens.
    pub incident: Incident,
    /// The accounts, and the observer.
    pub lab: Lab<'k>,
    program: Program,
    spec: emulator::Function,
    output: PathBuf,
}

impl<'k> Stage<'k> {
    /// Deploys a peer; `policy` is Cloud Custodian's.
    ///
    /// # Errors
    /// When it cannot be deployed.
    pub async fn new(kit: &'k Kit, peer: Peer, incident: Incident, policy: &str) -> Result<Self> {
        let parameters = json!({"BudgetAccountPerHour": 100_000, "BudgetTotalPerHour": 100_000});
        let function = incident.function();
        let setup = Setup { world: incident.world(), function, parameters, ..Setup::default() };
        let lab = Lab::new(&kit.emulator, kit.function(incident)?, &setup).await?;
        let mut spec = lab.stack.function(function.logical)?.clone();
        if peer != Peer::Firebreak {
            let may = json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": format!("arn:aws:iam::*:role/{ROLE}")});
            let trust = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"});
            make_role(&lab, &lab.hub, &trust, &may).await?;
            let member = format!("arn:aws:iam::{{account_id}}:role/{ROLE}");
            spec = emulator::Function {
                name: ROLE.to_owned(),
                role: Some(format!("arn:aws:iam::{}:role/{ROLE}", lab.hub)),
                environment: BTreeMap::from([("MEMBER_ROLE".to_owned(), member)]),
                ..spec
            };
        }
        let program = kit.program(peer, incident, policy)?;
        Ok(Self { peer, incident, lab, program, spec, output: kit.output() })
    }

    /// Another member account, in which nothing has happened yet: a victim, and all that a peer needs there ahead. Each has
    /// its quarantine group; Firebreak's is made and recorded as `firebreak onboard` does.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn enter_another_account(&mut self) -> Result<()> {
        self.lab.enter_another_account(self.incident.world()).await?;
        let lab = &self.lab;
        if self.peer == Peer::Firebreak {
            if self.incident == Incident::Instance {
                lab.prepare().await?;
            }
            return Ok(());
        }
        let hub = json!({"AWS": format!("arn:aws:iam::{}:root", lab.hub)});
        let trust = json!({"Effect": "Allow", "Principal": hub, "Action": "sts:AssumeRole"});
        let may = json!({"Effect": "Allow", "Action": LEAVES, "Resource": "*"});
        make_role(lab, &lab.member, &trust, &may).await?;
        if self.incident == Incident::Instance {
            lab.empty_group(&lab.member, lab.ids.get("vpc")?, GROUP).await?;
        }
        if self.peer == Peer::Custodian {
            let denial = document(&json!({"Effect": "Deny", "Action": "*", "Resource": "*"}));
            let policy = json!({"PolicyName": "deny-all", "PolicyDocument": denial});
            lab.at_member("iam", "create_policy", policy).await?;
        }
        Ok(())
    }

    /// The memory that the template gives Firebreak's function, in megabytes: the peers get the same.
    #[must_use]
    pub fn memory_mb(&self) -> u32 {
        self.spec.memory
    }

    /// Starts a process of it; under what counts it, where `under` names that with its arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&self, under: &[String]) -> Result<Function> {
        self.start_towards(under, None).await
    }

    /// The same, towards another endpoint than the emulator's.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_towards(&self, under: &[String], endpoint: Option<&str>) -> Result<Function> {
        self.fill_in()?;
        let mut program = self.program.clone();
        if let [counter, arguments @ ..] = under {
            let path = std::mem::replace(&mut program.path, counter.into());
            let rest = std::mem::take(&mut program.arguments);
            program.arguments = arguments.iter().map(Into::into).chain([path.into()]).chain(rest).collect();
        }
        let role = self.spec.role.as_deref().ok_or_else(|| anyhow!("the function has no role"))?;
        let credentials = self.lab.observer.role_credentials(&self.lab.hub, role).await?;
        let mut env = self.lab.emulator.environment(REGION, &credentials);
        env.extend(endpoint.map(|endpoint| ("AWS_ENDPOINT_URL".to_owned(), endpoint.to_owned())));
        if let Some(directory) = &program.directory {
            env.push(("LAMBDA_TASK_ROOT".to_owned(), directory.display().to_string()));
        }
        Function::start(&program, &self.spec, &self.lab.hub, &env).await
    }

    /// Puts the account and the folder of this moment into a policy of Cloud Custodian's, as deploying it would.
    fn fill_in(&self) -> Result<()> {
        let Some(directory) = self.program.directory.as_ref().filter(|_| self.peer == Peer::Custodian) else {
            return Ok(());
        };
        let (config, packed) = (directory.join("config.json"), directory.join("config.packed.json"));
        if !packed.exists() {
            fs::copy(&config, &packed)?;
        }
        let text = fs::read_to_string(&packed).context("a packed policy is gone")?;
        let text = text.replace(MEMBER, &self.lab.member).replace(OUTPUT, &self.output.display().to_string());
        fs::create_dir_all(&self.output)?;
        fs::write(&config, text).context("cannot write a policy")
    }

    /// The finding about this account's victim as an event, as EventBridge delivers it to Firebreak's function: all peers get
    /// the same. GuardDuty has it.
    ///
    /// # Errors
    /// When it is not delivered.
    pub async fn event(&self) -> Result<Value> {
        let mut detail = self.lab.finding(self.incident.finding(), "victim").await?;
        // All act on what is severe.
        detail["severity"] = json!(8.0);
        self.lab.put_in_guardduty(&detail).await?;
        let mut delivered = self.lab.route(&detail).await?;
        match (delivered.pop(), delivered.is_empty()) {
            (Some(event), true) => Ok(event),
            _ => bail!("the finding was not delivered once"),
        }
    }

    /// An event that it has nothing to do for: of Firebreak's function for instances a finding about a key; of a peer a finding
    /// of low severity about the instance, which Firebreak would tell people of.
    ///
    /// # Errors
    /// When there is no such finding.
    pub async fn foreign_event(&self, event: &Value) -> Result<Value> {
        if self.peer == Peer::Firebreak {
            let text = fs::read(emulator::workspace().join("events/guardduty/iam-user.json"))?;
            return serde_json::from_slice(&text).context("an event is not JSON");
        }
        let mut event = event.clone();
        event["detail"] = self.lab.finding("port-probe", "victim").await?;
        Ok(event)
    }

    /// What Cloud Custodian wrote of what it found, until its sandbox ends.
    #[must_use]
    pub fn written(&self) -> String {
        let mut text = String::new();
        for folder in fs::read_dir(&self.output).into_iter().flatten().flatten() {
            text += &fs::read_to_string(folder.path().join("resources.json")).unwrap_or_default();
        }
        text
    }
}

async fn make_role(lab: &Lab<'_>, account: &str, trust: &Value, may: &Value) -> Result<()> {
    let call = |operation: &'static str, params: Value| lab.observer.call(account, REGION, "iam", operation, params);
    call("create_role", json!({"RoleName": ROLE, "AssumeRolePolicyDocument": document(trust)})).await?;
    let policy = json!({"RoleName": ROLE, "PolicyName": "may", "PolicyDocument": document(may)});
    call("put_role_policy", policy).await.map(|_| ())
}

fn document(statement: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}
