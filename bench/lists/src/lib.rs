//! The lists of ranges that the benchmarks use, and the median that they print.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic, like a test")]

pub mod family;
pub mod shapes;

/// The median; the upper one of an even number of values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
