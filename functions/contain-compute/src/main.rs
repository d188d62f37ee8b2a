//! The Lambda function `contain-compute`.

use contain_compute::{FUNCTION, PLAYBOOKS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), firebreak::lambda::Error> {
    firebreak::lambda::run(FUNCTION, PLAYBOOKS).await
}
