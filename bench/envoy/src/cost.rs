//! What a blocklist costs a request: CPU time of Envoy, in rounds by turns.

use fastrand::Rng;

use crate::load::{DENIED, Load, PASSED};
use crate::running::Running;

/// How it is measured.
pub(crate) struct Setup {
    pub(crate) rounds: usize,
    /// Requests a batch.
    pub(crate) batch: usize,
    pub(crate) connections: usize,
}

/// Requests that V8 sees before it is measured, since it optimises what has run for a while.
const WARM_UP: usize = 20_000;

/// CPU microseconds a request, of each round.
pub(crate) struct Cost {
    pub(crate) contender: String,
    pub(crate) passed: Vec<f64>,
    /// Empty if it was not measured.
    pub(crate) denied: Vec<f64>,
}

impl Cost {
    /// The quartiles of what passing costs over another contender, round by round.
    pub(crate) fn over(&self, other: &Self) -> [f64; 3] {
        let differences: Vec<f64> = self.passed.iter().zip(&other.passed).map(|(one, other)| one - other).collect();
        quartiles(&differences)
    }

    /// What passing costs over another contender, by the rounds of each that nine tenths took longer than: whoever else uses
    /// the machine makes a request dearer, and never cheaper.
    pub(crate) fn quietly_over(&self, other: &Self) -> f64 {
        quantile(&self.passed, 0.1) - quantile(&other.passed, 0.1)
    }
}

pub(crate) fn measure(running: &[Running], setup: &Setup) -> Vec<Cost> {
    let mut random = Rng::with_seed(1);
    let mut loads: Vec<Load> = running.iter().map(|running| Load::open(running.address(), setup.connections)).collect();
    let mut costs: Vec<Cost> = running
        .iter()
        .zip(&mut loads)
        .map(|(Running { contender, list, .. }, load)| {
            load.send(&list.passing(WARM_UP, &mut random), PASSED);
            if contender.denied {
                load.send(&list.blocked(WARM_UP, &mut random), DENIED);
            }
            Cost { contender: contender.name.clone(), passed: Vec::new(), denied: Vec::new() }
        })
        .collect();
    let mut order: Vec<usize> = (0..running.len()).collect();
    for _ in 0..setup.rounds {
        // None has always the same one before it.
        random.shuffle(&mut order);
        for &at in &order {
            let (running, load, cost) = (&running[at], &mut loads[at], &mut costs[at]);
            let list = &running.list;
            // A tenth more: those before it have taken the cache.
            let asked = setup.batch + setup.batch / 10;
            cost.passed.push(micros(running, load, setup.batch, &list.passing(asked, &mut random), PASSED));
            if running.contender.denied {
                cost.denied.push(micros(running, load, setup.batch, &list.blocked(asked, &mut random), DENIED));
            }
        }
    }
    costs
}

/// CPU microseconds of Envoy for each of the last `batch` requests.
fn micros(running: &Running, load: &mut Load, batch: usize, clients: &[u32], status: u16) -> f64 {
    let (before, measured) = clients.split_at(clients.len() - batch);
    load.send(before, status);
    let start = running.cpu_seconds();
    load.send(measured, status);
    (running.cpu_seconds() - start) * 1e6 / batch as f64
}

/// The lower quartile, the median and the upper quartile.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|share| quantile(values, share))
}

/// The value that so much of the values does not exceed; there must be one.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among the values")]
    let place = (share * values.len() as f64).ceil() as usize;
    values[place.max(1) - 1]
}
