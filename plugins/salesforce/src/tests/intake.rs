use tandem_provider::{Delivery, Problem, log};

use super::*;

fn message(organisation: &str, notifications: &str) -> Vec<u8> {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <soapenv:Body>
  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">
   <OrganizationId>{organisation}</OrganizationId>
   <ActionId>04kDn0000008abcIAA</ActionId>
   <SessionId></SessionId>
   <EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/60.0/{organisation}</EnterpriseUrl>
   <PartnerUrl>https://acme.my.salesforce.com/services/Soap/u/60.0/{organisation}</PartnerUrl>
   {notifications}
  </notifications>
 </soapenv:Body>
</soapenv:Envelope>"#
    )
    .into_bytes()
}

fn notification(kind: &str, fields: &str) -> String {
    format!(
        r#"<Notification><Id>04lDn00000aaaaaIAA</Id>
        <sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{fields}</sObject></Notification>"#
    )
}

fn receive(provider: &Salesforce, body: Vec<u8>) -> Result<Vec<Observed>, Problem> {
    provider.receive(&Delivery { headers: Vec::new(), query: Vec::new(), body }, &context())
}

#[test]
fn a_message_is_a_partial_record_with_the_fields_that_it_has() {
    let fields = format!(
        "<sf:Id>{ID}</sf:Id><sf:LastName>O&apos;Br&#105;en &amp; <![CDATA[<Co>]]></sf:LastName>\
         <sf:HasOptedOutOfEmail>true</sf:HasOptedOutOfEmail><sf:Phone xsi:nil=\"true\"/><sf:Title xsi:nil=\"true\"></sf:Title>\
         <sf:Seats__c>12.0</sf:Seats__c><sf:NotMapped__c>x</sf:NotMapped__c>\
         <sf:SystemModstamp>2026-01-02T11:59:00.000Z</sf:SystemModstamp><sf:Tandem_Key__c>k-1</sf:Tandem_Key__c>"
    );
    let provider = salesforce(&json!({
        "key_field": "Tandem_Key__c", "custom": { "/custom/seats": { "property": "Seats__c", "type": "integer" } },
    }));
    let rows = receive(&provider, message(ORG, &notification("Contact", &fields))).unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row.id.as_str(), row.account.as_deref(), row.stamp, row.key.as_deref()),
        (ID, Some(ORG), Some(STAMP), Some("k-1"))
    );
    let State::Partial(bytes) = &row.state else { panic!("partial") };
    assert_eq!(
        serde_json::from_slice::<Value>(bytes).unwrap(),
        json!({ "Id": ID, "LastName": "O'Brien & <Co>", "HasOptedOutOfEmail": true, "Phone": "", "Title": "", "Seats__c": 12.0 })
    );
    let canonical: Value = serde_json::from_slice(&provider.to_canonical("contact", bytes).unwrap()).unwrap();
    assert_eq!(
        canonical,
        json!({ "family_name": "O'Brien & <Co>", "opted_out": true, "phone": null, "job_title": null, "custom": { "seats": 12 } })
    );
    assert_eq!(
        row.attributes,
        [Attribute::new("event", "outbound-message"), Attribute::new("notification", "04lDn00000aaaaaIAA")]
    );
    assert_eq!(row.author, None, "who we are is not known");
}

#[test]
fn many_records_of_a_message_are_many_rows_and_other_objects_none() {
    let of = |kind: &str, id: &str| notification(kind, &format!("<sf:Id>{id}</sf:Id>"));
    let all = [of("Contact", ID), of("Account", "001Dn00000QqQqQIAZ"), of("Contact", &OTHER[..15])].concat();
    let rows = receive(&plain(), message(ORG, &all)).unwrap();
    let long = crate::ids::long(&OTHER[..15]).unwrap();
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [ID, long.as_str()]);
    assert!(receive(&plain(), message(ORG, "")).unwrap().is_empty());
}

#[test]
fn a_message_of_another_organisation_says_nothing() {
    let body =
        |organisation: &str| message(organisation, &notification("Contact", &format!("<sf:Id>{ID}</sf:Id>")));
    assert_eq!(receive(&probed(), body(ORG)).unwrap().len(), 1);
    assert_eq!(receive(&probed(), body(&ORG[..15])).unwrap().len(), 1, "however long its id is written");
    let _ = log::take();
    assert!(receive(&probed(), body("00DXX0000099999")).unwrap().is_empty());
    assert!(log::take().iter().any(|(level, line)| level == "warn" && line.contains("00DXX0000099999")));
}

#[test]
fn who_made_the_modification_is_told_where_the_message_says_so() {
    let by = |user: &str| {
        let fields = format!("<sf:Id>{ID}</sf:Id><sf:LastModifiedById>{user}</sf:LastModifiedById>");
        receive(&probed(), message(ORG, &notification("Contact", &fields))).unwrap().remove(0)
    };
    assert_eq!(by(USER).author.as_deref(), Some("own"));
    assert_eq!(by(&USER[..15]).author.as_deref(), Some("own"));
    let other = by("005Dn00000AnnAnnIAA");
    assert_eq!(other.author.as_deref(), Some("other"));
    assert!(other.attributes.contains(&Attribute::new("by", "user 005Dn00000AnnAnnIAA")), "{other:?}");
    // What somebody has cleared is not in a message: it has to be read.
    assert_eq!(other.state, State::Touched);
    assert!(matches!(by(USER).state, State::Partial(_)), "our own writes are known");
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    let place = |body: Vec<u8>| {
        let problem = receive(&plain(), body).unwrap_err();
        (problem.code, problem.pointer)
    };
    for body in [
        b"".to_vec(),
        b"{}".to_vec(),
        b"\xff".to_vec(),
        b"<a>".to_vec(),
        b"<a></b>".to_vec(),
        b"<a/>".to_vec(),
        b"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>".to_vec(),
        b"<soapenv:Envelope><Body><notifications>&nothing;</notifications></Body></soapenv:Envelope>"
            .to_vec(),
        b"<Envelope><Body><notifications>".to_vec(),
        format!("{}{}", "<a>".repeat(100), "</a>".repeat(100)).into_bytes(),
    ] {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(place(body), ("invalid-xml".to_owned(), None), "{text}");
    }
    let nobody = message("", &notification("Contact", ""));
    assert_eq!(place(nobody).1.as_deref(), Some("/Envelope/Body/notifications/OrganizationId"));
    let nameless = message(ORG, &notification("Contact", "<sf:LastName>x</sf:LastName>"));
    assert_eq!(place(nameless).1.as_deref(), Some("/Envelope/Body/notifications/Notification/sObject/Id"));
}
