//! What all simulated CRMs share: clock, dice, faults, violations, the client that posts webhooks; and the state of
//! each CRM beside each other.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::hubspot::HubSpot;
use crate::hubspot::webhooks::Poster;
use crate::pipedrive::Pipedrive;
use crate::rest::Rest;
use crate::salesforce::Salesforce;
use crate::strict::Strict;

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    pub(crate) strict: Strict,
    pub(crate) poster: Poster,
    pub(crate) hubspot: HubSpot,
    pub(crate) rest: Rest,
    pub(crate) pipedrive: Pipedrive,
    pub(crate) salesforce: Salesforce,
    /// Where the API listens, for links.
    pub(crate) api_url: OnceLock<String>,
    /// Turns true when everything is to end.
    pub(crate) stop: watch::Sender<bool>,
}

impl World {
    pub(crate) fn new(seed: u64, strict: bool) -> Self {
        let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
        connector.set_nodelay(true);
        let poster = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .pool_max_idle_per_host(32)
            .build(connector);
        Self {
            clock: Clock::default(),
            dice: Dice::new(seed),
            faults: Faults::default(),
            strict: Strict::new(strict),
            poster,
            hubspot: HubSpot::default(),
            rest: Rest::default(),
            pipedrive: Pipedrive::default(),
            salesforce: Salesforce::default(),
            api_url: OnceLock::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// The base URL of the API.
    pub(crate) fn api_url(&self) -> &str {
        self.api_url.get().map_or("https://api.hubapi.com", String::as_str)
    }
}
