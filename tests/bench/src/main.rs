//! The benchmark: the real daemon, the simulator and a generator on one machine and a real disk; figures from outside.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod beside;
mod calls;
mod cpu;
mod enqueue;
mod files;
mod load;
mod mapping;
mod people;
mod probe;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tandem_e2e::Error;
use tandem_e2e::house::{House, Plan, is_in_memory};
use tandem_e2e::ledger::Side;
use tandem_simulator::control::types::{Counts, QuotaSizes};

use cpu::Usage;
use load::Offered;
use probe::Probe;

/// As in the daemon, so that the generator's share of the machine is not the allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Tandem: the full path under load, edit to visible, durable intake, the sandbox beside native code.
///
/// Generator and simulator run on the same processors as the daemon; their share is printed beside it. No time is asserted:
/// the design's targets are printed beside the figures. A run in which records were lost, refused or left over, or sides
/// differ, is no measurement: it says what was wrong and ends with 1.
#[derive(Parser)]
struct Options {
    /// Records a second that are offered on the full path: somewhat more than the floor of 3,472, so that it can be sustained with
    /// the time of draining counted in.
    #[arg(long, default_value_t = 3_550)]
    rate: u64,
    /// Seconds of load on the full path.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Connections, each a customer with a scope and an account; one more is made for the probes.
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
    /// Records of each customer to begin with.
    #[arg(long, default_value_t = 10)]
    records: u64,
    /// Workers of the generator.
    #[arg(long, default_value_t = 64)]
    workers: usize,
    /// Seconds that a backlog may take to go after the load; what is left then is printed.
    #[arg(long, default_value_t = 60)]
    drain: u64,
    /// Seconds of durable intake.
    #[arg(long, default_value_t = 10)]
    intake_seconds: u64,
    /// Changes of each kind whose calls are counted.
    #[arg(long, default_value_t = 200)]
    changes: u64,
    /// Seconds of the bare HTTP loop.
    #[arg(long, default_value_t = 5)]
    bare_seconds: u64,
    /// Connections beside the guests that misbehave.
    #[arg(long, default_value_t = 100)]
    beside_connections: usize,
    /// Records a second that are offered to them.
    #[arg(long, default_value_t = 300)]
    beside_rate: u64,
    /// Seconds of load with the guest, and as many without it.
    #[arg(long, default_value_t = 20)]
    beside_seconds: u64,
    /// Files of connections that the daemon is started with.
    #[arg(long, default_value_t = 10_000)]
    files: usize,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_parser = ["path", "intake", "mapping", "calls", "beside", "files"])]
    only: Vec<String>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let measured = tokio::select! {
        measured = measure(&options) => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match measured {
        Ok(figures) => {
            if options.json {
                println!("{figures:#}");
            } else {
                show(&figures);
            }
            let wrong = wrong(&figures);
            for line in &wrong {
                println!("wrong: {line}");
            }
            if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("the benchmark failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<Value, Error> {
    let wants = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut figures = json!({
        "machine": {
            "processors": std::thread::available_parallelism()?.get(),
            "load_before": load_average()?,
        }
    });
    let mut put = |part: &str, value: Value| {
        if let Some(members) = figures.as_object_mut() {
            members.insert(part.to_owned(), value);
        }
    };
    if wants("mapping") {
        put("mapping", tokio::task::spawn_blocking(mapping::measure).await??);
    }
    if wants("intake") {
        put("intake", enqueue::measure(options.intake_seconds).await?);
    }
    if wants("calls") {
        put("calls", calls::measure(options.changes, Duration::from_secs(options.bare_seconds)).await?);
    }
    if wants("beside") {
        let beside = beside::Options {
            connections: options.beside_connections,
            rate: options.beside_rate,
            seconds: options.beside_seconds,
        };
        put("beside", beside::measure(&beside).await?);
    }
    if wants("files") {
        put("files", files::measure(options.files).await?);
    }
    if wants("path") {
        put("path", full_path(options).await?);
    }
    Ok(figures)
}

/// What makes the figures of the full path worthless: their pointers, with what stands there instead of 0.
fn wrong(figures: &Value) -> Vec<String> {
    const NONE: [&str; 7] = [
        "/path/backlog/left",
        "/path/errors/refused",
        "/path/errors/set_aside",
        "/path/errors/under_review",
        "/path/errors/violations",
        "/path/errors/throttled",
        "/path/errors/diverged",
    ];
    let found = NONE.into_iter().filter_map(|pointer| Some((pointer, figures.pointer(pointer)?)));
    found
        .filter(|(_, value)| value.as_u64() != Some(0))
        .map(|(pointer, value)| format!("{pointer} is {value}"))
        .collect()
}

/// What others did to the machine meanwhile.
fn load_average() -> Result<String, Error> {
    Ok(std::fs::read_to_string("/proc/loadavg")?.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// Processor microseconds of each record by thread class.
pub(crate) fn by_thread(used: &Usage, records: u64) -> Value {
    let each = |seconds: f64| json!(seconds * 1e6 / records.max(1) as f64);
    Value::Object(used.threads.iter().map(|(name, used)| (name.clone(), each(*used))).collect())
}

async fn full_path(options: &Options) -> Result<Value, Error> {
    let scopes: Vec<String> = (0..=options.connections).map(|number| format!("c{number:05}")).collect();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    // Webhooks carry the load; the poll only closes gaps, at the pace that HubSpot's search limits allow for.
    let plan = Plan {
        quota: QuotaSizes { burst: 100_000, daily: None, search: 50 },
        connection: "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 300000\n"
            .into(),
        ..Plan::roomy(&names)
    };
    let patience = Duration::from_secs(300);
    let began = Instant::now();
    let house = House::build(plan).await?;
    if is_in_memory(&house.folder)? {
        return Err("durable figures are not taken in memory: build into a folder on a real disk".into());
    }
    let ready = began.elapsed().as_secs_f64();
    let from_here = Probe::new(&house, Side::SystemA, patience).await?;
    let from_there = Probe::new(&house, Side::Account, patience).await?;
    let began = Instant::now();
    let mut customers = load::fill(&house, options.records, patience).await?;
    let filled = began.elapsed().as_secs_f64();
    // The last customer is the probe's.
    let _probed = customers.pop();

    let pids = (
        house.daemon_pid().ok_or("the daemon does not run")?,
        house.simulator_pid().ok_or("the simulator does not run")?,
        std::process::id(),
    );
    let usages = || Ok::<_, Error>((Usage::of(pids.0)?, Usage::of(pids.1)?, Usage::of(pids.2)?));
    let calls = house.control.counts().await?;
    let before = usages()?;
    let time = Duration::from_secs(options.seconds);
    let began = Instant::now();
    let pause = Duration::from_millis(20);
    let from_here = tokio::spawn(async move { from_here.run(began + time, pause).await });
    let from_there = tokio::spawn(async move { from_there.run(began + time, pause).await });
    let (offered, customers) =
        load::offer(&house.control, customers, options.rate, time, options.workers).await?;
    let offering = began.elapsed().as_secs_f64();
    let backlog = house.undone().await?;
    let hooks = house.webhooks_under_way().await?;
    let rest = Instant::now();
    let drained = house.quiet(Duration::from_secs(options.drain)).await;
    let draining = rest.elapsed().as_secs_f64();
    let after = usages()?;
    let left = house.undone().await?;
    let calls_after = house.control.counts().await?;
    let (outward, inward) = (from_here.await??, from_there.await??);
    let (looked, wrong) = load::diverged(&house, &customers, 100).await?;
    let load = load_average()?;
    let listed = |value: &Value| {
        let rows = value.as_array().or_else(|| value.as_object()?.values().find_map(Value::as_array));
        rows.map_or(0, Vec::len)
    };
    let dead = listed(&house.get("/v1/dead?limit=10000").await?);
    let review = listed(&house.get("/v1/review?limit=10000").await?);
    let violations = house.control.violations().await?.total;

    let all = offered.all();
    let daemon = after.0.since(&before.0);
    let each = |seconds: f64| seconds * 1e6 / all.max(1) as f64;
    let made = calls_after.total_calls() - calls.total_calls();
    Ok(json!({
        "asked_per_second": options.rate, "seconds": options.seconds, "connections": options.connections,
        "ready_s": ready, "fill_s": filled, "fill_records": options.records * (options.connections as u64 + 1),
        "load_after": load,
        "offered": {
            "records": all, "per_second": all as f64 / offering, "outward": offered.outward, "inward": offered.inward,
            "updates": offered.updates, "creates": offered.creates, "deletes": offered.deletes, "no_ops": offered.no_ops,
        },
        "sustained_per_second": all.saturating_sub(left) as f64 / (offering + draining),
        "changes_per_second": offered.changes().saturating_sub(left) as f64 / (offering + draining),
        "backlog": {"hints": backlog, "webhook_events": hooks, "drained": drained.is_ok(), "drain_s": draining, "left": left},
        "errors": {
            "refused": offered.refused, "first_refusal": offered.first_refusal, "set_aside": dead, "under_review": review,
            "violations": violations, "throttled": calls_after.throttled() - calls.throttled(),
            "compared": looked, "diverged": wrong,
        },
        "cpu_us_per_record": {
            "daemon": each(daemon.total), "simulator": each(after.1.since(&before.1).total),
            "generator": each(after.2.since(&before.2).total),
        },
        "daemon_us_by_thread": by_thread(&daemon, all),
        "calls": calls_made(&calls, &calls_after, &offered, made),
        "edit_to_visible": {"outward": outward.figures(), "inward": inward.figures()},
    }))
}

fn calls_made(before: &Counts, after: &Counts, offered: &Offered, made: u64) -> Value {
    json!({
        "all": made, "per_change": made as f64 / offered.changes().max(1) as f64,
        "by_operation": by_operation(before, after),
    })
}

/// Calls since `before`; operations that were not called are left out.
pub(crate) fn by_operation(before: &Counts, after: &Counts) -> Value {
    let counts = after.operations.keys().map(|name| (name.clone(), after.calls(name) - before.calls(name)));
    Value::Object(counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name, json!(count))).collect())
}

fn show(figures: &Value) {
    let number = |pointer: &str| figures.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let text = |pointer: &str| figures.pointer(pointer).map(ToString::to_string).unwrap_or_default();
    let row = |name: &str, value: String, target: &str| println!("{name:<44} {value:>24}   {target}");
    let list = |pointer: &str, unit: &str| {
        let mut rows: Vec<(&String, f64)> = figures
            .pointer(pointer)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, value.as_f64().unwrap_or(f64::NAN)))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (name, value) in rows {
            row(&format!("    {name}"), format!("{value:.1}{unit}"), "");
        }
    };
    row("figure", "measured".into(), "target");
    row(
        "processors; load before",
        format!("{}; {}", text("/machine/processors"), text("/machine/load_before")),
        "",
    );
    if figures.get("mapping").is_some() {
        println!("\nmapping of one record, the least of five means (built as it is: see the README)");
        for way in ["to_provider", "to_canonical"] {
            let at = |name: &str| number(&format!("/mapping/{way}/{name}"));
            row(
                &format!("  {way}: native, sandbox"),
                format!("{:.1} us, {:.1} us", at("native_us"), at("sandbox_us")),
                "",
            );
            row("    ratio", format!("{:.2}", at("ratio")), "1.5 at most");
        }
    }
    if figures.get("intake").is_some() {
        println!("\ndurable intake (NDJSON creates, no connection)");
        row("  records/s", format!("{:.0}", number("/intake/per_second")), "");
        row("  refused", text("/intake/refused"), "0");
        row("  daemon CPU for each record", format!("{:.1} us", number("/intake/cpu_us_per_record")), "");
        list("/intake/cpu_us_by_thread", " us");
    }
    if figures.get("files").is_some() {
        println!("\nfiles of connections: {}", text("/files/connections"));
        row("  from the start to ready", format!("{} ms", text("/files/start_to_ready_ms")), "");
        row(
            "  one changed file is live after",
            format!("{} ms", text("/files/one_changed_file_ms")),
            "1,000 ms",
        );
        row(
            "  another version serves all after",
            format!("{} ms", text("/files/swap_of_their_provider_ms")),
            "",
        );
    }
    if figures.get("calls").is_some() {
        println!("\ncalls for each converged change, one kind at a time");
        let targets = [
            ("create_out", "1"),
            ("update_out", "1.05"),
            ("update_out_unheard", "1.05; no webhooks"),
            ("echo", "0"),
            ("unchanged_out", "0"),
            ("update_in", "1, the read"),
            ("unchanged_in", "0"),
            ("create_in", "2, with the key's write"),
            ("delete_in", "1, the confirmation"),
            ("delete_out", "1"),
        ];
        for (kind, target) in targets {
            let each = number(&format!("/calls/by_change/{kind}/per_change"));
            row(&format!("  {}", kind.replace('_', " ")), format!("{each:.2}"), target);
            list(&format!("/calls/by_change/{kind}/by_operation"), "");
        }
        println!("\nbare HTTP: one record read over and over by the daemon's HTTP library, no Tandem");
        row("  calls/s", format!("{:.0}", number("/calls/bare/per_second")), "");
        row(
            "  CPU for each call: client, simulator",
            format!(
                "{:.1} us, {:.1} us",
                number("/calls/bare/cpu_us_per_call/client"),
                number("/calls/bare/cpu_us_per_call/simulator")
            ),
            "",
        );
    }
    if figures.get("beside").is_some() {
        println!(
            "\nbeside guests that spin, eat memory, trap and return too much: {} connections, {}/s",
            text("/beside/connections"),
            text("/beside/asked_per_second")
        );
        for way in ["outward", "inward"] {
            for when in ["without", "with"] {
                let at = |name: &str| number(&format!("/beside/{when}/{way}/{name}"));
                row(
                    &format!("  edit to visible, {way}, {when}: p50, p99"),
                    format!("{:.1} ms, {:.1} ms", at("p50_ms"), at("p99_ms")),
                    "",
                );
                row("    samples, not seen", format!("{:.0}, {:.0}", at("samples"), at("not_seen")), "");
            }
        }
        row("  records that each was given", text("/beside/records_of_the_guests"), "");
    }
    if figures.get("path").is_some() {
        show_path(&number, &text, &row, &list);
    }
}

fn show_path(
    number: &dyn Fn(&str) -> f64,
    text: &dyn Fn(&str) -> String,
    row: &dyn Fn(&str, String, &str),
    list: &dyn Fn(&str, &str),
) {
    println!(
        "\nfull path: {} connections, {}/s asked for {} s; load after {}",
        text("/path/connections"),
        text("/path/asked_per_second"),
        text("/path/seconds"),
        text("/path/load_after")
    );
    row("  ready with all connections", format!("{:.1} s", number("/path/ready_s")), "");
    row("  first fill", format!("{:.0}/s", number("/path/fill_records") / number("/path/fill_s")), "");
    row("  offered records/s", format!("{:.0}", number("/path/offered/per_second")), "");
    row(
        "  sustained records/s, drain included",
        format!("{:.0}", number("/path/sustained_per_second")),
        "3,472; 17,360 later",
    );
    row(
        "    of them changes, without what changes nothing",
        format!("{:.0}", number("/path/changes_per_second")),
        "",
    );
    row(
        "  backlog at the end: hints, webhook events",
        format!("{}, {}", text("/path/backlog/hints"), text("/path/backlog/webhook_events")),
        "",
    );
    row(
        "  drained after",
        format!("{:.1} s, left {}", number("/path/backlog/drain_s"), text("/path/backlog/left")),
        "",
    );
    let errors = ["refused", "set_aside", "under_review", "violations", "throttled", "diverged"];
    for name in errors {
        row(&format!("  {}", name.replace('_', " ")), text(&format!("/path/errors/{name}")), "0");
    }
    row("  records compared on both sides", text("/path/errors/compared"), "");
    row(
        "  daemon CPU for each record",
        format!("{:.1} us", number("/path/cpu_us_per_record/daemon")),
        "60 us",
    );
    list("/path/daemon_us_by_thread", " us");
    row(
        "  simulator CPU for each record",
        format!("{:.1} us", number("/path/cpu_us_per_record/simulator")),
        "",
    );
    row(
        "  generator CPU for each record",
        format!("{:.1} us", number("/path/cpu_us_per_record/generator")),
        "",
    );
    row(
        "  calls for each change",
        format!("{:.2}", number("/path/calls/per_change")),
        "update 1.05, create 1 or 2",
    );
    list("/path/calls/by_operation", "");
    for way in ["outward", "inward"] {
        let at = |name: &str| number(&format!("/path/edit_to_visible/{way}/{name}"));
        row(
            &format!("  edit to visible, {way}: p50, p99"),
            format!("{:.1} ms, {:.1} ms", at("p50_ms"), at("p99_ms")),
            "10 ms, 50 ms",
        );
        row("    samples, not seen", format!("{:.0}, {:.0}", at("samples"), at("not_seen")), "");
    }
    if text("/path/errors/first_refusal") != "null" {
        println!("  first refusal: {}", text("/path/errors/first_refusal"));
    }
}
