//! Customers whose CRM is the simulator's generic REST account, in a house: for tests of providers that come and go.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tandem_simulator::control::types::{NewRestAccount, RestAccount};

use crate::account::RestPeople;
use crate::crm::Crm;
use crate::house::House;
use crate::{Error, process};

/// The word that the starter writes for a lead, and the other one that means the same to it.
pub const WORDS: [&str; 2] = ["Prospect", "Interest"];

/// The starter's component.
///
/// # Errors
/// It was not built.
pub fn starter() -> Result<Vec<u8>, Error> {
    Ok(std::fs::read(process::component("provider_starter.wasm")?)?)
}

/// The starter as another version: it writes the other word for a lead, and reads both as before.
///
/// # Errors
/// The words are not where they are expected.
pub fn other_starter() -> Result<Vec<u8>, Error> {
    let bytes = starter()?;
    let [first, second] = WORDS.map(str::as_bytes);
    let mut other = bytes.clone();
    let mut found = [0, 0];
    for (place, window) in bytes.windows(first.len()).enumerate() {
        let swap = if window == first {
            found[0] += 1;
            second
        } else if window == second {
            found[1] += 1;
            first
        } else {
            continue;
        };
        if let Some(slot) = other.get_mut(place..place + swap.len()) {
            slot.copy_from_slice(swap);
        }
    }
    if found.contains(&0) {
        return Err(format!("the starter's words were found {found:?} times").into());
    }
    Ok(other)
}

/// The component with another text of the same length in place of one.
///
/// # Errors
/// The text is not there.
pub fn patched(bytes: &[u8], from: &str, to: &str) -> Result<Vec<u8>, Error> {
    let mut patched = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(place, _)| place)
        .collect();
    if places.is_empty() || from.len() != to.len() {
        return Err(format!("{from:?} cannot become {to:?}").into());
    }
    for place in places {
        if let Some(slot) = patched.get_mut(place..place + to.len()) {
            slot.copy_from_slice(to.as_bytes());
        }
    }
    Ok(patched)
}

impl House {
    /// Puts a file into the folder of providers as careful people do: under another name first.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn drop_in(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let folder = self.folder.join("providers");
        let temporary = folder.join(format!(".{name}.part"));
        std::fs::write(&temporary, bytes)?;
        let path = folder.join(name);
        std::fs::rename(&temporary, &path)?;
        Ok(path)
    }

    /// A customer with a REST account, whose events reach the daemon. `extra`: further lines of the connection's file.
    ///
    /// # Errors
    /// The account cannot be made, or the file not be written.
    pub async fn rest_customer(&self, scope: &str, extra: &str) -> Result<RestAccount, Error> {
        let new = NewRestAccount::default();
        self.rest_account(scope, scope, new, extra).await
    }

    /// A connection of a scope to a REST account that is made as `new` says, but named like the connection.
    ///
    /// # Errors
    /// The account cannot be made, or the file not be written.
    pub async fn rest_account(
        &self,
        connection: &str,
        scope: &str,
        new: NewRestAccount,
        extra: &str,
    ) -> Result<RestAccount, Error> {
        let account = self.unconnected_rest_account(connection, new).await?;
        self.connect_rest(&account, scope, extra)?;
        Ok(account)
    }

    /// A REST account that is made as `new` says, and whose events reach the daemon's connection of that name, once there is one.
    ///
    /// # Errors
    /// The account cannot be made.
    pub async fn unconnected_rest_account(
        &self,
        connection: &str,
        new: NewRestAccount,
    ) -> Result<RestAccount, Error> {
        let new = NewRestAccount {
            account: Some(connection.to_owned()),
            target: Some(format!("{}/hooks/connection/{connection}", self.base)),
            limit: Some(100_000),
            ..new
        };
        Ok(self.control.create_rest_account(&new).await?)
    }

    /// Writes the file of a REST account's connection, and its secrets.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn connect_rest(&self, account: &RestAccount, scope: &str, extra: &str) -> Result<(), Error> {
        let connection = &account.account;
        self.secret(connection, &account.token)?;
        self.secret(&format!("{connection}.webhook"), &account.secret)?;
        let text = self.rest_connection(connection, extra);
        let text = text.replacen(&format!("scope = \"{connection}\""), &format!("scope = \"{scope}\""), 1);
        write_whole(&self.connection_path(connection), &text)
    }

    /// A REST account as people and judges see it.
    #[must_use]
    pub fn rest_crm(&self, account: &RestAccount) -> Crm {
        let api = RestPeople::new(self.client(), &self.api, &account.token);
        Crm::rest(&self.control, &account.account, api)
    }

    /// Where a connection's file stands.
    #[must_use]
    pub fn connection_path(&self, scope: &str) -> PathBuf {
        self.folder.join("connections").join(format!("{scope}.toml"))
    }

    /// The text of a REST customer's file.
    #[must_use]
    pub fn rest_connection(&self, scope: &str, extra: &str) -> String {
        let objects = if extra.contains("[objects") { "" } else { "[objects.contact]\n" };
        format!(
            "provider = \"starter\"\nscope = \"{scope}\"\naccount = \"{scope}\"\nhosts = [\"127.0.0.1\"]\n\
             base_url = \"{api}\"\nallow_loopback = true\nauth = {{ token = {{ file = \"../secrets/{scope}\" }} }}\n\
             secrets = {{ webhook = {{ file = \"../secrets/{scope}.webhook\" }} }}\n{extra}\n{objects}",
            api = self.api,
        )
    }

    /// The row of a provider in the daemon's list, by its id.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn provider(&self, id: &str) -> Result<Option<Value>, Error> {
        let rows = self.get("/v1/providers").await?;
        let rows = rows.as_array().cloned().unwrap_or_default();
        Ok(rows.into_iter().find(|row| row.get("provider").and_then(Value::as_str) == Some(id)))
    }

    /// The label of the version that serves.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub async fn serving(&self, id: &str) -> Result<String, Error> {
        let row = self.provider(id).await?;
        let label = row.as_ref().and_then(|row| row.get("label")).and_then(Value::as_str);
        Ok(label.unwrap_or_default().to_owned())
    }
}

/// Writes a file so that no reader sees half of it.
///
/// # Errors
/// It cannot be written.
pub fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.part"));
    std::fs::write(&temporary, text)?;
    Ok(std::fs::rename(temporary, path)?)
}
