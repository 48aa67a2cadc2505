//! Numbers in other types.

/// A count or a number of bytes as the nearest f64: for estimates, ratios, and what is printed.
#[expect(
    clippy::cast_precision_loss,
    reason = "a process has far fewer than 2^53 bytes, and estimates have fewer digits"
)]
pub fn approximate(value: u64) -> f64 {
    value as f64
}
