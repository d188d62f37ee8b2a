//! The Lambda function `operate`.

use operate::{FUNCTION, REQUESTABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), firebreak::lambda::Error> {
    firebreak::lambda::run_door(FUNCTION, REQUESTABLE).await
}
