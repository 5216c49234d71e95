//! The properties that a contact has in every account, and the definitions of custom ones.
//!
//! Names, types and field types follow HubSpot's default contact properties; labels are shortened. Only those that
//! a synchroniser meets are here: a property that is not listed does not exist.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// The type of a property's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PropertyType {
    /// Text of up to 65,536 characters.
    String,
    /// A decimal number.
    Number,
    /// A day, `YYYY-MM-DD` or midnight UTC in milliseconds.
    Date,
    /// An instant, ISO-8601 or milliseconds.
    DateTime,
    /// One of the options, or several joined by `;` when the field type is `checkbox`.
    Enumeration,
    /// `true` or `false`.
    Bool,
}

impl PropertyType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Enumeration => "enumeration",
            Self::Bool => "bool",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "number" => Self::Number,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "enumeration" => Self::Enumeration,
            "bool" => Self::Bool,
            _ => return None,
        })
    }

    /// The field types that the Properties API allows for this type.
    pub(crate) fn allows(self, field_type: &str) -> bool {
        let allowed: &[&str] = match self {
            Self::String => &["text", "textarea", "file", "html", "phonenumber", "calculation_equation"],
            Self::Number => &["number", "calculation_equation"],
            Self::Date | Self::DateTime => &["date"],
            Self::Enumeration => &["booleancheckbox", "checkbox", "radio", "select", "calculation_equation"],
            Self::Bool => &["booleancheckbox", "calculation_equation"],
        };
        allowed.contains(&field_type)
    }
}

/// One option of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PropertyOption {
    /// What people see.
    pub(crate) label: String,
    /// What is stored.
    pub(crate) value: String,
    /// Place in the list.
    #[serde(default)]
    pub(crate) display_order: i64,
    /// Whether forms leave it out.
    #[serde(default)]
    pub(crate) hidden: bool,
}

/// A property of contacts.
#[derive(Debug, Clone)]
pub(crate) struct Property {
    pub(crate) name: Arc<str>,
    pub(crate) label: String,
    pub(crate) description: String,
    pub(crate) group: String,
    pub(crate) kind: PropertyType,
    pub(crate) field_type: String,
    pub(crate) options: Vec<PropertyOption>,
    pub(crate) read_only: bool,
    pub(crate) calculated: bool,
    pub(crate) unique: bool,
    pub(crate) defined_by_hubspot: bool,
    /// Milliseconds; zero for those that HubSpot defines.
    pub(crate) created: i64,
}

impl Property {
    pub(crate) fn multiple(&self) -> bool {
        self.kind == PropertyType::Enumeration && self.field_type == "checkbox"
    }

    pub(crate) fn has_option(&self, value: &str) -> bool {
        self.options.iter().any(|option| option.value == value)
    }
}

/// Stages of the default lifecycle, in their order.
pub(crate) const LIFECYCLE: &[&str] = &[
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
];

const LEAD_STATUS: &[&str] = &[
    "NEW",
    "OPEN",
    "IN_PROGRESS",
    "OPEN_DEAL",
    "UNQUALIFIED",
    "ATTEMPTED_TO_CONTACT",
    "CONNECTED",
    "BAD_TIMING",
];

const LANGUAGES: &[&str] = &[
    "af", "ar", "bg", "bn", "ca", "cs", "da", "de", "de-at", "de-ch", "de-de", "el", "en", "en-au", "en-ca",
    "en-gb", "en-us", "es", "es-es", "es-mx", "et", "fa", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "fr-fr",
    "he", "hi", "hr", "hu", "id", "is", "it", "it-it", "ja", "ja-jp", "ko", "ko-kr", "lt", "lv", "mk", "ms",
    "nl", "nl-be", "nl-nl", "no", "pl", "pl-pl", "pt", "pt-br", "pt-pt", "ro", "ru", "sk", "sl", "sq", "sr",
    "sv", "sv-se", "th", "tr", "uk", "ur", "vi", "zh", "zh-cn", "zh-hk", "zh-tw",
];

/// Name, label, type, field type, options, read-only, calculated.
type Row = (&'static str, &'static str, PropertyType, &'static str, &'static [&'static str], bool, bool);

const STANDARD: &[Row] = {
    use PropertyType::{Bool, Date, DateTime, Enumeration, Number, String};
    const NONE: &[&str] = &[];
    &[
        ("email", "Email", String, "text", NONE, false, false),
        ("firstname", "First Name", String, "text", NONE, false, false),
        ("lastname", "Last Name", String, "text", NONE, false, false),
        ("salutation", "Salutation", String, "text", NONE, false, false),
        ("phone", "Phone Number", String, "phonenumber", NONE, false, false),
        ("mobilephone", "Mobile Phone Number", String, "phonenumber", NONE, false, false),
        ("fax", "Fax Number", String, "text", NONE, false, false),
        ("company", "Company Name", String, "text", NONE, false, false),
        ("jobtitle", "Job Title", String, "text", NONE, false, false),
        ("website", "Website URL", String, "text", NONE, false, false),
        ("address", "Street Address", String, "text", NONE, false, false),
        ("city", "City", String, "text", NONE, false, false),
        ("state", "State/Region", String, "text", NONE, false, false),
        ("zip", "Postal Code", String, "text", NONE, false, false),
        ("country", "Country/Region", String, "text", NONE, false, false),
        ("industry", "Industry", String, "text", NONE, false, false),
        ("annualrevenue", "Annual Revenue", String, "text", NONE, false, false),
        (
            "numemployees",
            "Number of Employees",
            Enumeration,
            "select",
            &["1-5", "5-25", "25-50", "50-100", "100-500", "500-1000", "1000+"],
            false,
            false,
        ),
        ("lifecyclestage", "Lifecycle Stage", Enumeration, "radio", LIFECYCLE, false, false),
        ("hs_lead_status", "Lead Status", Enumeration, "radio", LEAD_STATUS, false, false),
        ("hs_language", "Preferred language", Enumeration, "select", LANGUAGES, false, false),
        ("date_of_birth", "Date of birth", String, "text", NONE, false, false),
        ("gender", "Gender", String, "text", NONE, false, false),
        ("message", "Message", String, "textarea", NONE, false, false),
        ("notes", "Notes", String, "textarea", NONE, false, false),
        ("twitterhandle", "Twitter Username", String, "text", NONE, false, false),
        ("hs_linkedin_url", "LinkedIn URL", String, "text", NONE, false, false),
        ("hubspot_owner_id", "Contact owner", String, "text", NONE, false, false),
        ("closedate", "Close Date", DateTime, "date", NONE, false, false),
        ("total_revenue", "Total Revenue", Number, "number", NONE, false, false),
        ("hs_timezone", "Time Zone", String, "text", NONE, false, false),
        (
            "hs_persona",
            "Persona",
            Enumeration,
            "radio",
            &["persona_1", "persona_2", "persona_3"],
            false,
            false,
        ),
        (
            "hs_buying_role",
            "Buying Role",
            Enumeration,
            "checkbox",
            &[
                "BLOCKER",
                "BUDGET_HOLDER",
                "CHAMPION",
                "DECISION_MAKER",
                "END_USER",
                "EXECUTIVE_SPONSOR",
                "INFLUENCER",
                "LEGAL_AND_COMPLIANCE",
                "OTHER",
            ],
            false,
            false,
        ),
        (
            "hs_legal_basis",
            "Legal basis for processing data",
            Enumeration,
            "checkbox",
            &[
                "Legitimate interest – prospect/lead",
                "Legitimate interest – existing customer",
                "Legitimate interest - other",
                "Performance of a contract",
                "Freely given consent from contact",
                "Not applicable",
            ],
            false,
            false,
        ),
        ("hs_additional_emails", "Additional email addresses", Enumeration, "checkbox", NONE, true, false),
        ("hs_email_optout", "Unsubscribed from all email", Bool, "booleancheckbox", NONE, true, false),
        ("createdate", "Create Date", DateTime, "date", NONE, true, false),
        ("lastmodifieddate", "Last Modified Date", DateTime, "date", NONE, true, false),
        ("hs_object_id", "Record ID", Number, "number", NONE, true, false),
        ("hs_email_domain", "Email Domain", String, "text", NONE, true, true),
        ("hs_is_contact", "Is a contact", Bool, "booleancheckbox", NONE, true, true),
        ("hs_all_contact_vids", "All vids for a contact", Enumeration, "checkbox", NONE, true, true),
        ("hs_merged_object_ids", "Merged record IDs", Enumeration, "checkbox", NONE, true, false),
        ("hs_object_source", "Record source detail", String, "text", NONE, true, false),
        ("hs_object_source_id", "Record source ID", String, "text", NONE, true, false),
        ("hs_object_source_label", "Record source", String, "text", NONE, true, false),
        ("hs_lifecyclestage_lead_date", "Became a Lead Date", DateTime, "date", NONE, true, false),
        (
            "hs_membership_last_private_content_access_date",
            "Last private content access",
            Date,
            "date",
            NONE,
            true,
            false,
        ),
    ]
};

static CATALOGUE: LazyLock<HashMap<&'static str, Arc<Property>>> = LazyLock::new(|| {
    STANDARD
        .iter()
        .map(|&(name, label, kind, field_type, options, read_only, calculated)| {
            let options = options
                .iter()
                .zip(0..)
                .map(|(value, display_order)| PropertyOption {
                    label: (*value).to_owned(),
                    value: (*value).to_owned(),
                    display_order,
                    hidden: false,
                })
                .collect();
            let property = Property {
                name: name.into(),
                label: label.to_owned(),
                description: String::new(),
                group: "contactinformation".to_owned(),
                kind,
                field_type: field_type.to_owned(),
                options,
                read_only,
                calculated,
                unique: name == "email",
                defined_by_hubspot: true,
                created: 0,
            };
            (name, Arc::new(property))
        })
        .collect()
});

/// A property that every account has.
pub(crate) fn standard(name: &str) -> Option<&'static Arc<Property>> {
    CATALOGUE.get(name)
}

/// All properties that every account has, in the order of the list.
pub(crate) fn all_standard() -> impl Iterator<Item = &'static Arc<Property>> {
    STANDARD.iter().filter_map(|row| CATALOGUE.get(row.0))
}

/// What a read returns when nothing is asked for.
pub(crate) const READ_DEFAULTS: &[&str] =
    &["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"];

/// What is returned whatever is asked for.
pub(crate) const ALWAYS: &[&str] = &["createdate", "hs_object_id", "lastmodifieddate"];

/// What a search's `query` looks into.
pub(crate) const QUERIED: &[&str] =
    &["firstname", "lastname", "email", "phone", "hs_additional_emails", "fax", "mobilephone", "company"];
