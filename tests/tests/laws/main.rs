//! The laws: each holds for every playbook and every action of every function, over every world in `tests/worlds/`.
//! Nothing is named here that would have to be named again for a new playbook; what is, is a reviewed table.
// A test waits beside what it watches; the rest is the style of tables and helpers.
#![allow(clippy::disallowed_methods, clippy::type_complexity, clippy::needless_lifetimes)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

mod again;
mod bad_input;
mod controls;
mod counter_moves;
mod custody;
mod death;
mod decisions;
mod delivery;
mod enforced;
mod faults;
mod flood;
mod hostile;
mod identities;
mod journeys;
mod killed;
mod lessons;
mod looked_up;
mod malformed;
mod many;
mod matrix;
mod meanwhile;
mod model;
mod neighbours;
mod organization;
mod permissions;
mod races;
mod said;
mod silence;
mod situations;
mod starts;
mod stop;
mod support;
mod write_back;

use firebreak_tests::facts;
