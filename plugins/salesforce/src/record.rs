//! Records in Salesforce's answers as observations.

use tandem_provider::json::Node;
use tandem_provider::{Observed, Proof, Reference, State, time};

use crate::Salesforce;
use crate::contact::OBJECT;
use crate::ids;

impl Salesforce {
    /// A record of an answer that was asked for everything: what is missing has no value. None: it is no record.
    ///
    /// A record that was deleted is gone; one that was merged into another lives on in that one.
    pub(crate) fn observe(&self, record: &Node<'_>) -> Option<Observed> {
        let id = ids::long(text(record, "Id")?)?;
        let state = if record.get("IsDeleted") == Some(&Node::Bool(true)) {
            match text(record, "MasterRecordId").and_then(ids::long) {
                Some(master) => moved(master),
                None => State::Gone(Proof::Confirmed),
            }
        } else {
            State::Whole(record.to_bytes())
        };
        let mut observed = Observed::new(OBJECT, id, state);
        observed.stamp = stamp_of(record);
        observed.key = self.key_of(record);
        observed.author = self.author_of(record).map(str::to_owned);
        Some(observed)
    }

    fn key_of(&self, record: &Node<'_>) -> Option<String> {
        let field = self.settings.key_field.as_deref()?;
        text(record, field).filter(|key| !key.is_empty()).map(str::to_owned)
    }

    /// Whose the last modification was: ours if the user that the token is of made it.
    pub(crate) fn author_of(&self, record: &Node<'_>) -> Option<&'static str> {
        let own = self.facts.account.user.as_deref()?;
        let by = text(record, "LastModifiedById")?;
        Some(if ids::same(own, by) { "own" } else { "other" })
    }
}

/// A record that is not there any more.
pub(crate) fn gone(id: &str, proof: Proof) -> Observed {
    Observed::new(OBJECT, id, State::Gone(proof))
}

/// It lives on under another id.
fn moved(id: String) -> State {
    State::Moved(Reference { object: OBJECT.to_owned(), id })
}

/// A member's text.
pub(crate) fn text<'n>(record: &'n Node<'_>, name: &str) -> Option<&'n str> {
    record.get(name)?.as_str()
}

/// When the record was last modified, by whom or what ever, on Salesforce's clock. It counts in seconds.
pub(crate) fn stamp_of(record: &Node<'_>) -> Option<u64> {
    text(record, "SystemModstamp").and_then(time::stamp)
}
