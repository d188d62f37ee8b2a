//! Actions on Amazon EC2 Auto Scaling.

pub mod detach_instance;
