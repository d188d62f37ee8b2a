//! A finding: our one normal form of what a detector reported.

mod access_analyzer;
mod config;
mod control;
mod guardduty;
mod health;
pub mod identity;
mod inspector;
mod json;
mod macie;
mod ocsf;
mod product;
mod resource;
mod securityhub;
mod severity;
mod source;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod trigger;
mod trigger_type;
mod trusted_advisor;
mod unanswered;

pub use control::{Check, Compliance, Control};
pub use identity::{Credential, Identity, UserType};
pub use json::{ParseError, Problem};
pub use product::Product;
pub use resource::{Other, Resource, ResourceId};
pub use severity::{CRITICAL, HIGH};
pub use source::Source;
pub use state::State;
pub use trigger::{Kind, MOST_BYTES, Reported, Trigger, parse};
pub use trigger_type::{Answers, When};
pub use unanswered::{UNANSWERED, unanswered, unanswered_source};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::door::wire::{ByHand, LONGEST_REASON};
use crate::ids::{AccountId, Arn, FindingId, InstanceId, InterfaceId, InvalidId, Partition, Region};
use crate::ledger::decisions::{Decision, MOST_NAMES};
use crate::text::plain;

/// What a detector reported, in our normal form. Everything that decides is typed and checked; text
/// that people wrote (a title, a name) is kept only to be shown, escaped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The service that made the finding, also when Security Hub handed it on.
    pub source: Source,
    /// The finding's id, the same on every repeat.
    pub id: FindingId,
    /// The finding's own ARN, when the source gives one.
    pub arn: Option<Arn>,
    /// The finding type as its service writes it, as in `Backdoor:EC2/C&CActivity.B!DNS`.
    pub finding_type: String,
    /// GuardDuty's scale, 0.0 to 10.0; 0.0 where the source rates nothing.
    pub severity: f64,
    /// The account the finding is about.
    pub account: AccountId,
    /// The Region the finding was made in.
    pub region: Region,
    /// The partition of the account.
    pub partition: Partition,
    /// Whether it is a sample: samples never change anything.
    pub sample: bool,
    /// Whether it is live or put away.
    pub state: State,
    /// When the activity was first seen.
    pub first_seen: Option<Timestamp>,
    /// When the activity was last seen; moves on with every repeat.
    pub last_seen: Option<Timestamp>,
    /// How often it was seen.
    pub count: Option<u64>,
    /// The detector that made the finding. The member's, in a finding about a member account.
    pub detector_id: Option<String>,
    /// Whether the resource acted or was acted upon; unknown where the source does not say.
    pub role: ResourceRole,
    /// Which side opened the connection; unknown for findings that are not about one.
    #[serde(default)]
    pub direction: Direction,
    /// The kind of resource, as the source writes it (`Instance`, `AccessKey`, `AwsEc2Instance` …).
    pub resource_type: String,
    /// The EC2 instances the finding is about: one for most, several for an attack sequence, none
    /// when it names none. In the order of the finding, each once.
    pub instances: Vec<InstanceId>,
    /// Network interfaces an attack sequence names without naming their instance.
    #[serde(default)]
    pub interfaces: Vec<InterfaceId>,
    /// Instances, and network interfaces without an instance, that an attack sequence names in another account or
    /// Region. Never acted on under this finding, whose role and session are for one account; the report lists them.
    #[serde(default)]
    pub elsewhere: Vec<Arn>,
    /// The identities whose credentials the finding is about, each once: one for most that name any, several for an
    /// attack sequence.
    #[serde(default)]
    pub identities: Vec<Identity>,
    /// Everything that the finding names and that is of a kind known here, instances too; in the order of the finding,
    /// each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// What an attack sequence was put together from: the types of findings and the names of calls, to be shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<String>,
    /// The control that was evaluated, where the finding is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// The product that put the finding into Security Hub, where it came from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<Product>,
    /// The Security Hub custom action by which somebody picked the finding. It does not say who, so it is a request:
    /// the answer is at most a proposal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Who asked for it by hand: the ids of persons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_by: Vec<String>,
    /// The title, written by the service, with names in it that an attacker may have chosen.
    pub title: String,
}

impl Finding {
    /// What it reports, in a word: the control that has failed, else the finding type.
    pub fn what(&self) -> &str {
        self.control.as_ref().map_or(&self.finding_type, Control::name)
    }

    /// Whether AWS itself says in it that an access key lies open.
    pub fn is_exposed_key(&self) -> bool {
        let key = |resource: &Resource| matches!(resource.id, ResourceId::AccessKey(_));
        matches!(self.source, Source::Health | Source::TrustedAdvisor) && self.resources.iter().any(key)
    }

    /// What an attack sequence names and nothing is done about under this finding, one line each, in words.
    /// `is_own` says whether a network interface is one of the target's.
    pub fn not_touched(&self, is_own: impl Fn(&InterfaceId) -> bool) -> Vec<String> {
        let elsewhere = self.elsewhere.iter().map(|arn| {
            // Read as the ARN of an instance or an interface, with its account and Region.
            let id = arn.resource.rsplit('/').next().unwrap_or_default();
            let account = arn.account.as_ref().map_or("", AccountId::as_str);
            let region = arn.region.as_ref().map_or("", Region::as_str);
            format!("not touched: {id} in account {account}, {region}, which the finding names as well")
        });
        let nobodys = self.interfaces.iter().filter(|id| !is_own(id));
        let nobodys = nobodys.map(|id| format!("not touched, unless it is named itself: the instance of {id}"));
        elsewhere.chain(nobodys).collect()
    }

    /// What somebody asked for by hand, in the form of a finding. Its id is that of the run it may begin. It rates
    /// nothing, and only a policy that names the source lets it be enforced ([`crate::guard::rule`]).
    ///
    /// # Errors
    /// When the id of the run is none of a finding's, which does not happen.
    pub fn by_hand(decision: &Decision, asked: &ByHand, hub: &Region) -> Result<Self, InvalidId> {
        let target = &asked.target;
        let region = target.region.clone().unwrap_or_else(|| hub.clone());
        let kind = "Firebreak:Request".to_owned();
        let id = decision.run.as_str().parse()?;
        let mut finding = Self::new(Source::Request, id, kind, 0.0, target.account.clone(), region);
        finding.partition = target.partition;
        finding.request = Some(plain(&decision.by, MOST_NAMES));
        finding.asked_by = decision.persons.clone();
        finding.title = plain(&asked.reason, LONGEST_REASON);
        if target.kind.is_identity() {
            let user_type = if target.role_and_session().is_some() { UserType::AssumedRole } else { UserType::IamUser };
            let (principal_id, user_name) = (Some(target.id.clone()), asked.name.clone());
            finding.identities.push(Identity { access_key: None, user_type, principal_id, user_name, arn: None });
        }
        Ok(finding)
    }

    /// A live finding that names nothing and says nothing more.
    pub(crate) fn new(
        source: Source,
        id: FindingId,
        finding_type: String,
        severity: f64,
        account: AccountId,
        region: Region,
    ) -> Self {
        Self {
            source,
            id,
            arn: None,
            finding_type,
            severity,
            account,
            partition: region.partition(),
            region,
            sample: false,
            state: State::Active,
            first_seen: None,
            last_seen: None,
            count: None,
            detector_id: None,
            role: ResourceRole::Unknown,
            direction: Direction::Unknown,
            resource_type: String::new(),
            instances: Vec::new(),
            interfaces: Vec::new(),
            elsewhere: Vec::new(),
            identities: Vec::new(),
            resources: Vec::new(),
            signals: Vec::new(),
            control: None,
            product: None,
            request: None,
            asked_by: Vec::new(),
            title: String::new(),
        }
    }

    /// The same, of a rule that is not believed: it is none that anything answers, whatever its name.
    pub(crate) fn unbelieved(mut self) -> Self {
        if let Some(control) = &mut self.control {
            control.check = Some(String::new());
        }
        self
    }

    /// Where it is, for its resources to be held against.
    fn place(&self) -> resource::Place<'_> {
        resource::Place { partition: self.partition, region: &self.region, account: &self.account }
    }

    /// Whether nothing will be done whatever it names: then there is nothing to be strict about.
    fn is_out(&self) -> bool {
        self.sample || !self.state.is_live() || matches!(self.product, Some(Product::Foreign(_)))
    }

    /// The instances among its resources that are in its own account and Region.
    fn named_instances(&self) -> Vec<InstanceId> {
        let here =
            |resource: &&Resource| resource.account == self.account && resource.region.as_ref() == Some(&self.region);
        let instance = |resource: &Resource| match &resource.id {
            ResourceId::Instance(id) => Some(id.clone()),
            _ => None,
        };
        self.resources.iter().filter(here).filter_map(instance).collect()
    }

    /// Adds a resource, once. Of a finding under which nothing is done, what is malformed is left out.
    fn name(&mut self, resource: Result<Resource, ParseError>) -> Result<(), ParseError> {
        match resource {
            Ok(resource) if !self.resources.contains(&resource) => {
                if let ResourceId::AccessKey(key) = &resource.id
                    && !self.sample
                {
                    self.identities.push(Identity::of_key(key.clone()));
                }
                self.resources.push(resource);
            }
            Err(error) if !self.is_out() => return Err(error),
            _ => {}
        }
        Ok(())
    }
}

/// A kind of resource as one word, without the marks between its parts: it is shown and given to policies, and is
/// never acted on.
fn kind_word(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// The part the resource played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceRole {
    /// It did what the finding reports.
    Actor,
    /// It was done to it.
    Target,
    /// The source does not say.
    Unknown,
}

/// Which side opened a connection, seen from the resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The other side.
    Inbound,
    /// The resource.
    Outbound,
    /// The source does not say.
    #[default]
    Unknown,
}
