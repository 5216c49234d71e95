//! The client's side.

use http::Method;
use serde_json::{Map, Value, json};

use super::types::{
    NewSalesforceOrgs, NotedSalesforceCall, SalesforceCounts, SalesforceEditMany, SalesforceImport,
    SalesforceImported, SalesforceLimits, SalesforceLock, SalesforceMerge, SalesforceOrg, SalesforceRecord,
    SalesforceWrite,
};
use crate::control::client::{Answer, Client, Portal};
use crate::writes::NotedWrite;

const ORGS: &str = "/control/salesforce/orgs";

/// A body of an object, or one that the simulator will refuse by name.
fn members(values: Value) -> Map<String, Value> {
    match values {
        Value::Object(members) => members,
        other => Map::from_iter([("not an object".to_owned(), other)]),
    }
}

/// Salesforce. Every call fails when the simulator refuses it or does not answer.
impl Client {
    /// Makes orgs.
    pub async fn create_salesforce_orgs(&self, new: &NewSalesforceOrgs) -> Answer<Vec<SalesforceOrg>> {
        self.send(Method::POST, ORGS, new).await
    }

    /// All orgs.
    pub async fn salesforce_orgs(&self) -> Answer<Vec<SalesforceOrg>> {
        self.get(ORGS).await
    }

    /// Sets the limits.
    pub async fn set_salesforce_limits(
        &self,
        org: impl Into<Portal>,
        limits: &SalesforceLimits,
    ) -> Answer<()> {
        let path = format!("{ORGS}/{}/limits", org.into());
        self.send::<_, Value>(Method::PUT, &path, limits).await.map(drop)
    }

    /// Changes some settings, such as `{"duplicates": "block"}`.
    pub async fn set_salesforce_settings(&self, org: impl Into<Portal>, members: &Value) -> Answer<()> {
        let path = format!("{ORGS}/{}/settings", org.into());
        self.send::<_, Value>(Method::PATCH, &path, members).await.map(drop)
    }

    /// Changes some settings of the outbound messages, such as `{"targetUrl": "http://…"}`.
    pub async fn set_salesforce_outbound(&self, org: impl Into<Portal>, members: &Value) -> Answer<()> {
        let path = format!("{ORGS}/{}/outbound", org.into());
        self.send::<_, Value>(Method::PATCH, &path, members).await.map(drop)
    }

    /// Ends all sessions now.
    pub async fn expire_salesforce_sessions(&self, org: impl Into<Portal>) -> Answer<()> {
        let path = format!("{ORGS}/{}/expire-token", org.into());
        self.send::<_, Value>(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// All session ids that an org was ever given.
    pub async fn salesforce_tokens(&self, org: u64) -> Answer<Vec<String>> {
        self.get(&format!("{ORGS}/{org}/tokens")).await
    }

    /// Counts of one org, or of all together.
    pub async fn salesforce_counts(&self, org: impl Into<Portal>) -> Answer<SalesforceCounts> {
        self.get(&format!("{ORGS}/{}/counts", org.into())).await
    }

    /// The calls that came to an org, oldest first, since its settings asked for a `journal`.
    pub async fn salesforce_calls(&self, org: u64) -> Answer<Vec<NotedSalesforceCall>> {
        self.get(&format!("{ORGS}/{org}/calls")).await
    }

    /// The writes to the contacts of an org, oldest first, since its settings asked for a `journal`.
    pub async fn salesforce_writes(&self, org: u64) -> Answer<Vec<NotedWrite>> {
        self.get(&format!("{ORGS}/{org}/writes")).await
    }

    /// Removes all contacts without a trace.
    pub async fn clear_salesforce_org(&self, org: impl Into<Portal>) -> Answer<()> {
        let path = format!("{ORGS}/{}/clear", org.into());
        self.send::<_, Value>(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// All contacts of an org, those in the recycle bin as well.
    pub async fn salesforce_contacts(&self, org: u64) -> Answer<Vec<SalesforceRecord>> {
        self.get(&format!("{ORGS}/{org}/contacts")).await
    }

    /// A person creates a contact.
    pub async fn salesforce_person_creates(&self, org: u64, values: Value) -> Answer<SalesforceRecord> {
        let write = SalesforceWrite { values: members(values), quiet: false };
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts"), &write).await
    }

    /// A person saves an edit of these fields; null clears.
    pub async fn salesforce_person_edits(
        &self,
        org: u64,
        id: &str,
        values: Value,
    ) -> Answer<SalesforceRecord> {
        let write = SalesforceWrite { values: members(values), quiet: false };
        self.send(Method::PATCH, &format!("{ORGS}/{org}/contacts/{id}"), &write).await
    }

    /// A person deletes a contact.
    pub async fn salesforce_person_deletes(&self, org: u64, id: &str) -> Answer<SalesforceRecord> {
        self.call(Method::DELETE, &format!("{ORGS}/{org}/contacts/{id}"), None).await
    }

    /// A person takes a contact out of the recycle bin again.
    pub async fn salesforce_person_undeletes(&self, org: u64, id: &str) -> Answer<SalesforceRecord> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/{id}/undelete"), &json!({})).await
    }

    /// A person empties the recycle bin of a contact.
    pub async fn salesforce_person_purges(&self, org: u64, id: &str) -> Answer<SalesforceRecord> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/{id}/purge"), &json!({})).await
    }

    /// A person merges contacts; gives the one that stays.
    pub async fn salesforce_person_merges(
        &self,
        org: u64,
        merge: &SalesforceMerge,
    ) -> Answer<SalesforceRecord> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/merge"), merge).await
    }

    /// A person imports many contacts.
    pub async fn salesforce_person_imports(
        &self,
        org: u64,
        import: &SalesforceImport,
    ) -> Answer<SalesforceImported> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/import"), import).await
    }

    /// A person edits many contacts at once.
    pub async fn salesforce_person_edits_many(
        &self,
        org: u64,
        ids: &[&str],
        values: Value,
    ) -> Answer<SalesforceImported> {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let edit = SalesforceEditMany { ids, values: members(values) };
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/edit-many"), &edit).await
    }

    /// The org itself touches a contact: only `SystemModstamp` moves.
    pub async fn touch_salesforce_contact(&self, org: u64, id: &str) -> Answer<SalesforceRecord> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/{id}/touch"), &json!({})).await
    }

    /// Somebody holds a contact for so many milliseconds of simulated time: writes of the API are refused.
    pub async fn lock_salesforce_contact(&self, org: u64, id: &str, ms: u32) -> Answer<SalesforceRecord> {
        self.send(Method::POST, &format!("{ORGS}/{org}/contacts/{id}/lock"), &SalesforceLock { ms }).await
    }
}
