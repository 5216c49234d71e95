//! The other links of an entity: where System A's value came from, and who stands before whom.
//!
//! Two CRMs contend through System A. What one of them gave is there when the other one's edit is looked at, or the other way
//! round; so that the end does not hang on which came first, the rank of the two connections decides. It is asked only where
//! all that contends came from connections: what people edit in System A goes by the field's policy.

use serde_json::Value;

use super::compare::{Look, members, same};
use crate::link::{Link, Pair};
use crate::policy::ObjectPolicy;

/// Another link of the same entity.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The link, as it is stored.
    pub link: &'a Link,
    /// The policy of its connection. None: the connection is not there any more, or keeps the object no longer.
    pub policy: Option<&'a ObjectPolicy>,
}

impl Peer<'_> {
    /// Whether System A has this value from this connection.
    fn gave(&self, pointer: &str, value: Option<&Value>) -> bool {
        let Some(policy) = self.policy else { return false };
        let given = |pair: &Pair| pair.given && same(policy, pointer, pair.internal.as_ref(), value);
        self.link.base.get(pointer).is_some_and(given)
    }

    /// A field that stands alone is the only member of its group.
    fn rank(&self, group: &str) -> Option<u32> {
        let policy = self.policy?;
        policy.group_policy(group, members(policy, group)).rank
    }
}

/// Whether this connection's edit of a group stands against what System A has, by rank; with the reason. None: System A's
/// values are not, or not all, from other connections; or the ranks do not tell.
pub(super) fn outranks(
    peers: &[Peer<'_>],
    group: &str,
    looks: &[Look<'_>],
    own: Option<u32>,
) -> Option<(bool, String)> {
    let mut best: Option<(Option<u32>, &str)> = None;
    for look in looks.iter().filter(|look| look.internal_changed) {
        let mut known = false;
        for peer in peers.iter().filter(|peer| peer.gave(look.pointer, look.internal)) {
            known = true;
            let rank = peer.rank(group);
            if best.is_none_or(|(before, _)| ObjectPolicy::outranks(rank, before) == Some(true)) {
                best = Some((rank, peer.link.connection.as_str()));
            }
        }
        if !known {
            return None;
        }
    }
    let (rank, connection) = best?;
    let stands = ObjectPolicy::outranks(own, rank)?;
    Some((
        stands,
        if stands {
            format!("it stands above connection {connection}, which System A has its value from, by rank")
        } else {
            format!("System A has its value from connection {connection}, which stands above it by rank")
        },
    ))
}
