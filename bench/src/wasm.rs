//! The same lookups inside wasm: the module, and wasmtime as its host.

use std::cell::RefCell;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use edgefold_bench_wasm::{encode, pairs_to_bytes};
use wasmtime::{Engine, Instance, Module, Store, TypedFunc};

use crate::contenders::{BRANCHY, EDGEFOLD, PARTITION_POINT};
use crate::family::{Family, Range};
use crate::timing::{Local, Order, timed};

const TARGET: &str = "wasm32-unknown-unknown";
/// The number of `Nothing` in the module.
const NOTHING: u32 = 3;

/// The contenders in wasm: number in the module, name, and whether to run only with SIMD (pairs do not use it).
pub(crate) const CONTENDERS: [(u32, &str, bool); 3] =
    [(0, EDGEFOLD, false), (1, PARTITION_POINT, true), (2, BRANCHY, true)];

/// Whether the module may use SIMD.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Simd {
    With,
    Without,
}

pub(crate) const SIMD: [Simd; 2] = [Simd::With, Simd::Without];

/// Builds the module with the profile of the filter, and returns its path.
pub(crate) fn build(simd: Simd) -> PathBuf {
    let (directory, flags) = match simd {
        Simd::With => ("target/bench/simd", "-C target-feature=+simd128"),
        Simd::Without => ("target/bench/plain", ""),
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "edgefold-bench-wasm", "--lib", "--locked"]);
    cargo.args(["--target", TARGET, "--profile", "filter", "--target-dir", directory]);
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", flags);
    assert!(cargo.status().unwrap().success(), "the module does not build");
    Path::new(directory).join(TARGET).join("filter/edgefold_bench_wasm.wasm")
}

/// What a case writes into the memory of an instance, in the order of the module's buffers.
pub(crate) struct Buffers(pub(crate) [Vec<u8>; 3]);

impl Buffers {
    pub(crate) fn new<A: Family>(ranges: &[Range<A>], addresses: &[A]) -> Self {
        let mut bytes = Vec::new();
        addresses.iter().for_each(|address| address.write(&mut bytes));
        Self([encode(ranges), pairs_to_bytes(ranges), bytes])
    }
}

/// An instance with a case in it.
pub(crate) struct Wasmtime {
    store: Store<()>,
    independent: TypedFunc<(u32, u32, u32), u32>,
    dependent: TypedFunc<(u32, u32, u32, u32), u32>,
    open: TypedFunc<u32, ()>,
    wash: TypedFunc<(), ()>,
}

impl Wasmtime {
    pub(crate) fn load<A: Family>(module: &Path, buffers: &Buffers) -> Rc<RefCell<Self>> {
        let engine = Engine::default();
        let module = Module::from_file(&engine, module).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let reserve = instance.get_typed_func::<(u32, u32), u32>(&mut store, "reserve").unwrap();
        for (buffer, bytes) in (0..).zip(&buffers.0) {
            let length = u32::try_from(bytes.len()).unwrap();
            let at = reserve.call(&mut store, (buffer, length)).unwrap();
            memory.write(&mut store, at as usize, bytes).unwrap();
        }
        let load = instance.get_typed_func::<u32, ()>(&mut store, "load").unwrap();
        load.call(&mut store, A::VERSION.into()).unwrap();
        Rc::new(RefCell::new(Self {
            independent: instance.get_typed_func(&mut store, "independent").unwrap(),
            dependent: instance.get_typed_func(&mut store, "dependent").unwrap(),
            open: instance.get_typed_func(&mut store, "open").unwrap(),
            wash: instance.get_typed_func(&mut store, "wash").unwrap(),
            store,
        }))
    }

    fn call(&mut self, contender: u32, order: Order, from: usize, count: usize) -> usize {
        let [from, count] = [from, count].map(|number| u32::try_from(number).unwrap());
        let hits = match order {
            Order::Independent => self.independent.call(&mut self.store, (contender, from, count)),
            Order::Dependent => self.dependent.call(&mut self.store, (contender, from, count, 0)),
        };
        hits.unwrap() as usize
    }
}

/// A contender in an instance that it shares with others. It must be opened first.
pub(crate) struct InWasmtime {
    instance: Rc<RefCell<Wasmtime>>,
    contender: u32,
    addresses: usize,
}

impl InWasmtime {
    pub(crate) fn new(instance: &Rc<RefCell<Wasmtime>>, contender: u32, addresses: usize) -> Self {
        Self { instance: Rc::clone(instance), contender, addresses }
    }
}

impl Local for InWasmtime {
    fn addresses(&self) -> usize {
        self.addresses
    }

    fn lookup(&mut self, order: Order, from: usize, count: usize) -> usize {
        self.instance.borrow_mut().call(self.contender, order, from, count)
    }

    fn nothing(&mut self, order: Order, from: usize, count: usize) -> usize {
        self.instance.borrow_mut().call(NOTHING, order, from, count)
    }

    fn wash(&mut self) {
        let Wasmtime { wash, store, .. } = &mut *self.instance.borrow_mut();
        wash.call(store, ()).unwrap();
    }

    fn open(&mut self) -> Option<f64> {
        let Wasmtime { open, store, .. } = &mut *self.instance.borrow_mut();
        Some(timed(|| open.call(store, self.contender).unwrap()).1)
    }
}
