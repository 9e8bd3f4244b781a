//! Moonshine's token table: token ids to text.

use super::ModelError;

/// Entries of the table.
const VOCABULARY: usize = 32_768;
/// Where a word begins ("lower one eighth block", as in SentencePiece).
const WORD_START: &str = "\u{2581}";

/// Text of every token, as bytes: a character may be spread over several tokens.
pub struct Tokenizer {
    pieces: Vec<Vec<u8>>,
}

impl Tokenizer {
    /// Reads `tokenizer.bin`: for each token a length (one byte, or two when the first is 128 or more:
    /// `b1 · 128 + b0 − 128`) and that many bytes; a length of zero is an unused token.
    ///
    /// # Errors
    /// When the file ends early or has fewer tokens than the model.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut rest = bytes;
        let mut pieces = Vec::with_capacity(VOCABULARY);
        while let Some((&low, tail)) = rest.split_first() {
            let (length, tail) = if low < 128 {
                (usize::from(low), tail)
            } else {
                let (&high, tail) = tail.split_first().ok_or(ModelError::Tokenizer)?;
                (usize::from(high) * 128 + usize::from(low) - 128, tail)
            };
            let (piece, tail) = tail.split_at_checked(length).ok_or(ModelError::Tokenizer)?;
            pieces.push(piece.to_vec());
            rest = tail;
        }
        if pieces.len() < VOCABULARY {
            return Err(ModelError::Tokenizer);
        }
        Ok(Self { pieces })
    }

    /// Text of a sequence of tokens. Control tokens (`<s>`, `<unk>`, …) and unknown ids are left out.
    pub fn decode(&self, tokens: &[i64]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            let Some(piece) = usize::try_from(token).ok().and_then(|index| self.pieces.get(index)) else {
                continue;
            };
            match byte_token(piece) {
                Some(byte) => bytes.push(byte),
                None if piece.starts_with(b"<") && piece.ends_with(b">") && piece.len() > 2 => {}
                None => bytes.extend_from_slice(piece),
            }
        }
        let text = String::from_utf8_lossy(&bytes).replace(WORD_START, " ");
        text.trim().to_owned()
    }
}

/// `<0x41>` stands for the byte 0x41.
fn byte_token(piece: &[u8]) -> Option<u8> {
    let hex = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(first: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in first {
            if piece.len() < 128 {
                bytes.push(piece.len() as u8);
            } else {
                bytes.extend([(piece.len() % 128) as u8 + 128, (piece.len() / 128) as u8]);
            }
            bytes.extend_from_slice(piece);
        }
        bytes.resize(bytes.len() + VOCABULARY - first.len(), 0);
        bytes
    }

    #[test]
    fn words_are_joined_with_spaces_and_control_tokens_left_out() {
        let long = [b'x'; 300];
        let bytes = table(&[
            b"<unk>",
            b"<s>",
            "\u{2581}hel".as_bytes(),
            b"lo",
            "\u{2581}w".as_bytes(),
            b"<0x21>",
            &long,
        ]);
        let tokenizer = Tokenizer::parse(&bytes).unwrap();
        assert_eq!(tokenizer.decode(&[1, 2, 3, 4, 5, -1, 99_999]), "hello w!");
        assert_eq!(tokenizer.decode(&[6]).len(), 300);
    }

    #[test]
    fn a_table_that_ends_early_is_refused() {
        assert!(matches!(Tokenizer::parse(&[5, b'a']), Err(ModelError::Tokenizer)));
        assert!(matches!(Tokenizer::parse(&[1, b'a']), Err(ModelError::Tokenizer)));
        assert!(matches!(Tokenizer::parse(&[200]), Err(ModelError::Tokenizer)));
    }
}
