//! Ids as Salesforce has them: three characters for the kind of object, twelve for the record, and three more that make the
//! id safe where letters lose their case.
//!
//! Fifteen characters tell `a` from `A`. The three that follow say which of the fifteen are capital letters, so an id of
//! eighteen characters means the same record in whatever case it comes back.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SUMS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
/// What stands between the kind and the record: pod and a reserved character.
const POD: &str = "Sm0";
const LAST: usize = 9;

/// Kinds of objects by the first three characters of their ids.
pub(crate) const CONTACT: &str = "003";
pub(crate) const USER: &str = "005";
pub(crate) const ORGANIZATION: &str = "00D";
pub(crate) const LOCATOR: &str = "01g";
pub(crate) const ACTION: &str = "04k";
pub(crate) const NOTIFICATION: &str = "04l";

/// The id of eighteen characters.
pub(crate) fn id(kind: &str, number: u64) -> String {
    let mut id = short(kind, number);
    id.push_str(&sum(&id));
    id
}

/// The id of fifteen characters.
pub(crate) fn short(kind: &str, number: u64) -> String {
    let mut digits = [b'0'; LAST];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    format!("{kind}{POD}{}", String::from_utf8_lossy(&digits))
}

/// The three characters that say where the capital letters are.
pub(crate) fn sum(fifteen: &str) -> String {
    fifteen
        .as_bytes()
        .chunks(5)
        .map(|five| {
            let capitals = five
                .iter()
                .rev()
                .fold(0_usize, |bits, byte| bits << 1 | usize::from(byte.is_ascii_uppercase()));
            char::from(SUMS.get(capitals).copied().unwrap_or(b'A'))
        })
        .collect()
}

/// The fifteen characters of an id of either length. None: it is no id.
pub(crate) fn fifteen(id: &str) -> Option<String> {
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    match id.len() {
        15 => Some(id.to_owned()),
        18 => {
            let (letters, sums) = id.split_at(15);
            let mut out = String::with_capacity(15);
            for (five, sum) in letters.as_bytes().chunks(5).zip(sums.bytes()) {
                let capitals = SUMS.iter().position(|known| *known == sum.to_ascii_uppercase())?;
                for (n, byte) in five.iter().enumerate() {
                    let capital = capitals >> n & 1 == 1;
                    if capital && !byte.is_ascii_alphabetic() {
                        return None;
                    }
                    let byte = if capital { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                    out.push(char::from(byte));
                }
            }
            Some(out)
        }
        _ => None,
    }
}

/// The number behind an id of this kind. None: it is no id, or one of another kind.
pub(crate) fn number(kind: &str, id: &str) -> Option<u64> {
    let fifteen = fifteen(id)?;
    let digits = fifteen.strip_prefix(kind)?.strip_prefix(POD)?;
    digits.bytes().try_fold(0_u64, |number, byte| {
        let digit = DIGITS.iter().position(|known| *known == byte)? as u64;
        number.checked_mul(62)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_examples_have_their_checksums() {
        // From the pages of the REST API guide: pairs of the first fifteen characters and the whole id.
        for id in ["001R0000005hDFYIA2", "00190000001pPvHAAU", "a00D0000008pQRAIA2", "003RO0000035WQgYAM"] {
            let (fifteen, three) = id.split_at(15);
            assert_eq!(sum(fifteen), three, "{id}");
        }
    }

    #[test]
    fn eighteen_characters_survive_the_loss_of_case_and_fifteen_do_not() {
        let long = id(CONTACT, 123_456_789_012);
        assert_eq!(number(CONTACT, &long), Some(123_456_789_012));
        assert_eq!(number(CONTACT, &long.to_lowercase()), Some(123_456_789_012));
        assert_eq!(number(CONTACT, &long.to_uppercase()), Some(123_456_789_012));
        let short = short(CONTACT, 10);
        assert_eq!(number(CONTACT, &short), Some(10));
        assert_ne!(number(CONTACT, &short.replace('A', "a")), Some(10));
        assert_eq!(number(USER, &long), None);
        assert_eq!(number(CONTACT, "003"), None);
        assert_eq!(number(CONTACT, &format!("{}AAé", &long[..15])), None);
    }
}
