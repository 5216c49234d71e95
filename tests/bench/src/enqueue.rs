//! Durable intake: NDJSON creates that no connection waits for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::Error;
use tandem_e2e::house::{House, Plan, is_in_memory};

use crate::cpu::Usage;
use crate::people;

const SCOPE: &str = "intake";
const STREAMS: u64 = 8;
const LINES: u64 = 500;

/// Creates for so many seconds over eight requests at a time; each answer line is after its sync.
pub(crate) async fn measure(seconds: u64) -> Result<Value, Error> {
    let mut house = House::build(Plan::roomy(&["unused"])).await?;
    if is_in_memory(&house.folder)? {
        return Err("durable figures are not taken in memory: build into a folder on a real disk".into());
    }
    // The one connection of the house is of another scope.
    let pid = house.daemon_pid().ok_or("the daemon does not run")?;
    let before = Usage::of(pid)?;
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let streams: Vec<_> = (0..STREAMS)
        .map(|stream| {
            let system_a = house.system_a(SCOPE);
            tokio::spawn(async move {
                let (mut taken, mut refused, mut next) = (0_u64, 0_u64, stream * 100_000_000);
                while Instant::now() < end {
                    let lines: Vec<Value> = (next..next + LINES)
                        .map(|number| json!({"op": "create", "document": people::document(SCOPE, number)}))
                        .collect();
                    next += LINES;
                    for answer in system_a.batch(&lines).await? {
                        if answer.get("status").and_then(Value::as_u64) == Some(201) {
                            taken += 1;
                        } else {
                            refused += 1;
                        }
                    }
                }
                Ok::<_, Error>((taken, refused))
            })
        })
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for stream in streams {
        let (more, less) = stream.await??;
        taken += more;
        refused += less;
    }
    let took = began.elapsed().as_secs_f64();
    let used = Usage::of(pid)?.since(&before);
    let _code = house.stop().await?;
    Ok(json!({
        "records": taken, "refused": refused, "seconds": took, "per_second": taken as f64 / took,
        "cpu_us_per_record": used.total * 1e6 / (taken.max(1)) as f64,
        "cpu_us_by_thread": crate::by_thread(&used, taken),
    }))
}
