//! Tells what it can see of the machine: clock, randomness, environment, arguments, files.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};
use tandem_guests::bindings::tandem::provider::types::{Answer, Context, Operation, Reply};
use tandem_guests::{Behaviour, guest};

/// Reports its surroundings as facts.
pub struct LooksAround;

impl Behaviour for LooksAround {
    const ID: &'static str = "looks-around";

    fn start(_operation: Operation, context: Context) -> Reply {
        let before = Instant::now();
        let seeded: HashMap<u32, u32> = (0..64).map(|n| (n, n)).collect();
        let order: Vec<u32> = seeded.keys().copied().collect();
        let wall =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let facts = json!({
            "now": context.now,
            "wall": u64::try_from(wall).unwrap_or_default(),
            "elapsed": u64::try_from(before.elapsed().as_nanos()).unwrap_or_default(),
            "order": order,
            "environment": std::env::vars().map(|(name, _)| Value::String(name)).collect::<Vec<_>>(),
            "arguments": std::env::args().collect::<Vec<_>>(),
            "root": std::fs::read_dir("/").is_ok(),
            "passwd": std::fs::read("/etc/passwd").is_ok(),
            "written": std::fs::write("/tmp/tandem-guest", b"here").is_ok(),
        });
        Reply { answer: Answer::Facts(facts.to_string().into_bytes()), quotas: Vec::new() }
    }
}

guest!(LooksAround);
