//! Keeps an instance's EBS volumes when the instance is terminated: `DeleteOnTermination` off for every
//! one of them, in one call.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html>

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{EbsInstanceBlockDeviceSpecification, Instance, InstanceBlockDeviceMappingSpecification};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context, KnownGroup, Set};
use crate::aws::Aws;
use crate::failure::Failure;
use crate::ids::{InstanceId, VolumeId};
use crate::permission::{Grant, Permission};
use crate::plan::{Change, Undo};

/// Keeps the volumes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepVolumes {
    /// The instance.
    pub instance: InstanceId,
    /// Those of its volumes that would be deleted with it.
    pub volumes: BTreeSet<VolumeId>,
}

/// A volume as an instance has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The device name.
    pub device: String,
    /// Whether it is deleted with the instance.
    pub delete_on_termination: bool,
}

impl Action for KeepVolumes {
    const NAME: &'static str = "ec2.keep-volumes";
    const PERMISSIONS: &'static [Permission] = &[
        Permission::read("ec2:DescribeInstances"),
        Permission::on("ec2:ModifyInstanceAttribute", &["ec2:*:*:instance/*", "ec2:*:*:volume/*"]),
    ];
    const UNDO: Undo = Undo::Exact;
    type State = BTreeMap<VolumeId, Attached>;

    fn subject(&self) -> String {
        // A volume that is attached later is another step's.
        format!("{} {}", self.instance, crate::plan::together(&self.volumes))
    }

    fn change(&self, before: &Self::State) -> Change {
        let deleted: Vec<&str> =
            before.iter().filter(|(_, at)| at.delete_on_termination).map(|(volume, _)| volume.as_str()).collect();
        Change {
            what: format!("volumes deleted with {}", self.instance),
            from: if deleted.is_empty() { "none".to_owned() } else { deleted.join(", ") },
            to: "none".to_owned(),
        }
    }

    fn grants(&self, aws: &Aws, _before: &Self::State, _groups: &[KnownGroup]) -> Vec<Grant> {
        let instance = aws.arn("ec2", &format!("instance/{}", self.instance));
        vec![Grant::new("ec2:ModifyInstanceAttribute", [instance, super::every_volume(aws)])]
    }

    async fn read(&self, cx: &Context<'_>) -> Result<Option<Self::State>, Failure> {
        let instance = super::instance(cx, &self.instance).await?;
        let mut found = instance.as_ref().map(volumes_of);
        if let Some(volumes) = &mut found {
            volumes.retain(|volume, _| self.volumes.contains(volume));
        }
        Ok(found)
    }

    async fn wanted(&self, _cx: &Context<'_>, before: &Self::State) -> Result<Self::State, Failure> {
        Ok(kept(before))
    }

    async fn set(&self, cx: &Context<'_>, from: &Self::State, to: &Self::State) -> Result<Set<Self::State>, Failure> {
        // A volume that was detached since has no flag to set.
        let changed = to.iter().filter(|(volume, to)| {
            from.get(*volume).is_some_and(|from| from.delete_on_termination != to.delete_on_termination)
        });
        let devices = changed.map(|(_, to)| {
            let ebs =
                EbsInstanceBlockDeviceSpecification::builder().delete_on_termination(to.delete_on_termination).build();
            InstanceBlockDeviceMappingSpecification::builder().device_name(&to.device).ebs(ebs).build()
        });
        let devices: Vec<_> = devices.collect();
        if devices.is_empty() {
            return Ok(Set::Done);
        }
        cx.aws
            .ec2()
            .modify_instance_attribute()
            .instance_id(self.instance.as_str())
            .set_block_device_mappings(Some(devices))
            .send()
            .await
            .map_err(Failure::from_sdk("keep the volumes of", &self.instance))?;
        Ok(Set::Done)
    }

    /// A volume that went meanwhile needs no keeping.
    fn satisfied(&self, now: &Self::State, wanted: &Self::State) -> bool {
        wanted.iter().all(|(volume, wanted)| {
            now.get(volume).is_none_or(|now| now.delete_on_termination == wanted.delete_on_termination)
        })
    }
}

/// The EBS volumes of an instance.
pub fn volumes_of(instance: &Instance) -> BTreeMap<VolumeId, Attached> {
    let mapping = |mapping: &aws_sdk_ec2::types::InstanceBlockDeviceMapping| {
        let ebs = mapping.ebs()?;
        let attached = Attached {
            device: mapping.device_name()?.to_owned(),
            delete_on_termination: ebs.delete_on_termination().unwrap_or(false),
        };
        Some((ebs.volume_id()?.parse().ok()?, attached))
    };
    instance.block_device_mappings().iter().filter_map(mapping).collect()
}

/// The same volumes, all kept.
fn kept(volumes: &BTreeMap<VolumeId, Attached>) -> BTreeMap<VolumeId, Attached> {
    let keep = |at: &Attached| Attached { delete_on_termination: false, ..at.clone() };
    volumes.iter().map(|(volume, at)| (volume.clone(), keep(at))).collect()
}
