//! The records of the load: about 1 KB and 20 fields each.

use serde_json::{Value, json};

/// The address of record `number` of a scope, as both sides keep it.
pub(crate) fn address(scope: &str, number: u64) -> String {
    format!("person.{number}@{scope}.example")
}

/// A canonical document of 20 fields, about 1 KB.
pub(crate) fn document(scope: &str, number: u64) -> Value {
    let line = "Talked about the renewal, wants an offer before the end of the quarter. ";
    json!({
        "email": address(scope, number),
        "given_name": "Jürgen",
        "family_name": format!("Müller-Lüdenscheidt {number}"),
        "phone": format!("+49 30 {:07}", number % 10_000_000),
        "mobile_phone": format!("+49 171 {:07}", number % 10_000_000),
        "job_title": format!("Head of Procurement {number}"),
        "company_name": "Ünlü & Söhne Maschinenbau GmbH",
        "website": "https://www.uenlue-und-soehne.example/",
        "street": "Lange Straße der Pariser Kommune 117",
        "city": "Frankfurt an der Oder",
        "region": "Brandenburg",
        "postal_code": "15230",
        "country": "Germany",
        "language": "de",
        "lifecycle_stage": "customer",
        "date_of_birth": "1971-03-29",
        "annual_revenue": "1234567.5",
        "tags": ["key-account", "newsletter", "trade-fair"],
        "opted_out": false,
        "notes": line.repeat(4).trim(),
    })
}

/// The same person as someone types it into the CRM.
pub(crate) fn properties(scope: &str, number: u64) -> Vec<(&'static str, String)> {
    let document = document(scope, number);
    [
        ("email", "email"),
        ("firstname", "given_name"),
        ("lastname", "family_name"),
        ("phone", "phone"),
        ("mobilephone", "mobile_phone"),
        ("jobtitle", "job_title"),
        ("company", "company_name"),
        ("website", "website"),
        ("address", "street"),
        ("city", "city"),
        ("state", "region"),
        ("zip", "postal_code"),
        ("country", "country"),
        ("date_of_birth", "date_of_birth"),
        ("annualrevenue", "annual_revenue"),
        ("message", "notes"),
    ]
    .into_iter()
    .filter_map(|(property, member)| Some((property, document.get(member)?.as_str()?.to_owned())))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_twenty_fields_and_about_a_kilobyte() {
        let document = document("c0001", 7);
        assert_eq!(document.as_object().map(serde_json::Map::len), Some(20));
        assert!((900..1_200).contains(&document.to_string().len()), "{}", document.to_string().len());
    }
}
