//! Stands for the CRMs in tests, in the demonstration and in the benchmark.
//!
//! It is written from the vendors' documentation alone and shares no code with the providers, so that it can judge
//! them. HubSpot's contacts, Pipedrive's persons and Salesforce's contacts are here; each further CRM is a module beside them with
//! its own paths.
//! [`rest`] is nobody's: a plain account that a first provider can be written for.
//!
//! Two listeners: the API, which behaves as the CRM does, and the control API (see `README.md`), by which tests make
//! accounts, order disturbances, act as people and read counts. It keeps everything in memory, and it refuses nothing
//! that the CRM would take: what the published description does not allow is answered as the CRM would and counted.

mod authority;
mod call;
mod clock;
pub mod control;
mod dice;
mod faults;
pub mod hubspot;
mod operation;
pub mod pipedrive;
pub mod rest;
mod salesforce;
mod server;
mod strict;
mod world;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::control::types::NewAppWithAccounts;
use crate::world::World;

/// How a simulator is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Where the API listens over TLS, if at all.
    pub tls: Option<SocketAddr>,
    /// Whether requests that the description does not allow are counted.
    pub strict: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Apps and accounts to begin with.
    pub accounts: Vec<NewAppWithAccounts>,
}

impl Default for Config {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { api: any, control: any, tls: None, strict: true, seed: 0x7a4d_e301, accounts: Vec::new() }
    }
}

/// Why a simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The test authority or its certificate cannot be made.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The accounts to begin with cannot be made.
    #[error("cannot make the accounts: {0}")]
    Accounts(String),
}

/// A simulator in this process.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Starts it on the current tokio runtime; it ends with the handle.
    ///
    /// # Errors
    /// When a listener, the certificate or an account cannot be made.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        let world = Arc::new(World::new(config.seed, config.strict));
        let api = listen(config.api).await?;
        let control = listen(config.control).await?;
        let tls = match config.tls {
            None => None,
            Some(address) => {
                let (acceptor, authority) = authority::acceptor()?;
                Some((listen(address).await?, acceptor, authority))
            }
        };
        control::server::make_all(&world, config.accounts)
            .map_err(|refusal| StartError::Accounts(refusal.message()))?;
        let address = |listener: &TcpListener, asked: SocketAddr| {
            listener.local_addr().map_err(|source| StartError::Listen { address: asked, source })
        };
        let api_url = format!("http://{}", address(&api, config.api)?);
        // Set once, here.
        let _ = world.api_url.set(api_url.clone());
        let control_url = format!("http://{}", address(&control, config.control)?);
        tokio::spawn(server::accept(world.clone(), api, None));
        tokio::spawn(server::control(world.clone(), control));
        let (tls_url, authority) = match tls {
            None => (None, None),
            Some((listener, acceptor, authority)) => {
                let port = address(&listener, config.api)?.port();
                tokio::spawn(server::accept(world.clone(), listener, Some(acceptor)));
                (Some(format!("https://localhost:{port}")), Some(authority))
            }
        };
        Ok(Handle { world, api_url, control_url, tls_url, authority })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

/// A running simulator. Dropping it ends the simulator.
pub struct Handle {
    world: Arc<World>,
    api_url: String,
    control_url: String,
    tls_url: Option<String>,
    authority: Option<String>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("api_url", &self.api_url)
            .field("control_url", &self.control_url)
            .field("tls_url", &self.tls_url)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Base URL of the API, `http://127.0.0.1:…`.
    pub fn api_url(&self) -> &str {
        &self.api_url
    }

    /// Base URL of the control API.
    pub fn control_url(&self) -> &str {
        &self.control_url
    }

    /// Base URL of the API over TLS, `https://localhost:…`.
    pub fn tls_url(&self) -> Option<&str> {
        self.tls_url.as_deref()
    }

    /// The test authority's certificate in PEM.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// A client of the control API.
    pub fn client(&self) -> control::Client {
        control::Client::new(self.control_url.clone())
    }

    /// Waits until somebody asks for the end (`POST /control/shutdown`).
    pub async fn ended(&self) {
        let mut stop = self.world.stop.subscribe();
        // The sender lives in this handle's world, so there is no error.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Ends it.
    pub fn shutdown(&self) {
        self.world.stop.send_replace(true);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}
