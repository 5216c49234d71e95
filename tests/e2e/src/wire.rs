//! HTTP/1.1 as a recording of `tests/shim/shim.c` shows it: what a process was asked, what it answered, and when each byte left.
//!
//! Only sockets on which somebody else spoke first are looked at: those that the process serves. Requests and answers of one
//! socket come in the same order. What is not HTTP is passed over.

use std::collections::{BTreeMap, HashMap};

use crate::power::{Recording, Talk};

/// A request, and its answer as far as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Position of the request's first byte.
    pub asked: usize,
    /// Its method.
    pub method: String,
    /// Its path with its query.
    pub path: String,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    /// Its answer.
    pub answer: Option<Answer>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Position before its first byte left.
    pub at: usize,
    /// Its status.
    pub status: u16,
    /// Its headers, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// Its body, as far as it left.
    pub body: Vec<u8>,
    /// Where stretches of the body left: (place in the body, position).
    left: Vec<(usize, usize)>,
}

impl Answer {
    /// Position before the byte at this place of the body left.
    #[must_use]
    pub fn left(&self, place: usize) -> usize {
        mark(&self.left, place).unwrap_or(self.at)
    }

    /// The body's lines, with the position before each began to leave. A line without its end is left out.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> + '_ {
        let mut place = 0;
        self.body.split_inclusive(|byte| *byte == b'\n').filter_map(move |line| {
            let at = self.left(place);
            place += line.len();
            line.strip_suffix(b"\n").map(|line| (at, line))
        })
    }
}

fn mark(marks: &[(usize, usize)], place: usize) -> Option<usize> {
    let after = marks.partition_point(|(from, _)| *from <= place);
    marks.get(after.checked_sub(1)?).map(|(_, position)| *position)
}

/// One direction of a socket.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    marks: Vec<(usize, usize)>,
}

impl Stream {
    fn push(&mut self, position: usize, data: &[u8]) {
        if !data.is_empty() {
            self.marks.push((self.bytes.len(), position));
            self.bytes.extend_from_slice(data);
        }
    }
}

#[derive(Default)]
struct Socket {
    received: Stream,
    sent: Stream,
    is_ours: bool,
}

/// All exchanges on sockets that the recorded process serves, in the order of their first bytes.
#[must_use]
pub fn exchanges(recording: &Recording) -> Vec<Exchange> {
    let mut open: HashMap<u64, Socket> = HashMap::new();
    let mut all = Vec::new();
    for (position, number, talk) in recording.talk() {
        match talk {
            Talk::Closed => {
                if let Some(socket) = open.remove(&number) {
                    all.extend(read(&socket));
                }
            }
            Talk::Received(data) => open.entry(number).or_default().received.push(position, data),
            Talk::Sent(data) => {
                let socket = open.entry(number).or_default();
                // Whoever speaks first asks.
                socket.is_ours |= socket.received.bytes.is_empty();
                socket.sent.push(position, data);
            }
        }
    }
    for socket in open.values() {
        all.extend(read(socket));
    }
    all.sort_by_key(|exchange| exchange.asked);
    all
}

fn read(socket: &Socket) -> Vec<Exchange> {
    if socket.is_ours {
        return Vec::new();
    }
    let mut answers = messages(&socket.sent, true).into_iter().filter_map(|message| {
        let status = message.first.split(' ').nth(1)?.parse().ok()?;
        // An interim answer is followed by the one that counts.
        (status >= 200).then_some(Answer {
            at: message.at,
            status,
            headers: message.headers,
            body: message.body,
            left: message.left,
        })
    });
    messages(&socket.received, false)
        .into_iter()
        .filter_map(|message| {
            let mut words = message.first.split(' ');
            let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
            Some(Exchange { asked: message.at, method, path, body: message.body, answer: answers.next() })
        })
        .collect()
}

struct Message {
    at: usize,
    first: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    left: Vec<(usize, usize)>,
}

/// The messages of a stream; the last one may lack the end of its body.
fn messages(stream: &Stream, answers: bool) -> Vec<Message> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(rest) = stream.bytes.get(from..).filter(|rest| !rest.is_empty()) {
        let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else { break };
        let Some(Ok(head)) = rest.get(..end).map(std::str::from_utf8) else { break };
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        if !first.contains("HTTP/1.") {
            break;
        }
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        let bodiless = answers && [" 204", " 304", " 100"].iter().any(|status| first.contains(status));
        let begin = from + end + 4;
        let mut message = Message {
            at: mark(&stream.marks, from).unwrap_or(0),
            first,
            body: Vec::new(),
            left: Vec::new(),
            headers,
        };
        let next = if bodiless {
            Some(begin)
        } else if message.headers.get("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            chunks(stream, begin, &mut message)
        } else {
            let len = message.headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            take(stream, begin, len, &mut message)
        };
        all.push(message);
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    all
}

/// Adds a stretch of the stream to a body; where the message goes on, if all of it is there.
fn take(stream: &Stream, from: usize, len: usize, message: &mut Message) -> Option<usize> {
    let end = (from + len).min(stream.bytes.len());
    let piece = stream.bytes.get(from..end)?;
    let base = message.body.len();
    if !piece.is_empty() {
        message.left.push((base, mark(&stream.marks, from)?));
        let inside = stream.marks.iter().filter(|(place, _)| (from + 1..end).contains(place));
        message.left.extend(inside.map(|(place, position)| (base + place - from, *position)));
        message.body.extend_from_slice(piece);
    }
    (piece.len() == len).then_some(end)
}

fn chunks(stream: &Stream, mut from: usize, message: &mut Message) -> Option<usize> {
    loop {
        let rest = stream.bytes.get(from..)?;
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        // Behind a chunk, and behind the last one in place of trailers, is an empty line.
        from = take(stream, from + end + 2, size, message)? + 2;
        if size == 0 {
            return (from <= stream.bytes.len()).then_some(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[(usize, &str)]) -> Stream {
        let mut stream = Stream::default();
        for (position, piece) in pieces {
            stream.push(*position, piece.as_bytes());
        }
        stream
    }

    #[test]
    fn requests_and_answers_of_a_socket_belong_together_in_order() {
        let socket = Socket {
            received: stream(&[
                (1, "POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nhe"),
                (2, "llo"),
                (8, "DELETE /b HTTP/1.1\r\n\r\n"),
                (12, "GET /c HTTP/1.1\r\n\r\n"),
            ]),
            sent: stream(&[
                (5, "HTTP/1.1 100 Continue\r\n\r\n"),
                (6, "HTTP/1.1 201 Created\r\nETag: \"7\"\r\ncontent-length: 2\r\n\r\n{}"),
                (9, "HTTP/1.1 204 No Content\r\netag: \"8\"\r\n\r\n"),
            ]),
            is_ours: false,
        };
        let all = read(&socket);
        let brief: Vec<_> = all
            .iter()
            .map(|one| (one.asked, &*one.path, one.answer.as_ref().map(|answer| (answer.at, answer.status))))
            .collect();
        assert_eq!(brief, [(1, "/a", Some((6, 201))), (8, "/b", Some((9, 204))), (12, "/c", None)]);
        let first = all.first().unwrap();
        assert_eq!(first.body, b"hello");
        assert_eq!(first.answer.as_ref().unwrap().headers.get("etag").unwrap(), "\"7\"");
    }

    #[test]
    fn each_line_of_an_answer_in_chunks_has_the_moment_when_it_began_to_leave() {
        let socket = Socket {
            received: stream(&[(1, "POST /batch HTTP/1.1\r\ncontent-length: 0\r\n\r\n")]),
            sent: stream(&[
                (2, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
                (3, "4\r\none\n\r\n"),
                (5, "6\r\ntwo\nth\r\n"),
                (7, "4\r\nree\n\r\n0\r\n\r\n"),
                (9, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            ]),
            is_ours: false,
        };
        assert_eq!(messages(&socket.sent, true).len(), 2);
        let all = read(&socket);
        let lines: Vec<_> = all.first().unwrap().answer.as_ref().unwrap().lines().collect();
        assert_eq!(lines, [(3, &b"one"[..]), (5, b"two"), (5, b"three")]);
    }
}
