//! Numbers in other types.

/// A count or a number of bytes as the nearest f64: for estimates, ratios, and what is printed.
#[expect(
    clippy::cast_precision_loss,
    reason = "a process has far fewer than 2^53 bytes, and estimates have fewer digits"
)]
pub fn approximate(value: u64) -> f64 {
    value as f64
}

/// An estimate as the nearest whole number: 0 for what is negative or not a number, the largest for what is above it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion of Rust saturates, which is what is wanted"
)]
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}
