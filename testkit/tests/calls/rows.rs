//! What a transcript must be like, whatever was said.

use voxray::words::word_errors;

/// A row as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub seq: i32,
    pub role: String,
    pub text: String,
    pub created_at: time::OffsetDateTime,
}

/// Numbers without a gap from 0, in the order things were said.
pub fn assert_in_order(rows: &[Row]) {
    let expected: Vec<i32> = (0..).take(rows.len()).collect();
    let seqs: Vec<i32> = rows.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, expected, "{rows:#?}");
    assert!(rows.is_sorted_by_key(|row| row.created_at), "{rows:#?}");
}

pub fn texts<'a>(rows: &'a [Row], role: &str) -> Vec<&'a str> {
    rows.iter()
        .filter(|row| row.role == role)
        .map(|row| row.text.as_str())
        .collect()
}

/// Wrong words over words, added up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Errors {
    wrong: usize,
    of: usize,
}

impl Errors {
    pub fn add(&mut self, reference: &str, understood: &str) -> &mut Self {
        let (wrong, of) = word_errors(reference, understood);
        self.wrong += wrong;
        self.of += of;
        self
    }

    pub fn between(reference: &str, understood: &str) -> Self {
        *Self::default().add(reference, understood)
    }

    pub fn rate(self) -> f64 {
        self.wrong as f64 / self.of.max(1) as f64
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{} words wrong ({:.1} %)",
            self.wrong,
            self.of,
            self.rate() * 100.0
        )
    }
}
