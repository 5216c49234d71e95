//! The names of all metrics. Counters get `_total` when they are written out.

/// Prefix of every name.
pub const PREFIX: &str = "tandem";

/// Counter {`class`}: hints that were taken in. With [`HINTS_DONE`] it gives the depth of the queue.
pub const HINTS_ADDED: &str = "hints_added";
/// Counter {`class`, `outcome`}: hints that were done, or became part of another one.
pub const HINTS_DONE: &str = "hints_done";
/// Histogram in seconds {`class`}: from the moment a change was noticed until it was done.
pub const SETTLED: &str = "settled_seconds";
/// Histogram in seconds {`stage`}: time spent in each stage of the path.
pub const STAGE: &str = "stage_seconds";
/// Counter {`provider`, `outcome`}: webhook deliveries.
pub const WEBHOOKS: &str = "webhooks";
/// Counter {`provider`, `outcome`}: records that were worked on.
pub const RECORDS: &str = "records";
/// Counter {`provider`, `ruling`}: conflicts.
pub const CONFLICTS: &str = "conflicts";
/// Counter {`provider`, `point`}: records that were set aside.
pub const SET_ASIDE: &str = "set_aside";
/// Counter {`provider`, `operation`, `outcome`}: requests to CRMs; the outcome is the status class or why there is none.
pub const CALLS: &str = "crm_calls";
/// Histogram in seconds {`provider`, `operation`}: requests to CRMs.
pub const CALL_TIME: &str = "crm_call_seconds";
/// Counter {`provider`, `reason`}: work that had to wait (quota, breaker, authorisation and so on).
pub const HELD_BACK: &str = "held_back";
/// Counter {`provider`, `kind`, `outcome`}: writes that the guard counted: deletions, and updates that no edit asked for.
pub const GUARDED: &str = "guarded";
/// Counter {`call`}: calls into provider components, by function of the contract, and the making of instances.
pub const COMPONENT_CALLS: &str = "component_calls";
/// Counter in seconds {`call`}: time of calls into provider components.
pub const COMPONENT_TIME: &str = "component_call_seconds";
/// Counter {`provider`, `kind`}: faults of provider components.
pub const FAULTS: &str = "component_faults";
/// Gauge: instances of provider components.
pub const INSTANCES: &str = "component_instances";
/// Gauge in bytes: memory of all instances.
pub const INSTANCES_MEMORY: &str = "component_memory_bytes";
/// Counter {`reason`}: instances that were dropped.
pub const INSTANCES_DROPPED: &str = "component_instances_dropped";
/// Counter: commits of the store.
pub const COMMITS: &str = "store_commits";
/// Gauge: 1 when the store refused to go on after a failed write.
pub const STORE_FAILED: &str = "store_failed";
/// Counter {`route`, `outcome`}: requests to the daemon's own API by route pattern and status class.
pub const REQUESTS: &str = "api_requests";
/// Gauge in seconds {`connection`}: age of the oldest undone hint. One of three that name connections.
pub const FRESHNESS: &str = "connection_freshness_seconds";
/// Gauge {`connection`}: hints that wait. One of three that name connections.
pub const WAITING: &str = "connection_waiting";
/// Gauge {`connection`}: writes that wait for approval. One of three that name connections.
pub const WITHHELD: &str = "connection_withheld";
/// Gauge {`version`}: always 1.
pub const BUILD: &str = "build";
