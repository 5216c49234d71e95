//! Credentials stay in memory: they are in no log, metric, answer, file of the store, sandbox or place that the system shows,
//! whatever goes wrong. Record contents are in no log, metric and error.
//!
//! One file may hold one credential: `tokens/CONNECTION.token` in the data folder keeps the refresh token that the CRM rotated,
//! for the daemon's user alone. Nothing else is exempt.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::crm::Crm;
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::marker::Markers;
use tandem_e2e::memory::Shim;
use tandem_e2e::{Error, client, pipedrive, salesforce, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, Rewrite, TokenKind};

const LONG: Duration = Duration::from_secs(60);

/// Contents of records that are found nowhere else.
const CONTENTS: [&str; 5] =
    ["Zqxfamily7431", "+49 555 0187431", "zqx-note-7431", "zqx.person.7431", "zqx-title-7431"];

/// A token that nobody gave out.
const WRONG: &str = "a-wrong-token-7431";

struct Asked {
    what: String,
    status: u16,
    text: String,
}

async fn ask(request: reqwest::RequestBuilder, what: &str) -> Result<Asked, Error> {
    let answer = request.send().await?;
    let headers = format!("{:?}", answer.headers());
    let status = answer.status().as_u16();
    Ok(Asked { what: what.to_owned(), status, text: format!("{headers}\n{}", answer.text().await?) })
}

/// Everything wrong that somebody can send to the daemon.
async fn wrong_requests(house: &House) -> Result<Vec<Asked>, Error> {
    let http = client()?;
    let at = |path: &str| format!("{}{path}", house.base);
    let contents = CONTENTS.join(" ");
    let [family, phone, note, ..] = CONTENTS;
    let bad = json!({"family_name": 5, "phone": phone.repeat(9), "date_of_birth": note, "lifecycle_stage": family,
        "website": contents, "employees": note, "email": note, "tags": [family, 1]});
    let contact = at("/v1/scopes/acme/contact");
    let portal = house.customer("acme")?.info.portal_id;
    let event = json!([{"portalId": portal, "objectId": 1, "subscriptionType": "contact.propertyChange",
        "propertyName": "lastname", "propertyValue": family}]);
    let json_body = |request: reqwest::RequestBuilder, body: String| {
        request.header("content-type", "application/json").body(body)
    };
    Ok(vec![
        ask(json_body(http.post(&contact).bearer_auth(ADMIN), bad.to_string()), "a bad document").await?,
        ask(json_body(http.post(&contact).bearer_auth(ADMIN), format!("{{\"notes\": {note}")), "no JSON")
            .await?,
        ask(
            json_body(http.post(at("/v1/pause")).bearer_auth(ADMIN), "{\"connection\": 5}".to_owned()),
            "a bad order",
        )
        .await?,
        ask(
            json_body(http.post(at("/v1/review/decide")).bearer_auth(ADMIN), bad.to_string()),
            "a bad decision",
        )
        .await?,
        ask(http.get(at("/v1/nowhere")).bearer_auth(ADMIN), "an unknown route").await?,
        ask(http.get(at("/v1/status")).bearer_auth(WRONG), "a wrong token").await?,
        ask(http.get(at("/v1/status")), "no token").await?,
        ask(http.get(at("/v1/dead/99999999")).bearer_auth(ADMIN), "an unknown letter").await?,
        ask(json_body(http.post(at("/hooks/app/hubspot")), event.to_string()), "an unsigned webhook").await?,
        ask(
            json_body(http.post(at("/hooks/app/hubspot")), event.to_string())
                .header("x-hubspot-signature-v3", "AAAA")
                .header("x-hubspot-request-timestamp", "1"),
            "a badly signed webhook",
        )
        .await?,
        ask(json_body(http.post(at("/hooks/app/hubspot")), note.to_owned()), "a webhook that is no JSON")
            .await?,
        ask(http.post(at("/hooks/app/nobody")).body(note), "an unknown webhook address").await?,
    ])
}

/// Who edits while something is disturbed.
#[derive(Clone, Copy, Debug)]
enum By {
    SystemA,
    Person,
}

/// Every disturbance that the simulator knows but for the end of a token, and whose edit runs into it.
fn disturbances() -> Vec<(FaultKind, &'static str, By)> {
    let [family, .., title] = CONTENTS;
    let status = |status, retry_after| (FaultKind::Status { status, retry_after }, "contacts.*", By::SystemA);
    let edited = || [("jobtitle".to_owned(), format!("{title} {{n}}"))].into();
    let torn = format!("{{\"id\":\"1\",\"properties\":{{\"lastname\":\"{family}").into_bytes();
    vec![
        status(500, None),
        status(502, None),
        status(503, Some(1)),
        status(504, None),
        status(423, Some(1)),
        status(429, Some(1)),
        status(477, Some(1)),
        status(403, None),
        (
            FaultKind::Refused { status: 500, code: "INTERNAL".into(), message: "it broke".into() },
            "contacts.*",
            By::SystemA,
        ),
        (FaultKind::ResetBefore, "contacts.*", By::SystemA),
        (FaultKind::DropAfter, "contacts.*", By::SystemA),
        (FaultKind::WithholdAfter { ms: 300 }, "contacts.*", By::SystemA),
        (FaultKind::Latency { ms: 50, jitter_ms: 20 }, "contacts.*", By::SystemA),
        (
            FaultKind::Automation {
                property: "phone".into(),
                rewrite: Rewrite::PhonePlus,
                in_response: true,
            },
            "contacts.update",
            By::SystemA,
        ),
        (
            FaultKind::PersonEditInWrite { properties: edited(), object_id: None },
            "contacts.update",
            By::SystemA,
        ),
        (
            FaultKind::PersonEditAfterRead { properties: edited(), object_id: None },
            "contacts.read",
            By::Person,
        ),
        (FaultKind::AnswerBody { body: torn, object_id: None }, "contacts.read", By::Person),
        (FaultKind::WebhookLost, "*", By::Person),
        (FaultKind::WebhookDuplicated { delay_ms: 50 }, "*", By::Person),
        (FaultKind::WebhookDelayed { ms: 100, jitter_ms: 50 }, "*", By::Person),
        (FaultKind::WebhookReordered { window_ms: 100 }, "*", By::Person),
    ]
}

/// A house and the one record in it whose edits run into everything.
struct Stage {
    house: House,
    shim: Shim,
    portal: u64,
    internal: String,
    external: u64,
    edits: u32,
    /// Names of the disturbances that happened.
    happened: BTreeSet<&'static str>,
    /// Refresh tokens that were valid at some time.
    refresh_tokens: BTreeSet<String>,
}

impl Stage {
    async fn build(tokens: TokenKind) -> Result<Self, Error> {
        let shim = Shim::compile()?;
        let mut environment: std::collections::BTreeMap<_, _> = shim.environment().into();
        environment.insert("TANDEM_LOG".to_owned(), "trace".to_owned());
        let connection = "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 1000\n\
                          [objects.contact]\non_conflict = \"internal\"\n";
        let plan = Plan { environment, tokens, connection: connection.to_owned(), ..Plan::roomy(&["acme"]) };
        let house = House::build(plan).await?;
        let portal = house.customer("acme")?.info.portal_id;
        let [family, phone, note, address, _] = CONTENTS;
        let document = json!({"email": format!("{address}@acme.example"), "family_name": family, "phone": phone, "notes": note});
        let internal = house.system_a("acme").create(&document).await?.id.ok_or("not taken")?;
        house.quiet(LONG).await?;
        let there = house.customer("acme")?.account.list().await?;
        let external = there.first().ok_or("not delivered")?.id.parse()?;
        let (happened, refresh_tokens) = (BTreeSet::new(), BTreeSet::new());
        let mut stage = Self { house, shim, portal, internal, external, edits: 0, happened, refresh_tokens };
        stage.learn().await?;
        Ok(stage)
    }

    /// Takes note of the refresh token that is valid now.
    async fn learn(&mut self) -> Result<(), Error> {
        let accounts = self.house.control.accounts().await?;
        self.refresh_tokens.extend(accounts.into_iter().filter_map(|account| account.refresh_token));
        Ok(())
    }

    /// Everything that was ever a credential here.
    async fn secrets(&mut self) -> Result<Markers, Error> {
        self.learn().await?;
        let access = self.house.control.tokens(self.portal).await?;
        let app = self.house.app.client_secret.clone();
        let others = [app.as_str(), ADMIN, WRONG];
        let all = access.iter().chain(&self.refresh_tokens).map(String::as_str).chain(others);
        Ok(Markers::new(all))
    }

    async fn edit(&mut self, by: By) -> Result<String, Error> {
        self.edits += 1;
        let note = format!("{} {}", CONTENTS[2], self.edits);
        match by {
            By::SystemA => {
                let patch = json!({ "notes": note });
                let edited = self.house.system_a("acme").patch(&self.internal, &patch).await?;
                assert!(edited.status.is_success(), "{}", edited.status);
            }
            By::Person => {
                let edited = [("message", note.as_str())];
                self.house.control.person_edits(self.portal, self.external, &edited).await?;
            }
        }
        Ok(note)
    }

    /// Waits until both sides have the note.
    async fn arrives(&self, note: &str, after: &str) -> Result<(), Error> {
        let house = &self.house;
        until(&format!("the edit after {after} arrives"), LONG, async || {
            // What a refusal has stopped goes on when somebody says so.
            house.post("/v1/resume", &json!({"connection": "acme"})).await?;
            house.post("/v1/dead/replay", &json!("all")).await?;
            let there = house.control.dump(self.portal).await?;
            let outside =
                there.records.iter().any(|it| it.properties.get("message").is_some_and(|it| it == note));
            let document = house.system_a("acme").read(&self.internal).await?.unwrap_or_default();
            let inside = document.get("notes") == Some(&json!(note));
            let seen = format!("inside {inside}, outside {outside}: {}", house.get("/v1/status").await?);
            Ok(if inside && outside { Ok(()) } else { Err(seen) })
        })
        .await
    }

    /// Orders disturbances, makes an edit that runs into them, and waits until it has arrived nevertheless.
    async fn disturb(&mut self, orders: &[FaultOrder], by: By) -> Result<(), Error> {
        for order in orders {
            self.house.control.order(order).await?;
            self.happened.insert(order.kind.name());
        }
        let note = self.edit(by).await?;
        let what = format!("{orders:?}");
        let house = &self.house;
        until(&format!("{what} has happened"), LONG, async || {
            let faults = house.control.faults().await?.faults;
            let all = faults.iter().all(|fault| fault.fired > 0);
            Ok(if all { Ok(()) } else { Err(format!("{faults:?}")) })
        })
        .await?;
        house.control.clear_faults().await?;
        self.arrives(&note, &what).await
    }

    /// The sandboxes hold no credential. Gives whether they hold the note, which passes through the mapping. An instance that was
    /// just replaced does not.
    async fn sandboxes(&mut self) -> Result<bool, Error> {
        let secrets = self.secrets().await?;
        let guests = self.shim.guests()?;
        let contents = Markers::new(CONTENTS);
        let mut passed = Vec::new();
        for guest in &guests {
            assert_eq!(
                secrets.find(&guest.bytes),
                Vec::<String>::new(),
                "a guest at {:x} holds it",
                guest.start
            );
            passed.extend(contents.find(&guest.bytes));
        }
        assert!(!guests.is_empty(), "no guest was found");
        Ok(passed.contains(&format!("{} (as it is)", CONTENTS[2])))
    }

    /// The search in the sandboxes finds what is there: a note that has just passed through.
    async fn sandboxes_are_searched(&mut self) -> Result<(), Error> {
        for _ in 0..20 {
            let note = self.edit(By::SystemA).await?;
            self.arrives(&note, "nothing").await?;
            if self.sandboxes().await? {
                return Ok(());
            }
        }
        Err("no guest ever held what passed through it: the search does not work".into())
    }

    /// The same search finds the credentials where they have to be: in the memory of the daemon itself.
    async fn host(&mut self) -> Result<(), Error> {
        // Memory that is given back while it is read is read in part: look again.
        until("the daemon's own token is found in its memory", LONG, async || {
            let access = self.house.control.tokens(self.portal).await?;
            let wanted = Markers::new(access.iter().map(String::as_str));
            let regions = self.shim.rest()?;
            let found = regions.iter().any(|region| !wanted.find(&region.bytes).is_empty());
            let bytes: usize = regions.iter().map(|region| region.bytes.len()).sum();
            Ok(if found {
                Ok(())
            } else {
                Err(format!("{} regions of {bytes} bytes without it", regions.len()))
            })
        })
        .await
    }

    /// What the command line says.
    fn commands(&self) -> Result<Vec<Asked>, Error> {
        let all: [&[&str]; 6] = [
            &["check"],
            &["check", "--live"],
            &["status"],
            &["status", "--json"],
            &["dead", "list", "--json"],
            &["review", "list", "--json"],
        ];
        all.iter()
            .map(|arguments| {
                let output = self.house.command(arguments)?.output()?;
                let text = [output.stdout, output.stderr].concat();
                assert!(!text.is_empty(), "{arguments:?} says nothing");
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok(Asked { what: arguments.join(" "), status: 0, text })
            })
            .collect()
    }

    /// What the admin API says of everything.
    async fn answers(&self) -> Result<Vec<Asked>, Error> {
        let http = client()?;
        let dead = self.house.get("/v1/dead?limit=10").await?;
        let mut paths = vec![
            "/metrics".to_owned(),
            "/v1/status".to_owned(),
            "/v1/dead?limit=10".to_owned(),
            "/v1/review?limit=10".to_owned(),
            "/v1/providers".to_owned(),
            format!("/v1/explain?scope=acme&object=contact&id={}", self.internal),
        ];
        let letters = dead.as_array().into_iter().flatten();
        paths.extend(letters.filter_map(|row| Some(format!("/v1/dead/{}", row.get("seq")?))));
        let mut answers = Vec::new();
        for path in paths {
            let request = http.get(format!("{}{path}", self.house.base)).bearer_auth(ADMIN);
            let answer = ask(request, &path).await?;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            answers.push(answer);
        }
        Ok(answers)
    }

    /// What the system shows of the daemon's process.
    fn process(&self, secrets: &Markers) -> Result<(), Error> {
        let pid = self.house.daemon_pid().ok_or("the daemon has no process id")?;
        let folder = std::path::PathBuf::from(format!("/proc/{pid}"));
        let mut read = 0;
        for file in
            ["cmdline", "environ", "comm", "status", "stat", "maps", "mountinfo", "auxv", "io", "limits"]
        {
            // Who may not read it sees nothing either: the daemon forbids it to its own user.
            match std::fs::read(folder.join(file)) {
                Ok(bytes) => {
                    read += 1;
                    assert_eq!(secrets.find(&bytes), Vec::<String>::new(), "/proc/PID/{file}");
                }
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{file}"),
            }
        }
        assert!(read >= 3, "only {read} files of /proc/PID can be read");
        for task in std::fs::read_dir(folder.join("task"))? {
            let name = std::fs::read(task?.path().join("comm")).unwrap_or_default();
            assert_eq!(secrets.find(&name), Vec::<String>::new(), "a thread's name");
        }
        let limits = std::fs::read_to_string(folder.join("limits"))?;
        let core =
            limits.lines().find_map(|line| line.strip_prefix("Max core file size")).ok_or("no core limit")?;
        let core: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(core.get(..2), Some(["0", "0"].as_slice()), "{limits}");
        Ok(())
    }

    /// After the end: the log, and the files of the store.
    async fn leavings(mut self) -> Result<(), Error> {
        let secrets = self.secrets().await?;
        let accounts = self.house.control.accounts().await?;
        self.house.stop().await?;
        let log = self.house.log();
        let at_trace = log.lines().any(|line| line.contains("DEBUG") || line.contains("TRACE"));
        assert!(at_trace, "the log is not at trace");
        let contents = Markers::new(CONTENTS);
        for line in log.lines() {
            assert_eq!(
                secrets.find(line.as_bytes()),
                Vec::<String>::new(),
                "a credential in the log: {line}"
            );
            assert_eq!(contents.find(line.as_bytes()), Vec::<String>::new(), "contents in the log: {line}");
        }
        let data = self.house.folder.join("data");
        let kept = data.join("tokens/acme.token");
        let mut found = secrets.search(&data)?;
        if self.refresh_tokens.len() > 1 {
            // The rotated refresh token, and none of those before it.
            let current = accounts.first().and_then(|account| account.refresh_token.clone()).ok_or("none")?;
            let exempt = (kept.clone(), format!("{current} (as it is)"));
            assert!(found.contains(&exempt), "a rotated refresh token is kept: {found:?}");
            found.retain(|it| *it != exempt);
            let mode = |path: &std::path::Path| Ok::<_, Error>(path.metadata()?.permissions().mode() & 0o777);
            assert_eq!((mode(&kept)?, mode(&data.join("tokens"))?), (0o600, 0o700));
        }
        assert_eq!(found, [], "a credential is in a file of the store");
        // The store's files are not compressed or hidden from this search: contents are found in them.
        assert!(!contents.search(&data)?.is_empty());
        Ok(())
    }
}

/// Everything that is asked and answered at the end, with every disturbance behind it.
async fn inspect(stage: &mut Stage, commands: &[Asked], errors: &[Asked]) -> Result<(), Error> {
    let known: BTreeSet<&str> = FaultKind::NAMES.into();
    assert_eq!(stage.happened, known, "every disturbance of the simulator has happened");
    let answers = stage.answers().await?;
    let secrets = stage.secrets().await?;
    for answer in answers.iter().chain(errors).chain(commands) {
        let found = secrets.find(answer.text.as_bytes());
        assert_eq!(found, Vec::<String>::new(), "the answer to {}: {}", answer.what, answer.text);
    }
    for answer in errors {
        assert!((400..500).contains(&answer.status), "{}: {} {}", answer.what, answer.status, answer.text);
    }
    let contents = Markers::new(CONTENTS);
    // Only what was asked to show a record's values does: `review`, `explain`, and a dead letter on its own, which has the
    // record as it was seen.
    let shows = ["/v1/review", "/v1/explain", "/v1/dead/", "review"];
    let quiet: Vec<&Asked> = errors
        .iter()
        .chain(&answers)
        .chain(commands)
        .filter(|answer| !shows.iter().any(|it| answer.what.starts_with(it)))
        .collect();
    // Why a record was set aside is among it: the CRM quotes what it refuses, and is not quoted with that.
    let listed = quiet.iter().find(|it| it.what == "dead list --json").ok_or("no list of letters")?;
    assert!(listed.text.contains("[value]"), "{}", listed.text);
    for answer in quiet {
        let found = contents.find(answer.text.as_bytes());
        assert_eq!(found, Vec::<String>::new(), "contents in {}: {}", answer.what, answer.text);
    }
    stage.sandboxes().await?;
    stage.process(&secrets)
}

/// Everything but the end of the credentials, which differs.
async fn play(stage: &mut Stage) -> Result<(Vec<Asked>, Vec<Asked>), Error> {
    stage.sandboxes_are_searched().await?;
    stage.host().await?;
    for (kind, operation, by) in disturbances() {
        let mut order = FaultOrder::new(kind).operation(operation);
        if matches!(by, By::SystemA) {
            order = order.times(1);
        }
        stage.disturb(&[order], by).await?;
    }
    stage.sandboxes_are_searched().await?;
    let house = &stage.house;
    house.quiet(LONG).await?;
    // HubSpot refuses an address, and a person types what System A cannot have: both are set aside.
    let [family, _, _, address, title] = CONTENTS;
    house.system_a("acme").create(&json!({"email": format!("{address}@localhost")})).await?;
    let typed = [("lastname", family), ("jobtitle", &title.repeat(100))];
    house.control.person_creates(stage.portal, &typed).await?;
    until("two records are set aside", LONG, async || {
        let dead = house.get("/v1/dead?limit=10").await?.to_string();
        let both = dead.contains("\"rejected\"") && dead.contains("\"canonical-in\"");
        Ok(if both { Ok(()) } else { Err(dead) })
    })
    .await?;
    Ok((stage.commands()?, wrong_requests(house).await?))
}

async fn no_longer_accepted(house: &House) -> Result<(), Error> {
    until("the credentials are accepted no more", LONG, async || {
        let status = house.get("/v1/status").await?;
        let cause = status.pointer("/connections/0/cause").and_then(Value::as_str).unwrap_or_default();
        Ok(if cause == "authorisation" { Ok(()) } else { Err(status.to_string()) })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_token_and_contents_stay_where_they_belong() -> Result<(), Error> {
    let mut stage = Stage::build(TokenKind::Private).await?;
    let (commands, errors) = play(&mut stage).await?;
    // The token ends last: nothing goes on after it.
    let end = FaultOrder::new(FaultKind::ExpireToken).times(1);
    stage.happened.insert(end.kind.name());
    stage.house.control.order(&end).await?;
    stage.edit(By::SystemA).await?;
    no_longer_accepted(&stage.house).await?;
    inspect(&mut stage, &commands, &errors).await?;
    stage.leavings().await
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth_tokens_and_contents_stay_where_they_belong() -> Result<(), Error> {
    let mut stage = Stage::build(TokenKind::Oauth).await?;
    let (commands, errors) = play(&mut stage).await?;
    // An access token ends early, and the refresh works at once, or fails in every way that passes.
    let ends = || FaultOrder::new(FaultKind::ExpireToken).operation("contacts.*").times(1);
    stage.disturb(&[ends()], By::SystemA).await?;
    for kind in [
        FaultKind::Status { status: 500, retry_after: None },
        FaultKind::Status { status: 429, retry_after: Some(1) },
        FaultKind::ResetBefore,
        FaultKind::DropAfter,
    ] {
        let fails = FaultOrder::new(kind).operation("oauth.token").times(1);
        // In this order: a poll may end the token as soon as that is ordered.
        stage.disturb(&[fails, ends()], By::SystemA).await?;
    }
    // The vendor rotates the refresh token, twice, so that a stored one is replaced as well.
    let rotates = json!({ "rotateRefreshTokens": true });
    stage.house.control.set_settings(stage.portal, rotates).await?;
    for _ in 0..2 {
        stage.disturb(&[ends()], By::SystemA).await?;
        stage.learn().await?;
    }
    assert_eq!(stage.refresh_tokens.len(), 3, "it was rotated twice");
    stage.sandboxes().await?;
    // The customer revokes the app: the refresh is refused, and somebody has to act.
    let accounts = stage.house.control.accounts().await?;
    let current = accounts.first().and_then(|account| account.refresh_token.clone()).ok_or("none")?;
    let revoke = format!("{}/oauth/v1/refresh-tokens/{current}", stage.house.api);
    client()?.delete(revoke).send().await?.error_for_status()?;
    stage.house.control.expire_token(stage.portal).await?;
    stage.edit(By::SystemA).await?;
    no_longer_accepted(&stage.house).await?;
    inspect(&mut stage, &commands, &errors).await?;
    stage.leavings().await
}

/// A customer of another CRM, whose changes are pushed, in a house into whose memory one can look.
struct Pushed {
    house: House,
    shim: Shim,
    crm: Crm,
    edits: u32,
}

impl Pushed {
    async fn house(plan: Plan) -> Result<(House, Shim), Error> {
        let shim = Shim::compile()?;
        let mut plan = plan;
        plan.environment.extend(shim.environment());
        plan.environment.insert("TANDEM_LOG".to_owned(), "trace".to_owned());
        Ok((House::build(plan).await?, shim))
    }

    /// A record that both sides have: its id here and there.
    async fn shared(&mut self) -> Result<(String, String), Error> {
        let [family, phone, note, address, _] = CONTENTS;
        let document = json!({"email": format!("{address}@acme.example"), "family_name": family, "phone": phone, "notes": note});
        let internal = self.house.system_a("acme").create(&document).await?.id.ok_or("not taken")?;
        self.house.quiet(LONG).await?;
        let there = self.crm.dump().await?.into_iter().next().ok_or("not delivered")?;
        Ok((internal, there.id))
    }

    /// Somebody edits it there, and the push brings it here.
    async fn is_told(&mut self, (internal, external): &(String, String)) -> Result<(), Error> {
        self.edits += 1;
        let note = format!("{} {}", CONTENTS[2], self.edits);
        self.crm.edit(external, &[("notes", &note)]).await?;
        until("the edit is told", LONG, async || {
            let document = self.house.system_a("acme").read(internal).await?.unwrap_or_default();
            Ok(if document.get("notes") == Some(&json!(note)) { Ok(()) } else { Err(document.to_string()) })
        })
        .await
    }

    /// None of the secrets is in a sandbox, though what passed through it is; all are where they have to be, in the daemon.
    async fn stay_outside(&mut self, secrets: &Markers, of_the_daemon: &str) -> Result<(), Error> {
        let shared = self.shared().await?;
        let contents = Markers::new(CONTENTS);
        let mut passed = false;
        for _ in 0..20 {
            self.is_told(&shared).await?;
            for guest in &self.shim.guests()? {
                assert_eq!(secrets.find(&guest.bytes), Vec::<String>::new(), "a guest at {:x}", guest.start);
                passed |= !contents.find(&guest.bytes).is_empty();
            }
            if passed && self.edits >= 3 {
                break;
            }
        }
        assert!(passed, "no guest ever held what passed through it: the search does not work");
        let own = Markers::new([of_the_daemon]);
        until("the daemon's own secret is found in its memory", LONG, async || {
            let regions = self.shim.rest()?;
            let found = regions.iter().any(|region| !own.find(&region.bytes).is_empty());
            Ok(if found { Ok(()) } else { Err(format!("{} regions without it", regions.len())) })
        })
        .await
    }

    /// After the end: the log, and the files of the store.
    async fn leavings(mut self, secrets: &Markers) -> Result<(), Error> {
        self.house.stop().await?;
        for line in self.house.log().lines() {
            assert_eq!(secrets.find(line.as_bytes()), Vec::<String>::new(), "in the log: {line}");
        }
        let data = self.house.folder.join("data");
        assert_eq!(secrets.search(&data)?, [], "a credential is in a file of the store");
        assert!(!Markers::new(CONTENTS).search(&data)?.is_empty(), "contents are found there");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_a_soap_message_and_the_token_of_its_address_enter_no_sandbox() -> Result<(), Error> {
    let (house, shim) = Pushed::house(salesforce::plan()).await?;
    house.bring_salesforce()?;
    let mut wanted = salesforce::Wanted::new("acme");
    wanted.org.outbound.include_session = true;
    let customer = house.salesforce_customer(&wanted).await?;
    let crm = house.salesforce_crm(&customer);
    let mut pushed = Pushed { house, shim, crm, edits: 0 };
    let of_requests = pushed.house.control.salesforce_tokens(customer.number()).await?.len();
    let known = [
        customer.webhook_secret.as_str(),
        customer.org.refresh_token.as_str(),
        salesforce::CLIENT_SECRET,
        ADMIN,
    ];
    let before = Markers::new(known);
    pushed.stay_outside(&before, &customer.webhook_secret).await?;
    // Each message bore a session of its own: all that there ever were are looked for at last, with the guests as they are then.
    let sessions = pushed.house.control.salesforce_tokens(customer.number()).await?;
    assert!(sessions.len() > of_requests, "no message bore a session");
    let secrets = Markers::new(known.into_iter().chain(sessions.iter().map(String::as_str)));
    for guest in &pushed.shim.guests()? {
        assert_eq!(secrets.find(&guest.bytes), Vec::<String>::new(), "a guest at {:x}", guest.start);
    }
    pushed.leavings(&secrets).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_basic_password_and_an_api_token_enter_no_sandbox() -> Result<(), Error> {
    let (house, shim) = Pushed::house(pipedrive::plan()).await?;
    house.bring_pipedrive()?;
    let customer = house.pipedrive_customer(&pipedrive::Wanted::new("acme")).await?;
    let crm = house.pipedrive_crm(&customer);
    let mut pushed = Pushed { house, shim, crm, edits: 0 };
    // The password is sent with the registration, shown by the listing of all webhooks, and comes back with every push.
    let pair = format!("{}:{}", customer.webhook_user(), customer.webhook_password);
    let known = [
        customer.webhook_password.as_str(),
        pair.as_str(),
        customer.account.api_token.as_str(),
        pipedrive::CLIENT_SECRET,
        ADMIN,
    ];
    let secrets = Markers::new(known);
    pushed.stay_outside(&secrets, &customer.webhook_password).await?;
    pushed.leavings(&secrets).await
}
