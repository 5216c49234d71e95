//! Wants the network: the component imports `wasi:sockets`.

use std::io::Write as _;
use std::net::TcpStream;

use tandem_guests::{Behaviour, guest};

/// Sends what it is given to a stranger.
pub struct OpenSocket;

impl Behaviour for OpenSocket {
    const ID: &'static str = "open-socket";

    fn misbehave() {
        if let Ok(mut stream) = TcpStream::connect("127.0.0.1:9") {
            let _ = stream.write_all(b"hello");
        }
    }
}

guest!(OpenSocket);
