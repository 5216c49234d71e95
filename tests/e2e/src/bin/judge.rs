//! The judge as a program of its own: it knows the ledger and the public APIs, and nothing else.
//!
//! `tandem-judge CASE.json`, where CASE.json is `{"daemon", "token", "api", "ledger", "customers": [{"scope", "token"}]}`. Prints the
//! report; exit code 0 only when no record fails.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::process::ExitCode;

use serde::Deserialize;
use tandem_e2e::account::Account;
use tandem_e2e::judge::{Evidence, Seen, add_reviews, add_set_aside, judge};
use tandem_e2e::ledger::Ledger;
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, client};

#[derive(Deserialize)]
struct Case {
    daemon: String,
    token: String,
    api: String,
    ledger: std::path::PathBuf,
    customers: Vec<Customer>,
}

#[derive(Deserialize)]
struct Customer {
    scope: String,
    token: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            println!("judge: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<ExitCode, Error> {
    let path = std::env::args().nth(1).ok_or("usage: tandem-judge CASE.json")?;
    let case: Case = serde_json::from_slice(&std::fs::read(path)?)?;
    let client = client()?;
    let mut evidence = Evidence { ledger: Ledger::read(&case.ledger)?, ..Evidence::default() };
    for customer in &case.customers {
        let system_a = SystemA::new(client.clone(), &case.daemon, &case.token, &customer.scope);
        evidence.system_a.insert(customer.scope.clone(), system_a.list().await?);
        let account = Account::new(client.clone(), &case.api, &customer.token);
        let seen = Seen { scope: customer.scope.clone(), contacts: account.list().await?, ..Seen::default() };
        evidence.accounts.insert(customer.scope.clone(), seen);
    }
    for (path, add) in
        [("/v1/review", add_reviews as fn(&mut Evidence, &serde_json::Value)), ("/v1/dead", add_set_aside)]
    {
        let answer = client
            .get(format!("{}{path}?limit=10000", case.daemon))
            .bearer_auth(&case.token)
            .send()
            .await?
            .error_for_status()?;
        add(&mut evidence, &answer.json().await?);
    }
    let report = judge(&evidence);
    println!("{report}");
    for failure in report.failures.iter().take(20) {
        println!("  {failure}");
    }
    if report.failures.len() > 20 {
        println!("  … and {} more", report.failures.len() - 20);
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
