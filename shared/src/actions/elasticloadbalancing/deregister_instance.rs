//! Takes an instance out of a classic load balancer.
//! <https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/API_DeregisterInstancesFromLoadBalancer.html>

use aws_sdk_elasticloadbalancing::types::{Instance, LoadBalancerDescription};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::ids::InstanceId;
use crate::permission::{Grant, Permission, literal};
use crate::plan::{Change, Undo};
use crate::text::plain;

/// Deregisters an instance from a classic load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeregisterInstance {
    /// The load balancer's name.
    pub load_balancer: String,
    /// The instance.
    pub instance: InstanceId,
}

impl Action for DeregisterInstance {
    const NAME: &'static str = "elasticloadbalancing.deregister-instance";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::on(
            "elasticloadbalancing:DeregisterInstancesFromLoadBalancer",
            &["elasticloadbalancing:*:*:loadbalancer/*"],
        ),
        Permission::read("elasticloadbalancing:DescribeLoadBalancers"),
        Permission::on(
            "elasticloadbalancing:RegisterInstancesWithLoadBalancer",
            &["elasticloadbalancing:*:*:loadbalancer/*"],
        ),
    ];
    const UNDO: Undo = Undo::Exact;
    /// Whether it is registered.
    type State = bool;

    fn subject(&self) -> String {
        format!("{} {}", self.instance, self.load_balancer)
    }

    fn change(&self, before: &Self::State) -> Change {
        let words = |registered: bool| if registered { "registered" } else { "not registered" }.to_owned();
        Change {
            what: format!("{} in classic load balancer {}", self.instance, plain(&self.load_balancer, 32)),
            from: words(*before),
            to: words(false),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let balancer = aws.arn("elasticloadbalancing", &format!("loadbalancer/{}", literal(&self.load_balancer)));
        [
            "elasticloadbalancing:DeregisterInstancesFromLoadBalancer",
            "elasticloadbalancing:RegisterInstancesWithLoadBalancer",
        ]
        .map(|action| Grant::new(action, [balancer.clone()]))
        .into()
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let call = cx.aws.elb().describe_load_balancers().load_balancer_names(&self.load_balancer);
        let answer = call.send().await.map_err(Failure::from_sdk("describe load balancer", &self.load_balancer));
        match answer {
            Err(failure) if failure.class == Class::Gone => Ok(None),
            Err(failure) => Err(failure),
            Ok(answer) => {
                Ok(answer.load_balancer_descriptions().first().map(|found| has_instance(found, &self.instance)))
            }
        }
    }

    async fn wanted(&self, _cx: &Context<'_>, _before: &Self::State) -> Result<Self::State, Failure> {
        Ok(false)
    }

    async fn set(&self, cx: &Context<'_>, _from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        let instance = Instance::builder().instance_id(self.instance.as_str()).build();
        let (elb, name) = (cx.aws.elb(), &self.load_balancer);
        if *to {
            let call = elb.register_instances_with_load_balancer().load_balancer_name(name).instances(instance);
            call.send().await.map_err(Failure::from_sdk("register with load balancer", name))?;
        } else {
            let call = elb.deregister_instances_from_load_balancer().load_balancer_name(name).instances(instance);
            call.send().await.map_err(Failure::from_sdk("deregister from load balancer", name))?;
        }
        Ok(Set::Done)
    }
}

/// Whether an instance is registered with a load balancer.
pub fn has_instance(balancer: &LoadBalancerDescription, instance: &InstanceId) -> bool {
    balancer.instances().iter().any(|found| found.instance_id() == Some(instance.as_str()))
}
