use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::Value as Json;
use tandem_core::policy::{FieldPolicy, Flow, Guard, OnConflict, OnDelete, OnReject, OnRewrite};

use super::raw::Source;
use super::*;

thread_local! {
    static ASKED: RefCell<BTreeMap<&'static str, BTreeSet<String>>> = RefCell::default();
}

/// Called by the readers: which keys they asked for, by schema.
pub(super) fn note_asked(schema: &'static str, source: &Source<'_>) {
    ASKED.with_borrow_mut(|asked| asked.entry(schema).or_default().extend(source.asked.take()));
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/examples")
}

fn main_file(text: &str) -> Result<Config, String> {
    let read = Config::read(Path::new("tandem.toml"), text);
    read.map_err(|findings| ConfigError { findings }.to_string())
}

/// The smallest main file, with one app that connections may name.
fn smallest() -> Config {
    let text = "data_dir = 'data'\nauth.admin.env = 'ADMIN'\n[apps.hub]\nprovider = 'hubspot'\n[apps.other]\nprovider = 'zoho'\n";
    main_file(text).expect("the smallest main file")
}

fn connection_file(text: &str) -> Result<ConnectionConfig, String> {
    let read = ConnectionConfig::read(&smallest(), "acme".into(), Path::new("acme.toml"), text);
    read.map_err(|findings| ConfigError { findings }.to_string())
}

// === What is right ===

#[test]
fn the_examples_load() {
    let config = Config::load(&examples().join("tandem.toml")).expect("the main file");
    let connections = Connections::load(&config).expect("the folder");
    assert_eq!(connections.findings().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let names: Vec<_> = connections.good.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["acme-hubspot", "globex-hubspot"]);

    assert_eq!(config.data_dir, examples().join("data"));
    assert_eq!(config.limits.instance_memory, 32 << 20);
    assert_eq!(config.quota, Quota { share: 90, reserve: 10 });
    let acme = &connections.good[&"acme-hubspot".into()];
    assert_eq!(acme.app.as_ref().map(|app| app.name.as_str()), Some("hubspot-eu"));
    assert!(acme.secret("client_secret").is_some() && acme.secret("nothing").is_none());
    assert_eq!(
        acme.secret("webhook").map(|secret| &secret.from),
        Some(&SecretFrom::Env("ACME_WEBHOOK_SECRET".to_owned()))
    );
    let tier = serde_json::json!({ "/custom/tier": { "property": "loyalty_tier", "type": "text" } });
    assert_eq!(acme.settings, serde_json::json!({ "api_version": "2026-03", "custom": tier }));
    assert_eq!(acme.quotas["burst"], QuotaOverride { limit: 90, per: Some(Duration::from_secs(10)) });
}

#[test]
fn the_smallest_file_has_the_stated_defaults() {
    let config = smallest();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.providers_dir, Path::new("providers"));
    assert_eq!(config.drain_grace, Duration::from_secs(20));
    assert_eq!(config.limits.workers.get(), 2048);
    assert_eq!(
        config.retry,
        Retry { attempts: 12, first: Duration::from_secs(1), most: Duration::from_secs(900) }
    );
    assert_eq!(config.log, Log { format: LogFormat::Text, level: LogLevel::Info });
    assert_eq!(config.system_a, SystemA::Embedded);
}

/// The defaults that the examples state as such are those of the parser: taking them out changes nothing.
#[test]
fn what_the_examples_call_default_is_the_default() {
    let without = |file: &str| {
        let text = std::fs::read_to_string(examples().join(file)).expect("an example");
        let kept: Vec<_> = text.lines().filter(|line| !line.contains("# default")).collect();
        (text.clone(), kept.join("\n"))
    };
    let (text, short) = without("tandem.toml");
    let lines = |text: &str| text.lines().count();
    assert!(lines(&text) > lines(&short) + 15);
    let shape = |config: Config| without_lines(&format!("{config:?}"));
    assert_eq!(shape(main_file(&text).expect("whole")), shape(main_file(&short).expect("short")));
    let main = main_file(&text).expect("the main file");
    for file in ["connections/acme-hubspot.toml", "connections/globex-hubspot.toml"] {
        let (text, short) = without(file);
        let read = |text: &str| {
            let read = ConnectionConfig::read(&main, "acme".into(), Path::new("acme.toml"), text);
            without_lines(&format!("{:?}", read.expect("a connection")))
        };
        assert_eq!(read(&text), read(&short), "{file}");
    }
}

/// What a schema states as default, as lines of TOML.
fn stated_defaults(path: &str, schema: &Json, out: &mut String) {
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match property.get("default") {
            Some(value) => out.push_str(&format!("{path} = {value}\n")),
            None => stated_defaults(&path, property, out),
        }
    }
}

/// The defaults that the schemas state are those of the parser: writing them all down changes nothing.
#[test]
fn what_the_schemas_call_default_is_the_default() {
    let written = |name: &str, least: &str| {
        let mut out = String::new();
        stated_defaults("", &schema(name), &mut out);
        assert!(out.lines().count() > 10, "{name} states defaults");
        format!("{out}{least}")
    };
    let least = "data_dir = 'data'\nauth.admin.env = 'ADMIN'\n";
    let main = |text: &str| main_file(text).expect("a main file");
    assert_eq!(
        without_lines(&format!("{:?}", main(&written("config.schema.json", least)))),
        without_lines(&format!("{:?}", main(least)))
    );
    let least_of_connection = "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\nobjects.contact = {}\n\
         auth = { scheme = 'token', token = { env = 'TOKEN' } }\n";
    let connection = |text: &str| {
        let read = ConnectionConfig::read(&main(least), "acme".into(), Path::new("acme.toml"), text);
        without_lines(&format!("{:?}", read.expect("a connection")))
    };
    assert_eq!(
        connection(&written("connection-file.schema.json", least_of_connection)),
        connection(least_of_connection)
    );
}

/// Without the line numbers of places.
fn without_lines(shown: &str) -> String {
    let mut out = String::new();
    let mut rest = shown;
    while let Some(at) = rest.find(".toml:") {
        let (before, after) = rest.split_at(at + ".toml:".len());
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn a_policy_takes_the_fields_then_the_objects_then_the_connections_word() {
    let text = "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\n\
                [defaults]\non_conflict = 'external'\non_rewrite = 'adopt'\nclock_tolerance = '3s'\nrank = 2\nguard_limit = 7\n\
                on_internal_delete = 'archive'\n\
                [objects.contact]\non_conflict = 'internal'\nrank = 3\nguard_share = 100\nundo_for = '0s'\n\
                fields.'/email' = { on_conflict = 'newest', flow = 'to-external' }\n\
                fields.'/city'.rank = 1\n\
                [objects.company]\ndirection = 'to-internal'\non_external_delete = 'detach'\nfields.'/name'.flow = 'both'\n";
    let connection = connection_file(text).expect("a connection");
    let contact = &connection.objects[&"contact".into()].policy;
    let default = FieldPolicy {
        on_conflict: OnConflict::Internal,
        flow: Flow::Both,
        on_rewrite: OnRewrite::Adopt,
        on_reject: OnReject::Hold,
        rank: Some(3),
    };
    assert_eq!(contact.field("/phone"), default);
    assert_eq!(contact.field("/city").rank, Some(1));
    let email = FieldPolicy { on_conflict: OnConflict::Newest, flow: Flow::ToExternal, ..default };
    assert_eq!(contact.field("/email"), email);
    assert_eq!(contact.clock_tolerance_ms, 3_000);
    assert!(contact.create_external && contact.create_internal);
    let guard = Guard { limit: 7, share: 100, window_ms: 3_600_000, undo_ms: 0 };
    assert_eq!((contact.guard, contact.on_internal_delete), (guard, OnDelete::Delete));
    assert!(
        connection.objects[&"contact".into()].archives && !connection.objects[&"company".into()].archives
    );

    let company = &connection.objects[&"company".into()].policy;
    assert_eq!(company.field("/name").flow, Flow::ToInternal, "a field does not flow against its object");
    assert_eq!(company.field("/name").rank, Some(2));
    assert_eq!((company.create_external, company.create_internal), (false, true));
    assert_eq!(company.on_internal_delete, OnDelete::Ignore, "nothing is deleted against the direction");
    assert_eq!(company.on_external_delete, OnDelete::Detach);
}

#[test]
fn a_grant_covers_its_host_and_no_other() {
    let grants = |granted: &str, host: &str| {
        let text = format!("provider = 'p'\nscope = 's'\nhosts = ['{granted}']\nobjects.contact = {{}}\n");
        let connection = connection_file(&text).expect("a connection");
        connection.hosts.iter().any(|grant| grant.covers(host))
    };
    assert!(grants("API.hubapi.com", "api.hubapi.com"));
    assert!(!grants("api.hubapi.com", "evil-api.hubapi.com"));
    assert!(!grants("api.hubapi.com", "api.hubapi.com.evil.com"));
    assert!(grants("*.my.salesforce.com", "acme.my.salesforce.com"));
    assert!(grants("*.my.salesforce.com", "acme.sandbox.my.salesforce.com"));
    assert!(!grants("*.my.salesforce.com", "my.salesforce.com"));
    assert!(!grants("*.my.salesforce.com", ".my.salesforce.com"));
    assert!(!grants("*.my.salesforce.com", "evilmy.salesforce.com"));
    assert!(grants("127.0.0.1", "127.0.0.1") && grants("[::1]", "[::1]"));
}

#[test]
fn a_scheme_is_found_by_name_or_as_the_only_one_of_its_kind() {
    let schemes = |names: &[(&str, &str)]| -> BTreeMap<String, tandem_core::descriptor::AuthScheme> {
        let scheme = |kind: &str| serde_json::json!({ "kind": kind, "header": "authorization", "template": "{token}" });
        let parsed = |kind: &str| serde_json::from_value(scheme(kind)).expect("a scheme");
        names.iter().map(|(name, kind)| ((*name).to_owned(), parsed(kind))).collect()
    };
    let picked = |auth: &str, schemes: &BTreeMap<String, _>| {
        let text =
            format!("provider = 'p'\nscope = 's'\nhosts = []\nauth = {auth}\nobjects.contact = {{}}\n");
        let connection = connection_file(&text).expect("a connection");
        connection.auth.expect("authentication").pick(schemes).map(|(name, _)| name.clone())
    };
    let both = schemes(&[("oauth", "oauth2"), ("token", "static")]);
    assert_eq!(picked("{ token.env = 'A' }", &both).as_deref(), Some("token"));
    assert_eq!(picked("{ scheme = 'static', token.env = 'A' }", &both).as_deref(), Some("token"));
    assert_eq!(picked("{ scheme = 'oauth', token.env = 'A' }", &both).as_deref(), Some("oauth"));
    assert_eq!(picked("{ scheme = 'other', token.env = 'A' }", &both), None);
    assert_eq!(picked("{ token.env = 'A' }", &schemes(&[("a", "static"), ("b", "static")])), None);
}

#[test]
fn a_secret_is_read_without_its_line_end_and_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("token"), "marker-of-a-secret\r\n").expect("a secret");
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, "data_dir = 'data'\nauth.admin.file = 'token'\n").expect("a main file");
    let config = Config::load(&file).expect("a main file");
    let secret = config.auth.admin.read().expect("a secret");
    assert_eq!(secret.expose_secret(), "marker-of-a-secret");
    assert!(!format!("{config:?} {secret:?}").contains("marker"));

    std::fs::write(folder.path().join("token"), "two\nmarker-lines").expect("a secret");
    let error = config.auth.admin.read().expect_err("several lines").to_string();
    assert!(
        error.ends_with("holds control characters or several lines") && !error.contains("marker"),
        "{error}"
    );
    assert!(error.starts_with(&format!("{}:2: auth.admin: secret file ", file.display())), "{error}");
}

// === What is wrong ===

#[test]
fn bad_main_files_are_refused_with_place_and_way_out() {
    let good = "data_dir = 'data'\nauth.admin.env = 'ADMIN'\n";
    let cases = [
        (
            "[http]\nlisten = 'localhost'",
            "tandem.toml:4: http.listen: \"localhost\" is not an address with a port; write for example \"127.0.0.1:7070\"",
        ),
        ("[http]\nlisen = '127.0.0.1:1'", "tandem.toml:4: http.lisen: unknown key; did you mean \"listen\"?"),
        ("http = 3", "tandem.toml:3: http: is a number, not a table"),
        (
            "[limits]\nzzz = 1",
            "tandem.toml:4: limits.zzz: unknown key; known here: lanes, workers, instance_memory, instances_memory, call_deadline, max_document",
        ),
        ("[htp]\nlisten = '127.0.0.1:1'", "tandem.toml:3: htp: unknown key; did you mean \"http\"?"),
        (
            "[http]\npublic_url = 'sync.example.com'",
            "tandem.toml:4: http.public_url: \"sync.example.com\" is not a URL: relative URL without a base; write for example \"https://sync.example.com\"",
        ),
        (
            "[http]\npublic_url = 'ftp://example.com'",
            "tandem.toml:4: http.public_url: \"ftp://example.com\" is not an http or https URL",
        ),
        (
            "[http]\npublic_url = 'https://user:marker@example.com'",
            "tandem.toml:4: http.public_url: has a user or password in it; credentials have keys of their own",
        ),
        ("[limits]\nlanes = 0", "tandem.toml:4: limits.lanes: 0 is out of range; use 1 to 256"),
        ("[limits]\nworkers = '8'", "tandem.toml:4: limits.workers: is text, not a whole number"),
        (
            "[limits]\ncall_deadline = 100",
            "tandem.toml:4: limits.call_deadline: 100 has no unit; write for example \"100ms\" or \"100s\"",
        ),
        (
            "[limits]\ncall_deadline = '5 s'",
            "tandem.toml:4: limits.call_deadline: \"5 s\" is not a duration; write for example \"250ms\", \"10s\", \"5m\" or \"1h\"",
        ),
        (
            "[limits]\ncall_deadline = '2h'",
            "tandem.toml:4: limits.call_deadline: \"2h\" is out of range; use 10ms to 1m",
        ),
        (
            "[limits]\ninstance_memory = '64MB'",
            "tandem.toml:4: limits.instance_memory: is not a size; write for example \"512KiB\", \"64MiB\" or \"1GiB\"",
        ),
        (
            "[limits]\ninstance_memory = 4096",
            "tandem.toml:4: limits.instance_memory: is out of range; use 1MiB to 1GiB",
        ),
        (
            "[retry]\nfirst = '1h'\nmost = '1m'",
            "tandem.toml:3: retry.most: is shorter than retry.first; the waiting time grows from first to most",
        ),
        (
            "[log]\nlevel = 'warning'",
            "tandem.toml:4: log.level: \"warning\" is not one of error, warn, info, debug, trace; did you mean \"warn\"?",
        ),
        (
            "[system_a]\nkind = 'postgres'",
            "tandem.toml:4: system_a.kind: \"postgres\" is not one of embedded",
        ),
        (
            "[auth.scopes]\nacme = 'marker'",
            "tandem.toml:4: auth.scopes.acme: secrets do not stand in the configuration; write { file = \"path\" } or { env = \"NAME\" }",
        ),
        (
            "[auth.scopes]\nacme = {}",
            "tandem.toml:4: auth.scopes.acme: says neither file nor env; write { file = \"path\" } or { env = \"NAME\" }",
        ),
        (
            "[auth.scopes]\nacme = { file = 'a', env = 'B' }",
            "tandem.toml:4: auth.scopes.acme: has both file and env; write { file = \"path\" } or { env = \"NAME\" }",
        ),
        (
            "[auth.scopes]\nacme = { fil = 'a' }",
            "tandem.toml:4: auth.scopes.acme: says neither file nor env; write { file = \"path\" } or { env = \"NAME\" }\ntandem.toml:4: auth.scopes.acme.fil: unknown key; did you mean \"file\"?",
        ),
        (
            "[auth.scopes]\n'a/b' = { env = 'B' }",
            "tandem.toml:4: auth.scopes.\"a/b\": \"a/b\" is not a scope's name; use letters, digits, '.', '_' and '-', the first a letter or digit, at most 128",
        ),
        (
            "[apps.hub]\nclient_id = ''",
            "tandem.toml:3: apps.hub.provider: missing; name the provider, for example provider = \"starter\"\ntandem.toml:4: apps.hub.client_id: is empty; give it a value or leave the key out",
        ),
        ("drain_grace = = 3", "tandem.toml:3: not TOML: extra `=`, expected nothing"),
    ];
    for (text, expected) in cases {
        let error = main_file(&format!("{good}{text}\n")).expect_err(text);
        assert_eq!(error, expected, "{text}");
        assert!(!error.contains("marker"), "a secret is repeated: {error}");
    }
}

#[test]
fn bad_connection_files_are_refused_with_place_and_way_out() {
    let good = "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\n";
    let object = "[objects.contact]\n";
    let cases = [
        ("", "acme.toml:1: objects: missing; nothing would take part, add for example [objects.contact]"),
        (
            "app = 'nobody'\n[objects.contact]",
            "acme.toml:4: app: there is no app \"nobody\"; add [apps.nobody] to tandem.toml",
        ),
        (
            "register_webhooks = true\n[objects.contact]",
            "acme.toml:4: register_webhooks: the CRM has to be told an address; set http.public_url in tandem.toml",
        ),
        (
            "app = 'other'\n[objects.contact]",
            "acme.toml:4: app: app \"other\" is one of provider zoho (tandem.toml:5: apps.other)",
        ),
        (
            "auth = { token = 'marker' }\n[objects.contact]",
            "acme.toml:4: auth.token: secrets do not stand in the configuration; write { file = \"path\" } or { env = \"NAME\" }",
        ),
        (
            "auth = { scheme = 'static' }\n[objects.contact]",
            "acme.toml:4: auth: has neither token nor refresh_token; write for example token = { file = \"acme.token\" }",
        ),
        (
            "auth = { token.env = 'A', refresh_token.env = 'B' }\n[objects.contact]",
            "acme.toml:4: auth: has both token and refresh_token; keep one",
        ),
        (
            "app = 'hub'\nauth = { refresh_token.env = 'B' }\n[objects.contact]",
            "acme.toml:5: auth.refresh_token: needs an app with client_id and client_secret; name it with app = \"…\"",
        ),
        (
            "base_url = 'http://127.0.0.1:1'\n[objects.contact]",
            "acme.toml:4: base_url: goes to this machine; grant that with allow_loopback = true",
        ),
        (
            "base_url = 'http://api.hubapi.com'\n[objects.contact]",
            "acme.toml:4: base_url: is plain http; use https",
        ),
        (
            "base_url = 'https://api.example.com'\n[objects.contact]",
            "acme.toml:4: base_url: goes to a host that is not granted; add \"api.example.com\" to hosts",
        ),
        (
            "[quotas.daily]\nper = '1s'\n[objects.contact]",
            "acme.toml:4: quotas.daily.limit: missing; say how many units, for example limit = 100",
        ),
        (
            "[settings]\nshare = 0.5\n[objects.contact]",
            "acme.toml:4: settings: 0.5 is a fraction; write it as text",
        ),
        (
            "[objects.contact]\ndirection = 'to-internl'",
            "acme.toml:5: objects.contact.direction: \"to-internl\" is not one of both, to-external, to-internal; did you mean \"to-internal\"?",
        ),
        (
            "[objects.contact]\ndirection = 'to-internal'\ncreate_external = true",
            "acme.toml:4: objects.contact.create_external: goes against direction = \"to-internal\"; change one of the two",
        ),
        (
            "[objects.contact]\ndirection = 'to-external'\nfields.'/email'.flow = 'to-internal'",
            "acme.toml:6: objects.contact.fields.\"/email\".flow: flows against the object's direction; change one of the two",
        ),
        (
            "[objects.contact.fields]\nemail = {}",
            "acme.toml:5: objects.contact.fields.email: is not a JSON pointer into the canonical object; write for example \"/email\"",
        ),
        (
            "[objects.contact]\non_conflit = 'newest'",
            "acme.toml:5: objects.contact.on_conflit: unknown key; did you mean \"on_conflict\"?",
        ),
        (
            "[objects.contact]\nclock_tolerance_ms = 5",
            "acme.toml:5: objects.contact.clock_tolerance_ms: unknown key; did you mean \"clock_tolerance\"?",
        ),
        (
            "[objects.contact]\nloop_limit = -1",
            "acme.toml:5: objects.contact.loop_limit: -1 is out of range; use 2 to 1000",
        ),
        (
            "[objects.contact]\nenabled = 'yes'",
            "acme.toml:5: objects.contact.enabled: is text, not true or false",
        ),
        (
            "[defaults]\nhold = 'field'\n[objects.contact]",
            "acme.toml:5: defaults.hold: \"field\" is not one of group, record",
        ),
        ("paused = 1\n[objects.contact]", "acme.toml:4: paused: is a number, not true or false"),
    ];
    for (text, expected) in cases {
        let error = connection_file(&format!("{good}{text}\n")).expect_err(text);
        assert_eq!(error, expected, "{text}");
        assert!(!error.contains("marker"), "a secret is repeated: {error}");
    }
    let hosts = |hosts: &str| {
        connection_file(&format!("provider = 'p'\nscope = 's'\nhosts = {hosts}\n{object}")).expect_err(hosts)
    };
    let way_out = "is not a host; write the name alone, \"api.example.com\" or \"*.example.com\"";
    for bad in [
        "https://api.example.com",
        "api.example.com:443",
        "*",
        "*.com",
        "api.*.com",
        "a b",
        "127.1",
        "user@host",
        "xn--",
    ] {
        let error = hosts(&format!("['{bad}']"));
        assert_eq!(error, format!("acme.toml:3: hosts[0]: {bad:?} {way_out}"));
    }
    assert_eq!(hosts("'api.example.com'"), "acme.toml:3: hosts: is text, not a list");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_order_of_lines() {
    let error = main_file("data_dir = 3\n\n[http]\nlisten = 'x'\nport = 1\n\n[limits]\nlanes = 999\n[lgo]\n")
        .expect_err("bad");
    let places: Vec<_> = error.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        places,
        ["auth.admin", "data_dir", "http.listen", "http.port", "limits.lanes", "lgo"],
        "{error}"
    );
    assert!(error.contains("tandem.toml:9: lgo: unknown key; did you mean \"log\"?"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_way_out() {
    let error = Config::load(Path::new("/nowhere/tandem.toml")).expect_err("nothing there").to_string();
    assert_eq!(
        error,
        "/nowhere/tandem.toml: cannot be read: No such file or directory (os error 2); name another with --config or TANDEM_CONFIG"
    );
}

// === The folder ===

fn folder_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Connections, ConfigError>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let mut config = smallest();
    config.connections_dir = folder.path().to_owned();
    let connections = Connections::load(&config);
    (folder, connections)
}

fn names<'a>(ids: impl IntoIterator<Item = &'a tandem_core::id::ConnectionId>) -> Vec<&'a str> {
    ids.into_iter().map(tandem_core::id::ConnectionId::as_str).collect()
}

#[test]
fn one_bad_file_is_named_and_leaves_the_others_working() {
    let good = "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\n[objects.contact]\n";
    let not_text = "provider = 'hub";
    let (folder, connections) = folder_with(&[
        ("a.toml", good),
        ("b.toml", not_text),
        ("c.toml", good),
        ("d d.toml", good),
        (".hidden.toml", not_text),
        ("notes.txt", not_text),
    ]);
    let connections = connections.expect("the folder");
    assert_eq!(names(connections.good.keys()), ["a", "c"]);
    assert_eq!(names(connections.bad.iter().map(|bad| &bad.id)), ["b", "d d"]);
    let findings: Vec<_> = connections.findings().map(ToString::to_string).collect();
    let prefix = format!("{}:1: not TOML: ", folder.path().join("b.toml").display());
    assert!(findings.iter().any(|finding| finding.starts_with(&prefix)), "{findings:?}");
}

#[test]
fn two_connections_cannot_claim_one_account_of_an_app() {
    let with = |account: &str, app: &str| {
        format!(
            "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\naccount = {account}\n{app}\n[objects.contact]\n"
        )
    };
    let (folder, connections) = folder_with(&[
        ("a.toml", &with("7", "app = 'hub'")),
        ("b.toml", &with("'7'", "app = 'hub'")),
        ("c.toml", &with("'7'", "")),
        ("d.toml", &with("'8'", "app = 'hub'")),
    ]);
    let connections = connections.expect("the folder");
    assert_eq!(names(connections.good.keys()), ["a", "c", "d"]);
    let findings: Vec<_> = connections.findings().map(ToString::to_string).collect();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let expected = format!(
        "{}:4: account: \"7\" is the account of connection a already ({}:4: account); one account has one connection",
        path("b.toml"),
        path("a.toml")
    );
    assert_eq!(findings, [expected]);
}

#[test]
fn a_folder_that_is_not_there_is_named_by_its_key() {
    let mut config = smallest();
    config.connections_dir = "/nowhere".into();
    let error = Connections::load(&config).expect_err("nothing there").to_string();
    assert_eq!(
        error,
        "tandem.toml: connections_dir: folder /nowhere: No such file or directory (os error 2)"
    );
}

#[test]
fn ten_thousand_connections_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        std::fs::read_to_string(examples().join("connections/globex-hubspot.toml")).expect("an example");
    for number in 0..10_000 {
        let text = text.replace("97531", &number.to_string());
        std::fs::write(folder.path().join(format!("c{number}.toml")), text).expect("a file");
    }
    let mut config = smallest();
    config.connections_dir = folder.path().to_owned();
    let began = std::time::Instant::now();
    let connections = Connections::load(&config).expect("the folder");
    println!("10,000 connection files in {:?}", began.elapsed());
    assert_eq!((connections.good.len(), connections.bad.len()), (10_000, 0));
}

// === The schemas ===

fn schema(name: &str) -> Json {
    let text = std::fs::read_to_string(repository().join("schemas").join(name)).expect("a schema");
    serde_json::from_str(&text).expect("JSON")
}

/// Every key of a schema as the readers name it: `apps.*.provider`. Secrets are leaves.
fn keys(at: &str, node: &Json, keys: &mut BTreeSet<String>) {
    if node.get("$ref").is_some() {
        return;
    }
    let join = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    for (name, inner) in node.get("properties").and_then(Json::as_object).into_iter().flatten() {
        keys.insert(join(name));
        self::keys(&join(name), inner, keys);
    }
    if let Some(inner) = node.get("items").filter(|inner| inner.get("properties").is_some()) {
        self::keys(&format!("{at}[]"), inner, keys);
    }
    if let Some(inner) = node.get("additionalProperties").filter(|inner| inner.is_object()) {
        self::keys(&join("*"), inner, keys);
    }
}

#[test]
fn the_schemas_know_the_keys_that_the_parser_knows() {
    let config = Config::load(&examples().join("tandem.toml")).expect("the main file");
    Connections::load(&config).expect("the folder");
    let asked = ASKED.take();
    for name in ["config.schema.json", "connection-file.schema.json"] {
        let schema = schema(name);
        let mut described = BTreeSet::new();
        keys("", &schema, &mut described);
        let secret = |key: &String| {
            let parent = key.strip_suffix(".file").or_else(|| key.strip_suffix(".env"));
            !parent.is_some_and(|parent| {
                described.contains(parent) || parent.contains("scopes.") || parent.contains("secrets.")
            })
        };
        let asked: BTreeSet<_> = asked[name].iter().filter(|key| secret(key)).cloned().collect();
        assert_eq!(asked, described, "{name}");
    }
}

fn as_json(text: &str) -> Json {
    let value: toml::Value = toml::from_str(text).expect("TOML");
    serde_json::to_value(value).expect("JSON")
}

#[test]
fn the_schemas_accept_what_the_parser_accepts() {
    for (name, files) in [
        ("config.schema.json", &["tandem.toml"][..]),
        (
            "connection-file.schema.json",
            &["connections/acme-hubspot.toml", "connections/globex-hubspot.toml"],
        ),
    ] {
        let validator = jsonschema::draft202012::new(&schema(name)).expect("a schema");
        for file in files {
            let text = std::fs::read_to_string(examples().join(file)).expect("an example");
            let errors: Vec<_> =
                validator.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
            assert_eq!(errors, Vec::<String>::new(), "{file}");
        }
    }
}

/// Mistakes that a schema can see are seen by both.
#[test]
fn the_schemas_refuse_what_the_parser_refuses() {
    let main = jsonschema::draft202012::new(&schema("config.schema.json")).expect("a schema");
    let good = "data_dir = 'data'\nauth.admin.env = 'ADMIN'\n";
    assert!(main.is_valid(&as_json(good)) && main_file(good).is_ok());
    for bad in [
        "[http]\nlisten = 'localhost'",
        "[http]\nlisen = '127.0.0.1:1'",
        "http = 3",
        "[htp]\n",
        "[http]\npublic_url = 'sync.example.com'",
        "[http]\npublic_url = 'https://a:b@example.com'",
        "[http]\npublic_url = 'https://example.com?a=b'",
        "[limits]\nlanes = 0",
        "[limits]\nworkers = '8'",
        "[limits]\ncall_deadline = 100",
        "[limits]\ncall_deadline = '5 s'",
        "[limits]\ninstance_memory = '64MB'",
        "[log]\nlevel = 'warning'",
        "[system_a]\nkind = 'postgres'",
        "[auth.scopes]\nacme = 'marker'",
        "[auth.scopes]\nacme = {}",
        "[auth.scopes]\nacme = { file = 'a', env = 'B' }",
        "[auth.scopes]\n'a/b' = { env = 'B' }",
        "[apps.hub]\nclient_id = ''",
        "[quota]\nshare = 101",
    ] {
        let text = format!("{good}{bad}\n");
        assert!(main_file(&text).is_err(), "the parser takes {bad:?}");
        assert!(!main.is_valid(&as_json(&text)), "the schema takes {bad:?}");
    }
    let connection = jsonschema::draft202012::new(&schema("connection-file.schema.json")).expect("a schema");
    let good = "provider = 'hubspot'\nscope = 'acme'\nhosts = ['api.hubapi.com']\n";
    let object = "[objects.contact]\n";
    let whole = format!("{good}{object}");
    assert!(connection.is_valid(&as_json(&whole)) && connection_file(&whole).is_ok());
    for bad in [
        "",
        "auth = { token = 'marker' }\n[objects.contact]",
        "auth = { scheme = 'static' }\n[objects.contact]",
        "auth = { token.env = 'A', refresh_token.env = 'B' }\n[objects.contact]",
        "base_url = 'api.example.com'\n[objects.contact]",
        "[quotas.daily]\nper = '1s'\n[objects.contact]",
        "[objects.contact]\ndirection = 'to-internl'",
        "[objects.contact.fields]\nemail = {}",
        "[objects.contact]\non_conflit = 'newest'",
        "[objects.contact]\nloop_limit = -1",
        "[objects.contact]\nenabled = 'yes'",
        "[defaults]\nhold = 'field'\n[objects.contact]",
        "paused = 1\n[objects.contact]",
        "account = ''\n[objects.contact]",
        "[objects.'a/b']",
        "settings = 3\n[objects.contact]",
    ] {
        let text = format!("{good}{bad}\n");
        assert!(connection_file(&text).is_err(), "the parser takes {bad:?}");
        assert!(!connection.is_valid(&as_json(&text)), "the schema takes {bad:?}");
    }
}
