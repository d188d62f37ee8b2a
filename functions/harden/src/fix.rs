//! Fixes: playbooks that answer a failed control. What they have in common is written here once: whom a finding is about,
//! and who is asked whether it is true.

use std::marker::PhantomData;
use std::str::FromStr;

use firebreak::action::{AnyAction, Boxed};
use firebreak::authenticate::{Authenticity, looked_for_twice, not_asked};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure};
use firebreak::finding::{Check, Finding, Resource, ResourceId, Source};
use firebreak::ids::InvalidId;
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook};
use firebreak::target::Target;
use firebreak::write_back::Note;

use crate::{config, securityhub};

/// A playbook that puts right what a failed control found about one kind of target.
pub trait Fix: 'static {
    /// What it is, with the controls that it answers.
    const META: Meta;
    /// Every action that its plans may hold.
    const ACTIONS: &'static [&'static dyn AnyAction];

    /// The target, when a resource that a failed control names is of its kind.
    fn target(resource: &Resource, finding: &Finding) -> Option<Target>;

    /// Whether a resource that a failed control names stands for targets that have to be looked up: the account, for what
    /// is in it.
    fn stands_for_targets(_resource: &ResourceId) -> bool {
        false
    }

    /// Looks those up: resources that [`Fix::target`] takes.
    fn look_up<'a>(
        _member: &'a Aws,
        _finding: &'a Finding,
    ) -> impl Future<Output = Result<Vec<Resource>, Failure>> + Send + 'a {
        async { Ok(Vec::new()) }
    }

    /// Reads the resource as it is now, and plans what `check` still finds wrong with it. Nothing is wrong where another
    /// has put it right, or where the finding was never true.
    fn plan<'a>(
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
        check: &'static Check,
    ) -> impl Future<Output = Result<Planned, Failure>> + Send + 'a;
}

/// A fix as the playbook that the loop runs.
#[derive(Debug)]
pub struct AsPlaybook<F>(PhantomData<fn() -> F>);

impl<F> AsPlaybook<F> {
    /// For a static list of playbooks.
    pub const NEW: Self = Self(PhantomData);
}

/// What of a finding's account is of a fix's kind.
fn named<F: Fix>(finding: &Finding) -> Vec<Target> {
    let mut found = Vec::new();
    for resource in finding.resources.iter().filter(|resource| resource.account == finding.account) {
        let target = F::target(resource, finding);
        found.extend(target.filter(|target| !found.contains(target)));
    }
    found
}

fn stands_for_targets<F: Fix>(finding: &Finding) -> bool {
    let own = finding.resources.iter().filter(|resource| resource.account == finding.account);
    own.map(|resource| &resource.id).any(F::stands_for_targets)
}

/// The id of a target that a fix has made itself.
pub(crate) fn id_of<T: FromStr<Err = InvalidId>>(target: &Target) -> Result<T, Failure> {
    let wrong = || Failure::new(Class::Bug, "plan for target", target.to_string());
    target.id.parse().map_err(|error| wrong().because(error))
}

impl<F: Fix> Playbook for AsPlaybook<F> {
    fn meta(&self) -> &'static Meta {
        &F::META
    }

    fn actions(&self) -> &'static [&'static dyn AnyAction] {
        F::ACTIONS
    }

    fn targets(&self, finding: &Finding) -> Vec<Target> {
        if F::META.check(finding).is_none() { Vec::new() } else { named::<F>(finding) }
    }

    fn is_about(&self, finding: &Finding, target: &Target) -> bool {
        // Of what is looked up another look may find less: somebody else has put it right. The plan says what is so.
        let looked_up = || F::META.kinds.contains(&target.kind) && target.account == finding.account;
        self.targets(finding).contains(target) || (self.looks_up(finding) && looked_up())
    }

    fn may_answer(&self, finding: &Finding) -> bool {
        let may_be_its = || !named::<F>(finding).is_empty() || stands_for_targets::<F>(finding);
        finding.source == Source::Config && may_be_its()
    }

    fn looks_up(&self, finding: &Finding) -> bool {
        F::META.check(finding).is_some() && named::<F>(finding).is_empty() && stands_for_targets::<F>(finding)
    }

    fn look_up<'a>(&'a self, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Result<Vec<Resource>, Failure>> {
        Box::pin(F::look_up(member, finding))
    }

    fn authenticate<'a>(&'a self, hub: &'a Aws, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Authenticity> {
        Box::pin(async move {
            match finding.source {
                Source::SecurityHub => looked_for_twice(hub, finding, || securityhub::fetch(hub, finding)).await,
                Source::Config => config::check(hub, member, finding).await,
                source => Authenticity::NotAsked(not_asked(source)),
            }
        })
    }

    fn write_back<'a>(&'a self, hub: &'a Aws, finding: &'a Finding, note: Note) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Some(now) = securityhub::fetch(hub, finding).await? else { return Ok(()) };
            note.given(now["Workflow"]["Status"].as_str(), now["Note"]["UpdatedBy"].as_str()).write(hub).await
        })
    }

    fn plan<'a>(
        &'a self,
        cx: &'a PlanContext<'a>,
        target: &'a Target,
        finding: &'a Finding,
    ) -> Boxed<'a, Result<Planned, Failure>> {
        Box::pin(async move {
            let wrong = || Failure::new(Class::Bug, "plan for target", target.to_string());
            if target.account != cx.aws.account {
                return Err(wrong().because("the credentials belong to another account"));
            }
            let Some(check) = F::META.check(finding) else {
                return Ok(Planned::Refused("the finding is about no control that this fix answers".to_owned()));
            };
            F::plan(cx, target, finding, check).await
        })
    }
}
