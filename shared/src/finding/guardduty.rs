//! GuardDuty findings.
