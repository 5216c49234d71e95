//! Processor time of processes, by thread name, from `/proc`.

use std::collections::BTreeMap;

use tandem_e2e::Error;

/// USER_HZ: what proc(5) counts in, the same on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds of a process at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// The whole process, threads that ended included.
    pub(crate) total: f64,
    /// Living threads by the class of their names.
    pub(crate) threads: BTreeMap<String, f64>,
}

impl Usage {
    /// What a process has used so far.
    pub(crate) fn of(pid: u32) -> Result<Self, Error> {
        let folder = format!("/proc/{pid}");
        let total = seconds(&std::fs::read_to_string(format!("{folder}/stat"))?)?;
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("{folder}/task"))? {
            let path = entry?.path();
            // A thread may end between the listing and the reading.
            let (Ok(name), Ok(stat)) =
                (std::fs::read_to_string(path.join("comm")), std::fs::read_to_string(path.join("stat")))
            else {
                continue;
            };
            *threads.entry(class(name.trim())).or_insert(0.0) += seconds(&stat)?;
        }
        Ok(Self { total, threads })
    }

    /// What was used since `before`. Time of threads that ended in between is under "ended threads".
    pub(crate) fn since(&self, before: &Self) -> Self {
        let total = self.total - before.total;
        let mut threads: BTreeMap<String, f64> = self
            .threads
            .iter()
            .map(|(name, used)| (name.clone(), used - before.threads.get(name).copied().unwrap_or(0.0)))
            .filter(|(_, used)| *used > 0.0)
            .collect();
        let ended = total - threads.values().sum::<f64>();
        if ended > 0.05 {
            threads.insert("ended threads".to_owned(), ended);
        }
        Self { total, threads }
    }
}

/// User and system time: fields 14 and 15 of proc(5); the name before them may have blanks and brackets.
fn seconds(stat: &str) -> Result<f64, Error> {
    let rest = stat.rsplit_once(')').ok_or("a stat file without a name")?.1;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || -> Result<u32, Error> { Ok(fields.next().ok_or("a short stat file")?.parse()?) };
    let sum = f64::from(ticks()?) + f64::from(ticks()?);
    Ok(sum / TICKS_PER_SECOND)
}

/// `lane-3` is one of the lanes.
fn class(name: &str) -> String {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (odd) name) S 1 2 3 4 5 6 7 8 9 10 100 200 0 0";
        assert!((seconds(stat).unwrap_or(0.0) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn numbered_threads_are_one_class() {
        assert_eq!(class("lane-12"), "lane");
        assert_eq!(class("store-commit"), "store-commit");
    }
}
