//! Account information: details and today's use of the API.

use http::StatusCode;
use serde_json::json;

use super::errors::ApiError;
use super::{Context, Done};
use crate::clock::iso;

impl Context<'_> {
    pub(super) fn details(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let offset = jiff::Timestamp::from_millisecond(self.now)
            .map_or(0, |at| self.account.tz.to_offset(at).seconds());
        let sign = if offset < 0 { '-' } else { '+' };
        let minutes = offset.unsigned_abs() / 60;
        Ok(Done::json(
            StatusCode::OK,
            &json!({
                "portalId": self.account.portal,
                "accountType": "STANDARD",
                "timeZone": self.account.zone,
                "companyCurrency": self.account.currency,
                "additionalCurrencies": [],
                "utcOffset": format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60),
                "utcOffsetMilliseconds": i64::from(offset) * 1000,
                "uiDomain": "app.hubspot.com",
                "dataHostingLocation": "na1",
            }),
        ))
    }

    pub(super) fn usage(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let mut quota = self.account.quota.lock();
        let (today, midnight) = quota.today(self.now);
        let results: Vec<_> = quota
            .sizes()
            .daily
            .map(|limit| {
                json!({
                    "name": "private-apps-api-calls-daily",
                    "usageLimit": limit,
                    "currentUsage": today,
                    "collectedAt": iso(self.now),
                    "fetchStatus": "SUCCESS",
                    "resetsAt": iso(midnight),
                })
            })
            .into_iter()
            .collect();
        Ok(Done::json(StatusCode::OK, &json!({ "results": results })))
    }
}
