//! Lists of addresses and telephone numbers: which entry is the contact's, and how that one alone is changed.
//!
//! System A has one address, one telephone number and one mobile number. The address is the entry that is marked `primary`:
//! Pipedrive marks one always, the first if nobody said otherwise. Mobile is what bears the label for it, whichever is
//! primary; the telephone number is one of the others, the primary one or else the first. All other entries stay.

use tandem_provider::json::{Members, Node};

/// Which of the entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pick<'s> {
    /// The primary one.
    Primary,
    /// The first with this label, the primary one before others.
    Labelled(&'s str),
    /// The first without this label, the primary one before others.
    Otherwise(&'s str),
}

impl Pick<'_> {
    fn takes(self, entry: &Node<'_>) -> bool {
        let label = entry.get("label").and_then(Node::as_str).unwrap_or_default();
        match self {
            Self::Primary => true,
            Self::Labelled(wanted) => label.eq_ignore_ascii_case(wanted),
            Self::Otherwise(other) => !label.eq_ignore_ascii_case(other),
        }
    }

    /// The place of the entry that is meant.
    fn place(self, entries: &[Node<'_>]) -> Option<usize> {
        let meant = |entry: &&Node<'_>| value(entry).is_some() && self.takes(entry);
        let primary = entries.iter().position(|entry| meant(&entry) && is_primary(entry));
        primary.or_else(|| {
            let first = entries.iter().position(|entry| meant(&entry))?;
            // Where something is said of which is primary, none of them is.
            let said = entries.iter().any(|entry| matches!(entry.get("primary"), Some(Node::Bool(_))));
            (!matches!(self, Self::Primary) || !said).then_some(first)
        })
    }
}

/// An entry's value, if it has one: an empty list is also written as one entry of "".
fn value<'n>(entry: &'n Node<'_>) -> Option<&'n str> {
    entry.get("value").and_then(Node::as_id).filter(|value| !value.is_empty())
}

fn is_primary(entry: &Node<'_>) -> bool {
    entry.get("primary") == Some(&Node::Bool(true))
}

/// The value that is meant.
pub(crate) fn picked<'n>(entries: &'n [Node<'_>], pick: Pick<'_>) -> Option<&'n str> {
    entries.get(pick.place(entries)?).and_then(value)
}

/// Changes the one value that is meant; "" takes its entry out.
pub(crate) fn change(entries: &mut Vec<Node<'_>>, pick: Pick<'_>, to: &str) {
    match pick.place(entries) {
        None if to.is_empty() => {}
        Some(place) if to.is_empty() => {
            entries.remove(place);
            if matches!(pick, Pick::Primary) {
                // Nothing stands for what was taken away until Pipedrive chooses one of the rest.
                for entry in entries.iter_mut() {
                    set(entry, "primary", Node::Bool(false));
                }
            }
        }
        Some(place) => {
            if let Some(entry) = entries.get_mut(place) {
                set(entry, "value", Node::text(to.to_owned()));
            }
            // It may have been among the others: once is enough.
            let mut at = 0;
            entries.retain(|entry| {
                let again = at != place && pick.takes(entry) && value(entry) == Some(to);
                at += 1;
                !again
            });
        }
        None => {
            entries.retain(|entry| !(pick.takes(entry) && value(entry) == Some(to)));
            let mut entry = Members::with_capacity(3);
            let primary = matches!(pick, Pick::Primary)
                || !entries.iter().any(|it| is_primary(it) && value(it).is_some());
            entry.push("value", Node::text(to.to_owned()));
            entry.push("primary", Node::Bool(primary));
            let label = if let Pick::Labelled(label) = pick { label } else { "work" };
            entry.push("label", Node::text(label.to_owned()));
            entries.push(Node::Object(entry));
        }
    }
    entries.retain(|entry| value(entry).is_some());
}

fn set<'a>(entry: &mut Node<'a>, name: &'static str, to: Node<'a>) {
    if let Node::Object(members) = entry {
        members.set(name, to);
    }
}
