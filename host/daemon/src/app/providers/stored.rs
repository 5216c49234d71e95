//! What is stored for a connection that another version of its provider has to read.

use tandem_core::exchange::{Listing, Operation, Write};
use tandem_core::id::{ConnectionId, ObjectName};

use super::super::Engine;
use crate::provider::Stored;
use crate::store::{Store as _, StoreError};

/// Links whose keepsakes are shown.
const LINKS: usize = 64;

/// Writes that are tried.
const WRITES: usize = 4;

impl Engine {
    /// Cursors of listings, and what is kept on some of its links.
    pub(in crate::app) fn stored(
        &self,
        connection: &ConnectionId,
        objects: &[ObjectName],
    ) -> Result<Stored, StoreError> {
        let mut operations = Vec::new();
        for object in objects {
            for (kind, make) in [
                ("changes", Operation::Changes as fn(Listing) -> Operation),
                ("walk", Operation::Walk as fn(Listing) -> Operation),
            ] {
                let name = format!("cursor/{kind}/{connection}/{object}");
                if let Some(cursor) = self.store.value(&name)? {
                    operations.push(make(Listing {
                        object: object.to_string(),
                        cursor: Some(cursor),
                        limit: 100,
                    }));
                }
            }
        }
        let links = self.store.scan_links(connection, None, LINKS)?;
        let kept =
            links.into_iter().filter(|link| link.keep.is_some() && link.external.is_some()).take(WRITES);
        for link in kept {
            // Only whether it understands its own bytes is in question, not what it would write.
            operations.push(Operation::Write(Write {
                object: link.entity.object.to_string(),
                id: link.external.as_ref().map(ToString::to_string),
                document: b"{}".to_vec(),
                changed: Vec::new(),
                version: link.external_version.clone(),
                stamp: link.external_stamp,
                key: link.entity.id.to_string(),
                keep: link.keep.clone(),
                previous: None,
                attributes: Vec::new(),
            }));
        }
        Ok(Stored { operations })
    }
}
