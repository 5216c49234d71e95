//! Names of things. All are text from outside; a newtype for each keeps them apart.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The part of System A that belongs to one customer.
    ScopeId
}
name! {
    /// One customer's account at one provider.
    ConnectionId
}
name! {
    /// The component for one kind of CRM.
    ProviderId
}
name! {
    /// A canonical object: `contact`.
    ObjectName
}
name! {
    /// A record's id in System A.
    InternalId
}
name! {
    /// A record's id in a CRM. Always text: ids of 19 digits exceed 2^53.
    ExternalId
}

/// One internal record with all its links: what is worked on by one hand at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKey {
    /// The customer's part of System A.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The internal record. Allotted by Tandem when the record was born in a CRM.
    pub id: InternalId,
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.object, self.id)
    }
}

/// A record of a CRM as a connection sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExternalKey {
    /// The customer's account.
    pub connection: ConnectionId,
    /// The canonical object.
    pub object: ObjectName,
    /// The CRM's id.
    pub id: ExternalId,
}

impl fmt::Display for ExternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.connection, self.object, self.id)
    }
}
