//! An account of the simulator, whatever CRM it plays: what people do there, what its public API shows, and what its own log says
//! of every write. Members have their canonical names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tandem_simulator::control::Client as Control;
use tandem_simulator::control::salesforce::SalesforceImport;
use tandem_simulator::control::types::{NotedWrite, PersonDeed, PipedriveDeed};

use crate::Error;
use crate::account::{Account, Contact, PROPERTIES, RestPeople};
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
        let named = self.named(members)?;
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
                let values = Value::Object(nulled(&named));
                self.control.salesforce_person_edits(*org, id, values).await?;
            }
            Kind::Pipedrive { company, .. } => {
                pipedrive::edit(&self.control, *company, id.parse()?, &named).await?;
            }
        }
        Ok(())
    }

    /// Somebody who works there saves these members of many records at once, in the list.
    ///
    /// # Errors
    /// One is refused, a member has no name there, or the account has no such thing.
    pub async fn edit_many(&self, ids: &[&str], members: &[(&str, &str)]) -> Result<(), Error> {
        let named = self.named(members)?;
        let numbers = || ids.iter().map(|id| id.parse()).collect::<Result<Vec<u64>, _>>();
        let refused = match &self.kind {
            Kind::HubSpot { portal, .. } => {
                self.control.person_edits_many(*portal, &numbers()?, &named).await?.refused
            }
            Kind::Pipedrive { company, .. } => {
                let given = pipedrive::save(&json!({}), &named);
                self.control.pipedrive_bulk_edit(*company, &numbers()?, given).await?;
                Vec::new()
            }
            Kind::Salesforce { org, .. } => {
                let values = Value::Object(nulled(&named));
                self.control.salesforce_person_edits_many(*org, ids, values).await?.refused
            }
            Kind::Rest { .. } => return Err("the account has no edit of many".into()),
        };
        if refused.is_empty() { Ok(()) } else { Err(format!("refused: {refused:?}").into()) }
    }

    /// Somebody who works there makes a record with these members; gives its id.
    ///
    /// # Errors
    /// It is refused, or a member has no name there.
    pub async fn make(&self, members: &[(&str, &str)]) -> Result<String, Error> {
        let named = self.named(members)?;
        let made = match &self.kind {
            Kind::HubSpot { portal, .. } => {
                return Ok(self.control.person_creates(*portal, &named).await?.id.to_string());
            }
            Kind::Salesforce { org, .. } => {
                let values = Value::Object(nulled(&named));
                return Ok(self.control.salesforce_person_creates(*org, values).await?.id);
            }
            Kind::Rest { account, .. } => {
                let made = self.control.rest_person_creates(account, &Value::Object(nulled(&named))).await?;
                made.get("Id").cloned()
            }
            Kind::Pipedrive { company, .. } => {
                let given = pipedrive::save(&json!({}), &named);
                self.control.pipedrive_person_creates(*company, given).await?.get("id").cloned()
            }
        };
        match made {
            Some(Value::String(id)) => Ok(id),
            Some(id) => Ok(id.to_string()),
            None => Err("what was made has no id".into()),
        }
    }

    /// Somebody who works there imports people. Quietly: nobody is told of it, as before a connection is set up.
    ///
    /// # Errors
    /// Somebody is refused, a member has no name there, or the account has no import.
    pub async fn import(&self, people: &[Vec<(&str, String)>], quietly: bool) -> Result<(), Error> {
        let mut named = Vec::new();
        for person in people {
            let members: Vec<(&str, &str)> =
                person.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let pairs = self.named(&members)?;
            named.push(pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>());
        }
        let properties = |person: Vec<(&str, String)>| {
            person.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let refused = match &self.kind {
            Kind::HubSpot { portal, .. } if quietly => {
                let records = named.into_iter().map(properties).collect();
                self.control.person_imports(*portal, records, true).await?.refused
            }
            Kind::HubSpot { portal, .. } => {
                let create = |person| PersonDeed::Create { portal: *portal, properties: properties(person) };
                self.control.people_act(named.into_iter().map(create).collect()).await?.refused
            }
            Kind::Salesforce { org, .. } => {
                let values = |person: Vec<(&str, String)>| {
                    nulled(&person.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>())
                };
                let import =
                    SalesforceImport { records: named.into_iter().map(values).collect(), quiet: quietly };
                self.control.salesforce_person_imports(*org, &import).await?.refused
            }
            Kind::Pipedrive { company, .. } => {
                if quietly && !self.control.pipedrive_webhooks(*company).await?.is_empty() {
                    return Err("the account has webhooks, so that nothing happens there quietly".into());
                }
                let create = |person: Vec<(&str, String)>| {
                    let pairs: Vec<(&str, &str)> =
                        person.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    let members = match pipedrive::save(&json!({}), &pairs) {
                        Value::Object(members) => members,
                        _ => Map::new(),
                    };
                    PipedriveDeed::Create { company_id: *company, members }
                };
                self.control.pipedrive_people_act(named.into_iter().map(create).collect()).await?.refused
            }
            Kind::Rest { .. } => return Err("a REST account has no import".into()),
        };
        if refused.is_empty() { Ok(()) } else { Err(format!("refused: {refused:?}").into()) }
    }

    /// Somebody who works there deletes a record.
    ///
    /// # Errors
    /// It is refused.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        match &self.kind {
            Kind::HubSpot { portal, .. } => drop(self.control.person_deletes(*portal, id.parse()?).await?),
            Kind::Rest { account, .. } => drop(self.control.rest_person_deletes(account, id).await?),
            Kind::Salesforce { org, .. } => drop(self.control.salesforce_person_deletes(*org, id).await?),
            Kind::Pipedrive { company, .. } => {
                self.control.pipedrive_person_deletes(*company, id.parse()?).await?;
            }
        }
        Ok(())
    }

    /// Somebody who works there takes a deleted record back.
    ///
    /// # Errors
    /// It is refused, or what is deleted there is gone for good.
    pub async fn restore(&self, id: &str) -> Result<(), Error> {
        match &self.kind {
            Kind::HubSpot { portal, .. } => drop(self.control.person_restores(*portal, id.parse()?).await?),
            Kind::Salesforce { org, .. } => {
                self.control.salesforce_person_undeletes(*org, id).await?;
            }
            Kind::Pipedrive { company, .. } => {
                self.control.pipedrive_person_restores(*company, id.parse()?).await?;
            }
            Kind::Rest { .. } => return Err("what is deleted in a REST account is gone for good".into()),
        }
        Ok(())
    }

    /// Pairs by the account's names.
    fn named<'a>(&self, members: &[(&str, &'a str)]) -> Result<Vec<(&'static str, &'a str)>, Error> {
        members.iter().map(|(member, value)| Ok((self.name_of(member)?, *value))).collect()
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

    /// Everybody who is not deleted, as the simulator has them: it costs no call, and no limit holds it up.
    ///
    /// # Errors
    /// No answer.
    pub async fn dump(&self) -> Result<Vec<Contact>, Error> {
        Ok(match &self.kind {
            Kind::HubSpot { portal, .. } => {
                let records = self.control.dump(*portal).await?.records.into_iter();
                let known = |(name, value): &(String, String)| {
                    PROPERTIES.contains(&name.as_str()) && !value.is_empty()
                };
                let live = records.filter(|record| !record.archived);
                live.map(|record| Contact {
                    id: record.id.to_string(),
                    properties: record.properties.into_iter().filter(known).collect(),
                })
                .collect()
            }
            Kind::Rest { api, .. } => api.list().await?,
            Kind::Salesforce { org, .. } => {
                let records = self.control.salesforce_contacts(*org).await?;
                let live = records.iter().filter(|record| !record.deleted);
                live.map(|record| {
                    let mut row = json!(record.values);
                    if let Some(members) = row.as_object_mut() {
                        members.insert("Id".to_owned(), record.id.as_str().into());
                    }
                    salesforce::contact(&row)
                })
                .collect()
            }
            Kind::Pipedrive { company, .. } => {
                let persons = self.control.pipedrive_dump(*company).await?.persons;
                let live = persons.iter().filter(|person| person.get("is_deleted") != Some(&json!(true)));
                live.map(pipedrive::contact).collect()
            }
        })
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

/// Pairs as members; what is empty is null.
fn nulled(named: &[(&str, &str)]) -> Map<String, Value> {
    let value = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    named.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect()
}
