//! The fields of a contact: the standard ones of an org without further products, and the custom ones of a test.
//!
//! Names are found without regard to case, as everywhere in Salesforce's data API.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// The record's own id.
    Id,
    /// The id of another record.
    Reference,
    /// A line of text.
    #[default]
    String,
    /// Text of several lines.
    TextArea,
    /// A telephone number, in any form.
    Phone,
    /// An address of electronic mail.
    Email,
    /// A web address.
    Url,
    /// One of several values.
    Picklist,
    /// Some of several values, with `;` between them.
    MultiPicklist,
    /// True or false, never null.
    Boolean,
    /// A number.
    Double,
    /// An amount.
    Currency,
    /// A share.
    Percent,
    /// A whole number.
    Int,
    /// A day.
    Date,
    /// A moment, to the second.
    DateTime,
    /// Several fields shown as one.
    Address,
}

impl FieldKind {
    /// Values are strings in JSON and are compared as text.
    pub(crate) fn is_text(self) -> bool {
        matches!(
            self,
            Self::String
                | Self::TextArea
                | Self::Phone
                | Self::Email
                | Self::Url
                | Self::Picklist
                | Self::MultiPicklist
        )
    }

    pub(crate) fn is_id(self) -> bool {
        matches!(self, Self::Id | Self::Reference)
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Double | Self::Currency | Self::Percent | Self::Int)
    }

    /// As describe has it, and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Reference => "reference",
            Self::String => "string",
            Self::TextArea => "textarea",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::Url => "url",
            Self::Picklist => "picklist",
            Self::MultiPicklist => "multipicklist",
            Self::Boolean => "boolean",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Int => "int",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Address => "address",
        }
    }

    fn soap(self) -> &'static str {
        match self {
            Self::Id | Self::Reference => "tns:ID",
            Self::Boolean => "xsd:boolean",
            Self::Double | Self::Currency | Self::Percent => "xsd:double",
            Self::Int => "xsd:int",
            Self::Date => "xsd:date",
            Self::DateTime => "xsd:dateTime",
            Self::Address => "urn:address",
            _ => "xsd:string",
        }
    }
}

/// A custom field to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewField {
    /// Ends in `__c`.
    pub name: String,
    /// Otherwise the name without its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Otherwise a line of text.
    #[serde(default, rename = "type")]
    pub kind: FieldKind,
    /// Characters at most; otherwise 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// No two records have the same value.
    #[serde(default)]
    pub unique: bool,
    /// Records are found by it.
    #[serde(default)]
    pub external_id: bool,
    /// Whether a unique text tells capital letters apart.
    #[serde(default)]
    pub case_sensitive: bool,
    /// The values of a picklist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub picklist_values: Vec<String>,
    /// A picklist takes other values as well.
    #[serde(default)]
    pub unrestricted: bool,
    /// A record must have it.
    #[serde(default)]
    pub required: bool,
    /// The user of the API may read it and not write it, as with a formula.
    #[serde(default)]
    pub read_only: bool,
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) label: String,
    pub(crate) kind: FieldKind,
    pub(crate) length: u32,
    pub(crate) writable: bool,
    pub(crate) required: bool,
    pub(crate) custom: bool,
    pub(crate) unique: bool,
    pub(crate) external_id: bool,
    pub(crate) case_sensitive: bool,
    pub(crate) values: Vec<String>,
    pub(crate) restricted: bool,
    /// The field that shows this one together with others.
    compound: Option<&'static str>,
    refers_to: &'static [&'static str],
}

impl Field {
    /// Long text and compounds are neither compared nor sorted by.
    pub(crate) fn filterable(&self) -> bool {
        self.kind != FieldKind::Address && !(self.kind == FieldKind::TextArea && self.length > 255)
    }

    pub(crate) fn sortable(&self) -> bool {
        self.filterable() && self.kind != FieldKind::MultiPicklist
    }

    /// Records are found by it through the path: external ids, and the address.
    pub(crate) fn finds(&self) -> bool {
        self.external_id || self.kind == FieldKind::Email && !self.custom
    }

    /// Records are found by it in an index.
    pub(crate) fn indexed(&self) -> bool {
        self.unique || self.external_id || self.kind == FieldKind::Email
    }

    fn describe(&self) -> Value {
        let (kind, name) = (self.kind, &*self.name);
        let (number, int) = (kind.is_number(), kind == FieldKind::Int);
        let (boolean, id) = (kind == FieldKind::Boolean, kind.is_id());
        let system = SYSTEM.contains(&name);
        let length = if kind.is_text() || id { self.length } else { 0 };
        let relation =
            name.strip_suffix("Id").filter(|stem| kind == FieldKind::Reference && !stem.is_empty());
        let about = [
            ("aggregatable", json!(self.filterable())),
            ("autoNumber", json!(false)),
            ("byteLength", json!(if kind.is_text() { length * 3 } else { length })),
            ("calculated", json!(self.custom && !self.writable)),
            ("caseSensitive", json!(self.case_sensitive)),
            ("compoundFieldName", json!(self.compound)),
            ("createable", json!(self.writable)),
            ("custom", json!(self.custom)),
            ("defaultValue", if boolean { json!(false) } else { Value::Null }),
            ("defaultedOnCreate", json!(boolean || system || name == "OwnerId")),
            ("deprecatedAndHidden", json!(false)),
            ("digits", json!(if int { 9 } else { 0 })),
            ("externalId", json!(self.external_id)),
            ("filterable", json!(self.filterable())),
            ("groupable", json!(self.filterable() && !number && kind != FieldKind::DateTime)),
            ("idLookup", json!(kind == FieldKind::Id || self.finds())),
            ("label", json!(self.label)),
            ("length", json!(length)),
            ("name", json!(name)),
            ("nameField", json!(name == "Name")),
            ("nillable", json!(!self.required && !boolean && !system)),
            ("picklistValues", self.values.iter().map(|value| choice(value)).collect()),
            ("precision", json!(if number && !int { 18 } else { 0 })),
            ("queryByDistance", json!(false)),
            ("referenceTo", json!(self.refers_to)),
            ("relationshipName", json!(relation)),
            ("restrictedPicklist", json!(self.restricted)),
            ("scale", json!(if number && !int { 2 } else { 0 })),
            ("soapType", json!(kind.soap())),
            ("sortable", json!(self.sortable())),
            ("type", json!(kind.name())),
            ("unique", json!(self.unique)),
            ("updateable", json!(self.writable)),
        ];
        about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn choice(value: &str) -> Value {
    json!({ "active": true, "defaultValue": false, "label": value, "validFor": null, "value": value })
}

/// Fields that are always there and that the org sets.
const SYSTEM: [&str; 7] = [
    "Id",
    "IsDeleted",
    "CreatedDate",
    "CreatedById",
    "LastModifiedDate",
    "LastModifiedById",
    "SystemModstamp",
];

/// Members of a compound address and the fields behind them.
pub(crate) const ADDRESS: [&str; 8] =
    ["City", "Country", "GeocodeAccuracy", "Latitude", "Longitude", "PostalCode", "State", "Street"];

type Row = (&'static str, &'static str, FieldKind, u32, bool);

/// Name, label, kind, length, whether it can be written.
const STANDARD: &[Row] = &[
    ("Id", "Contact ID", FieldKind::Id, 18, false),
    ("IsDeleted", "Deleted", FieldKind::Boolean, 0, false),
    ("MasterRecordId", "Master Record ID", FieldKind::Reference, 18, false),
    ("AccountId", "Account ID", FieldKind::Reference, 18, true),
    ("LastName", "Last Name", FieldKind::String, 80, true),
    ("FirstName", "First Name", FieldKind::String, 40, true),
    ("Salutation", "Salutation", FieldKind::Picklist, 40, true),
    ("Name", "Full Name", FieldKind::String, 121, false),
    ("OtherStreet", "Other Street", FieldKind::TextArea, 255, true),
    ("OtherCity", "Other City", FieldKind::String, 40, true),
    ("OtherState", "Other State/Province", FieldKind::String, 80, true),
    ("OtherPostalCode", "Other Zip/Postal Code", FieldKind::String, 20, true),
    ("OtherCountry", "Other Country", FieldKind::String, 80, true),
    ("OtherLatitude", "Other Latitude", FieldKind::Double, 0, true),
    ("OtherLongitude", "Other Longitude", FieldKind::Double, 0, true),
    ("OtherGeocodeAccuracy", "Other Geocode Accuracy", FieldKind::Picklist, 40, true),
    ("OtherAddress", "Other Address", FieldKind::Address, 0, false),
    ("MailingStreet", "Mailing Street", FieldKind::TextArea, 255, true),
    ("MailingCity", "Mailing City", FieldKind::String, 40, true),
    ("MailingState", "Mailing State/Province", FieldKind::String, 80, true),
    ("MailingPostalCode", "Mailing Zip/Postal Code", FieldKind::String, 20, true),
    ("MailingCountry", "Mailing Country", FieldKind::String, 80, true),
    ("MailingLatitude", "Mailing Latitude", FieldKind::Double, 0, true),
    ("MailingLongitude", "Mailing Longitude", FieldKind::Double, 0, true),
    ("MailingGeocodeAccuracy", "Mailing Geocode Accuracy", FieldKind::Picklist, 40, true),
    ("MailingAddress", "Mailing Address", FieldKind::Address, 0, false),
    ("Phone", "Business Phone", FieldKind::Phone, 40, true),
    ("Fax", "Business Fax", FieldKind::Phone, 40, true),
    ("MobilePhone", "Mobile Phone", FieldKind::Phone, 40, true),
    ("HomePhone", "Home Phone", FieldKind::Phone, 40, true),
    ("OtherPhone", "Other Phone", FieldKind::Phone, 40, true),
    ("AssistantPhone", "Asst. Phone", FieldKind::Phone, 40, true),
    ("ReportsToId", "Reports To ID", FieldKind::Reference, 18, true),
    ("Email", "Email", FieldKind::Email, 80, true),
    ("Title", "Title", FieldKind::String, 128, true),
    ("Department", "Department", FieldKind::String, 80, true),
    ("AssistantName", "Assistant's Name", FieldKind::String, 40, true),
    ("LeadSource", "Lead Source", FieldKind::Picklist, 255, true),
    ("Birthdate", "Birthdate", FieldKind::Date, 0, true),
    ("Description", "Contact Description", FieldKind::TextArea, 32_000, true),
    ("OwnerId", "Owner ID", FieldKind::Reference, 18, true),
    ("HasOptedOutOfEmail", "Email Opt Out", FieldKind::Boolean, 0, true),
    ("HasOptedOutOfFax", "Fax Opt Out", FieldKind::Boolean, 0, true),
    ("DoNotCall", "Do Not Call", FieldKind::Boolean, 0, true),
    ("CreatedDate", "Created Date", FieldKind::DateTime, 0, false),
    ("CreatedById", "Created By ID", FieldKind::Reference, 18, false),
    ("LastModifiedDate", "Last Modified Date", FieldKind::DateTime, 0, false),
    ("LastModifiedById", "Last Modified By ID", FieldKind::Reference, 18, false),
    ("SystemModstamp", "System Modstamp", FieldKind::DateTime, 0, false),
    ("LastActivityDate", "Last Activity", FieldKind::Date, 0, false),
    ("EmailBouncedReason", "Email Bounced Reason", FieldKind::String, 255, true),
    ("EmailBouncedDate", "Email Bounced Date", FieldKind::DateTime, 0, true),
    ("IsEmailBounced", "Is Email Bounced", FieldKind::Boolean, 0, false),
    ("PhotoUrl", "Photo URL", FieldKind::Url, 255, false),
    ("Jigsaw", "Data.com Key", FieldKind::String, 20, true),
];

const SALUTATIONS: [&str; 5] = ["Mr.", "Ms.", "Mrs.", "Dr.", "Prof."];
const LEAD_SOURCES: [&str; 5] = ["Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"];

fn standard(&(name, label, kind, length, writable): &Row) -> Field {
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let part_of = |compound: &'static str, prefix: &str| {
        name.strip_prefix(prefix).filter(|part| ADDRESS.contains(part)).map(|_| compound)
    };
    Field {
        name: name.into(),
        label: label.to_owned(),
        kind,
        length,
        writable,
        required: name == "LastName",
        custom: false,
        unique: false,
        external_id: false,
        case_sensitive: false,
        values: match name {
            "Salutation" => strings(&SALUTATIONS),
            "LeadSource" => strings(&LEAD_SOURCES),
            _ => Vec::new(),
        },
        restricted: false,
        compound: match name {
            "FirstName" | "LastName" | "Salutation" => Some("Name"),
            _ => part_of("MailingAddress", "Mailing").or_else(|| part_of("OtherAddress", "Other")),
        },
        refers_to: match name {
            "AccountId" => &["Account"],
            "ReportsToId" | "MasterRecordId" => &["Contact"],
            "OwnerId" | "CreatedById" | "LastModifiedById" => &["User"],
            _ => &[],
        },
    }
}

fn custom(new: &NewField) -> Result<Field, String> {
    let Some(stem) = new.name.strip_suffix("__c").filter(|stem| !stem.is_empty()) else {
        return Err(format!("{}: the name of a custom field ends in __c", new.name));
    };
    if !stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || stem.contains("__") {
        return Err(format!("{}: the name of a field has letters, digits and single underscores", new.name));
    }
    if matches!(new.kind, FieldKind::Id | FieldKind::Reference | FieldKind::Address) {
        return Err(format!("{}: a custom field cannot be of type {}", new.name, new.kind.name()));
    }
    let picklist = matches!(new.kind, FieldKind::Picklist | FieldKind::MultiPicklist);
    Ok(Field {
        name: new.name.as_str().into(),
        label: new.label.clone().unwrap_or_else(|| stem.replace('_', " ")),
        kind: new.kind,
        length: new.length.unwrap_or(255),
        writable: !new.read_only,
        required: new.required,
        custom: true,
        unique: new.unique,
        external_id: new.external_id,
        case_sensitive: new.case_sensitive,
        values: new.picklist_values.clone(),
        restricted: picklist && !new.unrestricted,
        compound: None,
        refers_to: &[],
    })
}

/// All fields of an org's contacts.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    fields: Vec<Arc<Field>>,
    by_name: HashMap<String, Arc<Field>>,
}

impl Schema {
    /// The standard fields and these.
    pub(crate) fn new(own: &[NewField]) -> Result<Self, String> {
        let mut schema = Self { fields: Vec::new(), by_name: HashMap::new() };
        for field in STANDARD.iter().map(standard) {
            schema.add(field)?;
        }
        for field in own {
            schema.add(custom(field)?)?;
        }
        Ok(schema)
    }

    fn add(&mut self, field: Field) -> Result<(), String> {
        let field = Arc::new(field);
        if self.by_name.insert(field.name.to_ascii_lowercase(), field.clone()).is_some() {
            return Err(format!("the field {} is there twice", field.name));
        }
        self.fields.push(field);
        Ok(())
    }

    pub(crate) fn all(&self) -> &[Arc<Field>] {
        &self.fields
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Field>> {
        self.by_name.get(&name.to_ascii_lowercase())
    }

    /// What describe says, but for the addresses of resources.
    pub(crate) fn describe(&self) -> Vec<Value> {
        self.fields.iter().map(|field| field.describe()).collect()
    }
}
