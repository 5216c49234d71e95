//! The command line as data. The comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tandem_core::policy::Flow;

use crate::admin::FieldChoice;

/// Keeps the records of System A and of customers' CRMs the same.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 success, 1 failure, 64 wrong usage or configuration.\n\
                        Commands that ask a running daemon find it through the configuration, or through \
                        TANDEM_URL and TANDEM_TOKEN.")]
pub(super) struct Cli {
    /// The main file [default: $TANDEM_CONFIG, else ./tandem.toml]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,

    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    ///
    /// When it is ready it prints one line with the address of its API; with --json the line is {"api":"http://…"}.
    ///
    /// Webhooks come in at /hooks/app/NAME for all accounts of [apps.NAME] in the main file: each event goes to the connection whose
    /// file has this app and the account that the event names. /hooks/connection/NAME is the address of one connection.
    Run(Run),

    /// Check the configuration and the providers without side effects
    Check(Check),

    /// Show how fresh each connection is, and what holds it up
    Status {
        /// Only this connection
        connection: Option<String>,
    },

    /// Stop working; hints are still taken in
    Pause(Pause),

    /// Go on working
    Resume(Pause),

    /// Show everything that is known of a record: links, what both sides had, what happened and why
    Explain(Explain),

    /// Records that were set aside
    #[command(subcommand)]
    Dead(Dead),

    /// Conflicts that wait for a person
    #[command(subcommand)]
    Review(Review),

    /// Deletions, and updates that no edit asked for: what the guard stopped, and what can be undone
    #[command(subcommand)]
    Deletes(Deletes),

    /// Erase a person's record: in System A, in each linked CRM, and everything that is kept of it
    ///
    /// It wins over policies, pauses and the guard, cannot be undone, and prints what was found where, looked for afterwards.
    Erase(Explain),
    /// Show what a first sync would find: which records of the two sides are the same. Writes nothing
    Match(Match),

    /// Run a provider's mapping on a file, there and back, offline
    Map(Map),

    /// Providers of the running daemon
    #[command(subcommand)]
    Provider(Provider),

    /// Customers' rules
    #[command(subcommand)]
    Rules(Rules),

    /// Look at records that should be the same, and mend what differs
    Look(Look),

    /// Read the connections' files again
    Reload,

    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// End as on SIGTERM when standard input closes, so as not to outlive the process that started it
    #[arg(long)]
    pub(super) until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Also ask each connection's CRM, without writing: credentials, fields, reading, quota
    #[arg(long)]
    pub(super) live: bool,

    /// Only these connections
    pub(super) connections: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Pause {
    /// The connection
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(super) connection: Option<String>,

    /// Every connection
    #[arg(long)]
    pub(super) all: bool,

    /// Only what is written to this side
    #[arg(long, value_enum)]
    pub(super) direction: Option<Direction>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Direction {
    /// To the CRM
    ToExternal,
    /// To System A
    ToInternal,
}

impl Direction {
    pub(super) fn flow(direction: Option<Self>) -> Flow {
        match direction {
            None => Flow::Both,
            Some(Self::ToExternal) => Flow::ToExternal,
            Some(Self::ToInternal) => Flow::ToInternal,
        }
    }
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("side").required(true).args(["scope", "connection"])))]
pub(super) struct Explain {
    /// The canonical object, for example contact
    pub(super) object: String,

    /// The record's id: System A's with --scope, the CRM's with --connection
    pub(super) id: String,

    /// The scope of the record in System A
    #[arg(long)]
    pub(super) scope: Option<String>,

    /// The connection whose CRM has the record
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// Only the story of this field, and of what lies within it
    #[arg(long, value_name = "POINTER")]
    pub(super) field: Option<String>,

    /// What was known at this moment: 2026-11-26T09:30:00Z, or a time before now: -90s, -10m, -2h, -3d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) at: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List them, newest first
    List(List),
    /// Show one in full
    Show {
        /// Its number
        seq: u64,
    },
    /// Try again
    Replay(DeadTarget),
    /// Give up
    Drop(DeadTarget),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only of this connection
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["seq", "connection", "all"])))]
pub(super) struct DeadTarget {
    /// Their numbers
    pub(super) seq: Vec<u64>,

    /// All of this connection
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// All
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Review {
    /// List what waits
    List(ReviewList),
    /// Show one record's conflicts: what both sides had, what they have, who gave it and when, and what to choose from
    Show(Reviewed),
    /// Decide conflicts of a record, or the same way of many
    Decide(Decide),
    /// Let fields flow again that went back and forth too often
    Unfreeze(Unfreeze),
}

#[derive(Debug, Args)]
pub(super) struct ReviewList {
    /// Only of this scope
    #[arg(long)]
    pub(super) scope: Option<String>,

    /// Only of this connection
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// Only of this canonical object, for example contact
    #[arg(long)]
    pub(super) object: Option<String>,

    /// Only about this field
    #[arg(long, value_name = "POINTER")]
    pub(super) field: Option<String>,

    /// Only of this kind: held, frozen
    #[arg(long)]
    pub(super) kind: Option<String>,

    /// At most so many
    #[arg(long, default_value_t = 100)]
    pub(super) limit: usize,
}

/// A record under review. What is left out is found among the open reviews if it is unambiguous.
#[derive(Debug, Args)]
pub(super) struct Reviewed {
    /// The canonical object, for example contact
    pub(super) object: String,

    /// The record's id in System A; where the question is whom a record is, the id of any record that it names
    pub(super) id: String,

    /// The scope of the record in System A
    #[arg(long)]
    pub(super) scope: Option<String>,

    /// The connection
    #[arg(long)]
    pub(super) connection: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Match {
    /// Only this connection
    pub(super) connection: Option<String>,

    /// Only this canonical object, for example contact
    pub(super) object: Option<String>,

    /// Make a report; nothing is written or linked
    #[arg(long, required = true)]
    pub(super) report: bool,

    /// Show the report that was made last, and wait for one that is being made
    #[arg(long)]
    pub(super) last: bool,

    /// Also list the records of this kind
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    pub(super) list: Option<tandem_core::matching::Kind>,

    /// List at most so many of each connection and object
    #[arg(long, default_value_t = 100, requires = "list")]
    pub(super) limit: usize,
}

fn parse_kind(text: &str) -> Result<tandem_core::matching::Kind, String> {
    use tandem_core::matching::Kind;
    let all = Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("the kinds are {all}"))
}

#[derive(Debug, Args)]
#[command(group(
    clap::ArgGroup::new("choice")
        .required(true)
        .multiple(true)
        .args(["take", "all", "field", "value", "link", "apart", "new", "merge"])
))]
pub(super) struct Decide {
    /// The canonical object, for example contact
    pub(super) object: Option<String>,

    /// The record's id in System A. Without it many records are decided: see --all, --only and --yes
    #[arg(requires = "object")]
    pub(super) id: Option<String>,

    /// The scope of the record in System A
    #[arg(long)]
    pub(super) scope: Option<String>,

    /// The connection
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// The field group, as `review list` names it
    #[arg(long, requires = "id")]
    pub(super) group: Option<String>,

    /// Whose values hold, for one group
    #[arg(long, value_enum, requires = "id", conflicts_with_all = ["all", "field", "value"])]
    pub(super) take: Option<Take>,

    /// Whose values hold for all that is held, but for the fields that are named
    #[arg(long, value_enum, conflicts_with = "value")]
    pub(super) all: Option<Take>,

    /// What holds for one field: --field /phone=internal, =external, or a value as JSON: '/name="Ann"'; null clears the field
    #[arg(long, value_name = "POINTER=CHOICE", value_parser = parse_choice, requires = "id", conflicts_with = "value")]
    pub(super) field: Vec<(String, FieldChoice)>,

    /// A value that holds on both sides, for one group, as JSON: --value '/phone="+49 30 1234"'; null clears the field
    #[arg(long, value_name = "POINTER=JSON", value_parser = parse_value, requires = "id")]
    pub(super) value: Vec<(String, serde_json::Value)>,

    /// Which record it is, of the other side
    #[arg(long, value_name = "ID", requires = "id", conflicts_with_all = ["take", "all", "field", "value", "apart", "new", "merge"])]
    pub(super) link: Option<String>,

    /// It is none of them: leave it alone
    #[arg(long, requires = "id", conflicts_with_all = ["take", "all", "field", "value", "new", "merge"])]
    pub(super) apart: bool,

    /// It is none of them: it gets a record of its own in the CRM
    #[arg(long, requires = "id", conflicts_with_all = ["take", "all", "field", "value", "merge"])]
    pub(super) new: bool,

    /// It is the winner of the merge: delete System A's loser
    #[arg(long, requires = "id", conflicts_with_all = ["take", "all", "field", "value"])]
    pub(super) merge: bool,

    /// What `review show` names for the values that were looked at: if they are others by now, nothing is decided
    #[arg(long, value_name = "TOKEN", requires = "id")]
    pub(super) seen: Vec<String>,

    /// Decide whatever the values are by now
    #[arg(long, requires = "id", conflicts_with = "seen")]
    pub(super) force: bool,

    /// Of many records: only the groups of this field
    #[arg(long, value_name = "POINTER", conflicts_with = "id")]
    pub(super) only: Option<String>,

    /// Of many records: do it, after the number was told without this
    #[arg(long, conflicts_with = "id")]
    pub(super) yes: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Take {
    /// System A's
    Internal,
    /// The CRM's
    External,
}

#[derive(Debug, Args)]
pub(super) struct Unfreeze {
    #[command(flatten)]
    pub(super) record: Reviewed,

    /// Only this field
    #[arg(long, value_name = "POINTER")]
    pub(super) field: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Deletes {
    /// List what waits for approval; with --done, deletions that were carried out and can be undone
    List {
        #[command(flatten)]
        list: List,

        /// Deletions that were carried out and can be undone
        #[arg(long)]
        done: bool,
    },

    /// Let them go: each record is looked at again, and written if it still asks for it
    Approve(DeletesTarget),

    /// Give them up: both sides stay as they are until one of them is edited
    Reject {
        #[command(flatten)]
        target: DeletesTarget,

        /// Make deleted records again on the side that deleted them
        #[arg(long)]
        restore: bool,
    },

    /// Bring deleted records back in System A, and from there in the CRMs
    Undo(DeletesTarget),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("meant").required(true).multiple(true).args(["id", "connection", "batch", "all"])))]
pub(super) struct DeletesTarget {
    /// The records' ids in System A
    pub(super) id: Vec<String>,

    /// Only of this connection
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// Only of this batch
    #[arg(long)]
    pub(super) batch: Option<u64>,

    /// Only of this object
    #[arg(long)]
    pub(super) object: Option<String>,

    /// Only of this scope
    #[arg(long)]
    pub(super) scope: Option<String>,

    /// All
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Map {
    /// The provider's component
    pub(super) provider: PathBuf,

    /// JSON: one document, or a list of documents. `-` reads standard input
    pub(super) file: PathBuf,

    /// What the documents are
    #[arg(long, value_enum, default_value_t = From::Canonical)]
    pub(super) from: From,

    /// The canonical object
    #[arg(long, default_value = "contact")]
    pub(super) object: String,

    /// JSON with the settings of a connection
    #[arg(long, value_name = "PATH", conflicts_with = "connection")]
    pub(super) settings: Option<PathBuf>,

    /// Take the settings of this connection of the configuration
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// JSON with facts as probe and discover give them
    #[arg(long, value_name = "PATH")]
    pub(super) facts: Option<PathBuf>,

    /// JSON: the CRM's record as it is now, for a canonical document that is written over it
    #[arg(long, value_name = "PATH")]
    pub(super) current: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum From {
    /// System A's form
    Canonical,
    /// The CRM's form
    Provider,
}

#[derive(Debug, Subcommand)]
pub(super) enum Rules {
    /// Show which rule decides for each record of a file, offline
    Test(RulesTest),
}

#[derive(Debug, Args)]
pub(super) struct RulesTest {
    /// JSON: one record or a list. A record is a canonical document, or {"before", "after", "origin"} of a change;
    /// null in after is a deletion. `-` reads standard input
    pub(super) file: PathBuf,

    /// The connection whose rules are meant [default: the only one]
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// The canonical object
    #[arg(long, default_value = "contact")]
    pub(super) object: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Provider {
    /// List them: what serves, what served before, and files that are not taken, with the reason
    List,

    /// Begin a provider: a folder that builds, passes its tests and syncs before a line is changed
    New(ProviderNew),

    /// Run golden cases: what the mapping, an exchange or a webhook gives. Needs no daemon
    Test(ProviderTest),

    /// Swap a component in over the one that serves, work on the connection's last record again, and show what came of it
    Try(ProviderTry),

    /// Take a component through the daemon's own admission, with thousands of made-up records. Needs no daemon
    Check(ProviderCheck),

    /// Show what a component maps, as a table in Markdown: places, directions, normalisers. Needs no daemon
    Fields(ProviderFields),

    /// Look at the folder of providers again, also at files that were refused
    Reload,

    /// Go back to the version that served before
    Rollback {
        /// The provider
        provider: String,
    },

    /// Keep a provider on a version: no other file is taken
    Pin {
        /// The provider
        provider: String,
        /// The version: its label or the beginning of its digest [default: what serves]
        version: Option<String>,
        /// Let other files in again
        #[arg(long, conflicts_with = "version")]
        off: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct ProviderNew {
    /// Its id: small letters, digits and hyphens
    pub(super) name: String,

    /// The new folder [default: provider-NAME]
    #[arg(long, value_name = "PATH")]
    pub(super) into: Option<PathBuf>,

    /// Where plugins/sdk of Tandem's source stands [default: found above this folder]
    #[arg(long, value_name = "PATH")]
    pub(super) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ProviderTest {
    /// The component
    pub(super) file: PathBuf,

    /// The folder of cases, or one case
    #[arg(default_value = "cases")]
    pub(super) cases: PathBuf,

    /// Write down what came as what is expected
    #[arg(long)]
    pub(super) bless: bool,
}

#[derive(Debug, Args)]
pub(super) struct ProviderTry {
    /// The component
    pub(super) file: PathBuf,

    /// The connection whose last record is worked on again
    #[arg(long)]
    pub(super) connection: String,
}

#[derive(Debug, Args)]
pub(super) struct ProviderCheck {
    /// The component
    pub(super) file: PathBuf,

    /// Made-up records of each object
    #[arg(long, default_value_t = 2000)]
    pub(super) records: usize,

    /// JSON with the settings of a connection, to try beside those of the component's examples
    #[arg(long, value_name = "PATH", conflicts_with = "connection")]
    pub(super) settings: Option<PathBuf>,

    /// Try with the settings of this connection of the configuration
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// JSON with facts as probe and discover give them
    #[arg(long, value_name = "PATH")]
    pub(super) facts: Option<PathBuf>,

    /// Golden cases, a folder or one of them: what their operations and webhooks take is measured
    #[arg(long, value_name = "PATH")]
    pub(super) cases: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ProviderFields {
    /// The component
    pub(super) file: PathBuf,

    /// Write the table into this page, between its lines `<!-- fields -->` and `<!-- end of fields -->`
    #[arg(long, value_name = "PATH", conflicts_with_all = ["connection", "settings", "facts"])]
    pub(super) into: Option<PathBuf>,

    /// JSON with the settings of a connection
    #[arg(long, value_name = "PATH", conflicts_with = "connection")]
    pub(super) settings: Option<PathBuf>,

    /// The settings of this connection of the configuration
    #[arg(long)]
    pub(super) connection: Option<String>,

    /// JSON with facts as probe and discover give them
    #[arg(long, value_name = "PATH")]
    pub(super) facts: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("records").required(true).args(["id", "external", "all"])))]
pub(super) struct Look {
    /// The connection
    pub(super) connection: String,

    /// The canonical object, for example contact
    pub(super) object: String,

    /// One record, by its id in System A
    #[arg(long)]
    pub(super) id: Option<String>,

    /// One record, by its id in the CRM
    #[arg(long)]
    pub(super) external: Option<String>,

    /// All records that are linked
    #[arg(long)]
    pub(super) all: bool,
}

fn parse_choice(text: &str) -> Result<(String, FieldChoice), String> {
    match text.split_once('=') {
        Some((pointer, "internal")) if pointer.starts_with('/') => {
            Ok((pointer.to_owned(), FieldChoice::Internal))
        }
        Some((pointer, "external")) if pointer.starts_with('/') => {
            Ok((pointer.to_owned(), FieldChoice::External))
        }
        _ => {
            let (pointer, value) =
                parse_value(text).map_err(|why| format!("{why}; or internal, or external"))?;
            Ok((pointer, FieldChoice::Value(value)))
        }
    }
}

fn parse_value(text: &str) -> Result<(String, serde_json::Value), String> {
    let (pointer, json) = text.split_once('=').ok_or("write it as POINTER=JSON, for example /phone=null")?;
    if !pointer.starts_with('/') {
        return Err(format!("{pointer:?} is not a pointer; write for example /phone"));
    }
    let value = serde_json::from_str(json)
        .map_err(|error| format!("{json:?} is not JSON: {error}; text needs quotes"))?;
    Ok((pointer.to_owned(), value))
}
