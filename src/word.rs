//! Words that many texts are searched for.

use std::sync::OnceLock;

use memchr::memmem::Finder;

/// A text to search for. What makes that fast is prepared once, which for a message costs more than the search.
#[derive(Debug)]
pub struct Word {
    text: &'static str,
    finder: OnceLock<Finder<'static>>,
}

impl Word {
    /// Meant for statics.
    pub const fn new(text: &'static str) -> Self {
        Self { text, finder: OnceLock::new() }
    }

    /// Where it first stands in `text`, in bytes.
    pub fn find_in(&self, text: &[u8]) -> Option<usize> {
        self.finder.get_or_init(|| Finder::new(self.text)).find(text)
    }

    /// Whether it stands in `text`.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.find_in(text).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_first_stands() {
        static WORD: Word = Word::new("word");
        assert_eq!(WORD.find_in(b"a word, a word"), Some(2));
        assert!(WORD.is_in(&[&[b'x'; 1000], &b"word"[..]].concat()));
        assert!(!WORD.is_in(b"wor"));
    }
}
