//! The envelope of an outbound message: the organisation, and of each record its type and fields.
//!
//! Elements are told by their names without prefixes. A document type is refused, and so is what is not well formed.

use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesStart, Event};

/// Elements inside each other, at the most.
const DEPTH: usize = 64;

/// One element of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// None: it has no value (`xsi:nil`).
    pub(crate) text: Option<String>,
}

/// One record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notification {
    /// The notification's own id.
    pub(crate) id: String,
    /// `Contact`, without prefix.
    pub(crate) object: String,
    pub(crate) fields: Vec<Field>,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) organisation: String,
    pub(crate) notifications: Vec<Notification>,
}

/// Where the parts of a message stand.
const ORGANISATION: [&str; 4] = ["Envelope", "Body", "notifications", "OrganizationId"];
const NOTIFICATION: [&str; 4] = ["Envelope", "Body", "notifications", "Notification"];

/// Reads a message.
///
/// # Errors
/// One line saying what is wrong with it.
pub(crate) fn read(body: &[u8]) -> Result<Message, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("it is not UTF-8: {error}"))?;
    let mut reader = Reader::from_str(text);
    let mut message = Message::default();
    let mut names: Vec<String> = Vec::new();
    // The text of the innermost element, and whether it is declared to have none.
    let (mut value, mut nil) = (String::new(), false);
    let mut enveloped = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                open(&mut message, &mut names, &start)?;
                enveloped |= names == NOTIFICATION[..3];
                value.clear();
                nil = is_nil(&start);
            }
            Event::Empty(start) => {
                open(&mut message, &mut names, &start)?;
                enveloped |= names == NOTIFICATION[..3];
                close(&mut message, &names, "", is_nil(&start));
                names.pop();
                value.clear();
            }
            Event::End(_) => {
                close(&mut message, &names, &value, nil);
                names.pop();
                value.clear();
                nil = false;
            }
            Event::Text(piece) => value.push_str(&piece.xml10_content()),
            Event::CData(piece) => value.push_str(&piece.xml10_content()),
            Event::GeneralRef(reference) => {
                let named = |name: &str| resolve_xml_entity(name).map(str::to_owned);
                let piece = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(letter) => letter.to_string(),
                    None => named(&reference).ok_or("an entity that XML does not know")?,
                };
                value.push_str(&piece);
            }
            Event::DocType(_) => return Err("a document type is not taken".to_owned()),
            Event::Eof if names.is_empty() && enveloped => return Ok(message),
            Event::Eof if names.is_empty() => return Err("it is no outbound message".to_owned()),
            Event::Eof => return Err("it ends in the middle".to_owned()),
            _ => {}
        }
    }
}

fn open(message: &mut Message, names: &mut Vec<String>, start: &BytesStart<'_>) -> Result<(), String> {
    names.push(start.local_name().as_ref().to_owned());
    if names.len() > DEPTH {
        return Err(format!("more than {DEPTH} elements inside each other"));
    }
    if *names == NOTIFICATION {
        message.notifications.push(Notification::default());
    } else if names.len() == 5
        && is_below(names, &NOTIFICATION)
        && names.last().is_some_and(|name| name == "sObject")
        && let Some(notification) = message.notifications.last_mut()
        && let Some(kind) = attribute(start, "type")
    {
        notification.object = kind.rsplit(':').next().unwrap_or_default().to_owned();
    }
    Ok(())
}

fn close(message: &mut Message, names: &[String], value: &str, nil: bool) {
    if names == ORGANISATION {
        value.trim().clone_into(&mut message.organisation);
        return;
    }
    if !is_below(names, &NOTIFICATION) {
        return;
    }
    let Some(notification) = message.notifications.last_mut() else { return };
    match names.get(4..) {
        Some([name]) if name == "Id" => value.trim().clone_into(&mut notification.id),
        Some([object, name]) if object == "sObject" => {
            let text = (!nil).then(|| value.to_owned());
            notification.fields.push(Field { name: name.clone(), text });
        }
        _ => {}
    }
}

/// Whether an element is that one or stands inside of it.
fn is_below(names: &[String], path: &[&str]) -> bool {
    names.get(..path.len()).is_some_and(|head| head == path)
}

fn is_nil(start: &BytesStart<'_>) -> bool {
    matches!(attribute(start, "nil").as_deref(), Some("true" | "1"))
}

/// An attribute's value, whatever its prefix.
fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    start.attributes().flatten().find_map(|attribute| {
        if attribute.key.local_name().as_ref() != name {
            return None;
        }
        Some(attribute.value.to_string())
    })
}
