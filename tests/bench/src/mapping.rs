//! The mapping in the sandbox beside the same mapping as native code.

use std::hint::black_box;
use std::time::Instant;

use provider_hubspot::HubSpot;
use serde_json::{Value, json};
use tandem::provider::{Offline, Setup};
use tandem_e2e::{Error, process};
use tandem_provider::Provider as _;

use crate::people;

const ROUNDS: u32 = 20_000;

/// Microseconds of each mapping of one record.
pub(crate) fn measure() -> Result<Value, Error> {
    let empty = || json!({});
    let setup = Setup { settings: empty(), facts: empty() };
    let mut offline = Offline::load(&process::component("provider_hubspot.wasm")?, &setup)?;
    let native = HubSpot::configure(&empty(), &empty()).map_err(|problems| format!("{problems:?}"))?;

    let canonical = people::document("bench", 1).to_string();
    let canonical = canonical.as_bytes();
    let mapped =
        native.to_provider("contact", canonical, None).map_err(|problems| format!("{problems:?}"))?;
    let mut document: Value = serde_json::from_slice(&mapped)?;
    if let Some(members) = document.as_object_mut() {
        members.insert("id".to_owned(), json!("1"));
    }
    let document = document.to_string();
    let document = document.as_bytes();
    let sandbox = offline.provider()?;

    // Both must say the same, or the comparison means nothing.
    let there =
        sandbox.to_provider("contact", canonical, None)?.map_err(|problems| format!("{problems:?}"))?;
    if serde_json::from_slice::<Value>(&there)? != serde_json::from_slice::<Value>(&mapped)? {
        return Err("the sandbox maps otherwise than the native provider".into());
    }
    let mut refused = 0_u32;
    let native_out = each(|| {
        refused += u32::from(black_box(native.to_provider("contact", black_box(canonical), None)).is_err());
    });
    let native_in = each(|| {
        refused += u32::from(black_box(native.to_canonical("contact", black_box(document))).is_err());
    });
    let sandbox_out = each(|| {
        refused += u32::from(!matches!(
            black_box(sandbox.to_provider("contact", black_box(canonical), None)),
            Ok(Ok(_))
        ));
    });
    let sandbox_in = each(|| {
        refused +=
            u32::from(!matches!(black_box(sandbox.to_canonical("contact", black_box(document))), Ok(Ok(_))));
    });
    if refused > 0 {
        return Err(format!("{refused} mappings were refused").into());
    }
    Ok(json!({
        "bytes": canonical.len(),
        "to_provider": {"native_us": native_out, "sandbox_us": sandbox_out, "ratio": sandbox_out / native_out},
        "to_canonical": {"native_us": native_in, "sandbox_us": sandbox_in, "ratio": sandbox_in / native_in},
    }))
}

/// The least of five means: others use the machine too, and they only ever add.
fn each(mut act: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..ROUNDS / 5 {
            act();
        }
        least = least.min(began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS / 5));
    }
    least
}
