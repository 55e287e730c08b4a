//! How long lookups take.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use edgefold_bench_wasm::{Bits, Lookups, Nothing, WASH_WORDS};
use rustix::time::{ClockId, clock_gettime};

/// Whether a lookup waits for the one before it.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Independent,
    Dependent,
}

pub(crate) const ORDERS: [Order; 2] = [Order::Independent, Order::Dependent];

/// Times the cache is washed in a round.
pub(crate) const WASHES: usize = 150;

impl Order {
    /// How many lookups follow a washing, and are timed together. A dependent lookup is alone, and so has nothing to
    /// overlap with and nothing that the one before it left in the cache; independent ones come as a burst of requests.
    pub(crate) fn burst(self) -> usize {
        match self {
            Self::Independent => 8,
            Self::Dependent => 1,
        }
    }
}

/// A contender in a host, with the addresses of a case.
pub(crate) trait Runner {
    /// Looks all the addresses up: CPU nanoseconds a lookup, and how many are in the set.
    fn hot(&mut self, order: Order) -> (f64, usize);

    /// Looks addresses up after washing the cache, other ones each turn: nanoseconds a lookup.
    fn washed(&mut self, order: Order, turn: usize) -> f64;

    /// The answer for each address.
    fn answers(&mut self) -> Vec<bool>;

    /// Opens the contender, anew if it is open: CPU seconds, unless it came here open.
    fn open(&mut self) -> Option<f64> {
        None
    }
}

/// A host in this process and thread.
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

    /// By wall clock: to ask for the CPU time takes several times as long as what is timed. The calls that look nothing up
    /// bring addresses, code and clock back into the cache, as the code that has just read a request has; the second one
    /// also says what has to be subtracted.
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

/// A contender without any host.
pub(crate) struct Native<A> {
    pub(crate) set: Box<dyn Lookups<A>>,
    pub(crate) addresses: Rc<[A]>,
    pub(crate) wash: Rc<[u64]>,
}

/// What is washed with.
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

/// What `run` returns, and the seconds that this thread was on a core for it: a shared machine takes the core away for longer
/// than a round.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = cpu();
    let result = black_box(run());
    (result, (cpu() - start).as_secs_f64())
}

/// The mean of all but the twentieth that is lowest and the twentieth that is highest: an interrupt takes as long as many
/// lookups.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 20;
    let middle = &values[cut..values.len() - cut];
    middle.iter().sum::<f64>() / middle.len() as f64
}
