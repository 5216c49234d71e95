//! Salesforce: an org whose outbound messages come in at an address with a secret. Writes have a precondition to the second. Sessions
//! always end and are renewed with a refresh token.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_e2e::crm::{Crm, Dialect};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::round::Guarantee;
use tandem_e2e::salesforce::{self, Customer};
use tandem_e2e::{Error, until};
use tandem_simulator::control::salesforce::{FieldKind, NewField, SalesforceLimits};

use super::{Counted, Custom, Pushes, Refused, Row, Wanted};

pub(crate) struct Salesforce(Customer);

const CUSTOMS: &str = "[settings.custom]\n\
    \"/custom/tier\" = { property = \"Tier__c\", type = \"enumeration\", options = { gold = \"Tier 1\", silver = \"Tier 2\" } }\n\
    \"/custom/regions\" = { property = \"Regions__c\", type = \"set\" }\n\
    \"/custom/seats\" = { property = \"Seats__c\", type = \"integer\" }\n\
    \"/custom/fee\" = { property = \"Fee__c\", type = \"decimal\" }\n\
    \"/custom/renewal\" = { property = \"Renewal__c\", type = \"date\" }\n\
    \"/custom/seen\" = { property = \"Seen__c\", type = \"datetime\" }\n\
    \"/custom/vip\" = { property = \"Vip__c\", type = \"boolean\" }\n";

fn field(name: &str, kind: FieldKind, values: &[&str]) -> NewField {
    NewField {
        name: name.to_owned(),
        kind,
        picklist_values: values.iter().map(|value| (*value).to_owned()).collect(),
        ..NewField::default()
    }
}

fn org(wanted: &Wanted) -> salesforce::Wanted {
    let mut org = salesforce::Wanted::new(&wanted.scope).polled(wanted.poll_every_ms).policy(&wanted.policy);
    org.connection.clone_from(&wanted.connection);
    if let Some(daily) = wanted.permitted {
        // The connection's file says nothing of it: the daemon learns it from the answers, and from nothing else.
        org.org.limits = SalesforceLimits { daily, ..SalesforceLimits::default() };
    }
    org.org.settings.rotate_refresh_tokens = wanted.renewed;
    if wanted.customs {
        org = org.settings(CUSTOMS);
        org.org.fields = vec![
            field("Tier__c", FieldKind::Picklist, &["Tier 1", "Tier 2"]),
            field("Regions__c", FieldKind::MultiPicklist, &["North", "South", "East"]),
            field("Seats__c", FieldKind::Double, &[]),
            field("Fee__c", FieldKind::Double, &[]),
            field("Renewal__c", FieldKind::Date, &[]),
            field("Seen__c", FieldKind::DateTime, &[]),
            field("Vip__c", FieldKind::Boolean, &[]),
        ];
    }
    org
}

impl Row for Salesforce {
    const CRM: &'static str = "Salesforce";
    const DIALECT: Dialect = Dialect::Salesforce;
    const GUARANTEE: Guarantee = Guarantee::ToTheSecond;
    const CREATE: &'static str = "salesforce.upsert";
    const RENEWAL: &'static str = "salesforce.token";
    const AT_ONCE: u64 = 5;
    const PERMITTED: u32 = 120;
    const UNIT: &'static str = "calls";
    const LIMIT: &'static str = "requests";
    const UNTOLD_DELETIONS: Option<&'static str> = Some("outbound messages tell of none");
    const UNLISTED_DELETIONS: Option<&'static str> = None;

    fn prepare(plan: &mut Plan) {
        let own = salesforce::plan();
        plan.main.push_str(&own.main);
        plan.environment.extend(own.environment);
    }

    async fn bring(house: &House) -> Result<(), Error> {
        house.bring_salesforce()?;
        until("the provider serves", Duration::from_secs(60), async || {
            let provider = house.provider("salesforce").await?;
            Ok(if provider.is_some() { Ok(()) } else { Err(house.log()) })
        })
        .await
    }

    async fn open(house: &House, wanted: &Wanted) -> Result<Self, Error> {
        Ok(Self(house.salesforce_org(&org(wanted)).await?))
    }

    async fn connect(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        house.connect_salesforce(&self.0, &org(wanted))
    }

    async fn runs(&self, house: &House) -> Result<(), Error> {
        house.salesforce_runs(&self.0, Duration::from_secs(120)).await
    }

    fn number(&self) -> u64 {
        self.0.number()
    }

    async fn crm(&self, house: &House) -> Result<Crm, Error> {
        Ok(house.salesforce_crm(&self.0))
    }

    async fn counted(&self, house: &House) -> Result<Counted, Error> {
        let counts = house.control.salesforce_counts(self.0.number()).await?;
        let told = counts.outbound;
        let pushes = Pushes {
            delivered: told.acknowledged,
            failed: told.failed,
            lost: told.lost + told.given_up,
            under_way: told.under_way,
        };
        Ok(Counted { operations: counts.operations, tokens: None, live: counts.live, pushes })
    }

    async fn end_tokens(&self, house: &House) -> Result<(), Error> {
        Ok(house.control.expire_salesforce_sessions(self.0.number()).await?)
    }

    async fn permit(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        let org = org(wanted);
        house.control.set_salesforce_limits(self.0.number(), &org.org.limits).await?;
        let limit = org.org.limits.daily;
        let policy = format!("{}\n[quotas.requests]\nlimit = {limit}\n", wanted.policy);
        house.connect_salesforce(&self.0, &org.policy(&policy))
    }

    async fn customs(&self) -> Result<Vec<Custom>, Error> {
        let custom = |member, name: &str, here, there| Custom { member, name: name.to_owned(), here, there };
        Ok(vec![
            custom("tier", "Tier__c", [json!("gold"), json!("silver")], [json!("Tier 1"), json!("Tier 2")]),
            custom(
                "regions",
                "Regions__c",
                [json!(["North", "South"]), json!(["East", "South"])],
                [json!("North;South"), json!("East;South")],
            ),
            custom("seats", "Seats__c", [json!(12), json!(13)], [json!(12.0), json!(13.0)]),
            custom("fee", "Fee__c", [json!("12.5"), json!("99.95")], [json!(12.5), json!(99.95)]),
            custom(
                "renewal",
                "Renewal__c",
                [json!("2027-01-31"), json!("2028-02-29")],
                [json!("2027-01-31"), json!("2028-02-29")],
            ),
            custom(
                "seen",
                "Seen__c",
                [json!("2026-01-02T03:04:05Z"), json!("2027-03-04T05:06:07Z")],
                [json!("2026-01-02T03:04:05.000+0000"), json!("2027-03-04T05:06:07.000+0000")],
            ),
            custom("vip", "Vip__c", [json!(true), json!(false)], [json!(true), json!(false)]),
        ])
    }

    fn refused() -> Vec<Refused> {
        vec![
            Refused {
                members: json!({ "custom": { "regions": ["North", "Nowhere"] } }),
                pointer: "/custom/regions",
                words: "Regions: bad value for restricted picklist field: Nowhere".to_owned(),
                mended: json!({ "custom": { "regions": ["East", "South"] } }),
            },
            // Salesforce repeats the value; those of the record are left out of what is kept of it.
            Refused {
                members: json!({ "given_name": "L".repeat(41) }),
                pointer: "/given_name",
                words: "First Name: data value too large: [value] (max length=40)".to_owned(),
                mended: json!({ "given_name": "Lo" }),
            },
        ]
    }

    async fn fields(&self, house: &House, id: &str) -> Result<Map<String, Value>, Error> {
        let all = house.control.salesforce_contacts(self.0.number()).await?;
        let record = all.into_iter().find(|record| record.id == id).ok_or("no such contact")?;
        Ok(record.values.into_iter().collect())
    }

    async fn save(&self, house: &House, id: &str, fields: Map<String, Value>) -> Result<(), Error> {
        house.control.salesforce_person_edits(self.0.number(), id, Value::Object(fields)).await?;
        Ok(())
    }
}
