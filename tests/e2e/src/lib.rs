//! What end-to-end tests, the demonstration, the benchmark and the judge have in common: processes, clients, people.
//!
//! Everything here goes through public APIs. Waiting is always for a condition, with a deadline.

pub mod account;
pub mod crm;
pub mod feed;
pub mod house;
pub mod hubspot;
pub mod judge;
pub mod ledger;
pub mod load;
pub mod marker;
pub mod memory;
pub mod people;
pub mod pipedrive;
pub mod power;
pub mod process;
pub mod recorded;
pub mod rest;
pub mod round;
pub mod salesforce;
pub mod system_a;
pub mod wire;

use std::time::{Duration, Instant};

/// What goes wrong in a test, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Waits until the condition gives a value.
///
/// # Errors
/// The deadline passed; the text names what was waited for and what was last seen.
pub async fn until<T, F>(what: &str, deadline: Duration, condition: F) -> Result<T, Error>
where
    F: AsyncFn() -> Result<Result<T, String>, Error>,
{
    let end = Instant::now() + deadline;
    loop {
        match condition().await? {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= end => {
                return Err(format!("{what}: not within {} s; last seen: {seen}", deadline.as_secs()).into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// An HTTP client for loopback, with a bound on everything.
///
/// # Errors
/// It cannot be built.
pub fn client() -> Result<reqwest::Client, Error> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder()
        // The daemon closes connections that nobody uses, and some of our steps take a minute.
        .pool_idle_timeout(Duration::from_secs(5))
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(64)
        .build()?)
}
