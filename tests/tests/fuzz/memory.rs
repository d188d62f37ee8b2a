//! What a reading may cost, counted: so many bytes at once, and so many allocations in all, by the size of what is read.
//! Allocations stand for work: a loop that makes none is not seen.

use allocation_counter::AllocationInfo;
use proptest::prelude::*;

/// What something of no size costs.
const BASE_BYTES: u64 = 512 * 1024;
const BASE_COUNT: u64 = 20_000;

/// What each byte of it may cost besides.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Bytes held at once.
    pub bytes: u64,
    /// Allocations.
    pub count: u64,
}

/// Runs `reading` of `size` bytes, which must stay within the bound.
pub fn bounded<T>(size: usize, bound: Bound, reading: impl FnOnce() -> T) -> Result<T, TestCaseError> {
    let mut read = None;
    let used: AllocationInfo = allocation_counter::measure(|| read = Some(reading()));
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let most = BASE_BYTES + bound.bytes * size;
    prop_assert!(used.bytes_max <= most, "{} bytes at once for {size}, {most} are meant to do", used.bytes_max);
    let most = BASE_COUNT + bound.count * size;
    prop_assert!(used.count_total <= most, "{} allocations for {size} bytes, {most} are meant to do", used.count_total);
    read.ok_or_else(|| TestCaseError::fail("nothing was read"))
}

#[test]
fn what_costs_too_much_is_seen() {
    let bound = Bound { bytes: 1, count: 1 };
    assert!(bounded(10, bound, || vec![0_u8; 100]).is_ok());
    assert!(bounded(10, bound, || vec![0_u8; 1_000_000]).is_err());
    let work = || (0..30_000).map(|n| vec![n].len()).sum::<usize>();
    assert!(bounded(10, bound, work).is_err());
}
