//! What an account says of itself: who we are there, and which fields persons have.

use serde_json::{Map, Value, json};
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Operation, Reply, Response, log};

use crate::person::OBJECT;
use crate::record::{data, next_cursor};
use crate::{Note, Pipedrive, requests};

/// Asked by `tandem check --live`: whether records may be written, told without writing one.
pub(crate) const MAY_WRITE: &str = "may-write";

/// A note holds 64 KiB; options of fields that nobody maps are left out before that.
const FULL_NOTE: usize = 48 * 1024;

impl Pipedrive {
    pub(crate) fn probed(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let me = data(&body);
        let text = |name: &str| me.and_then(|me| me.get(name)?.as_id());
        let Some(company) = text("company_id") else {
            return unreadable(operation, "the answer has no company_id");
        };
        let facts = json!({ "account": {
            "id": company,
            "user_id": text("id"),
            "domain": text("company_domain"),
            "currency": text("default_currency"),
            "time_zone": text("timezone_name"),
        }});
        Answer::Facts(facts.to_string().into_bytes())
    }

    pub(crate) fn discovered(
        &self,
        operation: &Operation,
        known: Value,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        let Some(rows) = data(&body).and_then(Node::as_list) else {
            return unreadable(operation, "the answer has no fields").into();
        };
        let mut fields = match known {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        for row in rows {
            if let Some((code, field)) = described(row) {
                fields.insert(code, field);
            }
        }
        match next_cursor(&body) {
            Some(cursor) => {
                let known = self.fitting(fields);
                requests::fields(Some(&cursor)).then_note(&Note::Fields { known })
            }
            None => {
                let facts = json!({ "objects": { OBJECT: { "fields": fields } } });
                Answer::Facts(facts.to_string().into_bytes()).into()
            }
        }
    }

    /// Fields that fit into a note.
    fn fitting(&self, mut fields: Map<String, Value>) -> Value {
        let size = |fields: &Map<String, Value>| serde_json::to_vec(fields).map_or(0, |bytes| bytes.len());
        if size(&fields) > FULL_NOTE {
            log::warn("the account has more fields than a note holds: options that nobody maps are left out");
            for (code, field) in &mut fields {
                let mapped = self.settings.custom.values().any(|custom| custom.field == *code);
                if let Some(members) = field.as_object_mut().filter(|_| !mapped) {
                    members.remove("options");
                    members.remove("name");
                }
            }
        }
        Value::Object(fields)
    }
}

/// A field's code, and what is worth knowing of it.
fn described(row: &Node<'_>) -> Option<(String, Value)> {
    let code = row.get("field_code").and_then(Node::as_str)?;
    let mut options = Map::new();
    for option in row.get("options").and_then(Node::as_list).unwrap_or_default() {
        if let (Some(id), Some(label)) =
            (option.get("id").and_then(Node::as_id), option.get("label").and_then(Node::as_str))
        {
            options.insert(id.to_owned(), json!(label));
        }
    }
    let flag = |name: &str, value: bool| row.get(name) == Some(&Node::Bool(value));
    let mut field = json!({
        "name": row.get("field_name").and_then(Node::as_str),
        "type": row.get("field_type").and_then(Node::as_str).unwrap_or_default(),
        "custom": flag("is_custom_field", true),
    });
    if let Some(members) = field.as_object_mut() {
        if !options.is_empty() {
            members.insert("options".to_owned(), Value::Object(options));
        }
        if flag("is_writable", false) {
            members.insert("read_only".to_owned(), json!(true));
        }
    }
    Some((code.to_owned(), field))
}
