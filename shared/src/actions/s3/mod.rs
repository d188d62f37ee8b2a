//! Actions on Amazon S3.

pub mod block_public_access;
