//! An account of the simulator, whatever CRM it plays: what people do there, what its public API shows, and what its own log says
//! of every write. Members have their canonical names.

use std::collections::BTreeMap;

use serde_json::Value;
use tandem_simulator::control::Client as Control;
use tandem_simulator::control::types::NotedWrite;

use crate::Error;
use crate::account::{Account, Contact, RestPeople};
use crate::{pipedrive, salesforce};

/// How a CRM calls what the canonical document has: written from the documentation of HubSpot's contact properties, and of the
/// generic REST account, not from the providers. A CRM that has no name for a member does not keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// HubSpot.
    #[default]
    HubSpot,
    /// The generic REST account.
    Rest,
    /// Salesforce.
    Salesforce,
    /// Pipedrive with contact sync.
    Pipedrive,
}

/// Canonical member, HubSpot's property, the REST account's member. The number of employees is left out: HubSpot keeps a band of
/// it; the stage, because the REST account knows two only.
const NAMES: [(&str, &str, Option<&str>); 18] = [
    ("email", "email", Some("Mail")),
    ("given_name", "firstname", Some("GivenName")),
    ("family_name", "lastname", Some("FamilyName")),
    ("phone", "phone", Some("Phone")),
    ("mobile_phone", "mobilephone", None),
    ("job_title", "jobtitle", Some("Title")),
    ("company_name", "company", Some("Company")),
    ("website", "website", None),
    ("street", "address", None),
    ("city", "city", Some("City")),
    ("region", "state", None),
    ("postal_code", "zip", None),
    ("country", "country", None),
    ("language", "hs_language", None),
    ("lifecycle_stage", "lifecyclestage", None),
    ("date_of_birth", "date_of_birth", None),
    ("annual_revenue", "annualrevenue", None),
    ("notes", "message", Some("Notes")),
];

impl Dialect {
    /// The CRM's name of a canonical member.
    #[must_use]
    pub fn name_of(self, member: &str) -> Option<&'static str> {
        let (_, hubspot, rest) = NAMES.iter().find(|(canonical, ..)| *canonical == member)?;
        match self {
            Self::HubSpot => Some(hubspot),
            Self::Rest => *rest,
            Self::Salesforce => salesforce::name_of(member),
            Self::Pipedrive => pipedrive::name_of(member),
        }
    }
}

/// An account.
#[derive(Clone)]
pub struct Crm {
    control: Control,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    HubSpot { portal: u64, api: Account },
    Rest { account: String, api: RestPeople },
    Salesforce { org: u64, api: salesforce::Contacts },
    Pipedrive { company: u64, api: pipedrive::Persons },
}

impl Crm {
    /// A HubSpot account.
    #[must_use]
    pub fn hubspot(control: &Control, portal: u64, api: &Account) -> Self {
        Self { control: control.clone(), kind: Kind::HubSpot { portal, api: api.clone() } }
    }

    /// A generic REST account.
    #[must_use]
    pub fn rest(control: &Control, account: &str, api: RestPeople) -> Self {
        Self { control: control.clone(), kind: Kind::Rest { account: account.to_owned(), api } }
    }

    /// A Salesforce org.
    #[must_use]
    pub fn salesforce(control: &Control, org: u64, api: &salesforce::Contacts) -> Self {
        Self { control: control.clone(), kind: Kind::Salesforce { org, api: api.clone() } }
    }

    /// A Pipedrive account.
    #[must_use]
    pub fn pipedrive(control: &Control, company: u64, api: &pipedrive::Persons) -> Self {
        Self { control: control.clone(), kind: Kind::Pipedrive { company, api: api.clone() } }
    }

    /// What it plays.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::HubSpot { .. } => Dialect::HubSpot,
            Kind::Rest { .. } => Dialect::Rest,
            Kind::Salesforce { .. } => Dialect::Salesforce,
            Kind::Pipedrive { .. } => Dialect::Pipedrive,
        }
    }

    /// Somebody who works there saves these members of a record, all at once.
    ///
    /// # Errors
    /// It is refused, or a member has no name there.
    pub async fn edit(&self, id: &str, members: &[(&str, &str)]) -> Result<(), Error> {
        let named: Vec<(&str, &str)> = members
            .iter()
            .map(|(member, value)| Ok((self.name_of(member)?, *value)))
            .collect::<Result<_, Error>>()?;
        match &self.kind {
            Kind::HubSpot { portal, .. } => {
                self.control.person_edits(*portal, id.parse()?, &named).await?;
            }
            Kind::Rest { account, .. } => {
                let members: serde_json::Map<String, Value> =
                    named.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
                self.control.rest_person_edits(account, id, &Value::Object(members)).await?;
            }
            Kind::Salesforce { org, .. } => {
                // What is empty is null there.
                let value = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
                let members = named.into_iter().map(|(name, text)| (name.to_owned(), value(text))).collect();
                self.control.salesforce_person_edits(*org, id, Value::Object(members)).await?;
            }
            Kind::Pipedrive { company, .. } => {
                pipedrive::edit(&self.control, *company, id.parse()?, &named).await?;
            }
        }
        Ok(())
    }

    /// The account's name of a member.
    ///
    /// # Errors
    /// It has none.
    pub fn name_of(&self, member: &str) -> Result<&'static str, Error> {
        self.dialect().name_of(member).ok_or_else(|| format!("{member} has no name here").into())
    }

    /// Everybody, by the public API.
    ///
    /// # Errors
    /// No answer.
    pub async fn list(&self) -> Result<Vec<Contact>, Error> {
        match &self.kind {
            Kind::HubSpot { api, .. } => api.list().await,
            Kind::Rest { api, .. } => api.list().await,
            Kind::Salesforce { api, .. } => api.list().await,
            Kind::Pipedrive { api, .. } => api.list().await,
        }
    }

    /// Every write of a record since the account keeps its journal, oldest first.
    ///
    /// # Errors
    /// No answer.
    pub async fn writes(&self) -> Result<Vec<NotedWrite>, Error> {
        Ok(match &self.kind {
            Kind::HubSpot { portal, .. } => self.control.writes(*portal).await?,
            Kind::Rest { account, .. } => self.control.rest_writes(account).await?,
            Kind::Salesforce { org, .. } => self.control.salesforce_writes(*org).await?,
            Kind::Pipedrive { company, .. } => self.control.pipedrive_writes(*company).await?,
        })
    }

    /// How often it was asked for what changed.
    ///
    /// # Errors
    /// No answer.
    pub async fn polls(&self) -> Result<u64, Error> {
        Ok(match &self.kind {
            Kind::HubSpot { portal, .. } => {
                self.control.account_counts(*portal).await?.calls("contacts.search")
            }
            Kind::Rest { account, .. } => {
                let counts = self.control.rest_counts(account).await?;
                counts.calls.get("GET changes").copied().unwrap_or(0)
            }
            Kind::Salesforce { org, .. } => {
                let counts = self.control.salesforce_counts(*org).await?;
                counts.operations.get("salesforce.query").map_or(0, |counts| counts.calls)
            }
            Kind::Pipedrive { company, .. } => {
                self.control.pipedrive_counts(*company).await?.calls("persons.list")
            }
        })
    }

    /// Members of a contact that [`Crm::list`] gave, by their canonical names.
    #[must_use]
    pub fn canonical(&self, contact: &Contact) -> BTreeMap<&'static str, String> {
        NAMES
            .iter()
            .filter_map(|(member, ..)| {
                let name = self.dialect().name_of(member)?;
                Some((*member, contact.properties.get(name)?.clone()))
            })
            .collect()
    }
}
