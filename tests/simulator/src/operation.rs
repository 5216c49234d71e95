//! The operations that requests are counted, limited and disturbed by.

use serde::Serialize;

macro_rules! operations {
    ($($variant:ident => $name:literal, $writes:literal;)*) => {
        /// One kind of request to the simulated API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation { $($variant),* }

        impl Operation {
            pub(crate) const ALL: &[Operation] = &[$(Operation::$variant),*];

            /// The name used in counts and faults, `contacts.update`.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Operation::$variant => $name),* }
            }

            /// Whether records may change.
            pub(crate) fn writes(self) -> bool {
                match self { $(Operation::$variant => $writes),* }
            }

            /// Whether `pattern` (`*`, `contacts.*`, `contacts.update`) names this operation.
            pub(crate) fn matches(self, pattern: &str) -> bool {
                pattern == "*"
                    || pattern == self.name()
                    || pattern.strip_suffix('*').is_some_and(|prefix| self.name().starts_with(prefix))
            }
        }
    };
}

operations! {
    ContactsCreate => "contacts.create", true;
    ContactsRead => "contacts.read", false;
    ContactsList => "contacts.list", false;
    ContactsUpdate => "contacts.update", true;
    ContactsArchive => "contacts.archive", true;
    ContactsBatchRead => "contacts.batch-read", false;
    ContactsBatchCreate => "contacts.batch-create", true;
    ContactsBatchUpdate => "contacts.batch-update", true;
    ContactsBatchUpsert => "contacts.batch-upsert", true;
    ContactsBatchArchive => "contacts.batch-archive", true;
    ContactsSearch => "contacts.search", false;
    ContactsMerge => "contacts.merge", true;
    ContactsGdprDelete => "contacts.gdpr-delete", true;
    PropertiesList => "properties.list", false;
    PropertiesRead => "properties.read", false;
    PropertiesCreate => "properties.create", false;
    PropertiesUpdate => "properties.update", false;
    PropertiesArchive => "properties.archive", false;
    AccountDetails => "account.details", false;
    AccountUsage => "account.usage", false;
    OauthToken => "oauth.token", false;
    OauthTokenInfo => "oauth.token-info", false;
    WebhookSettings => "webhooks.settings", false;
    WebhookSubscriptions => "webhooks.subscriptions", false;
    PersonsCreate => "persons.create", true;
    PersonsRead => "persons.read", false;
    PersonsList => "persons.list", false;
    PersonsUpdate => "persons.update", true;
    PersonsDelete => "persons.delete", true;
    PersonsSearch => "persons.search", false;
    PersonsMerge => "persons.merge", true;
    PersonFieldsList => "person-fields.list", false;
    PersonFieldsRead => "person-fields.read", false;
    PersonFieldsCreate => "person-fields.create", false;
    PersonFieldsUpdate => "person-fields.update", false;
    PersonFieldsDelete => "person-fields.delete", false;
    PersonOptionsAdd => "person-options.add", false;
    PersonOptionsUpdate => "person-options.update", false;
    PersonOptionsRemove => "person-options.remove", false;
    UsersMe => "users.me", false;
    UsersList => "users.list", false;
    Recents => "recents.list", false;
    HooksList => "hooks.list", false;
    HooksCreate => "hooks.create", false;
    HooksDelete => "hooks.delete", false;
    SalesforceCreate => "salesforce.create", true;
    SalesforceRead => "salesforce.read", false;
    SalesforceFind => "salesforce.find", false;
    SalesforceUpdate => "salesforce.update", true;
    SalesforceUpsert => "salesforce.upsert", true;
    SalesforceDelete => "salesforce.delete", true;
    SalesforceQuery => "salesforce.query", false;
    SalesforceQueryMore => "salesforce.query-more", false;
    SalesforceUpdated => "salesforce.updated", false;
    SalesforceDeleted => "salesforce.deleted", false;
    SalesforceCollectionCreate => "salesforce.collection-create", true;
    SalesforceCollectionRead => "salesforce.collection-read", false;
    SalesforceCollectionUpdate => "salesforce.collection-update", true;
    SalesforceCollectionUpsert => "salesforce.collection-upsert", true;
    SalesforceCollectionDelete => "salesforce.collection-delete", true;
    SalesforceDescribe => "salesforce.describe", false;
    SalesforceLimits => "salesforce.limits", false;
    SalesforceResources => "salesforce.resources", false;
    SalesforceToken => "salesforce.token", false;
    SalesforceIdentity => "salesforce.identity", false;
    Unknown => "unknown", false;
}

/// Counters of one operation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationCounts {
    /// Requests that arrived.
    pub calls: u64,
    /// Requests answered with a 4xx other than 429.
    pub refused: u64,
    /// Requests answered with 429, or refused for another limit of the account.
    pub throttled: u64,
    /// Requests answered with a 5xx, 423 or 477 that was ordered, or not answered at all.
    pub disturbed: u64,
}

/// Counters of all operations, lock-free.
#[derive(Debug)]
pub(crate) struct Counters(Vec<[std::sync::atomic::AtomicU64; 4]>);

/// Which counter of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tally {
    Calls = 0,
    Refused = 1,
    Throttled = 2,
    Disturbed = 3,
}

impl Default for Counters {
    fn default() -> Self {
        Self(Operation::ALL.iter().map(|_| Default::default()).collect())
    }
}

impl Counters {
    pub(crate) fn add(&self, operation: Operation, tally: Tally) {
        if let Some(counter) = self.0.get(operation as usize).and_then(|row| row.get(tally as usize)) {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The operations that were called at all, by name.
    pub(crate) fn snapshot(&self) -> std::collections::BTreeMap<String, OperationCounts> {
        let mut out = std::collections::BTreeMap::new();
        for (operation, row) in Operation::ALL.iter().zip(&self.0) {
            let [calls, refused, throttled, disturbed] = [0, 1, 2, 3]
                .map(|i: usize| row.get(i).map_or(0, |c| c.load(std::sync::atomic::Ordering::Relaxed)));
            if calls > 0 {
                out.insert(
                    operation.name().to_owned(),
                    OperationCounts { calls, refused, throttled, disturbed },
                );
            }
        }
        out
    }
}
