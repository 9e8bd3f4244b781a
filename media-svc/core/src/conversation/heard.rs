//! Estimates which words of a sentence were heard from how much of its audio was played.

use crate::text::is_unspaced;

/// Words of `text` that were complete after `played` of `total` samples, assuming an even pace.
pub(super) fn heard_words(text: &str, played: usize, total: usize) -> &str {
    if played >= total {
        return text;
    }
    let chars = text.chars().count();
    // At most `chars`, because played < total.
    let reached = chars * played / total;
    let mut end = 0;
    let mut before: Option<char> = None;
    for (count, (at, c)) in text.char_indices().enumerate() {
        if count > reached {
            break;
        }
        if c.is_whitespace() || is_unspaced(c) || before.is_some_and(is_unspaced) {
            end = at;
        }
        before = Some(c);
    }
    text.get(..end).unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_when_it_was_complete() {
        let text = "one two three";
        assert_eq!(heard_words(text, 0, 1_300), "");
        assert_eq!(heard_words(text, 290, 1_300), "");
        assert_eq!(heard_words(text, 300, 1_300), "one");
        assert_eq!(heard_words(text, 699, 1_300), "one");
        assert_eq!(heard_words(text, 700, 1_300), "one two");
        assert_eq!(heard_words(text, 1_299, 1_300), "one two");
        assert_eq!(heard_words(text, 1_300, 1_300), text);
    }

    #[test]
    fn scripts_without_spaces_count_by_character() {
        assert_eq!(heard_words("你好世界", 2, 4), "你好");
    }
}
