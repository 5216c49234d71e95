//! The binary in a folder of its own, and a daemon that answers what the test laid out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use serde_json::Value;

pub(crate) const TOKEN: &str = "marker-of-the-admin-token";

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let done = Self {
            status: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!done.out.contains(TOKEN) && !done.err.contains(TOKEN), "the token is shown: {done:?}");
        done
    }

    /// Standard output of a command that must have succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.status, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }
}

/// A folder with files, and the binary run in it.
pub(crate) struct House {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl House {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let house = Self { folder: tempfile::tempdir().expect("a folder"), variables: Vec::new() };
        for (name, text) in files {
            house.write(name, text.as_bytes());
        }
        house
    }

    /// A folder with a main file and nothing else.
    pub(crate) fn configured() -> Self {
        let main =
            "data_dir = 'data'\n[http]\nlisten = '127.0.0.1:0'\n[auth]\nadmin = { file = 'admin.token' }\n";
        Self::new(&[("tandem.toml", main), ("admin.token", TOKEN)])
    }

    /// The text of the main file.
    pub(crate) fn main(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("tandem.toml")).expect("a main file")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, bytes).expect("a file");
    }

    pub(crate) fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    pub(crate) fn tandem(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        command.current_dir(self.folder.path()).args(arguments);
        for variable in ["TANDEM_CONFIG", "TANDEM_URL", "TANDEM_TOKEN", "TANDEM_LOG"] {
            command.env_remove(variable);
        }
        for (variable, value) in &self.variables {
            command.env(variable, value);
        }
        Done::of(command.output().expect("the binary runs"))
    }
}

/// A guest's component.
pub(crate) fn guest(name: &str) -> PathBuf {
    let folder = std::env::var_os("TANDEM_GUESTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasm32-wasip2/guest/examples"),
        PathBuf::from,
    );
    let file = folder.join(format!("{name}.wasm"));
    let build = "cargo build -p tandem-guests --examples --target wasm32-wasip2 --profile guest";
    assert!(file.is_file(), "there is no {}: run `{build}`, or set TANDEM_GUESTS", file.display());
    file
}

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A daemon's API with answers by `METHOD /path?query`, which writes down what it was asked.
pub(crate) struct Daemon {
    pub(crate) url: String,
    asked: Asked,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub(crate) fn answering(answers: &[(&str, u16, Value)]) -> Self {
        let answers: BTreeMap<String, (u16, Value)> = answers
            .iter()
            .map(|(asked, status, answer)| ((*asked).to_owned(), (*status, answer.clone())))
            .collect();
        let asked = Asked::default();
        let seen = asked.clone();
        let answer = move |request: Request| async move {
            let (head, body) = request.into_parts();
            let known =
                head.headers.get("authorization").is_some_and(|value| *value == format!("Bearer {TOKEN}"));
            let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            let question = format!("{} {}", head.method, head.uri);
            seen.lock()
                .expect("a lock")
                .push((question.clone(), serde_json::from_slice(&body).unwrap_or_default()));
            let refused = |status: u16, detail: &str| {
                (status, serde_json::json!({ "title": "", "status": status, "detail": detail }))
            };
            let (status, answer) = match answers.get(&question) {
                _ if !known => refused(401, "the token is not known"),
                Some(answer) => answer.clone(),
                None => refused(404, &format!("there is nothing at {question}")),
            };
            (axum::http::StatusCode::from_u16(status).expect("a status"), axum::Json(answer)).into_response()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, asked, _runtime: runtime }
    }

    /// A folder whose commands ask this daemon.
    pub(crate) fn house(&self) -> House {
        House::new(&[]).with("TANDEM_URL", &self.url).with("TANDEM_TOKEN", TOKEN)
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().expect("a lock"))
    }
}
