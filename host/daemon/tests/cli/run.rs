//! The daemon itself, as a process: what it prints, how it ends, where it listens.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, House, TOKEN, guest};

/// A folder on a real disk: the store refuses others.
fn house() -> House {
    let house = House::configured();
    for folder in ["providers", "connections"] {
        std::fs::create_dir_all(house.path().join(folder)).expect("a folder");
    }
    house
}

fn tandem(house: &House) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.current_dir(house.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The first line that the daemon prints; everything that it wrote if it ended instead.
fn announced(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    if line.is_empty() {
        let mut said = String::new();
        child.stderr.as_mut().expect("a pipe").read_to_string(&mut said).expect("text");
        panic!("the daemon ended: {:?}: {said}", child.wait());
    }
    line
}

fn healthy(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.starts_with("HTTP/1.1 200 ")
}

#[test]
fn it_says_where_it_listens_and_ends_well_when_its_parent_goes() {
    let house = house();
    let mut child = tandem(&house)
        .args(["run", "--json", "--until-stdin-closes"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    let line: Value = serde_json::from_str(&announced(&mut child)).expect("JSON");
    let url = line["api"].as_str().expect("an address").to_owned();
    assert!(healthy(url.trim_start_matches("http://")));
    let asked = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["status", "--json"])
        .envs([("TANDEM_URL", url.as_str()), ("TANDEM_TOKEN", TOKEN)])
        .output()
        .expect("it runs");
    let status: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!(status["connections"], json!([]));
    drop(child.stdin.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// A daemon that runs until this is dropped.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(house: &House) -> Self {
        let mut child = tandem(house)
            .args(["run", "--json", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        Self { child, url: said["api"].as_str().expect("an address").to_owned() }
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let asked = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(arguments)
            .arg("--json")
            .envs([("TANDEM_URL", self.url.as_str()), ("TANDEM_TOKEN", TOKEN)])
            .output()
            .expect("it runs");
        assert!(asked.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&asked.stderr));
        serde_json::from_slice(&asked.stdout).expect("JSON")
    }

    /// What the condition gives, once it gives something.
    fn until<T>(&self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = condition(self) {
                return found;
            }
            assert!(Instant::now() < end, "{what}: not within a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Which connections' directions are paused: to the CRM, to System A.
    fn paused(&self) -> Vec<(String, bool, bool)> {
        let status = self.ask(&["status"]);
        let rows = status["connections"].as_array().expect("a list");
        let is = |row: &Value, name: &str| row["paused"][name] == true;
        rows.iter()
            .map(|row| {
                let name = row["connection"].as_str().unwrap_or_default().to_owned();
                (name, is(row, "to_external"), is(row, "to_internal"))
            })
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_pause_outlasts_a_kill_until_it_is_resumed() {
    let house = house();
    house.write("providers/ledger.wasm", &std::fs::read(guest("ledger")).expect("the ledger"));
    let connect = |name: &str, more: &str| {
        let text = format!(
            "provider = 'ledger'\nscope = '{name}'\nbase_url = 'http://127.0.0.1:9'\nhosts = ['127.0.0.1']\n\
             allow_loopback = true\n{more}\nauth = {{ scheme = 'token', token = {{ file = '../admin.token' }} }}\n\
             [objects.contact]\n"
        );
        house.write(&format!("connections/{name}.toml"), text.as_bytes());
    };
    for name in ["acme", "bolt", "cone"] {
        connect(name, "");
    }
    let row = |name: &str, external, internal| (name.to_owned(), external, internal);
    let daemon = Running::start(&house);
    daemon.ask(&["pause", "acme", "--direction", "to-external"]);
    daemon.ask(&["pause", "bolt"]);
    // SIGKILL: what was answered was on disk.
    drop(daemon);
    let daemon = Running::start(&house);
    let expected = [row("acme", true, false), row("bolt", true, true), row("cone", false, false)];
    assert_eq!(daemon.paused(), expected);

    daemon.ask(&["resume", "bolt"]);
    drop(daemon);
    let daemon = Running::start(&house);
    assert_eq!(daemon.paused()[1], row("bolt", false, false));

    daemon.ask(&["pause", "--all"]);
    daemon.ask(&["resume", "cone"]);
    drop(daemon);
    connect("dune", "");
    let daemon = Running::start(&house);
    let expected = [
        row("acme", true, true),
        row("bolt", true, true),
        row("cone", false, false),
        row("dune", true, true),
    ];
    assert_eq!(daemon.paused(), expected, "also a connection that came later");

    daemon.ask(&["resume", "--all"]);
    drop(daemon);
    connect("cone", "paused = true");
    let daemon = Running::start(&house);
    let expected = [
        row("acme", false, false),
        row("bolt", false, false),
        row("cone", true, true),
        row("dune", false, false),
    ];
    assert_eq!(daemon.paused(), expected, "what a file says counts at each start");
}

#[test]
fn a_request_that_nothing_allows_sets_its_record_aside_and_the_next_one_goes_on() {
    let contact = |id: &str| json!({ "id": id, "version": "1", "fields": { "email": format!("p{}@acme.example", id.len()) } });
    // The first record's id leads out of the base URL.
    let (bad, good) = ("7/../../admin", "7");
    let rows = json!({ "rows": [contact(bad), contact(good)], "cursor": "w", "more": false });
    let nothing = json!({ "rows": [], "cursor": "c", "more": false });
    let crm = Daemon::answering(&[
        ("GET /me", 200, json!({})),
        ("GET /changes/contact?after=&limit=100", 200, nothing.clone()),
        ("GET /changes/contact?after=c&limit=100", 200, nothing),
        ("GET /records/contact?after=&limit=100", 200, rows),
        ("GET /records/contact/7", 200, contact(good)),
    ]);
    let house = crate::live::connected(&crm, "");
    let daemon = Running::start(&house);
    let letters = daemon.until("a record is set aside and the other one is taken in", |daemon| {
        let letters = daemon.ask(&["dead", "list"]);
        let status = daemon.ask(&["status"]);
        let row = &status["connections"][0];
        assert!(row["cause"] != "configuration", "{row}");
        (row["freshness_ms"].is_null() && letters != json!([])).then_some(letters)
    });
    let letter = &letters[0];
    assert_eq!(letters.as_array().map(Vec::len), Some(1), "{letters}");
    assert_eq!((&letter["external"], &letter["point"]), (&json!(bad), &json!("delivery")), "{letter}");
    assert_eq!(letter["problems"][0]["code"], "forbidden-request", "{letter}");
    let known = daemon.ask(&["explain", "contact", good, "--connection", "acme"]);
    assert_eq!(known["links"][0]["external"], good, "{known}");
}

#[test]
fn a_listener_that_is_handed_over_is_the_one_it_serves() {
    let house = house();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    // What a service manager does: the listener is descriptor 3, and the variables say so.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run --json";
    let mut child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_tandem")])
        .current_dir(house.path())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let line: Value = serde_json::from_str(&announced(&mut child)).expect("JSON");
    assert_eq!(line["api"], format!("http://{address}"));
    assert!(healthy(&address));
    child.kill().expect("it ends");
    child.wait().expect("it ends");
}

#[test]
fn an_address_that_is_taken_ends_it_with_64() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = taken.local_addr().expect("an address");
    let house = house();
    let main = format!("data_dir = 'data'\nhttp.listen = '{address}'\nauth.admin.file = 'admin.token'\n");
    house.write("tandem.toml", main.as_bytes());
    let done = house.tandem(&["run"]);
    assert_eq!((done.status, done.out.as_str()), (64, ""));
    assert!(done.err.contains(&format!("error: http.listen: {address}: ")), "{}", done.err);
    assert!(done.err.contains("choose another address or port"), "{}", done.err);
}

#[test]
fn a_log_filter_that_is_none_ends_it_with_64() {
    let done = house().with("TANDEM_LOG", "tandem=loud").tandem(&["run"]);
    assert_eq!((done.status, done.out.as_str()), (64, ""));
    assert!(done.err.starts_with("error: TANDEM_LOG: "), "{}", done.err);
}
