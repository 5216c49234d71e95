//! What a world is made of, drawn from its seed: accounts and their policies, what goes wrong, and the guard.

use std::sync::Arc;

use tandem::pipeline::Limits;
use tandem_core::descriptor::Condition;
use tandem_core::policy::{
    self, FieldPolicy, ObjectPolicy, OnConflict, OnDeleteConflict, OnReject, OnRewrite,
};

use crate::dice::Dice;
use crate::habits::Habits;
use crate::plant::Plant;
use crate::values::{self, SCHEMAS};
use crate::wire::Faults;

pub(crate) struct Setting {
    pub(crate) accounts: Vec<(Arc<Habits>, ObjectPolicy)>,
    pub(crate) limits: Limits,
    pub(crate) workers: usize,
    pub(crate) faults: Faults,
    pub(crate) acts: u64,
    pub(crate) people: u64,
    pub(crate) crashes: u64,
    pub(crate) refuses: bool,
    pub(crate) guard: Guard,
}

/// What a world makes of the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It is off: every deletion goes through.
    Off,
    /// It lets so many pass in a world, and nobody rules on the rest.
    Left(u64),
    /// It lets so many pass, and an operator approves of the rest, sooner or later.
    Ruled(u64),
}

impl Guard {
    /// Of five worlds two are guarded. Those that the regressions stand for are not.
    pub(crate) fn of(seed: u64) -> Self {
        let limit = seed / 5 % 3;
        match seed % 5 {
            0 => Self::Ruled(limit),
            2 => Self::Left(limit),
            _ => Self::Off,
        }
    }

    fn policy(self) -> policy::Guard {
        match self {
            Self::Off => policy::Guard { share: 100, undo_ms: 0, ..policy::Guard::default() },
            Self::Left(limit) | Self::Ruled(limit) => {
                policy::Guard { limit, share: 0, window_ms: 86_400_000, ..policy::Guard::default() }
            }
        }
    }
}

impl Setting {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let count = match dice.below(10) {
            0..=6 => 1,
            7..=8 => 2,
            _ => 3,
        };
        let mut accounts = Vec::new();
        for _ in 0..count {
            let condition = match dice.below(3) {
                0 => Condition::Etag,
                1 => Condition::Second,
                _ => Condition::None,
            };
            let mut habits = Habits::draw(dice, condition);
            if count > 1 {
                // Two accounts that rewrite differently are a world of their own.
                habits.rewrites.clear();
            }
            let policy = draw_policy(dice);
            accounts.push((Arc::new(habits), policy));
        }
        let wild = dice.below(4);
        let mut some = |most: u64| if wild == 0 { 0 } else { dice.below(most * wild / 3 + 1) };
        let faults = Faults {
            unsent: some(50),
            lost_before: some(80),
            lost_after: some(120),
            broken_before: some(60),
            broken_after: some(60),
            throttled: some(60),
            hook_lost: some(200),
            hook_twice: some(300),
            hook_late: some(300),
            react: some(200),
            component: some(15),
            cursor_lost: some(20),
        };
        Self {
            accounts,
            limits: Limits {
                per_connection: usize::try_from(dice.between(1, 6)).unwrap_or(1),
                attempts: 12,
                backoff_ms: 500,
                backoff_max_ms: 20_000,
                ..Limits::default()
            },
            workers: usize::try_from(dice.between(1, 8)).unwrap_or(1),
            faults,
            acts: dice.between(4, 24),
            people: dice.between(1, 3),
            crashes: if dice.chance(600) { dice.between(1, 4) } else { 0 },
            refuses: dice.chance(200),
            guard: Guard::Off,
        }
    }

    pub(crate) fn guarded(mut self, guard: Guard, plant: Option<Plant>) -> Self {
        self.guard = guard;
        let policy = if plant == Some(Plant::GuardOff) { Guard::Off.policy() } else { guard.policy() };
        for (_, of_account) in &mut self.accounts {
            of_account.guard = policy;
        }
        self
    }

    pub(crate) fn line(&self) -> String {
        let accounts: Vec<String> = self
            .accounts
            .iter()
            .map(|(habits, policy)| {
                format!(
                    "{habits:?} on_conflict {:?} on_rewrite {:?} on_reject {:?} on_delete_conflict {:?} loop_limit {}",
                    policy.default.on_conflict,
                    policy.default.on_rewrite,
                    policy.default.on_reject,
                    policy.on_delete_conflict,
                    policy.loop_limit
                )
            })
            .collect();
        format!(
            "{} workers, {} acts, {} people, {} crashes, guard {:?}, {:?}; {}",
            self.workers,
            self.acts,
            self.people,
            self.crashes,
            self.guard,
            self.faults,
            accounts.join("; ")
        )
    }
}

fn draw_policy(dice: &mut Dice) -> ObjectPolicy {
    let base = SCHEMAS.as_ref().map(|schemas| schemas.canonical.policy_base()).unwrap_or_default();
    let mut pick = |per_mille| dice.chance(per_mille);
    let default = FieldPolicy {
        on_conflict: match (pick(500), pick(500)) {
            (true, true) => OnConflict::Internal,
            (true, false) => OnConflict::External,
            (false, true) => OnConflict::Review,
            (false, false) => OnConflict::Newest,
        },
        on_rewrite: if pick(300) { OnRewrite::Adopt } else { OnRewrite::Keep },
        on_reject: if pick(300) { OnReject::OmitAndFlag } else { OnReject::Hold },
        ..FieldPolicy::default()
    };
    ObjectPolicy {
        default,
        mapped: values::FIELDS.iter().map(|field| field.pointer.to_owned()).collect(),
        on_delete_conflict: match (pick(600), pick(500)) {
            (true, _) => OnDeleteConflict::Update,
            (false, true) => OnDeleteConflict::Delete,
            (false, false) => OnDeleteConflict::Review,
        },
        loop_limit: if pick(200) { base.loop_limit } else { 0 },
        ..base
    }
}
