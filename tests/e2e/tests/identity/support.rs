//! A house with one REST account, and what is asked of it.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::starter;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{NewRestAccount, RestAccount};

pub(super) const SOON: Duration = Duration::from_secs(60);

/// A house whose customer `acme` has a REST account; `extra`: lines of the connection's file.
pub(super) struct Rest {
    pub(super) house: House,
    account: RestAccount,
}

impl Rest {
    /// `same_mail`: two people of the account may have one address.
    pub(super) async fn build(same_mail: bool, extra: &str) -> Result<Self, Error> {
        let rest = Self::without_connection(same_mail).await?;
        rest.connect(extra).await?;
        Ok(rest)
    }

    /// With the account, and without its connection yet.
    pub(super) async fn without_connection(same_mail: bool) -> Result<Self, Error> {
        let house = House::build(Plan::roomy(&[])).await?;
        house.drop_in("starter.wasm", &starter()?)?;
        until("the provider serves", SOON, async || {
            let label = house.serving("starter").await?;
            Ok(if label.is_empty() { Err(house.log()) } else { Ok(()) })
        })
        .await?;
        let new = NewRestAccount { same_mail, ..NewRestAccount::default() };
        let account = house.unconnected_rest_account("acme", new).await?;
        Ok(Self { house, account })
    }

    pub(super) async fn connect(&self, extra: &str) -> Result<(), Error> {
        self.house.connect_rest(&self.account, "acme", extra)?;
        until("the connection works", SOON, async || {
            let rows = self.house.get("/v1/status").await?;
            Ok(if rows["connections"][0]["scope"] == json!("acme") { Ok(()) } else { Err(rows.to_string()) })
        })
        .await
    }

    pub(super) async fn person(&self, members: Value) -> Result<String, Error> {
        let made = self.house.control.rest_person_creates("acme", &members).await?;
        Ok(made["Id"].as_str().ok_or("no id")?.to_owned())
    }

    pub(super) async fn edit(&self, id: &str, members: Value) -> Result<(), Error> {
        self.house.control.rest_person_edits("acme", id, &members).await?;
        Ok(())
    }

    pub(super) async fn people(&self) -> Result<Vec<Value>, Error> {
        Ok(self.house.control.rest_people("acme").await?)
    }

    pub(super) async fn create(&self, document: Value) -> Result<String, Error> {
        let made = self.house.system_a("acme").create(&document).await?;
        made.id.ok_or_else(|| format!("not made: {}", made.body).into())
    }

    pub(super) async fn patch(&self, id: &str, patch: Value) -> Result<(), Error> {
        let answer = self.house.system_a("acme").patch(id, &patch).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.body.to_string().into()) }
    }

    /// Waits until a member of somebody in the account has a value; null: none.
    pub(super) async fn there(&self, id: &str, member: &str, value: Value) -> Result<(), Error> {
        until(&format!("{id} of the account has {member} {value}"), SOON, async || {
            let people = self.people().await?;
            let found = people.iter().find(|person| person["Id"] == json!(id));
            let own = found.map(|person| person[member].clone());
            Ok(if own.as_ref() == Some(&value) { Ok(()) } else { Err(format!("{own:?}")) })
        })
        .await
    }

    /// Waits until a member of a record of System A has a value; null: none.
    pub(super) async fn here(&self, id: &str, member: &str, value: Value) -> Result<(), Error> {
        until(&format!("{id} of System A has {member} {value}"), SOON, async || {
            let found = self.house.system_a("acme").read(id).await?;
            let own = found.map(|document| document[member].clone());
            Ok(if own.as_ref() == Some(&value) { Ok(()) } else { Err(format!("{own:?}")) })
        })
        .await
    }

    /// The ids of System A's records with an address.
    pub(super) async fn with_mail(&self, mail: &str) -> Result<Vec<String>, Error> {
        let all = self.house.system_a("acme").list().await?;
        let has = all.into_iter().filter(|record| record.document["email"] == json!(mail));
        Ok(has.map(|record| record.id).collect())
    }

    /// Waits until System A has so many records with an address.
    pub(super) async fn mails(&self, mail: &str, count: usize) -> Result<Vec<String>, Error> {
        until(&format!("System A has {mail} {count} times"), SOON, async || {
            let found = self.with_mail(mail).await?;
            Ok(if found.len() == count { Ok(found) } else { Err(format!("{found:?}")) })
        })
        .await
    }

    /// Waits until an internal record is linked to somebody of the account.
    pub(super) async fn linked(&self, id: &str, external: &str) -> Result<(), Error> {
        linked(&self.house, id, external).await
    }

    pub(super) async fn reviews(&self) -> Result<Vec<Value>, Error> {
        reviews(&self.house).await
    }

    /// Waits for so many reviews.
    pub(super) async fn wait_for_reviews(&self, count: usize) -> Result<Vec<Value>, Error> {
        wait_for_reviews(&self.house, count).await
    }

    pub(super) async fn restart(&mut self) -> Result<(), Error> {
        self.house.kill().await?;
        self.house.start().await
    }
}

/// Waits until an internal record is linked to a record of the CRM at `acme`.
pub(super) async fn linked(house: &House, id: &str, external: &str) -> Result<(), Error> {
    until(&format!("{id} is linked to {external}"), SOON, async || {
        let known = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
        let link = &known["links"][0];
        let is = link["external"] == json!(external) && link["life"] == json!("active");
        Ok(if is { Ok(()) } else { Err(link.to_string()) })
    })
    .await
}

pub(super) async fn reviews(house: &House) -> Result<Vec<Value>, Error> {
    Ok(house.get("/v1/review?limit=1000").await?.as_array().cloned().unwrap_or_default())
}

pub(super) async fn wait_for_reviews(house: &House, count: usize) -> Result<Vec<Value>, Error> {
    until(&format!("{count} reviews"), SOON, async || {
        let found = reviews(house).await?;
        Ok(if found.len() == count { Ok(found) } else { Err(format!("{found:?}")) })
    })
    .await
}

/// Runs `tandem`; what it printed. An error where it ended with another status.
pub(super) fn tandem(house: &House, arguments: &[&str], status: i32) -> Result<String, Error> {
    let output = house.command(arguments)?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(status) {
        return Err(format!("{arguments:?}: {:?}: {said}{complained}", output.status.code()).into());
    }
    Ok(if status == 0 { said } else { said + &complained })
}

/// Nothing was set aside.
pub(super) async fn nothing_aside(house: &House) -> Result<(), Error> {
    let dead = house.get("/v1/dead?limit=100").await?;
    if dead.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(format!("set aside: {dead}").into()) }
}
