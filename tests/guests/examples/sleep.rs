//! Asks the host to wait, where no instruction of its own runs and no deadline would look.

use std::time::Duration;

use tandem_guests::{Behaviour, guest};

/// Sleeps for an hour.
pub struct Sleep;

impl Behaviour for Sleep {
    const ID: &'static str = "sleep";

    fn misbehave() {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

guest!(Sleep);
