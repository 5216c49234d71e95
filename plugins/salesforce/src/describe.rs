//! What the provider says of itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_provider::{
    Abilities, AuthScheme, BodyFormat, Condition, ConnectionDescriptor, Descriptor, Direction, Example,
    ObjectDescriptor, Refresh, Verify, WebhookAnswer, Webhooks,
};

use crate::Salesforce;
use crate::contact::OBJECT;
use crate::settings;

/// What Salesforce wants to hear before it takes a message off its queue.
const ACKNOWLEDGED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
    <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>\
    <notificationsResponse xmlns=\"http://soap.sforce.com/2005/09/outbound\"><Ack>true</Ack></notificationsResponse>\
    </soapenv:Body></soapenv:Envelope>";

pub(crate) fn descriptor() -> Descriptor {
    let refresh = Refresh {
        url: "{base_url}/services/oauth2/token".to_owned(),
        client: "body".to_owned(),
        access_token: Some("/access_token".to_owned()),
        // Rotated only where the app is set so.
        refresh_token: Some("/refresh_token".to_owned()),
        // Salesforce does not say how long a token lives: it is good until it is refused.
        expires_in: None,
        base_url: Some("/instance_url".to_owned()),
        error: None,
    };
    Descriptor {
        id: "salesforce".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        title: "Salesforce: contacts".to_owned(),
        auth: BTreeMap::from([
            ("static".to_owned(), AuthScheme::bearer()),
            ("oauth2".to_owned(), AuthScheme::oauth2(refresh)),
        ]),
        webhooks: Some(Webhooks {
            format: BodyFormat::Xml,
            account: Some("/Envelope/Body/notifications/OrganizationId".to_owned()),
            // A session of the user that the message is sent as: as good as a password.
            blank: vec!["/Envelope/Body/notifications/SessionId".to_owned()],
            answer: WebhookAnswer {
                status: 200,
                content_type: Some("text/xml; charset=utf-8".to_owned()),
                body: ACKNOWLEDGED.to_owned(),
                echo: None,
            },
            // Messages are not signed. The secret is a part of the address that they are sent to.
            ..Webhooks::verified_by(Verify::Token {
                secret: "webhook".to_owned(),
                place: "query:key".to_owned(),
            })
        }),
        rules: false,
        secrets: BTreeMap::new(),
        response_headers: ["date", "retry-after", "sforce-limit-info"].map(str::to_owned).to_vec(),
        settings: Some(settings::schema()),
        examples: examples(),
    }
}

pub(crate) fn connection(salesforce: &Salesforce) -> ConnectionDescriptor {
    let settings = &salesforce.settings;
    let contact = ObjectDescriptor {
        name: salesforce.contacts.provider_object().to_owned(),
        schema: salesforce.contacts.schema(),
        write_schema: Some(salesforce.contacts.write_schema()),
        fields: salesforce.contacts.fields(),
        abilities: Abilities {
            key: settings.key_field.is_some(),
            // Several contacts may have one address.
            unique_identity: false,
            condition: Condition::Second,
            // Queries see what was committed before them.
            consistent_listing: true,
            changes: true,
            changes_show_deleted: true,
            archives: true,
            find_settles_after_ms: settings.settle_ms,
            poll_every_ms: settings.poll_every_ms,
            event_times: false,
        },
    };
    ConnectionDescriptor {
        base_url: settings.base_url.clone(),
        hosts: settings.hosts(),
        objects: BTreeMap::from([(OBJECT.to_owned(), contact)]),
        quotas: settings.quota_descriptors(),
    }
}

fn example(name: &str, direction: Direction, settings: Value, canonical: Value, document: Value) -> Example {
    Example {
        name: name.to_owned(),
        object: OBJECT.to_owned(),
        settings,
        facts: json!({}),
        canonical,
        document,
        direction,
    }
}

fn examples() -> Vec<Example> {
    let custom = json!({
        "key_field": "Tandem_Key__c",
        "fields": {
            "/company_name": "Company__c", "/website": "Website__c", "/language": "Language__c", "/tags": "Labels__c",
            "/lifecycle_stage": "Stage__c", "/annual_revenue": "Revenue__c", "/employees": "Staff__c", "/phone": "OtherPhone",
        },
        "stages": { "lead": "Open", "customer": "Won", "other": "Unclear" },
        "ignore": ["/notes"],
        "custom": {
            "/custom/tier": { "property": "Tier__c", "type": "enumeration", "options": { "gold": "Tier 1", "silver": "Tier 2" } },
            "/custom/regions": { "property": "Regions__c", "type": "set" },
            "/custom/seats": { "property": "Seats__c", "type": "integer" },
            "/custom/renewal": { "property": "Renewal__c", "type": "date" },
            "/custom/seen": { "property": "acme__Seen__c", "type": "datetime" },
            "/custom/vip": { "property": "Vip__c", "type": "boolean" },
            "/custom/score": { "property": "Score__c", "type": "decimal", "direction": "to-canonical" },
        },
    });
    vec![
        example(
            "a contact with everything that Salesforce has a standard field for",
            Direction::Both,
            json!({}),
            json!({
                "email": "ann.obrien@example.com", "given_name": "Ann", "family_name": "O'Brien",
                "phone": "+44 20 7946 0018", "mobile_phone": "+44 7700 900123", "job_title": "Head of Purchasing",
                "street": "1 High Street\nFloor 2", "city": "London", "region": "Greater London", "postal_code": "SW1A 1AA",
                "country": "United Kingdom", "date_of_birth": "1980-02-29", "notes": "Met at the fair.\nCall in May.",
                "opted_out": false,
            }),
            json!({
                "Email": "ann.obrien@example.com", "FirstName": "Ann", "LastName": "O'Brien",
                "Phone": "+44 20 7946 0018", "MobilePhone": "+44 7700 900123", "Title": "Head of Purchasing",
                "MailingStreet": "1 High Street\nFloor 2", "MailingCity": "London", "MailingState": "Greater London",
                "MailingPostalCode": "SW1A 1AA", "MailingCountry": "United Kingdom", "Birthdate": "1980-02-29",
                "Description": "Met at the fair.\nCall in May.", "HasOptedOutOfEmail": false,
            }),
        ),
        example(
            "only a last name",
            Direction::Both,
            json!({}),
            json!({ "family_name": "Solo" }),
            json!({ "LastName": "Solo" }),
        ),
        example("nothing at all", Direction::Both, json!({}), json!({}), json!({})),
        example(
            "members that are not mapped take no part, compound ones among them",
            Direction::ToCanonical,
            json!({}),
            json!({ "email": "b@example.com", "given_name": "Bo", "family_name": "Li", "city": "Ulm", "opted_out": true }),
            json!({
                "attributes": { "type": "Contact", "url": "/services/data/v60.0/sobjects/Contact/003Dn00000AbCdEIAV" },
                "Id": "003Dn00000AbCdEIAV", "IsDeleted": false, "MasterRecordId": null,
                "SystemModstamp": "2026-01-03T00:00:00.000+0000", "LastModifiedById": "005Dn000001XyZzIAK",
                "AccountId": "001Dn00000QqQqQIAZ", "Name": "Bo Li", "FirstName": "Bo", "LastName": "Li", "Email": "b@example.com",
                "MailingAddress": { "city": "Ulm", "country": null, "latitude": null }, "MailingCity": "Ulm",
                "HasOptedOutOfEmail": true,
            }),
        ),
        example(
            "fields without a value read as absent",
            Direction::ToCanonical,
            json!({}),
            json!({ "family_name": "C", "opted_out": false }),
            json!({ "Id": "003000000000007AAA", "LastName": "C", "FirstName": null, "Phone": null, "Birthdate": null, "HasOptedOutOfEmail": false }),
        ),
        example(
            "a field that a message shows as cleared reads as null",
            Direction::ToCanonical,
            json!({}),
            json!({ "phone": null, "date_of_birth": null }),
            json!({ "Id": "003000000000007AAA", "Phone": "", "Birthdate": "" }),
        ),
        example(
            "null, empty and absent are nothing to write when there was nothing",
            Direction::ToProvider,
            json!({}),
            json!({ "family_name": "D", "given_name": null, "phone": "", "opted_out": null }),
            json!({ "LastName": "D" }),
        ),
        example(
            "odd characters stay as they are",
            Direction::Both,
            json!({}),
            json!({
                "given_name": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "family_name": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "street": "Straße des 17. Juni\u{2028}\t№ 1", "city": "القاهرة", "notes": "a;b;c & <b> %20 ' \u{feff}",
            }),
            json!({
                "FirstName": "Zoë \u{1f600} \"Z\" \\ / \u{7f}", "LastName": "Ng\u{169}g\u{129} wa Thiong\u{2019}o",
                "MailingStreet": "Straße des 17. Juni\u{2028}\t№ 1", "MailingCity": "القاهرة", "Description": "a;b;c & <b> %20 ' \u{feff}",
            }),
        ),
        example(
            "fields of the settings, read: numbers as Salesforce writes them, picklists, times without a colon",
            Direction::ToCanonical,
            custom.clone(),
            json!({
                "family_name": "E", "phone": "+49 30 1", "company_name": "Example Ltd", "website": "https://example.com",
                "language": "en-GB", "tags": ["vip", "new"], "lifecycle_stage": "customer", "annual_revenue": "1200000.5",
                "employees": 250,
                "custom": {
                    "tier": "gold", "regions": ["North", "South"], "seats": 12, "renewal": "2027-01-31",
                    "seen": "2026-01-02T03:04:05Z", "vip": true, "score": "0.75",
                },
            }),
            json!({
                "LastName": "E", "OtherPhone": "+49 30 1", "Company__c": "Example Ltd", "Website__c": "https://example.com",
                "Language__c": "en-GB", "Labels__c": "vip;new", "Stage__c": "Won", "Revenue__c": 1200000.5, "Staff__c": 250.0,
                "Tier__c": "Tier 1", "Regions__c": "North;South", "Seats__c": 12.0, "Renewal__c": "2027-01-31",
                "acme__Seen__c": "2026-01-02T03:04:05.000+0000", "Vip__c": true, "Score__c": 0.75,
                "Description": "not mapped here", "Tandem_Key__c": "k-1",
            }),
        ),
        example(
            "fields of the settings, written",
            Direction::ToProvider,
            custom.clone(),
            json!({
                "family_name": "F", "phone": "+49 30 1", "tags": ["vip", "new"], "lifecycle_stage": "lead",
                "annual_revenue": "1200000.50", "employees": 0, "notes": "left out",
                "custom": {
                    "tier": "silver", "seats": 0, "renewal": "2027-01-31", "seen": "2026-01-02T03:04:05Z", "vip": false,
                    "score": "0.75", "unknown": "stays here",
                },
            }),
            json!({
                "LastName": "F", "OtherPhone": "+49 30 1", "Labels__c": "vip;new", "Stage__c": "Open", "Revenue__c": 1200000.5,
                "Staff__c": 0, "Tier__c": "Tier 2", "Seats__c": 0, "Renewal__c": "2027-01-31",
                "acme__Seen__c": "2026-01-02T03:04:05Z", "Vip__c": false,
            }),
        ),
        example(
            "a stage that is not named reads as other",
            Direction::ToCanonical,
            custom,
            json!({ "lifecycle_stage": "other" }),
            json!({ "Stage__c": "Negotiation" }),
        ),
    ]
}
