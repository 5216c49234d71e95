//! Asking a running daemon over its admin API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use crate::admin::Problem;
use crate::config::Config;

/// Where the daemon is, and the token for it.
#[derive(Debug)]
pub(super) struct Client {
    url: String,
    token: SecretString,
    http: reqwest::Client,
}

impl Client {
    /// From `TANDEM_URL` and `TANDEM_TOKEN`; what is not there, from the configuration.
    pub(super) fn new(config: &Path) -> Result<Self, Failure> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (url, token) = match (variable("TANDEM_URL"), variable("TANDEM_TOKEN")) {
            (Some(url), Some(token)) => (url, SecretString::from(token)),
            (url, token) => {
                let config = Config::load(config)?;
                let token = match token {
                    Some(token) => SecretString::from(token),
                    None => {
                        config.auth.admin.read().map_err(|finding| Failure::usage(finding.to_string()))?
                    }
                };
                (url.map_or_else(|| address(&config), Ok)?, token)
            }
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(60))
            // A token goes to the daemon and nowhere else.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::new(&error))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token, http })
    }

    /// `GET` with a query.
    pub(super) async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, Failure> {
        let mut url = self.target(path)?;
        for (name, value) in query {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.ask(Method::GET, url, None).await
    }

    /// `POST` with a JSON body.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::new(&error))?;
        self.ask(Method::POST, self.target(path)?, Some(body)).await
    }

    fn target(&self, path: &str) -> Result<url::Url, Failure> {
        let wrong = |error| Failure::usage(format!("TANDEM_URL: {:?} is not a URL: {error}", self.url));
        url::Url::parse(&format!("{}{path}", self.url)).map_err(wrong)
    }

    async fn ask(&self, method: Method, url: url::Url, body: Option<Vec<u8>>) -> Result<Value, Failure> {
        let path = url.path().to_owned();
        let mut request = self.http.request(method, url);
        request =
            request.header(http::header::AUTHORIZATION, format!("Bearer {}", self.token.expose_secret()));
        if let Some(body) = body {
            request = request.header(http::header::CONTENT_TYPE, "application/json").body(body);
        }
        let unreachable = |error: reqwest::Error| {
            let what = format!("no daemon answers at {}; is it running?", self.url);
            Failure::caused(what, &error.without_url())
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            let problem: Option<Problem> = serde_json::from_slice(&text).ok();
            let said = problem.map_or_else(|| format!("it answered {status}"), |problem| problem.detail);
            return Err(Failure::because(format!("{}{path}: {said}", self.url)));
        }
        serde_json::from_slice(&text).map_err(|error| {
            let what =
                format!("{}{path}: the answer is not JSON: {error}; is that a daemon of Tandem?", self.url);
            Failure::because(what)
        })
    }
}

/// The address that the configuration makes the daemon listen on, as this machine reaches it.
fn address(config: &Config) -> Result<String, Failure> {
    let mut address = config.http.listen;
    if address.port() == 0 {
        let what = format!(
            "{}: http.listen takes any free port, so it does not say where the daemon is; set TANDEM_URL to what it printed when it started",
            config.file.display()
        );
        return Err(Failure::usage(what));
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(format!("http://{address}"))
}
