//! `tandem check`: the configuration, the providers, and each connection against its provider. Nothing is written and no port opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tandem_core::descriptor::{AuthKind, Guarantee, Verify, Webhooks};
use tandem_core::id::{ConnectionId, ProviderId};

use super::args;
use super::failure::{FAILED, Failure, USAGE};
use super::live;
use super::online::pretty;
use super::room::Room;
use crate::admin::view::Probe;
use crate::config::{Config, ConnectionConfig, Connections, Credential, Secret};
use crate::provider::{Providers, Setup, View};

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Nothing is wrong.
    ok: bool,
    /// What is wrong with the files: place, what, way out.
    configuration: Vec<String>,
    /// Each provider's file: its label, or what is wrong.
    providers: Vec<Checked>,
    /// Each connection: what is wrong with it and its provider together.
    connections: Vec<Checked>,
    /// What each connection's CRM said; only with `--live`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live: Vec<Probe>,
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
struct Checked {
    /// What: a connection, or a provider's label or file.
    name: String,
    /// What is wrong. Empty: nothing.
    problems: Vec<String>,
    /// What is worth knowing.
    notes: Vec<String>,
}

/// Checks, and answers what is printed.
pub(super) fn check(file: &Path, asked: &args::Check, json: bool) -> Result<String, Failure> {
    let config = Config::load(file)?;
    let connections = Connections::load(&config)?;
    let mut report = Report::default();
    let wanted = |id: &ConnectionId| {
        asked.connections.is_empty() || asked.connections.iter().any(|name| name == id.as_str())
    };
    for name in &asked.connections {
        let known = |id: &ConnectionId| id.as_str() == name;
        if !connections.good.keys().any(known) && !connections.bad.iter().any(|bad| known(&bad.id)) {
            let folder = config.connections_dir.display();
            return Err(Failure::usage(format!(
                "there is no connection {name:?}: no file {name}.toml in {folder}"
            )));
        }
    }
    let bad = connections.bad.iter().filter(|bad| wanted(&bad.id));
    report.configuration.extend(bad.flat_map(|bad| &bad.findings).map(ToString::to_string));
    let good: BTreeMap<_, _> = connections.good.iter().filter(|(id, _)| wanted(id)).collect();
    let secrets = config.secrets().chain(good.values().flat_map(|connection| connection.all_secrets()));
    report.configuration.extend(unreadable(secrets));
    if report.configuration.is_empty()
        && let Err(error) = crate::admin::Tokens::read(&config.auth)
    {
        report.configuration.extend(error.findings.iter().map(ToString::to_string));
    }
    let providers = Providers::start(&Room::of(&config).config).map_err(|error| Failure::new(&error))?;
    let usable = check_providers(&config, &providers, &good, &mut report);
    if asked.live {
        report.live = super::on_one_thread(live::probe(&config, &providers, &usable))?;
    }

    let broken =
        report.providers.iter().chain(&report.connections).any(|checked| !checked.problems.is_empty());
    let refused = report.live.iter().flat_map(|probe| &probe.steps).any(|step| !step.ok);
    report.ok = report.configuration.is_empty() && !broken && !refused;
    let text = if json {
        pretty(&serde_json::to_value(&report).map_err(|error| Failure::new(&error))?)?
    } else {
        show(file, &report)
    };
    if report.ok {
        return Ok(text);
    }
    // What was found is what was asked for: it goes to standard output, as JSON does.
    super::print(&text)?;
    let status = if report.configuration.is_empty() { FAILED } else { USAGE };
    Err(Failure { status, text: String::new() })
}

fn unreadable<'c>(secrets: impl Iterator<Item = &'c Secret>) -> impl Iterator<Item = String> {
    // The secrets of an app are those of all its connections: each is named once.
    let findings: BTreeSet<String> =
        secrets.filter_map(|secret| secret.read().err()).map(|finding| finding.to_string()).collect();
    findings.into_iter()
}

/// Answers the connections that could be made.
fn check_providers(
    config: &Config,
    providers: &Providers,
    connections: &BTreeMap<&ConnectionId, &Arc<ConnectionConfig>>,
    report: &mut Report,
) -> Vec<(Arc<ConnectionConfig>, Arc<View>)> {
    if !config.providers_dir.is_dir() {
        let folder = config.providers_dir.display();
        report.configuration.push(format!(
            "{}: providers_dir: folder {folder} is not there; make it, or name another",
            config.file.display()
        ));
        return Vec::new();
    }
    let loaded = providers.load_folder_blocking(&config.providers_dir);
    for version in &loaded.versions {
        let notes = vec![version.file.display().to_string()];
        report.providers.push(Checked { name: version.label.to_string(), problems: Vec::new(), notes });
    }
    for error in &loaded.errors {
        let problems = vec![format!("{}: {}; {}", error.step, error.reason, error.remedy)];
        report.providers.push(Checked { name: error.what.clone(), problems, notes: Vec::new() });
    }
    let known: Vec<ProviderId> = loaded.versions.iter().map(|version| version.provider.clone()).collect();
    let wanted: Vec<(ConnectionId, ProviderId, Setup)> = connections
        .iter()
        .filter(|(_, connection)| known.contains(&connection.provider))
        .map(|(id, connection)| {
            let setup = Setup { settings: connection.settings.clone(), ..Setup::default() };
            ((*id).clone(), connection.provider.clone(), setup)
        })
        .collect();
    let ids: Vec<ConnectionId> = wanted.iter().map(|(id, ..)| id.clone()).collect();
    let mut made: BTreeMap<ConnectionId, Result<_, _>> =
        ids.into_iter().zip(providers.connect_all_blocking(&wanted)).collect();
    let mut usable = Vec::new();
    for (id, connection) in connections {
        let (problems, notes) = match made.remove(id) {
            Some(Ok(view)) => {
                let judged = against(connection, &view);
                usable.push((Arc::clone(connection), view));
                judged
            }
            Some(Err(error)) => {
                (vec![format!("{}: {}; {}", error.step, error.reason, error.remedy)], Vec::new())
            }
            None => {
                let (provider, folder) = (&connection.provider, config.providers_dir.display());
                (
                    vec![format!(
                        "provider: there is no provider {provider} in {folder}; put its component there"
                    )],
                    Vec::new(),
                )
            }
        };
        report.connections.push(Checked { name: id.to_string(), problems, notes });
    }
    usable
}

/// What a connection's file says against what its provider knows.
fn against(connection: &ConnectionConfig, view: &View) -> (Vec<String>, Vec<String>) {
    let mut problems = Vec::new();
    let descriptor = &view.connection;
    for (name, object) in connection.enabled() {
        let Some(known) = descriptor.objects.get(name.as_str()) else {
            let all = listed(descriptor.objects.keys());
            problems.push(format!(
                "objects.{name}: provider {} has no such object; it has {all}",
                connection.provider
            ));
            continue;
        };
        for pointer in object.policy.fields.keys().filter(|pointer| !known.fields.contains_key(*pointer)) {
            let all = listed(known.fields.keys());
            problems.push(format!(
                "objects.{name}.fields.{pointer:?}: the provider maps no such field; it maps {all}"
            ));
        }
    }
    if connection.base_url.is_none() {
        for host in
            descriptor.hosts.iter().filter(|host| !connection.hosts.iter().any(|grant| grant.covers(host)))
        {
            problems
                .push(format!("hosts: the provider needs {host:?}, which is not granted; add it to hosts"));
        }
    }
    for name in
        connection.quotas.keys().filter(|name| !descriptor.quotas.iter().any(|quota| quota.name == **name))
    {
        let all = listed(descriptor.quotas.iter().map(|quota| &quota.name));
        problems.push(format!("quotas.{name}: the provider has no such quota; it has {all}"));
    }
    let schemes = &view.descriptor.auth;
    match &connection.auth {
        Some(auth) => match (auth.pick(schemes), &auth.credential) {
            (None, _) => {
                let known = listed(schemes.keys());
                problems
                    .push(format!("auth.scheme: the provider knows no {:?}; it knows {known}", auth.scheme));
            }
            (Some((name, scheme)), Credential::Token(_)) if scheme.kind == AuthKind::Oauth2 => {
                problems.push(format!("auth.token: scheme {name} begins with a refresh_token"));
            }
            (Some((name, scheme)), Credential::RefreshToken(_)) if scheme.kind == AuthKind::Static => {
                problems.push(format!("auth.refresh_token: scheme {name} takes a token"));
            }
            _ => {}
        },
        None if !schemes.is_empty() => {
            problems.push(format!("auth: missing; the provider knows {}", listed(schemes.keys())));
        }
        None => {}
    }
    let missing = view.descriptor.webhooks.as_ref().and_then(webhook_secret);
    let missing = missing.filter(|name| connection.secret(name).is_none()).map(|name| {
        format!("webhooks are refused until there is a secret {name:?}: add it to [secrets], or to the app; polling works without")
    });
    let unrouted =
        view.descriptor.webhooks.as_ref().and_then(|webhooks| without_account(connection, webhooks));
    let guarantees = connection.enabled().filter_map(|(name, _)| {
        let guarantee = descriptor.objects.get(name.as_str())?.abilities.guarantee();
        Some(format!(
            "objects.{name}: an edit in the CRM under a write of the same field: {}",
            in_words(guarantee)
        ))
    });
    (problems, missing.into_iter().chain(unrouted).chain(guarantees).collect())
}

fn in_words(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::Exact => "never overwritten unseen (exact)",
        Guarantee::ToTheSecond => "never overwritten unseen, but within the same second (to-the-second)",
        Guarantee::FoundAfterwards => {
            "overwritten, found afterwards by its event, and decided by policy (found-afterwards)"
        }
        Guarantee::NarrowWindow => "overwritten (narrow-window)",
    }
}

/// What comes in at an app's address is routed by the account that it names.
fn without_account(connection: &ConnectionConfig, webhooks: &Webhooks) -> Option<String> {
    let app =
        connection.app.as_ref().filter(|_| webhooks.account.is_some() && connection.account.is_none())?;
    Some(format!(
        "account: missing, so that webhooks at /hooks/app/{} do not reach this connection: add account, the CRM's id of the account; \
         /hooks/connection/{} and polling work without",
        app.name, connection.id
    ))
}

fn webhook_secret(webhooks: &Webhooks) -> Option<&str> {
    match &webhooks.verify {
        Verify::HmacSha256 { secret, .. } | Verify::Basic { secret } | Verify::Token { secret, .. } => {
            Some(secret)
        }
        Verify::Path => None,
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn show(file: &Path, report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match report.configuration.len() {
        0 => writeln!(text, "ok     configuration {}", file.display()),
        _ => writeln!(text, "wrong  configuration {}", file.display()),
    };
    for finding in &report.configuration {
        let _ = writeln!(text, "         {finding}");
    }
    for (kind, list) in [("provider", &report.providers), ("connection", &report.connections)] {
        for checked in list {
            let word = if checked.problems.is_empty() { "ok   " } else { "wrong" };
            let _ = writeln!(text, "{word}  {kind} {}", checked.name);
            for line in checked.problems.iter().chain(&checked.notes) {
                let _ = writeln!(text, "         {line}");
            }
        }
    }
    for probe in &report.live {
        for step in &probe.steps {
            let word = if step.ok { "ok   " } else { "wrong" };
            let _ = writeln!(text, "{word}  live {}: {}: {}", probe.connection, step.what, step.detail);
        }
    }
    if report.providers.is_empty() {
        text.push_str("There are no providers: put a component (.wasm) into the providers folder.\n");
    }
    if report.connections.is_empty() && report.configuration.is_empty() {
        text.push_str("There are no connections yet: put a file for each into the connections folder.\n");
    }
    text
}
