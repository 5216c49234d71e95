//! Quotas, adaptive rate and concurrency, classes, breakers, fair turns.
