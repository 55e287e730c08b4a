//! The lists of ranges that the benchmarks measure with, and the median that they print.
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

pub mod family;
pub mod shapes;

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
