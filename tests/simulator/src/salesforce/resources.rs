//! What an org says about its interface: versions, resources, limits and the description of contacts.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::contact::User;
use super::route::VERSIONS;
use super::{Context, Done};

/// `Spring '24` of version 60.
fn season(version: u32) -> String {
    // Three releases a year, the last one named for the year that follows.
    let since = i64::from(version) - 60;
    let (year, nth) = (24 + since.div_euclid(3), since.rem_euclid(3));
    match nth {
        0 => format!("Spring '{year:02}"),
        1 => format!("Summer '{year:02}"),
        _ => format!("Winter '{:02}", year + 1),
    }
}

pub(super) fn versions() -> Done {
    let list: Vec<Value> = VERSIONS
        .map(|version| {
            json!({ "label": season(version), "url": format!("/services/data/v{version}.0"), "version": format!("{version}.0") })
        })
        .collect();
    Done::json(StatusCode::OK, &list)
}

impl Context<'_> {
    fn base(&self) -> String {
        format!("/services/data/{}", self.version)
    }

    pub(super) fn resources(&self) -> Done {
        let base = self.base();
        let mut body = Map::new();
        for name in ["composite", "limits", "query", "queryAll", "sobjects"] {
            body.insert(name.to_owned(), format!("{base}/{name}").into());
        }
        body.insert(
            "identity".to_owned(),
            super::oauth::identity_url(self.world(), self.org, User::Integration).into(),
        );
        Done::json(StatusCode::OK, &body)
    }

    pub(super) fn limits(&self) -> Done {
        let mut quota = self.org.quota.lock();
        let (used, daily) = (quota.used(self.now), quota.limits.daily);
        let one = |most: u32, left: u32| json!({ "Max": most, "Remaining": left });
        let body = json!({
            "DailyApiRequests": one(daily, daily.saturating_sub(used)),
            "DailyBulkApiBatches": one(15_000, 15_000),
            "DataStorageMB": one(1_024, 1_000),
            "FileStorageMB": one(1_024, 1_000),
            "SingleEmail": one(5_000, 5_000),
        });
        Done::json(StatusCode::OK, &body)
    }

    fn urls(&self) -> Value {
        let base = format!("{}/sobjects/Contact", self.base());
        json!({
            "describe": format!("{base}/describe"),
            "rowTemplate": format!("{base}/{{ID}}"),
            "sobject": base,
        })
    }

    fn about(&self) -> Map<String, Value> {
        let mut about = Map::new();
        for (name, value) in [
            ("createable", json!(true)),
            ("custom", json!(false)),
            ("customSetting", json!(false)),
            ("deletable", json!(true)),
            ("keyPrefix", json!(super::ids::CONTACT)),
            ("label", json!("Contact")),
            ("labelPlural", json!("Contacts")),
            ("mergeable", json!(true)),
            ("name", json!("Contact")),
            ("queryable", json!(true)),
            ("replicateable", json!(true)),
            ("retrieveable", json!(true)),
            ("searchable", json!(false)),
            ("triggerable", json!(true)),
            ("undeletable", json!(true)),
            ("updateable", json!(true)),
            ("urls", self.urls()),
        ] {
            about.insert(name.to_owned(), value);
        }
        about
    }

    pub(super) fn objects(&self) -> Done {
        let body = json!({ "encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [self.about()] });
        Done::json(StatusCode::OK, &body)
    }

    pub(super) fn object_info(&self) -> Done {
        Done::json(StatusCode::OK, &json!({ "objectDescribe": self.about(), "recentItems": [] }))
    }

    pub(super) fn describe(&self) -> Done {
        let mut body = self.about();
        body.insert("childRelationships".to_owned(), json!([]));
        body.insert("fields".to_owned(), self.org.contacts.lock().schema.describe().into());
        body.insert("recordTypeInfos".to_owned(), json!([]));
        Done::json(StatusCode::OK, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_the_names_of_their_seasons() {
        for (version, name) in [
            (31, "Summer '14"),
            (45, "Spring '19"),
            (60, "Spring '24"),
            (61, "Summer '24"),
            (62, "Winter '25"),
        ] {
            assert_eq!(season(version), name);
        }
    }
}
