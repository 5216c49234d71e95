//! The daemon itself, as a process: what it prints, how it ends, where it listens.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{House, TOKEN};

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
    assert_eq!(status["connections"], serde_json::json!([]));
    drop(child.stdin.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
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
