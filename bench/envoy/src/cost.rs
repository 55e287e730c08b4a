//! The cost of a blocklist per request, as CPU time of Envoy. The contenders take turns in rounds.

use fastrand::Rng;

use crate::load::{DENIED, Load, PASSED};
use crate::running::Running;

/// How to measure.
pub(crate) struct Setup {
    pub(crate) rounds: usize,
    /// Requests per batch.
    pub(crate) batch: usize,
    /// The most addresses in a batch of allowed requests. They take turns.
    pub(crate) clients: usize,
    pub(crate) connections: usize,
}

/// Requests sent before measuring, since V8 optimises hot code.
const WARM_UP: usize = 20_000;

/// CPU microseconds per request, for each round.
pub(crate) struct Cost {
    pub(crate) contender: String,
    pub(crate) passed: Vec<f64>,
    /// Empty if not measured.
    pub(crate) denied: Vec<f64>,
}

impl Cost {
    /// The quartiles of the cost of an allowed request over that of another contender, round by round.
    pub(crate) fn over(&self, other: &Self) -> [f64; 3] {
        let differences: Vec<f64> = self.passed.iter().zip(&other.passed).map(|(one, other)| one - other).collect();
        quartiles(&differences)
    }

    /// The cost of an allowed request over that of another contender, from the tenth percentile of the rounds of each:
    /// other load on the machine makes a request more expensive, and never cheaper.
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
        // Shuffled, so that no contender always follows the same one.
        random.shuffle(&mut order);
        for &at in &order {
            let (running, load, cost) = (&running[at], &mut loads[at], &mut costs[at]);
            let list = &running.list;
            // A tenth more, not measured, to refill the cache that the previous contenders have evicted.
            let asked = setup.batch + setup.batch / 10;
            let clients = list.passing(asked.min(setup.clients), &mut random);
            let clients: Vec<u32> = clients.into_iter().cycle().take(asked).collect();
            cost.passed.push(micros(running, load, setup.batch, &clients, PASSED));
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

/// The value that this share of the values does not exceed. There must be at least one value.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the values")]
    let place = (share * values.len() as f64).ceil() as usize;
    values[place.max(1) - 1]
}
