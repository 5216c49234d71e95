//! Pipedrive: an account with contact sync and an API token, or tokens of the marketplace app where they are to end. One webhook
//! behind HTTP Basic; nothing is unique, and no write has a precondition. Calls have a price in tokens of the day.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_e2e::crm::{Crm, Dialect};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::pipedrive::{self, Customer, field};
use tandem_e2e::round::Guarantee;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::NotedCall;
use tandem_simulator::pipedrive::control::PipedriveQuota;

use super::{Bursts, Counted, Custom, Pushes, Refused, Row, Wanted};

pub(crate) struct Pipedrive(Customer);

const TIER: &str = "1111111111111111111111111111111111111111";
const REGIONS: &str = "2222222222222222222222222222222222222222";
const SEATS: &str = "3333333333333333333333333333333333333333";
const FEE: &str = "4444444444444444444444444444444444444444";
const RENEWAL: &str = "5555555555555555555555555555555555555555";
const SLOGAN: &str = "6666666666666666666666666666666666666666";
const FOUNDED: &str = "7777777777777777777777777777777777777777";

fn account(wanted: &Wanted) -> pipedrive::Wanted {
    let mut account =
        pipedrive::Wanted::new(&wanted.scope).polled(wanted.poll_every_ms).policy(&wanted.policy);
    account.connection.clone_from(&wanted.connection);
    account.account.quota.daily = wanted.permitted.map(u64::from);
    account.account.settings.daily_headers = !wanted.untold;
    if wanted.bursts {
        account.account.quota.token_burst = Pipedrive::BURST;
    }
    if wanted.renewed {
        account = account.app();
        account.account.settings.rotate_refresh_tokens = true;
    }
    if wanted.customs {
        account = account.settings(&format!(
            "[settings.custom]\n\
             \"/custom/tier\" = {{ field = \"{TIER}\", type = \"enumeration\", options = {{ gold = \"Tier 1\", silver = \"Tier 2\" }} }}\n\
             \"/custom/regions\" = {{ field = \"{REGIONS}\", type = \"set\" }}\n\
             \"/custom/seats\" = {{ field = \"{SEATS}\", type = \"integer\" }}\n\
             \"/custom/fee\" = {{ field = \"{FEE}\", type = \"decimal\" }}\n\
             \"/custom/renewal\" = {{ field = \"{RENEWAL}\", type = \"date\" }}\n\
             \"/custom/slogan\" = {{ field = \"{SLOGAN}\", type = \"text\" }}\n\
             \"/custom/founded\" = {{ field = \"{FOUNDED}\", type = \"text\" }}\n"
        ));
        let fields: [(&str, &str, &str, &[&str]); 7] = [
            (TIER, "Tier", "enum", &["Tier 1", "Tier 2"]),
            (REGIONS, "Regions", "set", &["North", "South", "East"]),
            (SEATS, "Seats", "double", &[]),
            (FEE, "Fee", "double", &[]),
            (RENEWAL, "Renewal", "date", &[]),
            (SLOGAN, "Slogan", "varchar", &[]),
            (FOUNDED, "Founded", "date", &[]),
        ];
        for (code, name, kind, options) in fields {
            let mut field = field(name, kind, options);
            field.insert("field_code".to_owned(), code.into());
            account.account.fields.push(field);
        }
    }
    account
}

impl Row for Pipedrive {
    const CRM: &'static str = "Pipedrive";
    const DIALECT: Dialect = Dialect::Pipedrive;
    const GUARANTEE: Guarantee = Guarantee::NarrowWindow;
    const CREATE: &'static str = "persons.create";
    const RENEWAL: &'static str = "oauth.token";
    const AT_ONCE: u64 = 8;
    const PERMITTED: u32 = 600;
    const UNIT: &'static str = "tokens";
    const LIMIT: &'static str = "daily";
    const UNTOLD_DELETIONS: Option<&'static str> = None;
    const UNLISTED_DELETIONS: Option<&'static str> = Some("there is no listing of deleted persons");

    fn prepare(plan: &mut Plan) {
        let own = pipedrive::plan();
        plan.main.push_str(&own.main);
        plan.environment.extend(own.environment);
        plan.public_url = own.public_url;
    }

    async fn bring(house: &House) -> Result<(), Error> {
        house.bring_pipedrive()?;
        until("the provider serves", Duration::from_secs(60), async || {
            let provider = house.provider("pipedrive").await?;
            Ok(if provider.is_some() { Ok(()) } else { Err(house.log()) })
        })
        .await
    }

    async fn open(house: &House, wanted: &Wanted) -> Result<Self, Error> {
        Ok(Self(house.pipedrive_account(&account(wanted)).await?))
    }

    async fn connect(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        house.connect_pipedrive(&self.0, &account(wanted))
    }

    async fn runs(&self, house: &House) -> Result<(), Error> {
        house.pipedrive_runs(&self.0, true, Duration::from_secs(120)).await
    }

    fn number(&self) -> u64 {
        self.0.company()
    }

    async fn crm(&self, house: &House) -> Result<Crm, Error> {
        Ok(house.pipedrive_crm(&self.0))
    }

    async fn counted(&self, house: &House) -> Result<Counted, Error> {
        let counts = house.control.pipedrive_counts(self.0.company()).await?;
        let told = counts.webhooks;
        let pushes = Pushes {
            delivered: told.delivered,
            failed: told.failed,
            lost: told.lost + told.banned + told.given_up,
            under_way: told.under_way,
        };
        let tokens = Some(counts.tokens);
        Ok(Counted { operations: counts.operations, tokens, live: counts.live, pushes })
    }

    async fn end_tokens(&self, house: &House) -> Result<(), Error> {
        Ok(house.control.expire_pipedrive_token(self.0.company()).await?)
    }

    async fn permit(&self, house: &House, wanted: &Wanted) -> Result<(), Error> {
        let account = account(wanted);
        house.control.set_pipedrive_quota(self.0.company(), account.account.quota).await?;
        house.connect_pipedrive(&self.0, &account)
    }

    /// Yes or no and moments in time are left out: Pipedrive has no kinds of fields for them.
    async fn customs(&self) -> Result<Vec<Custom>, Error> {
        let custom = |member, code: &str, here, there| Custom { member, name: code.to_owned(), here, there };
        let option = async |code: &str, label: &str| self.0.api.option(code, label).await;
        let (first, second) = (option(TIER, "Tier 1").await?, option(TIER, "Tier 2").await?);
        let north = option(REGIONS, "North").await?;
        let (south, east) = (option(REGIONS, "South").await?, option(REGIONS, "East").await?);
        Ok(vec![
            custom("tier", TIER, [json!("gold"), json!("silver")], [json!(first), json!(second)]),
            custom(
                "regions",
                REGIONS,
                [json!(["North", "South"]), json!(["East", "South"])],
                [json!([north, south]), json!([east, south])],
            ),
            custom("seats", SEATS, [json!(12), json!(13)], [json!(12), json!(13)]),
            custom("fee", FEE, [json!("12.5"), json!("99.95")], [json!(12.5), json!(99.95)]),
            custom(
                "renewal",
                RENEWAL,
                [json!("2027-01-31"), json!("2028-02-29")],
                [json!("2027-01-31"), json!("2028-02-29")],
            ),
            custom(
                "slogan",
                SLOGAN,
                [json!("First"), json!("Second; third")],
                [json!("First"), json!("Second; third")],
            ),
            // The settings take for a text what the account keeps as a day.
            custom(
                "founded",
                FOUNDED,
                [json!("1999-12-31"), json!("2000-02-29")],
                [json!("1999-12-31"), json!("2000-02-29")],
            ),
        ])
    }

    fn refused() -> Vec<Refused> {
        vec![
            Refused {
                members: json!({ "custom": { "slogan": "S".repeat(256) } }),
                pointer: "/custom/slogan",
                words: format!(
                    "Validation failed: custom_fields: Value of person custom field '{SLOGAN}' is longer than 255 characters"
                ),
                mended: json!({ "custom": { "slogan": "First" } }),
            },
            Refused {
                members: json!({ "custom": { "founded": "long ago" } }),
                pointer: "/custom/founded",
                words: format!(
                    "Validation failed: custom_fields: Expected 'date' as value for person custom field '{FOUNDED}'"
                ),
                mended: json!({ "custom": { "founded": "1999-12-31" } }),
            },
        ]
    }

    async fn fields(&self, house: &House, id: &str) -> Result<Map<String, Value>, Error> {
        let persons = house.control.pipedrive_dump(self.0.company()).await?.persons;
        let id: u64 = id.parse()?;
        let person = persons.into_iter().find(|person| person.get("id") == Some(&json!(id)));
        let person = person.ok_or("no such person")?;
        Ok(person.get("custom_fields").and_then(Value::as_object).cloned().unwrap_or_default())
    }

    async fn save(&self, house: &House, id: &str, fields: Map<String, Value>) -> Result<(), Error> {
        let given = json!({ "custom_fields": fields });
        house.control.pipedrive_person_edits(self.0.company(), id.parse()?, given).await?;
        Ok(())
    }

    fn set_by(members: &BTreeMap<String, Value>) -> Vec<String> {
        let custom = members.get("custom_fields").and_then(Value::as_object);
        let custom = custom.into_iter().flat_map(|fields| fields.keys().cloned());
        members.keys().filter(|name| *name != "custom_fields").cloned().chain(custom).collect()
    }
}

impl Bursts for Pipedrive {
    const BURST: u32 = PipedriveQuota::LITE.token_burst;
    const WINDOW_MS: i64 = 2_000;

    async fn calls(&self, house: &House) -> Result<Vec<NotedCall>, Error> {
        Ok(house.control.pipedrive_calls(self.0.company()).await?)
    }
}
