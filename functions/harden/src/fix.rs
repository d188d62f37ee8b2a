//! Fixes: playbooks that answer a failed control. What they have in common is written here once: whom a finding is about,
//! and who is asked whether it is true.

use std::marker::PhantomData;

use firebreak::action::{AnyAction, Boxed};
use firebreak::authenticate::{Authenticity, looked_for_twice, not_asked};
use firebreak::aws::Aws;
use firebreak::failure::{Class, Failure};
use firebreak::finding::{Check, Finding, Resource, Source};
use firebreak::playbook::{Meta, PlanContext, Planned, Playbook};
use firebreak::target::Target;

use crate::{config, securityhub};

/// A playbook that puts right what a failed control found about one kind of target.
pub trait Fix: 'static {
    /// What it is, with the controls that it answers.
    const META: Meta;
    /// Every action that its plans may hold.
    const ACTIONS: &'static [&'static dyn AnyAction];

    /// The target, when a resource that a failed control names is of its kind.
    fn target(resource: &Resource, finding: &Finding) -> Option<Target>;

    /// Whether the finding names what it is about in a way that has to be looked up first: [`Fix::look_up`].
    fn names_otherwise(_finding: &Finding) -> bool {
        false
    }

    /// Looks up in the member's account what the finding names in another way than the target's.
    fn look_up(_member: &Aws, finding: Finding) -> impl Future<Output = Result<Finding, Failure>> + Send {
        async { Ok(finding) }
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

    fn may_answer(&self, finding: &Finding) -> bool {
        match finding.source {
            Source::Config => !named::<F>(finding).is_empty() || F::names_otherwise(finding),
            _ => F::META.check(finding).is_some() && F::names_otherwise(finding),
        }
    }

    fn authenticate<'a>(&'a self, hub: &'a Aws, member: &'a Aws, finding: &'a Finding) -> Boxed<'a, Authenticity> {
        Box::pin(async move {
            let asked = match finding.source {
                Source::SecurityHub => looked_for_twice(hub, finding, || securityhub::fetch(hub, finding)).await,
                Source::Config => config::check(hub, member, finding).await,
                source => Authenticity::NotAsked(not_asked(source)),
            };
            let looked_up = |finding: Finding| async {
                if F::names_otherwise(&finding) { F::look_up(member, finding).await } else { Ok(finding) }
            };
            match asked {
                Authenticity::Genuine(genuine) => match looked_up(*genuine).await {
                    Ok(finding) => Authenticity::Genuine(Box::new(finding)),
                    Err(failure) => Authenticity::Unknown(failure),
                },
                Authenticity::PutAside(genuine) => match looked_up(*genuine).await {
                    Ok(finding) => Authenticity::PutAside(Box::new(finding)),
                    Err(failure) => Authenticity::Unknown(failure),
                },
                other => other,
            }
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
