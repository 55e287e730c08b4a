//! Times lookups.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use edgefold_bench_wasm::{Bits, Lookups, Nothing, WASH_WORDS};
use rustix::time::{ClockId, clock_gettime};

/// Whether a lookup waits for the previous one.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Independent,
    Dependent,
}

pub(crate) const ORDERS: [Order; 2] = [Order::Independent, Order::Dependent];

/// How often the cache is washed in a round.
pub(crate) const WASHES: usize = 150;

impl Order {
    /// How many lookups follow each washing of the cache, and are timed together. A dependent lookup runs alone, so
    /// that it neither overlaps with another one nor finds anything of it in the cache. Independent ones come in a
    /// burst, like requests do.
    pub(crate) fn burst(self) -> usize {
        match self {
            Self::Independent => 8,
            Self::Dependent => 1,
        }
    }
}

/// A contender in a host, with the addresses of a case.
pub(crate) trait Runner {
    /// Looks up all addresses. Returns the CPU nanoseconds per lookup, and how many addresses are in the set.
    fn hot(&mut self, order: Order) -> (f64, usize);

    /// Looks up addresses after washing the cache, different ones each turn. Returns the nanoseconds per lookup.
    fn washed(&mut self, order: Order, turn: usize) -> f64;

    /// The answer for each address.
    fn answers(&mut self) -> Vec<bool>;

    /// Opens the contender, again if it is open. Returns the CPU seconds, or `None` if it was built open.
    fn open(&mut self) -> Option<f64> {
        None
    }
}

/// A host in this process and on this thread.
pub(crate) trait Local {
    fn addresses(&self) -> usize;
    fn lookup(&mut self, order: Order, from: usize, count: usize) -> usize;
    /// The same call to [`Nothing`].
    fn nothing(&mut self, order: Order, from: usize, count: usize) -> usize;
    fn wash(&mut self);
    fn open(&mut self) -> Option<f64> {
        None
    }
}

impl<T: Local> Runner for T {
    fn hot(&mut self, order: Order) -> (f64, usize) {
        let count = self.addresses();
        let (hits, taken) = timed(|| self.lookup(order, 0, count));
        (taken * 1e9 / count as f64, hits)
    }

    /// Uses the wall clock: reading the CPU clock takes several times as long as the lookups. The calls that look up
    /// nothing bring addresses, code and clock back into the cache, as they would be after a request was read. The
    /// second of these calls also gives the overhead to subtract.
    fn washed(&mut self, order: Order, turn: usize) -> f64 {
        let burst = order.burst();
        let (mut nothing, mut looked) = (Vec::new(), Vec::new());
        for wash in turn * WASHES..(turn + 1) * WASHES {
            let from = wash * burst % self.addresses();
            self.wash();
            let mut timed = |lookup: bool| {
                let start = Instant::now();
                black_box(if lookup { self.lookup(order, from, burst) } else { self.nothing(order, from, burst) });
                start.elapsed().as_secs_f64()
            };
            timed(false);
            nothing.push(timed(false));
            looked.push(timed(true));
        }
        (middle(looked) - middle(nothing)) * 1e9 / burst as f64
    }

    fn answers(&mut self) -> Vec<bool> {
        (0..self.addresses()).map(|at| self.lookup(Order::Independent, at, 1) == 1).collect()
    }

    fn open(&mut self) -> Option<f64> {
        Local::open(self)
    }
}

/// A contender that runs natively.
pub(crate) struct Native<A> {
    pub(crate) set: Box<dyn Lookups<A>>,
    pub(crate) addresses: Rc<[A]>,
    pub(crate) wash: Rc<[u64]>,
}

/// The memory to wash the cache with.
pub(crate) fn wash_words() -> Rc<[u64]> {
    vec![1; WASH_WORDS].into()
}

fn call<A: Bits>(set: &dyn Lookups<A>, order: Order, addresses: &[A]) -> usize {
    match order {
        Order::Independent => set.independent(addresses),
        Order::Dependent => set.dependent(addresses, A::from(black_box(false))),
    }
}

impl<A: Bits> Local for Native<A> {
    fn addresses(&self) -> usize {
        self.addresses.len()
    }

    fn lookup(&mut self, order: Order, from: usize, count: usize) -> usize {
        call(black_box(&*self.set), order, &self.addresses[from..from + count])
    }

    fn nothing(&mut self, order: Order, from: usize, count: usize) -> usize {
        call(black_box(&Nothing), order, &self.addresses[from..from + count])
    }

    fn wash(&mut self) {
        black_box(edgefold_bench_wasm::wash(&self.wash));
    }
}

/// The result of `run`, and the CPU seconds that this thread spent on it. Not wall clock, because a shared machine may
/// take the core away for longer than a round.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = cpu();
    let result = black_box(run());
    (result, (cpu() - start).as_secs_f64())
}

/// The mean without the lowest and the highest 5 %, since an interrupt takes as long as many lookups.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 20;
    let middle = &values[cut..values.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}
