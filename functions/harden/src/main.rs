//! The Lambda function `harden`.

use firebreak::lambda::{Error, on_a_long_stack, run};
use harden::{FUNCTION, PLAYBOOKS};

fn main() -> Result<(), Error> {
    on_a_long_stack(|| run(FUNCTION, PLAYBOOKS))
}
