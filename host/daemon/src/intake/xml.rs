//! A webhook in XML: the account that it names, and its text without what is secret.
//!
//! Places are written as JSON pointers are: `/Envelope/Body/notifications/SessionId` are the names of elements from the root on,
//! without their prefixes. A place may occur several times; all are meant. The rest of the text stays byte for byte.
//!
//! A document type is refused, since an entity that it declares could stand for anything; so is what is not well formed.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use tandem_core::document::unescape;

/// Elements inside each other, at the most.
const DEPTH: usize = 128;

/// So much of a stranger's words stands in an error.
const NAMED: usize = 64;

/// Rather nothing than a text from which the wrong bytes were cut.
const MISPLACED: &str = "its elements cannot be told apart";

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// The account as text. None: no place was asked for, or nothing stands there.
    pub(super) account: Option<String>,
    /// The body, with nothing in the elements that are blanked.
    pub(super) body: Vec<u8>,
}

/// The element that names the account.
struct Account {
    path: Vec<String>,
    /// While it is open.
    open: Option<String>,
    found: Option<String>,
}

impl Account {
    fn text(&mut self, piece: &str) {
        if let Some(open) = &mut self.open {
            open.push_str(piece);
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(text) = self.open.take() else { return Ok(()) };
        let text = text.trim().to_owned();
        if self.found.as_ref().is_some_and(|found| *found != text) {
            return Err(format!("two different values at /{}", self.path.join("/")));
        }
        self.found = Some(text);
        Ok(())
    }
}

fn path(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|name| unescape(name).into_owned()).collect()
}

/// Reads a body. `account`: where it stands; `blank`: what is emptied.
///
/// # Errors
/// One line saying what is wrong with the text.
pub(super) fn read(body: &[u8], account: Option<&str>, blank: &[String]) -> Result<Read, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("it is not UTF-8: {error}"))?;
    // The reader leaves a byte order mark out and does not count it: every place would be wrong by its three bytes.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut account = account.map(|place| Account { path: path(place), open: None, found: None });
    let blank: Vec<Vec<String>> = blank.iter().map(|pointer| path(pointer)).collect();
    let mut reader = Reader::from_str(text);
    let mut names: Vec<String> = Vec::new();
    // Where what is kept goes on, and where the outermost blanked element began, by its depth.
    let (mut kept, mut from, mut blanked) = (Vec::with_capacity(body.len()), 0, None::<usize>);
    let mut roots = 0_usize;
    loop {
        let before = offset(&reader);
        let event = reader
            .read_event()
            .map_err(|error| error.to_string().chars().take(2 * NAMED).collect::<String>())?;
        match event {
            Event::Start(start) => {
                roots += usize::from(names.is_empty());
                names.push(start.local_name().as_ref().to_owned());
                if names.len() > DEPTH {
                    return Err(format!("more than {DEPTH} elements inside each other"));
                }
                if let Some(account) = account.as_mut().filter(|account| account.path == names) {
                    account.open = Some(String::new());
                }
                if blanked.is_none() && blank.contains(&names) {
                    blanked = Some(names.len());
                    let now = offset(&reader);
                    kept.extend_from_slice(text.get(from..now).ok_or(MISPLACED)?.as_bytes());
                    from = now;
                }
            }
            Event::End(_) => {
                if let Some(account) = account.as_mut().filter(|account| account.path == names) {
                    account.close()?;
                }
                if blanked == Some(names.len()) {
                    blanked = None;
                    from = before;
                }
                names.pop();
            }
            Event::Empty(_) => roots += usize::from(names.is_empty()),
            Event::Text(piece) => {
                let piece = piece.xml10_content();
                if names.is_empty() && !piece.trim().is_empty() {
                    return Err("text outside of the root element".to_owned());
                }
                account.iter_mut().for_each(|account| account.text(&piece));
            }
            Event::CData(piece) => {
                let piece = piece.xml10_content();
                account.iter_mut().for_each(|account| account.text(&piece));
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|error| error.to_string())?;
                let name = reference.xml10_content();
                let known =
                    character.map(String::from).or_else(|| resolve_xml_entity(&name).map(str::to_owned));
                let known = known.ok_or_else(|| {
                    let name: String = name.chars().take(NAMED).collect();
                    format!("entity {name:?} is not known")
                })?;
                account.iter_mut().for_each(|account| account.text(&known));
            }
            Event::DocType(_) => return Err("it has a document type".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if !names.is_empty() || roots != 1 {
        return Err(
            if names.is_empty() { "it has no single root element" } else { "it ends too early" }.to_owned()
        );
    }
    kept.extend_from_slice(text.get(from..).ok_or(MISPLACED)?.as_bytes());
    Ok(Read { account: account.and_then(|account| account.found), body: kept })
}

fn offset(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOAP: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:example">
 <soapenv:Body><notifications>
  <OrganizationId>00D&#48;x &amp; <![CDATA[y]]></OrganizationId>
  <SessionId>00D!secret<b>deep</b></SessionId>
  <Other><SessionId>not this one</SessionId></Other>
  <SessionId
  >again</SessionId><Empty/>
 </notifications></soapenv:Body>
</soapenv:Envelope>
"#;

    fn whole(text: &str) -> Result<Read, String> {
        read(
            text.as_bytes(),
            Some("/Envelope/Body/notifications/OrganizationId"),
            &["/Envelope/Body/notifications/SessionId".to_owned()],
        )
    }

    #[test]
    fn an_account_is_read_and_what_is_secret_is_cut_out_of_the_bytes() {
        let read = whole(SOAP).unwrap();
        assert_eq!(read.account.as_deref(), Some("00D0x & y"));
        let expected = SOAP.replace("00D!secret<b>deep</b>", "").replace(">again<", "><");
        assert_eq!(String::from_utf8(read.body).unwrap(), expected);
    }

    #[test]
    fn a_byte_order_mark_and_long_characters_shift_no_cut() {
        let text = "\u{feff}<a>\u{e4}<b>\u{20ac}secret\u{1f511}</b>\u{e4}</a>";
        let read = read(text.as_bytes(), None, &["/a/b".to_owned()]).unwrap();
        assert_eq!(String::from_utf8(read.body).unwrap(), "<a>\u{e4}<b></b>\u{e4}</a>");
    }

    #[test]
    fn what_is_not_known_is_named_in_few_words() {
        let text = format!("<a>&{};</a>", "x".repeat(100_000));
        assert!(read(text.as_bytes(), None, &[]).unwrap_err().len() < 300);
    }

    #[test]
    fn one_body_is_of_one_account() {
        let (one, other) = ("<OrganizationId>7</OrganizationId>", "<OrganizationId>8</OrganizationId>");
        let text = |second| {
            format!("<Envelope><Body><notifications>{one}{second}</notifications></Body></Envelope>")
        };
        assert_eq!(whole(&text(one)).unwrap().account.as_deref(), Some("7"));
        assert_eq!(
            whole(&text(other)).unwrap_err(),
            "two different values at /Envelope/Body/notifications/OrganizationId"
        );
    }

    #[test]
    fn what_is_not_there_is_not_found_and_nothing_is_cut() {
        let text = "<a><b x='1'/></a>";
        let read = read(text.as_bytes(), Some("/a/c"), &["/a/b".into(), "/b".into()]).unwrap();
        assert_eq!(read, Read { account: None, body: text.as_bytes().to_vec() });
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
        for text in [
            "",
            "plain",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a></a>x",
            "<a>&unknown;</a>",
            "<a>&#x110000;</a>",
            "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
            "<a><![CDATA[</a>",
            &deep,
        ] {
            assert!(read(text.as_bytes(), None, &[]).is_err(), "{text}");
        }
        assert!(read(b"<a>\xff</a>", None, &[]).is_err());
    }
}
