//! Edit to visible with guests beside that misbehave at every record that they are given, and without them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::ledger::Side;
use tandem_e2e::{Error, process, until};
use tandem_simulator::control::types::QuotaSizes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::load::{self, Customer};
use crate::probe::Probe;

const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks of the probes.
const PAUSE: Duration = Duration::from_millis(20);
/// Each guest is given a record so often, and misbehaves at it on every try.
const FEED: Duration = Duration::from_millis(50);
/// They spin, eat memory, trap, and return too much.
const GUESTS: [&str; 4] = ["spin", "eat_memory", "trap", "too_much"];

/// What is measured twice.
pub(crate) struct Options {
    pub(crate) connections: usize,
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
}

/// The same load and the same probes, without the guests and then with them.
pub(crate) async fn measure(options: &Options) -> Result<Value, Error> {
    let scopes: Vec<String> = (0..=options.connections).map(|number| format!("b{number:04}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let plan = Plan {
        quota: QuotaSizes { burst: 100_000, daily: None, search: 50 },
        connection: "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 300000\n"
            .into(),
        ..Plan::roomy(&names)
    };
    let mut house = House::build(plan).await?;
    let probes = [
        Arc::new(Probe::new(&house, Side::SystemA, PATIENCE).await?),
        Arc::new(Probe::new(&house, Side::Account, PATIENCE).await?),
    ];
    let mut customers = load::fill(&house, 10, PATIENCE).await?;
    let _probed = customers.pop();

    let (without, customers) = run(&house, options, &probes, customers).await?;
    house.quiet(PATIENCE).await?;

    let _code = house.stop().await?;
    move_in(&house, &empty_crm().await?)?;
    house.start().await?;
    let ends = Arc::new(AtomicBool::new(false));
    let fed = Arc::new(AtomicU64::new(0));
    let scopes = GUESTS.map(|guest| house.system_a(&name(guest)));
    let feeding = tokio::spawn(feed(scopes, Arc::clone(&ends), Arc::clone(&fed)));
    for guest in GUESTS.map(name) {
        until(&format!("{guest} has misbehaved"), PATIENCE, async || {
            let status = house.get(&format!("/v1/status?connection={guest}")).await?;
            let cause = status.pointer("/connections/0/cause").cloned().unwrap_or_default();
            Ok(if cause == json!("fault") { Ok(()) } else { Err(cause.to_string()) })
        })
        .await?;
    }
    let (with, _customers) = run(&house, options, &probes, customers).await?;
    ends.store(true, Ordering::Relaxed);
    feeding.await??;
    let fed = fed.load(Ordering::Relaxed);
    let _code = house.stop().await?;
    Ok(json!({
        "connections": options.connections, "asked_per_second": options.rate, "seconds": options.seconds,
        "without": without, "with": with, "records_of_the_guests": fed,
    }))
}

async fn run(
    house: &House,
    options: &Options,
    probes: &[Arc<Probe>; 2],
    customers: Vec<Customer>,
) -> Result<(Value, Vec<Customer>), Error> {
    let time = Duration::from_secs(options.seconds);
    let end = Instant::now() + time;
    let [outward, inward] =
        probes.clone().map(|probe| tokio::spawn(async move { probe.run(end, PAUSE).await }));
    let (offered, customers) = load::offer(&house.control, customers, options.rate, time, 16).await?;
    let (outward, inward) = (outward.await??, inward.await??);
    let figures = json!({
        "records": offered.all(), "refused": offered.refused,
        "outward": outward.figures(), "inward": inward.figures(),
    });
    Ok((figures, customers))
}

/// What a guest's provider, connection and scope are called.
fn name(guest: &str) -> String {
    guest.replace('_', "-")
}

/// A connection of each guest.
fn move_in(house: &House, crm: &str) -> Result<(), Error> {
    for file in GUESTS {
        let id = name(file);
        let component = process::component(&format!("examples/{file}.wasm"))?;
        std::fs::copy(component, house.folder.join("providers").join(format!("{id}.wasm")))?;
        house.secret(&id, "token-of-a-guest")?;
        let text = format!(
            "provider = \"{id}\"\nscope = \"{id}\"\nbase_url = \"{crm}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
             auth = {{ scheme = \"token\", token = {{ file = \"../secrets/{id}\" }} }}\n[settings]\nbase-url = \"{crm}\"\n[objects.contact]\n"
        );
        std::fs::write(house.folder.join("connections").join(format!("{id}.toml")), text)?;
    }
    Ok(())
}

async fn feed(
    scopes: [tandem_e2e::system_a::SystemA; GUESTS.len()],
    ends: Arc<AtomicBool>,
    fed: Arc<AtomicU64>,
) -> Result<(), Error> {
    while !ends.load(Ordering::Relaxed) {
        let number = fed.fetch_add(1, Ordering::Relaxed);
        for scope in &scopes {
            let document = json!({"email": format!("p{number}@guest.example"), "notes": "misbehave"});
            let taken = scope.create(&document).await?;
            if !taken.status.is_success() {
                return Err(format!("refused: {} {}", taken.status, taken.body).into());
            }
        }
        tokio::time::sleep(FEED).await;
    }
    Ok(())
}

/// A CRM for the guests that answers everything with an empty object.
async fn empty_crm() -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0_u8; 16 * 1024];
                let _request = stream.read(&mut buffer).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                let _written = stream.write_all(answer).await;
            });
        }
    });
    Ok(format!("http://{address}"))
}
