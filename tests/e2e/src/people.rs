//! People to try things with: many languages, missing and odd values, always the same for the same number.

use serde_json::{Map, Value, json};

const GIVEN: [&str; 32] = [
    "Anna",
    "Jürgen",
    "Søren",
    "Zoë",
    "José",
    "François",
    "Łukasz",
    "Şule",
    "Ömer",
    "Đorđe",
    "Мария",
    "Иван",
    "Ελένη",
    "Γιώργος",
    "عائشة",
    "محمد",
    "שרה",
    "דוד",
    "さくら",
    "健太",
    "美玲",
    "伟",
    "지우",
    "민준",
    "ปิยะ",
    "Nguyễn",
    "Aoife",
    "Siân",
    "O\u{2019}Brian",
    "Mary-Jane",
    "Ng",
    "Xi",
];
const FAMILY: [&str; 28] = [
    "Müller",
    "Østergård",
    "Nuñez",
    "Gonçalves",
    "Dvořák",
    "Żółć",
    "Yılmaz",
    "Đukić",
    "Петрова",
    "Смирнов",
    "Παπαδόπουλος",
    "حسن",
    "כהן",
    "佐藤",
    "山田",
    "王",
    "李",
    "김",
    "이",
    "ศรีสุข",
    "Trần",
    "Ó Súilleabháin",
    "van der Berg",
    "D'Angelo",
    "Smith",
    "St. John",
    "Null",
    "O'Neil",
];
const CITIES: [(&str, &str, &str); 12] = [
    ("Köln", "50667", "Germany"),
    ("São Paulo", "01310-100", "Brazil"),
    ("Kraków", "31-042", "Poland"),
    ("東京", "100-0001", "Japan"),
    ("Αθήνα", "105 57", "Greece"),
    ("القاهرة", "11511", "Egypt"),
    ("İstanbul", "34000", "Türkiye"),
    ("Москва", "101000", "Russia"),
    ("Reykjavík", "101", "Iceland"),
    ("Montréal", "H2Y 1C6", "Canada"),
    ("서울", "03187", "South Korea"),
    ("Llanfairpwll", "LL61 5UJ", "United Kingdom"),
];
const TITLES: [&str; 8] = [
    "CEO",
    "Head of R&D",
    "Geschäftsführerin",
    "directeur général",
    "エンジニア",
    "Senior \"Wizard\"",
    "VP, Sales",
    "Ассистент",
];
const COMPANIES: [&str; 8] = [
    "Ünlü & Söhne GmbH",
    "Société Générale d'Étain",
    "株式会社さくら",
    "Null Island Ltd",
    "Ł&Ż s.c.",
    "100% Natural",
    "O'Reilly \\ Partners",
    "Бета <Тест>",
];
const STAGES: [&str; 4] = ["lead", "marketing_qualified_lead", "opportunity", "customer"];

/// A small generator of numbers: the same seed, the same numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.roll() % from.len().max(1) as u64).unwrap_or(0);
        from.get(at)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }
}

/// The canonical document of person `number` of a scope.
#[must_use]
pub fn person(scope: &str, number: u64) -> Value {
    let seed = scope.bytes().fold(number, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut dice = Dice(seed);
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| {
        document.insert(name.to_owned(), value);
    };
    let given = dice.pick(&GIVEN).copied().unwrap_or("Ann");
    let family = dice.pick(&FAMILY).copied().unwrap_or("Lee");
    put("given_name", json!(given));
    // The number keeps namesakes apart, as people without an address are told apart by their names.
    put("family_name", json!(format!("{family} {number}")));
    if dice.below(25) > 0 {
        let odd = ["", "+news", ".mobile", "_x", "-2"];
        let tag = dice.pick(&odd).copied().unwrap_or("");
        // Addresses come in capitals too; every CRM writes them small.
        let name = if dice.below(6) == 0 { "Person" } else { "person" };
        put("email", json!(format!("{name}{number}{tag}@{scope}.example")));
    }
    let (city, zip, country) = dice.pick(&CITIES).copied().unwrap_or(("Ulm", "89073", "Germany"));
    if dice.below(4) > 0 {
        put(
            "street",
            json!(format!("{} {}", dice.pick(&FAMILY).copied().unwrap_or("Main"), dice.below(300))),
        );
        put("city", json!(city));
        put("postal_code", json!(zip));
        put("country", json!(country));
    }
    if dice.below(3) > 0 {
        put("phone", json!(format!("+49 30 {:07}", dice.below(10_000_000))));
    }
    if dice.below(3) == 0 {
        put("mobile_phone", json!(format!("+81 90-{:04}-{:04}", dice.below(10_000), dice.below(10_000))));
    }
    if dice.below(2) == 0 {
        put("job_title", json!(dice.pick(&TITLES).copied().unwrap_or("CEO")));
    }
    if dice.below(2) == 0 {
        put("company_name", json!(dice.pick(&COMPANIES).copied().unwrap_or("Acme")));
    }
    if dice.below(4) == 0 {
        put("lifecycle_stage", json!(dice.pick(&STAGES).copied().unwrap_or("lead")));
    }
    if dice.below(5) == 0 {
        put("employees", json!(dice.below(100_000)));
    }
    if dice.below(8) == 0 {
        put("annual_revenue", json!(format!("{}.5", dice.below(1_000_000_000))));
    }
    if dice.below(10) == 0 {
        put(
            "notes",
            json!(format!(
                "Line one\nLine two: \u{201C}quoted\u{201D}, 100 %, \u{1F680} and {}",
                dice.below(9)
            )),
        );
    }
    Value::Object(document)
}

/// A value for a field that people edit.
#[must_use]
pub fn edit(dice: &mut Dice) -> (&'static str, Value) {
    match dice.below(4) {
        0 => ("phone", json!(format!("+44 20 {:08}", dice.below(100_000_000)))),
        1 => (
            "job_title",
            json!(format!("{} {}", dice.pick(&TITLES).copied().unwrap_or("CEO"), dice.below(100))),
        ),
        2 => (
            "company_name",
            json!(format!("{} {}", dice.pick(&COMPANIES).copied().unwrap_or("A"), dice.below(100))),
        ),
        _ => ("mobile_phone", json!(format!("+1 212 {:07}", dice.below(10_000_000)))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ledger::key_of_document;

    #[test]
    fn everybody_is_somebody_else() {
        let keys: BTreeSet<String> =
            (0..2_000).map(|number| key_of_document(&person("acme", number))).collect();
        assert_eq!(keys.len(), 2_000);
    }

    #[test]
    fn the_same_number_is_the_same_person() {
        assert_eq!(person("acme", 7), person("acme", 7));
        assert_ne!(person("acme", 7), person("globex", 7));
    }
}
