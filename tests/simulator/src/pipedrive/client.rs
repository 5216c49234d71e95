//! What a client of the control API can ask of Pipedrive's accounts.

use http::Method;
use serde_json::{Map, Value, json};

use super::control::{
    NewPipedriveAccounts, PipedriveAccount, PipedriveAccounts, PipedriveBulkEdit, PipedriveCounts,
    PipedriveDeed, PipedriveDeeds, PipedriveDump, PipedriveMerge, PipedrivePersonWrite, PipedriveQuota,
    PipedriveWebhook,
};
use crate::control::client::{Client, ControlError, Portal};
use crate::control::types::{Code, Imported, NotedCall, NotedWrite};

type Answer<T> = Result<T, ControlError>;

const ACCOUNTS: &str = "/control/pipedrive/accounts";

fn members(given: Value) -> Map<String, Value> {
    match given {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Pipedrive's accounts. A company is named by its number, or all of them are.
impl Client {
    /// Makes accounts.
    pub async fn create_pipedrive_accounts(
        &self,
        new: &NewPipedriveAccounts,
    ) -> Answer<Vec<PipedriveAccount>> {
        let list: PipedriveAccounts = self.send(Method::POST, ACCOUNTS, new).await?;
        Ok(list.accounts)
    }

    /// All accounts, with their tokens.
    pub async fn pipedrive_accounts(&self) -> Answer<Vec<PipedriveAccount>> {
        self.get::<PipedriveAccounts>(ACCOUNTS).await.map(|list| list.accounts)
    }

    /// Sets the limits.
    pub async fn set_pipedrive_quota(&self, company: impl Into<Portal>, sizes: PipedriveQuota) -> Answer<()> {
        let path = format!("{ACCOUNTS}/{}/quota", company.into());
        self.send::<_, Value>(Method::PUT, &path, &sizes).await.map(drop)
    }

    /// Changes some settings, such as `{"indexFrozen": true}`.
    pub async fn set_pipedrive_settings(&self, company: impl Into<Portal>, some: Value) -> Answer<()> {
        let path = format!("{ACCOUNTS}/{}/settings", company.into());
        self.send::<_, Value>(Method::PATCH, &path, &some).await.map(drop)
    }

    /// Ends all OAuth access tokens now.
    pub async fn expire_pipedrive_token(&self, company: impl Into<Portal>) -> Answer<()> {
        let path = format!("{ACCOUNTS}/{}/expire-token", company.into());
        self.send::<_, Value>(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// An authorisation code of an account.
    pub async fn pipedrive_authorization_code(&self, company: u64) -> Answer<String> {
        let path = format!("{ACCOUNTS}/{company}/authorization-code");
        self.send::<_, Code>(Method::POST, &path, &json!({})).await.map(|code| code.code)
    }

    /// Counts of one account, or of all together.
    pub async fn pipedrive_counts(&self, company: impl Into<Portal>) -> Answer<PipedriveCounts> {
        self.get(&format!("{ACCOUNTS}/{}/counts", company.into())).await
    }

    /// The calls that came to an account, oldest first, since its settings asked for a `journal`.
    pub async fn pipedrive_calls(&self, company: u64) -> Answer<Vec<NotedCall>> {
        self.get(&format!("{ACCOUNTS}/{company}/calls")).await
    }

    /// The writes to the persons of an account, oldest first, since its settings asked for a `journal`.
    pub async fn pipedrive_writes(&self, company: u64) -> Answer<Vec<NotedWrite>> {
        self.get(&format!("{ACCOUNTS}/{company}/writes")).await
    }

    /// The subscriptions of an account, with those that the service removed.
    pub async fn pipedrive_webhooks(&self, company: u64) -> Answer<Vec<PipedriveWebhook>> {
        self.get(&format!("{ACCOUNTS}/{company}/webhooks")).await
    }

    /// Removes all persons without any event.
    pub async fn clear_pipedrive_account(&self, company: impl Into<Portal>) -> Answer<()> {
        let path = format!("{ACCOUNTS}/{}/clear", company.into());
        self.send::<_, Value>(Method::POST, &path, &json!({})).await.map(drop)
    }

    /// All persons of an account, past every limit.
    pub async fn pipedrive_dump(&self, company: u64) -> Answer<PipedriveDump> {
        self.get(&format!("{ACCOUNTS}/{company}/persons")).await
    }

    /// Somebody who works in the CRM creates a person.
    pub async fn pipedrive_person_creates(&self, company: u64, given: Value) -> Answer<Value> {
        let write = PipedrivePersonWrite { members: members(given), quiet: false };
        self.send(Method::POST, &format!("{ACCOUNTS}/{company}/persons"), &write).await
    }

    /// Somebody who works in the CRM saves an edit.
    pub async fn pipedrive_person_edits(&self, company: u64, id: u64, given: Value) -> Answer<Value> {
        let write = PipedrivePersonWrite { members: members(given), quiet: false };
        self.send(Method::PATCH, &format!("{ACCOUNTS}/{company}/persons/{id}"), &write).await
    }

    /// Somebody who works in the CRM edits many persons at once.
    pub async fn pipedrive_bulk_edit(&self, company: u64, ids: &[u64], given: Value) -> Answer<Vec<Value>> {
        let edit = PipedriveBulkEdit { ids: ids.to_vec(), members: members(given) };
        self.send(Method::POST, &format!("{ACCOUNTS}/{company}/persons/bulk"), &edit).await
    }

    /// Somebody who works in the CRM deletes a person.
    pub async fn pipedrive_person_deletes(&self, company: u64, id: u64) -> Answer<Value> {
        self.call(Method::DELETE, &format!("{ACCOUNTS}/{company}/persons/{id}"), None).await
    }

    /// Somebody who works in the CRM takes a deleted person back.
    pub async fn pipedrive_person_restores(&self, company: u64, id: u64) -> Answer<Value> {
        let path = format!("{ACCOUNTS}/{company}/persons/{id}/restore");
        self.send(Method::POST, &path, &json!({})).await
    }

    /// Somebody who works in the CRM merges two persons; gives the survivor.
    pub async fn pipedrive_person_merges(&self, company: u64, loser: u64, survivor: u64) -> Answer<Value> {
        let merge = PipedriveMerge { loser, survivor };
        self.send(Method::POST, &format!("{ACCOUNTS}/{company}/persons/merge"), &merge).await
    }

    /// People do things in many accounts: for each its person's id, or why it was refused.
    pub async fn pipedrive_people_act(&self, deeds: Vec<PipedriveDeed>) -> Answer<Imported> {
        self.send(Method::POST, "/control/pipedrive/people", &PipedriveDeeds { deeds }).await
    }
}
