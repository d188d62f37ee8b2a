//! The Lambda function `contain-identity`.

use contain_identity::{FUNCTION, PLAYBOOKS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), firebreak::lambda::Error> {
    firebreak::lambda::run(FUNCTION, PLAYBOOKS).await
}
