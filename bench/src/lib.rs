//! Firebreak and what people would otherwise take, side by side on the same emulator and the same Runtime API.
//!
//! A [`kit::Kit`] is what is measured, built and packed; a [`stage::Stage`] is one of them as it is deployed, with accounts
//! to act in; [`sample`] takes figures, [`instructions`] counts, and [`page`] writes what came out.

pub mod figures;
pub mod instructions;
pub mod kit;
pub mod page;
pub mod sample;
pub mod stage;
