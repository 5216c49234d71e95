//! Secrets in memory must not end up in a file.

use std::io;

/// Switches core dumps off for this process, and with them the reading of its memory by other processes of the same user.
///
/// # Errors
/// When the system refuses. The daemon goes on and says so.
pub fn harden() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // A core pattern that pipes to a program ignores the limit; this does not.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    #[test]
    fn no_core_is_dumped_afterwards() {
        super::harden().expect("the system allows it");
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().expect("an answer"), DumpableBehavior::NotDumpable);
    }
}
