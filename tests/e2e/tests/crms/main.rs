//! One scenario for every CRM: the same scenes, told once, with each provider in the real daemon against the simulator.
//!
//! What a CRM is called, has and has not is a row of the table ([`rows`]); a scene asks nothing else of it. A scene of a CRM is a test of
//! its own (`salesforce::a_push_that_is_lost_...`), begins with an empty house, ends with the judge, and prints one line of what was
//! counted. What only one CRM has is tested beside this: `salesforce.rs`, `pipedrive.rs`, and HubSpot's in the older files.
//!
//! `TANDEM_TORTURE=1` plays large loads and storms, 200 kills and losses of power, 10,000 creates of which half are killed, and edits at
//! four sides for a minute.
#![expect(clippy::print_stdout, reason = "each scene says what it counted")]
#![allow(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

mod four_sides;
mod rows;
mod scenes;
mod stage;

use rows::{HubSpot, Pipedrive, Salesforce};

/// The scenario: every scene for one CRM.
macro_rules! scenario {
    ($row:ty; $($room:ident::$scene:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $scene() -> Result<(), tandem_e2e::Error> {
            Box::pin(crate::scenes::$room::$scene::<$row>()).await
        }
    )*};
}

/// The table: CRMs, and the scenes that all of them play.
macro_rules! played_by {
    ($($crm:ident: $row:ident,)*) => {$(
        mod $crm {
            scenario! {
                super::$row;
                both_ways::a_record_made_on_either_side_comes_to_the_other_once_and_whole,
                both_ways::an_edit_of_one_field_crosses_and_leaves_the_others_alone,
                both_ways::a_deletion_on_either_side_crosses_and_what_is_restored_comes_back,
                both_ways::what_a_paused_direction_held_up_crosses_when_it_is_resumed,
                conflicts::a_conflict_that_both_sides_know_of_ends_as_the_policy_says,
                conflicts::an_edit_that_nobody_told_of_ends_as_the_crm_can_promise,
                load::an_initial_load_links_those_that_match_and_doubles_none,
                pushes::a_push_that_is_lost_is_found_by_polling,
                pushes::a_push_that_comes_twice_does_no_harm,
                pushes::edits_on_both_sides_go_ahead_of_a_storm_of_pushes,
                pushes::edits_on_both_sides_go_ahead_of_an_edit_of_many,
                pushes::edits_on_both_sides_go_ahead_of_an_import_that_waits,
                limits::a_days_limit_is_used_up_without_a_refusal_and_nothing_is_lost,
                limits::a_token_that_ends_in_mid_flight_is_renewed_once_and_nothing_is_lost,
                creates::a_create_whose_answer_is_lost_makes_no_second_record,
                creates::a_kill_before_a_creates_answer_is_kept_makes_no_second_record,
                creates::a_loss_of_power_under_creates_makes_no_second_record,
                customs::custom_fields_cross_both_ways_and_one_by_one,
                refusals::what_a_crm_refuses_is_set_aside_in_its_own_words_and_others_go_on,
            }
        }
    )*};
}

played_by! {
    hubspot: HubSpot,
    salesforce: Salesforce,
    pipedrive: Pipedrive,
}

/// Salesforce counts calls by the day alone.
mod bursts {
    mod hubspot {
        scenario! { crate::rows::HubSpot; limits::what_a_burst_permits_is_used_while_work_waits_and_nothing_is_refused, }
    }
    mod pipedrive {
        scenario! { crate::rows::Pipedrive; limits::what_a_burst_permits_is_used_while_work_waits_and_nothing_is_refused, }
    }
}

/// Pipedrive's answers may come without what is left of the day; those of the others have it always.
mod untold {
    mod pipedrive {
        scenario! { crate::rows::Pipedrive; limits::a_days_limit_that_no_answer_tells_of_is_used_up_without_a_refusal, }
    }
}

/// What `crash.rs` shows with HubSpot.
mod kills {
    mod salesforce {
        scenario! {
            crate::rows::Salesforce;
            kills::a_kill_at_any_moment_of_a_load_loses_and_doubles_nothing,
            kills::creates_that_are_killed_before_they_are_noted_leave_no_duplicate,
        }
    }
    mod pipedrive {
        scenario! {
            crate::rows::Pipedrive;
            kills::a_kill_at_any_moment_of_a_load_loses_and_doubles_nothing,
            kills::creates_that_are_killed_before_they_are_noted_leave_no_duplicate,
        }
    }
}
