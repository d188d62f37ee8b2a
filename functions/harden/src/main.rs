//! The Lambda function `harden`.

use harden::{FUNCTION, PLAYBOOKS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), firebreak::lambda::Error> {
    firebreak::lambda::run(FUNCTION, PLAYBOOKS).await
}
