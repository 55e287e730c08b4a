//! The tables, in Markdown.
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

use edgefold_bench_lists::median;

use crate::contenders::{EMPTY, NATIVE, SDK};
use crate::cost::{Cost, quartiles};

pub(crate) fn print_cost(costs: &[Cost]) {
    let of = |name| costs.iter().find(|cost| cost.contender == name);
    let empty = of(EMPTY).unwrap();
    let [native, sdk] = [NATIVE, SDK].map(|name| Some(of(name)?.over(empty)[1]));
    let times = |over: f64, other: Option<f64>| other.map_or("–".into(), |other| format!("{:.2}", over / other));
    println!(
        "| requests that pass | µs a request | µs over the empty chain | quartiles | × native IP matcher | × plain SDK filter |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for cost in costs {
        let ([low, over, high], micros) = (cost.over(empty), median(cost.passed.clone()));
        let name = &cost.contender;
        if name == EMPTY {
            println!("| {name} | {micros:.2} | | | | |");
            continue;
        }
        let (native, sdk) = (times(over, native), times(over, sdk));
        println!("| {name} | {micros:.2} | {over:.2} | {low:.2} to {high:.2} | {native} | {sdk} |");
    }
    println!("\n| requests that are denied | µs a request | quartiles |\n|---|--:|--:|");
    for cost in costs.iter().filter(|cost| !cost.denied.is_empty()) {
        let [low, micros, high] = quartiles(cost.denied.clone());
        println!("| {} | {micros:.2} | {low:.2} to {high:.2} |", cost.contender);
    }
}
