//! Bugs that are planted on purpose, in the models and wrappers, to see that the checker finds them.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The store says that it took a commit and did not.
    StoreLosesCommit,
    /// The disk says that it synced and did not: a crash loses what was durable.
    DiskLies,
    /// The store takes the drop of a hint and forgets the link that came with it.
    StoreTearsCommit,
    /// A create is sent twice.
    CreateTwice,
    /// An update is sent again some seconds later.
    UpdateAgain,
    /// The precondition of an update is left out.
    NoPrecondition,
    /// An update is answered as done and never sent.
    UpdateSwallowed,
    /// An update carries one more property.
    UpdateTooMuch,
    /// A deletion is followed by a create of the same record.
    Resurrect,
    /// Reads are sent twice.
    ReadTwice,
    /// System A takes a write whatever its version.
    VersionIgnored,
    /// System A's feed leaves changes out.
    FeedSkips,
    /// A webhook is acknowledged and not stored.
    HookForgotten,
    /// The mapping swaps two fields on the way back.
    FieldsSwapped,
    /// The CRM's search never finds anything.
    SearchBlind,
    /// An answer comes from another record.
    WrongAnswer,
    /// What the guard withheld is forgotten.
    WithheldLost,
    /// The guard lets everything pass.
    GuardOff,
    /// It is forgotten which records of CRMs were erased.
    ErasureForgotten,
    /// History of an erased record is there again once it is said to be gone.
    ErasureLeavesHistory,
    /// The daemon is told that searches show at once what was made.
    SearchSaidSettled,
    /// The index by the CRMs' ids does not find a record now and then.
    IndexForgets,
    /// A record that was merged away answers as if it were there, with what the other one has.
    MergedStays,
    /// What the guard has let pass is not written down.
    GuardForgets,
    /// The precondition of a deletion is left out.
    DeletesWhatever,
    /// Nobody says that a record was merged.
    MergeUntold,
    /// A hint that is put off says nothing any more of the state that it told of.
    LateHintSaysNothing,
    /// The provider takes everybody for Tandem.
    AuthorMisread,
    /// The provider does not say when an edit was made of which an event tells.
    TimesUntold,
    /// A read of a record that is there says that it is deleted, now and then.
    ReadSaysGone,
    /// What a read does not know is taken for deleted at once.
    MissedIsGone,
    /// A deletion goes to a record that nobody deleted, in place of an update.
    UpdateDeletes,
    /// A deletion wins over every edit, whatever the policy says.
    DeletionWins,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::StoreLosesCommit,
        Self::DiskLies,
        Self::StoreTearsCommit,
        Self::CreateTwice,
        Self::UpdateAgain,
        Self::NoPrecondition,
        Self::UpdateSwallowed,
        Self::UpdateTooMuch,
        Self::Resurrect,
        Self::ReadTwice,
        Self::VersionIgnored,
        Self::FeedSkips,
        Self::HookForgotten,
        Self::FieldsSwapped,
        Self::SearchBlind,
        Self::WrongAnswer,
        Self::WithheldLost,
        Self::GuardOff,
        Self::MergedStays,
        Self::ErasureForgotten,
        Self::ErasureLeavesHistory,
        Self::SearchSaidSettled,
        Self::IndexForgets,
        Self::GuardForgets,
        Self::DeletesWhatever,
        Self::MergeUntold,
        Self::LateHintSaysNothing,
        Self::AuthorMisread,
        Self::TimesUntold,
        Self::ReadSaysGone,
        Self::MissedIsGone,
        Self::UpdateDeletes,
        Self::DeletionWins,
    ];

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| format!("{plant:?}").eq_ignore_ascii_case(name))
    }
}
