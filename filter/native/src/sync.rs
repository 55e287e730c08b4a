//! What threads share and wait with: the standard library's and arc-swap's, and in the model of `tests/model.rs` shuttle's, which runs threads in
//! any order. arc-swap cannot be modelled, so what the model has in its place is a lock around the pointer.

#[cfg(not(feature = "model"))]
pub use {
    arc_swap::{ArcSwap, Guard},
    std::sync::{Mutex, MutexGuard},
    std::thread::yield_now,
};
#[cfg(feature = "model")]
pub use {
    model::{ArcSwap, Guard},
    shuttle::sync::{Mutex, MutexGuard},
    shuttle::thread::yield_now,
};

#[cfg(feature = "model")]
mod model {
    use std::sync::{Arc, PoisonError};

    use shuttle::sync::RwLock;

    /// What a reader has.
    pub type Guard<T> = T;

    /// Stands for `arc_swap::ArcSwap`.
    #[derive(Debug, Default)]
    pub struct ArcSwap<T>(RwLock<Arc<T>>);

    impl<T> ArcSwap<T> {
        /// What is there.
        pub fn load(&self) -> Guard<Arc<T>> {
            Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
        }

        /// Puts `next` there, and returns what was.
        pub fn swap(&self, next: Arc<T>) -> Arc<T> {
            std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), next)
        }
    }
}
