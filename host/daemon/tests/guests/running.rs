//! A daemon as a process in a folder of its own, and a CRM for the ledger that has no records.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

const TOKEN: &str = "token-of-the-administrator";

fn until<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        match condition() {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "waited too long for {what}: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A daemon that runs until this is dropped.
pub(crate) struct Running {
    folder: tempfile::TempDir,
    child: Child,
    url: String,
    /// The line of the file that was refused last.
    seen: RefCell<String>,
}

impl Running {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let main =
            "data_dir = 'data'\n[http]\nlisten = '127.0.0.1:0'\n[auth]\nadmin = { file = 'admin.token' }\n";
        for (name, text) in [("tandem.toml", main), ("admin.token", TOKEN)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        for name in ["providers", "connections"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .current_dir(folder.path())
            .args(["run", "--json", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("JSON");
        Self {
            folder,
            child,
            url: said["api"].as_str().expect("an address").to_owned(),
            seen: RefCell::default(),
        }
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let asked = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(arguments)
            .arg("--json")
            .envs([("TANDEM_URL", self.url.as_str()), ("TANDEM_TOKEN", TOKEN)])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&asked.stderr);
        serde_json::from_slice(&asked.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {said}"))
    }

    /// Whole at once, as a careful copy is.
    fn write(&self, path: &str, bytes: &[u8]) {
        let part = self.folder.path().join("part");
        std::fs::write(&part, bytes).expect("written");
        std::fs::rename(part, self.folder.path().join(path)).expect("renamed");
    }

    pub(crate) fn drop_in(&self, name: &str, bytes: &[u8]) {
        self.write(&format!("providers/{name}"), bytes);
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("providers").join(name)).expect("removed");
        until("the file is forgotten", || self.row(name).map_or(Ok(()), |row| Err(row.to_string())));
    }

    /// The file of a connection with the ledger.
    pub(crate) fn connect(&self, name: &str, base_url: &str, more: &str) {
        let text = format!(
            "provider = 'ledger'\nscope = '{name}'\nbase_url = '{base_url}'\nhosts = ['127.0.0.1']\n\
             allow_loopback = true\nauth = {{ scheme = 'token', token = {{ file = '../admin.token' }} }}\n\
             {more}[objects.contact]\n"
        );
        self.write(&format!("connections/{name}.toml"), text.as_bytes());
        self.ask(&["reload"]);
    }

    fn row(&self, name: &str) -> Option<Value> {
        let rows = self.ask(&["provider", "list"]);
        let is = |row: &&Value| {
            let file = row["file"].as_str().unwrap_or_default();
            Path::new(file).file_name().is_some_and(|file| file == name)
        };
        rows.as_array().expect("a list").iter().filter(|row| row["state"] != "serving").find(is).cloned()
    }

    /// Why a file is refused that was put in the place of another one, once it is: the line has its version.
    pub(crate) fn refused_anew(&self, name: &str) -> String {
        let before = self.seen.borrow().clone();
        let line = until(&format!("{name} is refused anew"), || match self.row(name) {
            Some(row) if row["state"] == "refused" && row["detail"] != before.as_str() => {
                Ok(row["detail"].as_str().expect("a reason").to_owned())
            }
            other => Err(format!("{other:?}")),
        });
        self.seen.replace(line.clone());
        line
    }

    /// Why a file is refused, once it is.
    pub(crate) fn refused(&self, name: &str) -> String {
        until(&format!("{name} is refused"), || match self.row(name) {
            Some(row) if row["state"] == "refused" => {
                Ok(row["detail"].as_str().expect("a reason").to_owned())
            }
            other => Err(format!("{other:?}")),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Answers every request with an empty page, and writes down what it was asked.
pub(crate) struct Crm {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Crm {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || answer(stream, &seen));
            }
        });
        Self { url, asked }
    }

    pub(crate) fn until_asked(&self, what: &str) {
        until(what, || {
            let asked = self.asked.lock().expect("not poisoned");
            if asked.iter().any(|line| line.contains(what)) { Ok(()) } else { Err(format!("{asked:?}")) }
        });
    }
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let (mut first, mut length) = (String::new(), 0);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && !line.trim().is_empty() {
        if first.is_empty() {
            first.clone_from(&line);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    asked.lock().expect("not poisoned").push(first);
    let body = r#"{"rows":[],"cursor":"cursor-1","more":false}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    // Whoever asked may have gone.
    let _written = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
}
