//! Actions on Elastic Load Balancing: target groups and classic load balancers.

pub mod deregister_instance;
pub mod deregister_targets;
