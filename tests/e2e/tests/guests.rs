//! Providers that misbehave, beside connections under load: these do not notice.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::judge;
use tandem_e2e::ledger::{Act, Ledger, Side, key_of_document};
use tandem_e2e::people::person;
use tandem_e2e::{Error, process, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(90);
const GOOD: [&str; 3] = ["acme", "globex", "initech"];
/// Provider id and the file of its component.
const BAD: [(&str, &str); 4] =
    [("spin", "spin"), ("eat-memory", "eat_memory"), ("trap", "trap"), ("too-much", "too_much")];

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

fn move_in(house: &House, crm: &str) -> Result<(), Error> {
    for (id, file) in BAD {
        let component = process::component(&format!("examples/{file}.wasm"))?;
        std::fs::copy(component, house.folder.join("providers").join(format!("{id}.wasm")))?;
        house.secret(id, "token-of-a-guest")?;
        let text = format!(
            "provider = \"{id}\"\nscope = \"{id}\"\nbase_url = \"{crm}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
             auth = {{ scheme = \"token\", token = {{ file = \"../secrets/{id}\" }} }}\n[settings]\nbase-url = \"{crm}\"\n[objects.contact]\n"
        );
        std::fs::write(house.folder.join("connections").join(format!("{id}.toml")), text)?;
    }
    Ok(())
}

async fn row(house: &House, connection: &str) -> Result<Value, Error> {
    let status = house.get(&format!("/v1/status?connection={connection}")).await?;
    Ok(status.pointer("/connections/0").cloned().unwrap_or_default())
}

async fn load(
    house: &House,
    ledger: &Ledger,
    scope: &str,
    numbers: std::ops::Range<u64>,
) -> Result<(), Error> {
    let people: Vec<Value> = numbers.map(|number| person(scope, number)).collect();
    let lines: Vec<Value> =
        people.iter().map(|document| json!({"op": "create", "document": document})).collect();
    let answers = house.system_a(scope).batch(&lines).await?;
    for (document, answer) in people.iter().zip(&answers) {
        assert_eq!(answer.get("status"), Some(&json!(201)), "{answer}");
        let members = document.as_object().cloned().unwrap_or_default();
        ledger.note(scope, &key_of_document(document), Side::SystemA, Act::Wrote(members))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beside_misbehaving_guests_lose_nothing() -> Result<(), Error> {
    let mut house = House::build(Plan::roomy(&GOOD)).await?;
    house.stop().await?;
    move_in(&house, &empty_crm().await?)?;
    house.start().await?;
    let path = house.folder.join("ledger.ndjson");
    let ledger = Ledger::create(&path)?;
    for (id, _) in BAD {
        for number in 0..5 {
            let document = json!({"email": format!("p{number}@{id}.example"), "notes": "misbehave"});
            let taken = house.system_a(id).create(&document).await?;
            assert!(taken.status.is_success(), "{} {}", taken.status, taken.body);
        }
    }
    for scope in GOOD {
        load(&house, &ledger, scope, 0..100).await?;
    }
    for (id, _) in BAD {
        until(&format!("{id} is named with the cause fault"), LONG, async || {
            let row = row(&house, id).await?;
            Ok(if row.get("cause") == Some(&json!("fault")) { Ok(()) } else { Err(row.to_string()) })
        })
        .await?;
    }
    for scope in GOOD {
        load(&house, &ledger, scope, 100..200).await?;
    }
    for scope in GOOD {
        until(&format!("everything of {scope} has arrived"), LONG, async || {
            let row = row(&house, scope).await?;
            let undone = ["waiting", "delayed"]
                .iter()
                .filter_map(|it| row.get(it).and_then(Value::as_u64))
                .sum::<u64>();
            let there = house.customer(scope)?.account.list().await?.len();
            Ok(if there == 200 && undone == 0 {
                Ok(())
            } else {
                Err(format!("{there} there, {undone} undone"))
            })
        })
        .await?;
    }
    until("no webhook is under way", LONG, async || {
        let under_way = house.webhooks_under_way().await?;
        Ok(if under_way == 0 { Ok(()) } else { Err(under_way.to_string()) })
    })
    .await?;
    for scope in GOOD {
        until(&format!("{scope} is at rest"), LONG, async || {
            let row = row(&house, scope).await?;
            Ok(if row.get("freshness_ms") == Some(&Value::Null) { Ok(()) } else { Err(row.to_string()) })
        })
        .await?;
        let row = row(&house, scope).await?;
        assert_eq!((row.get("dead"), row.get("cause")), (Some(&json!(0)), Some(&json!("none"))), "{row}");
    }
    let mut evidence = house.evidence().await?;
    evidence.ledger = Ledger::read(&path)?;
    let report = judge(&evidence);
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.equal, 600, "{report:?}");
    assert_eq!(house.control.violations().await?.total, 0);
    assert!(!house.log().contains("PRIVATE-VALUE"), "what a guest says when it panics is not told");
    Ok(())
}
