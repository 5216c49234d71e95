//! A provider's log: the import `log` in the sandbox, a buffer of the thread in native tests. Never record contents.

/// Logs a line at a level of the contract: "trace", "debug", "info", "warn", "error".
pub fn log(level: &str, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    BUFFER.with_borrow_mut(|lines| lines.push((level.to_owned(), message.to_owned())));
}

/// Logs something that somebody should look into.
pub fn warn(message: &str) {
    log("warn", message);
}

/// Logs a detail.
pub fn debug(message: &str) {
    log("debug", message);
}

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    static BUFFER: std::cell::RefCell<Vec<(String, String)>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Takes what this thread has logged: level and message.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn take() -> Vec<(String, String)> {
    BUFFER.take()
}
