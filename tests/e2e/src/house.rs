//! A whole house for a test: the simulator, the daemon, a folder on a real disk, customers with a scope and an account each.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_simulator::control::Client as Control;
use tandem_simulator::control::client::Portal;
use tandem_simulator::control::types::{AccountInfo, AppInfo, NewAccounts, NewApp, QuotaSizes, TokenKind};
use tokio::process::Command;

use crate::account::Account;
use crate::crm::Crm;
use crate::judge::{Evidence, Seen};
use crate::process::{self, Running};
use crate::system_a::SystemA;
use crate::{Error, until};

/// The admin token of every house.
pub const ADMIN: &str = "admin-token-of-this-house";

/// One customer.
pub struct Customer {
    /// The scope in System A, and the connection's name.
    pub scope: String,
    /// The simulated account.
    pub info: AccountInfo,
    /// Its public API.
    pub account: Account,
}

/// What a house is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Scopes; each gets an account of one app.
    pub scopes: Vec<String>,
    /// The accounts' limits: calls in ten seconds, calls in a day, searches in a second.
    pub quota: QuotaSizes,
    /// Lines for every connection's file (policies, settings); TOML after the head.
    pub connection: String,
    /// Lines for the main file.
    pub main: String,
    /// Environment of the daemon.
    pub environment: BTreeMap<String, String>,
    /// Milliseconds that the simulated search lags behind a write, least and most.
    pub index_lag: (u64, u64),
    /// How the connections authenticate.
    pub tokens: TokenKind,
    /// The address under which CRMs are to reach the daemon, where that is not where it listens.
    pub public_url: Option<String>,
}

impl Plan {
    /// Customers with larger quotas than real accounts have.
    #[must_use]
    pub fn roomy(scopes: &[&str]) -> Self {
        Self {
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            quota: QuotaSizes { burst: 20_000, daily: None, search: 50 },
            connection: String::new(),
            main: String::new(),
            environment: BTreeMap::new(),
            index_lag: (100, 300),
            tokens: TokenKind::Private,
            public_url: None,
        }
    }
}

/// A running house.
pub struct House {
    /// Where everything lies; removed at the end unless it is kept.
    pub folder: PathBuf,
    keep: Option<tempfile::TempDir>,
    plan: Plan,
    /// The simulator's control API.
    pub control: Control,
    /// The simulator's address.
    pub api: String,
    /// The app whose accounts these are.
    pub app: AppInfo,
    /// The customers, in the order of the plan.
    pub customers: Vec<Customer>,
    /// The daemon's address. It stays the same over restarts, as the webhooks' target must.
    pub base: String,
    client: reqwest::Client,
    simulator: Running,
    daemon: Option<Running>,
    starts: u32,
}

impl House {
    /// Builds a house in a new folder below the build's target folder, and starts the daemon.
    ///
    /// # Errors
    /// Something is missing or does not start; the text says what to do.
    pub async fn build(plan: Plan) -> Result<Self, Error> {
        let parent = process::built()?.join("houses");
        std::fs::create_dir_all(&parent)?;
        let keep = tempfile::Builder::new().prefix("house-").tempdir_in(parent)?;
        let mut house = Self::found(plan, keep).await?;
        house.start().await?;
        Ok(house)
    }

    async fn found(plan: Plan, keep: tempfile::TempDir) -> Result<Self, Error> {
        let folder = keep.path().to_owned();
        let client = crate::client()?;
        let mut command = Command::new(process::binary("tandem-simulator")?);
        command.args(["--exit-with-parent"]);
        let simulator =
            Running::start(command, &folder.join("simulator.log"), Duration::from_secs(20)).await?;
        let api = simulator.announced("api")?;
        let control = Control::new(simulator.announced("control")?);
        let app = control.create_app(&NewApp::default()).await?;
        let wanted = NewAccounts {
            kind: plan.tokens,
            quota: Some(plan.quota),
            settings: serde_json::from_value(
                json!({ "indexLagMinMs": plan.index_lag.0, "indexLagMaxMs": plan.index_lag.1 }),
            )?,
            // Tandem's own property: a create that was never answered is recognised by it.
            properties: vec![key_property()],
            ..NewAccounts::new(app.app_id, plan.scopes.len())
        };
        let accounts = control.create_accounts(&wanted).await?;
        let customers = plan
            .scopes
            .iter()
            .zip(accounts)
            .map(|(scope, info)| Customer {
                scope: scope.clone(),
                account: Account::new(client.clone(), &api, &info.access_token),
                info,
            })
            .collect();
        let house = Self {
            folder,
            keep: Some(keep),
            plan,
            control,
            api,
            app,
            customers,
            base: String::new(),
            client,
            simulator,
            daemon: None,
            starts: 0,
        };
        house.furnish()?;
        Ok(house)
    }

    fn furnish(&self) -> Result<(), Error> {
        adopt_compiled(&self.folder.join("data/compiled"))?;
        for name in ["providers", "connections", "secrets"] {
            std::fs::create_dir_all(self.folder.join(name))?;
        }
        std::fs::copy(
            process::component("provider_hubspot.wasm")?,
            self.folder.join("providers/hubspot.wasm"),
        )?;
        self.secret("admin", ADMIN)?;
        self.secret("app", &self.app.client_secret)?;
        for customer in &self.customers {
            let info = &customer.info;
            self.secret(&customer.scope, info.refresh_token.as_ref().unwrap_or(&info.access_token))?;
            self.connect(customer)?;
        }
        Ok(())
    }

    /// Writes a secret's file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn secret(&self, name: &str, value: &str) -> Result<(), Error> {
        Ok(std::fs::write(self.folder.join("secrets").join(name), value)?)
    }

    fn connect(&self, customer: &Customer) -> Result<(), Error> {
        let Customer { scope, info, .. } = customer;
        let text = format!(
            "provider = \"hubspot\"\nscope = \"{scope}\"\napp = \"hubspot\"\naccount = \"{portal}\"\n\
             base_url = \"{api}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
             auth = {{ {credential} = {{ file = \"../secrets/{scope}\" }} }}\n{extra}\n",
            portal = info.portal_id,
            credential = if info.refresh_token.is_some() { "refresh_token" } else { "token" },
            api = self.api,
            extra = self.connection_text(),
        );
        std::fs::write(self.folder.join("connections").join(format!("{scope}.toml")), text)?;
        Ok(())
    }

    /// The plan's lines, with quotas as the account has them unless the plan says others.
    fn connection_text(&self) -> String {
        let quota = &self.plan.quota;
        let mut text = self.plan.connection.clone();
        if !text.contains("[quotas.") {
            text.push_str(&format!(
                "\n[quotas.burst]\nlimit = {}\n[quotas.search]\nlimit = {}\n[quotas.daily]\nlimit = {}\n",
                quota.burst,
                quota.search,
                quota.daily.unwrap_or(1_000_000_000)
            ));
        }
        if !text.contains("[settings]") {
            text.push_str(
                "\n[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 5000\n",
            );
        }
        if !text.contains("[objects.contact]") {
            text.push_str("\n[objects.contact]\n");
        }
        text
    }

    fn write_main(&self, listen: &str) -> Result<(), Error> {
        let text = format!(
            "data_dir = \"data\"\n[http]\nlisten = \"{listen}\"\n{public}[auth]\nadmin = {{ file = \"secrets/admin\" }}\n\
             [apps.hubspot]\nprovider = \"hubspot\"\napp_id = \"{app}\"\nclient_id = \"{id}\"\nclient_secret = {{ file = \"secrets/app\" }}\n{main}\n",
            public = self
                .plan
                .public_url
                .as_ref()
                .map_or_else(String::new, |url| format!("public_url = \"{url}\"\n")),
            app = self.app.app_id,
            id = self.app.client_id,
            main = self.plan.main,
        );
        Ok(std::fs::write(self.folder.join("tandem.toml"), text)?)
    }

    /// Environment of the daemon's next start.
    pub fn environment(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.plan.environment
    }

    /// The public address that the daemon's next start believes in.
    pub fn public_url(&mut self) -> &mut Option<String> {
        &mut self.plan.public_url
    }

    /// The daemon's configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("tandem.toml")
    }

    /// Starts the daemon, on the same port as before if it ran before, and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready in 30 s.
    pub async fn start(&mut self) -> Result<(), Error> {
        let listen = if self.base.is_empty() {
            "127.0.0.1:0".to_owned()
        } else {
            self.base.trim_start_matches("http://").to_owned()
        };
        self.write_main(&listen)?;
        let mut command = Command::new(process::binary("tandem")?);
        command
            .args(["--config".as_ref(), self.config().as_os_str()])
            .args(["run", "--json", "--until-stdin-closes"])
            .envs(&self.plan.environment);
        let log = self.folder.join("daemon.log");
        let daemon = Running::start(command, &log, Duration::from_secs(60)).await?;
        self.base = daemon.announced("api")?;
        self.daemon = Some(daemon);
        self.starts += 1;
        if self.starts == 1 {
            // What HubSpot signs is the public address; the simulator connects to the daemon in its place.
            let public = self.plan.public_url.as_ref();
            let settings = json!({
                "targetUrl": format!("{}/hooks/app/hubspot", public.unwrap_or(&self.base)),
                "connectTo": public.map(|_| self.base.trim_start_matches("http://")),
            });
            self.control.set_webhooks(self.app.app_id, settings).await?;
        }
        let url = format!("{}/readyz", self.base);
        until("the daemon is ready", Duration::from_secs(30), async || {
            Ok(match self.client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(answer.status().to_string()),
                Err(error) => Err(error.to_string()),
            })
        })
        .await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The daemon does not run.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.daemon.take().ok_or("the daemon does not run")?.kill().await
    }

    /// SIGTERM; gives the exit code.
    ///
    /// # Errors
    /// The daemon does not run, or does not end.
    pub async fn stop(&mut self) -> Result<Option<i32>, Error> {
        self.daemon.take().ok_or("the daemon does not run")?.terminate(Duration::from_secs(40)).await
    }

    /// The daemon's process id.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().and_then(Running::pid)
    }

    /// System A of a customer.
    #[must_use]
    pub fn system_a(&self, scope: &str) -> SystemA {
        SystemA::new(self.client.clone(), &self.base, ADMIN, scope)
    }

    /// A customer.
    ///
    /// # Errors
    /// There is no such customer.
    pub fn customer(&self, scope: &str) -> Result<&Customer, Error> {
        self.customers
            .iter()
            .find(|customer| customer.scope == scope)
            .ok_or_else(|| format!("no customer {scope}").into())
    }

    /// A customer's account as people and judges see it.
    ///
    /// # Errors
    /// There is no such customer.
    pub fn crm(&self, scope: &str) -> Result<Crm, Error> {
        let customer = self.customer(scope)?;
        Ok(Crm::hubspot(&self.control, customer.info.portal_id, &customer.account))
    }

    pub(crate) fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// A GET of the admin API.
    ///
    /// # Errors
    /// No answer, or not a success.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        let answer = self.client.get(format!("{}{path}", self.base)).bearer_auth(ADMIN).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            Ok(serde_json::from_str(&text)?)
        } else {
            Err(format!("GET {path}: {status}: {text}").into())
        }
    }

    /// A POST of the admin API.
    ///
    /// # Errors
    /// No answer, or not a success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let answer =
            self.client.post(format!("{}{path}", self.base)).bearer_auth(ADMIN).json(body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
        } else {
            Err(format!("POST {path}: {status}: {text}").into())
        }
    }

    /// Hints that are not done, over all connections.
    ///
    /// # Errors
    /// No answer.
    pub async fn undone(&self) -> Result<u64, Error> {
        let status = self.get("/v1/status").await?;
        let count = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(status
            .get("connections")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|row| count(row, "waiting") + count(row, "delayed"))
            .sum())
    }

    /// Webhooks of the app and of Pipedrive accounts, events of REST accounts and messages of Salesforce orgs that are not delivered
    /// yet.
    ///
    /// # Errors
    /// No answer.
    pub async fn webhooks_under_way(&self) -> Result<u64, Error> {
        let app = serde_json::to_value(self.control.app(self.app.app_id).await?)?;
        let counts = app.get("counts").cloned().unwrap_or_default();
        let count = |name: &str| counts.get(name).and_then(Value::as_u64).unwrap_or(0);
        let rest = self.control.rest_counts("all").await?.under_way;
        let outbound = self.control.salesforce_counts(Portal::All).await?.outbound.under_way;
        let pipedrive = self.control.pipedrive_counts(Portal::All).await?.webhooks.under_way;
        Ok(count("queued") + count("waiting") + rest + outbound + pipedrive)
    }

    /// Waits until nothing is undone and no webhook is under way, twice in a row.
    ///
    /// # Errors
    /// It does not get quiet in time.
    pub async fn quiet(&self, deadline: Duration) -> Result<(), Error> {
        let calm = std::cell::Cell::new(0_u32);
        until("everything is done", deadline, async || {
            let (undone, hooks) = (self.undone().await?, self.webhooks_under_way().await?);
            calm.set(if undone == 0 && hooks == 0 { calm.get() + 1 } else { 0 });
            Ok(if calm.get() >= 5 {
                Ok(())
            } else {
                Err(format!("{undone} hints undone, {hooks} webhooks under way"))
            })
        })
        .await
    }

    /// Waits until every account was gone through once, as a connection does when it starts: what is made after that, and is
    /// told by no webhook, is found by the next poll only.
    ///
    /// # Errors
    /// An account is not listed in time.
    pub async fn walked(&self, deadline: Duration) -> Result<(), Error> {
        for customer in &self.customers {
            until("the account is walked", deadline, async || {
                let counts = self.control.account_counts(customer.info.portal_id).await?;
                let listings = counts.calls("contacts.list");
                Ok(if listings > 0 { Ok(()) } else { Err(format!("{} was not listed", customer.scope)) })
            })
            .await?;
        }
        Ok(())
    }

    /// Everything that the judge looks at, through public APIs; the ledger is the caller's.
    ///
    /// # Errors
    /// No answer.
    pub async fn evidence(&self) -> Result<Evidence, Error> {
        let mut evidence = Evidence::default();
        for customer in &self.customers {
            let scope = customer.scope.clone();
            evidence.system_a.insert(scope.clone(), self.system_a(&scope).list().await?);
            let contacts = customer.account.list().await?;
            evidence.accounts.insert(scope.clone(), Seen { scope, contacts, ..Seen::default() });
        }
        crate::judge::add_reviews(&mut evidence, &self.get("/v1/review?limit=10000").await?);
        crate::judge::add_set_aside(&mut evidence, &self.get("/v1/dead?limit=10000").await?);
        Ok(evidence)
    }

    /// Leaves what the daemon compiled to the houses that come later. Called before its folder goes.
    fn leave_compiled(&self) -> Result<(), Error> {
        link_files(&self.folder.join("data/compiled"), &process::built()?.join("houses/compiled"))
    }

    /// Keeps the folder; gives its path.
    pub fn keep(&mut self) -> PathBuf {
        if let Some(folder) = self.keep.take() {
            let _path = folder.keep();
        }
        self.folder.clone()
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default()
    }

    /// The simulator's process id.
    #[must_use]
    pub fn simulator_pid(&self) -> Option<u32> {
        self.simulator.pid()
    }

    /// A command of `tandem` for this house.
    ///
    /// # Errors
    /// The binary is missing.
    pub fn command(&self, arguments: &[&str]) -> Result<std::process::Command, Error> {
        let mut command = std::process::Command::new(process::binary("tandem")?);
        command
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env("TANDEM_URL", &self.base)
            .env("TANDEM_TOKEN", ADMIN);
        Ok(command)
    }
}

/// A text property with unique values, in the form of HubSpot's Properties API.
pub(crate) fn key_property() -> serde_json::Map<String, Value> {
    let property = json!({
        "name": "tandem_key", "label": "Tandem key", "groupName": "contactinformation",
        "type": "string", "fieldType": "text", "hasUniqueValue": true,
    });
    property.as_object().cloned().unwrap_or_default()
}

/// Whether a folder lies on a file system that only lives in memory.
///
/// # Errors
/// It cannot be asked.
pub fn is_in_memory(folder: &Path) -> Result<bool, Error> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = u64::try_from(rustix::fs::statfs(folder)?.f_type)?;
    Ok(kind == TMPFS || kind == RAMFS)
}

impl Drop for House {
    fn drop(&mut self) {
        // A house that compiles anew takes seconds longer, and that is all.
        let _left = self.leave_compiled();
    }
}

/// What daemons of earlier houses compiled is there when the first start looks for it: compiling a provider takes seconds of all cores.
/// Only the files are shared, and none of them is ever changed: a daemon's folder stays its own.
fn adopt_compiled(own: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(own)?;
    link_files(&process::built()?.join("houses/compiled"), own)
}

/// Links the compiled code below a folder into another, where it is not there yet. How often it was used and what is being written stay.
fn link_files(from: &Path, to: &Path) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(from) else { return Ok(()) };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&target)?;
            link_files(&path, &target)?;
        } else if path.extension().is_none() && !target.exists() {
            // Another house may link the same at this moment, and a file may go that was just listed.
            let _linked = std::fs::hard_link(path, target);
        }
    }
    Ok(())
}
