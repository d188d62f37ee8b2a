//! The Lambda function `drill`.

use drill::FUNCTION;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), firebreak::lambda::Error> {
    firebreak::lambda::run_drills(FUNCTION).await
}
