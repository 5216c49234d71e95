use crate::{ids, soql};

#[test]
fn fifteen_characters_become_eighteen_that_say_their_case() {
    for (short, long) in [
        ("001D000000IqhSL", "001D000000IqhSLIAZ"),
        ("0012o00003OBzVS", "0012o00003OBzVSAA1"),
        ("0018a00001rBqb8", "0018a00001rBqb8AAC"),
        ("003000000000001", "003000000000001AAA"),
        ("ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNO555"),
    ] {
        assert_eq!(ids::long(short).as_deref(), Some(long));
        assert_eq!(ids::long(long).as_deref(), Some(long), "what is long stays");
        assert_eq!(ids::short(long), short);
        assert!(ids::same(short, long));
    }
    assert!(!ids::same("001D000000IqhSL", "001D000000IqhSl"), "case counts");
    assert!(!ids::same("", ""));
}

#[test]
fn what_is_no_id_is_none() {
    for text in
        ["", "003", "003000000000001'", "003 00000000001AAA", "0030000000000010", "003000000000001AAAA"]
    {
        assert_eq!(ids::long(text), None, "{text}");
    }
}

#[test]
fn a_literal_ends_where_it_ends() {
    for (text, literal) in [
        ("ann@example.com", "'ann@example.com'"),
        ("o'brien@example.com", r"'o\'brien@example.com'"),
        (r"\' OR Name != '", r"'\\\' OR Name != \''"),
        ("a\nb\tc\rd\u{8}\u{c}", r"'a\nb\tc\rd\b\f'"),
        ("", "''"),
    ] {
        assert_eq!(soql::literal(text), literal);
    }
}

#[test]
fn moments_are_utc_to_the_second() {
    assert_eq!(soql::moment(1_767_355_200), "2026-01-02T12:00:00Z");
    assert_eq!(soql::moment(u64::MAX), "9999-12-31T23:59:59Z");
}
