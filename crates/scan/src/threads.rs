//! The reader threads of a scan.

/// Runs `work` on this thread and on `threads - 1` others, and passes each result to `take`.
pub(crate) fn on_threads<T: Send>(
    threads: usize,
    work: impl Fn() -> T + Sync,
    mut take: impl FnMut(T),
) {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.max(1)).map(|_| scope.spawn(&work)).collect();
        take(work());
        for other in others {
            match other.join() {
                Ok(part) => take(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
}
