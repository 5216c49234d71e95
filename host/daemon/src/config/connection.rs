//! A connection's file: one customer's account at one provider. The file's name without `.toml` is the connection's name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use tandem_core::descriptor::{AuthKind, AuthScheme};
use tandem_core::id::{ConnectionId, ObjectName, ProviderId, ScopeId};
use tandem_core::policy::{
    FieldPolicy, Flow, Guard, Hold, ObjectPolicy, OnConflict, OnDelete, OnDeleteConflict, OnReject, OnRewrite,
};
use tandem_core::rules::{Action, RuleText, Rules};
use url::{Host, Url};

use super::daemon::{App, Config, read_secrets};
use super::place::{Finding, Place};
use super::raw::{Section, Source, Value};
use super::secret::Secret;
use super::words::{NAME_RULE, is_name};

/// A connection's configuration, checked whole.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// The file's name without `.toml`.
    pub id: ConnectionId,
    /// The file that it was read from.
    pub file: PathBuf,
    /// `provider`
    pub provider: ProviderId,
    /// `scope`: the part of System A that it serves.
    pub scope: ScopeId,
    /// `app`: our registration with the vendor, by its name in the main file.
    pub app: Option<Arc<App>>,
    /// `account`: the vendor's id of the account (a portal, an organisation); webhooks of the app are routed by it.
    pub account: Option<String>,
    /// `auth`: None for providers that need none.
    pub auth: Option<ConnectionAuth>,
    /// `[secrets]`: further secrets under the names that the provider's descriptor uses.
    pub secrets: BTreeMap<String, Secret>,
    /// `base_url`: in place of the provider's own. No trailing slash.
    pub base_url: Option<String>,
    /// `hosts`: where the provider's requests may go. What is not listed is refused.
    pub hosts: Vec<HostGrant>,
    /// `allow_loopback`: requests may go to this machine. For simulators and tests. Default: false.
    pub allow_loopback: bool,
    /// `[settings]`: handed to the provider as they stand.
    pub settings: Json,
    /// `poll_every`: in place of the provider's wish.
    pub poll_every: Option<Duration>,
    /// `register_webhooks`: the CRM is asked to send its webhooks to `PUBLIC_URL/hooks/connection/NAME`, where its provider can
    /// ask. Default: false.
    pub register_webhooks: bool,
    /// `[quotas.NAME]`: in place of what the provider says of that quota.
    pub quotas: BTreeMap<String, QuotaOverride>,
    /// `paused`: its work waits in the queue from the start. Default: false.
    pub paused: bool,
    /// `[[rules]]`: whether a record takes part; the first that holds decides.
    pub rules: Rules,
    /// `[objects.NAME]`: what takes part. An object that is not listed does not.
    pub objects: BTreeMap<ObjectName, ObjectConfig>,
    /// Where the account stands, for findings that concern several files.
    pub(super) account_place: Place,
}

/// How a connection's requests are authenticated.
#[derive(Clone, Debug)]
pub struct ConnectionAuth {
    /// `scheme`: one of the provider's, by name or by kind. Default: `static` with a token, `oauth2` with a refresh token.
    pub scheme: String,
    /// What it starts from.
    pub credential: Credential,
}

impl ConnectionAuth {
    /// The provider's scheme that is meant: the one of that name, else the only one of that kind.
    #[must_use]
    pub fn pick<'d>(
        &self,
        schemes: &'d BTreeMap<String, AuthScheme>,
    ) -> Option<(&'d String, &'d AuthScheme)> {
        let kind = match self.scheme.as_str() {
            "static" => Some(AuthKind::Static),
            "oauth2" => Some(AuthKind::Oauth2),
            _ => None,
        };
        schemes.get_key_value(&self.scheme).or_else(|| {
            let mut fitting = schemes.iter().filter(|(_, scheme)| Some(scheme.kind) == kind);
            fitting.next().filter(|_| fitting.next().is_none())
        })
    }
}

/// What authentication starts from.
#[derive(Clone, Debug)]
pub enum Credential {
    /// `token`: sent as it is.
    Token(Secret),
    /// `refresh_token`: exchanged for access tokens with the app's client id and secret. Only the first one: a rotated one is kept in `data_dir`.
    RefreshToken(Secret),
}

impl Credential {
    /// Where the secret is found.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Token(secret) | Self::RefreshToken(secret) => secret,
        }
    }
}

/// One entry of `hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostGrant {
    /// `api.hubapi.com`, `127.0.0.1`, `[::1]`: this host, any port.
    Exact(String),
    /// `*.my.salesforce.com`: every host below that domain, not the domain itself.
    Below(String),
}

impl HostGrant {
    /// Whether a host (lower case, as in a parsed URL) is granted.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(domain) => host
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        }
    }
}

impl std::fmt::Display for HostGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// What the operator says of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaOverride {
    /// `limit`: units in a window or day, or calls at once.
    pub limit: u64,
    /// `per`: the length of the window, for quotas that have one.
    pub per: Option<Duration>,
}

/// How one object of a connection takes part.
#[derive(Clone, Debug)]
pub struct ObjectConfig {
    /// `enabled`: default true.
    pub enabled: bool,
    /// `direction`: which way it flows at most. Default: both.
    pub direction: Flow,
    /// `poll_every`: in place of the connection's and the provider's.
    pub poll_every: Option<Duration>,
    /// `on_internal_delete = "archive"`: only where the CRM keeps what is deleted, so that it can be restored there.
    pub archives: bool,
    /// Everything else, defaults applied. `groups`, `sets`, `mapped`, `identity` and `normalise` are empty: they come from the schemas.
    pub policy: ObjectPolicy,
}

impl ConnectionConfig {
    /// A secret by the name that a descriptor uses: the connection's own, else the app's.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name).or_else(|| self.app.as_ref().and_then(|app| app.secret(name)))
    }

    /// Every secret of the file, for checking that all can be read.
    pub fn all_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.auth.iter().map(|auth| auth.credential.secret()).chain(self.secrets.values())
    }

    /// Objects that take part.
    pub fn enabled(&self) -> impl Iterator<Item = (&ObjectName, &ObjectConfig)> {
        self.objects.iter().filter(|(_, object)| object.enabled)
    }

    /// Reads the text of a connection's file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(
        config: &Config,
        id: ConnectionId,
        file: &Path,
        text: &str,
    ) -> Result<Self, Vec<Finding>> {
        let source = Source::new(file, text);
        let table = source.parse();
        let connection = table.as_ref().and_then(|table| read(config, id, file, source.root(table)));
        #[cfg(test)]
        super::tests::note_asked("connection-file.schema.json", &source);
        let findings = source.into_findings();
        match connection {
            Some(connection) if findings.is_empty() => Ok(connection),
            _ => Err(findings),
        }
    }
}

fn read(config: &Config, id: ConnectionId, file: &Path, root: Section<'_>) -> Option<ConnectionConfig> {
    let provider = root
        .required("provider", "name the provider, for example provider = \"starter\"")
        .and_then(|v| v.name());
    let scope = root
        .required("scope", "name the customer's part of System A, for example scope = \"acme\"")
        .and_then(|v| v.name());
    let app = root.value("app").and_then(|v| find_app(config, provider, &v));
    let account = root.value("account");
    let account_place = account.as_ref().map_or_else(|| Place::file(file), Value::place);
    let account = account.and_then(|v| v.word());
    let auth = root.value("auth").and_then(|v| read_auth(v.section()?, app.as_deref(), root.has("app")));
    let secrets = read_secrets(root.section("secrets"));
    let allow_loopback = root.value("allow_loopback").and_then(|v| v.boolean()).unwrap_or(false);
    let hosts = root.required(
        "hosts",
        "list the hosts that requests may go to, for example hosts = [\"api.example.com\"]",
    );
    let hosts = hosts.and_then(|v| read_hosts(&v));
    let base_url = root.value("base_url").and_then(|v| read_base_url(&v, hosts.as_deref(), allow_loopback));
    let settings = root.value("settings").map_or_else(|| Some(Map::new()), |v| v.json());
    let poll_every = root.value("poll_every").and_then(|v| v.duration(POLL));
    let register_webhooks = root.value("register_webhooks").and_then(|v| read_registering(config, &v));
    let quotas = read_quotas(root.section("quotas"));
    let paused = root.value("paused").and_then(|v| v.boolean()).unwrap_or(false);
    let rules = root.value("rules").map_or_else(|| Some(Rules::default()), |v| read_rules(&v));
    let defaults = root.section("defaults");
    let wishes = Wishes::read(&defaults);
    defaults.finish();
    let objects = root.section("objects");
    if !objects.is_present() {
        root.fail(
            Some("objects"),
            "missing; nothing would take part, add for example [objects.contact]".to_owned(),
        );
    }
    let objects =
        objects.entries().into_iter().filter_map(|(name, v)| read_object(name, &v, &wishes)).collect();
    root.finish();
    Some(ConnectionConfig {
        id,
        file: file.to_owned(),
        provider: provider?.into(),
        scope: scope?.into(),
        app,
        account,
        auth,
        secrets,
        base_url,
        hosts: hosts?,
        allow_loopback,
        settings: Json::Object(settings?),
        poll_every,
        register_webhooks: register_webhooks.unwrap_or(false),
        quotas,
        paused,
        rules: rules?,
        objects,
        account_place,
    })
}

const ACTIONS: [(&str, Action); 3] = [("sync", Action::Sync), ("skip", Action::Skip), ("hold", Action::Hold)];

fn read_rules(value: &Value<'_>) -> Option<Rules> {
    let mut texts = Vec::new();
    let mut conditions = Vec::new();
    let mut whole = true;
    for item in value.list()? {
        let Some(rule) = item.section() else {
            whole = false;
            continue;
        };
        let name = rule.required("name", "give the rule a name, for example name = \"customers only\"");
        let object = rule.value("object").map(|v| v.name());
        let when = rule.required(
            "when",
            "say when it holds, for example when = \"record.lifecycle_stage != 'customer'\"",
        );
        let then = rule.required("then", "say what follows: \"sync\", \"skip\" or \"hold\"");
        rule.finish();
        let (name, then) = (name.and_then(|v| v.text()), then.and_then(|v| v.one_of(&ACTIONS)));
        match (name, object, when, then) {
            (Some(name), object, Some(when), Some(then)) if object != Some(None) => {
                let Some(text) = when.text() else {
                    whole = false;
                    continue;
                };
                texts.push(RuleText {
                    name: name.to_owned(),
                    object: object.flatten().map(ToOwned::to_owned),
                    when: text.to_owned(),
                    then,
                });
                conditions.push(when);
            }
            _ => whole = false,
        }
    }
    match Rules::compile(texts) {
        Ok(rules) => whole.then_some(rules),
        Err(wrong) => {
            for (position, why) in wrong {
                if let Some(condition) = conditions.get(position) {
                    condition.fail::<()>(why);
                }
            }
            None
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);
const POLL: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

fn find_app(config: &Config, provider: Option<&str>, value: &Value<'_>) -> Option<Arc<App>> {
    let name = value.text()?;
    let Some(app) = config.apps.get(name) else {
        return value
            .fail(format!("there is no app {name:?}; add [apps.{name}] to {}", config.file.display()));
    };
    if provider.is_some_and(|provider| provider != app.provider.as_str()) {
        return value.fail(format!("app {name:?} is one of provider {} ({})", app.provider, app.place));
    }
    Some(app.clone())
}

/// Webhooks need an address that the CRM can call.
fn read_registering(config: &Config, value: &Value<'_>) -> Option<bool> {
    let wanted = value.boolean()?;
    if wanted && config.http.public_url.is_none() {
        return value.fail(format!(
            "the CRM has to be told an address; set http.public_url in {}",
            config.file.display()
        ));
    }
    Some(wanted)
}

fn read_auth(auth: Section<'_>, app: Option<&App>, names_app: bool) -> Option<ConnectionAuth> {
    let scheme = auth.value("scheme").and_then(|v| v.name());
    let token = auth.value("token").map(|v| v.secret());
    let refresh_token = auth.value("refresh_token").map(|v| v.secret());
    let credential = match (token, refresh_token) {
        (Some(token), None) => token.map(|token| ("static", Credential::Token(token))),
        (None, Some(refresh_token)) => {
            let registered = app.is_some_and(|app| app.client_id.is_some() && app.client_secret.is_some());
            // An app that is named and was refused is reported where it is named.
            if !registered && (app.is_some() || !names_app) {
                auth.fail(
                    Some("refresh_token"),
                    "needs an app with client_id and client_secret; name it with app = \"…\"".to_owned(),
                );
            }
            refresh_token.map(|token| ("oauth2", Credential::RefreshToken(token)))
        }
        (Some(_), Some(_)) => {
            auth.fail(None, "has both token and refresh_token; keep one".to_owned());
            None
        }
        (None, None) => {
            auth.fail(
                None,
                "has neither token nor refresh_token; write for example token = { file = \"acme.token\" }"
                    .to_owned(),
            );
            None
        }
    };
    auth.finish();
    let (usual, credential) = credential?;
    Some(ConnectionAuth { scheme: scheme.unwrap_or(usual).to_owned(), credential })
}

fn read_hosts(value: &Value<'_>) -> Option<Vec<HostGrant>> {
    let mut hosts = Vec::new();
    for item in value.list()? {
        let Some(text) = item.text() else { continue };
        let lower = text.to_ascii_lowercase();
        let grant = match lower.strip_prefix("*.") {
            Some(domain) if domain.contains('.') && is_host(domain) => HostGrant::Below(domain.to_owned()),
            None if is_host(&lower) => HostGrant::Exact(lower),
            _ => {
                item.fail::<()>(format!(
                    "{text:?} is not a host; write the name alone, \"api.example.com\" or \"*.example.com\""
                ));
                continue;
            }
        };
        hosts.push(grant);
    }
    Some(hosts)
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(legal) && !label.starts_with('-') && !label.ends_with('-')
    };
    // What the URL parser would rewrite (`127.1`, a broken punycode) is not what the operator means.
    let stays = Host::parse(text).is_ok_and(|host| host.to_string() == text);
    stays && (text.starts_with('[') || text.split('.').all(is_label))
}

fn read_base_url(value: &Value<'_>, hosts: Option<&[HostGrant]>, allow_loopback: bool) -> Option<String> {
    let url: Url = value.url()?;
    let host = url.host_str().unwrap_or_default();
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if loopback && !allow_loopback {
        return value.fail("goes to this machine; grant that with allow_loopback = true");
    }
    if url.scheme() == "http" && !loopback {
        return value.fail("is plain http; use https");
    }
    if let Some(hosts) = hosts
        && !hosts.iter().any(|grant| grant.covers(host))
    {
        return value.fail(format!("goes to a host that is not granted; add {host:?} to hosts"));
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn read_quotas(quotas: Section<'_>) -> BTreeMap<String, QuotaOverride> {
    let mut read = BTreeMap::new();
    for (name, value) in quotas.entries() {
        let Some(quota) = value.section() else { continue };
        let limit = quota
            .required("limit", "say how many units, for example limit = 100")
            .and_then(|v| v.integer(1..=u64::MAX >> 1));
        let per = quota.value("per").and_then(|v| v.duration(MS..=DAY));
        quota.finish();
        if let Some(limit) = limit {
            read.insert(name.to_owned(), QuotaOverride { limit, per });
        }
    }
    read
}

/// What a file says of a policy, before defaults.
#[derive(Clone, Copy, Default)]
struct Wishes {
    on_conflict: Option<OnConflict>,
    on_rewrite: Option<OnRewrite>,
    on_reject: Option<OnReject>,
    rank: Option<u32>,
    hold: Option<Hold>,
    /// With whether it is only to be archived.
    on_internal_delete: Option<(OnDelete, bool)>,
    on_external_delete: Option<OnDelete>,
    on_delete_conflict: Option<OnDeleteConflict>,
    clock_tolerance: Option<Duration>,
    loop_limit: Option<u64>,
    loop_window: Option<Duration>,
    confirm_after: Option<Duration>,
    guard_limit: Option<u64>,
    guard_share: Option<u64>,
    guard_window: Option<Duration>,
    undo_for: Option<Duration>,
}

const FLOWS: [(&str, Flow); 3] =
    [("both", Flow::Both), ("to-external", Flow::ToExternal), ("to-internal", Flow::ToInternal)];

impl Wishes {
    fn read(section: &Section<'_>) -> Self {
        let (on_conflict, on_rewrite, on_reject) = read_field_wishes(section);
        let deletes =
            [("delete", OnDelete::Delete), ("detach", OnDelete::Detach), ("ignore", OnDelete::Ignore)];
        // System A has no bin.
        let archives = [
            ("delete", (OnDelete::Delete, false)),
            ("archive", (OnDelete::Delete, true)),
            ("detach", (OnDelete::Detach, false)),
            ("ignore", (OnDelete::Ignore, false)),
        ];
        let contests = [
            ("update", OnDeleteConflict::Update),
            ("delete", OnDeleteConflict::Delete),
            ("review", OnDeleteConflict::Review),
        ];
        Self {
            on_conflict,
            on_rewrite,
            on_reject,
            rank: read_rank(section),
            hold: section
                .value("hold")
                .and_then(|v| v.one_of(&[("group", Hold::Group), ("record", Hold::Record)])),
            on_internal_delete: section.value("on_internal_delete").and_then(|v| v.one_of(&archives)),
            on_external_delete: section.value("on_external_delete").and_then(|v| v.one_of(&deletes)),
            on_delete_conflict: section.value("on_delete_conflict").and_then(|v| v.one_of(&contests)),
            clock_tolerance: section.value("clock_tolerance").and_then(|v| v.duration(Duration::ZERO..=DAY)),
            loop_limit: section.value("loop_limit").and_then(|v| v.integer(2..=1_000)),
            loop_window: section.value("loop_window").and_then(|v| v.duration(1_000 * MS..=DAY)),
            confirm_after: section.value("confirm_after").and_then(|v| v.duration(MS..=DAY)),
            guard_limit: section.value("guard_limit").and_then(|v| v.integer(0..=1_000_000_000)),
            guard_share: section.value("guard_share").and_then(|v| v.integer(0..=100)),
            guard_window: section.value("guard_window").and_then(|v| v.duration(1_000 * MS..=7 * DAY)),
            undo_for: section.value("undo_for").and_then(|v| v.duration(Duration::ZERO..=90 * DAY)),
        }
    }

    fn or(self, defaults: &Self) -> Self {
        Self {
            on_conflict: self.on_conflict.or(defaults.on_conflict),
            on_rewrite: self.on_rewrite.or(defaults.on_rewrite),
            on_reject: self.on_reject.or(defaults.on_reject),
            rank: self.rank.or(defaults.rank),
            hold: self.hold.or(defaults.hold),
            on_internal_delete: self.on_internal_delete.or(defaults.on_internal_delete),
            on_external_delete: self.on_external_delete.or(defaults.on_external_delete),
            on_delete_conflict: self.on_delete_conflict.or(defaults.on_delete_conflict),
            clock_tolerance: self.clock_tolerance.or(defaults.clock_tolerance),
            loop_limit: self.loop_limit.or(defaults.loop_limit),
            loop_window: self.loop_window.or(defaults.loop_window),
            confirm_after: self.confirm_after.or(defaults.confirm_after),
            guard_limit: self.guard_limit.or(defaults.guard_limit),
            guard_share: self.guard_share.or(defaults.guard_share),
            guard_window: self.guard_window.or(defaults.guard_window),
            undo_for: self.undo_for.or(defaults.undo_for),
        }
    }
}

fn read_field_wishes(section: &Section<'_>) -> (Option<OnConflict>, Option<OnRewrite>, Option<OnReject>) {
    let conflicts = [
        ("internal", OnConflict::Internal),
        ("external", OnConflict::External),
        ("newest", OnConflict::Newest),
        ("review", OnConflict::Review),
    ];
    let rejects = [("hold", OnReject::Hold), ("omit-and-flag", OnReject::OmitAndFlag)];
    (
        section.value("on_conflict").and_then(|v| v.one_of(&conflicts)),
        section
            .value("on_rewrite")
            .and_then(|v| v.one_of(&[("keep", OnRewrite::Keep), ("adopt", OnRewrite::Adopt)])),
        section.value("on_reject").and_then(|v| v.one_of(&rejects)),
    )
}

/// Which connection wins where two of them contend: the smaller number.
fn read_rank(section: &Section<'_>) -> Option<u32> {
    section.value("rank").and_then(|v| v.integer(1..=1_000)).and_then(|rank| u32::try_from(rank).ok())
}

fn read_object(name: &str, value: &Value<'_>, defaults: &Wishes) -> Option<(ObjectName, ObjectConfig)> {
    if !is_name(name) {
        value.fail::<()>(format!("{name:?} is not an object's name; {NAME_RULE}"));
    }
    let object = value.section()?;
    let enabled = object.value("enabled").and_then(|v| v.boolean()).unwrap_or(true);
    let direction = object.value("direction").and_then(|v| v.one_of(&FLOWS)).unwrap_or_default();
    let poll_every = object.value("poll_every").and_then(|v| v.duration(POLL));
    let create_external = object.value("create_external").and_then(|v| v.boolean());
    let create_internal = object.value("create_internal").and_then(|v| v.boolean());
    let own = Wishes::read(&object);
    let wishes = own.or(defaults);
    let default = FieldPolicy {
        on_conflict: wishes.on_conflict.unwrap_or_default(),
        flow: direction,
        on_rewrite: wishes.on_rewrite.unwrap_or_default(),
        on_reject: wishes.on_reject.unwrap_or_default(),
        rank: wishes.rank,
    };
    let (mut fields, mut filled) = (BTreeMap::new(), BTreeMap::new());
    for (pointer, value) in object.section("fields").entries() {
        let Some(field) = read_field(pointer, &value, default) else { continue };
        filled.extend(field.filled.map(|value| (pointer.to_owned(), value)));
        fields.insert(pointer.to_owned(), field.policy);
    }

    let (to_external, to_internal) = (direction != Flow::ToInternal, direction != Flow::ToExternal);
    let against = |key: &'static str, wrong: bool| {
        if wrong {
            let direction =
                FLOWS.iter().find(|(_, flow)| *flow == direction).map_or("both", |(word, _)| *word);
            object.fail(Some(key), format!("goes against direction = {direction:?}; change one of the two"));
        }
    };
    against("create_external", !to_external && create_external == Some(true));
    against("create_internal", !to_internal && create_internal == Some(true));
    let deletes_there = own.on_internal_delete.is_some_and(|(wish, _)| wish == OnDelete::Delete);
    against("on_internal_delete", !to_external && deletes_there);
    against("on_external_delete", !to_internal && own.on_external_delete == Some(OnDelete::Delete));
    object.finish();

    // Against the direction nothing is deleted, whatever the connection's default says.
    let deletion = |wish: Option<OnDelete>, flows: bool| match wish.unwrap_or_default() {
        OnDelete::Delete if !flows => OnDelete::Ignore,
        wish => wish,
    };
    let archives = to_external && wishes.on_internal_delete.is_some_and(|(_, archives)| archives);
    let usual = ObjectPolicy::recommended();
    let policy = ObjectPolicy {
        default,
        fields,
        filled,
        on_internal_delete: deletion(wishes.on_internal_delete.map(|(wish, _)| wish), to_external),
        on_external_delete: deletion(wishes.on_external_delete, to_internal),
        on_delete_conflict: wishes.on_delete_conflict.unwrap_or_default(),
        hold: wishes.hold.unwrap_or_default(),
        create_external: create_external.unwrap_or(to_external),
        create_internal: create_internal.unwrap_or(to_internal),
        clock_tolerance_ms: wishes.clock_tolerance.map_or(usual.clock_tolerance_ms, in_ms),
        loop_limit: wishes.loop_limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(usual.loop_limit),
        loop_window_ms: wishes.loop_window.map_or(usual.loop_window_ms, in_ms),
        confirm_after_ms: wishes.confirm_after.map_or(usual.confirm_after_ms, in_ms),
        guard: Guard {
            limit: wishes.guard_limit.unwrap_or(usual.guard.limit),
            share: wishes.guard_share.unwrap_or(usual.guard.share),
            window_ms: wishes.guard_window.map_or(usual.guard.window_ms, in_ms),
            undo_ms: wishes.undo_for.map_or(usual.guard.undo_ms, in_ms),
        },
        ..ObjectPolicy::default()
    };
    Some((ObjectName::from(name), ObjectConfig { enabled, direction, poll_every, archives, policy }))
}

/// What a file says of one field.
struct Field {
    policy: FieldPolicy,
    filled: Option<serde_json::Value>,
}

fn read_field(pointer: &str, value: &Value<'_>, default: FieldPolicy) -> Option<Field> {
    if !pointer.starts_with('/') || pointer.len() < 2 || pointer.ends_with('/') {
        return value.fail("is not a JSON pointer into the canonical object; write for example \"/email\"");
    }
    let field = value.section()?;
    let (on_conflict, on_rewrite, on_reject) = read_field_wishes(&field);
    let rank = read_rank(&field);
    let flow = field.value("flow");
    let flow = match flow.as_ref().and_then(|v| v.one_of(&FLOWS)) {
        None | Some(Flow::Both) => default.flow,
        Some(flow) if default.flow == Flow::Both || flow == default.flow => flow,
        Some(_) => {
            flow.and_then(|v| v.fail("flows against the object's direction; change one of the two"))?
        }
    };
    let filled = field.value("default").and_then(|v| v.plain());
    field.finish();
    let policy = FieldPolicy {
        on_conflict: on_conflict.unwrap_or(default.on_conflict),
        flow,
        on_rewrite: on_rewrite.unwrap_or(default.on_rewrite),
        on_reject: on_reject.unwrap_or(default.on_reject),
        rank: rank.or(default.rank),
    };
    Some(Field { policy, filled })
}

fn in_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
