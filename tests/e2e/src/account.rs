//! Accounts through their public APIs, as any client would read them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Error;

/// Contact properties that the judge compares.
pub const PROPERTIES: [&str; 18] = [
    "email",
    "firstname",
    "lastname",
    "phone",
    "mobilephone",
    "jobtitle",
    "company",
    "website",
    "address",
    "city",
    "state",
    "zip",
    "country",
    "hs_language",
    "lifecyclestage",
    "date_of_birth",
    "annualrevenue",
    "message",
];

/// A HubSpot account.
#[derive(Clone)]
pub struct Account {
    client: reqwest::Client,
    base: String,
    token: String,
}

/// A contact as the account has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The account's id of it.
    pub id: String,
    /// Its properties; empty ones are left out.
    pub properties: BTreeMap<String, String>,
}

impl Account {
    /// A client for an account of the API at `base`.
    #[must_use]
    pub fn new(client: reqwest::Client, base: &str, token: &str) -> Self {
        Self { client, base: base.to_owned(), token: token.to_owned() }
    }

    /// Makes a property for a line of text, as an administrator of the account does.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn make_property(&self, name: &str) -> Result<(), Error> {
        let property = serde_json::json!({
            "name": name, "label": name, "groupName": "contactinformation", "type": "string", "fieldType": "text",
        });
        let url = format!("{}/crm/v3/properties/contacts", self.base);
        self.client.post(url).bearer_auth(&self.token).json(&property).send().await?.error_for_status()?;
        Ok(())
    }

    /// All live contacts. Waits where the account's quota asks for it.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn list(&self) -> Result<Vec<Contact>, Error> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        let wanted = PROPERTIES.join(",");
        loop {
            let mut request = self
                .client
                .get(format!("{}/crm/v3/objects/contacts", self.base))
                .query(&[("limit", "100"), ("properties", wanted.as_str())]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let answer = request.bearer_auth(&self.token).send().await?;
            if answer.status().as_u16() == 429 {
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                continue;
            }
            let page: Value = answer.error_for_status()?.json().await?;
            for row in page.get("results").and_then(Value::as_array).into_iter().flatten() {
                all.push(contact(row));
            }
            after = page.pointer("/paging/next/after").and_then(Value::as_str).map(ToOwned::to_owned);
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}

fn contact(row: &Value) -> Contact {
    let properties = row
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| {
            let value = value.as_str()?;
            (!value.is_empty() && PROPERTIES.contains(&name.as_str()))
                .then(|| (name.clone(), value.to_owned()))
        })
        .collect();
    Contact { id: row.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(), properties }
}

/// A generic REST account.
#[derive(Clone)]
pub struct RestPeople {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl RestPeople {
    /// A client for an account of the API at `base`.
    #[must_use]
    pub fn new(client: reqwest::Client, base: &str, token: &str) -> Self {
        Self { client, base: base.to_owned(), token: token.to_owned() }
    }

    /// Everybody; only texts of a person are given.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn list(&self) -> Result<Vec<Contact>, Error> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut request =
                self.client.get(format!("{}/rest/v1/people", self.base)).query(&[("limit", "500")]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Value =
                request.bearer_auth(&self.token).send().await?.error_for_status()?.json().await?;
            for row in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                let id = row.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
                let texts = row.as_object().into_iter().flatten();
                let properties = texts
                    .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                    .filter(|(_, value)| !value.is_empty())
                    .collect();
                all.push(Contact { id, properties });
            }
            after = page.get("next").and_then(Value::as_str).map(ToOwned::to_owned);
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
