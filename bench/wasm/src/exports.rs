//! The module's exports. One instance serves one case.
#![expect(unsafe_code, reason = "exporting a name takes an unsafe attribute; nothing else here is unsafe")]

use std::cell::RefCell;
use std::hint::black_box;

use crate::{Bits, Branchy, Edgefold, Lookups, Nothing, PartitionPoint, WASH_WORDS};

/// The buffers that the host fills: the table, the pairs, the addresses.
const BUFFERS: usize = 3;
const TABLE: usize = 0;
const PAIRS: usize = 1;
const ADDRESSES: usize = 2;

thread_local! {
    static BYTES: RefCell<[&'static [u8]; BUFFERS]> = const { RefCell::new([&[]; BUFFERS]) };
    static CASE: RefCell<Option<Case>> = const { RefCell::new(None) };
    static WASH: Vec<u64> = vec![1; WASH_WORDS];
}

enum Case {
    V4(Sets<u32>),
    V6(Sets<u128>),
}

struct Sets<A> {
    addresses: Vec<A>,
    /// By number: edgefold, the two searches of pairs, nothing.
    sets: [Option<Box<dyn Lookups<A>>>; 4],
}

impl<A: Bits> Sets<A> {
    fn load() -> Self {
        let addresses = buffer(ADDRESSES).chunks_exact(A::BYTES).map(A::read).collect();
        Self { addresses, sets: [None, None, None, Some(Box::new(Nothing))] }
    }

    fn open(&mut self, contender: usize) {
        let set: Box<dyn Lookups<A>> = match contender {
            0 => Box::new(Edgefold::open(buffer(TABLE))),
            1 => Box::new(PartitionPoint::open(buffer(PAIRS))),
            _ => Box::new(Branchy::open(buffer(PAIRS))),
        };
        self.sets[contender] = Some(set);
    }

    fn set(&self, contender: usize) -> &dyn Lookups<A> {
        self.sets[contender].as_deref().unwrap()
    }

    fn independent(&self, contender: usize, from: usize, count: usize) -> usize {
        self.set(contender).independent(&self.addresses[from..from + count])
    }

    fn dependent(&self, contender: usize, from: usize, count: usize, zero: A) -> usize {
        self.set(contender).dependent(&self.addresses[from..from + count], zero)
    }
}

fn buffer(buffer: usize) -> &'static [u8] {
    black_box(BYTES.with_borrow(|bytes| bytes[buffer]))
}

/// Returns the address of `length` bytes for the host to fill. They are never freed: an instance serves only one case.
#[unsafe(no_mangle)]
extern "C" fn reserve(buffer: usize, length: usize) -> usize {
    let bytes = vec![0; length].leak();
    BYTES.with_borrow_mut(|buffers| buffers[buffer] = bytes);
    black_box(bytes.as_ptr().expose_provenance())
}

/// Reads the addresses; `family` is 4 or 6.
#[unsafe(no_mangle)]
extern "C" fn load(family: usize) {
    let case = if family == 4 { Case::V4(Sets::load()) } else { Case::V6(Sets::load()) };
    CASE.set(Some(case));
}

/// Opens a contender, which validates its bytes. Each call does so again.
#[unsafe(no_mangle)]
extern "C" fn open(contender: usize) {
    CASE.with_borrow_mut(|case| match case.as_mut().unwrap() {
        Case::V4(sets) => sets.open(contender),
        Case::V6(sets) => sets.open(contender),
    });
}

/// How many of `count` addresses a contender contains.
#[unsafe(no_mangle)]
extern "C" fn independent(contender: usize, from: usize, count: usize) -> usize {
    CASE.with_borrow(|case| match case.as_ref().unwrap() {
        Case::V4(sets) => sets.independent(contender, from, count),
        Case::V6(sets) => sets.independent(contender, from, count),
    })
}

/// The same, by lookups that wait for each other. The host passes 0 for `zero`.
#[unsafe(no_mangle)]
extern "C" fn dependent(contender: usize, from: usize, count: usize, zero: u32) -> usize {
    CASE.with_borrow(|case| match case.as_ref().unwrap() {
        Case::V4(sets) => sets.dependent(contender, from, count, zero),
        Case::V6(sets) => sets.dependent(contender, from, count, u128::from(zero)),
    })
}

/// Washes the cache.
#[unsafe(no_mangle)]
extern "C" fn wash() {
    black_box(WASH.with(|words| crate::wash(words)));
}
