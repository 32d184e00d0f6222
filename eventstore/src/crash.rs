//! Points at which a test may have the process die, as by `kill -9`: the steps between which nothing may be lost.

/// Dies here when `KONTOR_CRASH_AT` names this point. Only in debug builds; nothing at all otherwise.
///
/// `name` or `name:N`, to die at the N-th time of passing.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::check(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let spec = std::env::var("KONTOR_CRASH_AT").ok()?;
        Some(match spec.split_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (spec, 1),
        })
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn check(name: &str) {
        if let Some((armed, count)) = &*ARMED
            && armed == name
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            std::process::abort();
        }
    }
}
