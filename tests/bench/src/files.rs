//! Many connections' files: how long a start takes with them, one changed file, and a swap of the provider of all of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::{other_starter, starter, write_whole};
use tandem_e2e::{Error, until};

const SOON: Duration = Duration::from_secs(300);

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// All of them are customers of one account, which is not asked again within the hour: what is measured is the daemon.
pub(crate) async fn measure(count: usize) -> Result<Value, Error> {
    let mut house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("c0", "").await?;
    running(&house, 1).await?;
    house.stop().await?;
    let text = |name: &str| {
        house
            .rest_connection("c0", "[objects.contact]\npoll_every = \"1h\"\n")
            .replace("scope = \"c0\"", &format!("scope = \"{name}\""))
            .replace("account = \"c0\"", &format!("account = \"{name}\""))
    };
    for number in 0..count {
        let name = format!("c{number}");
        std::fs::write(house.connection_path(&name), text(&name))?;
    }
    let changed = text("c1").replace("[objects.contact]", "[objects.contact]\non_conflict = \"external\"");
    let began = Instant::now();
    house.start().await?;
    let ready_ms = millis(began);
    running(&house, count).await?;
    let all_running_ms = millis(began);
    house.quiet(SOON).await?;

    let live = || house.log().matches("a connection works with its changed file").count();
    let before = live();
    let began = Instant::now();
    write_whole(&house.connection_path("c1"), &changed)?;
    until("the changed file is live", SOON, async || {
        Ok(if live() > before { Ok(()) } else { Err(String::new()) })
    })
    .await?;
    let changed_ms = millis(began);

    let first = house.serving("starter").await?;
    let began = Instant::now();
    house.drop_in("starter.wasm", &other_starter()?)?;
    until("the other version serves", SOON, async || {
        let now = house.serving("starter").await?;
        Ok(if now == first { Err(now) } else { Ok(()) })
    })
    .await?;
    let swapped_ms = millis(began);
    house.stop().await?;
    Ok(json!({
        "connections": count,
        "start_to_ready_ms": ready_ms,
        "start_to_all_running_ms": all_running_ms,
        "one_changed_file_ms": changed_ms,
        "swap_of_their_provider_ms": swapped_ms,
    }))
}

/// Waits until so many connections are known and none is refused.
async fn running(house: &House, count: usize) -> Result<(), Error> {
    until(&format!("{count} connections run"), SOON, async || {
        let status = house.get("/v1/status").await?;
        let rows = status.get("connections").and_then(Value::as_array).map_or(0, Vec::len);
        let stopped = status.to_string().matches("\"stopped\"").count();
        Ok(if rows == count && stopped == 0 {
            Ok(())
        } else {
            Err(format!("{rows} known, {stopped} stopped"))
        })
    })
    .await
}
