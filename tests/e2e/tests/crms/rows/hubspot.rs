//! HubSpot: accounts of a private app, or of one with OAuth where tokens are to end. Webhooks are the app's, signed in version 3, and
//! tell of each edit with its value and time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_e2e::crm::{Crm, Dialect};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::hubspot::{self, Customer};
use tandem_e2e::round::Guarantee;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{NotedCall, QuotaSizes, TokenKind};

use super::{Bursts, Counted, Custom, Pushes, Refused, Row, Wanted};

pub(crate) struct HubSpot(Customer);

const CUSTOMS: &str = "[settings.custom]\n\
    \"/custom/tier\" = { property = \"tier\", type = \"enumeration\", options = { gold = \"tier_1\", silver = \"tier_2\" } }\n\
    \"/custom/regions\" = { property = \"regions\", type = \"set\" }\n\
    \"/custom/seats\" = { property = \"seats\", type = \"integer\" }\n\
    \"/custom/fee\" = { property = \"fee\", type = \"decimal\" }\n\
    \"/custom/renewal\" = { property = \"renewal\", type = \"date\" }\n\
    \"/custom/seen\" = { property = \"seen\", type = \"datetime\" }\n\
    \"/custom/vip\" = { property = \"vip\", type = \"boolean\" }\n";

fn property(name: &str, kind: &str, field_type: &str, options: &[&str]) -> Map<String, Value> {
    let options: Vec<Value> = options
        .iter()
        .enumerate()
        .map(|(place, value)| json!({ "label": value, "value": value, "displayOrder": place, "hidden": false }))
        .collect();
    let property = json!({
        "name": name, "label": name, "groupName": "contactinformation", "type": kind, "fieldType": field_type,
        "options": options,
    });
    property.as_object().cloned().unwrap_or_default()
}

fn account(wanted: &Wanted) -> hubspot::Wanted {
    let mut account = hubspot::Wanted::new(&wanted.scope);
    account.connection.clone_from(&wanted.connection);
    account.poll_every_ms = wanted.poll_every_ms;
    account.policy.clone_from(&wanted.policy);
    let roomy = account.account.quota.unwrap_or_default();
    let burst = if wanted.bursts { HubSpot::BURST } else { roomy.burst };
    account.account.quota = Some(QuotaSizes { daily: wanted.permitted, burst, ..roomy });
    if wanted.renewed {
        account.account.kind = TokenKind::Oauth;
        account.account.settings.rotate_refresh_tokens = true;
    }
    if wanted.customs {
        CUSTOMS.clone_into(&mut account.settings);
        account.account.properties = vec![
            property("tier", "enumeration", "select", &["tier_1", "tier_2"]),
            property("regions", "enumeration", "checkbox", &["North", "South", "East"]),
            property("seats", "number", "number", &[]),
            property("fee", "number", "number", &[]),
            property("renewal", "date", "date", &[]),
            property("seen", "datetime", "date", &[]),
            property("vip", "bool", "booleancheckbox", &["true", "false"]),
        ];
    }
    account
}

impl Row for HubSpot {
    const CRM: &'static str = "HubSpot";
    const DIALECT: Dialect = Dialect::HubSpot;
    const GUARANTEE: Guarantee = Guarantee::FoundAfterwards;
    const CREATE: &'static str = "contacts.batch-upsert";
    const RENEWAL: &'static str = "oauth.token";
    const AT_ONCE: u64 = 8;
    const PERMITTED: u32 = 100;
    const UNIT: &'static str = "calls";
    const LIMIT: &'static str = "daily";
    const UNTOLD_DELETIONS: Option<&'static str> = None;
    const UNLISTED_DELETIONS: Option<&'static str> = None;

    fn prepare(_plan: &mut Plan) {
        // Every house has HubSpot's app.
    }

    async fn bring(house: &House) -> Result<(), Error> {
        until("the provider serves", Duration::from_secs(60), async || {
            let provider = house.provider("hubspot").await?;
            Ok(if provider.is_some() { Ok(()) } else { Err(house.log()) })
        })
        .await
    }

    async fn open(house: &House, wanted: &Wanted) -> Result<Self, Error> {
        Ok(Self(house.hubspot_account(&account(wanted)).await?))
    }

    async fn connect(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        house.connect_hubspot(&self.0, &account(wanted))
    }

    async fn runs(&self, house: &House) -> Result<(), Error> {
        house.hubspot_runs(&self.0, Duration::from_secs(120)).await
    }

    fn number(&self) -> u64 {
        self.0.portal()
    }

    async fn crm(&self, house: &House) -> Result<Crm, Error> {
        house.hubspot_crm(&self.0).await
    }

    async fn counted(&self, house: &House) -> Result<Counted, Error> {
        let counts = house.control.account_counts(self.0.portal()).await?;
        let told = house.control.app(house.app.app_id).await?.counts;
        let pushes = Pushes {
            delivered: told.acknowledged,
            failed: told.failed,
            lost: told.lost + told.given_up,
            under_way: told.queued + told.waiting,
        };
        Ok(Counted { operations: counts.operations, tokens: None, live: counts.live, pushes })
    }

    async fn end_tokens(&self, house: &House) -> Result<(), Error> {
        Ok(house.control.expire_token(self.0.portal()).await?)
    }

    async fn permit(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        let account = account(wanted);
        house.control.set_quota(self.0.portal(), account.account.quota.unwrap_or_default()).await?;
        house.connect_hubspot(&self.0, &account)
    }

    async fn customs(&self) -> Result<Vec<Custom>, Error> {
        let custom =
            |member: &'static str, here, there| Custom { member, name: member.to_owned(), here, there };
        Ok(vec![
            custom("tier", [json!("gold"), json!("silver")], [json!("tier_1"), json!("tier_2")]),
            custom(
                "regions",
                [json!(["North", "South"]), json!(["East", "South"])],
                [json!("North;South"), json!("East;South")],
            ),
            custom("seats", [json!(12), json!(13)], [json!("12"), json!("13")]),
            custom("fee", [json!("12.5"), json!("99.95")], [json!("12.5"), json!("99.95")]),
            custom(
                "renewal",
                [json!("2027-01-31"), json!("2028-02-29")],
                [json!("2027-01-31"), json!("2028-02-29")],
            ),
            custom(
                "seen",
                [json!("2026-01-02T03:04:05Z"), json!("2027-03-04T05:06:07Z")],
                [json!("2026-01-02T03:04:05Z"), json!("2027-03-04T05:06:07Z")],
            ),
            custom("vip", [json!(true), json!(false)], [json!("true"), json!("false")]),
        ])
    }

    fn refused() -> Vec<Refused> {
        let options: Vec<String> = ["North", "South", "East"]
            .iter()
            .enumerate()
            .map(|(place, option)| format!("label: \"{option}\" value: \"{option}\" display_order: {place} "))
            .collect();
        vec![Refused {
            members: json!({ "custom": { "regions": ["North", "Nowhere"] } }),
            pointer: "/custom/regions",
            words: format!("Nowhere was not one of the allowed options: [{}]", options.join(", ")),
            mended: json!({ "custom": { "regions": ["East", "South"] } }),
        }]
    }

    async fn fields(&self, house: &House, id: &str) -> Result<Map<String, Value>, Error> {
        let dump = house.control.dump(self.0.portal()).await?;
        let id: u64 = id.parse()?;
        let record = dump.records.into_iter().find(|record| record.id == id).ok_or("no such contact")?;
        Ok(record.properties.into_iter().map(|(name, value)| (name, value.into())).collect())
    }

    async fn save(&self, house: &House, id: &str, fields: Map<String, Value>) -> Result<(), Error> {
        let texts: BTreeMap<String, String> = fields
            .into_iter()
            .map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let pairs: Vec<(&str, &str)> =
            texts.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        house.control.person_edits(self.0.portal(), id.parse()?, &pairs).await?;
        Ok(())
    }
}

impl Bursts for HubSpot {
    const BURST: u32 = QuotaSizes::PRIVATE.burst;
    const WINDOW_MS: i64 = 10_000;

    async fn calls(&self, house: &House) -> Result<Vec<NotedCall>, Error> {
        let all = house.control.calls(self.0.portal()).await?;
        Ok(all.into_iter().filter(|call| call.operation != "contacts.search").collect())
    }
}
